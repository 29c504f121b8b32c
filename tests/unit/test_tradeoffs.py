"""Networks between accuracy, fairness and robustness: the task, the stack, the attack, training."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from replica.data.prepare import DataError, load, prepare_dataset
from replica.data.registry import load_registry
from replica.multiobjective import tradeoff_training
from replica.multiobjective.tradeoff_training import (
    attacked,
    logits,
    outcomes,
    penalty,
    population,
    settings_of,
    start,
    train_tradeoffs,
)
from replica.settings.validation import validate_run
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cards(root, tmp_path_factory):
    registry = load_registry(root / "config/datasets.yaml")
    folder = tmp_path_factory.mktemp("prepared")
    return {name: prepare_dataset(registry[name], folder, folder / name)
            for name in ("digits", "mixture")}  # fmt: skip


@pytest.fixture(scope="module")
def card(cards):
    return cards["digits"]


def spec_of(**changes):
    values = {
        "kind": "tradeoffs", "dataset": "digits", "pixel_max": 16, "train": 100,
        "group_rates": [0.3, 0.7], "widths": [3, 8], "weight_decays": [0.0, 0.01],
        "adversarial": [0, 0.1], "fairness": [0, 2], "attack": 0.1, "attack_steps": 1, "lr": 0.01,
        "batch": 30, "epochs": 5, "n": [25], "repeats": 2, "delta": 0.05, "seeds": 2,
    }  # fmt: skip
    return validate_run(values | changes, "a run")


def job_of(spec, card, checkpoint=None, seeds=None):
    seeds = tuple(range(spec.seeds)) if seeds is None else seeds
    return Job("mol", "run", seeds, checkpoint or Checkpoint(None), CPU, 1, card=card)


def samples_of(spec, card):
    return population(spec, load(card), "mol", "run")


def module_of(params, m, width):
    """One network of a stack as a module of its own width, in the type of the stack."""
    layers = nn.Linear(params["W1"].shape[2], width), nn.Linear(width, 2)
    module = nn.Sequential(layers[0], nn.ReLU(), layers[1]).to(params["W1"].dtype)
    values = (params["W1"][m, :width], params["b1"][m, :width], params["W2"][m, :, :width],
              params["b2"][m])  # fmt: skip
    for parameter, value in zip(module.parameters(), values, strict=True):
        parameter.data = value.clone()
    return module


def doubles(params):
    return {name: value.double() for name, value in params.items()}


# ----------------------------------------------------------------------- the task


def test_training_samples_and_population_are_the_whole_data_set_once(card):
    spec = spec_of()
    data, again = samples_of(spec, card), samples_of(spec, card)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(data).items())
    assert data.train_inputs.shape == (100, 64) and data.inputs.shape == (1697, 64)
    assert data.inputs.dtype == torch.float32
    whole = torch.cat([data.train_inputs, data.inputs])
    assert whole.min() == 0 and whole.max() == 1
    # Beside the mark the images are those of the data set, each once.
    rest = torch.ones(8, 8, dtype=torch.bool)
    rest[:2, :2] = False
    arrays = load(card).arrays
    original = torch.from_numpy(arrays["train.images"] / 16).float().flatten(1)
    found = torch.cat([whole, torch.cat([data.train_labels, data.labels])[:, None]], 1)
    digits = torch.from_numpy(arrays["train.labels"] >= 5).float()[:, None]
    wanted = torch.cat([original, digits], 1)
    kept = torch.cat([rest.flatten(), torch.tensor([True])])
    assert sorted(found[:, kept].tolist()) == sorted(wanted[:, kept].tolist())


def test_the_task_depends_on_the_names_of_the_run_alone(card):
    data = samples_of(spec_of(), card)
    other = samples_of(spec_of(seeds=5, widths=[4], fairness=[1], lr=0.3), card)
    assert all(torch.equal(value, getattr(other, name)) for name, value in vars(data).items())
    renamed = population(spec_of(), load(card), "mol", "another")
    assert not torch.equal(data.inputs, renamed.inputs)
    # More training samples take from the population and change no group.
    more = samples_of(spec_of(train=200), card)
    assert (
        more.train_groups.sum() + more.groups.sum() == data.train_groups.sum() + data.groups.sum()
    )


def test_the_groups_have_the_rates_and_carry_the_mark(card):
    data = samples_of(spec_of(group_rates=[0.2, 0.9]), card)
    for label, rate in enumerate((0.2, 0.9)):
        share = data.groups[data.labels == label].double().mean()
        assert abs(share - rate) < 4 * (rate * (1 - rate) / 800) ** 0.5
    corner = data.inputs.unflatten(1, (8, 8))[:, :2, :2].flatten(1)
    assert torch.equal((corner == 1).all(1), data.groups == 1)


def test_a_data_set_that_does_not_fit_is_said_in_a_sentence(cards):
    with pytest.raises(DataError, match="images of the ten digits"):
        samples_of(spec_of(), cards["mixture"])
    with pytest.raises(DataError, match="1797 of 1797 samples are for training"):
        samples_of(spec_of(train=1797), cards["digits"])


# ---------------------------------------------------------------------- the stack


@pytest.fixture(scope="module")
def begun(card):
    """A run, its samples, its start and settings."""
    spec = spec_of()
    return (
        spec,
        samples_of(spec, card),
        start(spec, 64, job_of(spec, card)),
        settings_of(spec, 2, CPU),
    )


def test_the_start_of_a_network_does_not_depend_on_the_others(begun, card):
    spec, _, params, settings = begun
    few = spec_of(widths=[8], weight_decays=[0.01], seeds=1)
    alone = start(few, 64, job_of(few, card, seeds=(1,)))
    rows = [m for m, own in enumerate(spec.grid * 2) if own in few.grid and m >= len(spec.grid)]
    assert all(torch.equal(value, params[name][rows]) for name, value in alone.items())
    own = zip(settings.weight_decay, settings.adversarial, settings.fairness, strict=True)
    assert [pytest.approx(row[1:]) for row in spec.grid * 2] == [tuple(map(float, s)) for s in own]
    big = spec_of(widths=[2000], weight_decays=[0], adversarial=[0], fairness=[0], seeds=1)
    params = start(big, 64, job_of(big, card))
    assert params["W1"].std() == pytest.approx((2 / 64) ** 0.5, rel=0.02)
    assert params["W2"].std() == pytest.approx((2 / 2000) ** 0.5, rel=0.05)


@pytest.mark.parametrize("m", [0, 3, 7, 10, 15, 28])
def test_objective_and_gradient_are_those_of_a_plain_module(begun, m):
    spec, data, params, settings = begun
    params = {name: value.requires_grad_() for name, value in doubles(params).items()}
    x, y, a = data.train_inputs.double()[None], data.train_labels[None], data.train_groups[None]
    losses, positive = outcomes(params, x, y, settings.adversarial, 1)
    objective = losses.mean(1) + penalty(params, positive, a, settings)
    found = torch.autograd.grad(objective.sum(), list(params.values()))
    width, decay, radius, fairness = (spec.grid * 2)[m]
    module = module_of(params, m, width)
    x, y, a = x[0].clone().requires_grad_(), y[0], a[0] == 1
    out = module(x)
    (slope,) = torch.autograd.grad(F.cross_entropy(out, y, reduction="sum"), x, retain_graph=True)
    # The radius is a float32 in the stack.
    moved = (x + float(torch.tensor(radius)) * slope.sign()).clamp(0, 1).detach()
    p = out.softmax(1)[:, 1]
    squares = module[0].weight.square().sum() + module[2].weight.square().sum()
    wanted = F.cross_entropy(module(moved), y)
    wanted = wanted + fairness * (p[a].mean() - p[~a].mean()) ** 2 + decay / 2 * squares
    assert objective[m].item() == pytest.approx(wanted.item(), rel=1e-6)
    wanted.backward()
    for gradient, parameter in zip(found, module.parameters(), strict=True):
        own = gradient[m]
        if own.dim() == 2:
            own = own[:, :width] if len(own) == 2 else own[:width]
        elif len(own) > 2:
            own = own[:width]
        assert torch.allclose(own, parameter.grad, rtol=1e-5, atol=1e-9)
        # What is left of the gradient is that of the padding.
        assert gradient[m].abs().sum() == pytest.approx(own.abs().sum().item())


def test_a_batch_of_one_group_has_no_penalty_on_the_gap(begun):
    spec, _, params, settings = begun
    M = len(spec.grid) * 2
    positive = torch.rand(M, 4, generator=torch.Generator().manual_seed(0))
    none = penalty(params, positive, torch.zeros(1, 4), settings)
    every = penalty(params, positive, torch.ones(1, 4), settings)
    squares = params["W1"].square().sum((1, 2)) + params["W2"].square().sum((1, 2))
    assert torch.allclose(none, settings.weight_decay / 2 * squares) and torch.equal(none, every)


# --------------------------------------------------------------------- the attack


@pytest.mark.parametrize("steps", [1, 2, 5, 20])
def test_the_attack_stays_in_the_ball_and_raises_the_loss(begun, steps):
    _, data, params, settings = begun
    M = len(settings.fairness)
    x, y = data.inputs[None, :200], data.labels[None, :200]
    radius = torch.linspace(0, 0.3, M)
    moved = attacked(params, x, y, radius, steps)
    assert moved.shape == (M, 200, 64) and moved.min() >= 0 and moved.max() <= 1
    assert ((moved - x).abs().amax((1, 2)) <= radius + 1e-6).all()
    assert torch.equal(moved[0], x[0])
    labels = y.expand(M, -1)
    before = F.cross_entropy(logits(params, x).mT, labels, reduction="none").mean(1)
    after = F.cross_entropy(logits(params, moved).mT, labels, reduction="none").mean(1)
    assert (after[1:] > before[1:]).all()


def test_a_small_step_raises_the_loss_of_every_image(begun):
    _, data, params, settings = begun
    params, M = doubles(params), len(settings.fairness)
    x, y = data.inputs.double()[None, :200], data.labels[None, :200]
    radius = torch.full((M,), 1e-7, dtype=torch.float64)
    moved = attacked(params, x, y, radius, 1)
    labels = y.expand(M, -1)
    before = F.cross_entropy(logits(params, x).mT, labels, reduction="none")
    after = F.cross_entropy(logits(params, moved).mT, labels, reduction="none")
    # Where no hidden unit is active, nothing can be moved.
    moves = (moved != x).any(2)
    assert moves.double().mean() > 0.9
    assert (after[moves] > before[moves]).all() and torch.equal(after[~moves], before[~moves])


def test_a_certain_network_is_attacked_too(begun):
    # The cross-entropy of a network so certain is 0 in float32, and so is its gradient.
    _, data, params, _ = begun
    certain = params | {"W2": 1e4 * params["W2"]}
    x, y, radius = data.inputs[None, :50], data.labels[None, :50], torch.full((32,), 0.1)
    assert torch.equal(attacked(certain, x, y, radius, 3), attacked(params, x, y, radius, 3))


# ------------------------------------------------------------------------ training


@pytest.fixture(scope="module")
def trained(card):
    spec = spec_of()
    return spec, train_tradeoffs(spec, job_of(spec, card))


def test_the_result_says_what_the_networks_do(trained, card):
    spec, result = trained
    states, data = result.states, samples_of(spec, card)
    S, G, P = 2, len(spec.grid), len(data.labels)
    for name in ("predicted", "wrong", "attacked_wrong"):
        assert states[name].shape == (S, G, P) and states[name].dtype == torch.uint8
    assert (states["attacked_wrong"] >= states["wrong"]).all()
    assert torch.equal(states["wrong"], (states["predicted"] != data.labels).byte())
    assert torch.equal(states["label"], data.labels.byte())
    assert torch.equal(states["group"], data.groups.byte())
    names = "width", "weight_decay", "adversarial", "fairness"
    assert [*zip(*(states[name].tolist() for name in names), strict=True)] == spec.grid
    flat = {name: states[name].flatten(0, 1) for name in ("W1", "b1", "W2", "b2")}
    radius = torch.full((1,), spec.attack)
    for g, (width, *_) in enumerate(spec.grid):
        module = module_of(flat, G + g, width)
        assert sum(p.numel() for p in module.parameters()) == states["parameters"][g]
        assert torch.equal(module(data.inputs).argmax(1).byte(), states["predicted"][1, g])
        error = (module(data.train_inputs).argmax(1) != data.train_labels).double().mean()
        assert states["train_error"][1, g] == pytest.approx(error.item())
        weights = torch.cat([module[0].weight.flatten(), module[2].weight.flatten()])
        assert states["norm"][1, g] == pytest.approx(weights.norm().item(), rel=1e-5)
        own = {name: value[G + g : G + g + 1] for name, value in flat.items()}
        moved = attacked(own, data.inputs[None], data.labels[None], radius, 1)
        missed = module(moved[0]).argmax(1) != data.labels
        assert torch.equal(states["attacked_wrong"][1, g], states["wrong"][1, g] | missed.byte())
        # The padding has stayed zero.
        assert not states["W1"][:, g, width:].any() and not states["b1"][:, g, width:].any()
        assert not states["W2"][:, g, :, width:].any()
    assert states["seed"].tolist() == [0, 1] and (states["diverged_at"] == -1).all()
    history = result.history
    assert history.columns.tolist() == tradeoff_training.HISTORY and set(history["seed"]) == {0, 1}
    for _, own in history.groupby("seed"):
        assert own["value"].iloc[-1] < own["value"].iloc[0]
        assert own["step"].iloc[-1] == spec.epochs * 4


@pytest.mark.parametrize("batch", [30, "full"])
def test_a_network_of_the_stack_is_the_one_trained_alone(batch, card):
    spec = spec_of(batch=batch, seeds=1)
    stack = train_tradeoffs(spec, job_of(spec, card, seeds=(1,))).states
    for g in (2, 5, 15):
        width, decay, radius, fairness = spec.grid[g]
        one = spec_of(batch=batch, widths=[width], weight_decays=[decay], adversarial=[radius],
                      fairness=[fairness], seeds=1)  # fmt: skip
        alone = train_tradeoffs(one, job_of(one, card, seeds=(1,))).states
        for name, axis in (("W1", 1), ("b1", 1), ("W2", 2), ("b2", None)):
            value = stack[name][:, g]
            value = value if axis is None else value.narrow(axis, 0, width)
            assert torch.allclose(value, alone[name][:, 0], atol=2e-4), name


@pytest.mark.slow
def test_each_pressure_improves_its_objective(card):
    spec = spec_of(train=400, widths=[32], weight_decays=[0, 0.03], adversarial=[0, 0.1],
                   fairness=[0, 8], batch=100, epochs=40)  # fmt: skip
    result = train_tradeoffs(spec, job_of(spec, card))
    states, data = result.states, samples_of(spec, card)
    x, y, M = data.inputs[None], data.labels[None], len(spec.grid) * 2
    params = {name: states[name].flatten(0, 1) for name in ("W1", "b1", "W2", "b2")}
    _, positive = outcomes(params, x, y, torch.zeros(M), 1)
    one = data.groups == 1
    gap = (positive[:, one].mean(1) - positive[:, ~one].mean(1)).abs()
    # By seed, weight decay, radius and fairness.
    gap, norm = gap.view(2, 2, 2, 2), states["norm"].view(2, 2, 2, 2)
    attacked_error = states["attacked_wrong"].double().mean(2).view(2, 2, 2, 2)
    assert (gap[..., 1] < 0.6 * gap[..., 0]).all()
    assert (norm[:, 1] < norm[:, 0]).all()
    assert (attacked_error[:, 0, 1, 0] < 0.7 * attacked_error[:, 0, 0, 0]).all()
    assert (states["wrong"].double().mean(2)[:, 0] < 0.08).all()


def test_an_interrupted_training_ends_as_the_undisturbed_one(trained, card, tmp_path):
    spec, whole = trained
    checkpoint = Checkpoint(tmp_path / "state.safetensors", every=0)
    checkpoint.stopping = True
    with pytest.raises(SystemExit):
        train_tradeoffs(spec, job_of(spec, card, checkpoint))
    again = train_tradeoffs(spec, job_of(spec, card, Checkpoint(checkpoint.path)))
    assert all(torch.equal(whole.states[name], again.states[name]) for name in whole.states)
    assert whole.history.equals(again.history)


def test_a_network_that_diverges_is_named_and_the_others_go_on(card, monkeypatch):
    begin = tradeoff_training.start

    def broken(*arguments):
        params = begin(*arguments)
        params["b2"][3] = torch.nan
        return params

    monkeypatch.setattr(tradeoff_training, "start", broken)
    spec = spec_of()
    result = train_tradeoffs(spec, job_of(spec, card))
    assert result.states["diverged_at"].flatten().tolist() == [-1] * 3 + [0] + [-1] * 28
    history = result.history.set_index("seed")
    assert (history.loc[0, "diverged_at"] == 0).all() and (
        history.loc[1, "diverged_at"] == -1
    ).all()
    assert history["value"].notna().all() and len(history.loc[0]) == len(history.loc[1])


def test_the_mean_over_a_stack_is_that_of_its_networks(trained, card):
    spec, result = trained
    data, settings = samples_of(spec, card), settings_of(spec, 2, CPU)
    params = {name: result.states[name].flatten(0, 1) for name in ("W1", "b1", "W2", "b2")}
    x, y, a = data.train_inputs[None], data.train_labels[None], data.train_groups[None]
    losses, positive = outcomes(params, x, y, settings.adversarial, spec.attack_steps)
    objective = (losses.mean(1) + penalty(params, positive, a, settings)).view(2, -1).mean(1)
    last = result.history.groupby("seed")["value"].last()
    assert torch.tensor(last.to_numpy()).allclose(objective.double(), rtol=1e-5)
