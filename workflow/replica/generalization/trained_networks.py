"""From the states of a run to its trained networks, with samples that trained them and others.

The test samples are those of the data set's test split. Where it has none they are, for each kind
of run, what did not train it: the fixed 30 % of `replica.data.splits`, all that comes after the
first samples of each class, the rest of a population, or the last tenth of a text. (The vocabulary
of a text classifier comes from all texts of the training file.) A run that trains on all there is
has no gap and is left out, with a warning.

At most `SAMPLES` training and as many test samples are taken, a choice that is the same for all
runs of a data set; of texts, `attention.training.SEQUENCES` windows, whose predictions are the
samples. Images come as they are: without noise, crops or attacks. First samples and the end of a
text are no random choice: a gap there is also a change of what the samples are like.

Left out: the DUFM, which has no data; deep RFM, a kernel machine; networks with a deep head, of
which only products of matrices are kept; runs with few labels that keep no weights; decoders on
drawn sequences, whose data are fresh in every step, so that there is no gap; synthetic problems,
networks that nothing has trained, and pretrained models, which are trained elsewhere.
Certifications and kernels without networks train nothing. Members that diverged have no row.
"""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from replica.attention import tasks
from replica.attention.training import SEQUENCES
from replica.data import words
from replica.data.prepare import Dataset, load
from replica.data.splits import first_rows, labelled
from replica.kinds import RunSpec
from replica.kinds.attention import DecoderSpec
from replica.kinds.features import NetworkHeadSpec
from replica.kinds.low_data import LowDataSpec
from replica.kinds.multiobjective import TradeoffSpec
from replica.kinds.residual import PatchTransformer, ResidualSpec, TokenTransformer
from replica.kinds.smoothing import NoisyClassifierSpec
from replica.lowdata.methods import unit
from replica.lowdata.training import pool_of
from replica.measures.generalization import Forward, Params, Trained
from replica.models import decoder, headed_networks, residual
from replica.models.backbones import build_network
from replica.models.classifiers import Normalise
from replica.multiobjective import tradeoff_training as tradeoffs
from replica.provenance import stream_seed
from replica.residual.samples import patches
from replica.smoothing.classifiers import trained_classifier

SAMPLES = 2000
States = dict[str, Tensor]
Pairs = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Found:
    """A network of a run: the place of its seed, what else names it, whether it diverged."""

    seed: int
    network: Trained
    member: str = ""
    diverged: bool = False


def trained_networks(
    spec: RunSpec, states: States, card: Path, study: str, run: str
) -> Iterator[tuple[dict[str, str | int], Trained]]:
    """The networks that a run keeps, at their last kept step, without those that diverged.

    Args:
        spec: a run for which `keeps_networks` is true.
        states: what its training keeps.
        card: of its data set.
        study, run: names of its streams.

    Yields:
        Labels (kind, dataset, seed, member) and the network. `member` tells networks of one seed
        apart; `dataset` says which classes, and whether images come in pairs.

    Raises:
        ValueError: a kind of run that keeps no networks.
    """
    dataset = load(card)
    match spec:
        case NetworkHeadSpec():
            found = _network_heads(spec, states, dataset)
        case NoisyClassifierSpec():
            found = _noisy_classifiers(spec, states, dataset)
        case LowDataSpec():
            found = _low_data(spec, states, card)
        case ResidualSpec():
            found = _residual(spec, states, dataset)
        case DecoderSpec():
            found = _decoders(spec, states, dataset)
        case TradeoffSpec():
            found = _tradeoffs(spec, states, tradeoffs.population(spec, dataset, study, run))
        case _:
            raise ValueError(f"Runs of kind {spec.kind} keep no networks.")
    name, seeds = data_name(spec), states["seed"].tolist()
    for each in found:
        if each.diverged or not all(w.isfinite().all() for w in each.network.params.values()):
            continue
        if not len(each.network.test[1]):
            warnings.warn(
                f"{study} {run} trains on all samples of {name}: there is no gap to measure.",
                stacklevel=2,
            )
            return
        labels = {"kind": architecture(spec), "dataset": name, "seed": seeds[each.seed]}
        yield labels | {"member": each.member}, each.network


