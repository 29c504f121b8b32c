"""The Feature Refiner, the gradient gate and the network with two heads (Kocsis et al. 2022)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class _Gate(torch.autograd.Function):
    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, h: Tensor, m: float) -> Tensor:
        ctx.m = m
        return h.view_as(h)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        return ctx.m * gradient, None


def gradient_gate(h: Tensor, m: float) -> Tensor:
    """Gate_m: `h` as it is; backwards its gradient is multiplied by `m` (official code)."""
    return _Gate.apply(h, m)


class FeatureRefiner(nn.Module):
    """FR, the extra head without its last linear layer: features (b, d_bb) to (b, d_fr).

    hybrid_fc, norm1, [linear1, ReLU] for each inner layer, linear2, norm2; no residual connection,
    no dropout, torch's own initialisation (official code; the text describes the same layers).

    Args:
        d_bb: width of the backbone's features.
        d_fr: width of the refiner.
        inner_layers: number of [linear1, ReLU] pairs.
        drop: what an ablation leaves out: norm1, linear1 (with its ReLU), linear2, norm2.
    """

    def __init__(
        self, d_bb: int, d_fr: int, inner_layers: int = 1, drop: Sequence[str] = ()
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Linear(d_bb, d_fr)]
        if "norm1" not in drop:
            parts.append(nn.LayerNorm(d_fr))
        if "linear1" not in drop:
            for _ in range(inner_layers):
                parts += [nn.Linear(d_fr, d_fr), nn.ReLU()]
        if "linear2" not in drop:
            parts.append(nn.Linear(d_fr, d_fr))
        if "norm2" not in drop:
            parts.append(nn.LayerNorm(d_fr))
        self.layers = nn.Sequential(*parts)
        self.width = d_fr

    def forward(self, h: Tensor) -> Tensor:
        return self.layers(h)


class TwoHeaded(nn.Module):
    """A backbone, its original linear head behind the gate, and the FR head.

    Without a refiner there is the original head only, and the gate is the identity: the baseline.

    Attributes:
        backbone: images to features (b, d_bb); `backbone.width` is d_bb, and where its
            `head_bias` is False the original head has no bias.
        original: d_bb -> K, what is kept at test time.
        refiner, extra: FR and its linear layer `fc` d_fr -> K, or None.
        gate: m, the share of the original head's gradient that reaches the backbone.
        normalise: what comes before the backbone.
    """

    def __init__(
        self,
        backbone: nn.Module,
        K: int,
        refiner: FeatureRefiner | None = None,
        gate: float = 0.0,
        normalise: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.normalise = normalise or nn.Identity()
        self.backbone, self.refiner = backbone, refiner
        self.original = nn.Linear(backbone.width, K, getattr(backbone, "head_bias", True))
        self.extra = nn.Linear(refiner.width, K) if refiner is not None else None
        self.gate = gate if refiner is not None else 1.0

    def forward(self, x: Tensor) -> list[Tensor]:
        """Logits [z_orig] or [z_orig, z_FR], each (b, K)."""
        return self.heads(self.features(x))

    def features(self, x: Tensor) -> Tensor:
        """The backbone's features (b, d_bb) of images with pixels in [0, 1]."""
        return self.backbone(self.normalise(x))

    def heads(self, h: Tensor) -> list[Tensor]:
        """The same from the features h (b, d_bb)."""
        z_orig = self.original(h if self.gate == 1 else gradient_gate(h, self.gate))
        if self.refiner is None:
            return [z_orig]
        return [z_orig, self.extra(self.refiner(h))]

    def at_test_time(self) -> nn.Sequential:
        """The plain network without the extra head; it shares its parameters with this one."""
        return nn.Sequential(self.normalise, self.backbone, self.original)


def parameter_count(module: nn.Module) -> int:
    """Number of trainable values."""
    return sum(parameter.numel() for parameter in module.parameters())
