"""Deep RFM and networks with a deep head: against plain versions, and their claims both ways."""

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from replica import artifacts, drawing
from replica.data.prepare import DataError, load, prepare_dataset
from replica.data.registry import load_registry
from replica.data.splits import Labelled, standardised
from replica.kernels import metrics
from replica.kernels.deep_rfm import DRAWN, NoFeature, deep_rfm, train_deep_rfm, unit
from replica.kernels.metrics import START
from replica.kernels.observed_networks import observe, train_observed_network
from replica.measures.inputs import Inputs
from replica.models.observed_networks import build_observed_network, gradients_before_relu
from replica.settings.validation import validate_run
from replica.studies import agop
from replica.theory import rfm
from replica.theory.rfm import collapsed_objective
from replica.training import loop
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided

RFM = dict(kind="deep_rfm", dataset="mixture", images=300, kernel="laplace", bandwidth=2.0,
           ridge=0.0, activation="relu", width=256, depth=4, drawn=3, mu=0.5, seeds=2,
           precision="float64")  # fmt: skip
HEAD = dict(kind="observed_network", dataset="digits", images=200, layers=5, width=24, gain=0.3, lr=0.2,
            momentum=0.0, batch=32, epochs=2, every=1, seeds=2)  # fmt: skip
CONV = {"kind": "conv", "channels": [4, 4]}


def rfm_spec(**changes):
    return validate_run(RFM | changes, "test")


def head_spec(**changes):
    return validate_run(HEAD | changes, "test")


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    root, folder = Path(__file__).parents[2], tmp_path_factory.mktemp("data")
    registry = load_registry(root / "config/datasets.yaml")
    names = ("digits", "mixture", "mixture_imb")
    return {name: prepare_dataset(registry[name], folder, folder / name) for name in names}


def job(card, seeds=(0, 1), checkpoint=None):
    return Job("agop", "run", seeds, checkpoint or Checkpoint(None), torch.device("cpu"), 1, card)


def generators(layer):
    return torch.Generator().manual_seed(layer)


# ------------------------------------------------------------------------------------ data


def test_mixtures_have_the_wanted_classes(cards):
    even, uneven = load(cards["mixture"]), load(cards["mixture_imb"])
    assert np.bincount(even.arrays["train.labels"]).tolist() == [100] * 10
    counts = np.bincount(uneven.arrays["train.labels"])
    assert counts.sum() == 1000 and counts[0] / counts[-1] == pytest.approx(3, rel=0.03)
    assert np.allclose(counts[1:] / counts[:-1], 3 ** (-1 / 9), atol=0.02)
    x, y = np.asarray(even.arrays["train.points"]), np.asarray(even.arrays["train.labels"])
    within = np.concatenate([x[y == c] - x[y == c].mean(0) for c in range(10)])
    assert x.shape == (1000, 100) and within.std() == pytest.approx(2, rel=0.02)


def test_samples_are_standardised_and_in_the_order_of_their_classes(cards):
    data = standardised(load(cards["digits"]), 500)
    assert data.inputs.shape == (500, 1, 8, 8) and (data.labels.diff() >= 0).all()
    x = data.inputs.flatten(1).double()
    constant = (x == 0).all(0)
    assert 0 < constant.sum() < 20 and torch.isfinite(x).all()
    assert x.mean(0).abs().max() < 1e-6
    assert (x[:, ~constant].std(0, correction=0) - 1).abs().max() < 1e-6
    raw = np.asarray(load(cards["digits"]).arrays["train.labels"])[:500]
    assert data.labels.tolist() == sorted(raw)
    with pytest.raises(DataError, match="2000 training samples are asked for, and there are 1797"):
        standardised(load(cards["digits"]), 2000)


# -------------------------------------------------------------------------------- Deep RFM


def plain_deep_rfm(x, labels, K, spec):
    """Dense, class by class, with autograd's view of nothing: the formulas as they are printed."""
    found = {}
    Y = F.one_hot(labels, K).double() * 2 - 1
    for layer in range(1, spec.depth + 1):
        x = x / x.norm(dim=1, keepdim=True)
        found[layer, "base"] = x
        D = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
        k = torch.exp(-D / spec.bandwidth)
        w = torch.linalg.solve(k + spec.ridge * torch.eye(len(x), dtype=x.dtype), Y)
        q = torch.where(D > 1e-10, k / D, 0) / spec.bandwidth
        M = 0
        for c in range(K):
            G = q @ (w[:, c, None] * x) - (q @ w[:, c])[:, None] * x
            M = M + G.T @ G
        M = {"mean": M / len(x), "sum": M, "max": M / M.max()}[spec.agop_norm]
        values, vectors = torch.linalg.eigh(M)
        x = x @ (vectors * values.clamp_min(0).sqrt()) @ vectors.T
        found[layer, "right"] = x
        uniform = torch.rand(
            spec.width, x.shape[1], generator=(g := generators(layer)), dtype=x.dtype
        )
        if spec.activation == "relu":
            x = torch.relu(x @ (2 * uniform - 1).T / x.shape[1] ** 0.5)
        else:
            W = spec.feature_scale * torch.tan(torch.pi * (uniform - 0.5))
            u = 2 * torch.pi * torch.rand(spec.width, generator=g, dtype=x.dtype)
            x = (2 / spec.width) ** 0.5 * torch.cos(x @ W.T + u)
        found[layer, "full"] = x
    return found


@pytest.mark.parametrize("norm", ["mean", "sum", "max"])
@pytest.mark.parametrize("activation", ["relu", "cos"])
def test_deep_rfm_is_the_plain_one(cards, activation, norm):
    scale = {"feature_scale": 0.05} if activation == "cos" else {}
    spec = rfm_spec(activation=activation, agop_norm=norm, depth=3, width=64, ridge=1e-3, **scale)
    data = standardised(load(cards["mixture"]), 200)
    x = data.inputs.double()
    kept = deep_rfm(x, data.labels, 10, spec, generators, Checkpoint(None))
    for (layer, place), values in plain_deep_rfm(x, data.labels, 10, spec).items():
        means = torch.stack([values[data.labels == c].mean(0) for c in range(10)])
        within = (values - means[data.labels]).square().sum() / len(x)
        scale = means.abs().max()
        assert (kept[f"{layer}/{place}/means"] - means).abs().max() < 1e-6 * scale
        assert kept[f"{layer}/{place}/within_trace"] == pytest.approx(within.item(), rel=1e-6)