def architecture(spec: RunSpec) -> str:
    """The kind of a run and of its network."""
    network = getattr(spec, "network", getattr(spec, "backbone", None))
    return spec.kind if network is None else f"{spec.kind}, {network.kind}"


def data_name(spec: RunSpec) -> str:
    """The data set of a run, whether its images come in pairs, and which classes are kept."""
    name = spec.dataset
    if getattr(spec, "pairs", False):
        name = f"pairs of {name}"
    if (classes := getattr(spec, "classes", None)) is not None:
        name += (
            f", classes {(' to ' if isinstance(classes, tuple) else ', ').join(map(str, classes))}"
        )
    return name


# ======================================================================================
# Samples


def chosen(count: int, *names: str) -> np.ndarray:
    """At most `SAMPLES` of `count` rows, in their order; `names` name the random choice."""
    if count <= SAMPLES:
        return np.arange(count)
    generator = np.random.default_rng(stream_seed("generalization", *names))
    return np.sort(generator.choice(count, SAMPLES, replace=False))


def first_and_other_rows(
    dataset: Dataset, classes: list[int], per_class: int | None
) -> tuple[np.ndarray, str, np.ndarray]:
    """Rows that train a network, the first ones of each class; a split, and its rows to test on.

    The test split, or the other rows of the same classes where the data set has none.
    """
    name, labels = dataset.card["dataset"], np.asarray(dataset.array("train.labels"))
    rows = np.concatenate(first_rows(labels, classes, per_class, name))
    if "test" in dataset.card["splits"]:
        labels = np.asarray(dataset.array("test.labels"))
        return rows, "test", np.flatnonzero(np.isin(labels, classes))
    return rows, "train", np.setdiff1d(np.flatnonzero(np.isin(labels, classes)), rows)


def standardised_images(
    dataset: Dataset, classes: list[int] | None, per_class: int | None
) -> tuple[Pairs, Pairs]:
    """Images and labels as `headed_networks.training_samples` makes them, to train and to test.

    Both are standardised with the means and deviations of all samples that train the network.
    """
    name = dataset.card["dataset"]
    if classes is None:
        classes = list(range(dataset.K))
    rows, split, others = first_and_other_rows(dataset, classes, per_class)
    images = torch.from_numpy(np.asarray(dataset.array("train.images"))[rows]).double()
    std, mean = torch.std_mean(images, (0, 2, 3), correction=0, keepdim=True)
    found = []
    for source, own in [("train", rows), (split, others)]:
        own = own[chosen(len(own), name, source)]
        values = torch.from_numpy(np.asarray(dataset.array(f"{source}.images"))[own])
        labels = np.asarray(dataset.array(f"{source}.labels"))[own]
        targets = (labels[:, None] == np.array(classes)).argmax(1)
        found.append(((values.double() - mean) / std, torch.from_numpy(targets)))
    return found[0], found[1]


def numbered_texts(dataset: Dataset, spec: ResidualSpec) -> tuple[Pairs, Pairs]:
    """Texts as numbers of words, and labels, as `replica.residual.samples` makes them."""
    name, network = dataset.card["dataset"], spec.network
    classes = list(range(dataset.K))
    rows, split, others = first_and_other_rows(dataset, classes, spec.per_class)
    listed = {source: [words.words(text) for text in words.texts(dataset, source)]
              for source in {"train", split}}  # fmt: skip
    numbers = words.vocabulary(listed["train"], network.vocabulary)
    found = []
    for source, own in [("train", rows), (split, others)]:
        own = own[chosen(len(own), name, source)]
        tokens, _ = words.encode([listed[source][row] for row in own], numbers, network.context)
        labels = np.asarray(dataset.array(f"{source}.labels"))[own].astype(np.int64)
        found.append((torch.from_numpy(tokens), torch.from_numpy(labels)))
    return found[0], found[1]


# ======================================================================================
# Networks, by kind of run


def of_module(model: nn.Module) -> tuple[Forward, Params, list[Tensor]]:
    """Logits as a function of the parameters of a module in evaluation mode, and its matrices.

    Running statistics of batch norm are constants. Matrices are all weights of two and more
    dimensions but those of single tokens and positions, which are called otherwise.
    """
    model = model.double().eval()
    params = {name: w.detach() for name, w in model.named_parameters()}
    matrices = [w for name, w in params.items() if name.endswith("weight") and w.dim() > 1]
    return lambda p, x: functional_call(model, dict(p), (x,)), params, matrices


