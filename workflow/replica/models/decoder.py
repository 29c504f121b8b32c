"""A decoder-only transformer, many of one shape as a stack; with its attention in the open.

    x_t = token_t + position_t                     numbers, or vectors through a matrix
    x <- x + Σ_h W_O^h A^h RMSNorm(x) W_V^h        A^h from q·k/√d_h, see `replica.models.attention`
    x <- x + W_2 gelu(W_1 RMSNorm(x))
    out_t = RMSNorm(x_t) W                         of an attention alone x_t itself, with W_O to it

Residual connections, RMSNorm, MLP and positions can each be left out. W_Q, W_K and W_O have no
biases, so that the theory of docs/sinks.md (D2) applies. A batch is (S, B, T, ...) for S members
that share nothing.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from replica.kinds.attention import DecoderSpec
from replica.models import attention
from replica.models.attention import Observed, merge_heads, split_heads

State = Mapping[str, Tensor]
See = Callable[[int, Observed], None]
Edit = Callable[[int, Tensor], Tensor]
EPSILON = 1e-6
OUTSIDE = ("embedding", "position", "sink_token", "final_gain", "head")
# Matrices that weight decay acts on; gains, biases, logits and single tokens are left alone.
DECAYED = ("embedding", "position", "QKV", "O", "up", "down", "gate", "head")


def initialise(
    spec: DecoderSpec,
    inputs: int,
    outputs: int,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype = torch.float32,
) -> dict[str, Tensor]:
    """Parameters at the start, a member a generator.

    Args:
        spec: the run.
        inputs: size of the vocabulary, or dimensions of a vector.
        outputs: size of the vocabulary, or dimensions of a target.
        generators: one a member.
        dtype: of the parameters.

    Returns:
        Name -> (S, ...), those of layers (S, L, ...). Matrices are N(0, gain²/inputs), embeddings
        and positions of tokens N(0, gain²/d), gains 1, all else 0.
    """
    d, L, T = spec.width, spec.depth, spec.context
    drawn = {
        "embedding": ((inputs, d), d if spec.of_tokens else inputs),
        "QKV": ((L, d, 3 * d), d),
        "O": ((L, d, outputs if spec.bare else d), d),
    }
    if not spec.bare:
        drawn["head"] = (d, outputs), d
    if spec.positions == "learned":
        drawn["position"] = (T, d), d
    if spec.mlp:
        drawn |= {"up": ((L, d, spec.mlp * d), d), "down": ((L, spec.mlp * d, d), spec.mlp * d)}
    constant = {}
    if spec.norm == "rms":
        constant |= {"attention_gain": ((L, d), 1.0), "final_gain": ((d,), 1.0)}
        if spec.mlp:
            constant["mlp_gain"] = (L, d), 1.0
    if spec.value_bias:
        constant["value_bias"] = (L, d), 0.0
    match spec.attention:
        case "sink_logit":
            constant["sink_logit"] = (L, spec.heads), 0.0
        case "key_bias":
            drawn["key_bias"] = (L, d), d
        case "key_value_bias":
            drawn |= {"key_bias": ((L, d), d), "extra_value": ((L, d), d)}
        case "sink_token":
            drawn["sink_token"] = (d,), d
        case "gated":
            drawn["gate"] = (L, d, d), d
    found = {}
    for name, (shape, fan_in) in drawn.items():
        members = [torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]
        found[name] = (torch.stack(members) * spec.gain / fan_in**0.5).to(dtype)
    for name, (shape, value) in constant.items():
        found[name] = torch.full((len(generators), *shape), value, dtype=dtype)
    return found


def forward(
    params: State,
    spec: DecoderSpec,
    inputs: Tensor,
    see: See | None = None,
    edit: Edit | None = None,
) -> Tensor:
    """Outputs (S, B, T, outputs) of token numbers (S, B, T) or vectors (S, B, T, inputs).

    Args:
        params: see `initialise`.
        spec: the run.
        inputs: the batch; S = 1 is shared by all members.
        see: called with each layer's number and what it does; the maps of one layer are alive at a
            time.
        edit: gives the weights (S, B, H, T, T) that a layer uses in place of its own, and of a
            learned key.
    """
    x = embed(params, spec, inputs)
    layers = {name: w for name, w in params.items() if name not in OUTSIDE}
    for number, layer in enumerate(attention.by_layer(layers)):
        read = normalised(x, spec)
        if see is None and edit is None and spec.fused:
            out = _fused_attention(layer, spec, read)
        else:
            out = _open_attention(layer, spec, read, x, number, see, edit)
        x = x + out if spec.residual else out
        if spec.mlp:
            out = perceptron(layer, normalised(x, spec))
            x = x + out if spec.residual else out
    if spec.attention == "sink_token":
        x = x[:, :, 1:]
    if spec.bare:
        return x
    return _product(normalised(x, spec), _scaled(params["head"], params.get("final_gain")))


def embed(params: State, spec: DecoderSpec, inputs: Tensor) -> Tensor:
    """The residual stream before the first layer, (S, B, T, d); T + 1 with a learned sink token."""
    table = params["embedding"]
    S, V, d = table.shape
    inputs = inputs.expand(S, *inputs.shape[1:])
    if spec.of_tokens:
        # One table of all members, in which member s has the rows from s V on.
        first = V * torch.arange(S, device=inputs.device).reshape(-1, 1, 1)
        x = F.embedding(inputs + first, table.flatten(0, 1))
    else:
        x = _product(inputs, table)
    if spec.positions == "learned":
        x = x + params["position"][:, None, : x.shape[2]]
    if spec.attention == "sink_token":
        x = torch.cat([params["sink_token"][:, None, None].expand(-1, x.shape[1], 1, d), x], 2)
    return x


def normalised(x: Tensor, spec: DecoderSpec) -> Tensor:
    """RMSNorm without its gain, a factor of the matrix behind it; x itself without norm."""
    return RmsNorm.apply(x) if spec.norm == "rms" else x


class RmsNorm(torch.autograd.Function):
    """x / √(mean x² + ε) of rows, in half the passes over memory that torch's own takes here."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """Rows (..., d) of norm √d."""
        d = x.shape[-1]
        square = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_()
        scale = square.div_(d).add_(EPSILON).rsqrt_()
        y = x * scale
        ctx.save_for_backward(x, y, scale)
        return y

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """(g - y mean(g y)) / √(mean x² + ε)."""
        x, y, scale = ctx.saved_tensors
        if torch.is_grad_enabled():
            # Somebody wants second derivatives, for which y and the scale depend on x.
            scale = (x.square().mean(-1, keepdim=True) + EPSILON).rsqrt()
            y = x * scale
            return (gradient - y * (gradient * y).mean(-1, keepdim=True)) * scale
        along = torch.linalg.vecdot(gradient, y).div_(y.shape[-1]).unsqueeze(-1)
        return torch.addcmul(gradient, y, along, value=-1).mul_(scale)