def test_a_fit_that_is_known(cards):
    """Without a ridge the training points are fitted; with one, what is left is γ w."""
    data = standardised(load(cards["mixture"]), 200)
    spec = rfm_spec(depth=1)
    exact = deep_rfm(data.inputs.double(), data.labels, 10, spec, generators, Checkpoint(None))
    assert exact["history/1/train_mse"] < 1e-20 and exact["history/1/train_accuracy"] == 1
    counts = torch.bincount(data.labels).numpy()
    assert exact["history/1/bound"] == pytest.approx(collapsed_objective(counts, 0.5))
    x = unit(data.inputs.double(), 1)
    k = torch.exp(-torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist") / 2)
    Y = F.one_hot(data.labels, 10).double()
    value = (Y * torch.linalg.solve(k + 0.5 * torch.eye(200), k @ Y)).sum()
    assert exact["history/1/objective"] == pytest.approx(value.item(), rel=1e-9)
    ridged = deep_rfm(data.inputs.double(), data.labels, 10, rfm_spec(depth=1, ridge=0.1),
                      generators, Checkpoint(None))  # fmt: skip
    Y = Y * 2 - 1
    left = Y - k @ torch.linalg.solve(k + 0.1 * torch.eye(200), Y)
    assert ridged["history/1/train_mse"] == pytest.approx(left.square().mean().item(), rel=1e-6)


def measured(spec, result):
    states = {name: value.numpy() for name, value in result.states.items()}
    return metrics.measure_deep_rfm(spec, states, run="run", threads=1, card=None)


@pytest.mark.slow
def test_the_agop_lowers_nc1_and_random_features_raise_it(cards):
    spec = rfm_spec(images=1000)
    table = measured(spec, train_deep_rfm(spec, job(cards["mixture"])))
    wide = table[table["place"].notna()].pivot(
        index=["seed", "layer"], columns="place", values="nc1"
    )
    assert len(wide) == 8
    assert (wide["right"] < wide["base"]).all() and (wide["full"] > wide["right"]).all()
    assert (wide["base"].groupby("layer").mean().diff().dropna() < 0).all()
    plain = rfm_spec(images=1000, agop=False, mu=None)
    table = measured(plain, train_deep_rfm(plain, job(cards["mixture"])))
    wide = table[table["place"].notna()].pivot(
        index=["seed", "layer"], columns="place", values="nc1"
    )
    assert (wide["right"] == wide["base"]).all() and (wide["full"] > wide["base"]).all()


def test_the_order_of_the_classes_does_not_matter(cards):
    """Samples in another order, classes renamed: the same numbers."""
    spec, data = rfm_spec(depth=3), standardised(load(cards["mixture"]), 300)
    x = data.inputs.double()
    there = deep_rfm(x, data.labels, 10, spec, generators, Checkpoint(None))
    back = torch.arange(299, -1, -1)
    here = deep_rfm(x[back], 9 - data.labels[back], 10, spec, generators, Checkpoint(None))
    for layer in (1, 2, 3):
        for place in ("base", "right", "full"):
            a, b = there[f"{layer}/{place}/means"], here[f"{layer}/{place}/means"]
            assert torch.allclose(a, b.flip(0), atol=1e-7 * a.abs().max())


def test_gram_matrices_are_those_of_centred_unit_samples(cards):
    spec, data = rfm_spec(depth=2), standardised(load(cards["mixture"]), 300)
    x = data.inputs.double()
    kept = deep_rfm(x, data.labels, 10, spec, generators, Checkpoint(None))
    assert set(k for k in kept if k.startswith("gram/")) == {"gram/1", "gram/3"}
    rows = torch.cat([torch.nonzero(data.labels == c).flatten()[:3] for c in range(10)])
    assert kept["labels"].tolist() == sorted(list(range(10)) * 3)
    values = plain_deep_rfm(x, data.labels, 10, spec)
    for name, features in [("gram/1", values[1, "base"]), ("gram/3", values[2, "right"])]:
        centred = (features - features.mean(0))[rows]
        centred = centred / centred.norm(dim=1, keepdim=True)
        assert torch.allclose(kept[name].double(), centred @ centred.T, atol=1e-5)


def test_a_stopped_deep_rfm_goes_on_bit_for_bit(cards, tmp_path):
    spec = rfm_spec(depth=4, images=200)

    class Stopped(Exception):
        pass

    class Stopping(Checkpoint):
        def save(self, state):
            super().save(state)
            raise Stopped

    data = standardised(load(cards["mixture"]), 200)
    arguments = (data.inputs.double(), data.labels, 10, spec, generators)
    whole = deep_rfm(*arguments, Checkpoint(None))
    for _ in range(2):
        with pytest.raises(Stopped):
            deep_rfm(*arguments, Stopping(tmp_path / "state.safetensors", 0.0))
    resumed = deep_rfm(*arguments, Checkpoint(tmp_path / "state.safetensors", 1e9))
    assert set(whole) == set(resumed)
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


@pytest.mark.slow
def test_single_precision_agrees_as_long_as_it_is_valid(cards):
    tables = {}
    for precision in ("float64", "float32"):
        spec = rfm_spec(precision=precision, depth=12, images=400, seeds=1)
        table = measured(spec, train_deep_rfm(spec, job(cards["mixture"], seeds=(0,))))
        tables[precision] = table[table["place"] == "right"].set_index("layer")
    valid = tables["float32"]["valid"]
    assert 3 <= valid.sum() < 12 and (valid.diff().dropna().astype(int) <= 0).all()
    ratio = tables["float32"]["nc1"] / tables["float64"]["nc1"]
    assert (ratio[valid] - 1).abs().max() < 0.05


@pytest.mark.slow
def test_figures_and_claims_from_runs_laid_out_as_at_paper_scale(cards, tmp_path):
    """A job a seed, two scales of M, the official variant; tables through Parquet."""
    small = dict(images=120, width=48, depth=4, seeds=2, drawn=2)
    cos = small | {"activation": "cos", "feature_scale": 0.05, "mu": None}
    runs = {"relu_mnist": rfm_spec(**small, mu=None)}
    runs |= {f"relu-dataset{d}": rfm_spec(**small, dataset=d) for d in ("mixture", "mixture_imb")}
    for norm in ("mean", "max"):
        for d in ("mixture", "mixture_imb", "digits"):
            run = f"cos-dataset{d}-agop_norm{norm}"
            runs[run] = rfm_spec(**cos, dataset=d, agop_norm=norm)
    runs["cos_code_mnist"] = rfm_spec(**cos | {"width": 64}, dataset="digits", agop_norm="max")
    runs["relu_mnist"] = rfm_spec(**small, dataset="digits", mu=None)
    runs["no_agop"] = rfm_spec(**small, dataset="digits", mu=None, agop=False)
    made = {}
    for run, spec in runs.items():
        for seed in (0, 1):
            own = Job("agop", run, (seed,), Checkpoint(None), torch.device("cpu"), 1,
                      cards[spec.dataset])  # fmt: skip
            result = train_deep_rfm(spec, own)
            states = {name: value.numpy() for name, value in result.states.items()}
            table = metrics.measure_deep_rfm(spec, states, run=run, threads=1, card=None)
            made.setdefault(run.partition("-")[0], []).append((result.history, table))
    tables = {}
    drawing.apply_style()
    for figure, templates in [
        ("fig1_gram_main", ("cos", "relu_mnist")), ("fig5_gram_cos", ("cos",)),
        ("fig3_deeprfm_relu_metrics", ("relu", "relu_mnist")),
        ("fig4_deeprfm_cos_metrics", ("cos", "cos_code_mnist")),
        ("fig6_gram_relu", ("relu", "relu_mnist")), ("ext_thm54", ("relu",)),
        ("ext_no_agop", ("relu_mnist", "no_agop")),
    ]:  # fmt: skip
        parts = [part for template in templates for part in made[template]]
        histories, measures = (
            pd.concat(own, ignore_index=True) for own in zip(*parts, strict=True)
        )
        inputs = Inputs("agop", figure, "paper", "published", histories, measures)
        path = tmp_path / f"{figure}.parquet"
        artifacts.write_table(path, getattr(agop, f"table_{figure}")(inputs), {})
        tables[figure] = artifacts.read_table(path)
        drawn = getattr(agop, f"draw_{figure}")(tables[figure], pd.DataFrame())
        drawn.draw_without_rendering()
    metric_table = tables["fig4_deeprfm_cos_metrics"]
    assert len(metric_table) == 7 * 2 * 4 * 3 and metric_table["seed"].nunique() == 2
    grams = tables["fig5_gram_cos"]
    assert set(grams["seed"]) == {0} and set(grams["layer"]) == {1, 3}
    # i <= j of 20 samples; smaller classes may have fewer in 120 of the unbalanced mixture.
    assert (grams.groupby(["dataset", "layer"]).size() == 210).all()
    for claim in (agop.claim_c1, agop.claim_c2, agop.claim_c3, agop.claim_c4, agop.claim_c5):
        verdict = claim(tables)
        assert np.isfinite(verdict.value) and len(verdict.detail) > 40
    assert agop.claim_c1(tables).verdict in (HOLDS, FAILS)
    assert "cos with M over its largest entry" in agop.claim_c1(tables).detail
    assert agop.claim_c3(tables).value > 0.8
    assert agop.claim_c12(tables).verdict == HOLDS


def test_a_sample_without_an_active_feature_is_named():
    with pytest.raises(NoFeature, match="At layer 3 all features of 1 of 2 samples are zero"):
        unit(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), 3)


