"""Accuracies from the logits that runs kept; without torch, whose import would take longer."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from replica.kinds.low_data import LowDataSpec
from replica.lowdata import words

# What ran stands beside what came out: the words of a figure are those of its runs.
RAN = ["dataset", "network", "refiner", "training"]
MEASURE = ["run", "seed", "labelled_set", *RAN, "n_labelled", "head", "metric", "detail", "value"]
HEADS = ("original", "extra")


def measure_low_data(
    spec: LowDataSpec, states: Mapping[str, np.ndarray], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """Accuracies in percent of each head, by number of labels and seed.

    Args:
        spec: the run.
        states: what `replica.lowdata.training.train_low_data` keeps, as arrays.
        run: its full name.
        threads: not used.
        card: card of the data set, which is named in the table.

    Returns:
        Columns `MEASURE`, `RAN` among them as words, `labelled_set` the number of a seed's labelled
        set (see `replica.lowdata.labels`); metrics `test_accuracy`, `train_accuracy`,
        `missing_classes`, and `corrupted_accuracy` with the corruption and its severity as
        `detail`.
    """
    truth, rows = states["test_labels"], []
    for n in sorted({int(key.split("/")[0]) for key in states if "/" in key}):
        right = 100 * (states[f"{n}/logits"].argmax(3) == truth).mean(2)
        train, prefix = states[f"{n}/train_accuracy"], f"{n}/corrupted/"
        corrupted = {k.removeprefix(prefix): v for k, v in states.items() if k.startswith(prefix)}
        for s, seed in enumerate(states["seed"].tolist()):
            number = 0 if spec.labelled_sets == "shared" else seed
            at = {"seed": seed, "labelled_set": number, "n_labelled": n, "detail": ""}
            missing = float(states[f"{n}/missing"][s])
            rows.append(at | {"head": "", "metric": "missing_classes", "value": missing})
            for h, head in enumerate(HEADS[: right.shape[1]]):
                own = at | {"head": head}
                rows.append(own | {"metric": "test_accuracy", "value": right[s, h]})
                rows.append(own | {"metric": "train_accuracy", "value": train[s, h]})
                for corruption, accuracy in corrupted.items():
                    for severity, value in enumerate(accuracy[s, h], start=1):
                        detail = f"{corruption} severity {severity}"
                        more = {"metric": "corrupted_accuracy", "detail": detail, "value": value}
                        rows.append(own | more)
    dataset = "pairs of " if spec.pairs else ""
    dataset += json.loads(Path(card).read_text(encoding="utf-8"))["dataset"]
    if spec.pooling > 1:
        dataset += f", averaged over {spec.pooling}x{spec.pooling} pixels"
    if spec.classes is not None:
        dataset += ", classes {} to {}".format(*spec.classes)
    ran = [dataset, words.network(spec), words.head(spec), words.training(spec)]
    return pd.DataFrame(rows).assign(run=run, **dict(zip(RAN, ran, strict=True)))[MEASURE]
