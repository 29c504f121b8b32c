"""Learning from few labels: labelled sets, queries, losses, runs and rounds."""

import dataclasses
import hashlib
import itertools
import random
import tarfile
from inspect import signature

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_ind, ttest_rel
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from replica import costs
from replica.configuration import ConfigError
from replica.data.prepare import DataError, load, prepare_dataset
from replica.data.registry import DatasetEntry, load_registry
from replica.data.splits import in_pairs, samples
from replica.kinds import low_data
from replica.lowdata import exact, losses, methods
from replica.lowdata import words as lowdata_words
from replica.lowdata.accuracy import measure_low_data
from replica.lowdata.labels import LabelError, first_labels, random_labels
from replica.lowdata.queries import entropy, highest, k_center
from replica.lowdata.training import (
    averaged,
    kept_weights,
    pool_of,
    train_low_data,
    train_round,
)
from replica.measures.inputs import Inputs
from replica.models import refiner
from replica.models.backbones import build_backbone, build_network
from replica.models.refiner import FeatureRefiner, TwoHeaded
from replica.models.stacked import Stack
from replica.plan import make_plan, words
from replica.settings.load import expand, load_studies
from replica.settings.user import Config
from replica.settings.validation import validate_run
from replica.studies import fc_low_data
from replica.training import loop
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job
from replica.training.precision import fast_in_bfloat16
from replica.verdicts import FAILS, HOLDS, UNDECIDABLE, Undecided, trained, undecidable

SMALL = {"kind": "staged_resnet", "widths": [4, 8], "blocks": [1, 1]}
RUN = {
    "kind": "low_data", "dataset": "digits", "pixel_max": 16, "network": SMALL, "n": [20, 40],
    "lr": 0.05, "momentum": 0.9, "weight_decay": 5e-4, "batch": 20, "steps": 6, "padding": 1,
    "seeds": 2,
}  # fmt: skip


def spec(**changes):
    return validate_run({**RUN, **changes}, "a test")


@pytest.fixture(scope="module")
def digits(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "digits"
    return prepare_dataset(load_registry(root / "config/datasets.yaml")["digits"], folder, folder)


def job(card, seeds=(0, 1), checkpoint=None, **more):
    return Job("study", "run", seeds, checkpoint or Checkpoint(None), torch.device("cpu"), 1, card,
               {"digits": card}, **more)  # fmt: skip


# ------------------------------------------------------------------------------ labelled sets


@given(st.integers(1, 60), st.sets(st.integers(1, 60), min_size=1, max_size=5))
def test_labelled_sets_are_nested_and_as_the_official_code_shuffles(N, sizes):
    sizes = sorted(size for size in sizes if size <= N) or [N]
    sets = random_labels(N, sizes)
    assert [len(own) for own in sets] == sizes
    for before, after in itertools.pairwise(sets):
        assert (after[: len(before)] == before).all()
    assert len(set(sets[-1])) == sizes[-1] and set(sets[-1]) <= set(range(N))
    # The rule once more, in its own words: shuffle with seed 0, then with 0, 1, 2, ... again.
    pool, wanted = list(range(N)), []
    random.Random(0).shuffle(pool)
    for counter, more in enumerate(np.diff(sizes, prepend=0), start=-1):
        if counter >= 0:
            random.Random(counter).shuffle(pool)
        wanted, pool = wanted + pool[:more], pool[more:]
    assert sets[-1].tolist() == wanted


def test_more_labels_than_images():
    with pytest.raises(LabelError, match="n = 11 images should be labelled, but the pool has only"):
        random_labels(10, [5, 11])
    with pytest.raises(LabelError, match="only 3"):
        first_labels(3, 4)


def test_the_pool_and_the_test_images_are_different_images(digits):
    pool = pool_of(spec(), digits)
    assert len(pool.labels) + len(pool.test_labels) == 1797 and pool.K == 10
    share = torch.bincount(pool.test_labels) / torch.bincount(torch.cat([pool.labels,
                                                                         pool.test_labels]))  # fmt: skip
    assert (share - 0.3).abs().max() < 0.01
    # Every image is in one of the two: together they have the histogram of the whole set.
    whole = load(digits).arrays["train.images"]
    both = torch.cat([pool.images, pool.test_images]).flatten(1).numpy()
    assert sorted(map(bytes, both)) == sorted(map(bytes, whole.reshape(1797, -1)))


def test_pairs_are_two_images_with_both_labels(digits):
    images, labels, K = samples(load(digits), "test", 16)
    pairs, both = in_pairs(images, labels, K, "digits test")
    assert pairs.shape == (4 * len(images), 1, 8, 16) and both.max() < K**2
    assert len({bytes(pair) for pair in pairs}) == len(pairs)
    by_image = {bytes(image): label for image, label in zip(images, labels, strict=True)}
    for pair, label in zip(pairs[::50], both[::50], strict=True):
        left, right = by_image[pair[:, :, :8].tobytes()], by_image[pair[:, :, 8:].tobytes()]
        assert (left, right) == divmod(label, K)
    pool = pool_of(spec(pairs=True, classes=[50, 99]), digits)
    assert pool.K == 50 and pool.labels.unique().tolist() == list(range(50))


# ------------------------------------------------------------------------------ queries


def test_the_entropy_of_equal_and_of_certain_logits():
    z = torch.tensor([[0.0] * 7, [100.0] + [0.0] * 6])
    torch.testing.assert_close(entropy(z), torch.log(torch.tensor([7.0, 1.0])).double())


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.data())
def test_the_highest_scores_ties_by_position(scores, data):
    wanted = data.draw(st.integers(1, len(scores)))
    chosen = highest(torch.tensor(scores), wanted).tolist()
    assert chosen == sorted(range(len(scores)), key=lambda i: (-scores[i], i))[:wanted]


@given(st.integers(0, 10_000), st.integers(1, 4))
def test_core_set_covers_within_twice_the_best_possible(seed, wanted):
    generator = torch.Generator().manual_seed(seed)
    labelled = torch.randn(2, 2, generator=generator, dtype=torch.float64)
    candidates = torch.randn(9, 2, generator=generator, dtype=torch.float64)
    distances = torch.cdist(candidates, torch.cat([labelled, candidates]))

    def radius(centres):
        return distances[:, [0, 1, *(2 + c for c in centres)]].amin(1).max().item()

    chosen, at = k_center(labelled, candidates, wanted)
    best = min(radius(each) for each in itertools.combinations(range(9), wanted))
    assert radius(chosen.tolist()) <= 2 * best + 1e-12
    # Step by step by brute force: the farthest from all centres so far.
    centres = []
    for position, distance in zip(chosen.tolist(), at.tolist(), strict=True):
        nearest = distances[:, [0, 1, *(2 + c for c in centres)]].amin(1)
        assert nearest.max().item() == pytest.approx(distance)
        assert nearest[position].item() == pytest.approx(distance)
        centres.append(position)
    assert len(set(centres)) == wanted


def test_core_set_chooses_no_image_twice_also_where_all_are_equal():
    same = torch.ones(5, 3)
    chosen, distances = k_center(same[:1], same, 5)
    assert sorted(chosen.tolist()) == list(range(5)) and (distances == 0).all()


@pytest.mark.parametrize("query", [highest, lambda s, n: k_center(s[:1, None], s[:, None], n)])
def test_a_query_of_nothing_or_of_too_much(query):
    with pytest.raises(ValueError, match="at least one image, not 0"):
        query(torch.ones(3), 0)
    with pytest.raises(ValueError, match="4 images should be labelled, but the pool has only 3"):
        query(torch.ones(3), 4)