def test_cos_needs_its_scale_and_relu_has_none():
    with pytest.raises(ValueError, match="cos features need feature_scale"):
        rfm_spec(activation="cos")
    with pytest.raises(ValueError, match="relu features take none"):
        rfm_spec(feature_scale=0.05)


# -------------------------------------------------------------------------------- networks


def small_network(shape=(1, 8, 8), seed=0, **changes):
    return build_observed_network(head_spec(**changes), shape, 10, seed).double()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_gradients_by_the_chain_rule_are_those_of_autograd(batch_norm):
    network = small_network(body=CONV, batch_norm=batch_norm)
    x = torch.randn(6, 1, 8, 8, dtype=torch.float64)
    if batch_norm:
        # Statistics, scales and shifts that are not those of the start.
        network(3 * torch.randn(20, 1, 8, 8, dtype=torch.float64))
        for norm in network.norms:
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias)
    network.eval()
    features, before = network.activations(x)
    found = gradients_before_relu(network, features)
    for l in range(5):
        for k in range(10):
            (plain,) = torch.autograd.grad(
                network.readout(features[-1])[:, k].sum(), before[l], retain_graph=True
            )
            assert torch.allclose(found[l][:, k], plain, atol=1e-12)


def test_without_a_gain_every_layer_starts_as_torch_starts_it():
    network = small_network(gain=None)
    for layer in network.layers:
        bound = layer.weight.shape[1] ** -0.5
        assert 0.9 * bound < layer.weight.abs().max() <= bound


def test_what_is_observed_is_what_plain_formulas_give(cards):
    """NC1 at SVᵀΦ, the AGOP from per-sample Jacobians of the sub-network, and its correlation."""
    data = standardised(load(cards["digits"]), 150)
    network = build_observed_network(head_spec(), (1, 8, 8), 10, 3)
    spec = head_spec(epochs=1, every=1, seeds=1)
    kept = observe(network, data)
    states = {f"{e}/{k}": v[None].numpy() for e in (-1, 0, 1) for k, v in kept.items()}
    table = metrics.measure_observed_network(
        spec, states | {"seed": np.array([0])}, run="run", threads=1, card=None
    )
    network = network.double()
    features = network.body(data.inputs.double())
    N = len(data.labels)
    for l, layer in enumerate(network.layers, start=1):
        rest = [*network.layers[l - 1 :]]

        def f(z, rest=rest):
            for own in rest:
                z = torch.relu(own(z))
            return network.readout(z)

        J = torch.func.vmap(torch.func.jacrev(f))(features)
        M = torch.einsum("nki,nkj->ij", J, J).detach() / N
        values, vectors = torch.linalg.eigh(M)
        root = ((vectors * values.clamp_min(0).sqrt()) @ vectors.T).numpy()
        W = layer.weight.detach()
        plain = np.corrcoef((W.T @ W).numpy().ravel(), root.ravel())[0, 1]
        own = table[(table["layer"] == l) & (table["epoch"] == 0)]
        value = own.loc[own["metric"] == "nfa_pearson", "value"].item()
        assert value == pytest.approx(plain, abs=2e-3)
        _, S, V = torch.linalg.svd(W, full_matrices=False)
        places = {"base": features, "right": features @ V.T * S,
                  "full": torch.relu(features @ W.T)}  # fmt: skip
        for place, x in places.items():
            x = x.detach()
            means = torch.stack([x[data.labels == c].mean(0) for c in range(10)])
            within = (x - means[data.labels]).square().sum().item() / N
            here = own[own["place"] == place].set_index("metric")["value"]
            assert here["nc1"] == pytest.approx(metrics.nc1(within, means.numpy()), rel=1e-4)
            assert here["nc2_msd"] == pytest.approx(metrics.nc2_msd(means.numpy()), rel=1e-3)
        features = places["full"].detach()
    loss = F.mse_loss(network(data.inputs.double()), F.one_hot(data.labels, 10).double() * 2 - 1)
    shares = table[table["epoch"] == 0].set_index("metric")["value"]
    assert shares["train_loss"] == pytest.approx(loss.item(), rel=1e-5)
    assert shares["trSw_over_trSt"] + shares["trSb_over_trSt"] == pytest.approx(1, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("body", "shape", "d", "first_is_default"),
    [
        (None, (3, 32, 32), 3072, False), (None, (100,), 100, False),
        (CONV, (1, 8, 8), 16, True),
        ({"kind": "staged_resnet", "widths": [16], "blocks": [3]}, (1, 8, 8), 16, True),
        ({"kind": "torchvision", "name": "resnet18"}, (1, 28, 28), 512, True),
        ({"kind": "torchvision", "name": "vgg11"}, (3, 32, 32), 8192, True),
    ],
)  # fmt: skip
def test_bodies_and_starts(body, shape, d, first_is_default):
    network = build_observed_network(head_spec(body=body, width=512, gain=0.2), shape, 10, 0).eval()
    assert network.layers[0].in_features == d and len(network.layers) == 5
    assert network(torch.zeros(2, *shape)).shape == (2, 10)
    assert all(p.ndim > 1 or "body" in name for name, p in network.named_parameters())
    # Xavier: ± gain √(6/(inputs + outputs)); torch: ± 1/√inputs.
    bound = d**-0.5 if first_is_default else 0.2 * (6 / (d + 512)) ** 0.5
    assert network.layers[0].weight.detach().abs().max() == pytest.approx(bound, rel=0.01)
    assert network.layers[1].weight.detach().abs().max() == pytest.approx(
        0.2 * (6 / 1024) ** 0.5, rel=0.01
    )
    assert network.readout.weight.detach().abs().max() == pytest.approx(512**-0.5, rel=0.01)
    if body and body["kind"] == "torchvision":
        first = network.body.conv1 if body["name"] == "resnet18" else network.body[0][0]
        assert first.bias is None and first.in_channels == shape[0]


