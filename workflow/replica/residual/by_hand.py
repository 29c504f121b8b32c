"""The gradient of the training loss of a residual network by hand.

A graph of single operations takes up to twice the time. Here layers work in place where nothing
needs what they overwrite, and of the last block only the positions that are read are computed. Each
layer gives its output and its `Backward`, which writes the gradients of its own parameters into
`slopes`.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import torch
from torch import Tensor
from torch.nn import functional as F

from replica.kinds.residual import ResidualNetwork, ResidualSpec
from replica.models import residual
from replica.models.residual import EPSILON, State

# From the gradient of what a layer gives to that of what it takes.
Backward = Callable[[Tensor], Tensor]
# Short samples share a matrix of attention with up to so many positions: tiny products are slow.
TILE = 16


def gradients(
    params: State, spec: ResidualSpec, inputs: Tensor, ends: Tensor, labels: Tensor
) -> dict[str, Tensor]:
    """Of `replica.residual.training.fit` in all parameters; each member's in its own.

    Args:
        params: name -> (S, ...), see `residual.initialise`.
        spec: the run.
        inputs, ends: see `residual.features`.
        labels: (S, b) int64; S = 1 is shared by all members.

    Returns:
        Name -> (S, ...).
    """
    with torch.no_grad():
        slopes = {name: torch.empty_like(value) for name, value in params.items()}
        x, tape = _features(params, slopes, spec, inputs, ends)
        # A class after another in memory, over which softmax is fast: (S, K, b).
        out = torch.bmm(params["head"], x.mT)
        if "head_bias" in params:
            out += params["head_bias"][..., None]
        if spec.loss == "ce":
            out = out.softmax(1)
        g = out.sub_(F.one_hot(labels, out.shape[1]).mT).div_(out.shape[2])
        torch.bmm(g, x, out=slopes["head"])
        if "head_bias" in params:
            torch.sum(g, 2, out=slopes["head_bias"])
        g = torch.bmm(g.mT, params["head"])
        while tape:
            g = tape.pop()(g)
        return slopes


def _features(
    params: State, slopes: dict[str, Tensor], spec: ResidualSpec, inputs: Tensor, ends: Tensor
) -> tuple[Tensor, list[Backward]]:
    """`residual.features`, and the layers that they went through."""
    x, of_embedding = _embedded(params, slopes, inputs)
    x, of_norm = _normalised_(x)
    tape = [of_embedding, of_norm]
    if attends := not isinstance(spec.network, ResidualNetwork):
        everywhere, at_ends = _places(ends, inputs.shape[2], x)
    blocks = zip(residual.blocks_of(params), residual.blocks_of(slopes), strict=True)
    for l, (block, slope) in enumerate(blocks, start=1):
        if attends:
            rows, mask = at_ends if l == spec.depth else everywhere
            branch = partial(_attention, block, slope, mask, rows)
            x, backward = _with_branch(x, branch, spec.norm, rows)
            tape.append(backward)
        x, backward = _with_branch(x, partial(_perceptron, block, slope), spec.norm)
        tape.append(backward)
    if spec.norm == "pre":
        x, backward = _normalised_(x)
        tape.append(backward)
    return x, tape


def _with_branch(
    x: Tensor, branch: Callable, norm: str, rows: Tensor | None = None
) -> tuple[Tensor, Backward]:
    """A branch with its LN, added to x (S, n, d) at `rows`; see `_at`."""
    if norm == "post":
        total, of_branch = branch(x, _at(x, rows))
        out, of_norm = _normalised_(total)

        def backward(g: Tensor) -> Tensor:
            g = of_norm(g)
            return of_branch(g, g) if rows is None else _add_at(of_branch(g), rows, g)

        return out, backward
    normal, of_norm = _normalised_(x.clone())
    out, of_branch = branch(normal, _at(x, rows))
    return out, lambda g: _add_at(of_norm(of_branch(g)), rows, g)


def _at(x: Tensor, rows: Tensor | None) -> Tensor:
    """Rows (S, b, d) of x (S, n, d) by their numbers, repeated along d; without numbers all."""
    return x if rows is None else x.gather(1, rows)


def _add_at(total: Tensor, rows: Tensor | None, g: Tensor) -> Tensor:
    return total.add_(g) if rows is None else total.scatter_add_(1, rows, g)


def _normalised_(x: Tensor) -> tuple[Tensor, Backward]:
    """`residual.layer_norm` in place."""
    d = x.shape[-1]
    x.sub_(x.mean(-1, keepdim=True))
    rate = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    epsilon, zero, one = _constants(rate.shape, rate.dtype, rate.device)
    rate = torch.addcmul(epsilon, rate, rate, value=1 / d).rsqrt_()
    x.mul_(rate)

    def backward(g: Tensor) -> Tensor:
        # rate (g - mean of g - x · mean of g x): torch's gradient for rows of mean 0, variance 1.
        found = torch.ops.aten.native_layer_norm_backward(
            g, x, [d], zero, one, None, None, [True, False, False]
        )
        return found[0].mul_(rate)

    return x, backward


@lru_cache(maxsize=4)
def _constants(shape: torch.Size, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    return [torch.full(shape, value, dtype=dtype, device=device) for value in (EPSILON, 0, 1)]


def _embedded(params: State, slopes: dict[str, Tensor], inputs: Tensor) -> tuple[Tensor, Backward]:
    """Rows (S, b, d) of samples, or (S, b T, d) of patches or tokens."""
    table = params["embedding"]
    S, V, d = table.shape
    inputs = inputs.expand(S, *inputs.shape[1:])
    if is_dense := inputs.is_floating_point():
        read = inputs.flatten(1, -2)
        x = torch.bmm(read, table)
    else:
        # One table of all members, in which member s has the rows from s V on.
        first = V * torch.arange(S, device=inputs.device).reshape(-1, 1, 1)
        read = (inputs + first).flatten(1)
        x = F.embedding(read, table.flatten(0, 1))
    # A bias is the same at each position: (S, 1, d) instead of (S, T, d).
    name = "position" if "position" in params else "embedding_bias"
    shift, of_shift = (state[name].view(S, -1, d) for state in (params, slopes))
    x.view(S, -1, *shift.shape[1:]).add_(shift[:, None])

    def backward(g: Tensor) -> Tensor:
        torch.sum(g.view(S, -1, *shift.shape[1:]), 1, out=of_shift)
        if is_dense:
            torch.bmm(read.mT, g, out=slopes["embedding"])
        else:
            flat = torch.ops.aten.embedding_dense_backward(g, read, S * V, -1, False)
            slopes["embedding"] = flat.view(S, V, d)
        return g

    return x, backward


def _perceptron(block: State, slope: State, x: Tensor, base: Tensor) -> tuple[Tensor, Backward]:
    """base + MLP(x)."""
    active = torch.bmm(x, block["W1"].mT).add_(block["W1_bias"][:, None]).relu_()
    if "W2" in block:
        out = torch.baddbmm(base, active, block["W2"].mT).add_(block["W2_bias"][:, None])
    else:
        out = base + active

    def backward(g: Tensor, total: Tensor | None = None) -> Tensor:
        if "W2" in block:
            torch.bmm(g.mT, active, out=slope["W2"])
            torch.sum(g, 1, out=slope["W2_bias"])
            g = torch.bmm(g, block["W2"])
        # The gradient where the ReLU was active, in one pass over what is not needed any more.
        g = torch.ops.aten.threshold_backward.grad_input(g, active, 0, grad_input=active)
        torch.sum(g, 1, out=slope["W1_bias"])
        of_x = torch.bmm(g, block["W1"]) if total is None else total.baddbmm_(g, block["W1"])
        # Last, so that x is still in the cache when the layer below reads it.
        torch.bmm(g.mT, x, out=slope["W1"])
        return of_x

    return out, backward


def _attention(
    block: State, slope: State, mask: Tensor, rows: Tensor | None, z: Tensor, base: Tensor
) -> tuple[Tensor, Backward]:
    """base + ATTN(z), single-head and causal, of the positions `rows`; `mask` see `_places`.

    Scores are products of z with W_KᵀW_Q z, and W_OW_V follows the mean: matrices act on the
    positions that ask alone.
    """
    both = {name: (block[name], slope[name]) for name in block if name in ("QK", "VO", *"QKVO")}
    if "QK" in both:
        before, after = [both["QK"]], [both["VO"]]
    else:
        K, slope_K = both["K"]
        before, after = [both["Q"], (K.mT, slope_K.mT)], [both["V"], both["O"]]
    scale = z.shape[-1] ** -0.5
    query, of_query = _through(before, _at(z, rows))
    # Many samples a tile: (tiles, positions, d).
    keys = z.view(len(mask), mask.shape[2], -1)
    asked = query.view(len(mask), mask.shape[1], -1)
    A = torch.baddbmm(mask, asked, keys.mT, alpha=scale).softmax(-1)
    out, of_mean = _through(after, torch.bmm(A, keys).view_as(query))

    def backward(g: Tensor, total: Tensor | None = None) -> Tensor:
        g = of_mean(g).view_as(asked)
        of_A = torch.bmm(g, keys.mT)
        of_scores = torch.ops.aten._softmax_backward_data(of_A, A, -1, A.dtype).mul_(scale)
        of_z = torch.bmm(A.mT, g).baddbmm_(of_scores.mT, asked).view_as(z)
        of_z = _add_at(of_z, rows, of_query(torch.bmm(of_scores, keys).view_as(query)))
        return of_z if total is None else of_z.add_(total)

    return out.add_(base), backward


def _through(matrices: Sequence[tuple[Tensor, Tensor]], x: Tensor) -> tuple[Tensor, Backward]:
    """Rows ... W_2 W_1 x for pairs of W (S, d, d) and the place of its gradient."""
    read = []
    for W, _ in matrices:
        read.append(x)
        x = torch.bmm(x, W.mT)

    def backward(g: Tensor) -> Tensor:
        for (W, slope), x in zip(reversed(matrices), reversed(read), strict=True):
            torch.bmm(g.mT, x, out=slope)
            g = torch.bmm(g, W)
        return g

    return x, backward


def _places(
    ends: Tensor, T: int, like: Tensor
) -> tuple[tuple[None, Tensor], tuple[Tensor, Tensor]]:
    """Rows and mask of attention, of all positions and of the ends alone.

    Args:
        ends: (S, b) or (1, b).
        T: positions of a sample.
        like: (S, b T, d).

    Returns:
        For all positions None, for the ends the numbers of the rows, (S, b, d). The masks are 0 or
        -∞, (tiles, positions that ask, positions that answer), for tiles of a few samples each.
    """
    S, d, b = len(like), like.shape[-1], ends.shape[1]
    device = ends.device
    side = max(n for n in range(1, max(TILE // T, 1) + 1) if b % n == 0)
    own = torch.eye(side, dtype=torch.bool, device=device)[:, None, :, None]
    positions = torch.arange(T, device=device)

    def mask(asking: Tensor) -> Tensor:
        seen = own & (positions <= asking[..., None])[..., None, :]
        found = like.new_zeros(seen.shape).masked_fill_(~seen, -torch.inf)
        found = found.flatten(-2).flatten(-3, -2)
        return found.expand(S, b // side, *found.shape[-2:]).flatten(0, 1)

    rows = ends + T * torch.arange(b, device=device)
    rows = rows.expand(S, -1)[..., None].expand(-1, -1, d)
    everywhere = mask(positions.expand(1, 1, side, T))
    return (None, everywhere), (rows, mask(ends.view(len(ends), -1, side, 1)))
