"""Probes equal a direct computation, and measures say what a network made by hand does."""

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from torch.nn import functional as F

from replica.attention import head_probes, synthetic
from replica.attention.measures import (
    at_step,
    explained,
    language_model,
    measure_decoder,
    rows_at,
    rows_of,
)
from replica.attention.tasks import Batch, Corpus, corpus, evenly, vectors, windows
from replica.attention.training import SEQUENCES, train_decoder
from replica.data.prepare import load, prepare_dataset
from replica.data.registry import load_registry
from replica.kinds.attention import Costs, Rates
from replica.measures import patterns
from replica.measures.tables import measure_table
from replica.models import attention, decoder
from replica.settings.validation import validate_run
from replica.tables import packed, unpacked
from replica.theory import margins, sinks
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

ALL = {"rates": {"texts": 4, "lengths": [6, 12]}, "switch": 3, "alignment": 3, "smoothing": 3,
       "costs": {"texts": 2, "n": [3, 5]}, "layers": 3, "spread": 3}  # fmt: skip


def spec_of(**changes):
    values = {
        "kind": "decoder", "task": {"kind": "text"}, "dataset": "topics", "context": 12, "depth": 3,
        "width": 8, "heads": 2, "mlp": 2, "positions": "learned", "lr": 0.01, "weight_decay": 0.01,
        "batch": 4, "steps": 4, "every": 2, "gain": 1.0, "seeds": 2, "probes": ALL,
    }  # fmt: skip
    return validate_run(values | changes, "a run")


@pytest.fixture(scope="module")
def card(root, tmp_path_factory):
    registry = load_registry(root / "config/datasets.yaml")
    folder = tmp_path_factory.mktemp("prepared")
    return prepare_dataset(registry["topics"], folder, folder / "topics")


