"""Measures of trained decoders: how patterns emerge, and what the trained network does."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F

from replica.attention.head_probes import CHANGES, CHUNK, Model, only, probe
from replica.attention.tasks import Batch, Corpus, corpus, evenly, windows
from replica.attention.training import SEQUENCES, losses
from replica.data.prepare import load
from replica.kinds.attention import DecoderSpec, Probes, TextTask
from replica.measures import patterns
from replica.models import attention, decoder
from replica.models.attention import Observed
from replica.models.decoder import Edit, See
from replica.provenance import stream_seed
from replica.theory.margins import min_norm_point

# A row is a hard switch if its first weight is above SINK (or, if weights need not sum to 1, below
# IDLE) and its output is below SWITCHED_OFF times the mean over trigger rows.
SINK, IDLE, SWITCHED_OFF = 0.9, 0.05, 0.1
# The threshold of importance of Gu et al. 2025.
EPSILON = 0.3
NORMS = {"rms": "RMSNorm", "none": "no norm"}
# Columns of all rows of a run; and `task`, `bos`, `run`, and `start`, norm and gain in words.
FACTS = ["attention", "forbid", "residual", "mlp", "depth", "width", "heads", "context",
         "positions", "value_bias", "optimiser", "weight_decay", "batch", "steps"]  # fmt: skip


def measure_decoder(
    spec: DecoderSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path | None
) -> pd.DataFrame:
    """All probes of a run; the column `probe` tells them apart.

    Args:
        spec: the run.
        states: what `replica.attention.training.train_decoder` keeps.
        run: its full name.
        threads: CPU threads.
        card: of the text, for tasks of characters.

    Returns:
        `course`: a row each measured step and seed, for each kind of rows of a small task, of
        language models with `train_loss`, the loss on as many windows of what trains; of the last
        step `rows` for small tasks, and the tables of `replica.attention.head_probes` for language
        models; of the random start, as the null model, `rows_at_start`, `smoothing_at_start` and
        `costs_at_start`. A member that diverged has one row, `diverged`.
    """
    torch.set_num_threads(threads)
    seeds, diverged = states["seed"].tolist(), states["diverged_at"]
    alive = (diverged < 0).nonzero().flatten()
    steps = sorted({int(name.partition("/")[0]) for name in states if name[0].isdigit()})
    params = {
        step: {name.partition("/")[2]: value[alive] for name, value in states.items()
               if name.startswith(f"{step}/")}
        for step in steps
    }  # fmt: skip
    members = [seeds[i] for i in alive.tolist()]
    if spec.task.kind == "text":
        found = corpus(load(card))
        batch = windows(
            found.held_out, evenly(found.held_out, spec.context, SEQUENCES), spec, found
        )
        batch = Batch(batch.inputs[None], batch.targets[None])
        model = language_model(params[steps[-1]], spec, found, members)
        start = language_model(params[steps[0]], spec, found, members)
        untrained = Probes(smoothing=spec.probes.smoothing, costs=spec.probes.costs)
        tables = [probe(model, spec.probes, spec.context)]
        tables.append(probe(start, untrained, spec.context).pipe(_at_start))
    else:
        batch = Batch(*(states[f"held_out/{name}"][alive]
                        for name in ("inputs", "targets", "triggers")))  # fmt: skip
        tables = [
            rows_at(params[step], spec, batch, members).assign(probe=name)
            for name, step in {"rows": steps[-1], "rows_at_start": steps[0]}.items()
        ]
    course = [at_step(p, spec, batch, members).assign(step=step) for step, p in params.items()]
    if spec.task.kind == "text":
        seen = windows(found.train, evenly(found.train, spec.context, SEQUENCES), spec, found)
        seen = Batch(seen.inputs[None], seen.targets[None])
        course = [
            rows.assign(train_loss=mean_loss(p, spec, seen))
            for rows, p in zip(course, params.values(), strict=True)
        ]
    tables = [pd.concat(course, ignore_index=True).assign(probe="course"), *tables]
    if len(alive) < len(seeds):
        lost = [(seed, at) for seed, at in zip(seeds, diverged.tolist(), strict=True) if at >= 0]
        tables.append(pd.DataFrame(lost, columns=["seed", "step"]).assign(probe="diverged"))
    table = pd.concat(tables, ignore_index=True)
    facts = spec.model_dump(include=set(FACTS)) | {"run": run, "task": task_name(spec)}
    facts["bos"] = getattr(spec.task, "bos", True)
    facts["start"] = f"{NORMS[spec.norm]}, gain {spec.gain:g}"
    return table.assign(**facts)


def _at_start(table: pd.DataFrame) -> pd.DataFrame:
    """The same probes under the names of the random start; those of no probe are none."""
    return table.assign(probe=table["probe"] + "_at_start") if len(table) else table


def task_name(spec: DecoderSpec) -> str:
    """LM, TC, TW, MIX or BB, as docs/sinks.md calls them."""
    if spec.task.kind == "tokenwise":
        return "MIX" if spec.task.probability else "TW"
    return {"text": "LM", "trigger": "TC", "backcopy": "BB"}[spec.task.kind]


# --------------------------------------------------------------------------------------
# Every measured step


def at_step(
    params: decoder.State, spec: DecoderSpec, batch: Batch, seeds: list[int]
) -> pd.DataFrame:
    """Loss and patterns of a state on held-out sequences, means over layers, heads and rows t >= 2.

    `row_kind`: all; of small tasks also plain and trigger, the rows of either kind. sink_mass,
    diag_mass; sink_rate, diag_rate, the shares of heads and sequences above 0.3; rho_out; relmu of
    the residual stream before the last layer.
    """
    # A few sequences at a time: the maps of all would not fit at paper scale.
    parts = [_passed(params, spec, part) for part in batch.split(CHUNK)]
    kinds = rows_of(batch)
    frames = []
    for kind, chosen in kinds.items():
        names = ["loss", "sink_mass", "diag_mass", "rho_out"]
        if kind == "all":
            names += ["sink_rate", "diag_rate", "relmu"]
        found = {name: torch.cat([part[name] for part in parts], 1) for name in names}
        # Numbers (S, B, T) are averaged over the chosen rows, numbers (S, B) over all sequences.
        means = {
            name: _mean(value, chosen) if value.dim() == 3 else value.mean(1)
            for name, value in found.items()
        }
        columns = {name: value.tolist() for name, value in means.items()}
        frames.append(pd.DataFrame({"seed": seeds, **columns}).assign(row_kind=kind))
    return pd.concat(frames, ignore_index=True)


def mean_loss(params: decoder.State, spec: DecoderSpec, batch: Batch) -> list[float]:
    """The loss of each member on a batch, over all rows but the first, as `at_step` has it."""
    with torch.no_grad():
        parts = [losses(decoder.forward(params, spec, part.inputs), spec, part)
                 for part in batch.split(CHUNK)]  # fmt: skip
    return torch.cat(parts, 1)[..., 1:].mean((1, 2)).tolist()


def _passed(params: decoder.State, spec: DecoderSpec, batch: Batch) -> dict[str, Tensor]:
    """Numbers of each row (S, B, T), or of each sequence (S, B), means over layers and heads."""
    T = batch.inputs.shape[2]
    sums: dict[str, Tensor] = {}
    last: dict[str, Tensor] = {}

    def see(number: int, seen: Observed) -> None:
        A = attention.proxy(seen.A)
        size = seen.residual.norm(dim=-1).clamp(min=1e-12)
        rows = {
            "sink_mass": A[..., 0].mean(2),
            "diag_mass": A.diagonal(dim1=-2, dim2=-1).mean(2),
            "rho_out": (seen.outputs.norm(dim=-1) / size[:, :, None]).mean(2),
        }
        # A learned sink token stands before the rows of the batch.
        found = {name: value[..., -T:] for name, value in rows.items()}
        alpha, delta = patterns.importance(A)[..., 0], patterns.diagonal_mass(A)
        for name, value in [("sink_rate", alpha), ("diag_rate", delta)]:
            found[name] = (value > EPSILON).double().mean(2)
        for name, value in found.items():
            sums[name] = sums.get(name, 0.0) + value / spec.depth
        last["relmu"] = patterns.relative_mu(seen.residual)

    with torch.no_grad():
        out = decoder.forward(params, spec, batch.inputs, see=see)
        return {"loss": losses(out, spec, batch), **sums, **last}


def rows_of(batch: Batch) -> dict[str, Tensor]:
    """Which rows (S, B, T) are of each kind; the first one is of none."""
    every = torch.ones(batch.inputs.shape[:3], dtype=torch.bool)
    every[..., 0] = False
    if batch.triggers is None or not batch.triggers.any():
        return {"all": every}
    return {"all": every, "plain": every & ~batch.triggers, "trigger": batch.triggers}


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen rows of each member, (S,)."""
    chosen = chosen.expand(values.shape)
    return (values * chosen).sum((1, 2)) / chosen.sum((1, 2))


