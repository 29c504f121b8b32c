"""Measures of generalization against closed forms, and the networks that runs keep."""

import itertools
import math
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from replica import artifacts
from replica.attention.training import train_decoder
from replica.data.prepare import load, prepare_dataset
from replica.data.registry import load_registry
from replica.generalization import trained_networks as adaptors
from replica.generalization.on_gpu import measure_large_networks, on_device
from replica.generalization.table import (
    ALL,
    FEWEST,
    NETWORK,
    ORDERS,
    chance_level,
    generalization_html,
    measure_networks,
    rank_correlations,
)
from replica.generalization.trained_networks import of_module, trained_networks
from replica.kinds import KINDS, keeps_networks
from replica.lowdata.training import pool_of, train_low_data, train_round
from replica.measures import generalization as G
from replica.models import decoder
from replica.models.headed_networks import training_samples
from replica.multiobjective.tradeoff_training import train_tradeoffs
from replica.residual.samples import samples
from replica.residual.training import train_residual
from replica.settings.validation import validate_run
from replica.smoothing.classifiers import measure_noisy_classifier, train_noisy_classifier
from replica.training.checkpoint import Checkpoint
from replica.training.dufm import train_network_head
from replica.training.jobs import Job

MLP = {"kind": "mlp", "widths": [64, 12, 8], "gain": 1.0}
SGD = {"lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4}
STAGED = {"kind": "staged_resnet", "widths": [4, 8], "blocks": [1, 1]}
RUNS = {
    "network_head": {
        "kind": "network_head", "dataset": "digits", "classes": [3, 1], "per_class": 20,
        "backbone": MLP, "L": 2, "width": 8, "lambda_w": 1e-3, "lambda_h": 1e-5, "lr": 0.1,
        "batch": "full", "epochs": 60, "head_gain": 1.0, "seeds": 2,
    },
    "resnet20": {
        "kind": "network_head", "dataset": "digits", "classes": [0, 1], "per_class": 10,
        "backbone": {"kind": "resnet20"}, "L": 2, "width": 64, "lambda_w": 1e-3, "lambda_h": 1e-5,
        "lr": 0.05, "batch": 10, "epochs": 2, "head_gain": 1.0, "seeds": 1,
    },
    "noisy_classifier": {
        "kind": "noisy_classifier", "dataset": "digits", "pixel_max": 16, **SGD,
        "network": {"kind": "mlp", "hidden": [16]}, "sigma": 0.25, "batch": 100, "epochs": 6,
        "padding": 1, "seeds": 2,
    },
    "cnn": {
        "kind": "noisy_classifier", "dataset": "digits", "pixel_max": 16, **SGD,
        "network": {"kind": "cnn", "channels": [4, 6]}, "sigma": 0.1, "batch": 100, "epochs": 1,
        "padding": 0, "seeds": 1, "mean": [0.3], "std": [0.4],
    },
    "low_data": {
        "kind": "low_data", "dataset": "digits", "pixel_max": 16, "network": STAGED,
        "n": [20, 40], **SGD, "batch": 20, "steps": 6, "padding": 1, "seeds": 2,
        "keep_weights": True, "refiner": {"width": 6},
    },
    "residual": {
        "kind": "residual", "dataset": "digits", "per_class": 4,
        "network": {"kind": "resnet", "mlp": 1}, "depth": 3, "width": 12, "penalty": 0.005,
        "optimiser": "adam", "lr": 0.01, "schedule": "cosine", "batch": "full", "epochs": 8,
        "gain": 1.0, "seeds": 2, "loss": "mse",
    },
    "decoder": {
        "kind": "decoder", "task": {"kind": "text"}, "dataset": "topics", "context": 10,
        "depth": 2, "width": 8, "heads": 2, "mlp": 2, "positions": "learned", "lr": 0.01,
        "weight_decay": 0.01, "batch": 8, "steps": 20, "every": 10, "gain": 1.0, "seeds": 2,
    },
    "tradeoffs": {
        "kind": "tradeoffs", "dataset": "digits", "pixel_max": 16, "train": 100,
        "group_rates": [0.3, 0.7], "widths": [3, 6], "weight_decays": [0.0, 0.01],
        "adversarial": [0.05], "fairness": [0.0], "attack": 0.05, "attack_steps": 1, "lr": 0.01,
        "batch": "full", "epochs": 20, "n": [10], "repeats": 1, "delta": 0.1, "seeds": 2,
    },
}  # fmt: skip
RUNS["patches"] = RUNS["residual"] | {
    "network": {"kind": "patches", "attention": 2, "mlp": 2, "patch": 4}, "loss": "ce",
}  # fmt: skip
RUNS["tokens"] = RUNS["residual"] | {
    "dataset": "topics_syntax", "loss": "ce", "norm": "pre",
    "network": {"kind": "tokens", "attention": 1, "mlp": 1, "vocabulary": 50, "context": 6},
}  # fmt: skip
RUNS["llal"] = RUNS["low_data"] | {
    "keep_weights": False, "refiner": None, "active": {"query": "llal", "continued": True},
}  # fmt: skip
TRAIN = {
    "network_head": train_network_head,
    "noisy_classifier": train_noisy_classifier,
    "low_data": train_low_data,
    "residual": train_residual,
    "decoder": train_decoder,
    "tradeoffs": train_tradeoffs,
}


def drawn(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def perceptron(widths=(3, 4, 2), N=7, loss="cross_entropy", seed=0):
    """A ReLU network with random weights and biases on random samples."""
    params = {}
    for l, (before, after) in enumerate(itertools.pairwise(widths)):
        params[f"W{l}"] = drawn(after, before, seed=seed + 2 * l)
        params[f"b{l}"] = drawn(after, seed=seed + 2 * l + 1)

    def logits(p, x):
        for l in range(len(widths) - 1):
            x = (x if l == 0 else x.relu()) @ p[f"W{l}"].mT + p[f"b{l}"]
        return x

    labels = torch.arange(N) % widths[-1]
    data = drawn(N, widths[0], seed=99), labels
    matrices = [w for name, w in params.items() if name[0] == "W"]
    return G.Trained(logits, params, matrices, data, data, loss, logits)


# ------------------------------------------------------------------------------ margins, norms


def test_margins_and_losses_by_hand():
    z = torch.tensor([[3.0, 1.0, 2.0], [0.0, 0.5, 2.0], [1.0, 1.0, 0.0]]).double()
    y = torch.tensor([0, 1, 1])
    assert G.margins(z, y).tolist() == [1.0, -1.5, 0.0]
    assert G.losses(z, y, "mse").tolist() == [(4 + 1 + 4) / 2, (0.25 + 4) / 2, 0.5]
    own = [
        -math.log(math.exp(r[k]) / sum(map(math.exp, r)))
        for r, k in zip(z.tolist(), y, strict=True)
    ]
    assert G.losses(z, y, "cross_entropy").tolist() == pytest.approx(own)
    still = perceptron()
    network = replace(
        still, logits=lambda p, x: x + 0 * p["b0"].sum(), train=(z, y), test=(z[:1], y[:1])
    )
    found = G.measure(network)
    assert found["margins_below_0"] == pytest.approx(2 / 3) and found["margin_q50"] == 0
    assert found["margin_q25"] == pytest.approx(-0.75)
    # The first of equal logits wins.
    assert found["train_error"] == pytest.approx(2 / 3) and found["test_error"] == 0
    assert found["error_gap"] == pytest.approx(-2 / 3)
    assert found["loss_gap"] == pytest.approx(own[0] - np.mean(own))
    product = np.exp(found["log_spectral"])
    assert found["normalised_margin"] == pytest.approx(found["margin_q10"] / product)


def test_norms_are_those_of_numpy():
    matrices = [drawn(5, 3), drawn(4, 5, seed=1), drawn(2, 4, 3, 3, seed=2)]
    flat = [W.reshape(len(W), -1).numpy() for W in matrices]
    s = [np.linalg.svd(W, compute_uv=False) for W in flat]
    found = {name: value.item() for name, value in G.norms(matrices).items()}
    assert found["log_spectral"] == pytest.approx(sum(np.log(own[0]) for own in s))
    assert found["log_frobenius"] == pytest.approx(
        sum(np.log(np.square(own).sum()) / 2 for own in s)
    )
    sums = sum((np.linalg.norm(W, axis=1).sum() / own[0]) ** (2 / 3)
               for W, own in zip(flat, s, strict=True))  # fmt: skip
    R = np.prod([own[0] for own in s]) * sums**1.5
    assert found["log_complexity"] == pytest.approx(np.log(R))


def test_a_kernel_has_at_least_a_third_of_the_norm_of_its_convolution():
    kernel, side = drawn(2, 3, 3, 3), 6
    inputs = torch.eye(3 * side**2, dtype=torch.float64).reshape(-1, 3, side, side)
    whole = F.conv2d(inputs, kernel, padding=1).flatten(1)
    own = G.norms([kernel])["log_spectral"].exp()
    assert own < torch.linalg.matrix_norm(whole, 2) <= 3 * own


@pytest.mark.parametrize("widths", [(3, 2), (3, 4, 2), (2, 3, 4, 2)])
def test_the_path_norm_is_the_sum_over_all_paths(widths):
    network = perceptron(widths)
    p, L = network.params, len(widths) - 1
    total = 0.0
    # A path begins at an input, or at the bias of any layer, and ends at an output.
    for first in range(L + 1):
        for units in itertools.product(*(range(width) for width in widths[first:])):
            value = 1.0 if first == 0 else p[f"b{first - 1}"][units[0]].item()
            for l, (a, b) in enumerate(itertools.pairwise(units), start=first):
                value *= p[f"W{l}"][b, a].item()
            total += value**2
    assert G.path_norm(network).item() == pytest.approx(math.sqrt(total))
    with pytest.raises(ValueError, match="paths"):
        G.path_norm(replace(network, paths=None))


def test_paths_through_a_maximum_are_those_to_each_of_its_inputs():
    model = nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    ).double()
    logits, params, matrices = of_module(model)
    paths = of_module(adaptors._summing(model))[0]
    image, labels = drawn(1, 1, 4, 4), torch.tensor([0])
    network = G.Trained(logits, params, matrices, (image, labels), (image, labels), "mse", paths)
    K, b, W, c = (params[f"{name}"] for name in ("0.weight", "0.bias", "4.weight", "4.bias"))
    total = c.square().sum().item()
    for k, i, j in itertools.product(range(3), range(4), range(4)):
        for channel in range(2):
            # The place behind the pooling, then whatever of the image the kernel sees.
            out = W[k, 4 * channel + 2 * (i // 2) + j // 2] ** 2
            total += (out * b[channel] ** 2).item()
            for u, v in itertools.product(range(3), range(3)):
                if 0 <= i + u - 1 < 4 and 0 <= j + v - 1 < 4:
                    total += (out * K[channel, 0, u, v] ** 2).item()
    assert G.path_norm(network).item() == pytest.approx(math.sqrt(total))


# ------------------------------------------------------------------------------ sharpness


def unflattened(vector, params):
    """The parts of a vector with the shapes of the parameters."""
    parts = vector.split([w.numel() for w in params.values()])
    return {name: v.view_as(w) for (name, w), v in zip(params.items(), parts, strict=True)}


def hessian(network):
    """The whole Hessian of the training loss, (P, P)."""

    def loss(w):
        return G.mean_loss(network, unflattened(w, network.params), *network.train)

    return torch.autograd.functional.hessian(loss, G.flattened(network.params))


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_the_largest_eigenvalue_is_that_of_the_whole_hessian(loss):
    network = perceptron(loss=loss)
    H = hessian(network)
    product = G.hessian_product(network, *network.train)
    for i in range(0, len(H), 5):
        torch.testing.assert_close(
            product(torch.eye(len(H)).double()[i]), H[i], atol=1e-6, rtol=1e-6
        )
    top = torch.linalg.eigvalsh(H)[-1].item()
    found = G.measure(network)
    assert found["sharpness"] == pytest.approx(top, rel=1e-3)
    norm = sum(w.square().sum().item() for w in network.params.values())
    assert found["relative_sharpness"] == pytest.approx(top * norm, rel=1e-3)


def test_a_batch_may_be_cut(monkeypatch):
    network = perceptron(N=20)
    v = drawn(G.flattened(network.params).numel())
    whole = G.hessian_product(network, *network.train)(v)
    z = G.outputs(network, *network.train)[0]
    monkeypatch.setattr(G, "BATCH", 9)
    torch.testing.assert_close(G.hessian_product(network, *network.train)(v), whole)
    torch.testing.assert_close(G.outputs(network, *network.train)[0], z)


def test_of_linear_regression_the_hessian_is_the_covariance():
    N, d, K = 30, 6, 3
    x, y = drawn(N, d), torch.arange(N) % K
    W = {"W": drawn(K, d, seed=1)}
    network = G.Trained(lambda p, x: x @ p["W"].mT, W, list(W.values()), (x, y), (x, y), "mse")
    top = torch.linalg.eigvalsh(x.mT @ x / N)[-1].item()
    assert G.measure(network)["sharpness"] == pytest.approx(top, rel=1e-3)


def test_lanczos_finds_the_largest_and_not_the_one_of_largest_magnitude():
    values = torch.cat([torch.tensor([-50.0, 3.0, 2.9]), torch.linspace(-1, 1, 60)]).double()
    Q = torch.linalg.qr(drawn(63, 63))[0]
    H = Q @ torch.diag(values) @ Q.mT
    assert G.largest_eigenvalue(lambda v: H @ v, 63) == pytest.approx(3, rel=1e-3)
    assert G.largest_eigenvalue(lambda v: 0 * v, 63) == 0


def test_what_does_not_change_the_loss_has_no_sharpness():
    x, y = drawn(5, 3), torch.tensor([0, 1, 2, 0, 1])
    # Cross-entropy does not see what is added to all logits.
    c = {"c": torch.tensor([2.0]).double()}
    network = G.Trained(lambda p, x: x + p["c"], c, [], (x, y), (x, y), "cross_entropy")
    product = G.hessian_product(network, x, y)
    assert abs(G.largest_eigenvalue(product, 1)) < 1e-12
    assert abs(G.perturbed_rise(network, x, y)) < 1e-12


def test_the_rise_under_perturbation_is_that_of_its_definition():
    """For z = w x with squared loss the mean rise is σ² w² x²/2 a weight."""
    x, y = torch.tensor([[1.0, 2.0]]).double(), torch.tensor([0])
    w = {"w": torch.tensor([3.0, -1.0]).double()}
    network = G.Trained(lambda p, x: p["w"] * x, w, [], (x, y), (x, y), "mse")
    draws = [G.SIGMA * torch.randn(2, generator=g, dtype=torch.float64)
             for g in [torch.Generator().manual_seed(G.stream_seed("generalization", "perturbation"))]
             for _ in range(G.DRAWS)]  # fmt: skip
    z, target = w["w"] * x[0], torch.tensor([1.0, 0.0])
    rises = [((z * (1 + xi) - target).square().sum() - (z - target).square().sum()) / 2
             for xi in draws]  # fmt: skip
    assert G.perturbed_rise(network, x, y) == pytest.approx(torch.stack(rises).mean().item())


def test_sharpness_looks_at_so_many_predictions():
    x, y = torch.arange(1000)[:, None], torch.arange(1000)
    rows, labels = G.sharpness_samples(x, y)
    assert len(labels.unique()) == G.SUBSET and (rows[:, 0] == labels).all()
    assert len(G.sharpness_samples(x, y[:, None].expand(-1, 50))[0]) == G.SUBSET // 50
    assert len(G.sharpness_samples(x[:9], y[:9])[0]) == 9


def test_undefined_measures_are_left_out():
    network = perceptron()
    zero = {name: torch.zeros_like(w) for name, w in network.params.items()}
    found = G.measure(
        replace(network, params=zero, matrices=[torch.zeros(2, 2).double()], paths=None)
    )
    missing = {"log_spectral", "log_frobenius", "log_complexity", "normalised_margin", "path_norm"}
    assert set(found) == {*G.OUTCOMES, *G.MEASURES} - missing
    assert all(math.isfinite(value) for value in found.values())


# ------------------------------------------------------------------------------ networks of runs


@pytest.fixture(scope="module")
def cards(root, tmp_path_factory):
    registry = load_registry(root / "config/datasets.yaml")
    folder = tmp_path_factory.mktemp("prepared")
    names = ("digits", "topics", "topics_syntax", "cone")
    return {name: prepare_dataset(registry[name], folder, folder / name) for name in names}


@pytest.fixture(scope="module")
def trained(cards):
    """From the name of a run in `RUNS` to its specification, result and networks."""
    done = {}

    def train(name):
        if name not in done:
            spec = validate_run(RUNS[name], name)
            card = cards[spec.dataset]
            job = Job("study", name, tuple(range(spec.seeds)), Checkpoint(None),
                      torch.device("cpu"), 1, card, {spec.dataset: card})  # fmt: skip
            if name == "llal":
                result, _ = train_round(spec, job, 0, None)
            else:
                result = TRAIN[spec.kind](spec, job)
            found = list(trained_networks(spec, result.states, card, "study", name))
            done[name] = spec, result, found
        return done[name]

    return train


def errors(network):
    return {split: (G.outputs(network, *getattr(network, split))[0].argmax(-1)
                    != getattr(network, split)[1].flatten()).double().mean().item()
            for split in ("train", "test")}  # fmt: skip


def mean_losses(network):
    return {split: G.mean_loss(network, network.params, *getattr(network, split)).item()
            for split in ("train", "test")}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_each_network_of_a_run_is_found_once_and_measured(trained, name):
    spec, _, found = trained(name)
    assert keeps_networks(spec)
    labels = [tuple(own.values()) for own, _ in found]
    sets = {"low_data": 2, "tradeoffs": len(spec.grid) if spec.kind == "tradeoffs" else 1}
    assert len(set(labels)) == len(labels) == spec.seeds * sets.get(name, 1)
    assert list(found[0][0]) == ["kind", "dataset", "seed", "member"]
    for _, network in found[:1]:
        for own in (network.params.values(), network.matrices):
            assert all(w.dtype == torch.float64 for w in own)
        # All matrices are parameters or parts of them.
        assert sum(W.numel() for W in network.matrices) <= G.flattened(network.params).numel()
        values = G.measure(network)
        with_paths = {"network_head", "noisy_classifier", "cnn", "tradeoffs"}
        missing = set() if name in with_paths else {"path_norm"}
        assert set(values) == {*G.OUTCOMES, *G.MEASURES} - missing
        assert values["sharpness"] > 0


@pytest.mark.parametrize("name", [name for name in RUNS if name != "decoder"])
def test_no_test_sample_has_trained_the_network(trained, name):
    for _, network in trained(name)[2]:
        # No sample stands in these data sets twice; different texts can have the same first words.
        rows = [
            {bytes(row.numpy()) for row in getattr(network, split)[0]}
            for split in ("train", "test")
        ]
        assert len(network.test[1]) > 100
        if name != "tokens":
            assert rows[0].isdisjoint(rows[1])


def history_of(result, metric, seed):
    own = result.history[(result.history["seed"] == seed) & (result.history["metric"] == metric)]
    return own.sort_values("step")["value"].iloc[-1]


@pytest.mark.parametrize("name", ["network_head", "resnet20"])
def test_networks_with_a_head_have_the_fit_and_the_samples_of_their_training(trained, cards, name):
    spec, result, found = trained(name)
    data = training_samples(load(cards["digits"]), spec.classes, spec.per_class, torch.float64)
    labels = np.asarray(load(cards["digits"]).arrays["train.labels"])
    for own, network in found:
        torch.testing.assert_close(network.train[0], data.inputs)
        assert (network.train[1] == data.labels).all()
        if name == "network_head":
            fit = history_of(result, "fit", own["seed"])
            assert mean_losses(network)["train"] == pytest.approx(fit, rel=1e-3)
        assert own["dataset"] == f"digits, classes {spec.classes[0]}, {spec.classes[1]}"
        # All others of the two classes, each with the number of its class.
        for k, label in enumerate(spec.classes):
            others = (network.test[1] == k).sum() + spec.per_class
            assert others == (labels == label).sum()


def test_a_run_on_all_samples_is_left_out(trained, cards):
    spec, result, _ = trained("network_head")
    everything = spec.model_copy(update={"per_class": None})
    with pytest.warns(UserWarning, match="study all trains on all samples of digits"):
        assert not list(
            trained_networks(everything, result.states, cards["digits"], "study", "all")
        )


def test_where_there_is_a_test_split_it_is_used(cards, trained):
    data = load(cards["digits"])
    arrays = dict(data.arrays) | {"test.labels": np.array([1, 5, 3]),
                                  "test.images": data.arrays["train.images"][:3]}  # fmt: skip
    splits = data.card["splits"] | {"test": {}}
    both = replace(data, card=data.card | {"splits": splits}, arrays=arrays)
    (_, _), (x, y) = adaptors.standardised_images(both, [3, 1], 20)
    assert y.tolist() == [1, 0] and len(x) == 2


@pytest.mark.parametrize("name", ["noisy_classifier", "cnn"])
def test_noisy_classifiers_have_the_accuracy_that_their_run_reports(trained, cards, name):
    spec, result, found = trained(name)
    table = measure_noisy_classifier(spec, result.states, run=name, threads=1, card=cards["digits"])
    table = table[table["noise"] == 0].set_index(["seed", "split"])["value"]
    for own, network in found:
        for split, error in errors(network).items():
            assert error == pytest.approx(1 - table[own["seed"], split], abs=1e-9)


@pytest.mark.parametrize("name", ["low_data", "llal"])
def test_networks_of_few_labels_have_the_accuracy_that_their_run_reports(trained, cards, name):
    spec, result, found = trained(name)
    pool = pool_of(spec, cards["digits"])
    for own, network in found:
        n = int(own["member"].removeprefix("n "))
        assert len(network.train[1]) == n and len(network.test[1]) == len(pool.test_labels)
        accuracy = result.states[f"{n}/train_accuracy"][own["seed"], 0].item()
        right = result.states[f"{n}/logits"][own["seed"], 0].argmax(1) == pool.test_labels
        found_errors = errors(network)
        assert found_errors["train"] == pytest.approx(1 - accuracy / 100, abs=1e-9)
        assert found_errors["test"] == pytest.approx(1 - right.double().mean().item(), abs=1e-9)
        # The extra head has no part in them.
        assert not any("refiner" in name or "extra" in name for name in network.params)


@pytest.mark.parametrize("name", ["residual", "patches", "tokens"])
def test_residual_networks_have_the_fit_that_their_run_reports(trained, cards, name):
    spec, result, found = trained(name)
    data = samples(load(cards[spec.dataset]), spec, torch.float64)
    for own, network in found:
        torch.testing.assert_close(network.train[0], data.inputs)
        states = {key: result.states[key][own["seed"]].item() for key in ("accuracy", "fit")}
        assert errors(network)["train"] == pytest.approx(1 - states["accuracy"], abs=1e-9)
        assert mean_losses(network)["train"] == pytest.approx(states["fit"], rel=1e-4)
    texts = np.asarray(load(cards[spec.dataset]).arrays["train.labels"])
    assert len(network.test[1]) == min(adaptors.SAMPLES, len(texts) - len(network.train[1]))


def test_decoders_have_the_held_out_loss_that_their_run_reports(trained):
    _, result, found = trained("decoder")
    for own, network in found:
        reported = history_of(result, "loss", own["seed"])
        assert mean_losses(network)["test"] == pytest.approx(reported, rel=1e-5)


def test_second_derivatives_of_a_decoder_are_right(trained, monkeypatch):
    """Those of its own normalisation are those of torch's, which is slower."""
    network = trained("decoder")[2][0][1]
    data = [own[:2] for own in network.train]
    v = drawn(G.flattened(network.params).numel())
    v /= v.norm()
    found = G.hessian_product(network, *data)(v)

    def normalised(x, spec):
        return F.rms_norm(x, x.shape[-1:], eps=decoder.EPSILON)

    monkeypatch.setattr(decoder, "normalised", normalised)
    expected = G.hessian_product(network, *data)(v)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_tradeoff_networks_have_the_errors_that_their_run_reports(trained):
    spec, result, found = trained("tradeoffs")
    reported = iter(itertools.product(range(spec.seeds), range(len(spec.grid))))
    for (own, network), (s, g) in zip(found, reported, strict=True):
        assert own["seed"] == s and own["member"].startswith(f"width {spec.grid[g][0]}, ")
        wrong = result.states["wrong"][s, g].double().mean().item()
        assert errors(network)["test"] == pytest.approx(wrong, abs=1e-9)
        train = result.states["train_error"][s, g].item()
        assert errors(network)["train"] == pytest.approx(train, abs=1e-9)
        assert G.flattened(network.params).numel() == result.states["parameters"][g]


def test_members_that_diverged_are_left_out(trained, cards):
    spec, result, found = trained("residual")
    states = result.states | {"diverged_at": torch.tensor([5, -1])}
    left = list(trained_networks(spec, states, cards["digits"], "study", "residual"))
    assert [own["seed"] for own, _ in left] == [1] and len(found) == 2
    spec, result, _ = trained("noisy_classifier")
    broken = {name: v.clone() for name, v in result.states.items()}
    next(v for v in broken.values() if v.is_floating_point())[0] = torch.nan
    left = list(trained_networks(spec, broken, cards["digits"], "study", "noisy"))
    assert [own["seed"] for own, _ in left] == [1]


def test_large_data_sets_are_cut_to_a_named_choice():
    rows = adaptors.chosen(10_000, "digits", "train")
    assert len(set(rows)) == adaptors.SAMPLES and (np.diff(rows) > 0).all()
    assert (rows == adaptors.chosen(10_000, "digits", "train")).all()
    assert (rows != adaptors.chosen(10_000, "digits", "test")).any()
    assert adaptors.chosen(7, "digits", "train").tolist() == list(range(7))


def test_which_runs_keep_networks():
    none = {"dufm", "certification", "deep_rfm", "observed_network", "synthetic_tokens", "random_attention",
            "pretrained", "synthetic_risks"}  # fmt: skip
    assert not any(keeps_networks(KINDS[kind].spec.model_construct(kind=kind)) for kind in none)
    assert set(KINDS) == none | set(TRAIN)
    changes = [("low_data", {"keep_weights": False}), ("llal", {"active": {"query": "random"}})]
    assert not any(keeps_networks(validate_run(RUNS[n] | c, n)) for n, c in changes)
    trigger = {"kind": "trigger", "content": 4, "probability": 0.3}
    fresh = RUNS["decoder"] | {"task": trigger, "dataset": None}
    assert not keeps_networks(validate_run(fresh, "decoder"))


def test_runs_without_networks_are_an_error(cards):
    spec = KINDS["observed_network"].spec.model_construct(kind="observed_network")
    with pytest.raises(ValueError, match="Runs of kind observed_network keep no networks"):
        list(trained_networks(spec, {}, cards["digits"], "study", "run"))


def test_the_plan_can_ask_without_torch(root):
    code = "import sys, replica.kinds; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root / "workflow")


# ------------------------------------------------------------------------------ tables


def table_of(values, **names):
    """A long table from the columns of `values`, a network an entry."""
    frames = []
    for i, row in pd.DataFrame(values).iterrows():
        own = {"study": "s", "run": "r", "kind": "residual", "dataset": "digits", "seed": 0,
               "member": f"width {i}"} | names  # fmt: skip
        frames.append(pd.DataFrame({"metric": row.index, "value": row.to_numpy()}).assign(**own))
    return pd.concat(frames)


@pytest.mark.slow
def test_the_table_has_all_networks(trained, cards, tmp_path):
    parts = []
    for name in ("network_head", "tradeoffs"):
        spec, result, _ = trained(name)
        path = tmp_path / f"{name}.safetensors"
        artifacts.write_tensors(path, result.states, {})
        parts.append({"study": "study", "run": name, "spec": spec, "states": str(path),
                      "card": cards["digits"], "curvature_up_to": None})  # fmt: skip
    table = measure_networks(parts, 1)
    assert list(table) == [*NETWORK, "metric", "value"]
    assert table["value"].notna().all() and len(table.groupby(NETWORK)) == 2 + 8
    pd.testing.assert_frame_equal(table, measure_networks(parts, 1))
    empty = measure_networks([], 1)
    assert list(empty) == list(table) and rank_correlations(empty).empty
    page = generalization_html(rank_correlations(table), table, "smoke")
    assert "too few" in page and "tradeoffs on digits" in page and "Hessian" not in page


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "cnn", "llal", "patches", "tokens", "decoder"])
def test_passes_elsewhere_give_the_same_measures(name, trained, cards, tmp_path):
    spec, result, _ = trained(name)
    path = tmp_path / "states.safetensors"
    artifacts.write_tensors(path, result.states, {})
    part = {
        "study": "study",
        "run": name,
        "spec": spec,
        "states": path,
        "card": cards[spec.dataset],
    }
    here = measure_networks([part | {"curvature_up_to": None}], 1)
    there = measure_large_networks(part, 1, torch.device("cpu"))
    pd.testing.assert_frame_equal(here, there, check_dtype=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet20", "cnn", "llal", "patches", "tokens", "decoder"])
def test_passes_are_computed_on_the_device_from_parameters_to_buffers(name, trained, cards):
    """The meta device has shapes and no values: what is not there raises an error."""
    spec, result, _ = trained(name)
    found = trained_networks(spec, result.states, cards[spec.dataset], "study", name)
    network = on_device(next(found)[1], torch.device("meta"))
    inputs, seen = network.train[0][:2], []

    class Watched(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                seen.append((str(function), out.device.type, out.dtype, out.numel()))
            return out

    # Nothing can be copied from meta to the CPU: that is the last step.
    with Watched(), pytest.raises(NotImplementedError, match="meta"), torch.no_grad():
        network.logits(network.params, inputs)
    assert len(seen) > 10
    assert {device for _, device, _, _ in seen} == {"meta"}


@pytest.mark.slow
def test_the_curvature_of_large_networks_is_left_out(trained, cards, tmp_path):
    spec, result, _ = trained("tradeoffs")
    path = tmp_path / "states.safetensors"
    artifacts.write_tensors(path, result.states, {})
    part = {
        "study": "study",
        "run": "r",
        "spec": spec,
        "states": str(path),
        "card": cards["digits"],
    }
    whole = measure_networks([part | {"curvature_up_to": None}], 1)
    sizes = whole.loc[whole["metric"] == "parameters", "value"]
    most = int(sizes.min())
    assert most < sizes.max()
    some = measure_networks([part | {"curvature_up_to": most}], 1)
    left = set(some.loc[some["metric"] == "sharpness", "member"])
    small = whole[(whole["metric"] == "parameters") & (whole["value"] <= most)]
    assert left == set(small["member"])
    page = generalization_html(rank_correlations(some), some, "desktop")
    assert f"The sharpness of {int((sizes > most).sum())} networks of" in page


@pytest.mark.slow
def test_rank_correlations_and_why_there_is_none():
    gap = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    values = {"error_gap": gap, "loss_gap": [1.0] * 6, "sharpness": [1, 2, 3, 5, 4, 6],
              "margin_q10": gap[::-1], "parameters": [7] * 6}  # fmt: skip
    few = {name: value[: FEWEST - 1] for name, value in values.items()}
    table = pd.concat([table_of(values), table_of(few, dataset="cone")])
    found = rank_correlations(table).set_index(["dataset", "measure", "gap"])
    assert found.loc[("digits", "sharpness", "error_gap"), "correlation"] == pytest.approx(
        1 - 12 / 210
    )
    assert found.loc[("digits", "margin_q10", "error_gap"), "correlation"] == -1
    assert found.loc[("digits", "parameters", "error_gap"), "note"] == "no spread"
    assert found.loc[("digits", "sharpness", "loss_gap"), "note"] == "no spread"
    assert found.loc[("digits", "path_norm", "loss_gap"), "note"] == "not defined"
    assert found.loc[("cone", "sharpness", "error_gap"), "note"] == "too few"
    assert found.loc[(ALL, "sharpness", "error_gap"), "networks"] == 2 * 6 - 2
    # A number or a reason, never neither.
    assert (found["correlation"].isna() == (found["note"] != "")).all()
    assert (found["correlation"].isna() == found["chance"].isna()).all()
    assert (found["correlation"].isna() == found["corrected"].isna()).all()
    alone = rank_correlations(table_of(values))
    assert set(alone["dataset"]) == {"digits"} and len(alone) == 2 * len(G.MEASURES)


def test_seeds_of_a_setting_are_one_setting():
    """Three seeds each of four settings that go along perfectly: twelve networks decide nothing."""
    gap = np.repeat([0.1, 0.2, 0.3, 0.4], 3) + np.tile([-0.01, 0, 0.01], 4)

    def seeds_of(settings):
        rows = {"error_gap": gap, "loss_gap": gap, "sharpness": gap}
        frames = [
            table_of({k: v[[i]] for k, v in rows.items()}, seed=i % 3, member=settings(i))
            for i in range(12)
        ]
        return rank_correlations(pd.concat(frames)).set_index(["measure", "gap"])

    together = seeds_of(lambda i: f"width {i // 3}").loc[("sharpness", "error_gap")]
    assert together["note"] == "too few" and math.isnan(together["chance"])
    assert (together["networks"], together["settings"]) == (12, 4)
    apart = seeds_of(lambda i: f"width {i}").loc[("sharpness", "error_gap")]
    assert apart["correlation"] == 1 and apart["settings"] == 12 and apart["corrected"] < 0.05
    # Of a setting it is the mean that counts, in whatever order its seeds are.
    values = {"error_gap": [1.0, 9, 3, 4, 5, 6], "loss_gap": [0.0] * 6,
              "sharpness": [9.0, 1, 6, 7, 8, 9]}  # fmt: skip
    names = ["a", "a", "b", "c", "d", "e"]
    frames = [table_of({k: [v[i]] for k, v in values.items()}, seed=i, member=name)
              for i, name in enumerate(names)]  # fmt: skip
    found = rank_correlations(pd.concat(frames)).set_index(["measure", "gap"])
    # Means: gap 5, 3, 4, 5, 6; sharpness 5, 6, 7, 8, 9.
    assert found.loc[("sharpness", "error_gap"), "correlation"] == pytest.approx(
        pd.Series([5, 3, 4, 5, 6]).corr(pd.Series([5, 6, 7, 8, 9]), method="spearman")
    )


def test_the_chance_level_is_that_of_all_orders():
    x = pd.Series([1.0, 2, 3, 4, 5])
    assert chance_level(x, x) == chance_level(x, -x) == 2 / 120
    # By counting: |ρ| of all orders against that of the one that was found.
    y = pd.Series([2.0, 1, 3, 5, 4])
    wanted = np.mean([
        abs(np.corrcoef(x, order)[0, 1]) >= np.corrcoef(x, y)[0, 1] - 1e-9
        for order in itertools.permutations(y)
    ])  # fmt: skip
    assert chance_level(x, y) == pytest.approx(wanted)
    # Ties have orders too, some of which are the same.
    assert chance_level(x, pd.Series([0.0, 0, 0, 0, 1])) == pytest.approx(2 / 5)
    # Random orders of more; what was found is one of them.
    many = pd.Series(np.arange(30.0))
    assert chance_level(many, many) == 1 / ORDERS
    stream = np.random.default_rng(0)
    x, y = (pd.Series(stream.standard_normal(30)) for _ in range(2))
    from scipy.stats import spearmanr

    assert chance_level(x, y) == pytest.approx(spearmanr(x, y).pvalue, abs=0.02)


@pytest.mark.slow
def test_chance_alone_is_found_as_often_as_it_says():
    """Unrelated numbers, two seeds a setting: 5 % of the levels are below 5 %, hardly one of all."""
    stream, levels, corrected = np.random.default_rng(1), [], []
    names = ["error_gap", "loss_gap", "sharpness", "margin_q10", "log_spectral", "parameters"]
    for _ in range(60):
        values = np.repeat(stream.standard_normal((8, len(names))), 2, axis=0)
        rows = pd.DataFrame(values, columns=names)
        frames = [
            table_of(rows[rows.index % 2 == seed].reset_index(drop=True), seed=seed)
            for seed in (0, 1)
        ]
        known = rank_correlations(pd.concat(frames)).dropna(subset="chance")
        assert len(known) == 8 and (known["networks"] == 16).all()
        levels += [*known["chance"]]
        corrected.append(known["corrected"].min())
    assert 0.02 < np.mean(np.array(levels) < 0.05) < 0.08
    assert np.mean(np.array(corrected) < 0.05) < 0.12


def test_the_page_escapes_and_shows_every_family():
    gap = [0.1, 0.2, 0.3, 0.4, 0.5]
    values = {**dict.fromkeys(G.OUTCOMES, gap), "sharpness": gap}
    table = table_of(values, run="a<b")
    page = generalization_html(rank_correlations(table), table, "<laptop>")
    assert "a&lt;b" in page and "&lt;laptop&gt;" in page and "a<b" not in page
    assert "nan" not in page.lower()
    assert re.search(r"<td>sharpness</td><td>5</td><td>5</td><td>1.00 \*</td><td>0.017</td>", page)
    assert "2 correlations were tested" in page and "2 after Holm" in page
    assert "0.100 to 0.500" in page
    assert page.count('<div class="scroll whole" tabindex="0"') == page.count("</table>") == 2
