"""The L-layer deep unconstrained features model (DUFM), many members in one stack.

Variables of S members: H1 (S, d, N) free features, W1..W{L-1} (S, d, d), W{L} (S, K, d). Columns
are ordered by class, N = K n, targets Y = I_K ⊗ 1_nᵀ. There is no ReLU on H_1, none after W_L,
and no bias (Súkeník et al. 2023, 2024; normalisation as in their theory).
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

Params = dict[str, Tensor]


def initialise(
    *,
    K: int,
    L: int,
    n: int,
    width: int,
    h_std: float,
    w_gain: float,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype,
) -> Params:
    """H_1 ~ N(0, h_std²) and W_l ~ N(0, w_gain²/width), one generator a member (on the CPU).

    Numbers are drawn in float64, so that a run starts at the same point in every precision.
    """
    shapes = {"H1": (width, K * n), **{f"W{l}": (width, width) for l in range(1, L)}}
    shapes[f"W{L}"] = (K, width)
    members = []
    for generator in generators:
        draw = {
            k: torch.randn(s, generator=generator, dtype=torch.float64) for k, s in shapes.items()
        }
        std = {k: h_std if k == "H1" else w_gain / width**0.5 for k in shapes}
        members.append({name: std[name] * value for name, value in draw.items()})
    return {name: torch.stack([m[name] for m in members]).to(dtype) for name in shapes}


def depth(params: Params) -> int:
    """L, the number of weight matrices."""
    return sum(name.startswith("W") for name in params)


def forward(params: Params) -> list[Tensor]:
    """[H_1, H_2, ..., H_{L+1}], each (S, d, N), before the ReLU."""
    layers = [params["H1"], params["W1"] @ params["H1"]]
    for l in range(2, depth(params) + 1):
        layers.append(params[f"W{l}"] @ torch.relu(layers[-1]))
    return layers


def targets(K: int, n: int, like: Tensor) -> Tensor:
    """Y = I_K ⊗ 1_nᵀ, (K, K n), with the type and device of `like`."""
    return torch.eye(K, dtype=like.dtype, device=like.device).repeat_interleave(n, dim=1)


def fit_and_penalty(params: Params, lambda_w: Tensor, lambda_h: Tensor) -> tuple[Tensor, Tensor]:
    """(1/2N)‖H_{L+1} - Y‖² and ½(Σ λ_w‖W_l‖² + λ_h‖H_1‖²), each (S,), in float64.

    Args:
        params: the stacked variables.
        lambda_w, lambda_h: penalties of each member, (S,).
    """
    double = {name: value.double() for name, value in params.items()}
    output = forward(double)[-1]
    K, N = output.shape[1:]
    fit = (output - targets(K, N // K, output)).square().sum((1, 2)) / (2 * N)
    norms = {name: value.square().sum((1, 2)) for name, value in double.items()}
    h = norms.pop("H1")
    penalty = (lambda_w.double() * sum(norms.values()) + lambda_h.double() * h) / 2
    return fit, penalty


def gradient_descent(
    params: Params, lambda_w: Tensor, lambda_h: Tensor, lr: Tensor
) -> Callable[[], None]:
    """A function that takes one full-batch gradient step on `params`, in place.

    The gradient of the objective is written out: with the error E_L = lr (H_{L+1} - Y)/N and
    E_{l-1} = (W_lᵀ E_l) ∘ 1[H_l > 0], the step is W_l <- (1 - lr λ_w) W_l - E_l σ(H_l)ᵀ and
    H_1 <- (1 - lr λ_h) H_1 - W_1ᵀ E_1. The step size enters the error, so it may differ between
    members at no extra cost, and no memory is allocated after the first step.

    Args:
        params: the stacked variables, changed in place by each call.
        lambda_w, lambda_h, lr: (S,) of each member.
    """
    L = depth(params)
    H1, weights = params["H1"], [params[f"W{l}"] for l in range(1, L + 1)]
    K, N = weights[-1].shape[1], H1.shape[2]
    Y = targets(K, N // K, H1)
    dtype, device = H1.dtype, H1.device
    rate = (lr.double() / N).to(dtype).to(device)[:, None, None]
    keep_w = (1 - lr.double() * lambda_w.double()).to(dtype).to(device)[:, None, None]
    keep_h = (1 - lr.double() * lambda_h.double()).to(dtype).to(device)[:, None, None]
    pre = [torch.empty(len(H1), w.shape[1], N, dtype=dtype, device=device) for w in weights]
    errors = [torch.empty_like(H1), *(torch.empty_like(h) for h in pre[:-1])]

    def step() -> None:
        x = H1
        for W, h in zip(weights[:-1], pre[:-1], strict=True):
            torch.bmm(W, x, out=h)
            x = h.relu_()
        error = torch.bmm(weights[-1], x, out=pre[-1])
        error.sub_(Y).mul_(rate)
        for l in range(L - 1, -1, -1):
            W, x = weights[l], pre[l - 1] if l else H1
            back = torch.bmm(W.mT, error, out=errors[l])
            W.mul_(keep_w).baddbmm_(error, x.mT, alpha=-1)
            if l:
                # σ(H) is positive exactly where H is: the sign of it masks the error.
                back.mul_(x.sign_())
            error = back
        H1.mul_(keep_h).sub_(error)

    return step
