"""Training against automatic differentiation, against plain loops, and against itself resumed."""

import math
import platform
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from replica.kinds.features import NetworkHeadSpec
from replica.models import dufm, headed_networks
from replica.theory import dnc
from replica.training import ensemble, loop, precision
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import without_denormals

NONE = Checkpoint(None)


def generators(count, first=0):
    return [torch.Generator().manual_seed(first + i) for i in range(count)]


def start(S=3, K=3, L=3, n=2, width=5, dtype=torch.float64, first=0):
    return dufm.initialise(
        K=K, L=L, n=n, width=width, h_std=1.0, w_gain=1.0,
        generators=generators(S, first), dtype=dtype,
    )  # fmt: skip


def numbers(*values):
    return torch.tensor(values, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 4), st.integers(2, 5), st.integers(1, 3), st.integers(0, 1000))
def test_the_written_out_step_is_that_of_autograd(K, L, n, seed):
    params = start(3, K, L, n, 6, first=seed)
    lam_w, lam_h, lr = numbers(0.01, 0.02, 0.0), numbers(0.03, 0.0, 0.01), numbers(0.1, 0.5, 0.01)
    leaves = {k: v.clone().requires_grad_() for k, v in params.items()}
    fit, penalty = dufm.fit_and_penalty(leaves, lam_w, lam_h)
    gradients = torch.autograd.grad((fit + penalty).sum(), list(leaves.values()))
    dufm.gradient_descent(params, lam_w, lam_h, lr)()
    for (name, before), gradient in zip(leaves.items(), gradients, strict=True):
        expected = before.detach() - lr[:, None, None] * gradient
        torch.testing.assert_close(params[name], expected, rtol=1e-12, atol=1e-13)