# ------------------------------------------------------------------------------ losses


def softmax(z, T=1.0):
    p = np.exp(z / T - (z / T).max(1, keepdims=True))
    return p / p.sum(1, keepdims=True)


def kl(p, q):
    return (p * np.log(p / q)).sum(1).mean()


def test_losses_by_hand():
    generator = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 5, 4, generator=generator, requires_grad=True)
    y = torch.tensor([0, 1, 2, 3, 0])
    a, b = first.detach().numpy().astype(float), second.detach().numpy().astype(float)
    ce = [-np.log(softmax(z)[range(5), y]).mean() for z in (a, b)]

    def values(parts):
        return {name: value.item() for name, value in parts.items()}

    assert values(losses.joint([first, second], y)) == pytest.approx(
        {"original": ce[0], "extra": ce[1]}, rel=1e-5
    )
    soft = kl(softmax(b, 2), softmax(a, 2)) * 4
    assert values(losses.distillation(first, second, y)) == pytest.approx(
        {"original": ce[0], "soft": soft}, rel=1e-5
    )
    both = kl(softmax(a), softmax(b)) + kl(softmax(b), softmax(a))
    assert values(losses.mutual(first, second, y)) == pytest.approx(
        {"original": ce[0], "peer": ce[1], "soft": both}, rel=1e-5
    )
    q = softmax((a + b) / 2, 2)
    together = 4 * (kl(softmax(a, 2), q) + kl(softmax(b, 2), q))
    assert values(losses.collaborative(first, second, y)) == pytest.approx(
        {"original": ce[0], "peer": ce[1], "soft": together}, rel=1e-5
    )


def test_no_gradient_reaches_a_teacher():
    student, teacher = torch.randn(2, 3, 4).requires_grad_().unbind()
    y = torch.tensor([0, 1, 2])
    (g,) = torch.autograd.grad(
        losses.distillation(student, teacher, y)["soft"], teacher, allow_unused=True
    )
    assert g is None


def test_fixmatch_counts_only_what_is_sure():
    weak = torch.tensor([[9.0, 0.0], [0.1, 0.0], [0.0, 9.0]])
    strong = torch.tensor([[1.0, 2.0], [5.0, 0.0], [0.0, 3.0]])
    wanted = (F.cross_entropy(strong[:1], torch.tensor([0]))
              + F.cross_entropy(strong[2:], torch.tensor([1]))) / 3  # fmt: skip
    torch.testing.assert_close(losses.fixmatch(weak, strong), wanted)


def test_the_ranking_of_losses_by_hand():
    # Pairs are (0, 3) and (1, 2): the first is ordered as it should be with a gap of 2, above
    # the margin; in the second the larger loss has the smaller prediction.
    predicted = torch.tensor([3.0, 0.5, 0.75, 1.0], requires_grad=True)
    true = torch.tensor([2.0, 4.0, 1.0, 1.5], requires_grad=True)
    value = losses.loss_ranking(predicted, true)
    assert value.item() == pytest.approx((0 + 1.25) / 2)
    g, none = torch.autograd.grad(value, [predicted, true], allow_unused=True)
    assert g.tolist() == [0, -0.5, 0.5, 0] and none is None
    # Equal losses count as falling; the middle one of three is alone.
    odd = losses.loss_ranking(torch.tensor([1.0, 7.0, 1.0]), torch.tensor([1.0, 7.0, 1.0]))
    assert odd.item() == pytest.approx(1.0)


# ------------------------------------------------------------------------------ training


def test_the_published_schedule(root):
    study = load_studies(root / "config/studies")["fc_low_data"]
    for run, drop in [("plain", 160), ("fr", 160), ("plain_c101", 80)]:
        own = expand(study, run, Config(scale="paper"))[run]
        steps = [n // own.batch * own.epochs for n in own.n]
        assert steps[0] == (2000 if run != "plain_c101" else 1000)
        recipe = loop.Recipe(lr=own.lr, epochs=own.epochs, batch=own.batch, schedule="multistep",
                             milestones=(own.milestone,))  # fmt: skip
        per_epoch = own.n[0] // own.batch
        for epoch in range(1, own.epochs + 1):
            for i in (0, per_epoch - 1):
                share = loop.rate(recipe, ((epoch - 1) * per_epoch + i) / steps[0])
                assert share == pytest.approx(1 if epoch <= drop else 0.1)


def test_augmentation_is_that_of_torchvision():
    from torchvision.transforms import functional as tf

    images = torch.randint(256, (30, 3, 8, 8), dtype=torch.uint8)
    generator = torch.Generator().manual_seed(0)
    cropped = loop.crop(images, 2, generator)
    top, left = torch.randint(5, (2, 30), generator=torch.Generator().manual_seed(0))
    for image, own, i, j in zip(images, cropped, top.tolist(), left.tolist(), strict=True):
        assert torch.equal(own, tf.crop(tf.pad(image, 2), i, j, 8, 8))
    assert len({*zip(top.tolist(), left.tolist(), strict=True)}) > 10
    generator = torch.Generator().manual_seed(1)
    flipped = loop.flip(images, generator)
    heads = torch.rand(30, generator=torch.Generator().manual_seed(1)) < 0.5
    for image, own, head in zip(images, flipped, heads, strict=True):
        assert torch.equal(own, tf.hflip(image) if head else image)


def test_a_run_keeps_logits_and_sets_and_is_the_same_twice(digits):
    own = spec(refiner={"width": 4})
    with pytest.warns(UserWarning, match="none of the 20 labelled images is of class"):
        first = train_low_data(own, job(digits))
    second = train_low_data(own, job(digits))
    assert all(torch.equal(first.states[k], v) for k, v in second.states.items())
    assert first.states["20/logits"].shape == (2, 2, 539, 10)
    assert (first.states["40/rows"][:, :20] == first.states["20/rows"]).all()
    assert (first.states["20/rows"][0] == first.states["20/rows"][1]).all()
    arrays = {name: value.numpy() for name, value in first.states.items()}
    table = measure_low_data(own, arrays, run="run", threads=1, card=digits)
    truth = pool_of(own, digits).test_labels
    right = (first.states["40/logits"][1, 0].argmax(1) == truth).double().mean() * 100
    found = table[
        (table["seed"] == 1) & (table["n_labelled"] == 40) & (table["head"] == "original")
    ]
    assert found.set_index("metric")["value"]["test_accuracy"] == pytest.approx(right.item())
    missing = table[(table["metric"] == "missing_classes") & (table["n_labelled"] == 20)]
    rows = first.states["20/rows"][0]
    assert (missing["value"] == 10 - len(pool_of(own, digits).labels[rows].unique())).all()
    assert set(table["dataset"]) == {"digits"}


@pytest.mark.slow
def test_a_network_learns_digits(digits):
    own = spec(n=[200], steps=900, refiner={"width": 16}, seeds=1, gate=0.0,
               network={**SMALL, "widths": [8, 16, 16], "blocks": [1, 1, 1]})  # fmt: skip
    states = train_low_data(own, job(digits, (0,))).states
    right = (states["200/logits"][0].argmax(2) == states["test_labels"]).double().mean(1)
    assert right.min() > 0.8


@pytest.mark.slow
def test_the_network_compiles_whole_and_computes_the_same():
    """What a GPU would be given, traced here without one: one graph, the same gradients."""
    own = spec(refiner={"width": 4}, mean=[0.5], std=[0.2])
    plain, compiled = (build_network(own, (1, 8, 8), 10, 0) for _ in range(2))
    compiled.compile(backend="aot_eager", fullgraph=True)
    x, y = torch.rand(20, 1, 8, 8), torch.randint(10, (20,))
    for model in (plain, compiled):
        sum(losses.joint(model(x), y).values()).backward()
    for a, b in zip(plain.parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)
    assert list(plain.state_dict()) == list(compiled.state_dict())


class Stops(Checkpoint):
    """A checkpoint that asks to stop in the middle of the training of 40 labels."""

    def member(self, name):
        inner = Checkpoint.member(self, name)
        if ".40." in name:
            inner.due = lambda: True
            inner.stopping = True
        return inner


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, {"kind": "dense", "growth": 2, "blocks": [1]}])
def test_a_stopped_run_goes_on_and_ends_as_undisturbed(digits, tmp_path, network):
    own = spec(refiner={"width": 4}, network=network)
    whole = train_low_data(own, job(digits)).states
    path = tmp_path / "kept.safetensors"
    with pytest.raises(SystemExit):
        train_low_data(own, job(digits, checkpoint=Stops(path)))
    assert len(list(tmp_path.glob("kept.0.40.order.safetensors"))) == 1
    resumed = train_low_data(own, job(digits, checkpoint=Checkpoint(path))).states
    assert all(torch.equal(resumed[name], value) for name, value in whole.items())
    Checkpoint(path).discard()
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "parts"),
    [
        ("distillation", {"original", "soft"}), ("mutual", {"original", "peer", "soft"}),
        ("collaborative", {"original", "peer", "soft"}), ("fixmatch", {"original", "unlabelled"}),
    ],
)  # fmt: skip
def test_other_methods_train(digits, method, parts):
    own = spec(method=method, n=[40], steps=30, seeds=1, flips=True,
               peer=None if method == "fixmatch" else SMALL)  # fmt: skip
    result = train_low_data(own, job(digits, (0,)))
    history = result.history.pivot(index="step", columns="metric", values="value")
    assert set(history) == parts and history["original"].iloc[-1] < history["original"].iloc[0]
    again = train_low_data(own, job(digits, (0,)))
    assert torch.equal(result.states["40/logits"], again.states["40/logits"])


