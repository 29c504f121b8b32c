"""Regularised ResNets and transformers with LayerNorm, many of one shape as a stack.

With LN to mean zero and norm √d, without parameters, and σ = ReLU (Súkeník et al. 2025, section 3,
App. B):

    ResNet:       X_1 = LN(W_0 X_0 + b_0)             then L - 1 blocks  MLP_l
    transformer:  Z_1 = LN(W_e Z + W_p)               then L blocks      ATTN_l, MLP_l
    MLP_l(X)    = σ(W_l X + b_l)                      or  W_{l,2} σ(W_{l,1} X + b_{l,1}) + b_{l,2}
    ATTN_l(Z)   = W_VO Z softmax(M + Zᵀ W_QK Z/√d)    or  W_O W_V Z softmax(M + (W_K Z)ᵀ W_Q Z/√d)
    post-LN:      X <- LN(X + branch(X))
    pre-LN:       X <- X + branch(LN(X)), and LN before the head
    head:         W X, of the last patch or token; of a pre-LN transformer W X + c

The paper's columns are rows here: a batch is (S, b, ...) for S members that share nothing.
"""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from replica.kinds.residual import ResidualNetwork, ResidualSpec

State = Mapping[str, Tensor]
# Under the root of the variance: far below what a feature has, and no division by zero.
EPSILON = 1e-10
# Biases and embeddings are not regularised.
UNREGULARISED = ("embedding", "position", "bias")
IN_BLOCKS = ("W", "Q", "K", "V", "O")


def layer_norm(x: Tensor) -> Tensor:
    """Rows (..., d) to mean zero and norm √d; a constant row becomes zero."""
    return F.layer_norm(x, x.shape[-1:], eps=EPSILON)


def blocks(spec: ResidualSpec) -> int:
    """Residual blocks of a network of depth L: L - 1 for a ResNet, whose head is the Lth."""
    return spec.depth - isinstance(spec.network, ResidualNetwork)


def initialise(
    spec: ResidualSpec,
    inputs: int,
    positions: int,
    K: int,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype,
) -> dict[str, Tensor]:
    """Parameters, one member a generator: matrices N(0, gain²/inputs), biases 0.

    Args:
        spec: the run.
        inputs: dimensions of a sample or patch, or the size of the vocabulary.
        positions: patches or tokens of a sample; 1 for a ResNet.
        K: classes.
        generators: one a member.
        dtype: of the parameters.

    Returns:
        Name -> (S, ...). `embedding` (S, inputs, d), `head` (S, K, d); matrices of the blocks
        (S, blocks, d, d). Without regularisation: embedding, position, all that ends in bias.
    """
    d, l, network = spec.width, blocks(spec), spec.network
    tokens = network.kind == "tokens"
    # One-hot tokens have norm 1: their embedding starts with entries N(0, gain²).
    shapes = {"embedding": ((inputs, d), 1 if tokens else inputs)}
    if not isinstance(network, ResidualNetwork):
        shapes["position"] = (positions, d), 1
        names = ["QK", "VO"] if network.attention == 1 else ["Q", "K", "V", "O"]
        shapes |= {name: ((l, d, d), d) for name in names}
    else:
        shapes["embedding_bias"] = (d,), None
    for number in range(1, network.mlp + 1):
        shapes |= {f"W{number}": ((l, d, d), d), f"W{number}_bias": ((l, d), None)}
    shapes["head"] = (K, d), d
    if spec.head_has_bias:
        shapes["head_bias"] = (K,), None
    found = {}
    for name, (shape, fan_in) in shapes.items():
        if fan_in is None:
            found[name] = torch.zeros(len(generators), *shape, dtype=dtype)
        else:
            drawn = [torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]
            found[name] = (torch.stack(drawn) * spec.gain / fan_in**0.5).to(dtype)
    return found


def regularised(params: State) -> dict[str, Tensor]:
    """θ̄, the weights that the penalty is on (eq. 7)."""
    return {name: w for name, w in params.items() if not name.endswith(UNREGULARISED)}


def logits(params: State, features: Tensor) -> Tensor:
    """Output (S, b, K) of features (S, b, d)."""
    # A class after another in memory, which is how the cross-entropy reads them.
    out = (params["head"] @ features.mT).mT
    return out + params["head_bias"][:, None] if "head_bias" in params else out


def features(params: State, spec: ResidualSpec, inputs: Tensor, ends: Tensor) -> Tensor:
    """What enters the head: the last position after the final LN, (S, b, d).

    Args:
        params: see `initialise`.
        spec: the run.
        inputs: samples (S, b, D), patches (S, b, T, p), or token numbers (S, b, T) int64; S = 1 is
            shared by all members.
        ends: (S, b) position of the last token of each sample.
    """
    x = layer_norm(_embedded(params, inputs))
    resnet = isinstance(spec.network, ResidualNetwork)
    branches = [_perceptron] if resnet else [_attention, _perceptron]
    for block in blocks_of(params):
        for branch in branches:
            if spec.norm == "post":
                x = layer_norm(x + branch(block, x))
            else:
                x = x + branch(block, layer_norm(x))
    if x.dim() == 4:
        x = x.gather(2, ends.expand(len(x), -1)[..., None, None].expand(-1, -1, 1, x.shape[-1]))
        x = x.squeeze(2)
    return x if spec.norm == "post" else layer_norm(x)


def _embedded(params: State, inputs: Tensor) -> Tensor:
    table = params["embedding"]
    S = len(table)
    inputs = inputs.expand(S, *inputs.shape[1:])
    if "position" not in params:
        return _affine(table.mT, params["embedding_bias"], inputs)
    if inputs.is_floating_point():
        embedded = _affine(table.mT, None, inputs)
    else:
        # One table of all members, in which member s has the rows from s V on.
        V = table.shape[1]
        first = V * torch.arange(S, device=inputs.device).reshape(-1, 1, 1)
        embedded = F.embedding(inputs + first, table.flatten(0, 1))
    return embedded + params["position"][:, None, : inputs.shape[2]]


def blocks_of(params: State) -> Iterator[State]:
    """The parameters of each block; cut in one go, whose gradient is put together in one go."""
    cut = {name: w.unbind(1) for name, w in params.items() if name.startswith(IN_BLOCKS)}
    for parts in zip(*cut.values(), strict=True):
        yield dict(zip(cut, parts, strict=True))


def _perceptron(block: State, x: Tensor) -> Tensor:
    out = F.relu(_affine(block["W1"], block["W1_bias"], x))
    return _affine(block["W2"], block["W2_bias"], out) if "W2" in block else out


def _attention(block: State, z: Tensor) -> Tensor:
    """Single-head causal attention: of position j to all i <= j."""
    if "QK" in block:
        q, k, v = _affine(block["QK"], None, z), z, _affine(block["VO"], None, z)
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    q, k, v = (_affine(block[name], None, z) for name in "QKV")
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    return _affine(block["O"], None, attended)


def _affine(W: Tensor, bias: Tensor | None, x: Tensor) -> Tensor:
    """Rows W x + b for W (S, m, n), b (S, m), x (S, ..., n)."""
    flat = x.flatten(1, -2)
    out = torch.bmm(flat, W.mT) if bias is None else torch.baddbmm(bias[:, None], flat, W.mT)
    return out.unflatten(1, x.shape[1:-1])
