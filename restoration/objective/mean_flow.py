"""Mean flow: average velocities from their derivative along the trajectory."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from restoration.batch import Batch
from restoration.errors import Share, UserError
from restoration.flow import ConditionalField, column, interpolate, to_model
from restoration.keyed import fold
from restoration.objective.base import Term, TermValue
from restoration.objective.errors import PixelError
from restoration.objective.interval import Intervals, compared, grown, of_rank


class MeanFlow(Term):
    """‖u − (r − t)·sg(du/dt) − (x_1 − x_0)‖² (Geng et al. 2025, "Mean flows for one-step generative modeling").

    Differentiating (r − t)·u(x_t, t, r) = ∫ v dt along the trajectory gives u = v + (r − t)·du/dt with du/dt along
    (v, 1, 0) in (x_t, t, r). The derivative is taken in forward mode, in float32 and without compilation.

    Args:
        intervals: draws t and r.
        error: of the velocity.
        tangent: v of du/dt. "network": the field's own velocity at x_t (Geng et al. 2025, "Improved mean flows");
            "conditional": x_1 − x_0, whose variance enters the derivative (the plain form).
        warmup: share of the training over which the derivative's factor grows from 0 to 1.
    """

    two_times = True

    def __init__(
        self,
        intervals: Intervals,
        error: PixelError,
        tangent: Literal["network", "conditional"] = "network",
        warmup: Share = 0.0,
    ) -> None:
        super().__init__()
        self.intervals = intervals
        self.error = error
        self.tangent = tangent
        self.warmup = warmup
        self.max_nfe = intervals.max_nfe

    def forward(self, field: ConditionalField, batch: Batch, keys: Tensor, progress: float = 1.0) -> TermValue:
        ends = self.intervals(fold(batch.leading(keys), "time"), batch.count, progress)
        t, r = (of_rank(batch, end) for end in ends)
        x_0, x_1 = field.start(fold(keys, "noise")), to_model(batch.clean)
        x_t = interpolate(x_0, x_1, t)
        change = self.derivative(field, x_t, t, r, x_1 - x_0)
        # An ordinary pass of the network has the gradient, so that several ranks average it.
        average, velocity = field.training_pair(x_0, x_1, x_t, t, r)
        factor = grown(progress, self.warmup) * (r - t) * field.time_weight(t)
        return compared("mean_flow", self.error, average, velocity + column(factor) * change, batch.mask)

    @torch.no_grad()
    def derivative(self, field: ConditionalField, x_t: Tensor, t: Tensor, r: Tensor, conditional: Tensor) -> Tensor:
        """du/dt (B, 3, H, W) at (x_t, t, r), along (v, 1, 0).

        Raises:
            UserError: the backbone has batch statistics that it updates.
        """
        # Fused attention has no forward-mode derivative, and compilers have dropped it without a word.
        eager, plain = torch.compiler.set_stance("force_eager"), sdpa_kernel(SDPBackend.MATH)
        with torch.autocast(x_t.device.type, enabled=False), plain, eager:
            velocity = field.velocity(x_t, t) if self.tangent == "network" else conditional

            def average(x: Tensor, time: Tensor) -> Tensor:
                return field.velocity(x, time, r)

            try:
                return torch.func.jvp(average, (x_t, t), (velocity, torch.ones_like(t)))[1]
            except RuntimeError as error:
                if "mutate a captured Tensor" not in str(error):
                    raise
                raise UserError(
                    "objective MeanFlow: the backbone updates batch statistics in each pass, which has no derivative; "
                    "use pretrained encoder weights, another backbone, or objective=trajectory"
                ) from error