def test_images_are_needed_for_convolutions():
    with pytest.raises(ValueError, match="digits has no images, and conv needs them"):
        build_observed_network(head_spec(body=CONV), (100,), 10, 0)


def test_a_training_is_the_plain_one_and_measured_when_the_paper_does(cards):
    """Momentum that begins anew is a new optimiser in each epoch; the first epoch counts as 0."""
    spec = head_spec(momentum=0.9, momentum_restarts=True, lr=0.05, seeds=1, epochs=4, every=2)
    result = train_observed_network(spec, job(cards["digits"], seeds=(0,)))
    epochs = sorted({int(name.split("/")[0]) for name in result.states if "/" in name})
    assert epochs == [-1, 0, 2, 4] and result.history["step"].tolist() == [0, 1, 2, 3, 4]
    data = standardised(load(cards["digits"]), 200)
    from replica.provenance import stream_seed

    names = ("agop", "run", 0)
    network = build_observed_network(spec, (1, 8, 8), 10, stream_seed(*names, "start"))
    targets = F.one_hot(data.labels, 10).float() * 2 - 1
    seed = stream_seed(*names, "order")
    for name, value in observe(network, Labelled(data.inputs, data.labels, 10)).items():
        assert torch.equal(result.states[f"-1/{name}"][0], value), name
    for epoch in range(1, 6):
        optimiser = torch.optim.SGD(network.parameters(), lr=0.05, momentum=0.9)
        generator = torch.Generator().manual_seed((seed + 0x9E3779B9 * epoch) % 2**63)
        for rows in torch.randperm(200, generator=generator).split(32):
            optimiser.zero_grad()
            F.mse_loss(network(data.inputs[rows]), targets[rows]).backward()
            optimiser.step()
    kept = observe(network, Labelled(data.inputs, data.labels, 10))
    for name, value in kept.items():
        assert torch.allclose(result.states[f"4/{name}"][0], value, atol=1e-5), name


def test_a_stopped_network_goes_on_bit_for_bit(cards, tmp_path):
    """What was observed before the stop is in the checkpoint."""
    spec = head_spec(momentum=0.9, lr=0.05, seeds=1, epochs=4)

    class Stopped(Exception):
        pass

    class Stopping(Checkpoint):
        def member(self, name):
            return Stopping(super().member(name).path, self.every)

        def save(self, state):
            super().save(state)
            raise Stopped

    whole = train_observed_network(spec, job(cards["digits"], seeds=(0,)))
    path = tmp_path / "state.safetensors"
    for _ in range(3):
        with pytest.raises(Stopped):
            train_observed_network(spec, job(cards["digits"], (0,), Stopping(path, 0.0)))
    resumed = train_observed_network(spec, job(cards["digits"], (0,), Checkpoint(path, 1e9)))
    assert set(whole.states) == set(resumed.states)
    assert all(torch.equal(whole.states[name], resumed.states[name]) for name in whole.states)
    assert whole.history.equals(resumed.history)


def test_the_notebook_is_drawn_beside_its_log(cards, root):
    spec = head_spec(
        batch_norm=True, gain=None, lr=0.005, momentum=0.9, momentum_restarts=True,
        weight_decay=5e-4, warm_up=True, seeds=1,
    )  # fmt: skip
    result = train_observed_network(spec, job(cards["digits"], seeds=(0,)))
    states = {name: value.numpy() for name, value in result.states.items()}
    rows = metrics.measure_observed_network(spec, states, run="run", threads=1, card=None)
    table = agop.table_ext_notebook(
        Inputs("agop", "ext_notebook", "desktop", "reconstructed", result.history, rows)
    )
    published = pd.read_csv(root / "config/published/agop.csv")
    published = published[published["figure"] == "ext_notebook"]
    left, right = agop.draw_ext_notebook(table, published).axes
    loss = table[table["panel"] == "loss"]
    ours, log = (line.get_xydata() for line in left.lines)
    assert ours[:, 1] == pytest.approx(loss["value"].to_numpy()) and len(loss) == 3
    assert log[0].tolist() == [0, 0.99251] and len(right.lines) >= 6


def test_momentum_is_kept_where_it_does_not_begin_anew():
    def trained(restarts):
        model = nn.Linear(3, 1, bias=False)
        nn.init.ones_(model.weight)
        x = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
        recipe = loop.Recipe(lr=0.1, epochs=3, batch=4, momentum=0.9, restarts=restarts)
        run = loop.train(model, x, torch.zeros(8).long(),
                         lambda m, x, y: {"loss": m(x).square().mean()}, recipe, seed=0,
                         snapshot_epochs=[1, 3], checkpoint=Checkpoint(None))  # fmt: skip
        return run.snapshots

    kept, anew = trained(False), trained(True)
    assert torch.equal(kept[1]["weight"], anew[1]["weight"])
    assert not torch.equal(kept[3]["weight"], anew[3]["weight"])


def test_the_last_epoch_is_measured():
    with pytest.raises(ValueError, match="epochs = 5 is not a multiple of every = 2"):
        head_spec(epochs=5, every=2)


# ---------------------------------------------------------------------------------- claims


