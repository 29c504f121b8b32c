"""Untrained random feature maps Φ."""

from typing import Literal, cast

import torch
from torch import Tensor

Activation = Literal["relu", "cos"]


def random_features(
    activation: Activation,
    z: Tensor,
    width: int,
    scale: float | None,
    generator: torch.Generator,
) -> Tensor:
    """Φ(z), (N, width), of points z (N, d) (Beaglehole et al. 2024, appendix D).

    relu: max(Wz, 0), entries of W uniform in ±1/√d. cos: √(2/D) cos(Wz + u), the random Fourier
    features of the kernel exp(-scale |x - z|_1): entries of W Cauchy, u uniform in [0, 2π).

    Args:
        activation: which map.
        z: points, rows.
        width: D, the number of features.
        scale: of the Cauchy entries of W; for cos only.
        generator: on the CPU; the map is drawn in float64 and is the same on every device.
    """
    d = z.shape[1]
    uniform = torch.rand(width, d, generator=generator, dtype=torch.float64)
    if activation == "relu":
        W = (2 * uniform - 1) / d**0.5
        return torch.relu(z @ W.T.to(z))
    W = cast(float, scale) * torch.tan(torch.pi * (uniform - 0.5))
    u = 2 * torch.pi * torch.rand(width, generator=generator, dtype=torch.float64)
    return (2 / width) ** 0.5 * torch.cos(z @ W.T.to(z) + u.to(z))
