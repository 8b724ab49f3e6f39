"""Choices that exclude each other, or that this machine cannot serve: each is one line that says what to do."""

from pathlib import Path

import pytest
import torch
from helpers import CONF, FEW_PASSES, TINY, TINY_NETWORK, TINY_RUN, composed, run_command
from omegaconf import open_dict

from restoration.run.command import user_message
from restoration.run.keys import check_ablations
from restoration.train import main, train

EXCLUDED = [
    # An objective that trains t = 0 only, and several evaluations.
    (
        "objective=regression",
        "objective Regression trains at t = 0 only, so nfe=8 is not possible; set evaluation.nfe=[1] sampler=euler",
    ),
    (
        "objective=regression evaluation.nfe=[1,8] sampler=euler sampler.nfe=1",
        "objective Regression trains at t = 0 only, so nfe=8 is not possible",
    ),
    # Sizes.
    ("data.image_size=30", "data.image_size=30 is not a multiple of the backbone's stride 16; use 16 or 32"),
    (
        "backbone.widths=[16,16,16]",
        "backbone.widths=[16, 16, 16]: the encoder's maps have strides [2, 4, 8, 16], so at",
    ),
    ("backbone.encoder.model=test_convnext", "backbone.encoder.stem=no_pool: test_convnext has no max-pool; use stem="),
    ("data.batch_size=25", "data.batch_size=25 on 1 device(s) is more than the 24 training images; make it smaller"),
    # Hardware that is not there.
    ("trainer.precision=16-mixed", "precision=16-mixed needs a CUDA GPU; on a CPU use auto, bf16-mixed or 32-true"),
    ("trainer.precision=fp16", "precision=fp16: choose one of auto, 32-true, 16-mixed, bf16-mixed"),
    ("data.device=cuda", "data.device=cuda: no CUDA GPU was found; use data.device=cpu"),
    ("data.batch_size=auto", "data.batch_size=auto must be a whole number from 1"),
    # A source that needs another run.
    (
        "source=posterior_mean",
        "source.restorer.path is missing; give source.restorer.path=…/checkpoints/best.ckpt of a regression",
    ),
    ("source=posterior_mean source.restorer.path=nope.ckpt", "no checkpoint at nope.ckpt; a run saves"),
    (f"source=posterior_mean source.restorer.path={__file__}", "is not a checkpoint of this project"),
    # Groups of their own.
    ("trainer.logger=false", "trainer.logger would be ignored; loggers and callbacks are set in the groups"),
    ("trainer.callbacks=null", "trainer.callbacks would be ignored; loggers and callbacks are set in the groups"),
    # An ablation that is no longer what its name says.
    ("ablation=noise source=degraded", "ablation=noise sets source=noise, but the command line has source=degraded;"),
    (
        "ablation=random_encoder backbone.encoder.weights=a1_in1k",
        "ablation=random_encoder sets backbone.encoder.weights=random, but the command line has",
    ),
    (
        "ablation=draws_4 objective.terms.flow.draws=2",
        "ablation=draws_4 sets objective.terms.flow.draws=4, but the command line has objective.terms.flow.draws=2",
    ),
    (
        "ablation=[adaptive,log_error]",
        "ablation=adaptive sets objective.terms.flow.error._target_=restoration.objectiv",
    ),
    # Stages.
    ("callbacks.staged_unfreezing.share=null", "callbacks.staged_unfreezing: give share, epoch or patience"),
    # Runs and their folders.
    ("resume=true", "resume=true, but there is no "),
    # Weights without a term.
    ("objective.weights.flwo=2", "objective.weights names ['flwo']; the terms are ['flow']"),
    # Intervals, and what does not take or train them.
    (
        "objective=trajectory",
        "objective Trajectory needs two times, and backbone ResNetUNet takes one; set backbone.two",
    ),
    ("objective=mean_flow", "objective MeanFlow needs two times, and backbone ResNetUNet takes one; set backbone.two"),
    (
        "sampler=mean_flow",
        "sampler MeanFlow needs an objective of intervals; choose objective=trajectory, mean_flow or",
    ),
    (
        "objective=trajectory backbone.two_times=true source=deterministic",
        "objective Trajectory needs a source with noise: one step would be a regression; set source=noise",
    ),
    ("backbone.decoupled=true", "backbone.decoupled=true needs two times: add backbone.two_times=true"),
    # Samplers.
    ("sampler.warp=[1,0]", "sampler.warp[1]=0 must be a number above 0"),
]
MISTAKES = [
    ("backbone.encoder.weights=missing.safetensors", "encoder weights not found: missing.safetensors; give a "),
    ("backbone.encoder.model=resnet34000", "encoder 'resnet34000' with weights 'random' is not available"),
    ("corruption.strength=2", "corruption.strength=2"),
    ("callbacks.ema.horizon=0", "callbacks.ema.horizon=0 must be a number above 0"),
    ("callbacks.image_grid.images=0", "callbacks.image_grid.images=0 must be a whole number from 1"),
    ("evaluation.nfe=[1,1]", "evaluation.nfe is [1, 1]; give different whole numbers from 1 up, such as [1,8]"),
    ("evaluation.samples=0", "evaluation.samples=0 must be a whole number from 1"),
    ("data.image_size=???", "data.image_size is missing; give data.image_size=…"),
    ("data.image_size=16.5", "data.image_size=16.5 must be a whole number"),
    ("data=image_folder data.root=nowhere", "nowhere"),
    ("trainer.devices=-1", "trainer: `devices` selected with `CPUAccelerator` should be an int > 0"),
    ("schedule=warm_restarts schedule.cycles=101", "schedule.cycles=101 must be a whole number from 1 to 100"),
    ("validations=0", "validations=0 must be a whole number from 1"),
]


@pytest.mark.parametrize("overrides, said", EXCLUDED + MISTAKES)
def test_it_is_refused_in_one_line(overrides: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    tiny = [*TINY_NETWORK, *TINY_RUN] if "data=image_folder" in overrides else TINY
    arguments = ["experiment=blur_erase", *tiny, *FEW_PASSES, f"folder={tmp_path}", *overrides.split()]
    if overrides == "objective=regression":
        arguments += ["sampler.nfe=8"]
    with composed("train", *arguments) as config, pytest.raises(Exception) as caught:
        check_ablations(config)
        with open_dict(config):
            train(config)
    message = user_message(caught.value)
    assert message is not None and said in message and "\n" not in message
    # No part of a run that would stop a second start is left.
    assert not (tmp_path / "checkpoints" / "last.ckpt").exists() and not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize("ablation", sorted(path.stem for path in (CONF / "ablation").glob("*.yaml")))
def test_an_ablation_is_not_taken_for_an_override(ablation: str):
    """Values that it takes from other keys, as `${backbone.encoder.model}`, are its own."""
    with composed("train", f"ablation={ablation}", "folder=run", "backbone.encoder.model=resnet18") as config:
        check_ablations(config)


def test_a_mistyped_group_lists_its_options(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_command(main, "corruption=blurr") == 1
    said = capsys.readouterr().err
    assert "Could not find 'corruption/blurr'" in said and "Traceback" not in said
    assert all(path.stem in said for path in (CONF / "corruption").glob("*.yaml"))