@pytest.fixture(scope="module")
def text():
    """A text of 20 characters, and parameters with everything away from its start."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(20, (4000,), generator=generator)
    return Corpus("abcdefghijklmnopqrst", numbers[:3000], numbers[3000:])


def model_of(spec, text, seeds=(0, 1)):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    params = decoder.initialise(spec, 21, 21, generators, torch.float64)
    return params, language_model(params, spec, text, list(seeds))


def maps(params, spec, tokens):
    """All that is seen of a pass, layer by layer."""
    seen = {}
    decoder.forward(params, spec, tokens[None], see=seen.__setitem__)
    return seen


def row(table, **values):
    for name, value in values.items():
        table = table[table[name] == value]
    assert len(table) == 1
    return table.iloc[0]


# ----------------------------------------------------------------- language models


def test_tokens_are_of_their_kind(text):
    _, model = model_of(spec_of(), text)
    natural, drawn, repeated = (model.tokens(kind, 12, 5) for kind in head_probes.INPUTS)
    assert all(
        x.shape == (5, 12) and (x[:, 0] == text.bos).all() for x in (natural, drawn, repeated)
    )
    held_out = "".join(map(chr, text.held_out))
    assert all("".join(map(chr, x[1:])) in held_out for x in natural.tolist())
    assert (repeated[:, 1:] == repeated[:, 1:2]).all() and len(repeated[:, 1].unique()) > 1
    assert not torch.equal(drawn, natural) and drawn[:, 1:].max() < text.bos
    assert torch.equal(drawn, model.tokens("random", 12, 5))
    plain = model.plain(12, 5)
    assert (plain < text.bos).all() and torch.equal(plain[:, :11], natural[:, 1:])


def test_rates_count_texts_above_the_thresholds(text):
    spec = spec_of(attention="relu")
    params, model = model_of(spec, text)
    table = head_probes.rates(model, Rates(texts=30, lengths=[6, 12]))
    assert len(table) == 3 * 2 * 5 * 2 * 3 * 2
    A = maps(params, spec, model.tokens("random", 12, 30))[1].A[1, :, 0]
    A = A / A.sum(-1, keepdim=True).clamp(min=1e-300)
    alpha = torch.stack([sum(A[:, t, 0] for t in range(12)) / 12]).squeeze(0)
    delta = torch.stack([A[:, t, t] for t in range(1, 12)]).mean(0)
    for epsilon in head_probes.EPSILONS:
        found = row(table, input="random", T=12, layer=2, head=1, seed=1, eps=epsilon)
        assert found["alpha1"] == pytest.approx(alpha.mean().item())
        assert found["sink_rate"] == pytest.approx((alpha > epsilon).double().mean().item())
        assert found["diag_rate"] == pytest.approx((delta > epsilon).double().mean().item())


def test_switches_are_norms_of_outputs(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.switches(model, 12, 5)
    seen = maps(params, spec, model.tokens("natural", 12, 5))[2]
    # Output of head 2 by its own rows of W_O.
    own = params["O"][:, 2, 4:]
    o = torch.einsum("sbtj,sbjc,scd->sbtd", seen.A[:, :, 1], seen.v[:, :, 1], own)
    rho = (o.norm(dim=-1) / seen.residual.norm(dim=-1))[:, :, 1:].mean((1, 2))
    found = row(table, seed=0, layer=3, head=2)
    assert found["rho_out"] == pytest.approx(rho[0].item())
    whole = (seen.outputs.sum(2).norm(dim=-1) / seen.residual.norm(dim=-1))[0, :, 1:].mean()
    assert found["rho_layer"] == pytest.approx(whole.item())
    v = torch.einsum("sbjc,scd->sbjd", seen.v[:, :, 1], own)[0].norm(dim=-1)
    assert found["value_drain"] == pytest.approx((v[:, 0] / v[:, 1:].mean(1)).mean().item())


def test_interventions_change_one_head_or_a_layer(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.interventions(model, 12, 4)
    assert len(table) == 3 * 3 * 4 * 2
    tokens = model.tokens("natural", 12, 4)

    def lost(p):
        out = decoder.forward(p, spec, tokens[None])[:, :, :-1]
        targets = tokens[None, :, 1:].expand(2, -1, -1)
        return F.cross_entropy(out.flatten(0, 2), targets.flatten(), reduction="none").unflatten(
            0, targets.shape
        ).mean((1, 2))  # fmt: skip

    # A head is off where its rows of W_O are zero.
    changed = {name: value.clone() for name, value in params.items()}
    changed["O"][:, 1, :4] = 0
    wanted = (lost(changed) - lost(params))[1].item()
    found = row(table, seed=1, layer=2, head=1, intervention="off")["dloss"]
    assert found == pytest.approx(wanted, abs=1e-12)
    # All four, for a head of a layer and for the whole of it, by the weights that they say.
    for head, chosen in [(2, [1]), (0, [0, 1])]:
        for kind in head_probes.CHANGES:

            def edit(number, A, kind=kind, chosen=chosen):
                A = A.clone()
                for h in chosen if number == 2 else []:
                    for t in range(12):
                        w = A[:, :, h, t].clone()
                        A[:, :, h, t] = 0
                        if kind == "sink":
                            A[:, :, h, t, 0] = 1
                        elif kind == "diagonal":
                            A[:, :, h, t, t] = 1
                        elif kind == "top4":
                            least = w.sort(-1).values[..., -4:-3]
                            kept = torch.where(w >= least, w, 0.0)
                            A[:, :, h, t] = kept / kept.sum(-1, keepdim=True)
                return A

            found = row(table, seed=1, layer=3, head=head, intervention=kind)["dloss"]
            after = model.observe(tokens, None, edit).mean(1)
            wanted = (after - model.observe(tokens, None, None).mean(1))[1].item()
            assert found == pytest.approx(wanted, abs=1e-12), (kind, head)
    changed["O"][:, 1] = 0
    wanted = (lost(changed) - lost(params))[0].item()
    found = row(table, seed=0, layer=2, head=0, intervention="off")["dloss"]
    assert found == pytest.approx(wanted, abs=1e-12)
    assert (table.groupby("intervention")["dloss"].std() > 0).all()


def test_alignment_is_that_of_each_text(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.alignment(model, 12, 4)
    tokens = model.tokens("natural", 12, 4)
    seen = maps(params, spec, tokens)[1]
    found = row(table, seed=1, layer=2, head=2, text=3)
    x = seen.inputs[1, 2].numpy()
    distance, _ = margins.min_norm_point(x[1:])
    assert found["nu"] == pytest.approx(distance / np.linalg.norm(x[1:], axis=1).mean(), abs=1e-9)
    cosines = [x[t] @ x[0] / np.linalg.norm(x[t]) / np.linalg.norm(x[0]) for t in range(1, 12)]
    assert found["cos_x"] == pytest.approx(np.mean(cosines))
    q, k = seen.q[1, 2, 1].numpy(), seen.k[1, 2, 1].numpy()
    cosine = lambda a, b: a @ b / np.linalg.norm(a) / np.linalg.norm(b)  # noqa: E731
    sink = np.mean([cosine(q[t], k[0]) for t in range(1, 12)])
    other = np.mean([np.mean([cosine(q[t], k[j]) for j in range(1, t + 1)]) for t in range(1, 12)])
    assert found["cos_sink"] == pytest.approx(sink) and found["cos_other"] == pytest.approx(other)
    z = q @ k.T / 2
    wanted = min(z[t, 0] - z[t, 1 : t + 1].max() for t in range(1, 12))
    assert found["margin_sink"] == pytest.approx(wanted)
    # Without the mean direction in what W_Q reads, by W_Q itself.
    mean = x.mean(0)
    left = x - np.outer(x @ mean, mean) / (mean @ mean)
    q = left @ params["QKV"][1, 1, :, 4:8].numpy()
    z = q @ k.T / 2
    wanted = min(z[t, 0] - z[t, 1 : t + 1].max() for t in range(1, 12))
    assert found["margin_projected"] == pytest.approx(wanted)


def test_rotated_queries_are_not_linear_and_have_no_projected_margin(text):
    _, model = model_of(spec_of(positions="rotary"), text)
    assert "margin_projected" not in head_probes.alignment(model, 12, 2)


def test_smoothing_variants(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.smoothing(model, 12, 3)
    assert len(table) == 11 * 2 * 3 * 2 * 3
    seen = maps(params, spec, model.tokens("natural", 12, 3))[0]
    A, V, x = seen.A[1, 1, 1].numpy(), seen.values[1, 1, 1].numpy(), seen.residual[1, 1].numpy()

    def likeness(Y):
        return np.linalg.norm(Y - Y.mean(0)) / np.linalg.norm(Y)

    drained = V.copy()
    drained[0] = 0
    kept = np.where(A >= np.sort(A, axis=1)[:, -4:-3], A, 0)
    cold = A**2 / (A**2).sum(1, keepdims=True)
    cases = {("original", None): (A, V), ("dense", None): (sinks.causal_uniform(12), V),
             ("drained", None): (A, drained),
             ("top", 4.0): (kept / kept.sum(1, keepdims=True), V), ("temperature", 0.5): (cold, V)}  # fmt: skip
    for (variant, setting), (B, W) in cases.items():
        own = table if setting is None else table[table["setting"] == setting]
        found = row(own, variant=variant, seed=1, layer=1, head=2, text=2)
        assert found["relmu_out"] == pytest.approx(likeness(x + B @ W)), variant
        assert found["relmu_in"] == pytest.approx(likeness(x))
        ratio = np.linalg.norm(B @ W - (B @ W).mean(0)) / np.linalg.norm(W - W.mean(0))
        assert found["S"] == pytest.approx(ratio)


def test_costs_are_those_of_the_tokens_that_a_layer_reads(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.costs(model, Costs(texts=2, n=[3, 5]))
    assert len(table) == 2 * 3 * 2 * 2 * 2
    X = maps(params, spec, model.tokens("natural", 5, 2))[2].inputs[0, 1].numpy()
    for n, pattern in itertools.product((3, 5), ("sink", "diagonal")):
        found = row(table, seed=0, layer=3, text=2, n=n, pattern=pattern)
        direct = margins.minimum_norm(X[:n], pattern, causal=True)
        assert found["frobenius"] == pytest.approx(direct.frobenius, nan_ok=True)
        assert found["nuclear"] == pytest.approx(direct.nuclear, nan_ok=True)
        assert not direct.feasible or found["kkt"] < 1e-8


def test_a_changed_token_reaches_only_what_comes_after(text):
    _, model = model_of(spec_of(), text)
    table = head_probes.spread(model, 12, 8)
    assert set(table["ablation"]) == {"none", "no_bos", "sinks"}
    before = table[table["position"] <= 3]
    assert (before["delta_norm"] == 0).all()
    first = table[table["layer"] == 1]
    # Before the first layer the token itself has changed, and nothing else.
    assert ((first["delta_norm"] > 0) == (first["position"] == 4)).all()
    assert (table[(table["layer"] == 3) & (table["position"] >= 4)]["delta_norm"] > 0).all()


def test_without_bos_there_is_no_text_to_take_it_from(text):
    _, model = model_of(spec_of(task={"kind": "text", "bos": False}), text)
    assert model.plain is None
    assert set(head_probes.spread(model, 12, 4)["ablation"]) == {"none", "sinks"}


def test_the_ablation_of_sinks_switches_those_heads_off(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    tokens = model.tokens("natural", 12, 8)
    chosen = head_probes.strongest_sinks(model, tokens)
    changed = {name: value.clone() for name, value in params.items()}
    for s, l, h in chosen.nonzero().tolist():
        changed["O"][s, l, 4 * h : 4 * h + 4] = 0
    other = tokens.clone()
    other[:, 3] = tokens.roll(1, 0)[:, 3]
    different = other[:, 3] != tokens[:, 3]
    streams = [maps(changed, spec, x[different])[2].residual for x in (tokens, other)]
    moved = (streams[0] - streams[1]).norm(dim=-1)
    moved = (moved / streams[0].norm(dim=-1).mean(-1, keepdim=True)).mean(1)
    table = head_probes.spread(model, 12, 8)
    found = table[(table["ablation"] == "sinks") & (table["layer"] == 3) & (table["seed"] == 1)]
    assert found["delta_norm"].tolist() == pytest.approx(moved[1].tolist())


def test_likeness_of_layers_is_that_of_the_residual_stream(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    table = head_probes.layers(model, 12, 4)
    X = maps(params, spec, model.tokens("natural", 12, 4))[2].residual[0, 3].numpy()
    found = row(table, seed=0, layer=3, text=4)
    centred = X - X.mean(0)
    assert found["mu"] == pytest.approx(np.linalg.norm(centred))
    assert found["relmu"] == pytest.approx(np.linalg.norm(centred) / np.linalg.norm(X))
    sigma = np.linalg.svd(X, compute_uv=False)
    share = sigma / sigma.sum()
    assert found["effective_rank"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))


def test_the_strongest_sinks_are_those_of_each_member(text):
    spec = spec_of()
    params, model = model_of(spec, text)
    tokens = model.tokens("natural", 12, 4)
    chosen = head_probes.strongest_sinks(model, tokens)
    seen = maps(params, spec, tokens)
    alpha = torch.stack([patterns.importance(seen[l].A)[..., 0].mean(1) for l in range(3)], 1)
    assert chosen.shape == (2, 3, 2) and (chosen.sum((1, 2)) == 2).all()
    assert (alpha[chosen].reshape(2, 2).amin(1) >= alpha[~chosen].reshape(2, 4).amax(1)).all()


def test_texts_are_probed_in_parts_without_a_difference(text, monkeypatch):
    _, model = model_of(spec_of(), text)
    whole = head_probes.rates(model, Rates(texts=7, lengths=[12]))
    monkeypatch.setattr(head_probes, "CHUNK", 3)
    parts = head_probes.rates(model, Rates(texts=7, lengths=[12]))
    pd.testing.assert_frame_equal(whole, parts)


@pytest.mark.slow
def test_a_run_has_all_its_probes_and_a_course(card):
    spec = spec_of()
    job = Job("sinks", "run", (0, 1), Checkpoint(None), torch.device("cpu"), 1, card=card)
    states = train_decoder(spec, job).states
    table = measure_decoder(spec, states, run="run", threads=1, card=card)
    every = {
        "rates",
        "switch",
        "intervention",
        "alignment",
        "smoothing",
        "costs",
        "layers",
        "spread",
    }
    every |= {"course", "smoothing_at_start", "costs_at_start"}
    assert set(table["probe"]) == every and (table["task"] == "LM").all()
    course = table[table["probe"] == "course"]
    assert sorted(course["step"].unique()) == [0, 2, 4] and set(course["seed"]) == {0, 1}
    # Beside the held-out loss, that on the text which trains.
    found = corpus(load(card))
    seen = windows(found.train, evenly(found.train, spec.context, SEQUENCES), spec, found)
    last = {k.partition("/")[2]: v[1:] for k, v in states.items() if k[:2] == "4/"}
    out = decoder.forward(last, spec, seen.inputs[None])
    wanted = F.cross_entropy(out[0, :, 1:].flatten(0, 1), seen.targets[:, 1:].flatten()).item()
    assert row(course, seed=1, step=4)["train_loss"] == pytest.approx(wanted, rel=1e-5)
    # A member that diverged has a row that says so, and is nowhere else.
    states["diverged_at"] = torch.tensor([-1, 3])
    table = measure_decoder(spec, states, run="run", threads=1, card=card)
    lost = table[table["seed"] == 1]
    assert lost["probe"].tolist() == ["diverged"] and lost["step"].tolist() == [3]


# ----------------------------------------------------------------- small tasks


def switch_by_hand(sharpness=60.0):
    """One head on (content, BOS, trigger, other): plain rows see BOS, triggers all others."""
    values = {
        "kind": "decoder", "task": {"kind": "trigger", "content": 2, "probability": 0.3},
        "context": 12, "depth": 1, "width": 5, "heads": 1, "mlp": 0, "residual": False, "norm": "none",
        "positions": "none", "lr": 0.01, "weight_decay": 0.01, "batch": 4, "steps": 4, "every": 4,
        "gain": 1.0, "seeds": 1,
    }  # fmt: skip
    spec = validate_run(values, "by hand")
    Q, K, V = torch.zeros(5, 5), torch.zeros(5, 5), torch.zeros(5, 5)
    # Query: 1 of plain rows, -1 of triggers. Key: of BOS. The value of BOS, content 0, is 0.
    Q[4, 0], Q[3, 0] = 1, -2
    K[2, 0] = sharpness * 5**0.5
    V[0, 0] = V[1, 1] = 1
    params = {
        "embedding": torch.eye(5)[None], "QKV": torch.cat([Q, K, V], 1)[None, None],
        "O": torch.eye(5)[None, None, :, :2],
    }  # fmt: skip
    batch = vectors(spec.task, 12, 64, torch.Generator().manual_seed(0), None)
    batch = Batch(batch.inputs[None], batch.targets[None], batch.triggers[None])
    return spec, params, batch


def test_a_hard_switch_made_by_hand_is_found():
    spec, params, batch = switch_by_hand()
    states = {f"{step}/{name}": value for name, value in params.items() for step in (0, 4)}
    states |= {"held_out/inputs": batch.inputs, "held_out/targets": batch.targets,
               "held_out/triggers": batch.triggers, "seed": torch.tensor([7]),
               "diverged_at": torch.tensor([-1])}  # fmt: skip
    table = measure_decoder(spec, states, run="tc", threads=1, card=None)
    rows = table[table["probe"] == "rows"]
    plain, trigger = row(rows, row_kind="plain"), row(rows, row_kind="trigger")
    assert plain["sink_mass"] == pytest.approx(1) and trigger["sink_mass"] < 1e-6
    assert plain["switched"] == 1 and plain["out_ratio"] < 1e-6 and plain["out_var"] < 1e-9
    assert trigger["out_ratio"] == pytest.approx(1) and trigger["switched"] == 0
    assert plain["idle"] == 0 and plain["row_sum"] == pytest.approx(1)
    # All plain rows of all sequences are sinks; the constant coordinate keeps 0 out of the hull.
    assert plain["sinks"] == 64 and plain["sinks_at_zero"] == 0
    # A trigger gives the mean of all contents with its own: not far from the target, and off on plain
    # rows, while the diagonal is wrong everywhere.
    course = row(table[table["probe"] == "course"], row_kind="plain", step=4)
    assert course["loss"] < 1e-9 < 0.5 < plain["dloss_diag"]
    assert course["sink_mass"] == pytest.approx(1)


def test_without_sharpness_there_is_no_switch():
    spec, params, batch = switch_by_hand(sharpness=0.0)
    plain = row(rows_at(params, spec, batch, [0]), row_kind="plain")
    harmonic = np.mean([1 / t for t in range(2, 13)])
    assert plain["switched"] == 0 and plain["sinks"] == 0
    assert plain["sink_mass"] == pytest.approx(harmonic, abs=0.05)
    assert plain["diag_mass"] == pytest.approx(plain["sink_mass"], abs=1e-6)


def test_the_layer_is_taken_away_or_made_a_map_of_the_own_token():
    spec, params, batch = switch_by_hand(sharpness=1.0)
    plain = row(rows_at(params, spec, batch, [0]), row_kind="plain")
    seen = {}
    out = decoder.forward(params, spec, batch.inputs, see=seen.__setitem__)
    # Of an attention alone the output is that of the network.
    assert torch.equal(out, seen[0].outputs.sum(2))
    chosen = rows_of(batch)["plain"]
    X, o, y = batch.inputs[chosen].numpy(), out[chosen].numpy(), batch.targets[chosen].numpy()
    X = np.column_stack([X, np.ones(len(X))])
    fitted = X @ np.linalg.lstsq(X, o)[0]
    loss = np.square(o - y).mean()
    assert plain["loss"] == pytest.approx(loss, rel=1e-4)
    assert plain["dloss_off"] == pytest.approx(np.square(y).mean() - loss, rel=1e-4)
    assert plain["dloss_own"] == pytest.approx(np.square(fitted - y).mean() - loss, rel=1e-3)


def test_a_layer_whose_output_is_a_map_of_the_own_token_is_kept_by_it():
    values = {
        "kind": "decoder", "task": {"kind": "tokenwise", "content": 3, "norm": 2}, "context": 8,
        "depth": 1, "width": 6, "heads": 2, "mlp": 2, "positions": "none", "lr": 0.01, "norm": "rms",
        "weight_decay": 0.01, "batch": 4, "steps": 4, "every": 4, "gain": 1.0, "seeds": 2,
    }  # fmt: skip
    spec = validate_run(values, "own token")
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    params = decoder.initialise(spec, 6, 3, generators)
    batch = [vectors(spec.task, 8, 40, g, torch.randn(3, 3, generator=g)) for g in generators]
    batch = Batch(*(torch.stack([getattr(b, name) for b in batch])
                    for name in ("inputs", "targets", "triggers")))  # fmt: skip
    mixing = rows_at(params, spec, batch, [0, 1])
    assert (mixing["dloss_own"].abs() > 1e-4).any() and (mixing["dloss_off"].abs() > 1e-3).any()
    # All weight on the own token: queries and keys are the tokens, scaled up.
    sharp = params["QKV"].clone()
    embedding = torch.zeros(6, 6)
    embedding[:3, :3] = embedding[:3, 3:] = torch.eye(3)
    sharp[:, 0, :, :6] = sharp[:, 0, :, 6:12] = 40 * torch.eye(6)
    own = {**params, "QKV": sharp, "embedding": embedding.expand(2, 6, 6)}
    found = rows_at(own, spec, batch, [0, 1])
    assert (found["diag_mass"] > 0.95).all() and (found["r2_self"] > 0.95).all()
    assert (found["dloss_own"].abs() < 0.1 * found["dloss_off"].abs()).all()


def test_a_switch_that_is_idle_sees_nobody():
    spec, params, batch = switch_by_hand()
    # ReLU: plain rows have logits of 0 or less for all but BOS, whose key is turned around.
    spec = spec.model_copy(update={"attention": "relu"})
    params["QKV"] = params["QKV"].clone()
    params["QKV"][0, 0, 2, 5] *= -1
    params["QKV"][0, 0, 3, 1], params["QKV"][0, 0, 4, 6] = 1, 1
    plain = row(rows_at(params, spec, batch, [0]), row_kind="plain")
    assert plain["idle"] == 1 and plain["switched"] == 0 and plain["row_sum"] == 0
    trigger = row(rows_at(params, spec, batch, [0]), row_kind="trigger")
    assert trigger["row_sum"] > 0.1 and trigger["out_norm"] > 0.1


@pytest.mark.parametrize("variant", ["softmax", "sink_token", "key_value_bias"])
def test_numbers_of_rows_are_those_of_loops(variant):
    values = {
        "kind": "decoder", "task": {"kind": "tokenwise", "content": 3, "norm": 2, "probability": 0.3},
        "context": 8, "depth": 2, "width": 6, "heads": 2, "mlp": 2, "positions": "none", "lr": 0.01,
        "weight_decay": 0.01, "batch": 4, "steps": 4, "every": 4, "gain": 1.5, "seeds": 2,
        "attention": variant,
    }  # fmt: skip
    spec = validate_run(values, "loops")
    generators = [torch.Generator().manual_seed(seed) for seed in (0, 1)]
    params = decoder.initialise(spec, 6, 3, generators, torch.float64)
    parts = [vectors(spec.task, 8, 60, g, torch.randn(3, 3, generator=g)) for g in generators]
    batch = Batch(torch.stack([p.inputs for p in parts]).double(),
                  torch.stack([p.targets for p in parts]).double(),
                  torch.stack([p.triggers for p in parts]))  # fmt: skip
    seen = {}
    out = decoder.forward(params, spec, batch.inputs, see=seen.__setitem__)
    lost = (out - batch.targets).square().mean(-1)
    shift = int(variant == "sink_token")
    rows = [(b, t) for b in range(60) for t in range(1, 8) if not batch.triggers[1, b, t]]

    def mean(f):
        return np.mean([f(b, t) for b, t in rows])

    def weight(layer, head, b, t, key):
        A = seen[layer].A[1, b, head, t + shift]
        return (A[key] / A.sum()).item()

    both = list(itertools.product(range(2), range(2)))
    sink = mean(lambda b, t: np.mean([weight(l, h, b, t, 0) for l, h in both]))
    diagonal = mean(lambda b, t: np.mean([weight(l, h, b, t, t + shift) for l, h in both]))
    size = [seen[l].residual[1].norm(dim=-1) for l in range(2)]
    rho = mean(lambda b, t: np.mean(
        [(seen[l].outputs[1, b, h, t + shift].norm() / size[l][b, t + shift]).item() for l, h in both]))  # fmt: skip
    course = at_step(params, spec, batch, [5, 7])
    found = row(course, seed=7, row_kind="plain")
    assert found["sink_mass"] == pytest.approx(sink) and found["rho_out"] == pytest.approx(rho)
    assert found["diag_mass"] == pytest.approx(diagonal)
    assert found["loss"] == pytest.approx(mean(lambda b, t: lost[1, b, t].item()))
    every = row(course, seed=7, row_kind="all")
    above = [patterns.diagonal_mass(attention.proxy(seen[l].A))[1, :, h] > 0.3 for l, h in both]
    assert every["diag_rate"] == pytest.approx(torch.stack(above).double().mean().item())
    assert every["relmu"] == pytest.approx(patterns.relative_mu(seen[1].residual[1]).mean().item())
    # The first layer alone, at the end.
    end = row(rows_at(params, spec, batch, [5, 7]), seed=7, row_kind="plain")
    o = seen[0].outputs[1].sum(1)
    asked = [(b, t) for b in range(60) for t in range(8) if batch.triggers[1, b, t]]
    reference = np.mean([o[b, t + shift].norm().item() for b, t in asked])
    assert end["out_ratio"] == pytest.approx(mean(lambda b, t: o[b, t + shift].norm().item()) / reference)  # fmt: skip
    assert end["first_weight"] == pytest.approx(
        mean(lambda b, t: seen[0].A[1, b, :, t + shift, 0].mean().item()))  # fmt: skip
    assert end["zero_loss"] == pytest.approx(mean(lambda b, t: batch.targets[1, b, t].square().mean().item()))  # fmt: skip


def test_rows_are_of_one_kind_each():
    _, _, batch = switch_by_hand()
    kinds = rows_of(batch)
    assert torch.equal(kinds["plain"] | kinds["trigger"], kinds["all"])
    assert not (kinds["plain"] & kinds["trigger"]).any() and not kinds["all"][..., 0].any()


def test_explained_is_r_squared():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    y = x @ torch.randn(3, 2) + 4
    assert explained(x, y) == pytest.approx(1)
    assert explained(x, torch.randn(200, 2)) < 0.1


# ----------------------------------------------------------------- without training


def test_a_table_survives_as_states():
    table = pd.DataFrame({"a": [1, 2, 3], "word": ["x", "y y", "x"], "b": [0.5, np.nan, 2.0],
                          "yes": [True, False, True], "same": ["s"] * 3})  # fmt: skip
    pd.testing.assert_frame_equal(unpacked(packed(table)), table)
    again = measure_table(None, packed(table), run="r", threads=1, card=None)
    assert (again["run"] == "r").all()


def job(run="tokens"):
    return Job("sinks", run, (0, 1, 2), Checkpoint(None), torch.device("cpu"), 1)


def arrays(result):
    return unpacked({name: value.numpy() for name, value in result.states.items()})


def test_synthetic_tokens_stand_beside_their_closed_forms():
    spec = validate_run({"kind": "synthetic_tokens", "tokens": "orthonormal", "n": [2, 4], "m": [0, 1], "seeds": 1}, "o")  # fmt: skip
    table = arrays(synthetic.train_synthetic_tokens(spec, job()))
    assert len(table) == 2 * 2 * 2 + 2 * 2 and table["feasible"].all()
    assert np.allclose(table["frobenius"], table["theory_frobenius"], atol=1e-6)
    there = table["theory_nuclear"].notna()
    assert np.allclose(table["nuclear"][there], table["theory_nuclear"][there], atol=1e-6)
    assert (there == (table["causal"] == 0)).all()


def test_drawn_sets_fulfil_the_condition_exactly_where_a_sink_is_possible():
    spec = validate_run({"kind": "synthetic_tokens", "tokens": "sets", "n": [7], "d": [3], "m": [2], "seeds": 3}, "s")  # fmt: skip
    many = Job("sinks", "sets", tuple(range(60)), Checkpoint(None), torch.device("cpu"), 1)
    table = arrays(synthetic.train_synthetic_tokens(spec, many))
    assert len(table) == 120 and (table["condition"] == table["feasible"]).all()
    assert 0.2 < table["feasible"].mean() < 0.95 and table["n"].max() <= 7


def test_random_networks_smooth_as_their_patterns_must():
    spec = validate_run({"kind": "random_attention", "depth": 6, "width": 16, "tokens": 8, "window": 1, "seeds": 3}, "r")  # fmt: skip
    table = arrays(synthetic.train_random_attention(spec, job()))
    assert len(table) == (16 + 10) * 3 * 7
    end = table[table["layer"] == 6].groupby(["net", "pattern"])["relmu"].mean()
    start = table[table["layer"] == 0].groupby("seed")["relmu"].first()
    for pattern in ("uniform", "sink", "sink, value 0"):
        assert end["SAN", pattern] < 1e-12
    kept = table[(table["net"] == "SAN + skip") & (table["pattern"] == "sink, value 0")]
    assert np.allclose(kept["relmu"], kept["seed"].map(start))
    diagonal = table[(table["net"] == "SAN") & (table["pattern"] == "diagonal")]
    assert (diagonal[diagonal["layer"] == 6]["relmu"] > 0.5).all()
    # Uniform attention over all tokens fits no causal mask, and causal uniform attention is not flat.
    forced = table[table["pattern"] != "own"]
    assert set(forced[forced["mask"] == "complete"]["pattern"]) == {"uniform"}
    first = (
        forced[(forced["layer"] == 1) & (forced["net"] == "SAN")].groupby("pattern")["relmu"].mean()
    )
    assert 0.1 < first["causal uniform"] < 0.8
    # Neither attention nor MLP makes tokens longer or shorter by much.
    norms = (table["mu"] / table["relmu"])[
        (table["net"] == "SAN + MLP") & (table["mask"] == "window")
    ]
    layer = table["layer"][norms.index]
    ratio = norms[layer == 6].mean() / norms[layer == 1].mean()
    assert 0.1 < ratio < 3
    # Less is seen through a narrow mask.
    own = table[(table["net"] == "SAN") & (table["pattern"] == "own") & (table["layer"] == 2)]
    by_mask = own.groupby("mask")["relmu"].mean()
    assert by_mask["complete"] < by_mask["window"] and by_mask["causal"] < by_mask["one-sided"]


def test_masks_of_random_networks():
    n = 6
    assert synthetic.visible("complete", n, 1).all()
    assert torch.equal(synthetic.visible("causal", n, 1), attention.allowed(n))
    window, shortly = synthetic.visible("window", n, 2), synthetic.visible("one-sided", n, 2)
    assert all(window[i, j] == (abs(i - j) <= 2) for i in range(n) for j in range(n))
    assert all(shortly[i, j] == (0 <= i - j <= 2) for i in range(n) for j in range(n))