def test_two_views_are_two_augmentations_of_the_same_images():
    own = spec(method="collaborative", peer=SMALL, padding=2)
    images = torch.randint(16, (10, 1, 8, 8), dtype=torch.uint8)
    networks = [build_network(own, (1, 8, 8), 10, s) for s in (0, 1)]
    perturb = methods.together(*networks, own, images).perturb
    rows = torch.tensor([3, 1])
    first = loop.crop(images[rows], 2, torch.Generator().manual_seed(5))
    seen = perturb(first, rows, torch.Generator().manual_seed(6))
    second = loop.crop(images[rows], 2, torch.Generator().manual_seed(6))
    torch.testing.assert_close(seen, torch.cat([first, second]) / 16)


def test_a_pretrained_backbone_is_where_the_next_training_starts(digits):
    pre = train_low_data(spec(classes=[0, 4], keep_weights=True, seeds=1), job(digits, (0,)))
    kept = kept_weights(pre.states)
    assert kept["original.weight"].shape == (5, 8)
    # With a rate of almost zero the backbone stays what it was loaded as.
    own = spec(classes=[5, 9], pretrained="pre", lr=1e-12, n=[40], keep_weights=True)
    tuned = train_low_data(own, job(digits, start=pre.states))
    for name, value in kept_weights(tuned.states, 1).items():
        if name.startswith("backbone.") and "running" not in name and "tracked" not in name:
            torch.testing.assert_close(value, kept[name], rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="None of the weights fits the network"):
        train_low_data(own, job(digits, start={"40/weights/backbone.x": torch.zeros(1, 3)}))


def test_corrupted_images_that_are_clean_have_the_clean_accuracy(digits, tmp_path):
    """CIFAR-10-C in the small: the test images five times over, and once turned upside down."""
    images, labels, _ = samples(load(digits), "test", 16)
    members = {}
    for name, own in [("none", images), ("flipped", images[:, :, ::-1])]:
        members[name] = np.concatenate([own] * 5).transpose(0, 2, 3, 1)
    members["labels"] = np.tile(labels, 5)
    for name, array in members.items():
        np.save(tmp_path / f"{name}.npy", array)
    with tarfile.open(tmp_path / "c.tar", "w") as file:
        for name in members:
            file.add(tmp_path / f"{name}.npy", f"c/{name}.npy")
    checksum = "md5:" + hashlib.md5((tmp_path / "c.tar").read_bytes()).hexdigest()
    entry = DatasetEntry(name="c", title="C", kind="corrupted_cifar", licence="none", classes=10,
                         files={"c.tar": checksum})  # fmt: skip
    card = prepare_dataset(entry, tmp_path, tmp_path / "c")
    own = spec(n=[40], steps=40, refiner={"width": 4}, corrupted="c")
    work = dataclasses.replace(job(digits), cards={"digits": digits, "c": card})
    states = train_low_data(own, work).states
    assert states["40/corrupted/none"].shape == (2, 2, 5)
    arrays = {name: value.numpy() for name, value in states.items()}
    table = measure_low_data(own, arrays, run="plain_c", threads=1, card=digits)
    clean = table[table["metric"] == "test_accuracy"].set_index(["seed", "head"])["value"]
    rows = table[table["metric"] == "corrupted_accuracy"]
    for row in rows[rows["detail"].str.startswith("none")].itertuples():
        assert row.value == pytest.approx(clean[row.seed, row.head])
    upside_down = rows[rows["detail"].str.startswith("flipped")]["value"]
    assert upside_down.max() < clean.max()
    figure = fc_low_data.table_optional_cifar10c(
        Inputs("fc_low_data", "optional_cifar10c", "laptop", "scaled", pd.DataFrame(), table)
    )
    assert sorted(figure["severity"].unique()) == [0, 1, 2, 3, 4, 5]
    assert len(fc_low_data.draw_optional_cifar10c(figure, pd.DataFrame()).axes) == 1


# ------------------------------------------------------------------------------ active learning


def chain(own, digits, seeds=(0, 1)):
    before, states, rounds = None, None, []
    for stage in range(len(own.n)):
        start = states if own.active.continued else None
        result, before = train_round(own, job(digits, seeds, start=start), stage, before)
        states = result.states
        rounds.append((states, before))
    return rounds


@pytest.mark.parametrize("query", ["random", "entropy", "core_set", "llal"])
def test_rounds_nest_their_labelled_sets(digits, query):
    own = spec(n=[20, 40, 50], batch=10, active={"query": query, "candidates": 100})
    rounds = chain(own, digits)
    first = random_labels(1258, own.n)
    pool = pool_of(own, digits)
    for stage, (states, labelled) in enumerate(rounds):
        n = own.n[stage]
        for member, seed in enumerate((0, 1)):
            used = states[f"{n}/rows"][member].tolist()
            assert len(set(used)) == n and set(first[0]) == set(used[:20])
            if stage:
                table = rounds[stage - 1][1]
                assert used == table.loc[table["seed"] == seed, "row"].tolist()
            mine = labelled[labelled["seed"] == seed]
            assert (pool.labels[mine["row"].to_numpy()].numpy() == mine["label"]).all()
            assert mine["row"].is_unique and len(mine) == own.n[min(stage + 1, 2)]
            assert mine["stage"].max() == min(stage + 1, 2)
    if query == "random":
        assert rounds[-1][0]["50/rows"][0].tolist() == first[-1].tolist()
    else:
        assert labelled.loc[labelled["stage"] > 0, "score"].notna().all()


