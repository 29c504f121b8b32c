"""Certification of trained classifiers: counts for each image, then certificates from counts."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from replica.data.prepare import Dataset, load
from replica.data.splits import evenly_spaced, labelled
from replica.kinds.smoothing import CertificationSpec, NoisyClassifierSpec
from replica.progress import progress
from replica.provenance import stream_seed
from replica.smoothing.certificates import clopper_pearson_lower, cohen_radius
from replica.smoothing.classifiers import predictions, trained_classifier
from replica.smoothing.monte_carlo import Predictor, class_counts, for_inference
from replica.smoothing.noises import NOISES, Counted, Images
from replica.training.checkpoint import Checkpoint
from replica.training.jobs import Job

MEASURE = [
    *["run", "seed", "dataset", "train", "train_sigma", "sigma_b", "noise", "rate", "k", "m"],
    *["norm", "n0", "n", "alpha", "image", "label", "prediction", "correct", "abstain", "p_a"],
    *["sigma_x", "knn_distance", "elasticity", "radius", "side", "capped_radius"],
    *["cohen_radius", "clean_correct", "memory_prediction", "memory_radius", "overlaps"],
    *["x1", "x2"],
]


@dataclass(frozen=True)
class Base:
    """The classifiers that are certified: their run's specification and states."""

    spec: NoisyClassifierSpec
    states: dict[str, Tensor]


def certify(spec: CertificationSpec, job: Job, base: Base, part: int) -> dict[str, Tensor]:
    """Count the predictions for the images of one slice, and what else a certificate needs.

    `job.checkpoint` is a store that outlives the job: counts for fewer draws are continued, counts
    for more are left unchanged.

    Args:
        spec: what is certified, and how.
        job: where it runs.
        base: the classifiers.
        part: which slice: every `spec.slices`-th image, starting with this one.

    Returns:
        For I images and S seeds: `image`, `label`, `knn_distance`, `elasticity` (I,), `seed` (S,),
        `sigma`, `clean` (S, I), `selection`, `counts` (S, I, K), for points `points` (I, 2), and
        for the ascent `distance` (I, I).

    Raises:
        ValueError: see `replica.smoothing.variance` and `replica.smoothing.monte_carlo`.
    """
    torch.set_num_threads(job.threads)
    dataset = job.data()
    data = labelled(dataset, spec.split, base.spec.pixel_max)
    chosen = evenly_spaced(len(data.labels), spec.images)
    images, labels = data.inputs[chosen].to(job.device), data.labels[chosen]
    mine = torch.arange(part, spec.images, spec.slices)
    models = [
        for_inference(
            trained_classifier(base.spec, base.states, seed, tuple(images.shape[1:]), data.K),
            job.device,
            precision=base.spec.precision,
        )
        for seed in job.seeds
    ]
    name = dataset.card["dataset"]
    given = Images(
        images,
        train=lambda: labelled(dataset, "train", base.spec.pixel_max).inputs.to(job.device),
        models=[model.model for model in models],
        streams=[stream_seed(name, seed, "ascent") for seed in job.seeds],
    )
    chosen_sigma, own = NOISES[spec.noise].sigma(spec, given)
    sigma = chosen_sigma.double().cpu().expand(len(models), spec.images)
    nothing = torch.full((spec.images,), torch.nan, dtype=torch.float64)
    facts = {"knn_distance": nothing, "elasticity": nothing.clone()} | own
    clean = torch.stack([predictions(model.model, images[mine]).cpu() for model in models])
    rows = chosen[mine].tolist()
    names = (name, spec.split)
    counted = _count(spec, job, names, rows, models, images[mine], sigma[:, mine], data.K)
    if images.dim() == 2:
        facts["points"] = images.cpu().double()
    return {
        "seed": torch.tensor(job.seeds),
        "image": chosen[mine],
        "label": labels[mine],
        "sigma": sigma[:, mine],
        "clean": clean,
        **{name: value[mine] for name, value in facts.items()},
        **{name: counted[name] for name in ("selection", "counts")},
    }