# --------------------------------------------------------------------------------------
# Small tasks at the end


def rows_at(
    params: decoder.State, spec: DecoderSpec, batch: Batch, seeds: list[int]
) -> pd.DataFrame:
    """What the first layer does, one row per seed and kind of rows; means over heads.

    sink_mass, diag_mass: of the weights, divided by the sum of their row; row_sum: that sum;
    first_weight: A_t1 as it is.
    out_norm, rho_out: mean |o_t| and |o_t|/|x_t|; out_ratio: |o_t| over its mean on trigger rows.
    switched, idle: share of rows with an out_ratio below 0.1 and a first weight above 0.9, or below
    0.05. With a learned sink token the first weight is the one on it; a learned key is left out of
    all weights.
    out_var: trace of the covariance of o_t over that of trigger rows. r2_self: R² of o_t regressed
    on the tokens. loss, and what is added to it by all weights on the diagonal (dloss_diag), by no
    output of the attention (dloss_off), and by the best affine map of the own token in place of the
    output (dloss_own, of softmax only); zero_loss: that of outputs of 0 of the network. sinks: the
    sequences whose rows all have a positive margin of the sink (first head); sinks_at_zero: those
    of them in which 0 is in the convex hull of the rows' tokens.
    """
    found: list[Observed] = []

    def see(number: int, seen: Observed) -> None:
        if number == 0:
            found.append(seen)

    with torch.no_grad():
        out = decoder.forward(params, spec, batch.inputs, see=see)
    (seen,) = found
    kinds = rows_of(batch)
    reference = kinds.get("trigger", kinds["all"])
    by_row = _of_rows(params, spec, batch, seen, out, reference)
    frames = []
    for kind, chosen in kinds.items():
        values = {name: _mean(value, chosen).tolist() for name, value in by_row.items()}
        if spec.attention == "softmax":
            own = token_wise(params, seen, _outputs(seen, batch), chosen)
            added = _loss_with(own, spec, batch, "diagonal") - by_row["loss"]
            values["dloss_own"] = _mean(added, chosen).tolist()
        members = pd.DataFrame(
            [_of_member(seen, batch, s, chosen[s], reference[s]) for s in range(len(seeds))]
        )
        frames.append(pd.DataFrame({"seed": seeds, **values}).join(members).assign(row_kind=kind))
    return pd.concat(frames, ignore_index=True)


