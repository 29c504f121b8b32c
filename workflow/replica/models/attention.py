"""Attention by its parts: what a row of logits becomes, which keys it may see, what is observed.

Logits are z_ij = q_i·k_j/√d_h of query i and key j, and A_ij is the weight that query i gives to
key j. The functions that normalise differ in what a row sums to:

    softmax        e^z / Σ e^z                                 1
    off_by_one     e^z / (1 + Σ e^z)                           less than 1     (Xiao et al. 2024)
    sink_logit     e^z / (e^b + Σ e^z), b learned by head      less than 1
    clipped        clip((ζ - γ) softmax + γ, 0, 1)         any             (Bondarenko et al. 2023)
    sigmoid        1 / (1 + e^-z)                              any             (Gu et al. 2025)
    relu           max(z, 0) / i of row i                      any             (Guo et al. 2024)
    elu            elu(z) + 1, over i as well                  any             (after Gu et al.)
    softpick       relu(e^z - 1) / (Σ |e^z - 1| + ε)           at most 1

What a row lacks to 1 goes nowhere, as to a token whose value is 0.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Scale and shift of clipped softmax: ζ = 1 and γ below 0, so that small weights become 0.
CLIP_HIGH, CLIP_LOW = 1.0, -0.03
SOFTPICK_EPSILON = 1e-8


@dataclass(frozen=True)
class Observed:
    """What one attention layer does with a batch, as the probes read it.

    S members, B texts, H heads, T tokens, width d, d_h of a head.

    Attributes:
        A: (S, B, H, T, T) weights, row i of query i, zero above the diagonal.
        q, k, v: (S, B, H, T, d_h); rotary positions are in q and k.
        outputs: (S, B, H, T, d) of each head after W_O: o_i = W_O Σ_j A_ij v_j. Their sum over
            heads is what the layer adds to the residual stream.
        values: (S, B, H, T, d), W_O v_j.
        inputs: (S, B, T, d) what W_Q, W_K, W_V read, after the normalisation.
        residual: (S, B, T, d) the residual stream before the layer.
    """

    A: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    outputs: Tensor
    values: Tensor
    inputs: Tensor
    residual: Tensor

    @property
    def logits(self) -> Tensor:
        """z_ij, (S, B, H, T, T), also of pairs that a mask hides."""
        return self.q @ self.k.mT / math.sqrt(self.q.shape[-1])


def allowed(T: int, forbid: str = "none", device: torch.device | None = None) -> Tensor:
    """Which keys a query sees, (T, T) bool: causal, and without what is forbidden.

    Args:
        T: tokens.
        forbid: `none`; `self`, the diagonal; `first`, the first column; `both`. A row that would
            see nothing keeps its own token: row 1, and with `both` row 2.
        device: where it is made.
    """
    seen = torch.ones(T, T, dtype=torch.bool, device=device).tril()
    if forbid in ("first", "both"):
        seen[:, 0] = False
    if forbid in ("self", "both"):
        seen.fill_diagonal_(False)
    own = torch.eye(T, dtype=torch.bool, device=device)
    return seen | (own & ~seen.any(1, keepdim=True))


def softmax(z: Tensor, seen: Tensor) -> Tensor:
    """Rows that sum to 1."""
    return z.masked_fill(~seen, -torch.inf).softmax(-1)


def off_by_one(z: Tensor, seen: Tensor) -> Tensor:
    """Softmax beside a further logit of 0, whose weight goes nowhere."""
    return sink_logit(z, seen, z.new_zeros(()))


def sink_logit(z: Tensor, seen: Tensor, b: Tensor) -> Tensor:
    """Softmax beside a further logit b, (...) of each row, whose weight goes nowhere."""
    extra = b.unsqueeze(-1).expand(*z.shape[:-1], 1)
    return torch.cat([z.masked_fill(~seen, -torch.inf), extra], -1).softmax(-1)[..., :-1]


def clipped(z: Tensor, seen: Tensor, high: float = CLIP_HIGH, low: float = CLIP_LOW) -> Tensor:
    """Softmax stretched to [γ, ζ] and cut to [0, 1]; ζ = `high`, γ = `low`."""
    return ((high - low) * softmax(z, seen) + low).clamp(0, 1) * seen


def sigmoid(z: Tensor, seen: Tensor) -> Tensor:
    """Each weight by itself."""
    return z.sigmoid() * seen


def relu(z: Tensor, seen: Tensor) -> Tensor:
    """Each weight by itself, over the number of the row."""
    rows = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    return z.relu() * seen / rows[:, None]


def elu(z: Tensor, seen: Tensor) -> Tensor:
    """Each weight by itself, never negative, over the number of the row."""
    rows = torch.arange(1, z.shape[-1] + 1, device=z.device, dtype=z.dtype)
    return (F.elu(z) + 1) * seen / rows[:, None]


def softpick(z: Tensor, seen: Tensor) -> Tensor:
    """Rectified softmax: a row of logits of at most 0 gives nothing to anyone."""
    # A hidden logit of 0 has e^z - 1 = 0. All are relative to the largest of e^z and 1, against
    # overflow.
    z = z.masked_fill(~seen, 0)
    top = z.amax(-1, keepdim=True).clamp(min=0)
    shifted = (z - top).exp() - (-top).exp()
    total = shifted.abs().sum(-1, keepdim=True)
    return shifted.relu() / (total + SOFTPICK_EPSILON * (-top).exp())


NORMALISERS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "softmax": softmax,
    "off_by_one": off_by_one,
    "clipped": clipped,
    "sigmoid": sigmoid,
    "relu": relu,
    "elu": elu,
    "softpick": softpick,
}


def proxy(A: Tensor) -> Tensor:
    """Rows divided by their sums, for scores of weights that do not sum to 1; 0/0 is 0."""
    total = A.sum(-1, keepdim=True)
    return torch.where(total > 0, A / total.where(total > 0, torch.ones_like(total)), 0.0)


def split_heads(x: Tensor, heads: int) -> Tensor:
    """(S, B, T, H d_h) as (S, B, H, T, d_h)."""
    return x.unflatten(-1, (heads, -1)).transpose(-3, -2)


def merge_heads(x: Tensor) -> Tensor:
    """(S, B, H, T, d_h) as (S, B, T, H d_h)."""
    return x.transpose(-3, -2).flatten(-2)


def rotate(x: Tensor) -> Tensor:
    """Rotary positions (Su et al. 2021): (..., T, d_h) with halves as pairs, base 10,000."""
    T, width = x.shape[-2:]
    half = width // 2
    rates = 10_000 ** (-torch.arange(half, device=x.device, dtype=torch.float64) / half)
    angles = torch.arange(T, device=x.device, dtype=torch.float64)[:, None] * rates
    cos, sin = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, first * sin + second * cos], -1)


def by_layer(params: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Parameters (S, L, ...) layer by layer, cut in one go, and so is their gradient."""
    cut = {name: w.unbind(1) for name, w in params.items()}
    for parts in zip(*cut.values(), strict=True):
        yield dict(zip(cut, parts, strict=True))
