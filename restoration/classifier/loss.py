"""Losses that torch does not have. Each takes logits (B, C) and targets: labels int64 (B,), or shares float (B, C)."""

from torch import Tensor, nn
from torch.nn import functional as F

from restoration.errors import NotNegative


class Focal(nn.Module):
    """The focal loss, Σ_c q_c (1 − p_c)^γ (−log p_c), over the classes (Lin et al. 2017, "Focal loss").

    Args:
        gamma: γ; 0 is cross entropy, larger values give less weight to images that are already right.
    """

    def __init__(self, gamma: NotNegative = 2.0) -> None:
        super().__init__()
        self.gamma = gamma

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        logs = F.log_softmax(logits, dim=1)
        shares = targets if targets.is_floating_point() else F.one_hot(targets, logits.shape[1])
        return -(shares * (1 - logs.exp()) ** self.gamma * logs).sum(dim=1).mean()
