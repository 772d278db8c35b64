"""The Muon optimizer (Keller Jordan and others, 2024) in single precision.

PyTorch's own casts to bfloat16, which a CPU without such instructions only emulates: there it takes as long as the
forward and backward pass together.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

NEWTON_SCHULZ_STEPS = 5
# A quintic whose iteration drives all singular values between 0 and 1 to about 1, from Jordan's write-up of Muon.
NEWTON_SCHULZ_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ADAMW_RMS = 0.2


class Muon(torch.optim.Optimizer):
    """Momentum whose update, a matrix, is replaced by the nearest matrix with singular values of about 1.

    The update is scaled to the root mean square that AdamW's typically has, so that both take the same learning rate
    (Moonlight, arXiv 2502.16982).

    Args:
        params: matrices only.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            # Matrices of one shape go through the iteration together: one large product instead of many small ones.
            same_shape: dict[torch.Size, list[tuple[Tensor, Tensor]]] = defaultdict(list)
            for param in group["params"]:
                if param.grad is not None:
                    same_shape[param.shape].append((param, self._nesterov(param, param.grad, group["momentum"])))
            for shape, batch in same_shape.items():
                updates = orthogonalize(torch.stack([momentum for _, momentum in batch]))
                for (param, _), update in zip(batch, updates, strict=True):
                    param.add_(update, alpha=-group["lr"] * ADAMW_RMS * max(shape) ** 0.5)

    def _nesterov(self, param: Tensor, grad: Tensor, momentum: float) -> Tensor:
        state: dict[str, Tensor] = self.state[param]
        if not state:
            state["momentum"] = torch.zeros_like(param)
        return grad.lerp(state["momentum"].lerp_(grad, 1 - momentum), momentum)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Matrices [N, R, C] with the singular vectors of the given ones and singular values of about 1."""
    if matrices.shape[1] > matrices.shape[2]:
        return orthogonalize(matrices.mT).mT
    a, b, c = NEWTON_SCHULZ_COEFFICIENTS
    x: Tensor = matrices / matrices.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x