def test_entropy_queries_ask_for_the_most_uncertain_candidates(digits):
    own = spec(n=[20, 30], batch=10, seeds=1, keep_weights=True,
               active={"query": "entropy", "candidates": 60})  # fmt: skip
    states, labelled = chain(own, digits, (0,))[0]
    pool = pool_of(own, digits)
    network = build_network(own, (1, 8, 8), 10, 0)
    network.load_state_dict(kept_weights(states))
    _, rest = first_labels(1258, 20)
    random.Random(0).shuffle(rest)
    with torch.no_grad():
        z = network.eval()(pool.images[rest[:60]].float() / 16)[0]
    p = z.double().softmax(1)
    scores = -(p * p.log()).sum(1)
    order = sorted(range(60), key=lambda i: -scores[i])[:10]
    new = labelled[labelled["stage"] == 1]
    assert new["row"].tolist() == [rest[i] for i in order]
    np.testing.assert_allclose(new["score"], scores[order], rtol=1e-5)


def test_continued_rounds_go_on_from_the_weights(digits):
    own = spec(n=[20, 40], seeds=1, lr=1e-12, active={"query": "llal", "continued": True})
    (first, _), (second, _) = chain(own, digits, (0,))
    before, after = first["20/weights/network.original.weight"], second["40/weights/last.weight"]
    torch.testing.assert_close(second["40/weights/network.original.weight"], before)
    torch.testing.assert_close(after, first["20/weights/last.weight"])
    fresh = spec(n=[20, 40], seeds=1, lr=1e-12, keep_weights=True, active={"query": "llal"})
    (one, _), (two, _) = chain(fresh, digits, (0,))
    key = "weights/network.original.weight"
    assert not torch.allclose(one[f"20/{key}"], two[f"40/{key}"])


def test_the_module_leaves_the_backbone_after_its_share_of_the_epochs():
    own = spec(active={"query": "llal"})
    network = build_network(own, (1, 8, 8), 10, 0)
    model = methods.with_loss_module(network, (1, 8, 8), 1)
    method = methods.predicting_losses(model, own, epochs=200)
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    inside = list(network.backbone.parameters())
    for epoch, reaches in [(1, True), (120, True), (121, False), (200, False)]:
        method.before_epoch(epoch)
        ranking = method.objective(model, x, y)["ranking"]
        gradients = torch.autograd.grad(ranking, inside, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in gradients) == reaches
    # The widths of the paper: 64, 128, 256, 512 -> 128 each, 512 -> 1.
    assert [part[0].in_features for part in model.parts] == [4, 8]
    assert model.last.in_features == 256


# ------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": [40, 40]}, "40 after 40 would label no image"),
        ({"n": [20, 60], "active": {"query": "entropy", "candidates": 30}}, "candidates = 30"),
        ({"network": {"kind": "resnet19"}}, "network"),
        ({"network": {"kind": "torchvision", "name": "vgg"}}, "'resnet18', 'densenet121'"),
        ({"active": {"query": "llal"}, "network": {"kind": "dense", "growth": 2, "blocks": [1]}},
         "llal needs a network with stages"),
        ({"method": "mutual"}, "need a peer"),
        ({"epochs": 3}, "exactly one of epochs and steps"),
        ({"n": [21]}, "leaves one image alone"),
        ({"mean": [0.5]}, "both of mean and std"),
        ({"refiner": {"width": 4, "drop": ["fc"]}}, "'norm1', 'linear1', 'linear2' or 'norm2'"),
        ({"weights": "a", "pretrained": "b"}, "not both"),
        ({"network": {**SMALL, "blocks": [1]}}, "widths has 2 stages, blocks 1"),
        ({"method": "fixmatch", "refiner": {"width": 4}}, "neither a refiner nor"),
    ],
)  # fmt: skip
def test_a_bad_specification_is_one_sentence(changes, words):
    with pytest.raises(ConfigError) as error:
        spec(**changes)
    assert words in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n": [2000]}, "n = 2000 images should be labelled, but the pool has only 1258"),
        ({"n": [20, 2000], "active": {"query": "random"}}, "the pool has only 1258"),
        ({"classes": [5, 12]}, "classes = .5, 12., but digits has classes 0..9"),
        ({"pixel_max": 8}, "their largest value is 16, but pixel_max is 8"),
    ],
)  # fmt: skip
def test_what_the_data_cannot_give_is_named(digits, changes, words):
    own = spec(**changes)
    with pytest.raises((LabelError, DataError), match=words):
        if own.active:
            train_round(own, job(digits), 0, None)
        else:
            train_low_data(own, job(digits))


# ------------------------------------------------------------------------------ claims

EVIDENCE = [f"c{i}" for i in range(1, 14)]
SUPERVISED = {"fig3a_supervised_cifar10": "cifar10", "fig3b_supervised_cifar100": "cifar100"}


@pytest.fixture(scope="module")
def claims(root):
    return load_studies(root / "config/studies")["fc_low_data"].claims


@pytest.fixture(scope="module")
def published_tables(root):
    """Figure tables as they would be if our five seeds had the published means and spreads."""
    rows = pd.read_csv(root / "config/published/fc_low_data.csv")
    rows = rows[pd.to_numeric(rows["x"], errors="coerce").notna()].astype({"x": int})
    # Where the page and the figure differ the figure counts.
    rows = rows.sort_values("kind").drop_duplicates(["figure", "series", "x"])
    sets = {"cifar100": "cifar100", "caltech101": "caltech101", "caltech256": "caltech256"}
    tables = {}
    for figure, own in rows.groupby("figure"):
        dataset = next((v for k, v in sets.items() if k in figure), "cifar10")
        if figure == "ablation_b_ojkd":
            # Two heads of one network share what its seed does.
            own = own.assign(y_err=own.groupby("x")["y_err"].transform("max"))
        # Error bars that the markers hide are shorter than half a point.
        parts = [own.assign(test_accuracy=own["y"] + offset * own["y_err"].fillna(0.4), seed=seed)
                 for seed, offset in enumerate([-1.26, -0.63, 0, 0.63, 1.26])]  # fmt: skip
        table = pd.concat(parts).rename(columns={"x": "n_labelled"})
        table = table.assign(dataset=dataset, head="original", run="", train_accuracy=100.0,
                             network="ResNet18", refiner="", training="", labelled_set=0)  # fmt: skip
        extra = table["series"] == "ExtraHead"
        tables[figure] = table.assign(head=np.where(extra, "extra", "original"))
    layers = {name: depth for depth, name in enumerate(fc_low_data.DEPTHS, start=1)}
    depths = tables["ablation_c_depth"]
    tables["ablation_c_depth"] = depths.assign(inner_layers=depths["series"].map(layers))
    return with_relative_gains(tables)


def with_relative_gains(tables):
    gains = pd.concat([fc_low_data._relative_gains(tables[figure]) for figure in SUPERVISED])
    return tables | {"fig3_relative_gain": gains}


def verdict(claims, name, tables):
    found = {figure: tables[figure] for figure in claims[name].figures}
    try:
        return getattr(fc_low_data, f"claim_{name}")(found)
    except Undecided as why:
        return undecidable(str(why))


def changed(tables, change):
    """The tables with another accuracy in each row; the relative gain follows."""
    accuracies = {f: t for f, t in tables.items() if "test_accuracy" in t}
    return with_relative_gains({figure: change(table) for figure, table in accuracies.items()})