def _last(states: States) -> dict[str, Tensor]:
    """The parameters `<step>/<parameter>` of the last kept step, in float64."""
    step = max(int(name.partition("/")[0]) for name in states if name[0].isdigit())
    prefix = f"{step}/"
    return {k.removeprefix(prefix): v.double() for k, v in states.items() if k.startswith(prefix)}


def _alone(params: Params) -> Params:
    """One network as a stack of one."""
    return {name: w[None] for name, w in params.items()}


def _network_heads(spec: NetworkHeadSpec, states: States, dataset: Dataset) -> Iterator[Found]:
    train, test = standardised_images(dataset, spec.classes, spec.per_class)
    K = len(spec.classes) if spec.classes else dataset.K
    last = _last(states)

    def forward(p: Params, x: Tensor) -> Tensor:
        return headed_networks.forward_mlp(_alone(p), x)[-1][0].mT

    for s, diverged_at in enumerate(states["diverged_at"].tolist()):
        params, paths = {name: value[s] for name, value in last.items()}, None
        if spec.backbone.kind == "mlp":
            logits, paths = forward, forward
            matrices = [w for name, w in params.items() if name[0] in "AW"]
        else:
            model = headed_networks.resnet20_with_head(spec, K, 0, train[0].shape[1])
            model.load_state_dict(params)
            logits, params, matrices = of_module(model)
        network = Trained(logits, params, matrices, train, test, "mse", paths)
        yield Found(s, network, diverged=diverged_at >= 0)


def _noisy_classifiers(
    spec: NoisyClassifierSpec, states: States, dataset: Dataset
) -> Iterator[Found]:
    name, pairs = dataset.card["dataset"], []
    for split in ("train", "test"):
        data = labelled(dataset, split, spec.pixel_max)
        rows = torch.from_numpy(chosen(len(data.labels), name, split))
        pairs.append((data.inputs[rows].double(), data.labels[rows]))
    for s, seed in enumerate(states["seed"].tolist()):
        shape = tuple(pairs[0][0].shape[1:])
        model = trained_classifier(spec, states, seed, shape, data.K)
        paths = None
        if spec.network.kind != "resnet":
            paths = of_module(_summing(model))[0]
        yield Found(s, Trained(*of_module(model), *pairs, "cross_entropy", paths))


def _summing(model: nn.Sequential) -> nn.Sequential:
    """The network with sums in place of maxima, behind its normalisation; it shares parameters.

    The paths through a maximum are those to each of its inputs (Gonon et al. 2024).
    """
    if isinstance(model[0], Normalise):
        return nn.Sequential(nn.Identity(), _summing(model[1]))
    return nn.Sequential(*(
        nn.AvgPool2d(layer.kernel_size, divisor_override=1)
        if isinstance(layer, nn.MaxPool2d) else layer
        for layer in model
    ))  # fmt: skip


def _low_data(spec: LowDataSpec, states: States, card: Path) -> Iterator[Found]:
    """The networks as they are at test time, without an extra head, for each number of labels."""
    pool = pool_of(spec, card)
    shape = tuple(pool.images.shape[1:])

    def pair(images: Tensor, labels: Tensor, split: str) -> Pairs:
        rows = torch.from_numpy(chosen(len(labels), spec.dataset, split))
        return unit(images[rows], spec.pixel_max).double(), labels[rows]

    test = pair(pool.test_images, pool.test_labels, "test")
    for n in sorted({int(name.partition("/")[0]) for name in states if "/weights/" in name}):
        prefix = f"{n}/weights/"
        weights = {k.removeprefix(prefix): v for k, v in states.items() if k.startswith(prefix)}
        for s, rows in enumerate(states[f"{n}/rows"]):
            model = build_network(spec, shape, pool.K, 0)
            # LLAL's module holds the network; what is its own plays no part in the logits.
            own = {name.removeprefix("network."): w[s] for name, w in weights.items()}
            model.load_state_dict({name: own[name] for name in model.state_dict()})
            train = pair(pool.images[rows], pool.labels[rows], "train")
            network = Trained(*of_module(model.at_test_time()), train, test, "cross_entropy")
            yield Found(s, network, member=f"n {n}")


