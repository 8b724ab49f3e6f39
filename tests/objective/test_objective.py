"""The objective: a weighted sum of terms and the estimator's loss, and what its config can get wrong."""

import pytest
import torch
from helpers import Plain
from torch import Tensor, nn

from restoration.batch import Batch
from restoration.errors import UserError
from restoration.estimator import Blind, Identity
from restoration.flow import ConditionalField, Degraded, Uniform, to_model
from restoration.keyed import fold
from restoration.objective import FlowMatching, Objective, Regression, SquaredError, Term, TermValue
from restoration.restorer import Restorer
from restoration.sampler import Euler


@pytest.fixture
def batch() -> Batch:
    clean = torch.rand(4, 3, 16, 16)
    mask = torch.zeros(4, 1, 16, 16, dtype=torch.bool)
    mask[:, :, 4:12, 6:14] = True
    return Batch(clean, (0.9 * clean).masked_fill(mask, 0.0), mask, torch.rand(4), torch.arange(4))


class Encoding(Plain):
    """Counts how often it encodes."""

    encoded = 0

    def encode(self, degraded: Tensor, estimate) -> Tensor:
        self.encoded += 1
        return super().encode(degraded, estimate)


@pytest.fixture
def restorer() -> Restorer:
    return Restorer(Encoding(), Degraded(0.5), Euler(), estimator=Blind(16).eval())


def terms() -> dict[str, Term]:
    return {"regression": Regression(SquaredError()), "flow": FlowMatching(Uniform(), SquaredError())}


class Learned(Term):
    """A term with a network of its own, as a discriminator has."""

    def __init__(self) -> None:
        super().__init__()
        self.critic = nn.Conv2d(3, 1, 3)

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        return TermValue(self.critic(to_model(batch.degraded)).mean(), {"critic_size": self.critic.weight.norm()})


def test_terms_add_up_with_their_weights_and_the_estimators_loss_on_one_encoding(restorer, batch):
    keys = fold("step", batch.index)
    total, log = Objective(terms(), {"flow": 0.25})(restorer, batch, keys)
    assert restorer.backbone.encoded == 1
    field = restorer.field(batch.degraded)
    alone = {name: term(field, batch, fold(keys, name)).loss for name, term in terms().items()}
    images = (to_model(batch.degraded), to_model(batch.clean), batch.mask)
    parts = restorer.estimator.loss(field.estimate, *images)
    torch.testing.assert_close(total, alone["regression"] + 0.25 * alone["flow"] + parts["hole"] + parts["error"])
    for name, loss in {**alone, "estimator_hole": parts["hole"], "estimator_error": parts["error"]}.items():
        torch.testing.assert_close(log[name], loss)
    assert not any(value.requires_grad for value in log.values()) and total.requires_grad
    unweighted, _ = Objective(terms())(restorer, batch, keys)
    torch.testing.assert_close(unweighted, sum(alone.values()) + sum(parts.values()))


def test_an_estimator_without_loss_adds_nothing(batch):
    restorer = Restorer(Plain(), Degraded(0.5), Euler())
    total, log = Objective({"regression": Regression(SquaredError())})(restorer, batch, batch.index)
    assert set(log) == {"regression"} and torch.equal(total.detach(), log["regression"])


def test_a_terms_own_parameters_are_the_objectives(restorer, batch):
    objective = Objective({**terms(), "adversarial": Learned()})
    assert isinstance(objective, nn.Module)
    names = [name for name, _ in objective.named_parameters()]
    assert names == ["terms.adversarial.critic.weight", "terms.adversarial.critic.bias"]
    loss, log = objective(restorer, batch, batch.index)
    assert {"adversarial", "critic_size"} <= set(log)
    loss.backward()
    assert all(parameter.grad.any() for parameter in objective.parameters())
    # They are no part of the restorer, which has its own optimiser groups.
    groups = restorer.parameter_groups()
    grouped = {id(parameter) for parameters in groups.values() for parameter in parameters}
    assert not grouped & {id(parameter) for parameter in objective.parameters()}
    assert list(objective.state_dict()) == names


def test_a_term_that_is_none_is_left_out(restorer, batch):
    """`objective.terms.flow=null` on the command line."""
    objective = Objective({**terms(), "flow": None})
    assert list(objective.terms) == ["regression"]
    _, log = objective(restorer, batch, batch.index)
    assert "regression" in log and "flow" not in log
    with pytest.raises(UserError, match="objective.weights names .'flow'.*'regression'"):
        Objective({**terms(), "flow": None}, {"flow": 1.0})


@pytest.mark.parametrize("empty", [{}, {"flow": None}], ids=["no terms", "none left"])
def test_without_terms_the_estimator_alone_is_trained(empty, restorer, batch):
    objective = Objective(empty)
    objective.check_restorer(restorer)
    nn.init.normal_(restorer.estimator.damage.hole[1].weight, std=0.1)
    restorer.estimator.train()
    loss, log = objective(restorer, batch, batch.index)
    assert set(log) == {"estimator_hole", "estimator_error"}
    torch.testing.assert_close(loss, log["estimator_hole"] + log["estimator_error"])
    loss.backward()
    trained = {name.split(".")[0] for name, parameter in restorer.named_parameters() if parameter.grad is not None}
    assert trained == {"estimator"}
    assert sum(parameter.grad is None for parameter in restorer.estimator.parameters()) == 0


def test_an_objective_that_trains_nothing_is_refused(restorer):
    restorer.estimator = Identity()
    with pytest.raises(UserError, match="objective.terms is empty, and the estimator has nothing to train"):
        Objective({}).check_restorer(restorer)


def test_a_weight_without_a_term_is_refused():
    with pytest.raises(UserError, match="objective.weights names .'regresion'.*'regression'"):
        Objective({"regression": Regression(SquaredError())}, {"regresion": 1.0})


def test_more_evaluations_than_any_term_trains_are_refused():
    regression, both, foreign = (
        Objective({"r": Regression(SquaredError())}),
        Objective(terms()),
        Objective({"x": Learned()}),
    )
    regression.check_nfe(1)
    with pytest.raises(UserError, match=r"objective Regression trains at t = 0 only, so nfe=2 .*evaluation.nfe=\[1\]"):
        regression.check_nfe(2)
    # One term that trains later times is enough.
    for objective in (both, foreign):
        objective.check_nfe(1)
        objective.check_nfe(1000)


def test_each_term_has_noise_of_its_own(restorer, batch):
    """Two terms of one kind draw different times."""
    objective = Objective({"a": terms()["flow"], "b": terms()["flow"]})
    _, log = objective(restorer, batch, batch.index)
    assert log["a"] != log["b"]