def made_metrics(figure, activation, right, base=1.5, full=1.2, nc2=lambda l: 2e-5 * 10 / l):
    """Metrics of Deep RFM whose NC1(M^½X) at layer l is right(l) and whose NC2 there is nc2(l)."""
    rows = []
    for dataset in ("digits", "mixture", "mixture_imb"):
        for seed, layer in itertools.product(range(3), range(1, 21)):
            value = right(layer)
            for place, factor in [("base", base), ("right", 1.0), ("full", full)]:
                rows.append({"run": f"run-{dataset}", "dataset": dataset, "activation": activation,
                             "agop": True, "agop_norm": "mean", "seed": seed, "layer": layer,
                             "depth": 20, "width": 512, "place": place, "nc1": factor * value,
                             "nc2_msd": (1 + seed / 10) * nc2(layer - (place == "base") / 2),
                             "valid": value > 1e-6})  # fmt: skip
    return pd.DataFrame(rows).assign(figure=figure, scale="laptop")


def made_gram(within, between, activation):
    frames = []
    for dataset, layer in itertools.product(("digits", "mixture", "mixture_imb"), DRAWN):
        i, j = np.triu_indices(20)
        same = i // 2 == j // 2
        value = np.where(i == j, 1, np.where(same, within, between))
        frames.append(pd.DataFrame({"dataset": dataset, "activation": activation, "layer": layer,
                                    "i": i, "j": j, "class_i": i // 2, "class_j": j // 2,
                                    "value": value}))  # fmt: skip
    return pd.concat(frames).assign(scale="laptop", seed=0)


def made_tables(right=lambda l: 10.0 ** (-l / 4), within=0.99, between=-0.11, **more):
    relu = made_metrics("fig3", "relu", right, **more)
    plain = made_metrics("ext", "relu", lambda l: 1.1**l, base=1.0, full=1.1).assign(agop=False)
    return {
        "fig3_deeprfm_relu_metrics": relu,
        "fig4_deeprfm_cos_metrics": made_metrics("fig4", "cos", right, **more),
        "fig5_gram_cos": made_gram(within, between, "cos"),
        "fig6_gram_relu": made_gram(within, between, "relu"),
        "ext_no_agop": plain,
    }


@pytest.mark.slow
def test_claims_on_deep_rfm_go_both_ways():
    claims = (agop.claim_c1, agop.claim_c2, agop.claim_c3, agop.claim_c4, agop.claim_c5)
    assert [claim(made_tables()).verdict for claim in claims] == [HOLDS] * 5
    flat = made_tables(right=lambda l: 1.0 + 0.01 * (l % 3), nc2=lambda l: 1e-5 * l)
    assert [claim(flat).verdict for claim in claims] == [FAILS, FAILS, HOLDS, FAILS, FAILS]
    # Classes of unequal size have a claim of their own.
    uneven = made_tables()
    for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
        uneven[name].loc[uneven[name]["dataset"] == "mixture_imb", "nc1"] = 1.0
    assert [claim(uneven).verdict for claim in claims[:2]] == [HOLDS] * 2
    assert "imbalanced" not in agop.claim_c1(uneven).detail
    assert agop.claim_c5(uneven).verdict == FAILS
    uneven = made_tables()
    for name in ("fig5_gram_cos", "fig6_gram_relu"):
        within = uneven[name]["class_i"] == uneven[name]["class_j"]
        at = within & (uneven[name]["dataset"] == "mixture_imb")
        uneven[name].loc[at, "value"] = 0.9
    assert agop.claim_c2(uneven).verdict == HOLDS and agop.claim_c5(uneven).verdict == FAILS
    raised = made_tables(base=0.5)
    assert agop.claim_c3(raised).verdict == FAILS and agop.claim_c3(raised).value == 0
    loose = made_tables(within=0.9)
    assert agop.claim_c2(loose).verdict == FAILS and agop.claim_c5(loose).verdict == FAILS


def test_a_fall_below_the_numerical_floor_is_no_failure():
    """NC1 falls too fast to be seen."""
    for right in (lambda l: 10.0 ** (9 - 9 * l), lambda l: {1: 1.0, 2: 0.05}.get(l, 1e-9)):
        verdict = agop.claim_c1(made_tables(right=right))
        assert verdict.verdict == UNDECIDABLE and "below the numerical floor" in verdict.detail
        # A data set where NC1 stays as it is refutes all the same.
        tables = made_tables(right=right)
        table = tables["fig3_deeprfm_relu_metrics"]
        tables["fig3_deeprfm_relu_metrics"] = table.assign(
            nc1=table["nc1"].mask(table["dataset"] == "digits", 1.0),
            valid=table["valid"] | (table["dataset"] == "digits"),
        )
        assert agop.claim_c1(tables).verdict == FAILS
    with pytest.raises(Undecided, match="no valid layer"):
        agop.claim_c5(made_tables(right=lambda l: 10.0 ** (9 - 9 * l)))
    # What is seen before the floor is enough where it is below the limit.
    assert agop.claim_c1(made_tables(right=lambda l: 10.0 ** (3 - 3 * l))).verdict == HOLDS


def test_an_unknown_nc1_decides_nothing():
    """Whether its layer counts as valid or not, and at whichever place."""
    claims = (agop.claim_c1, agop.claim_c2, agop.claim_c3, agop.claim_c4, agop.claim_c5)
    for valid in (True, False):
        tables = made_tables()
        for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
            deep = tables[name]["layer"] > 12
            tables[name].loc[deep, "nc1"] = np.nan
            tables[name].loc[deep, "valid"] = valid
        for claim in claims:
            with pytest.raises(Undecided, match="not every NC1 down to the numerical floor"):
                claim(tables)
    tables = made_tables()
    table = tables["fig4_deeprfm_cos_metrics"]
    table.loc[(table["layer"] > 1) & (table["place"] == "full"), "nc1"] = np.nan
    with pytest.raises(Undecided, match="not every NC1 of a valid layer"):
        agop.claim_c3(tables)


@pytest.mark.slow
def test_collapsed_classes_alone_are_no_frame():
    """Random class means have cosines of -1/(K-1) in the mean, whatever they are."""
    means = np.random.default_rng(0).standard_normal((10, 512))
    random = metrics.nc2_msd(means)
    assert np.median(agop._random_means(10, 512)) == pytest.approx(random, rel=0.3)
    centred = means - means.mean(0)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    between = (centred @ centred.T)[~np.eye(10, dtype=bool)].mean()
    assert between == pytest.approx(-1 / 9, abs=0.01)
    # As near to a frame as random means, at every layer but the data.
    falling = made_tables(nc2=lambda l: random * (1.05 - l / 400 + 3 * (l < 1)))
    verdict = agop.claim_c2(falling)
    assert verdict.verdict == UNDECIDABLE and "random means" in verdict.detail
    # Farther than them.
    assert agop.claim_c2(made_tables(nc2=lambda l: 60 * random / l)).verdict == FAILS
    # A frame from the start, which depth does not improve; and one that it makes worse.
    level = made_tables(nc2=lambda l: 1e-5)
    assert agop.claim_c2(level).verdict == UNDECIDABLE
    worse = made_tables(nc2=lambda l: 1e-6 * l)
    assert agop.claim_c2(worse).verdict == FAILS and agop.claim_c5(worse).verdict == FAILS
    # One seed tests no fall.
    single = {
        name: table[table["seed"] == 0] if "seed" in table else table
        for name, table in made_tables().items()
    }
    verdict = agop.claim_c2(single)
    assert verdict.verdict == UNDECIDABLE and "one seed: no test" in verdict.detail
    # A layer below the floor is rounding.
    steep = made_tables(right=lambda l: 10.0 ** (1 - l))
    assert "digits layer 7" in agop.claim_c2(steep).detail