def test_every_claim_holds_on_the_published_numbers(claims, published_tables):
    wide = published_tables["fig3_relative_gain"]["relative_gain"]
    assert wide.max() == pytest.approx(16.733, abs=1e-3)
    for name in EVIDENCE:
        found = verdict(claims, name, published_tables)
        # The published error bars leave one step of c12 open: from the wide to the narrow layer.
        wanted = UNDECIDABLE if name == "c12" else HOLDS
        assert found.verdict == wanted, (name, found)
    assert "leave both possible" in verdict(claims, "c12", published_tables).detail


def test_every_part_of_fr_helps_where_the_seeds_agree(claims, published_tables):
    table = published_tables["ablation_a_components"]
    agreed = table["y"] + (table["test_accuracy"] - table["y"]) / 2
    tables = {"ablation_a_components": table.assign(test_accuracy=agreed)}
    assert verdict(claims, "c12", tables).verdict == HOLDS


def test_no_claim_holds_without_a_gain(claims, published_tables):
    """The same tables with the series exchanged: what the paper says must then be denied."""
    names = {"ResNet18": "FR-ResNet18", "OriginalHead": "OriginalHead_no_GradGate",
             "FR": "FR-5layer", "ResNet18-Entropy": "FR-ResNet18-Entropy"}  # fmt: skip
    names |= {b: f"FR-{b}" for b in ("ResNet34", "DenseNet121", "EfficientNetB3")}
    mixer = {"MLPMixer": "FR-ResNet18"}

    def exchanged(table):
        pairs = mixer if "MLPMixer" in set(table["series"]) else names
        table = table.assign(
            series=table["series"].replace(pairs | {v: k for k, v in pairs.items()})
        )
        deep = {"inner_layers": 6 - table["inner_layers"]} if "inner_layers" in table else {}
        return table.assign(**deep)

    swapped = changed(published_tables, exchanged)
    for name in EVIDENCE:
        if name != "c10":
            found = verdict(claims, name, swapped)
            assert found.verdict == FAILS, (name, found)


def test_one_number_of_labels_does_not_say_that_a_head_can_be_dropped(claims, published_tables):
    table = published_tables["ablation_b_ojkd"]
    assert verdict(claims, "c10", {"ablation_b_ojkd": table}).verdict == HOLDS
    found = verdict(claims, "c10", {"ablation_b_ojkd": table[table["n_labelled"] == 1000]})
    assert found.verdict == UNDECIDABLE and "no training at n = 2,000" in found.detail


def test_a_head_that_makes_a_difference_cannot_be_dropped(claims, published_tables):
    table = published_tables["ablation_b_ojkd"]
    lower = table["test_accuracy"] - 5 * (table["series"] == "OriginalHead")
    tables = {"ablation_b_ojkd": table.assign(test_accuracy=lower)}
    assert verdict(claims, "c10", tables).verdict == FAILS


def tables_of_theory(name):
    inputs = Inputs("fc_low_data", name, "smoke", "derived", pd.DataFrame(), pd.DataFrame())
    return {name: getattr(fc_low_data, f"table_{name}")(inputs)}


def test_a_wrong_count_of_parameters_is_seen(claims, monkeypatch):
    monkeypatch.setattr(exact, "NETWORKS", exact.NETWORKS[:1])
    assert verdict(claims, "c14", tables_of_theory("table_parameters")).verdict == HOLDS
    with monkeypatch.context() as fault:
        fault.setattr(exact, "FeatureRefiner", lambda *sizes: FeatureRefiner(*sizes[:2], 2))
        assert verdict(claims, "c14", tables_of_theory("table_parameters")).verdict == FAILS
    with monkeypatch.context() as fault:
        # The extra head is not dropped at test time.
        fault.setattr(TwoHeaded, "at_test_time", lambda network: network)
        assert verdict(claims, "c14", tables_of_theory("table_parameters")).verdict == FAILS


@pytest.mark.slow
def test_a_gate_that_leaks_or_never_opens_is_seen(claims, monkeypatch):
    narrow = exact.RESNET18.model_copy(update={"widths": [4, 4, 4, 512], "blocks": [1, 1, 1, 1]})
    monkeypatch.setattr(exact, "RESNET18", narrow)
    assert verdict(claims, "c15", tables_of_theory("gradient_gate")).verdict == HOLDS
    gate = refiner.gradient_gate
    with monkeypatch.context() as fault:
        fault.setattr(refiner, "gradient_gate", lambda h, m: gate(h, 1e-6))
        found = verdict(claims, "c15", tables_of_theory("gradient_gate"))
        assert found.verdict == FAILS and found.value > 0
    with monkeypatch.context() as fault:
        fault.setattr(TwoHeaded, "heads", lambda self, h: [self.original(h.detach()),
                                                           self.extra(self.refiner(h))])  # fmt: skip
        assert verdict(claims, "c15", tables_of_theory("gradient_gate")).verdict == FAILS


@pytest.mark.slow
def test_networks_that_were_not_trained_decide_nothing(claims, published_tables):
    """One series that misses two images of a hundred is enough, whatever its gain."""
    for name in EVIDENCE:
        for figure in claims[name].figures:
            if figure in ("fig3_relative_gain", "al_c_caltech101", "al_d_caltech256"):
                continue
            table = published_tables[figure]
            last = "OriginalHead" if name == "c10" else table["series"].iloc[0]
            lower = np.where(table["series"] == last, 98.0, 100.0)
            tables = published_tables | {figure: table.assign(train_accuracy=lower)}
            found = verdict(claims, name, tables)
            assert found.verdict == UNDECIDABLE, (name, figure, found)
            assert f"{last} with" in found.detail and "98.0%" in found.detail


def test_seeds_that_differ_more_than_series_decide_nothing(claims, published_tables):
    """The published means, with 20 pp and more between the seeds of each series."""

    def noisy(table):
        sign = np.where(table["series"].isin(["ResNet18", "ExtraHead"]), -1, 1)
        return table.assign(test_accuracy=table["y"] + 20 * sign * (table["seed"] - 2))

    noise = changed(published_tables, noisy)
    for name in EVIDENCE:
        found = verdict(claims, name, noise)
        assert found.verdict == UNDECIDABLE and "leave both possible" in found.detail, (name, found)


def test_one_seed_decides_nothing(claims, published_tables):
    first = changed(published_tables, lambda table: table[table["seed"] == 0])
    for name in EVIDENCE:
        found = verdict(claims, name, first)
        assert found.verdict == UNDECIDABLE, (name, found)


def test_heads_that_know_nothing_agree_and_decide_nothing(claims, published_tables):
    """Networks trained on shuffled labels: both heads are at chance, and do not differ."""
    rng = np.random.default_rng(0)
    null = changed(
        published_tables, lambda table: table.assign(test_accuracy=rng.normal(10, 0.3, len(table)))
    )
    for name in EVIDENCE:
        assert verdict(claims, name, null).verdict != HOLDS, name
    found = verdict(claims, "c10", null)
    assert found.verdict == UNDECIDABLE and "less than 30 % of the test images" in found.detail


def test_one_layer_has_to_be_the_best(claims, published_tables):
    """Accuracy that falls from two layers on does not make one of them the best."""
    table = published_tables["ablation_c_depth"]
    better = table["test_accuracy"].where(table["series"] != "FR-2layer", table["y"] + 5)
    tables = {"ablation_c_depth": table.assign(test_accuracy=better)}
    found = verdict(claims, "c13", tables)
    assert found.verdict == FAILS and found.value < 0


