"""Mean flow by two processes: its derivative passes by DDP, its gradients must not."""

import json
from pathlib import Path

import pytest
import torch
from helpers import encoder_file, last, rows
from processes import start, wait
from ranks import RUN, job, said, start_nodes


@pytest.mark.slow
def test_two_ranks_train_mean_flow_as_one_process(tmp_path: Path):
    weights, (one, two) = encoder_file(tmp_path), (tmp_path / "one", tmp_path / "two")
    objective = ["objective=mean_flow", "backbone.two_times=true", "sampler=mean_flow"]
    assert wait(start(one, [*job(weights, 1, 4), *objective])) == [0], said(one)
    assert wait(*start_nodes(two, [*job(weights, 2, 4), *objective])) == [0, 0], said(two)
    for key in ("state_dict", "current_model_state"):
        left, right = last(one / RUN)[key], last(two / RUN)[key]
        assert left.keys() == right.keys() and any("noise_stem" in name for name in left)
        for name, value in left.items():
            assert float((value - right[name]).double().norm()) <= 1e-5 * float(value.double().norm()) + 1e-9, name
    stem = torch.load(two / RUN / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert next(value for name, value in stem.items() if "noise_stem" in name).abs().max() > 0
    for left_row, right_row in zip(rows(one / RUN), rows(two / RUN), strict=True):
        for name in ("train/mean_flow", "train/mean_flow_square", "val/mean_flow", "val/flow"):
            if left_row.get(name):
                assert float(left_row[name]) == pytest.approx(float(right_row[name]), rel=1e-5), name
    assert json.loads((two / RUN / "metrics.json").read_text())["run"]["images_seen"] == 32