def test_three_laws_of_decay():
    def verdict_of(right):
        return agop.claim_c4(made_tables(right=right))

    assert verdict_of(lambda l: 10.0 ** (-l / 4)).verdict == HOLDS
    assert verdict_of(lambda l: l**-4.0).verdict == FAILS
    faster = verdict_of(lambda l: 10.0 ** (-(l**2) / 100))
    assert faster.verdict == FAILS and "exp(-l²)" in faster.detail
    # A fall so steep that three layers are valid tells no law.
    assert verdict_of(lambda l: 10.0 ** (-1.6 * l)).verdict == UNDECIDABLE
    # Two of three data sets are exponential: nothing is decided.
    mixed = made_tables()
    table = mixed["fig3_deeprfm_relu_metrics"]
    of_digits = table["dataset"] == "digits"
    table.loc[of_digits, "nc1"] = table.loc[of_digits, "layer"] ** -4.0
    verdict = agop.claim_c4(mixed)
    assert verdict.verdict == UNDECIDABLE and verdict.value == pytest.approx(2 / 3)
    # One run that is exponential is so in one of three cases by chance.
    single = made_tables()
    table = single["fig3_deeprfm_relu_metrics"]
    single["fig3_deeprfm_relu_metrics"] = table[of_digits & (table["seed"] == 0)]
    assert agop.claim_c4(single).verdict == UNDECIDABLE
    # So is one without a fall; nine of them are not.
    assert verdict_of(lambda l: 1.01**l).verdict == FAILS
    single = made_tables(right=lambda l: 1.01**l)
    table = single["fig3_deeprfm_relu_metrics"]
    single["fig3_deeprfm_relu_metrics"] = table[of_digits & (table["seed"] == 0)]
    assert agop.claim_c4(single).verdict == UNDECIDABLE


def test_a_few_exceptions_are_named():
    tables = made_tables()
    table = tables["fig3_deeprfm_relu_metrics"]
    at = (table["layer"] == 7) & (table["place"] == "full") & (table["dataset"] == "digits")
    table.loc[at, "nc1"] = 0
    verdict = agop.claim_c3(tables)
    assert verdict.verdict == HOLDS and "with exceptions" in verdict.detail
    assert "digits layer 7" in verdict.detail and verdict.value == 357 / 360
    # An exception in every run: no coin fell as claimed.
    for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
        at = (tables[name]["layer"] == 7) & (tables[name]["place"] == "full")
        tables[name].loc[at, "nc1"] = 0
    verdict = agop.claim_c3(tables)
    assert verdict.verdict == UNDECIDABLE and verdict.value == 0.95


def test_the_fall_is_due_to_the_agop_only_where_there_is_none_without():
    tables = made_tables()
    tables["ext_no_agop"] = made_metrics("ext", "relu", lambda l: 0.9**l).assign(agop=False)
    assert agop.claim_c3(tables).verdict == FAILS
    # Two runs, however many layers: coins would do that in a quarter of cases.
    few = made_tables()
    for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
        few[name] = few[name][(few[name]["dataset"] == "digits") & (few[name]["seed"] == 0)]
    assert agop.claim_c3(few).verdict == UNDECIDABLE
    # Nor do their exceptions refute it, three of 40 layers, as those of many runs do.
    for tables, verdict in [(few, UNDECIDABLE), (made_tables(), FAILS)]:
        for name in ("fig3_deeprfm_relu_metrics", "fig4_deeprfm_cos_metrics"):
            layers = [5, 6] if name.startswith("fig3") else [5]
            at = tables[name]["layer"].isin(layers) & (tables[name]["place"] == "full")
            tables[name].loc[at, "nc1"] = 0
        assert agop.claim_c3(tables).verdict == verdict
        assert agop.claim_c3(tables).value == 0.925
    # Three runs without AGOP that do not fall are coins, too, and five the fewest that count.
    for seeds, verdict in ((3, UNDECIDABLE), (5, HOLDS)):
        rows = [
            made_metrics("ext", "relu", lambda l: 1.01**l).query(
                "dataset == 'digits' and seed == 0"
            )
            for _ in range(seeds)
        ]
        plain = pd.concat([own.assign(seed=seed) for seed, own in enumerate(rows)])
        found = agop.claim_c3(made_tables() | {"ext_no_agop": plain.assign(agop=False)})
        assert found.verdict == verdict
    # Nor does one run without AGOP.
    one = made_tables()
    plain = made_metrics("ext", "relu", lambda l: 0.9999**l).assign(agop=False)
    one["ext_no_agop"] = plain[(plain["dataset"] == "digits") & (plain["seed"] == 0)]
    assert agop.claim_c3(one).verdict == UNDECIDABLE
    # Nor what is below the numerical floor.
    one["ext_no_agop"] = made_metrics("ext", "relu", lambda l: 10.0 ** (9 - 9 * l), base=1.0)
    one["ext_no_agop"]["agop"] = False
    with pytest.raises(Undecided, match="without AGOP NC1 is below the numerical floor"):
        agop.claim_c3(one)


EPOCHS = (START, 0, 90, 100)
# With fewer no fall of a correlation is beyond chance in one of two networks.
SEEDS = 6


def made_layers(R=2.0, T=0.1, lead=1.0, pairs=(("MLP", "mnist"),), late=1.0, before=0.0):
    """Networks whose R is `before` at the start and R at the end; `late` of the way at epoch 90."""
    rows = []
    done = dict(zip(EPOCHS, (0, 0, late, 1), strict=True))
    for (model, dataset), seed, epoch, layer in itertools.product(
        pairs, range(SEEDS), EPOCHS, range(1, 6)
    ):
        r = before + (R - before) * done[epoch]
        fall = done[epoch] * (0.1 + lead * (layer == 5))
        for place, log in [("base", 0), ("right", -r / 5), ("full", -(r + T) / 5)]:
            rows.append({"model": model, "dataset": dataset, "width": 256, "seed": seed,
                         "steps": 100, "epoch": epoch, "layer": layer, "place": place,
                         "nc1": np.exp(log), "nc2_msd": 10**-fall})  # fmt: skip
    return pd.DataFrame(rows).assign(scale="laptop")


