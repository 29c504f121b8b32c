"""Probes of a language model, layer by layer, so that no two layers' maps are kept.

A probe asks a `Model` for tokens, watches a pass, and returns a table: one head of one text a row,
or what its docstring says. Layers, heads and texts count from 1. Definitions: docs/sinks.md.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica.kinds.attention import Costs, Probes, Rates
from replica.measures import patterns
from replica.models import attention
from replica.models.attention import Observed
from replica.models.decoder import Edit, See
from replica.theory import margins

INPUTS = ("natural", "random", "repeated")
# Thresholds of importance; 0.3 is that of Gu et al. 2025, 0.8 that of Barbero et al. 2025.
EPSILONS = (0.2, 0.3, 0.4, 0.5, 0.8)
# Texts of one pass.
CHUNK = 25
TOP = (1, 2, 4, 8)
TEMPERATURES = (0.25, 0.5, 2.0, 4.0)
# Share of the heads, those with the largest α_1, that the ablation of sinks switches off.
ABLATED = 0.25


@dataclass(frozen=True)
class Model:
    """A trained stack, or one pretrained model, as probes see it.

    Attributes:
        seeds: of the members.
        layers, heads: how many.
        tokens: from the kind of input, the length T and the number of texts to (B, T) numbers.
        plain: the same natural texts without BOS; None where there is none.
        observe: a pass over tokens (B, T), which `see` watches and `edit` may change where it is
            not None: the loss of the next token, (S, B) in nats.
        edits: whether `observe` takes an edit.
        linear: whether queries are linear in what W_Q reads, without biases or rotation.
    """

    seeds: Sequence[int]
    layers: int
    heads: int
    tokens: Callable[[str, int, int], Tensor]
    plain: Callable[[int, int], Tensor] | None
    observe: Callable[[Tensor, See | None, Edit | None], Tensor]
    edits: bool
    linear: bool


def probe(model: Model, probes: Probes, T: int) -> pd.DataFrame:
    """All tables that a run requests, concatenated; the column `probe` tells them apart."""
    found = {
        "rates": probes.rates and rates(model, probes.rates),
        "switch": probes.switch and switches(model, T, probes.switch),
        "alignment": probes.alignment and alignment(model, T, probes.alignment),
        "smoothing": probes.smoothing and smoothing(model, T, probes.smoothing),
        "costs": probes.costs and costs(model, probes.costs),
        "layers": probes.layers and layers(model, T, probes.layers),
        "spread": probes.spread and spread(model, T, probes.spread),
    }
    if probes.switch and model.edits:
        found["intervention"] = interventions(model, T, probes.switch)
    tables = [table.assign(probe=name) for name, table in found.items() if table is not None]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def rates(model: Model, wanted: Rates) -> pd.DataFrame:
    """How often a head is a sink or diagonal; a head and threshold ε a row, over all texts.

    alpha1, sink_mass, alpha_max, delta, previous, entropy: means. sink_rate, any_rate, diag_rate:
    share of texts with α_1, the largest α, or δ above ε. type: of the head, by its means.
    """
    frames = []
    for kind, T in itertools.product(INPUTS, wanted.lengths):

        def look(seen: Observed) -> dict[str, Tensor]:
            A = attention.proxy(seen.A)
            return {
                "alpha1": patterns.importance(A)[..., 0],
                "sink_mass": patterns.sink_mass(A),
                "alpha_max": patterns.largest_importance(A),
                "delta": patterns.diagonal_mass(A),
                "previous": patterns.previous_mass(A),
                "entropy": patterns.entropy(A),
            }

        table = by_head(model, model.tokens(kind, T, wanted.texts), look).drop(columns="text")
        for epsilon in EPSILONS:
            above = {
                "sink_rate": (table["alpha1"] > epsilon).astype(float),
                "any_rate": (table["alpha_max"] > epsilon).astype(float),
                "diag_rate": (table["delta"] > epsilon).astype(float),
            }
            found = table.assign(**above).groupby(["seed", "layer", "head"], as_index=False).mean()
            found["type"] = patterns.head_types(
                found["alpha1"], found["delta"], found["previous"], epsilon
            )
            frames.append(found.assign(input=kind, T=T, eps=epsilon, texts=wanted.texts))
    return pd.concat(frames, ignore_index=True)


def switches(model: Model, T: int, texts: int) -> pd.DataFrame:
    """How far each head is switched off: a head a row, means over texts.

    rho_out = mean_{t>=2} |o_t|/|x_t| of the head, rho_layer of the sum over heads; value_drain,
    key_ratio and norm_ratio: norm of token 1 over the mean of the others, of values, keys and the
    residual stream.
    """

    def look(seen: Observed) -> dict[str, Tensor]:
        A = attention.proxy(seen.A)
        size = seen.residual.norm(dim=-1)
        whole = (seen.outputs.sum(2).norm(dim=-1) / size)[..., 1:].mean(-1)
        H = A.shape[2]
        return {
            "alpha1": patterns.importance(A)[..., 0],
            "delta": patterns.diagonal_mass(A),
            "previous": patterns.previous_mass(A),
            "rho_out": (seen.outputs.norm(dim=-1) / size[:, :, None])[..., 1:].mean(-1),
            "rho_layer": whole[..., None].expand(-1, -1, H),
            "value_drain": _first_over_others(seen.values),
            "key_ratio": _first_over_others(seen.k),
            "norm_ratio": _first_over_others(seen.residual)[..., None].expand(-1, -1, H),
        }

    table = by_head(model, model.tokens("natural", T, texts), look)
    return table.groupby(["seed", "layer", "head"], as_index=False).mean().drop(columns="text")


def interventions(model: Model, T: int, texts: int) -> pd.DataFrame:
    """Loss with one head changed, minus the loss; head 0 stands for all heads of the layer.

    sink: all weight on token 1; off: no output; diagonal: all weight on the token itself;
    top4: the four largest weights of each row.
    """
    tokens = model.tokens("natural", T, texts)
    before = model.observe(tokens, None, None).mean(1)
    frames = []
    for layer, head in itertools.product(range(model.layers), range(model.heads + 1)):
        for kind, change in CHANGES.items():
            edit = only(layer, [head - 1] if head else range(model.heads), change)
            after = model.observe(tokens, None, edit).mean(1)
            frames.append(
                pd.DataFrame(
                    {"seed": list(model.seeds), "dloss": (after - before).tolist()}
                ).assign(layer=layer + 1, head=head, intervention=kind)
            )
    return pd.concat(frames, ignore_index=True)


def alignment(model: Model, T: int, texts: int) -> pd.DataFrame:
    """Geometry of what W_Q, W_K read, and of queries and keys, of each head and text.

    nu: distance of 0 to the convex hull of tokens 2..T over their mean norm; cos_x: mean cosine of
    token 1 and the others; mean_ratio: norm of the mean token over the mean norm; cos_sink,
    cos_other: mean cosine of q_t and k_1, and of q_t and the other keys it sees; key_norm: |k_1|
    over the mean; margin_sink, margin_diagonal; margin_projected: that of the sink without the
    mean direction of the tokens in the queries' input, where queries are linear in it.
    """

    def look(seen: Observed) -> dict[str, Tensor]:
        H = seen.A.shape[2]
        x = seen.inputs.double()
        unit = x / x.norm(dim=-1, keepdim=True)
        others = x[..., 1:, :]
        scale = others.norm(dim=-1).mean(-1)
        distance = torch.tensor(
            [[margins.min_norm_point(text.cpu().numpy())[0] for text in member]
             for member in others], device=x.device, dtype=torch.float64,
        )  # fmt: skip
        tokens = {
            "nu": distance / scale,
            "cos_x": (unit[..., 1:, :] @ unit[..., :1, :].mT).mean((-2, -1)),
            "mean_ratio": others.mean(-2).norm(dim=-1) / scale,
        }
        angle = seen.q / seen.q.norm(dim=-1, keepdim=True)
        angle = angle @ (seen.k / seen.k.norm(dim=-1, keepdim=True)).mT
        rows = torch.arange(1, angle.shape[-1], device=x.device)
        to_others = angle.tril()[..., 1:, 1:].sum(-1) / rows
        sink, diagonal = patterns.margins(seen.logits)
        heads = {
            "cos_sink": angle[..., 1:, 0].mean(-1),
            "cos_other": to_others.mean(-1),
            "key_norm": _first_over_others(seen.k),
            "margin_sink": sink,
            "margin_diagonal": diagonal,
        }
        if model.linear:
            mean = seen.inputs.mean(-2, keepdim=True)
            along = (seen.inputs @ mean.mT) / mean.square().sum(-1, keepdim=True)
            q = seen.q - along[:, :, None] * seen.q.mean(-2, keepdim=True)
            z = q @ seen.k.mT / seen.q.shape[-1] ** 0.5
            heads["margin_projected"] = patterns.margins(z)[0]
        return {k: v[..., None].expand(-1, -1, H) for k, v in tokens.items()} | heads

    return by_head(model, model.tokens("natural", T, texts), look)


def smoothing(model: Model, T: int, texts: int) -> pd.DataFrame:
    """The effect of each head on the similarity of tokens, as it is and with other weights.

    Variants: original; dense, uniform over the prefix; top (k largest weights); temperature (τ);
    drained, where the value of token 1 is 0. S = μ(A V)/μ(V); relmu_in, relmu_out: μ over norm of
    the residual stream without and with the head's output; mean_cos, of the latter; entropy of A.
    """
    frames = []
    tokens = model.tokens("natural", T, texts)
    settings = [("original", np.nan), ("dense", np.nan), ("drained", np.nan)]
    settings += [("top", float(k)) for k in TOP] + [("temperature", tau) for tau in TEMPERATURES]
    for variant, setting in settings:

        def look(seen: Observed, variant: str = variant, setting: float = setting) -> dict:
            A, V = _changed(attention.proxy(seen.A), variant, setting), seen.values
            if variant == "drained":
                V = torch.cat([torch.zeros_like(V[..., :1, :]), V[..., 1:, :]], -2)
            x = seen.residual[:, :, None]
            after = x + A @ V
            return {
                "S": patterns.smoothing(A, V),
                "relmu_in": patterns.relative_mu(x).expand(A.shape[:3]),
                "relmu_out": patterns.relative_mu(after),
                "mean_cos": patterns.cosines(after)[0],
                "entropy": patterns.entropy(A),
            }

        table = by_head(model, tokens, look)
        frames.append(table.assign(variant=variant, setting=setting))
    return pd.concat(frames, ignore_index=True)


def costs(model: Model, wanted: Costs) -> pd.DataFrame:
    """Minimum-norm W of a sink and of a diagonal, causal with margin 1, on what each layer reads.

    A row is a pattern of a layer, text and number n of first tokens; NaN where there is no W.
    """
    rows = []
    tokens = model.tokens("natural", max(wanted.n), wanted.texts)

    def see(layer: int, seen: Observed) -> None:
        for s, text in itertools.product(range(len(model.seeds)), range(len(tokens))):
            X = seen.inputs[s, text].double().cpu().numpy()
            for n in wanted.n:
                distance, _ = margins.min_norm_point(X[1:n])
                nu = distance / np.linalg.norm(X[1:n], axis=1).mean()
                for pattern in ("sink", "diagonal"):
                    found = cost_of(X[:n], pattern, causal=True)
                    rows.append(
                        {"seed": model.seeds[s], "layer": layer + 1, "text": text + 1, "n": n,
                         "d": X.shape[1], "nu": nu, "pattern": pattern, **found}
                    )  # fmt: skip

    model.observe(tokens, see, None)
    return pd.DataFrame(rows)


def cost_of(X: np.ndarray, pattern: margins.Pattern, *, causal: bool) -> dict[str, float]:
    """Norms of the minimum-norm matrix of tokens X (n, d) at margin 1, as columns.

    feasible is 1 or 0, kkt the residual of the conditions of optimality; NaN where there is none.
    """
    found = margins.minimum_norm(X, pattern, causal=causal)
    return {
        "frobenius": found.frobenius,
        "nuclear": found.nuclear,
        "participation_rank": found.participation_rank,
        "feasible": float(found.feasible),
        "kkt": margins.kkt_residual(found, X, pattern, causal, 1.0),
    }


def likeness(X: Tensor) -> dict[str, Tensor]:
    """Similarity of tokens (..., n, d), in float64."""
    X = X.double()
    effective, smallest, second = patterns.ranks(X)
    mean, least = patterns.cosines(X)
    return {
        "mu": patterns.mu(X),
        "relmu": patterns.relative_mu(X),
        "relative_residual": patterns.relative_residual(X),
        "mean_cos": mean,
        "min_cos": least,
        "effective_rank": effective,
        "sigma_min": smallest,
        "sigma_2_over_1": second,
    }


def layers(model: Model, T: int, texts: int) -> pd.DataFrame:
    """Similarity of the tokens before each layer, in the residual stream; one row per text."""
    return _by_text(model, model.tokens("natural", T, texts), lambda seen: likeness(seen.residual))


def spread(model: Model, T: int, texts: int) -> pd.DataFrame:
    """|Δx| over the mean |x| at each layer and position after token T/4 is exchanged.

    Means over texts. `ablation`: none; no_bos, the texts without BOS where there is one; sinks,
    where the quarter of the heads with the largest α_1 is off (trained stacks only).
    """
    sources = {"none": model.tokens("natural", T, texts)}
    if model.plain is not None:
        sources["no_bos"] = model.plain(T, texts)
    if model.edits:
        sources["sinks"] = sources["none"]
    frames = []
    for ablation, tokens in sources.items():
        edit = None
        if ablation == "sinks":
            edit = only_heads(strongest_sinks(model, tokens), _off)
        changed = tokens.clone()
        place = T // 4
        # The token at this place of the next text, which is another one of the same kind.
        changed[:, place] = tokens.roll(1, 0)[:, place]
        different = changed[:, place] != tokens[:, place]
        if not different.any():
            continue
        tokens, changed = tokens[different], changed[different]
        streams = [_streams(model, given, edit) for given in (tokens, changed)]
        for layer, (a, b) in enumerate(zip(*streams, strict=True), start=1):
            moved = ((a - b).norm(dim=-1) / a.norm(dim=-1).mean(-1, keepdim=True)).mean(1)
            for s, seed in enumerate(model.seeds):
                frames.append(
                    pd.DataFrame({"delta_norm": moved[s].tolist()})
                    .assign(position=range(1, moved.shape[1] + 1))
                    .assign(seed=seed, layer=layer, ablation=ablation)
                )  # fmt: skip
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def strongest_sinks(model: Model, tokens: Tensor) -> Tensor:
    """The `ABLATED` share of the heads of each member with the largest α_1, (S, L, H) bool."""
    table = by_head(
        model, tokens, lambda seen: {"alpha1": patterns.importance(attention.proxy(seen.A))[..., 0]}
    )
    mean = table.groupby(["seed", "layer", "head"])["alpha1"].mean()
    alpha = torch.tensor(mean.to_numpy()).reshape(len(model.seeds), model.layers, model.heads)
    count = max(1, round(ABLATED * model.layers * model.heads))
    least = alpha.flatten(1).topk(count).values[:, -1]
    return alpha >= least[:, None, None]


# --------------------------------------------------------------------------------------
# Edits


def _to_first(A: Tensor) -> Tensor:
    changed = torch.zeros_like(A)
    changed[..., 0] = 1
    return changed


def _off(A: Tensor) -> Tensor:
    return torch.zeros_like(A)


def _to_itself(A: Tensor) -> Tensor:
    return torch.eye(A.shape[-1], dtype=A.dtype, device=A.device).expand_as(A)


CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "sink": _to_first,
    "off": _off,
    "diagonal": _to_itself,
    "top4": lambda A: patterns.top_weights(A, 4),
}


def only(layer: int, heads: Iterable[int], change: Callable[[Tensor], Tensor]) -> Edit:
    """An edit of some heads of one layer, of all members."""
    chosen = list(heads)

    def edit(number: int, A: Tensor) -> Tensor:
        if number != layer:
            return A
        A = A.clone()
        A[:, :, chosen] = change(A[:, :, chosen])
        return A

    return edit


def only_heads(chosen: Tensor, change: Callable[[Tensor], Tensor]) -> Edit:
    """An edit of the heads of each member that (S, L, H) says."""

    def edit(number: int, A: Tensor) -> Tensor:
        here = chosen[:, number].to(A.device)[:, None, :, None, None]
        return torch.where(here, change(A), A)

    return edit


def _changed(A: Tensor, variant: str, setting: float) -> Tensor:
    match variant:
        case "dense":
            T = A.shape[-1]
            uniform = torch.ones(T, T, device=A.device, dtype=A.dtype).tril()
            return (uniform / uniform.sum(-1, keepdim=True)).expand_as(A)
        case "top":
            return patterns.top_weights(A, int(setting))
        case "temperature":
            # softmax(z/τ) from softmax(z): powers of the weights, divided by their sum.
            return attention.proxy(A ** (1 / setting))
    return A


# --------------------------------------------------------------------------------------
# Passes


def by_head(
    model: Model, tokens: Tensor, look: Callable[[Observed], dict[str, Tensor]]
) -> pd.DataFrame:
    """Numbers (S, B, H) of each layer as a table: seed, text, layer, head and their names."""
    return _watched(model, tokens, look, ("seed", "text", "head"))


def _by_text(
    model: Model, tokens: Tensor, look: Callable[[Observed], dict[str, Tensor]]
) -> pd.DataFrame:
    """Numbers (S, B) of each layer."""
    return _watched(model, tokens, look, ("seed", "text"))


def _watched(
    model: Model,
    tokens: Tensor,
    look: Callable[[Observed], dict[str, Tensor]],
    dimensions: tuple[str, ...],
) -> pd.DataFrame:
    frames: list[pd.DataFrame] = []
    for start in range(0, len(tokens), CHUNK):

        def see(layer: int, seen: Observed, start: int = start) -> None:
            found = {name: value.double().cpu().numpy() for name, value in look(seen).items()}
            shape = next(iter(found.values())).shape
            index = np.indices(shape).reshape(len(shape), -1)
            columns = dict(zip(dimensions, index + 1, strict=True))
            columns["text"] = columns["text"] + start
            columns["seed"] = np.asarray(model.seeds)[index[0]]
            values = {name: value.reshape(-1) for name, value in found.items()}
            frames.append(pd.DataFrame({**columns, "layer": layer + 1, **values}))

        model.observe(tokens[start : start + CHUNK], see, None)
    return pd.concat(frames, ignore_index=True)


def _streams(model: Model, tokens: Tensor, edit: Edit | None) -> list[Tensor]:
    """The residual stream before each layer, each (S, B, T, d)."""
    found: list[Tensor] = []
    model.observe(tokens, lambda _, seen: found.append(seen.residual), edit)
    return found


def _first_over_others(x: Tensor) -> Tensor:
    """Norm of token 1 over the mean norm of the others, of (..., T, d)."""
    norms = x.norm(dim=-1)
    return norms[..., 0] / norms[..., 1:].mean(-1)
