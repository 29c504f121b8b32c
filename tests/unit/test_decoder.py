"""Decoders: their definition, their stacks, their tasks and training."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from replica.attention import tasks
from replica.attention.training import loss, losses, schedule, train_decoder
from replica.configuration import ConfigError
from replica.data.prepare import DataError, load, prepare_dataset
from replica.data.registry import load_registry
from replica.models import attention, decoder
from replica.settings.validation import validate_run
from replica.training import ensemble
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

TEXT = {"kind": "text"}
TC = {"kind": "trigger", "content": 4, "probability": 0.3}
TW = {"kind": "tokenwise", "content": 5, "norm": 4}
MIX = TW | {"probability": 0.2}
VARIANTS = [*attention.NORMALISERS, "sink_logit", "key_bias", "key_value_bias", "sink_token", "gated"]  # fmt: skip


@pytest.fixture(scope="module")
def card(root, tmp_path_factory):
    registry = load_registry(root / "config/datasets.yaml")
    folder = tmp_path_factory.mktemp("prepared")
    return prepare_dataset(registry["topics"], folder, folder / "topics")


def spec_of(task=TC, **changes):
    values = {
        "kind": "decoder", "task": task, "context": 10, "depth": 2, "width": 8, "heads": 2, "mlp": 2,
        "positions": "none", "lr": 0.01, "weight_decay": 0.01, "batch": 8, "steps": 20, "every": 10,
        "gain": 1.0, "seeds": 3,
    }  # fmt: skip
    if task["kind"] in ("text", "backcopy"):
        values |= {"dataset": "topics", "positions": "learned"}
    return validate_run(values | changes, "a run")


def job_of(spec, card=None, seeds=None, checkpoint=None):
    seeds = tuple(range(spec.seeds)) if seeds is None else seeds
    card = card if spec.dataset else None
    return Job("sinks", "run", seeds, checkpoint or Checkpoint(None), torch.device("cpu"), 1, card=card)  # fmt: skip


def parameters(spec, inputs=7, outputs=4, seeds=(0, 1, 2)):
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    params = decoder.initialise(spec, inputs, outputs, generators, torch.float64)
    # Constants are moved, so that a parameter that is not used shows.
    drawn = torch.Generator().manual_seed(9)
    return {name: value + 0.1 * torch.randn(value.shape, generator=drawn, dtype=value.dtype)
            for name, value in params.items()}  # fmt: skip


def inputs_of(B=3, T=10, D=7, S=3):
    return torch.randn(S, B, T, D, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


# --------------------------------------------------------------------- the network


def by_hand(params, spec, x, member):
    """One sequence (T, D) of one member, with loops over heads and rows."""
    p = {name: value[member] for name, value in params.items()}

    def norm(x, gain):
        if spec.norm == "none":
            return x
        return x / (x.square().mean(-1, keepdim=True) + decoder.EPSILON).sqrt() * gain

    x = x @ p["embedding"]
    if "position" in p:
        x = x + p["position"][: len(x)]
    if "sink_token" in p:
        x = torch.cat([p["sink_token"][None], x])
    T, d = x.shape
    size = d // spec.heads
    for layer in range(spec.depth):
        read = norm(x, p["attention_gain"][layer]) if "attention_gain" in p else x
        q, k, v = (read @ p["QKV"][layer][:, i * d : (i + 1) * d] for i in range(3))
        if spec.value_bias:
            v = v + p["value_bias"][layer]
        mixed = torch.zeros(T, d, dtype=x.dtype)
        for h in range(spec.heads):
            own = slice(h * size, (h + 1) * size)
            for t in range(T):
                keys, values = [k[j, own] for j in range(t + 1)], [v[j, own] for j in range(t + 1)]
                if "key_bias" in p:
                    keys.append(p["key_bias"][layer, own])
                    values.append(
                        p["extra_value"][layer, own] if "extra_value" in p else 0 * values[0]
                    )
                z = torch.stack([q[t, own] @ key for key in keys]) / size**0.5
                if spec.attention == "sink_logit":
                    z = torch.cat([z, p["sink_logit"][layer, h][None]])
                    values.append(torch.zeros(size, dtype=x.dtype))
                if spec.attention == "off_by_one":
                    A = z.exp() / (1 + z.exp().sum())
                elif spec.attention == "clipped":
                    A = (1.03 * z.softmax(0) - 0.03).clamp(0, 1)
                elif spec.attention == "sigmoid":
                    A = z.sigmoid()
                elif spec.attention in ("relu", "elu"):
                    A = (z.relu() if spec.attention == "relu" else F.elu(z) + 1) / (t + 1)
                elif spec.attention == "softpick":
                    A = (z.exp() - 1).relu() / ((z.exp() - 1).abs().sum() + 1e-8)
                else:
                    A = z.softmax(0)
                mixed[t, own] = sum(a * value for a, value in zip(A, values, strict=True))
        if spec.attention == "gated":
            mixed = mixed * (read @ p["gate"][layer]).sigmoid()
        out = mixed @ p["O"][layer]
        x = x + out if spec.residual else out
        if spec.mlp:
            hidden = F.gelu(norm(x, p.get("mlp_gain", [None] * 9)[layer]) @ p["up"][layer])
            out = hidden @ p["down"][layer]
            x = x + out if spec.residual else out
    if "sink_token" in p:
        x = x[1:]
    if "head" not in p:
        return x
    return (norm(x, p["final_gain"]) if "final_gain" in p else x) @ p["head"]


@pytest.mark.parametrize("name", VARIANTS)
def test_the_network_is_its_definition(name):
    spec = spec_of(attention=name)
    params, x = parameters(spec), inputs_of()
    out = decoder.forward(params, spec, x)
    for member in range(3):
        assert torch.allclose(
            out[member, 1], by_hand(params, spec, x[member, 1], member), atol=1e-10
        )


@pytest.mark.parametrize(
    "changes",
    [{"residual": False}, {"norm": "none"}, {"mlp": 0}, {"value_bias": True}, {"positions": "learned"},
     {"residual": False, "mlp": 0, "norm": "none", "depth": 1}],
)  # fmt: skip
def test_each_part_can_be_left_out(changes):
    spec = spec_of(**changes)
    params, x = parameters(spec), inputs_of()
    out = decoder.forward(params, spec, x)
    assert torch.allclose(out[2, 0], by_hand(params, spec, x[2, 0], 2), atol=1e-10)


@pytest.mark.parametrize("positions", ["learned", "rotary", "none"])
def test_fused_and_open_attention_agree(positions):
    spec = spec_of(positions=positions)
    params, x = parameters(spec), inputs_of()
    assert spec.fused
    opened = decoder.forward(params, spec, x, see=lambda layer, seen: None)
    assert torch.allclose(decoder.forward(params, spec, x), opened, atol=1e-10)


@pytest.mark.parametrize("forbid", ["none", "self", "first", "both"])
@pytest.mark.parametrize("name", ["softmax", "relu", "key_value_bias", "rotary"])
def test_no_row_sees_a_later_token(forbid, name):
    changes = {"positions": "rotary"} if name == "rotary" else {"attention": name}
    spec = spec_of(forbid=forbid, **changes)
    params, x = parameters(spec), inputs_of()
    changed = x.clone()
    changed[:, :, 6:] += 1
    before, after = (decoder.forward(params, spec, given) for given in (x, changed))
    assert torch.allclose(before[:, :, :6], after[:, :, :6]) and not torch.allclose(before, after)


def test_members_share_nothing():
    spec = spec_of(attention="key_bias")
    params, x = parameters(spec), inputs_of()
    alone = {name: value[1:2] for name, value in params.items()}
    found = decoder.forward(alone, spec, x[1:2])
    assert torch.allclose(decoder.forward(params, spec, x)[1:2], found, atol=1e-12)


@pytest.mark.parametrize("name", ["softmax", "gated", "key_value_bias", "sink_token", "relu"])
def test_what_is_observed_is_what_the_layer_does(name):
    spec = spec_of(attention=name)
    params, x = parameters(spec), inputs_of()
    seen = {}
    decoder.forward(params, spec, x, see=seen.__setitem__)
    assert list(seen) == [0, 1]
    first = seen[0]
    added = decoder.embed(params, spec, x) + first.outputs.sum(2)
    layer = next(attention.by_layer({k: v for k, v in params.items() if k not in decoder.OUTSIDE}))
    added = added + decoder.perceptron(layer, decoder.normalised(added, spec))
    assert torch.allclose(seen[1].residual, added, atol=1e-10)
    if name in ("softmax", "relu", "sink_token"):
        assert torch.allclose(first.outputs, first.A @ first.values, atol=1e-10)
    shown = first.logits.masked_fill(~attention.allowed(first.A.shape[-1]), -torch.inf)
    if name in ("softmax", "gated", "sink_token"):
        assert torch.allclose(first.A, shown.softmax(-1), atol=1e-12)


def test_an_edit_replaces_the_weights():
    spec = spec_of(depth=1, mlp=0, residual=False, norm="none")
    params, x = parameters(spec), inputs_of()
    eye = torch.eye(10, dtype=torch.float64)
    out = decoder.forward(params, spec, x, edit=lambda layer, A: eye.expand_as(A))
    # Each token alone: a linear map of it (D6).
    d = spec.width
    linear = params["embedding"] @ params["QKV"][:, 0, :, 2 * d :] @ params["O"][:, 0]
    assert torch.allclose(out, torch.einsum("sbti,sio->sbto", x, linear), atol=1e-10)
    off = decoder.forward(params, spec, x, edit=lambda layer, A: torch.zeros_like(A))
    assert (off == 0).all()
    # A sink head: the same output everywhere, that of the sink's value (D6).
    first = torch.zeros(10, 10, dtype=torch.float64)
    first[:, 0] = 1
    sink = decoder.forward(params, spec, x, edit=lambda layer, A: first.expand_as(A))
    assert torch.allclose(
        sink, torch.einsum("sbi,sio->sbo", x[:, :, 0], linear)[:, :, None].expand_as(sink)
    )


def test_an_edit_replaces_the_weight_of_a_learned_key_too():
    spec = spec_of(attention="key_value_bias", depth=1, mlp=0, residual=False, norm="none")
    params, x = parameters(spec), inputs_of()
    off = decoder.forward(params, spec, x, edit=lambda layer, A: torch.zeros_like(A))
    assert (off == 0).all()


def test_the_gradient_of_the_normalisation_is_that_of_its_formula():
    x = torch.randn(4, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(decoder.RmsNorm.apply, (x,))
    assert torch.allclose(decoder.RmsNorm.apply(x), F.rms_norm(x, (5,), eps=decoder.EPSILON))
    assert torch.autograd.gradgradcheck(decoder.RmsNorm.apply, (x,))


# --------------------------------------------------------------------- tasks


def test_a_corpus_is_the_text_as_numbers(card):
    dataset = load(card)
    found = tasks.corpus(dataset)
    text = "".join(found.characters[i] for i in torch.cat([found.train, found.held_out]).tolist())
    assert text.encode() == bytes(dataset.arrays["train.text"])
    assert list(found.characters) == sorted(set(text)) and found.bos == len(found.characters)
    assert len(found.train) == round(0.9 * len(text))


def test_windows_predict_the_next_character(card):
    found = tasks.corpus(load(card))
    starts = torch.tensor([0, 17])
    spec = spec_of(TEXT)
    batch = tasks.windows(found.train, starts, spec, found)
    assert (batch.inputs[:, 0] == found.bos).all()
    assert torch.equal(batch.inputs[:, 1:], batch.targets[:, :-1])
    assert torch.equal(batch.targets[1], found.train[17:27])
    plain = tasks.windows(found.train, starts, spec_of({"kind": "text", "bos": False}), found)
    assert torch.equal(plain.inputs[1], found.train[17:27])
    assert torch.equal(plain.targets[1], found.train[18:28])


def test_held_out_windows_are_held_out_and_the_same_each_time(card):
    spec = spec_of(TEXT)
    dataset = load(card)
    task = tasks.task_of(spec, "sinks", "run", dataset)
    batch = task.batch(0, "held out", 16)
    assert torch.equal(batch.targets, task.batch(5, "held out", 16).targets)
    text = "".join(map(chr, tasks.corpus(dataset).held_out))
    assert all("".join(map(chr, row)) in text for row in batch.targets.tolist())


def test_a_text_shorter_than_the_context_is_said(card):
    with pytest.raises(DataError, match="characters are held out, fewer than a context of 90000"):
        tasks.task_of(spec_of(TEXT, context=90_000), "sinks", "run", load(card))


@pytest.mark.parametrize("task", [TC, TW, MIX])
def test_vectors_are_as_the_task_says(task):
    spec = spec_of(task)
    B = torch.randn(5, 5) if task is not TC else None
    c = spec.task.content
    batch = tasks.vectors(spec.task, 12, 64, torch.Generator().manual_seed(0), B)
    content, flags = batch.inputs[..., :c], batch.inputs[..., c:]
    assert (flags[:, 0] == torch.tensor([1.0, 0, 0])).all() and (flags[:, 1:, 2] == 1).all()
    assert torch.equal(flags[..., 1] == 1, batch.triggers) and not batch.triggers[:, :2].any()
    assert (content[:, 0] == 0).all() and (batch.targets[:, 0] == 0).all()
    if task is not TC:
        assert torch.allclose(content[:, 1:].norm(dim=-1), torch.tensor(4.0))
    for b, t in [(0, 3), (5, 7), (40, 11)]:
        if batch.triggers[b, t]:
            wanted = content[b, 1:t].mean(0)
        else:
            wanted = torch.zeros(c) if B is None else B @ content[b, t]
        assert torch.allclose(batch.targets[b, t], wanted, atol=1e-5)
    share = batch.triggers[:, 2:].float().mean().item()
    assert share == pytest.approx(spec.task.probability, abs=0.07)
    assert (share > 0) == (task is not TW)


def test_backcopy_copies_after_triggers_and_draws_bigrams_else(card):
    found = tasks.corpus(load(card))
    table = tasks.bigrams(found)
    assert torch.allclose(table.sum(1), torch.ones(len(table), dtype=torch.float64))
    batch = tasks.backcopy(found, table, 3, 60, 200, torch.Generator().manual_seed(0))
    x = torch.cat([batch.inputs, batch.targets[:, -1:]], 1)
    frequent = torch.bincount(found.train).argsort(descending=True)[:3]
    asked = torch.isin(x[:, 2:-1], frequent)
    assert torch.equal(asked, batch.triggers[:, 2:]) and (x[:, 0] == found.bos).all()
    assert (x[:, 3:][asked] == x[:, 1:-2][asked]).all()
    pairs = table[x[:, 2:-1][~asked], x[:, 3:][~asked]]
    assert (pairs > 0).all()
    # Of one character, as often as the table says.
    one = found.characters.index("a")
    after = x[:, 3:][(x[:, 2:-1] == one) & ~asked]
    if len(after) > 200:
        n = found.characters.index("n")
        assert (after == n).double().mean().item() == pytest.approx(table[one, n].item(), abs=0.08)


@pytest.mark.parametrize("task", [TEXT, TC, MIX])
def test_batches_have_streams_of_their_own(task, card):
    spec = spec_of(task)
    dataset = load(card) if spec.dataset else None
    own = tasks.task_of(spec, "sinks", "run", dataset)
    batch = tasks.batch_of(own, (0, 1), "step 3", 4)
    assert torch.equal(batch.inputs[1], own.batch(1, "step 3", 4).inputs)
    assert not torch.equal(batch.inputs[0], batch.inputs[1])
    assert not torch.equal(batch.inputs, tasks.batch_of(own, (0, 1), "step 4", 4).inputs)
    other = tasks.task_of(spec, "sinks", "other", dataset)
    assert not torch.equal(batch.inputs[0], other.batch(0, "step 3", 4).inputs)


# --------------------------------------------------------------------- training


def test_a_stack_trains_as_each_member_alone(card):
    spec = spec_of(TEXT)
    together = train_decoder(spec, job_of(spec, card))
    alone = train_decoder(spec, job_of(spec, card, seeds=(1,)))
    for name, value in alone.states.items():
        assert torch.allclose(together.states[name][1:2], value, atol=2e-5), name


def test_a_step_is_adamw_of_torch():
    spec = spec_of(weight_decay=0.1, warmup=5)
    params = parameters(spec, inputs=7)
    params = {name: value[:1].float() for name, value in params.items()}
    task = tasks.task_of(spec, "sinks", "run", None)
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    groups = [
        {"params": [v for k, v in leaves.items() if k in decoder.DECAYED], "weight_decay": 0.1},
        {"params": [v for k, v in leaves.items() if k not in decoder.DECAYED], "weight_decay": 0.0},
    ]
    reference = torch.optim.AdamW(groups, lr=spec.lr)

    def objective(p, step):
        return loss(p, spec, tasks.batch_of(task, (0,), f"step {step}", 8))

    advance, _ = ensemble.adam(
        params, objective, lr=torch.tensor([spec.lr]), schedule=schedule(spec),
        weight_decay=0.1, decayed=decoder.DECAYED,
    )  # fmt: skip
    for step in range(1, 9):
        for group in reference.param_groups:
            group["lr"] = spec.lr * min(1, step / 5)
        reference.zero_grad()
        objective(leaves, step).sum().backward()
        reference.step()
        advance(step)
    for name, value in params.items():
        assert torch.allclose(value, leaves[name], atol=1e-5), name


def test_the_rate_rises():
    factor = schedule(spec_of(warmup=4))
    assert [factor(step) for step in (1, 2, 4, 20)] == [0.25, 0.5, 1.0, 1.0]
    assert schedule(spec_of())(1) == 1


@pytest.mark.parametrize("task", [TEXT, TC])
def test_an_interrupted_training_ends_as_the_undisturbed_one(task, card, tmp_path):
    spec = spec_of(task)
    whole = train_decoder(spec, job_of(spec, card))

    class Stopped(Exception):
        pass

    class Interrupted(Checkpoint):
        def due(self):
            return True

        def save(self, state):
            super().save(state)
            raise Stopped

    path = tmp_path / "state.safetensors"
    with pytest.raises(Stopped):
        train_decoder(spec, job_of(spec, card, checkpoint=Interrupted(path)))
    again = train_decoder(spec, job_of(spec, card, checkpoint=Checkpoint(path)))
    assert all(torch.equal(whole.states[name], again.states[name]) for name in whole.states)
    assert whole.history.equals(again.history)


@pytest.mark.slow
def test_training_learns_and_keeps_what_is_measured(card):
    spec = spec_of(TEXT, steps=60, every=30, width=16, context=16)
    trained = train_decoder(spec, job_of(spec, card))
    first = trained.history.groupby("step")["value"].mean()
    # No better than guessing at the start, in nats.
    assert first.iloc[0] > 0.9 * math.log(len(tasks.corpus(load(card)).characters))
    assert first.iloc[-1] < first.iloc[0] - 0.5
    steps = {name.partition("/")[0] for name in trained.states if name[0].isdigit()}
    assert steps == {"0", "30", "60"} and "held_out/inputs" not in trained.states
    vectors = train_decoder(spec_of(), job_of(spec_of()))
    assert vectors.states["held_out/inputs"].shape == (3, 128, 10, 7)


def test_losses_are_written_out(card):
    spec = spec_of()
    params = parameters(spec)
    batch = tasks.batch_of(tasks.task_of(spec, "s", "r", None), (0, 1, 2), "held out", 5)
    batch = tasks.Batch(batch.inputs.double(), batch.targets.double(), batch.triggers)
    out = decoder.forward(params, spec, batch.inputs)
    wanted = ((out - batch.targets) ** 2).mean(-1)
    assert torch.allclose(losses(out, spec, batch), wanted)
    assert np.allclose(loss(params, spec, batch), wanted.mean((1, 2)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"heads": 3}, "width = 8 is not a multiple of heads = 3"),
        ({"every": 7}, "steps = 20 is not a multiple of every = 7"),
        ({"heads": 8, "positions": "rotary"}, "rotary positions need heads of even width"),
        ({"dataset": "topics"}, "tasks on characters need a dataset"),
        ({"optimiser": "sgd"}, "sgd takes no weight_decay here"),
        ({"probes": {"layers": 3}}, "probes are for language models"),
        ({"attention": "linear"}, "attention = 'linear' is not allowed"),
    ],
)
def test_impossible_settings_are_said_in_a_sentence(changes, sentence):
    with pytest.raises(ConfigError, match=sentence):
        spec_of(**changes)


def test_probes_look_at_no_more_than_the_context():
    with pytest.raises(ConfigError, match="probes look at 32 tokens of context = 10"):
        spec_of(TEXT, probes={"rates": {"texts": 2, "lengths": [8, 32]}})