def made_nfa(value=0.7, before=0.3, accuracy=1.0, pairs=(("MLP", "mnist"),), late=1.0):
    rows = []
    done = dict(zip(EPOCHS, (0, 0, late, 1), strict=True))
    for (model, dataset), seed, epoch in itertools.product(pairs, range(SEEDS), EPOCHS):
        own = {"model": model, "dataset": dataset, "seed": seed, "epoch": epoch}
        for layer in range(1, 6):
            now = before + (value - before) * done[epoch]
            rows.append(own | {"layer": layer, "quantity": "nfa_pearson", "value": now})
        rows.append(own | {"quantity": "train_accuracy", "value": accuracy})
    return pd.DataFrame(rows).assign(steps=100, width=256, scale="laptop")


def network_tables(R=2.0, T=0.1, lead=1.0, value=0.7, accuracy=1.0, nfa=None, **more):
    mlp, resnet = (("MLP", "mnist"),), (("ResNet", "cifar10"),)
    tables = {"fig2_nc1_layers_main": made_layers(R, T, lead, pairs=mlp + resnet, **more)}
    for name, pairs in [("fig10_mlp_nfa", mlp), ("fig11_resnet_nfa", resnet)]:
        tables[name] = made_nfa(value, accuracy=accuracy, pairs=pairs, **(nfa or {}))
    return tables


def of_seeds(tables, seeds):
    return {name: table[table["seed"] < seeds].copy() for name, table in tables.items()}


def test_claims_on_networks_go_both_ways():
    assert agop.claim_c6(network_tables()).verdict == HOLDS
    assert agop.claim_c6(network_tables(R=-1.0)).verdict == FAILS
    assert agop.claim_c6(network_tables(T=2.5)).verdict == FAILS
    # Most is more than half.
    assert agop.claim_c6(network_tables(T=1.5)).verdict == HOLDS
    assert agop.claim_c6(network_tables(T=-5.0)).verdict == HOLDS
    # A network that the claim is not about decides nothing.
    tables = network_tables()
    other = made_nfa(accuracy=0.5, pairs=(("MLP", "mixture"),))
    tables["fig10_mlp_nfa"] = pd.concat([tables["fig10_mlp_nfa"], other])
    assert agop.claim_c6(tables).verdict == HOLDS and agop.claim_c7(tables).verdict == HOLDS
    assert agop.claim_c7(network_tables()).verdict == HOLDS
    # Beyond the published deviation of the MLP, 0.13, in either direction.
    assert agop.claim_c7(network_tables(value=0.88)).verdict == FAILS
    assert agop.claim_c7(network_tables(value=0.6)).verdict == FAILS
    assert agop.claim_c8(network_tables()).verdict == HOLDS
    assert agop.claim_c8(network_tables(lead=0.2)).verdict == FAILS


def test_an_untrained_network_that_does_as_well_decides_nothing():
    """Its correlation is as high, inside the published deviation; its R is as large."""
    same = agop.claim_c7(network_tables(value=0.74, nfa={"before": 0.74}))
    assert same.verdict == UNDECIDABLE and "0.74 ± 0.00 before training" in same.detail
    assert agop.claim_c7(network_tables(value=0.74, nfa={"before": 0.9})).verdict == FAILS
    assert agop.claim_c6(network_tables(before=3.0)).verdict == FAILS
    # Of three seeds of one network, coins agree in one of eight cases.
    tables = of_seeds(network_tables(), 3)
    layers = tables["fig2_nc1_layers_main"]
    tables["fig2_nc1_layers_main"] = layers[layers["model"] == "MLP"]
    assert agop.claim_c6(tables).verdict == UNDECIDABLE


def test_layers_of_a_network_are_one_sample():
    """Three seeds rise by chance in one of eight cases, however many layers they have."""
    verdict = agop.claim_c7(of_seeds(network_tables(), 3))
    assert verdict.verdict == UNDECIDABLE and "rise p 0.12 over seeds" in verdict.detail
    assert agop.claim_c7(of_seeds(network_tables(), 5)).verdict == HOLDS
    # One of two networks falls in all of five seeds in more than 5 % of cases.
    falling = network_tables(value=0.74, nfa={"before": 0.9})
    assert agop.claim_c7(of_seeds(falling, 5)).verdict == UNDECIDABLE


def test_a_layer_without_a_value_is_not_passed_over():
    tables = network_tables()
    layers = tables["fig2_nc1_layers_main"]
    at = (layers["layer"] == 4) & (layers["place"] == "full") & (layers["epoch"] == 100)
    layers.loc[at, "nc2_msd"] = 0.0
    with pytest.raises(Undecided, match="not every fall of log10 NC2 of a layer"):
        agop.claim_c8(tables)
    nfa = tables["fig10_mlp_nfa"]
    nfa.loc[(nfa["layer"] == 4) & (nfa["epoch"] == 100), "value"] = np.nan
    with pytest.raises(Undecided, match="not every difference from the null model"):
        agop.claim_c7(tables)


def test_networks_where_no_seed_agrees_are_counted_among_all():
    """Of nine pairs with three seeds, coins leave two without a good seed in a third of cases."""
    index = pd.MultiIndex.from_product([range(3), range(3), range(3)],
                                       names=["model", "dataset", "seed"])  # fmt: skip
    generator = np.random.default_rng(0)
    draws = [pd.Series(generator.random(27) < 0.5, index=index) for _ in range(500)]
    assert np.mean([agop._by_seeds(good)[1] < 0.05 for good in draws]) < 0.05
    good = pd.Series(True, index=index)
    assert agop._by_seeds(good) == (0.5**27, 1)
    good[(0, 0)] = False
    assert agop._by_seeds(good)[1] == pytest.approx(1 - (7 / 8) ** 9)
    # One seed less of one pair, and coins do it more easily.
    assert agop._by_seeds(good.iloc[:-1])[1] == pytest.approx(1 - (3 / 4) ** 9)


def test_networks_must_fit_and_settle():
    for claim in (agop.claim_c6, agop.claim_c7, agop.claim_c8):
        with pytest.raises(Undecided, match=r"MLP on MNIST fits only 90\.0% of its training set"):
            claim(network_tables(accuracy=0.9))
        with pytest.raises(Undecided, match="0 of 12 runs have settled"):
            claim(network_tables(late=0.8, nfa={"late": 0.8}))


def nine(R=2.0, accuracy=1.0, models=("MLP", "ResNet", "VGG"), before=0.3):
    found = {}
    for model, number in [("MLP", (7, 10)), ("ResNet", (8, 11)), ("VGG", (9, 12))]:
        data = ("mnist", "cifar10", "svhn") if model in models else ("mnist",)
        pairs = tuple((model, dataset) for dataset in data)
        name = model.lower()
        layers = made_layers(R if model == "VGG" else 2.0, pairs=pairs)
        found[f"fig{number[0]}_{name}_nc1"] = layers
        found[f"fig{number[1]}_{name}_nfa"] = made_nfa(
            accuracy=accuracy, pairs=pairs, before=before if model == "VGG" else 0.3
        )
    return found