def _residual(spec: ResidualSpec, states: States, dataset: Dataset) -> Iterator[Found]:
    if isinstance(spec.network, TokenTransformer):
        train, test = numbered_texts(dataset, spec)
    else:
        train, test = standardised_images(dataset, None, spec.per_class)
        cut = isinstance(spec.network, PatchTransformer)
        train, test = (
            (patches(x, spec.network.patch) if cut else x.flatten(1), y) for x, y in (train, test)
        )

    def logits(p: Params, x: Tensor) -> Tensor:
        if x.is_floating_point():
            ends = torch.full((len(x),), x.shape[1] - 1)
        else:
            ends = (x != words.AFTER_THE_END).sum(1) - 1
        p = _alone(p)
        return residual.logits(p, residual.features(p, spec, x[None], ends[None]))[0]

    loss = "cross_entropy" if spec.loss == "ce" else "mse"
    weights = {name.removeprefix("weights/"): value.double() for name, value in states.items()
               if name.startswith("weights/")}  # fmt: skip
    for s, diverged_at in enumerate(states["diverged_at"].tolist()):
        params = {name: value[s] for name, value in weights.items()}
        blocks = residual.regularised(params)
        head = blocks.pop("head")
        matrices = [params["embedding"].mT, *(W for own in zip(*blocks.values(), strict=True)
                                              for W in own), head]  # fmt: skip
        network = Trained(logits, params, matrices, train, test, loss)
        yield Found(s, network, diverged=diverged_at >= 0)


def _decoders(spec: DecoderSpec, states: States, dataset: Dataset) -> Iterator[Found]:
    """Language models; the test windows are those of the loss that the run reports."""
    corpus = tasks.corpus(dataset)
    pairs = []
    for text in (corpus.train, corpus.held_out):
        starts = tasks.evenly(text, spec.context, SEQUENCES)
        batch = tasks.windows(text, starts, spec, corpus)
        pairs.append((batch.inputs, batch.targets))
    last = _last(states)

    def logits(p: Params, x: Tensor) -> Tensor:
        return decoder.forward(_alone(p), spec, x[None])[0]

    for s, diverged_at in enumerate(states["diverged_at"].tolist()):
        params = {name: value[s] for name, value in last.items()}
        # They act on rows: x W.
        matrices = [params["embedding"].mT]
        for layer in range(spec.depth):
            own = {name: params[name][layer].mT for name in ("QKV", "O", "gate", "up", "down")
                   if name in params}  # fmt: skip
            matrices += [*own.pop("QKV").chunk(3), *own.values()]
        matrices.append(params["head"].mT)
        network = Trained(logits, params, matrices, *pairs, "cross_entropy")
        yield Found(s, network, diverged=diverged_at >= 0)


def _tradeoffs(spec: TradeoffSpec, states: States, data: tradeoffs.Samples) -> Iterator[Found]:
    pairs = []
    named = {"train": (data.train_inputs, data.train_labels), "test": (data.inputs, data.labels)}
    for split, (inputs, labels) in named.items():
        rows = torch.from_numpy(chosen(len(labels), spec.dataset, split))
        pairs.append((inputs[rows].double(), labels[rows]))

    def logits(p: Params, x: Tensor) -> Tensor:
        return tradeoffs.logits(_alone(p), x[None])[0]

    for s in range(len(states["seed"])):
        for g, (width, decay, radius, fairness) in enumerate(spec.grid):
            W1, b1, W2, b2 = (states[name][s, g].double() for name in ("W1", "b1", "W2", "b2"))
            # Narrower networks of a stack are padded with zeros.
            params = {"W1": W1[:width], "b1": b1[:width], "W2": W2[:, :width], "b2": b2}
            matrices = [params["W1"], params["W2"]]
            network = Trained(logits, params, matrices, *pairs, "cross_entropy", logits)
            yield Found(
                seed=s,
                network=network,
                member=f"width {width}, weight decay {decay:g}, radius {radius:g}, "
                f"fairness {fairness:g}",
                diverged=bool(states["diverged_at"][s, g] >= 0),
            )