def alike(table, accuracies, labels, seeds=3):
    """A figure table with one accuracy a series, whatever the number of labels and the seed."""
    first = table.drop_duplicates("series").set_index("series")
    rows = itertools.product(accuracies, labels, range(seeds))
    made = pd.DataFrame(rows, columns=["series", "n_labelled", "seed"])
    columns = first.columns.difference(made.columns)
    return made.join(first[columns], on="series").assign(
        test_accuracy=made["series"].map(accuracies).astype(float)
    )


def with_noise(table, rng, spread=1.0):
    return table.assign(test_accuracy=table["test_accuracy"] + rng.normal(0, spread, len(table)))


def test_a_mean_over_labels_misses_as_seldom_as_one_gain(published_tables):
    """Where FR alone varies its seeds are all the freedom there is, whatever the baseline has."""
    rng = np.random.default_rng(0)
    table = alike(
        published_tables["fig3a_supervised_cifar10"],
        {"ResNet18": 50, "FR-ResNet18": 50},
        range(600),
        seeds=2,
    )
    noise = rng.normal(0, np.where(table["series"] == "ResNet18", 0.05, 1))
    gains = fc_low_data._gains(table.assign(test_accuracy=50 + noise))
    pairs = [fc_low_data._overall(gains.iloc[i : i + 2], looks=4) for i in range(0, 600, 2)]
    assert np.mean([abs(gain) > error for gain, error, _ in pairs]) < 0.06
    assert np.mean([abs(gain) > wide for gain, _, wide in pairs]) < 0.03
    # Of one number of labels the interval is Welch's.
    assert fc_low_data._overall(gains.iloc[:1], 1)[1] == pytest.approx(gains["error"].iloc[0])


@pytest.mark.parametrize("common", [0.0, 1.0])
def test_a_mean_over_nested_sets_misses_as_seldom(published_tables, common):
    """What a seed's set does to the gain it may do at all numbers of labels, which contain it."""
    rng, labels, seeds = np.random.default_rng(0), range(4), 5
    series = {"ResNet18": 50, "FR-ResNet18": 50}
    table = alike(published_tables["fig3a_supervised_cifar10"], series, labels, seeds)
    table = table.assign(labelled_set=table["seed"])
    misses = []
    for _ in range(200):
        of_seed = common * rng.normal(size=seeds)
        noise = rng.normal(size=len(table)) * 0.1 ** (common > 0)
        gain = (table["series"] != "ResNet18") * of_seed[table["seed"]]
        gains = fc_low_data._gains(table.assign(test_accuracy=50 + gain + noise))
        mean, error, _ = fc_low_data._overall(gains, 1)
        misses.append(abs(mean) > error)
    # Three standard errors above 5 %.
    assert np.mean(misses) < 0.05 + 3 * np.sqrt(0.05 * 0.95 / 200)
    one = gains.iloc[:1]
    assert fc_low_data._overall(one, 1)[1] == pytest.approx(one["error"].iloc[0])


def test_the_largest_of_many_gains_is_not_taken_for_the_published_one(claims, published_tables):
    """Of 20 gains of 10 % the largest is often above 13 by chance."""
    rng = np.random.default_rng(0)
    verdicts = []
    for _ in range(20):
        tables = {
            figure: with_noise(
                alike(published_tables[figure], tens, fc_low_data.LABELS[dataset]), rng, 1.5
            )
            for figure, dataset in SUPERVISED.items()
            for tens in [{"ResNet18": 50, "FR-ResNet18": 55}]
        }
        verdicts.append(verdict(claims, "c5", with_relative_gains(tables)).verdict)
    assert verdicts.count(HOLDS) <= 1


@pytest.mark.parametrize(
    ("gain", "elsewhere", "wanted"),
    [
        (16, 0, HOLDS),
        (8, 0, FAILS),
        (8, 16, UNDECIDABLE),
        (16, 30, UNDECIDABLE),
        (30, 0, FAILS),
    ],
)
def test_how_far_the_relative_gain_reaches(claims, published_tables, gain, elsewhere, wanted):
    """In percent, where the published one is largest, and at 10,000 labels: the rest has none."""
    tables = {}
    for figure, dataset in SUPERVISED.items():
        even = {"ResNet18": 50, "FR-ResNet18": 50}
        table = alike(published_tables[figure], even, fc_low_data.LABELS[dataset])
        at = {10_000: elsewhere, fc_low_data.LARGEST[figure]: gain}
        percent = table["n_labelled"].map(at).fillna(0) * (table["series"] == "FR-ResNet18")
        small = 0.1 * table["seed"]
        tables[figure] = table.assign(test_accuracy=50 + percent / 2 + small)
    assert verdict(claims, "c5", with_relative_gains(tables)).verdict == wanted


@pytest.mark.parametrize("name", ["c6", "c7", "c8", "c9", "c12", "c13"])
def test_the_opposite_of_a_claim_is_seldom_seen_by_chance(claims, published_tables, name):
    """Series that are alike: of so many looks one is often outside of its own 95 % interval."""
    rng = np.random.default_rng(0)
    same = {}
    for figure in claims[name].figures:
        table = published_tables[figure]
        table = table[table["n_labelled"] < 11_000]
        same[figure] = table.assign(test_accuracy=60.0)
    times = 40
    verdicts = [
        verdict(claims, name, {figure: with_noise(table, rng, 3) for figure, table in same.items()})
        for _ in range(times)
    ]
    assert [found.verdict for found in verdicts].count(FAILS) <= 0.05 * times


@pytest.mark.parametrize("name", ["c3", "c4", "c8", "c10"])
def test_a_gain_just_outside_of_its_interval_is_one_of_many(claims, published_tables, name):
    figure, series, other, n = {
        "c3": ("fig3a_supervised_cifar10", "FR-ResNet18", "ResNet18", 9000),
        "c4": ("fig3b_supervised_cifar100", "FR-ResNet18", "ResNet18", 12_000),
        "c8": ("fig4a_architectures_cifar10", "FR-ResNet18", "ViT-B16", 3000),
        "c10": ("ablation_b_ojkd", "OriginalHead", "ExtraHead", 3000),
    }[name]
    table = published_tables[figure]
    at = table["n_labelled"] == n
    ours = at & (table["series"] == series)
    level = table["test_accuracy"].mask(at & table["series"].isin([series, other]), 80.0)
    level += ours * table["seed"].map(dict(enumerate([-2.0, 1.0, 0.5, -1.0, 1.5])))

    def lowered(by):
        tables = {figure: table.assign(test_accuracy=level - by * ours)}
        return verdict(claims, name, with_relative_gains(published_tables | tables)).verdict

    pair = fc_low_data._paired_gains if name == "c10" else fc_low_data._gains
    T = pair(table.assign(test_accuracy=level), other, series).loc[n, "T"]
    assert lowered(T + 0.2) == UNDECIDABLE
    assert lowered(T + 20) == FAILS