@pytest.mark.slow
def test_nine_pairs_are_needed():
    assert agop.claim_c9(nine()).verdict == HOLDS
    verdict = agop.claim_c9(nine(-2.0))
    assert verdict.verdict == FAILS and verdict.value == 6
    fewer = agop.claim_c9(nine(models=("MLP", "ResNet")))
    assert fewer.verdict == UNDECIDABLE and "7 of 7 pairs" in fewer.detail
    # VGGs that lose the correlation, in all seeds, in three, and in half of them.
    losing = nine(before=0.9)
    assert agop.claim_c9(losing).verdict == FAILS
    assert agop.claim_c9(of_seeds(losing, 3)).verdict == UNDECIDABLE
    nfa = losing["fig12_vgg_nfa"]
    half = (nfa["seed"] < 3) & (nfa["epoch"] == START)
    nfa.loc[half & (nfa["quantity"] == "nfa_pearson"), "value"] = 0.3
    verdict = agop.claim_c9(losing)
    assert verdict.verdict == UNDECIDABLE and "6 of 9 pairs" in verdict.detail
    nfa.loc[(nfa["layer"] == 4) & (nfa["epoch"] == START), "value"] = np.nan
    with pytest.raises(Undecided, match="not every rise of the correlation"):
        agop.claim_c9(losing)
    with pytest.raises(Undecided, match="fits only"):
        agop.claim_c9(nine(accuracy=0.4))


def closed(figure, histories=None):
    empty = pd.DataFrame(columns=["run", "seed", "step", "metric", "value"])
    inputs = Inputs("agop", figure, "laptop", "reconstructed",
                    empty if histories is None else histories, pd.DataFrame())  # fmt: skip
    return getattr(agop, f"table_{figure}")(inputs)


@pytest.mark.slow
def test_a_wrong_arc_cosine_map_is_seen(monkeypatch):
    def verdict():
        return agop.claim_c10({"ext_prop_a1": closed("ext_prop_a1")}).verdict

    estimate, iterates = rfm.monte_carlo_arc_cosine, rfm.iterates
    assert verdict() == HOLDS
    faults = {
        # W of variance 1/D; a map without the angle; iterates that are stopped too late.
        "monte_carlo_arc_cosine": lambda *args: estimate(*args) / 2,
        "arc_cosine": lambda r: (1 + r) / 2,
        "iterates": lambda r: iterates(r, 0.991),
    }
    for name, wrong in faults.items():
        with monkeypatch.context() as fault:
            fault.setattr(rfm, name, wrong)
            assert verdict() == FAILS, name


@pytest.mark.slow
def test_claims_of_theory():
    verdict = agop.claim_c10({"ext_prop_a1": closed("ext_prop_a1")})
    assert verdict.verdict == HOLDS and "57 layers" in verdict.detail
    table = closed("ext_thm53")
    verdict = agop.claim_c11({"ext_thm53": table})
    assert verdict.verdict == HOLDS
    assert "printed κ: does not hold" in verdict.detail
    assert "corrected κ: holds" in verdict.detail and "fixed point κ: holds" in verdict.detail
    wrong = table.assign(error=table["error"].where(table["kappa_kind"] != "corrected", 1.0))
    assert agop.claim_c11({"ext_thm53": wrong}).verdict == FAILS
    rows = [
        ("relu", 0, l, m, v) for l in (1, 2) for m, v in [("objective", 5.0 * l), ("bound", 20)]
    ]
    table = closed(
        "ext_thm54", pd.DataFrame(rows, columns=["run", "seed", "step", "metric", "value"])
    )
    assert agop.claim_c12({"ext_thm54": table}).verdict == HOLDS
    over = table.assign(objective=table["objective"].where(table["layer"] != 2, 21.0))
    assert agop.claim_c12({"ext_thm54": over}).verdict == FAILS


def test_a_run_may_be_left_out_at_a_scale(root):
    from replica.plan import make_plan, words

    small = make_plan(root, {"scale": "laptop", "studies": ["agop"]})
    runs = {run for _, run, _ in small.parts}
    assert not {run for run in runs if run.startswith(("cos_code", "vgg-", "switch"))}
    assert words.status(small, "agop", "fig4_deeprfm_cos_metrics") == "scaled"
    large = make_plan(root, {"scale": "paper", "studies": ["agop"]})
    runs = {run for _, run, _ in large.parts}
    assert {"cos_code-datasetsvhn", "vgg-datasetcifar10", "vgg_mnist"} <= runs
    assert large.parts["agop", "resnet-datasetsvhn", "seed2"].seeds == (2,)
    assert words.status(large, "agop", "fig8_resnet_nc1") == "published"


@pytest.mark.slow
def test_on_real_images_the_agop_collapses_and_random_features_do_not(real_data, root, tmp_path):
    """500 images of MNIST with the Gaussian kernel, as in the paper but fewer and in float64."""
    raw = tmp_path / "raw"
    raw.symlink_to(real_data / "mnist")
    registry = load_registry(root / "config/datasets.yaml")
    card = prepare_dataset(registry["mnist"], raw, tmp_path / "mnist")
    spec = rfm_spec(dataset="mnist", images=500, kernel="gaussian", width=512, depth=6, seeds=1,
                    mu=None)  # fmt: skip
    table = measured(spec, train_deep_rfm(spec, job(card, seeds=(0,))))
    wide = table[table["place"].notna()].pivot(index="layer", columns="place", values="nc1")
    assert (wide["right"] < wide["base"]).all() and (wide["full"] > wide["right"]).all()
    assert wide["right"].iloc[-1] < 0.05 * wide["right"].iloc[0]


@pytest.mark.slow
def test_data_sets_of_a_user_are_drawn_by_their_own_name():
    """Below the rows of the paper."""
    table = made_metrics("fig3_deeprfm_relu_metrics", "relu", lambda l: 10.0 ** (-l / 4))
    mine = table[table["dataset"] == "digits"].assign(dataset="mine", run="run-mine")
    settings = {"kernel": "laplace", "ridge": 0.0, "added": 0.0, "width": 512, "images": 9,
                "precision": "float64"}  # fmt: skip
    whole = pd.concat([mine, table]).assign(**settings)
    whole["nc2_fro"] = 10 * np.sqrt(whole["nc2_msd"])
    figure = agop.draw_fig3_deeprfm_relu_metrics(whole, pd.DataFrame())
    titles = [ax.get_title() for ax in figure.axes[::2]]
    assert titles == [
        "NC1, Gaussian mixture",
        "NC1, digits",
        "NC1, imbalanced mixture",
        "NC1, mine",
    ]
