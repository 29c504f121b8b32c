"""Residual networks with LayerNorm: their definitions, their stacks, their training."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from replica.configuration import ConfigError
from replica.data import words
from replica.data.prepare import DataError, load, prepare_dataset
from replica.data.registry import load_registry
from replica.kinds import training_cost
from replica.kinds.residual import ResidualSpec
from replica.measures import collapse
from replica.models import residual
from replica.residual import by_hand
from replica.residual.metrics import measure_residual
from replica.residual.samples import patches, samples
from replica.residual.training import fit, observe, penalty, penalty_terms, start, train_residual
from replica.settings.load import expand, load_studies
from replica.settings.user import Config
from replica.settings.validation import validate_run
from replica.theory import gufm
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

RN = {"kind": "resnet", "mlp": 1}
PATCHES = {"kind": "patches", "attention": 1, "mlp": 1, "patch": 4}
TOKENS = {"kind": "tokens", "attention": 1, "mlp": 1, "vocabulary": 50, "context": 6}
NETWORKS = [
    RN, {"kind": "resnet", "mlp": 2}, PATCHES, PATCHES | {"attention": 2, "mlp": 2}, TOKENS,
]  # fmt: skip


@pytest.fixture(scope="module")
def cards(root, tmp_path_factory):
    registry = load_registry(root / "config/datasets.yaml")
    folder = tmp_path_factory.mktemp("prepared")
    names = ("digits", "topics_syntax")
    return {name: prepare_dataset(registry[name], folder, folder / name) for name in names}


def spec_of(network, **changes) -> ResidualSpec:
    text = network["kind"] == "tokens"
    values = {
        "kind": "residual", "dataset": "topics_syntax" if text else "digits", "per_class": 4, "network": network, "depth": 3, "width": 12, "penalty": 0.005,
        "optimiser": "adam", "lr": 0.01, "schedule": "cosine", "batch": "full", "epochs": 8,
        "gain": 1.0, "seeds": 3, "precision": "float64",
    }  # fmt: skip
    return validate_run(values | changes, "a run")


def job_of(spec, cards, seeds=None, checkpoint=None):
    seeds = tuple(range(spec.seeds)) if seeds is None else seeds
    device, checkpoint = torch.device("cpu"), checkpoint or Checkpoint(None)
    return Job("depth", "run", seeds, checkpoint, device, 1, card=cards[spec.dataset])


def begun(spec, cards, seeds=None):
    job = job_of(spec, cards, seeds)
    data = samples(load(job.card), spec, torch.float64)
    return start(spec, data, job), data


# ======================================================================================
# Definitions


@given(d=st.integers(3, 80), scale=st.floats(0.1, 1e3), shift=st.floats(-100, 100))
def test_layer_norm_has_mean_zero_and_norm_root_d(d, scale, shift):
    x = scale * torch.randn(4, d, dtype=torch.float64, generator=torch.Generator().manual_seed(d))
    out = residual.layer_norm(x + shift)
    assert out.mean(1).abs().max() < 1e-9
    assert out.norm(dim=1).numpy() == pytest.approx(d**0.5, rel=1e-4)


def plain(params, spec, x, end):
    """One sample of one member by the definitions of the paper, with samples as columns."""
    d, network = spec.width, spec.network

    def norm(Z):
        Z = Z - Z.mean(0)
        return Z / Z.std(0, correction=0)

    def mlp(l, Z):
        out = torch.relu(params["W1"][l] @ Z + params["W1_bias"][l][:, None])
        return out if network.mlp == 1 else params["W2"][l] @ out + params["W2_bias"][l][:, None]

    def attention(l, Z):
        T = Z.shape[1]
        # Column j attends to rows i <= j.
        mask = torch.full((T, T), -torch.inf, dtype=Z.dtype).tril(-1)
        if network.attention == 1:
            A = torch.softmax(mask + Z.T @ params["QK"][l] @ Z / d**0.5, 0)
            return params["VO"][l] @ Z @ A
        K, Q = params["K"][l] @ Z, params["Q"][l] @ Z
        A = torch.softmax(mask + K.T @ Q / d**0.5, 0)
        return params["O"][l] @ params["V"][l] @ Z @ A

    if network.kind == "resnet":
        Z = (params["embedding"].T @ x + params["embedding_bias"])[:, None]
        branches, end = [mlp], 0
    else:
        table = params["embedding"]
        columns = table[x].T if network.kind == "tokens" else table.T @ x.T
        Z = columns + params["position"][: columns.shape[1]].T
        branches = [attention, mlp]
    Z = norm(Z)
    for l in range(spec.depth - (network.kind == "resnet")):
        for branch in branches:
            Z = norm(Z + branch(l, Z)) if spec.norm == "post" else Z + branch(l, norm(Z))
    Z = Z if spec.norm == "post" else norm(Z)
    return params["head"] @ Z[:, end] + params.get("head_bias", 0)


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("network", NETWORKS, ids=str)
def test_a_stack_is_the_definition_member_by_member(cards, network, norm):
    spec = spec_of(network, norm=norm)
    params, data = begun(spec, cards)
    for name, value in params.items():
        # The biases, which start at zero, take part.
        value += 0.1 * torch.randn(value.shape, dtype=value.dtype)
        assert name.endswith(residual.UNREGULARISED) != (name in residual.regularised(params))
    features = residual.features(params, spec, data.inputs[None], data.ends[None])
    out = residual.logits(params, features)
    assert features.norm(dim=-1).numpy() == pytest.approx(spec.width**0.5, rel=1e-6)
    for s in range(spec.seeds):
        own = {name: value[s] for name, value in params.items()}
        for i in (0, len(data.labels) - 1):
            expected = plain(own, spec, data.inputs[i], data.ends[i])
            assert out[s, i].numpy() == pytest.approx(expected.numpy(), abs=1e-9)


@pytest.mark.parametrize(("network", "norm", "loss"), [
    *[(network, norm, "ce") for network in NETWORKS for norm in ("post", "pre")],
    (RN, "post", "mse"), (PATCHES, "post", "mse"),
], ids=str)  # fmt: skip
def test_the_gradient_by_hand_is_that_of_the_definition(cards, network, norm, loss):
    """Of any place that is read, for numbers of samples that do and do not fill tiles."""
    spec = spec_of(network, norm=norm, loss=loss, seeds=2)
    params, data = begun(spec, cards)
    # The biases, which start at zero, take part.
    params = {name: value + 0.1 * torch.randn_like(value) for name, value in params.items()}
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    for b in (3, 4):
        rows = torch.randperm(len(data.labels))[:b]
        inputs, labels, ends = (
            data.inputs[rows],
            data.labels[rows],
            torch.randint(data.positions, (2, b)),
        )
        found = by_hand.gradients(params, spec, inputs[None], ends, labels[None])
        total = 0
        for s in range(2):
            own = {name: value[s] for name, value in leaves.items()}
            for x, end, label in zip(inputs, ends[s], labels, strict=True):
                out = plain(own, spec, x, end)
                if loss == "ce":
                    total += (out.logsumexp(0) - out[label]) / b
                else:
                    total += (out - torch.eye(data.K)[label]).square().sum() / 2 / b
        expected = torch.autograd.grad(total, list(leaves.values()))
        for (name, ours), theirs in zip(found.items(), expected, strict=True):
            # The definition has no ε beneath the root of LayerNorm.
            size = theirs.abs().max()
            assert size > 1e-3 and (ours - theirs).abs().max() < 1e-8 * size, name
        # Members with samples of their own.
        each = by_hand.gradients(
            params, spec, torch.stack([inputs] * 2), ends, labels.expand(2, -1)
        )
        assert all(torch.equal(each[name], value) for name, value in found.items())


@pytest.mark.parametrize("network", [PATCHES, TOKENS], ids=str)
def test_later_positions_do_not_reach_earlier_ones(cards, network):
    spec = spec_of(network)
    params, data = begun(spec, cards)
    inputs, T = data.inputs[None], data.positions
    place = torch.full_like(data.ends, 1)[None]
    before = residual.features(params, spec, inputs, place)
    changed = inputs.clone()
    changed[:, :, 2:] = inputs[:, :, 2:].flip(1)
    assert T > 2 and not torch.equal(inputs, changed)
    assert torch.allclose(before, residual.features(params, spec, changed, place), atol=1e-12)
    changed[:, :, 0] = inputs[:, :, 0].flip(1)
    assert not torch.allclose(before, residual.features(params, spec, changed, place), atol=1e-3)


def test_patches_are_read_row_by_row():
    images = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    cut = patches(images, 2)
    assert cut.shape == (2, 6, 12)
    assert torch.equal(cut[1, 4].reshape(3, 2, 2), images[1, :, 2:4, 2:4])
    with pytest.raises(DataError, match="4x6 pixels cannot be cut into patches of 3x3"):
        patches(images, 3)


def test_words_and_their_numbers():
    texts = ["It's a dog, a DOG!", "a cat", "the cat"]
    listed = [words.words(text) for text in texts]
    assert words.words("Café<br />__init__ <b>") == ["café", "<br />", "__init__", "<", "b", ">"]
    assert listed[0] == ["it's", "a", "dog", ",", "a", "dog", "!"]
    numbers = words.vocabulary(listed, 5)
    # a: 3; cat and dog: 2, in alphabetical order; all others are unknown.
    assert numbers == {"a": 2, "cat": 3, "dog": 4}
    tokens, ends = words.encode(listed, numbers, 4)
    assert tokens.tolist() == [[1, 2, 4, 1], [2, 3, 0, 0], [1, 3, 0, 0]]
    assert ends.tolist() == [3, 1, 1]
    with pytest.raises(DataError, match="no words"):
        words.encode([[]], numbers, 4)


def test_passages_are_distinct_and_of_one_class(cards):
    data = load(cards["topics_syntax"])
    texts, labels = list(words.texts(data, "train")), data.arrays["train.labels"]
    assert not any("::=" in text for text, label in zip(texts, labels, strict=True) if label == 0)
    assert any("::=" in text for text, label in zip(texts, labels, strict=True) if label == 1)
    assert len(set(texts)) == len(texts) == len(labels) > 1500
    assert all(len(text) <= 200 or " " not in text for text in texts)


@pytest.mark.slow
def test_the_paper_path_runs_on_reviews(root, real_data, tmp_path):
    entry = load_registry(root / "config/datasets.yaml")["imdb_table"]
    card = prepare_dataset(entry, real_data / "imdb", tmp_path / "imdb_table")
    study = load_studies(root / "config/studies")["depth"]
    config = Config(scale="paper", overrides={"depth": {"t11_imdb": {
        "dataset": "imdb_table", "per_class": 60, "batch": 40, "epochs": 1, "depth": 2, "seeds": 2,
    }}})  # fmt: skip
    (spec,) = expand(study, "t11_imdb", config).values()
    data = samples(load(card), spec, torch.float32)
    assert data.inputs.shape == (120, 128) and data.K == 2
    assert torch.bincount(data.labels).tolist() == [60, 60]
    # Ten thousand words leave few of a review unknown, and most reviews are longer than is read.
    assert (data.inputs == 1).float().mean() < 0.08 and (data.ends == 127).float().mean() > 0.5
    result = train_residual(spec, job_of(spec, {"imdb_table": card}))
    rows = measure_residual(spec, result.states, run="run", threads=1, card=card)
    assert rows["value"].notna().all() and len(rows) == 2 * (8 + 3)


# ======================================================================================
# Objective and metrics


@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_the_objective_is_that_of_equation_7(cards, loss):
    spec = spec_of(RN, loss=loss, over_depth=True, head_penalty=0.02)
    params, data = begun(spec, cards)
    out = residual.logits(
        params, residual.features(params, spec, data.inputs[None], data.ends[None])
    )
    found = fit(params, spec, data.inputs[None], data.ends[None], data.labels[None])
    for s in range(spec.seeds):
        if loss == "ce":
            p = out[s].exp() / out[s].exp().sum(1, keepdim=True)
            expected = -p[torch.arange(len(p)), data.labels].log().mean()
        else:
            expected = (out[s] - torch.eye(10)[data.labels]).square().sum() / 2 / len(data.labels)
        assert found[s].item() == pytest.approx(expected.item(), rel=1e-12)
        weights = 0.005 / 3 / 2 * params["W1"][s].square().sum()
        head = 0.02 / 2 * params["head"][s].square().sum()
        assert penalty(params, spec)[s].item() == pytest.approx((weights + head).item())
    terms = penalty_terms(params, spec)
    assert terms.shape == (3, 3)
    assert terms[:, 2].numpy() == pytest.approx(0.01 * params["head"].square().sum((1, 2)).numpy())


def test_the_rows_of_the_head_add_up_to_zero_where_training_ends(cards):
    """Which makes NC2 zero for two classes, whatever the network."""
    params, data = begun(spec := spec_of(TOKENS), cards)
    head = params["head"].requires_grad_()
    lost = fit(params, spec, data.inputs[None], data.ends[None], data.labels[None])
    (slope,) = torch.autograd.grad(lost.sum(), head)
    assert slope.abs().max() > 1e-3 and slope.sum(1).abs().max() < 1e-12
    opposite = torch.tensor([[1.0, -2.0, 0.5], [-1.0, 2.0, -0.5]])
    assert collapse.nc2_ce(opposite @ opposite.T) < 1e-7


@pytest.mark.parametrize("norm", ["post", "pre"])
@pytest.mark.parametrize("network", NETWORKS)
def test_blocks_of_zeros_change_nothing(cards, network, norm):
    """So the least objective cannot rise with the depth, and a deeper run above has not settled."""
    spec, deeper = (spec_of(network, norm=norm, depth=L) for L in (3, 5))
    params, data = begun(spec, cards)
    padded = {
        name: F.pad(value.movedim(1, -1), (0, 2)).movedim(-1, 1)
        if name.startswith(residual.IN_BLOCKS)
        else value
        for name, value in params.items()
    }
    assert {name: value.shape for name, value in padded.items()} == {
        name: value.shape for name, value in begun(deeper, cards)[0].items()
    }
    was, now = (
        residual.features(own, of, data.inputs[None], data.ends[None])
        for own, of in ((params, spec), (padded, deeper))
    )
    # Normalised twice: the constant under the root is not nothing.
    assert (was - now).abs().max() < 1e-6
    assert torch.allclose(penalty(padded, deeper), penalty(params, spec))


@pytest.mark.parametrize("spread", [0.1, 1.0, 3.0])
def test_nc3_is_bounded_by_nc1(spread):
    """Of features of norm √d with mean zero, NC3 >= 1 - 1/√(1 + NC1) (derived).

    Equal where the rows of the head point to the class means, and these are equally long.
    """
    generator, d = torch.Generator().manual_seed(0), 16
    draw = {"generator": generator, "dtype": torch.float64}
    centres = torch.linalg.qr(torch.randn(d, 5, **draw))[0].T[:, None]
    x = F.normalize(centres + spread / d**0.5 * torch.randn(5, 400, d, **draw), dim=-1)
    x = d**0.5 * torch.cat([x, -x])
    means = x.mean(1)
    within = (x - means[:, None]).square().sum(-1).mean()
    least = 1 - 1 / (1 + collapse.nc1_ratio(within, means.T)) ** 0.5
    labels = torch.arange(10).repeat_interleave(400)

    def nc3(head):
        return collapse.nc3_cos(x.flatten(0, 1).T[None], labels, head[None]).item()

    assert nc3(means) == pytest.approx(least.item(), rel=0.01)
    assert nc3(means) >= least - 1e-12
    assert nc3(means + torch.randn(10, d, **draw)) > least


def test_what_is_observed_is_what_a_pass_over_all_samples_gives(cards):
    spec = spec_of(PATCHES)
    params, data = begun(spec, cards)
    found = observe(params, spec, data, batch=7)
    for s in range(spec.seeds):
        own = {name: value[s : s + 1] for name, value in params.items()}
        x = residual.features(own, spec, data.inputs[None], data.ends[None])[0]
        means = torch.stack([x[data.labels == k].mean(0) for k in range(10)], 1)
        within = (x - means.T[data.labels]).square().sum() / len(x)
        assert torch.allclose(found["means"][s], means)
        assert found["within_trace"][s].item() == pytest.approx(within.item())
        cosines = torch.cosine_similarity(x, own["head"][0][data.labels], dim=1)
        assert found["aligned"][s].item() == pytest.approx(cosines.mean().item())
    # The whole gradient, by automatic differentiation of the whole objective.
    leaves = {name: value.requires_grad_() for name, value in params.items()}
    total = fit(leaves, spec, data.inputs[None], data.ends[None], data.labels[None])
    weights = residual.regularised(leaves)
    slopes = torch.autograd.grad((total + penalty(leaves, spec)).sum(), list(weights.values()))
    norm = sum(slope.square().flatten(1).sum(1) for slope in slopes).sqrt()
    of_penalty = 0.005 * sum(w.square().flatten(1).sum(1) for w in weights.values()).sqrt()
    assert torch.allclose(found["gradient"], (norm / of_penalty).detach())


def states_at_the_optimum(loss, K=5, d=16, order=None):
    """What `observe` gives for features and a head at the optimum of the GUFM."""
    basis = torch.linalg.qr(torch.randn(d, d, dtype=torch.float64))[0]
    ones = torch.ones(d, 1, dtype=torch.float64)
    basis = torch.linalg.qr(torch.cat([ones, basis[:, 1:]], 1))[0][:, 1:]
    frame = collapse.simplex(K) / (1 - 1 / K) ** 0.5 if loss == "ce" else torch.eye(K).double()
    directions = frame @ basis[:, :K].T
    directions = directions[order] if order is not None else directions
    found = gufm.optimum(loss, K, d, 0.005)
    one = torch.ones(1, dtype=torch.float64)
    return {
        "means": d**0.5 * directions.T[None], "within_trace": 0 * one, "aligned": one,
        "head": found.z * directions[None], "accuracy": one, "fit": found.fit * one,
        "penalty_terms": torch.tensor([[0.0, found.penalty]]), "gradient": 0 * one,
        "seed": torch.tensor([0]), "diverged_at": torch.tensor([-1]),
    }  # fmt: skip


@pytest.mark.parametrize("order", [None, [3, 1, 4, 0, 2]])
@pytest.mark.parametrize("loss", ["ce", "mse"])
def test_metrics_at_the_optimum_are_zero_in_any_order_of_classes(loss, order):
    spec = spec_of(RN, loss=loss, width=16)
    states = states_at_the_optimum(loss, order=order)
    rows = measure_residual(spec, states, run="run", threads=1, card=None)
    values = rows[rows["layer"].isna()].set_index("metric")["value"]
    assert values[["nc1", "nc3", "gradient"]].abs().max() < 1e-12 and values["nc2"] < 1e-6
    assert values["objective"] == pytest.approx(rows["bound"].iloc[0], rel=1e-6)


def test_classes_in_another_order_change_nothing(cards):
    """Labels and rows of the head are renamed together."""
    spec = spec_of(RN)
    params, data = begun(spec, cards)
    before = measured(spec, observe(params, spec, data, 10))
    order = torch.tensor([3, 1, 4, 0, 9, 2, 6, 5, 8, 7])
    params["head"] = params["head"][:, order]
    renamed = type(data)(**{**vars(data), "labels": order.argsort()[data.labels]})
    after = measured(spec, observe(params, spec, renamed, 10))
    assert after["value"].to_numpy() == pytest.approx(before["value"].to_numpy(), rel=1e-9)


def measured(spec, states):
    members = torch.arange(spec.seeds)
    states = states | {"seed": members, "diverged_at": torch.full_like(members, -1)}
    return measure_residual(spec, states, run="run", threads=1, card=None)


# ======================================================================================
# Training


@pytest.mark.slow
@pytest.mark.parametrize("changes", [
    {}, {"optimiser": "sgd", "momentum": 0.9, "lr": 0.05}, {"batch": 7, "norm": "pre"},
    {"network": TOKENS, "dataset": "topics_syntax", "schedule": "constant"},
], ids=str)  # fmt: skip
def test_a_stack_trains_as_its_members_alone(cards, changes):
    spec = spec_of(**{"network": RN} | changes)
    together = train_residual(spec, job_of(spec, cards)).states
    for seed in range(spec.seeds):
        alone = train_residual(spec, job_of(spec, cards, (seed,))).states
        for name, value in alone.items():
            assert value[0].numpy() == pytest.approx(together[name][seed].numpy(), abs=1e-9), name


def test_adam_is_that_of_torch_on_loss_and_penalty_together(cards):
    spec = spec_of(RN, schedule="constant", seeds=1)
    params, data = begun(spec, cards)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    optimiser = torch.optim.Adam(leaves.values(), lr=spec.lr)
    for _ in range(spec.epochs):
        optimiser.zero_grad()
        total = fit(leaves, spec, data.inputs[None], data.ends[None], data.labels[None])
        (total + penalty(leaves, spec)).sum().backward()
        optimiser.step()
    ours = train_residual(spec, job_of(spec, cards)).states
    for name, value in leaves.items():
        assert torch.allclose(ours[f"weights/{name}"], value.detach(), atol=1e-12), name


def test_a_long_training_looks_at_all_samples_some_twenty_times(cards, monkeypatch):
    spec = spec_of(RN, depth=2, width=4, per_class=2, batch=10, epochs=2000, seeds=1)
    from replica.residual import training

    passes = []
    monkeypatch.setattr(training, "penalty", lambda *a: passes.append(1) or penalty(*a))
    training.train_residual(spec, job_of(spec, cards))
    assert 15 <= len(passes) <= training.LOOKS + 2


@pytest.mark.slow
@pytest.mark.parametrize(("network", "times"), [(RN, 4), (PATCHES, 4), (TOKENS, 30)], ids=str)
def test_no_run_is_below_the_bound_and_training_goes_towards_it(cards, network, times):
    spec = spec_of(network, epochs=300, width=24)
    result = train_residual(spec, job_of(spec, cards))
    rows = measure_residual(spec, result.states, run="run", threads=1, card=None)
    objective = rows[rows["metric"] == "objective"].set_index("seed")["value"]
    bound = rows["bound"].iloc[0]
    assert (objective > bound * (1 - 1e-9)).all() and (objective < times * bound).all()
    history = result.history[result.history["metric"] == "objective"]
    ends = history[history["step"] == 300].set_index("seed")["value"]
    assert objective.to_numpy() == pytest.approx(ends.to_numpy(), rel=1e-9)
    assert (history[history["step"] == 0]["value"] > 2 * objective.max()).all()


def test_a_seed_that_diverges_is_named_and_the_others_go_on(cards, monkeypatch):
    spec = spec_of(RN, epochs=4)
    from replica.residual import training

    def broken(*arguments):
        params = start(*arguments)
        params["head"][1] = np.inf
        return params

    monkeypatch.setattr(training, "start", broken)
    result = train_residual(spec, job_of(spec, cards))
    assert result.states["diverged_at"].tolist() == [-1, 0, -1]
    rows = measure_residual(spec, result.states, run="run", threads=1, card=None)
    assert rows[rows["seed"] == 1]["metric"].tolist() == ["diverged"]
    assert rows[rows["seed"] != 1]["value"].notna().all()


@pytest.mark.slow
def test_a_stopped_training_goes_on_where_it_was(cards, tmp_path):
    spec = spec_of(PATCHES, batch=9, epochs=30)
    whole = train_residual(spec, job_of(spec, cards)).states
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=0)
    checkpoint.stopping = True
    with pytest.raises(SystemExit):
        train_residual(spec, job_of(spec, cards, checkpoint=checkpoint))
    again = train_residual(spec, job_of(spec, cards, checkpoint=Checkpoint(checkpoint.path)))
    for name, value in whole.items():
        assert torch.equal(value, again.states[name]), name


def test_settings_that_make_no_sense_are_said_in_a_sentence():
    with pytest.raises(ConfigError, match="momentum belongs to sgd"):
        spec_of(RN, momentum=0.9)
    with pytest.raises(ConfigError, match="has no lower bound"):
        spec_of(TOKENS, norm="pre", loss="mse")
    spec_of(RN, norm="pre", loss="mse")


def test_only_the_head_of_a_pre_norm_transformer_has_a_bias(cards):
    for network in NETWORKS:
        for norm in ("post", "pre"):
            params, _ = begun(spec_of(network, norm=norm), cards)
            wanted = norm == "pre" and network["kind"] != "resnet"
            assert ("head_bias" in params) == wanted


def test_what_a_run_asks_for_grows_with_depth_and_samples():
    small = training_cost(spec_of(PATCHES, per_class=100, epochs=20_000), 3)
    deep = training_cost(spec_of(PATCHES, per_class=100, epochs=20_000, depth=34), 3)
    assert deep.work.seconds > 4 * small.work.seconds and deep.minutes > small.minutes
    assert deep.mem_mb > small.mem_mb and deep.gpu_slots == 0
    large = spec_of(PATCHES, per_class=5000, batch=1000, dataset="mnist")
    assert training_cost(large, 5).gpu_slots > 0