def _outputs(seen: Observed, batch: Batch) -> Tensor:
    """Outputs o_t of the layer, summed over its heads, (S, B, T, d); none of a learned sink."""
    return seen.outputs.sum(2)[..., -batch.inputs.shape[2] :, :]


def _loss_with(params: decoder.State, spec: DecoderSpec, batch: Batch, change: str) -> Tensor:
    """Loss of each row (S, B, T) where the weights of the whole first layer are changed."""
    edit = only(0, range(spec.heads), CHANGES[change])
    with torch.no_grad():
        return losses(decoder.forward(params, spec, batch.inputs, edit=edit), spec, batch)


def _of_rows(
    params: decoder.State,
    spec: DecoderSpec,
    batch: Batch,
    seen: Observed,
    out: Tensor,
    reference: Tensor,
) -> dict[str, Tensor]:
    """The numbers of `rows_at` that each row (S, B, T) has; `reference` are the trigger rows."""
    lost = losses(out, spec, batch)
    shift = seen.A.shape[-1] - batch.inputs.shape[2]
    A = attention.proxy(seen.A)
    first = seen.A[..., 0].mean(2)[..., shift:]
    size = _outputs(seen, batch).norm(dim=-1)
    ratio = size / _mean(size, reference)[:, None, None]
    found = {
        "sink_mass": A[..., 0].mean(2)[..., shift:],
        "diag_mass": A.diagonal(dim1=-2, dim2=-1).mean(2)[..., shift:],
        "row_sum": seen.A.sum(-1).mean(2)[..., shift:],
        "first_weight": first,
        "out_norm": size,
        "rho_out": size / seen.residual[..., shift:, :].norm(dim=-1).clamp(min=1e-12),
        "loss": lost,
        "dloss_diag": _loss_with(params, spec, batch, "diagonal") - lost,
        "dloss_off": _loss_with(params, spec, batch, "off") - lost,
    }
    if not spec.of_tokens:
        found["zero_loss"] = losses(torch.zeros_like(out), spec, batch)
    return found | {
        "out_ratio": ratio,
        "switched": ((first > SINK) & (ratio < SWITCHED_OFF)).double(),
        "idle": ((first < IDLE) & (ratio < SWITCHED_OFF)).double(),
    }


def _of_member(
    seen: Observed, batch: Batch, s: int, chosen: Tensor, reference: Tensor
) -> dict[str, float]:
    """The numbers of `rows_at` that all chosen rows (B, T) of one member have together."""
    T = batch.inputs.shape[2]
    o = _outputs(seen, batch)[s]
    tokens = seen.inputs[s][:, -T:][chosen]
    return {
        "out_var": _variance(o[chosen]) / _variance(o[reference]),
        "r2_self": explained(tokens, o[chosen]),
        **_alignment(seen, s, chosen, seen.A.shape[-1] - T),
    }