@pytest.mark.parametrize("worse", [False, True])
@pytest.mark.parametrize("name", ["c5", "c6", "c7", "c8", "c9", "c11", "c12", "c13"])
def test_too_few_numbers_of_labels_decide_nothing(claims, published_tables, name, worse):
    """Without the smallest of the published ones, whichever way the others point."""
    for figure in claims[name].figures:
        if figure in ("fig3_relative_gain", "al_c_caltech101", "al_d_caltech256"):
            continue
        table = published_tables[figure]
        least = table["n_labelled"].min()
        ours = table["series"].str.startswith("FR-R") | table["series"].isin(["FR", "OriginalHead"])
        lower = table["test_accuracy"] - 30 * (worse & ours)
        fewer = table.assign(test_accuracy=lower)[table["n_labelled"] > least]
        tables = with_relative_gains(published_tables | {figure: fewer})
        found = verdict(claims, name, tables)
        assert found.verdict == UNDECIDABLE, (figure, found)
        assert f"no training at n = {least:,};" in found.detail and found.value is not None


def test_steps_are_taken_where_training_is_checked(claims, published_tables):
    """One series starts at 2,000 labels; at 1,000 the others are untrained and decide nothing."""
    table = published_tables["ablation_a_components"]
    first, series = table["n_labelled"] == 1000, table["series"]
    lower = table["test_accuracy"] - 60 * (first & (series == "512x64_no_activation"))
    table = table.assign(train_accuracy=np.where(first, 50.0, 100.0), test_accuracy=lower)
    tables = {"ablation_a_components": table[~(first & (series == "FR_no_LayerNorm"))]}
    found = verdict(claims, "c12", tables)
    assert found.verdict == UNDECIDABLE and found.value > -5
    assert "no training at n = 1,000;" in found.detail and "n = 1000:" not in found.detail


@pytest.mark.parametrize("name", EVIDENCE)
def test_an_accuracy_that_is_no_number_is_not_skipped(claims, published_tables, name):
    figure = next(figure for figure in claims[name].figures if figure != "fig3_relative_gain")
    table = published_tables[figure].reset_index(drop=True)
    lost = table.assign(test_accuracy=table["test_accuracy"].where(table.index > 0))
    found = verdict(claims, name, published_tables | {figure: lost})
    assert found.verdict == UNDECIDABLE and "test accuracy is a finite number" in found.detail