@given(st.integers(2, 4), st.integers(2, 5), st.integers(1, 3), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_objective_is_that_of_the_theory(K, L, n, seed):
    params = start(2, K, L, n, 6, first=seed)
    fit, penalty = dufm.fit_and_penalty(params, numbers(0.01, 0.2), numbers(0.03, 0.4))
    for s, (w, h) in enumerate([(0.01, 0.03), (0.2, 0.4)]):
        Ws = [params[f"W{l}"][s].numpy() for l in range(1, L + 1)]
        expected = dnc.dufm_objective(params["H1"][s].numpy(), Ws, h, [w] * L)
        assert fit[s].item() == pytest.approx(expected.fit, rel=1e-12)
        assert penalty[s].item() == pytest.approx(expected.penalty, rel=1e-12)


def train(params, lam, lr, steps=300, **more):
    S = len(params["H1"])
    full = [torch.full((S,), x, dtype=torch.float64) for x in (lam, lam, lr)]
    step = dufm.gradient_descent(params, *full)
    settings = {"log_steps": ensemble.log_spaced(steps, 20), "snapshot_steps": [0, steps]}
    return ensemble.train(
        params, lambda _: step(), lambda p: dufm.fit_and_penalty(p, *full[:2]),
        steps=steps, checkpoint=more.pop("checkpoint", NONE), **settings, **more,
    )  # fmt: skip


def test_members_do_not_know_of_each_other():
    together = train(start(4), 0.01, 0.1, steps=100)
    for s in range(4):
        alone = train(start(1, first=s), 0.01, 0.1, steps=100)
        np.testing.assert_allclose(together.fit[:, s], alone.fit[:, 0], rtol=1e-10)


def test_a_narrow_member_padded_with_zeros_stays_narrow():
    """Widths may differ in a stack: units that start at zero have no gradient."""
    narrow, wide = start(1, width=4), start(1, width=7, first=1)
    d = {"H1": (7, 6), "W1": (7, 7), "W2": (7, 7), "W3": (3, 7)}
    mixed = {}
    for name, (rows, columns) in d.items():
        padded = torch.zeros(1, rows, columns, dtype=torch.float64)
        padded[:, : narrow[name].shape[1], : narrow[name].shape[2]] = narrow[name]
        mixed[name] = torch.cat([padded, wide[name]])
    together = train(mixed, 0.01, 0.1, steps=200)
    np.testing.assert_allclose(together.fit[:, :1], train(narrow, 0.01, 0.1, 200).fit, rtol=1e-10)
    for name, value in narrow.items():
        rest = mixed[name][0].clone()
        rest[: value.shape[1], : value.shape[2]] = 0
        assert not rest.any()


def test_a_plain_loop_gives_the_same_losses():
    S, steps = 3, 100
    together = train(start(S), 0.01, 0.1, steps=steps)
    for s in range(S):
        p = {k: v[0].clone().requires_grad_() for k, v in start(1, first=s).items()}
        optimiser = torch.optim.SGD(p.values(), lr=0.1, weight_decay=0.01)
        Y = torch.eye(3, dtype=torch.float64).repeat_interleave(2, 1)
        for _ in range(steps):
            x = p["W1"] @ p["H1"]
            x = p["W3"] @ torch.relu(p["W2"] @ torch.relu(x))
            fit = ((x - Y) ** 2).sum() / 12
            optimiser.zero_grad()
            fit.backward()
            optimiser.step()
        x = p["W3"] @ torch.relu(p["W2"] @ torch.relu(p["W1"] @ p["H1"]))
        assert together.fit[-1, s] == pytest.approx((((x - Y) ** 2).sum() / 12).item(), rel=1e-9)


def test_a_member_that_diverges_is_frozen_and_touches_no_other():
    params = start(3)
    for name in params:
        params[name][1] *= 1e6
    trained = train(params, 0.01, 0.1, steps=200)
    assert trained.diverged_at.tolist() == [-1, 0, -1]
    undisturbed = train(start(3), 0.01, 0.1, steps=200)
    for s in (0, 2):
        np.testing.assert_array_equal(trained.fit[:, s], undisturbed.fit[:, s])
    assert np.isnan(trained.fit[:, 1]).all()


def test_nothing_left_is_an_error_with_the_step():
    with pytest.raises(ensemble.TrainingDiverged, match=r"step \d+; lower lr"):
        train(start(2), 0.01, 1e3, steps=1000)


@pytest.mark.parametrize("rates", [[0.02, 0.02], [0.02, 0.05]], ids=str)
@pytest.mark.parametrize("rule", ["adam", "adamw", "sgd"])
def test_members_step_as_the_optimisers_of_torch(rule, rates):
    """With a rate of each member and a λ of each parameter."""
    params = {"A": torch.randn(2, 3, 4).double(), "B": torch.randn(2, 5).double()}
    target = torch.randn(2, 3, 5).double()
    penalties = {} if rule == "adamw" else {"A": 0.1}

    def objective(p, step):
        return (
            ((p["A"].sum(2, keepdim=True) * p["B"][:, None]).sin() - target).square().mean((1, 2))
        )

    own = [{name: value[s : s + 1].clone().requires_grad_() for name, value in params.items()}
           for s in range(2)]  # fmt: skip
    groups = [
        {"params": [own[s][name]], "lr": rate, "weight_decay": {"A": 0.1, "B": 0.0}[name]}
        for s, rate in enumerate(rates)
        for name in params
    ]
    lr = torch.tensor(rates, dtype=torch.float64)
    if rule == "sgd":
        reference = torch.optim.SGD(groups, momentum=0.9)
        advance, _ = ensemble.sgd(params, objective, lr=lr, momentum=0.9, penalties=penalties)
    else:
        reference = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[rule](groups)
        more = {"weight_decay": 0.1, "decayed": ("A", "absent")} if rule == "adamw" else {}
        advance, _ = ensemble.adam(params, objective, lr=lr, penalties=penalties, **more)
    for step in range(1, 30):
        advance(step)
        reference.zero_grad()
        joined = {name: torch.cat([member[name] for member in own]) for name in params}
        objective(joined, step).sum().backward()
        reference.step()
    for s in range(2):
        for name in params:
            assert torch.allclose(params[name][s], own[s][name][0], atol=1e-12), name


def test_adam_says_what_its_fused_step_cannot_do():
    with pytest.raises(ValueError, match="contiguous"):
        ensemble.adam({"A": torch.ones(2, 3, 4).mT}, lambda p, _: p, lr=torch.ones(2))


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_freed_memory_is_taken_again():
    """Without it each pass over 20 MB faults on its 5000 pages."""
    code = """if True:
        import resource, torch
        from replica.training.jobs import keep_freed_memory
        keep_freed_memory()
        for step in range(20):
            if step == 10:
                before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            [torch.ones(2**18) for _ in range(20)]
        print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    """
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 1000


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_resumed_ensemble_is_the_undisturbed_one_bit_for_bit(tmp_path, momentum):
    def go(checkpoint, stop_at=None):
        params = start(3)
        lr = torch.full((3,), 0.05)
        loss = lambda p: dufm.fit_and_penalty(p, numbers(*[0.01] * 3), numbers(*[0.01] * 3))  # noqa: E731
        advance, velocity = ensemble.sgd(
            params, lambda p, _: sum(loss(p)), lr=lr, momentum=momentum
        )

        def stopping(step):
            if step == stop_at:
                raise Interrupted
            advance(step)

        return ensemble.train(
            params, stopping, loss, steps=60, log_steps=range(0, 61, 5), snapshot_steps=[0, 20, 60],
            checkpoint=checkpoint, extra=velocity, check_every=10,
        )  # fmt: skip

    whole = go(NONE)
    path = tmp_path / "c.safetensors"
    with pytest.raises(Interrupted):
        go(Checkpoint(path, every=0), stop_at=37)
    assert path.exists()
    resumed = go(Checkpoint(path, every=0))
    np.testing.assert_array_equal(resumed.fit, whole.fit)
    for step in (0, 20, 60):
        for name, value in whole.snapshots[step].items():
            assert torch.equal(resumed.snapshots[step][name], value)


def test_a_damaged_checkpoint_is_named_and_dropped(tmp_path, capsys):
    path = tmp_path / "c.safetensors"
    path.write_bytes(b"not a checkpoint at all")
    trained = train(start(1), 0.01, 0.1, steps=20, checkpoint=Checkpoint(path))
    assert "c.safetensors is damaged" in capsys.readouterr().err and not path.exists()
    np.testing.assert_array_equal(trained.fit, train(start(1), 0.01, 0.1, steps=20).fit)


# -------------------------------------------------------------- the runs of the documents


@pytest.mark.slow
def test_two_classes_reach_the_closed_form():
    """K 2, L 3, n 10, λ .01, width 32, lr .1, 15,000 steps: loss/L_DNC - 1 in [-1e-4, .003]."""
    params = dufm.initialise(
        K=2, L=3, n=10, width=32, h_std=0.3, w_gain=1.0, generators=generators(2),
        dtype=torch.float32,
    )  # fmt: skip
    trained = train(params, 0.01, 0.1, steps=15_000)
    gap = (trained.fit + trained.penalty)[-1] / dnc.dnc_optimum(2, 10, 0.01, [0.01] * 3).loss - 1
    assert ((gap >= -1e-4) & (gap <= 0.003)).all()


@pytest.mark.slow
def test_fifteen_classes_and_seven_layers_go_below_dnc():
    """K 15, L 7, λ .002, n 1, width 30, lr .1, 25,000 steps: all of 6 below L_DNC, best <= .09."""
    params = dufm.initialise(
        K=15, L=7, n=1, width=30, h_std=1.0, w_gain=1.0, generators=generators(6),
        dtype=torch.float32,
    )  # fmt: skip
    trained = train(params, 0.002, 0.1, steps=25_000)
    loss = (trained.fit + trained.penalty)[-1]
    assert (loss < dnc.dnc_optimum(15, 1, 0.002, [0.002] * 7).loss).all() and loss.min() <= 0.09


# ------------------------------------------------------------------------------- networks

SPEC = NetworkHeadSpec(
    kind="network_head", dataset="toy", backbone={"kind": "resnet20"}, L=3, width=64,
    lambda_w=0.005, lambda_h=1e-4, lr=0.05, batch=8, epochs=2, head_gain=1.0, seeds=1,
)  # fmt: skip


def test_resnet20_has_the_published_size():
    """269,722 parameters with option A shortcuts and a ten-way layer (He et al. 2016: 0.27 M)."""
    count = sum(p.numel() for p in headed_networks.ResNet20().parameters())
    assert count - (64 * 64 + 64) + (64 * 10 + 10) == 269_722


def test_a_batch_of_everything_is_the_full_objective():
    """The N/b factor: the mean over all batches of the penalty on H_1 is the full penalty."""
    torch.manual_seed(0)
    H, Ws = torch.randn(5, 12).double(), [torch.randn(5, 5).double(), torch.randn(3, 5).double()]
    Y = torch.eye(3).double().repeat_interleave(4, 1)
    layers = headed_networks.head_layers(H, Ws)
    fit, penalty = headed_networks.fit_and_penalty(layers, Ws, Y, 0.1, 0.2, 12)
    expected = dnc.dufm_objective(H.numpy(), [W.numpy() for W in Ws], 0.2, [0.1, 0.1])
    assert (fit.item(), penalty.item()) == pytest.approx((expected.fit, expected.penalty))
    halves = []
    for i in (0, 6):
        half = [h[:, i : i + 6] for h in layers]
        halves.append(headed_networks.fit_and_penalty(half, Ws, Y[:, i : i + 6], 0.1, 0.2, 12))
    assert sum(p for _, p in halves) / 2 == pytest.approx(penalty.item())
    assert sum(f for f, _ in halves) / 2 == pytest.approx(fit.item())


def images(N=16):
    generator = torch.Generator().manual_seed(0)
    return torch.randn(N, 3, 32, 32, generator=generator), torch.arange(N) % 2


def objective(model, x, y):
    return {"loss": torch.nn.functional.cross_entropy(model(x), y)}


def small(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        layers = [torch.nn.Flatten(), torch.nn.Linear(3072, 8), torch.nn.BatchNorm1d(8)]
        return torch.nn.Sequential(*layers, torch.nn.ReLU(), torch.nn.Linear(8, 2))


@pytest.mark.slow
def test_resnet20_learns_sixteen_images():
    x, y = images()
    model = headed_networks.resnet20_with_head(SPEC, 2, seed=0, channels=3)
    recipe = loop.Recipe(lr=0.01, epochs=12, batch=16, optimiser="adam")
    run = loop.train(model, x, y, objective, recipe, seed=0, snapshot_epochs=[0], checkpoint=NONE)
    losses = [value for _, _, value in run.history]
    assert losses[-1] < 0.2 * losses[0]


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_a_resumed_loop_is_the_undisturbed_one_bit_for_bit(tmp_path, optimiser):
    x, y = images()
    recipe = loop.Recipe(
        lr=0.01, epochs=6, batch=6, optimiser=optimiser, momentum=0.9, schedule="cosine",
        warmup=0.2, padding=2, flips=True, decay={"": 0.01, "4.": 0.1},
    )  # fmt: skip

    def go(checkpoint, stop=False):
        model = small()
        seen = []

        def evaluate(_):
            seen.append(1)
            if stop and len(seen) == 4:
                raise Interrupted
            return {}

        run = loop.train(
            model, x, y, objective, recipe, seed=1, snapshot_epochs=[0, 2, 6],
            checkpoint=checkpoint, evaluate=evaluate,
        )  # fmt: skip
        return model, run

    model, run = go(NONE)
    path = tmp_path / "c.safetensors"
    with pytest.raises(Interrupted):
        go(Checkpoint(path, every=0), stop=True)
    resumed_model, resumed = go(Checkpoint(path, every=0))
    assert resumed.history == run.history
    for name, value in model.state_dict().items():
        assert torch.equal(resumed_model.state_dict()[name], value), name
    for epoch in (0, 2, 6):
        for name, value in run.snapshots[epoch].items():
            assert torch.equal(resumed.snapshots[epoch][name], value)


def test_a_loss_that_is_not_finite_stops_the_loop_with_the_step():
    x, y = images()
    recipe = loop.Recipe(lr=1e30, epochs=3, batch=8)
    with pytest.raises(loop.TrainingDiverged, match=r"not finite after step \d+"):
        loop.train(small(), x, y, objective, recipe, seed=0, snapshot_epochs=[], checkpoint=NONE)


def test_weight_decay_goes_to_the_longest_prefix():
    recipe = loop.Recipe(lr=0.1, epochs=1, batch=1, decay={"1": 0.5, "4.bias": 0.25})
    model = small()
    names = {id(p): name for name, p in model.named_parameters()}
    groups = loop.Optimiser(model, recipe).groups
    found = {names[id(p)]: decay for decay, own in groups.items() for p in own}
    assert found == {
        "1.weight": 0.5, "1.bias": 0.5, "2.weight": 0, "2.bias": 0, "4.weight": 0, "4.bias": 0.25,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_are_those_of_torch(kind, momentum):
    recipe = loop.Recipe(
        lr=0.1, epochs=1, batch=1, optimiser=kind, momentum=momentum, decay={"": 0.01, "4.": 0.1}
    )
    ours, theirs = small().double(), small().double()
    groups = [
        {"params": [p for name, p in theirs.named_parameters() if name.startswith("4.") == last],
         "weight_decay": 0.1 if last else 0.01}
        for last in (False, True)
    ]  # fmt: skip
    optimiser = loop.Optimiser(ours, recipe)
    published = {
        "sgd": lambda: torch.optim.SGD(groups, lr=0.1, momentum=momentum),
        "adam": lambda: torch.optim.Adam(groups, lr=0.1),
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.1),
    }[kind]()
    x, y = images()
    for step in range(5):
        for group in published.param_groups:
            group["lr"] = 0.1 / (step + 1)
        for model in (ours, theirs):
            objective(model, x.double(), y)["loss"].backward()
        optimiser.step(0.1 / (step + 1))
        published.step()
        published.zero_grad()
        for own, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            assert own.grad is None
            torch.testing.assert_close(own, other, rtol=1e-9, atol=1e-12)


def test_several_generators_draw_each_for_its_share():
    x, _ = images(12)

    def generators():
        return [torch.Generator().manual_seed(seed) for seed in (3, 4, 5)]

    for function in (lambda *a: loop.crop(a[0], 2, *a[1:]), loop.flip):
        parts = [function(own, g) for own, g in zip(x.chunk(3), generators(), strict=True)]
        assert torch.equal(function(x, *generators()), torch.cat(parts))


def test_schedules():
    cosine = loop.Recipe(lr=1, epochs=1, batch=1, schedule="cosine", warmup=0.1)
    assert loop.rate(cosine, 0.1) == 1 and loop.rate(cosine, 1) == pytest.approx(0)
    assert 0 < loop.rate(cosine, 0) < loop.rate(cosine, 0.05) < 1
    steps = loop.Recipe(lr=1, epochs=1, batch=1, schedule="multistep")
    assert [loop.rate(steps, x) for x in (0, 0.34, 0.67)] == pytest.approx([1, 0.1, 0.01])


def test_crops_and_flips_move_whole_images():
    x, _ = images(40)
    generator = torch.Generator().manual_seed(0)
    cropped = loop.crop(x, 2, generator)
    padded = torch.nn.functional.pad(x, (2,) * 4)
    places = [(i, j) for i in range(5) for j in range(5)]
    for image, source in zip(cropped, padded, strict=True):
        assert any(torch.equal(image, source[:, i : i + 32, j : j + 32]) for i, j in places)
    flipped = loop.flip(x, generator)
    same = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    mirrored = [torch.equal(a, b.flip(2)) for a, b in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True)) and 5 < sum(same) < 35


def test_log_spaced_steps():
    for steps in (1, 7, 1000, 30_000):
        spaced = ensemble.log_spaced(steps, 20)
        assert spaced[0] == 0 and spaced[-1] == steps and len(spaced) <= 21
        assert spaced == sorted(set(spaced)) and math.isfinite(spaced[-1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_denormals_are_zero_within_a_training_alone(dtype):
    tiny = torch.full((3,), torch.finfo(dtype).tiny, dtype=dtype)
    with without_denormals():
        assert (tiny / 4 == 0).all() and (tiny == torch.finfo(dtype).tiny).all()
        weights = tiny.clone().requires_grad_()
        (weights.square().sum() / 2).backward()
        assert (weights.grad == tiny).all() and (weights.grad / 2 == 0).all()
    assert (tiny / 4 > 0).all()


def test_weights_that_die_end_as_with_denormals():
    """A features model whose penalty is above the threshold goes to zero, through all of them."""

    def trained():
        generators = [torch.Generator().manual_seed(s) for s in range(3)]
        params = dufm.initialise(K=3, L=2, n=1, width=8, h_std=0.3, w_gain=0.3,
                                 generators=generators, dtype=torch.float32)  # fmt: skip
        large, lr = torch.full((3,), 1.0), torch.full((3,), 0.5)
        step = dufm.gradient_descent(params, large, large, lr)
        reached = []
        for _ in range(160):
            step()
            reached.append(params["W1"].abs().max().item())
        return params, reached

    before, reached = trained()
    assert any(0 < value < torch.finfo(torch.float32).tiny for value in reached)
    with without_denormals():
        after, _ = trained()
    for name, value in before.items():
        torch.testing.assert_close(value, after[name], rtol=0, atol=1e-37)


def test_no_convolution_skips_pixels_of_single_points():
    """With stride 2 their gradients write beyond their memory; see `headed_networks.projected`."""
    from replica.models.backbones import Bottleneck
    from replica.models.headed_networks import BasicBlock

    for block in (BasicBlock(4, 8, 2, projection=True), Bottleneck(4, 2, 2)):
        points = [m for m in block.modules() if isinstance(m, torch.nn.Conv2d)
                  and m.kernel_size == (1, 1)]  # fmt: skip
        assert points and all(m.stride == (1, 1) for m in points)
        # The same as the convolution with stride 2 that the papers write.
        x = torch.randn(3, 4, 8, 8)
        whole = torch.nn.functional.conv2d(x, block.shortcut[0].weight, stride=2)
        torch.testing.assert_close(block.shortcut[0](x[:, :, ::2, ::2]), whole)


# ------------------------------------------------------------------------------ precision


@pytest.mark.parametrize(
    ("units", "fast"),
    [
        ({"amx_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, True),
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC"}, True),
        ({"avx512_bf16": True, "cpu_name": "Intel(R) Xeon(R)"}, False),
        ({"avx512_bf16": False, "cpu_name": "AMD EPYC"}, False),
        ({}, False),
    ],
)
def test_mixed_is_bfloat16_where_a_processor_has_units_for_it(monkeypatch, units, fast):
    cpu, ones = torch.device("cpu"), torch.ones(2, 2)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    mixed = torch.bfloat16 if fast else torch.float32
    wanted = {"float32": torch.float32, "bfloat16": torch.bfloat16, "mixed": mixed}
    for name, dtype in wanted.items():
        with precision.autocast(name, cpu):
            assert (ones @ ones).dtype == dtype
    assert precision.in_words(cpu) == ("cpu with bfloat16" if fast else "cpu")