def affine(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """The best affine map (a + 1, b) from rows x (n, a) to rows y (n, b), and its residuals."""
    X = np.column_stack([x.double().numpy(), np.ones(len(x))])
    Y = y.double().numpy()
    W = np.linalg.lstsq(X, Y)[0]
    return W, Y - X @ W


def explained(x: Tensor, y: Tensor) -> float:
    """R² of the best affine map from rows x (n, a) to rows y (n, b); NaN where y does not vary."""
    total = (y.double() - y.double().mean(0)).square().sum().item()
    return float(1 - (affine(x, y)[1] ** 2).sum() / total) if total else float("nan")


def token_wise(params: decoder.State, seen: Observed, o: Tensor, chosen: Tensor) -> decoder.State:
    """Parameters whose first layer gives with A = I the best affine map of the own token.

    Values are the map, W_O the identity: x_t -> x_t M + c, fitted to the outputs of chosen rows.

    Args:
        params: of the network, S members.
        seen: of its first layer.
        o: outputs of that layer, (S, B, T, b).
        chosen: rows (S, B, T).
    """
    QKV, O = params["QKV"].clone(), params["O"].clone()
    d, b = O.shape[-2:]
    bias = params.get("value_bias", torch.zeros(QKV.shape[:-1], dtype=QKV.dtype)).clone()
    for s in range(len(QKV)):
        rows = chosen[s].flatten()
        W, _ = affine(seen.inputs[s].flatten(0, 1)[rows], o[s].flatten(0, 1)[rows])
        fitted = torch.zeros(d + 1, d, dtype=QKV.dtype)
        fitted[:, :b] = torch.from_numpy(W)
        QKV[s, 0, :, 2 * d :], bias[s, 0] = fitted[:-1], fitted[-1]
        O[s, 0] = torch.eye(d, b)
    return {**params, "QKV": QKV, "O": O, "value_bias": bias}


def _variance(x: Tensor) -> float:
    return float(x.double().var(0).sum())


def _alignment(seen: Observed, s: int, chosen: Tensor, shift: int) -> dict[str, float]:
    """Sequences of one member whose chosen rows all are sinks, and those that contradict D2."""
    z, sinks, at_zero = seen.logits[s, :, 0], 0, 0
    T = z.shape[-1]
    others = torch.ones(T, T, dtype=torch.bool).tril()
    others[:, 0] = False
    ahead = z[..., 0] - z.masked_fill(~others, -torch.inf).amax(-1)
    for text, rows in enumerate(chosen):
        if rows.any() and (ahead[text][shift:][rows] > 0).all():
            sinks += 1
            tokens = seen.inputs[s, text][shift:][rows].double().numpy()
            at_zero += min_norm_point(tokens)[0] == 0
    return {"sinks": sinks, "sinks_at_zero": at_zero}


# --------------------------------------------------------------------------------------
# Language models at the end


def language_model(
    params: decoder.State, spec: DecoderSpec, found: Corpus, seeds: list[int]
) -> Model:
    """A stack of decoders as the probes of `head_probes` see it; texts are held-out windows."""

    def tokens(kind: str, T: int, count: int) -> Tensor:
        cut = spec.model_copy(update={"context": T})
        natural = windows(found.held_out, evenly(found.held_out, T, count), cut, found).inputs
        first = natural[:, : int(spec.task.bos)]
        generator = torch.Generator().manual_seed(stream_seed("probes", kind, T))
        drawn = torch.randint(
            len(found.characters), (count, 1 if kind == "repeated" else T), generator=generator
        )
        others = {"natural": natural[:, first.shape[1] :], "random": drawn,
                  "repeated": drawn.expand(-1, T)}[kind]  # fmt: skip
        return torch.cat([first, others], 1)[:, :T]

    def plain(T: int, count: int) -> Tensor:
        cut = spec.model_copy(update={"context": T, "task": TextTask(kind="text", bos=False)})
        return windows(found.held_out, evenly(found.held_out, T, count), cut, found).inputs

    def observe(given: Tensor, see: See | None, edit: Edit | None) -> Tensor:
        with torch.no_grad():
            out = decoder.forward(params, spec, given[None], see=see, edit=edit)[:, :, :-1]
        targets = given[None, :, 1:].expand(out.shape[:-1])
        lost = F.cross_entropy(out.flatten(0, 2), targets.flatten(), reduction="none")
        return lost.unflatten(0, targets.shape).mean(-1)

    linear = spec.positions != "rotary"
    without_bos = plain if spec.task.bos else None
    return Model(seeds, spec.depth, spec.heads, tokens, without_bos, observe, True, linear)