def perceptron(layer: State, x: Tensor) -> Tensor:
    """W_2 gelu(W_1 x)."""
    return _product(F.gelu(_product(x, _scaled(layer["up"], layer.get("mlp_gain")))), layer["down"])


def queries_keys_values(layer: State, spec: DecoderSpec, read: Tensor) -> list[Tensor]:
    """q, k, v (S, B, H, T, d_h), rotary positions in q and k."""
    q, k, v = _product(read, _scaled(layer["QKV"], layer.get("attention_gain"))).chunk(3, -1)
    if "value_bias" in layer:
        v = v + layer["value_bias"][:, None, None]
    q, k, v = (split_heads(x, spec.heads) for x in (q, k, v))
    if spec.positions == "rotary":
        q, k = attention.rotate(q), attention.rotate(k)
    return [q, k, v]


def _fused_attention(layer: State, spec: DecoderSpec, read: Tensor) -> Tensor:
    """Causal softmax attention that never writes its weights down."""
    q, k, v = queries_keys_values(layer, spec, read)
    S, B = q.shape[:2]
    mixed = F.scaled_dot_product_attention(
        *(x.flatten(0, 1) for x in (q, k, v)), is_causal=True
    ).unflatten(0, (S, B))
    return _product(_gated(layer, read, merge_heads(mixed)), layer["O"])


def _open_attention(
    layer: State,
    spec: DecoderSpec,
    read: Tensor,
    residual: Tensor,
    number: int,
    see: See | None,
    edit: Edit | None,
) -> Tensor:
    q, k, v = queries_keys_values(layer, spec, read)
    A, outside = weights(layer, spec, q, k)
    if edit is not None:
        A, outside = edit(number, A), torch.zeros_like(outside)
    mixed = A @ v
    if "extra_value" in layer:
        mixed = mixed + outside[..., None] * _by_head(layer["extra_value"], spec.heads)
    mixed = _gated(layer, read, merge_heads(mixed))
    if see is not None:
        # W_O cut into the rows of each head: (S, 1, H, d_h, d).
        O = layer["O"].unflatten(1, (spec.heads, -1))[:, None]
        outputs = split_heads(mixed, spec.heads) @ O
        gain = layer.get("attention_gain")
        inputs = read if gain is None else read * gain[:, None, None]
        see(number, Observed(A, q, k, v, outputs, v @ O, inputs, residual))
    return _product(mixed, layer["O"])


def weights(layer: State, spec: DecoderSpec, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """A (S, B, H, T, T), and what each row gives to a learned key, (S, B, H, T); 0 without one."""
    z = q @ k.mT / q.shape[-1] ** 0.5
    seen = attention.allowed(z.shape[-1], spec.forbid, z.device)
    if spec.attention == "sink_logit":
        A = attention.sink_logit(z, seen, layer["sink_logit"][:, None, :, None])
    elif "key_bias" in layer:
        key = _by_head(layer["key_bias"], spec.heads)
        A = attention.sink_logit(z, seen, (q * key).sum(-1) / q.shape[-1] ** 0.5)
    else:
        A = attention.NORMALISERS.get(spec.attention, attention.softmax)(z, seen)
        return A, torch.zeros_like(A[..., 0])
    return A, 1 - A.sum(-1)


def _by_head(x: Tensor, heads: int) -> Tensor:
    """(S, H d_h) as (S, 1, H, 1, d_h)."""
    return x.unflatten(-1, (heads, -1))[:, None, :, None]


def _gated(layer: State, read: Tensor, mixed: Tensor) -> Tensor:
    """An element-wise gate after the weighted sum (Qiu et al. 2025)."""
    if "gate" not in layer:
        return mixed
    return mixed * _product(read, _scaled(layer["gate"], layer.get("attention_gain"))).sigmoid()


def _scaled(W: Tensor, gain: Tensor | None) -> Tensor:
    """W (S, a, b) behind a gain (S, a): (x gain) W = x (gain W), with fewer numbers to multiply."""
    return W if gain is None else W * gain[:, :, None]


def _product(x: Tensor, W: Tensor) -> Tensor:
    """(S, B, T, a) times (S, a, b)."""
    return torch.bmm(x.flatten(1, 2), W).unflatten(1, x.shape[1:3])
