"""Classifiers trained on noisy images: the base models of randomized smoothing."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.data.prepare import load
from replica.data.splits import labelled
from replica.kinds.smoothing import NoisyClassifierSpec
from replica.models.classifiers import build_classifier
from replica.provenance import stream_seed
from replica.smoothing.monte_carlo import for_inference
from replica.smoothing.variance import knn_mean_distance, sigma_knn
from replica.training import loop
from replica.training.jobs import Job, Result

HISTORY = ["run", "seed", "sigma", "steps", "step", "metric", "value"]
MEASURE = ["run", "seed", "dataset", "train_sigma", "split", "noise", "metric", "value"]
_BATCH = 500


def train_noisy_classifier(spec: NoisyClassifierSpec, job: Job) -> Result:
    """Cross-entropy on images with fresh Gaussian noise in each step (Cohen et al. 2019).

    With `spec.noise` the standard deviation belongs to the image, σ(x) of the image without
    augmentation, its own place among the training images left out.

    Returns:
        States `<parameter>` (S, ...) and `seed` (S,), and the history (columns `HISTORY`).
    """
    torch.set_num_threads(job.threads)
    data = labelled(job.data(), "train", spec.pixel_max)
    inputs, labels = data.inputs.to(job.device), data.labels.to(job.device)
    # Convolutions take images with their channels last, of which points have none.
    layout = torch.channels_last if inputs.dim() == 4 else torch.contiguous_format
    sigma = torch.full((len(labels),), spec.sigma)
    if spec.noise is not None:
        distance = knn_mean_distance(inputs, inputs, spec.noise.k, skip_self=True)
        sigma = sigma_knn(spec.sigma, spec.noise.rate, distance, spec.noise.m).float()
    sigma = sigma.to(job.device).view(-1, *[1] * (inputs.dim() - 1))

    def noisy(x: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        return (x + sigma[rows] * normal(x, generator)).contiguous(memory_format=layout)

    def objective(model: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        return {"loss": F.cross_entropy(model(x).float(), y)}

    recipe = loop.Recipe(
        lr=spec.lr,
        epochs=spec.epochs,
        batch=spec.batch,
        momentum=spec.momentum,
        decay={"": spec.weight_decay},
        schedule="multistep",
        padding=spec.padding,
        flips=spec.flips,
        precision=spec.precision,
    )
    shape = tuple(inputs.shape[1:])
    runs, history = loop.train_seeds(
        job,
        lambda seed: build_classifier(spec, shape, data.K, seed).to(memory_format=layout),  # type: ignore[call-overload]
        inputs,
        labels,
        objective,
        recipe,
        snapshot_epochs=[spec.epochs],
        perturb=noisy,
    )
    states = [run.snapshots[spec.epochs] for run in runs]
    stacked = {name: torch.stack([s[name] for s in states]) for name in states[0]}
    history = history.assign(run=job.run, sigma=spec.sigma, steps=spec.epochs)
    return Result(stacked | {"seed": torch.tensor(job.seeds)}, history[HISTORY])


def measure_noisy_classifier(
    spec: NoisyClassifierSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """Accuracy of the classifiers themselves, without smoothing, on the train and test splits.

    Returns:
        Columns `MEASURE`; `noise` is the standard deviation of what was added: 0, and the run's.
    """
    torch.set_num_threads(threads)
    dataset = load(card)
    rows = []
    for split in ("train", "test"):
        data = labelled(dataset, split, spec.pixel_max)
        for seed in states["seed"].tolist():
            trained = trained_classifier(spec, states, seed, tuple(data.inputs.shape[1:]), data.K)
            model = for_inference(trained, torch.device("cpu")).model
            generator = torch.Generator().manual_seed(stream_seed(run, seed, "accuracy"))
            noise = normal(data.inputs, generator)
            for sigma in sorted({0.0, spec.sigma}):
                right = predictions(model, data.inputs + sigma * noise) == data.labels
                rows.append({"seed": seed, "split": split, "noise": sigma,
                             "value": right.double().mean().item()})  # fmt: skip
    names = {"run": run, "dataset": dataset.card["dataset"], "train_sigma": spec.sigma}
    return pd.DataFrame(rows).assign(metric="accuracy", **names)[MEASURE]


def trained_classifier(
    spec: NoisyClassifierSpec, states: dict[str, Tensor], seed: int, shape: tuple[int, ...], K: int
) -> nn.Module:
    """One of the classifiers that `train_noisy_classifier` kept, in evaluation mode.

    Raises:
        ValueError: there is none with this seed.
    """
    if seed not in (seeds := states["seed"].tolist()):
        raise ValueError(f"There is no classifier with seed {seed}; there are {seeds}.")
    model = build_classifier(spec, shape, K, 0)
    member = seeds.index(seed)
    model.load_state_dict({name: v[member] for name, v in states.items() if name != "seed"})
    return model.eval()


def predictions(model: nn.Module, inputs: Tensor) -> Tensor:
    """Predicted classes (N,) of a model in evaluation mode."""
    with torch.no_grad():
        return torch.cat([model(x).argmax(1) for x in inputs.split(_BATCH)])


def normal(like: Tensor, generator: torch.Generator) -> Tensor:
    """Standard normal values of a shape, drawn on its device from a generator on the CPU."""
    if like.device.type != "cpu":
        seed = int(torch.randint(2**62, (), generator=generator))
        generator = torch.Generator(like.device).manual_seed(seed)
    return torch.randn(like.shape, generator=generator, device=like.device)