def _count(
    spec: CertificationSpec,
    job: Job,
    names: tuple[str, str],
    rows: list[int],
    models: list[Predictor],
    images: Tensor,
    sigma: Tensor,
    K: int,
) -> dict[str, Tensor]:
    shape = (len(models), len(rows), K)
    fresh = {name: torch.zeros(shape, dtype=torch.int64) for name in ("selection", "counts")}
    store = job.checkpoint
    counted = store.load() or fresh
    if counted["counts"].sum(2).max() > spec.n:
        # Draws cannot be undone; the store is left as it is for runs with more draws.
        counted, store = fresh, Checkpoint(None)
    pairs = [(s, i) for s in range(len(models)) for i in range(len(rows))]
    with store.catching_sigterm(), progress(f"{job.study} {job.run}", len(pairs), 0) as tick:
        for position, (s, i) in enumerate(pairs, start=1):
            for purpose, draws in [("selection", spec.n0), ("counts", spec.n)]:

                def stream(block: int, s: int = s, i: int = i, purpose: str = purpose) -> int:
                    return stream_seed(*names, job.seeds[s], rows[i], purpose, block)

                done = int(counted[purpose][s, i].sum())
                counted[purpose][s, i] += class_counts(
                    models[s], images[i], sigma[s, i].item(), K, stream, done, draws
                )
            tick(position, lambda: "")
            if store.due():
                store.save(lambda: counted)
        store.save(lambda: counted)
    return counted


def measure_certification(
    spec: CertificationSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """The certificate of each image and seed, from its counts.

    `radius` is the certified radius of the deployed noise: Cohen's for constant noise, that of
    `input_dependent_radius` for sigma(x), both 0 where the smoothed classifier abstains. For
    `ascent` it is the naive radius, which is not a certificate; `memory_radius` is
    what the memory leaves of it.

    Returns:
        Columns `MEASURE`, a row for each image and seed.
    """
    S, I = states["counts"].shape[:2]
    dataset = load(card)
    selected = states["selection"].argmax(2)
    votes = states["counts"].gather(2, selected[..., None]).squeeze(2)
    p_a = clopper_pearson_lower(votes.numpy(), spec.n, spec.alpha)
    sigma = states["sigma"].numpy()
    cohen = cohen_radius(sigma, p_a)
    columns = {
        "seed": states["seed"][:, None].expand(S, I),
        "image": states["image"].expand(S, I),
        "label": states["label"].expand(S, I),
        "knn_distance": states["knn_distance"].expand(S, I),
        "elasticity": states["elasticity"].expand(S, I),
        "clean_correct": states["clean"] == states["label"],
        "prediction": selected,
        "abstain": p_a <= 0.5,
        "correct": (selected == states["label"]).numpy() & (p_a > 0.5),
        "p_a": p_a,
        "sigma_x": sigma,
        "cohen_radius": cohen,
        "radius": cohen,
        "side": np.where(p_a > 0.5, "both", "none"),
        "capped_radius": np.full((S, I), np.nan),
        "memory_prediction": np.full((S, I), -1),
        "memory_radius": np.full((S, I), np.nan),
        "overlaps": np.full((S, I), False),
        "x1": np.full((S, I), np.nan),
        "x2": np.full((S, I), np.nan),
    }
    N = int(np.prod(_shape(dataset)))
    counted = Counted(N, states, selected.numpy(), sigma, p_a, cohen)
    columns |= NOISES[spec.noise].certificate(spec, counted)
    if "points" in states:
        columns["x1"], columns["x2"] = (states["points"][:, d].expand(S, I) for d in (0, 1))
    table = pd.DataFrame({name: np.asarray(v).ravel() for name, v in columns.items()})
    settings = spec.model_dump(include=set(MEASURE) - set(columns))
    train_sigma = spec.sigma_b if spec.train_sigma == "sigma_b" else spec.train_sigma
    settings |= {"train": spec.base, "train_sigma": train_sigma}
    return table.assign(run=run, dataset=dataset.card["dataset"], **settings)[MEASURE]


def _shape(dataset: Dataset) -> tuple[int, ...]:
    return dataset.inputs("train").shape[1:]