@pytest.mark.parametrize(
    ("network", "words"),
    [
        ({"widths": [64, 128, 256, 512], "blocks": [2, 2, 2, 2]}, "ResNet18"),
        ({"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]}, "ResNet34"),
        ({"widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3], "bottleneck": True}, "ResNet50"),
        ({"widths": [16, 32, 64], "blocks": [1, 1, 1]}, "ResNet8 (widths 16, 32, 64)"),
        ({"kind": "torchvision", "name": "efficientnet_b3"}, "EfficientNetB3"),
        ({"kind": "depthwise", "widths": [16, 32]}, "depthwise net (widths 16, 32)"),
        ({"kind": "dense", "growth": 12, "blocks": [2, 2]}, "dense net (growth 12, blocks 2, 2)"),
    ],
)
def test_a_network_is_called_by_what_it_is(network, words):
    own = spec(network={"kind": "staged_resnet"} | network)
    assert lowdata_words.network(own) == words


def test_names_in_a_legend_are_those_of_the_networks_that_ran():
    ran = {"network": "ResNet8 (widths 16, 32, 64)", "refiner": "d_fr = 16"}
    words = {
        "ResNet18": "ResNet8", "FR-ResNet18": "FR-ResNet8", "LLAL": "LLAL",
        "FR-ResNet18-Entropy": "FR-ResNet8, entropy", "ResNet18-core-set": "ResNet8, core-set",
        "512x512_no_activation": "linear layer, d_fr = 16", "FR-3layer": "FR, 3 inner layers",
    }  # fmt: skip
    for series, label in words.items():
        assert fc_low_data._label(pd.DataFrame([{"series": series, **ran}])) == label


def test_networks_that_do_not_fit_their_training_set_are_in_a_ring(published_tables):
    assert signature(trained).parameters["least"].default == fc_low_data.FITS
    table = published_tables["fig3a_supervised_cifar10"].assign(missing_classes=0.0)
    table = table[table["series"].isin(["ResNet18", "FR-ResNet18"])]
    least = (table["series"] == "FR-ResNet18") & (table["n_labelled"] == 1000)
    for accuracy, rings in [(100.0, 0), (98.9, 1)]:
        changed = table.assign(train_accuracy=table["train_accuracy"].where(~least, accuracy))
        figure = fc_low_data.draw_accuracies(changed, pd.DataFrame())
        lines = [line for line in figure.axes[0].lines if line.get_markersize() == 10]
        assert sum(len(line.get_xdata()) for line in lines) == rings
        assert ("in a ring" in figure.get_suptitle()) == bool(rings)
        plt.close(figure)


def test_photographs_coded_as_jpeg_decide_and_small_networks_do_not(root):
    def stand_in(changes):
        overrides = {"fc_low_data": {run: changes for run in ("plain", "fr", "no_gate")}}
        settings = {"scale": "paper", "studies": ["fc_low_data"], "overrides": overrides}
        claims = words.claim_specs(make_plan(root, settings), "fc_low_data")
        return [claims[name]["stand_in"] for name in ("c1", "c2", "c3", "c10", "c11")]

    assert set(stand_in({"dataset": "cifar10_jpeg"})) == {""}
    narrow = {"network": {"kind": "staged_resnet", "widths": [16, 32, 64], "blocks": [1, 1, 1]}}
    assert all("network widths" in why for why in stand_in(narrow))
    assert all(
        "digits" in why for why in stand_in({"dataset": "digits", "mean": None, "std": None})
    )


# ------------------------------------------------------------------------------ stacks

DEPTHWISE = {"kind": "depthwise", "widths": [4, 8]}


@pytest.mark.parametrize(
    "changes",
    [
        {"refiner": {"width": 4, "inner_layers": 2}},
        {"refiner": {"width": 4}, "gate": 1.0, "mean": [0.3], "std": [0.5]},
        {"network": {**SMALL, "bottleneck": True}},
        {"network": DEPTHWISE, "refiner": {"width": 4}},
        {"active": {"query": "llal"}},
    ],
)
def test_a_stack_has_the_losses_gradients_and_statistics_of_each_network_alone(changes):
    own, S, b = spec(**changes), 3, 6
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(S * b, 1, 8, 8, generator=generator, dtype=torch.float64)
    y = torch.randint(10, (S * b,), generator=generator)
    networks = [build_network(own, (1, 8, 8), 10, s) for s in range(S)]
    if own.active is not None:
        networks = [methods.with_loss_module(n, (1, 8, 8), s) for s, n in enumerate(networks)]
    networks = [network.double() for network in networks]
    stack = Stack(networks)
    afterwards = [build_network(own, (1, 8, 8), 10, 9) for _ in range(S)]
    if own.active is not None:
        afterwards = [methods.with_loss_module(n, (1, 8, 8), 9) for n in afterwards]
    afterwards = [network.double() for network in afterwards]

    def method(model):
        if own.active is not None:
            return methods.predicting_losses(model, own, epochs=1)
        return methods.cross_entropies(model, own)

    together = method(stack).objective(stack, x, y)
    sum(together.values()).backward()
    gradients = [p.grad for p in stack.parameters()]
    stack.unstack(afterwards)
    for s, (network, after) in enumerate(zip(networks, afterwards, strict=True)):
        rows = slice(s * b, (s + 1) * b)
        alone = method(network).objective(network, x[rows], y[rows])
        sum(alone.values()).backward()
        for name, value in alone.items():
            torch.testing.assert_close(together[f"{name}/{s}"], value)
        for whole, p in zip(gradients, network.parameters(), strict=True):
            torch.testing.assert_close(whole.chunk(S)[s], p.grad, rtol=1e-9, atol=1e-12)
        for name, value in network.state_dict().items():
            torch.testing.assert_close(after.state_dict()[name], value, rtol=1e-12, atol=1e-14)


@pytest.mark.slow
@pytest.mark.parametrize("network", [SMALL, DEPTHWISE])
def test_networks_that_are_trained_at_once_are_those_that_are_trained_alone(digits, network):
    own = spec(network=network, refiner={"width": 4}, keep_weights=True)
    both = train_low_data(own, job(digits))
    for s in range(2):
        alone = train_low_data(own, job(digits, seeds=(s,)))
        history = both.history[both.history["seed"] == s].reset_index(drop=True)
        pd.testing.assert_frame_equal(history, alone.history, rtol=1e-4)
        for name, value in alone.states.items():
            if name not in ("seed", "test_labels") and not name.endswith("accuracy"):
                torch.testing.assert_close(both.states[name][s], value[0], rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------- on cores, smaller and narrower


def test_pixels_are_averaged_over_squares():
    images = np.arange(2 * 3 * 4 * 6, dtype=np.uint8).reshape(2, 3, 4, 6)
    small = averaged(images, 2)
    assert small.shape == (2, 3, 2, 3) and small.dtype == np.uint8
    each = images[1, 2, 2:4, 4:6].astype(float)
    assert small[1, 2, 1, 2] == np.rint(each.mean())
    assert averaged(images, 1) is images
    with pytest.raises(DataError, match="pooling = 4 does not divide images of 4x6"):
        averaged(images, 4)


def test_each_seed_has_the_labelled_set_of_its_number():
    """Number 0 is the published one, and later stages shuffle the rest as published."""
    published = [list(rows) for rows in random_labels(100, [10, 20])]
    assert [list(rows) for rows in random_labels(100, [10, 20], 0)] == published
    pool = list(range(100))
    random.Random(3).shuffle(pool)
    first, second = random_labels(100, [10, 20], 3)
    assert list(first) == pool[:10] and set(first) < set(second)
    assert set(first) != set(published[0])


def test_a_gain_is_paired_where_each_seed_has_its_own_labelled_set():
    """Sets that differ by 10 points leave the gain of 2 points as sharp as its own spread."""
    hard, gains = np.array([30.0, 40.0, 50.0, 60.0]), np.array([1.0, 2.0, 2.0, 3.0])
    own = {"head": "original", "n_labelled": 1000, "seed": range(4), "dataset": "d"}
    table = pd.concat(
        [
            pd.DataFrame(own | {"series": "ResNet18", "test_accuracy": hard}),
            pd.DataFrame(own | {"series": "FR-ResNet18", "test_accuracy": hard + gains}),
        ]
    )
    paired = fc_low_data._gains(table.assign(labelled_set=table["seed"])).loc[1000]
    test = ttest_rel(hard + gains, hard).confidence_interval()
    assert paired["gain"] == 2
    assert paired["error"] == pytest.approx((test.high - test.low) / 2)
    shared = fc_low_data._gains(table.assign(labelled_set=0)).loc[1000]
    welch = ttest_ind(hard + gains, hard, equal_var=False).confidence_interval()
    assert shared["error"] == pytest.approx((welch.high - welch.low) / 2)


def test_each_gain_is_over_the_baseline_of_the_same_network_and_images():
    """Sets of labels that differ by 5 points; gains of 1 and 4 by size, and one head that misses."""
    rows = []
    for size, network, gain, fit in (("_quarter", "narrow", 1.0, 100.0), ("", "wide", 4.0, 98.0)):
        for run, with_fr, more in (("plain", "", 0.0), ("fr", "d_fr = 64", gain)):
            for seed in range(3):
                own = {"run": run + size, "seed": seed, "labelled_set": seed, "dataset": "cifar10",
                       "network": network, "refiner": with_fr, "training": "t", "detail": "",
                       "n_labelled": 1000}  # fmt: skip
                rows.append(own | {"head": "", "metric": "missing_classes", "value": 0.0})
                for head in ("original", "extra") if with_fr else ("original",):
                    value = 40.0 + 5 * seed + more - (head == "extra")
                    rows.append(own | {"head": head, "metric": "test_accuracy", "value": value})
                    least = fit if head == "extra" else 100.0
                    rows.append(own | {"head": head, "metric": "train_accuracy", "value": least})
    inputs = Inputs(
        "fc_low_data", "gain_by_size", "desktop", "scaled", pd.DataFrame(), pd.DataFrame(rows)
    )
    table = fc_low_data.table_gain_by_size(inputs)
    assert table["run"].tolist() == ["fr_quarter", "fr"]
    assert table["gain"].tolist() == pytest.approx([1, 4])
    assert table["error"].tolist() == pytest.approx([0, 0], abs=1e-9)
    assert table["baseline"].tolist() == pytest.approx([45, 45])
    assert table["least_train_accuracy"].tolist() == [100, 98]
    figure = fc_low_data.draw_gain_by_size(table, pd.DataFrame())
    assert "fits less than 99%" in figure.get_suptitle()
    plt.close(figure)


@pytest.mark.parametrize(
    ("network", "side"),
    [
        ({"kind": "staged_resnet", "widths": [64, 128, 256, 512], "blocks": [2, 2, 2, 2]}, 32),
        ({"kind": "staged_resnet", "widths": [64, 128, 256, 512], "blocks": [3, 4, 6, 3]}, 32),
        (
            {"kind": "mixer", "patch": 4, "width": 768, "depth": 12, "tokens": 384, "hidden": 3072},
            32,
        ),
        ({"kind": "vit", "patch": 4, "width": 768, "depth": 12, "heads": 12, "hidden": 3072}, 32),
        ({"kind": "torchvision", "name": "resnet18"}, 224),
        ({"kind": "torchvision", "name": "densenet121"}, 224),
        ({"kind": "torchvision", "name": "efficientnet_b3"}, 224),
    ],
)
def test_operations_of_the_published_networks_are_those_that_torch_counts(network, side):
    published = spec(network=network)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        build_backbone(published.network, (3, side, side))(torch.zeros(2, 3, side, side))
    counted = counter.get_total_flops() / 2 / 2
    assert low_data.products(published.network, side) == pytest.approx(counted, rel=0.02)


def test_an_image_on_a_gpu_is_one_through_resnet18():
    """The usual training of a ResNet18 on CIFAR-10 is 32.3e15 operations, 7 minutes of an A100."""
    network = {"kind": "staged_resnet", "widths": [64, 128, 256, 512], "blocks": [2, 2, 2, 2]}
    image = 2 * 3 * low_data.products(spec(network=network).network, 32)
    assert image == pytest.approx(6 * low_data.RESNET18, rel=0.01)
    known = 32.3e15 / (7 * 60)
    assert costs.SECONDS_PER_UNIT["image on a GPU"] == pytest.approx(2 * image / known, rel=0.02)


def test_training_in_bfloat16_is_that_in_float32_within_rounding(digits):
    """From the same start on the same batches; eight bits of a number are kept, 0.4 %."""
    found = {}
    for precision in ("float32", "bfloat16", "mixed"):
        own = spec(precision=precision, n=[40], steps=20, refiner={"width": 4})
        found[precision] = train_low_data(own, job(digits)).history["value"].to_numpy()
    exact, rounded = found["float32"], found["bfloat16"]
    assert 0 < np.abs(rounded / exact - 1).max() < 0.05
    fast = fast_in_bfloat16(torch.device("cpu"))
    np.testing.assert_array_equal(found["mixed"], rounded if fast else exact)
