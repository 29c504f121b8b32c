"""Collapse, penalties and the distance to the lower bound of a finished residual network."""

from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from replica.kinds.residual import ResidualNetwork, ResidualSpec
from replica.measures import collapse
from replica.theory import gufm

MEASURE = [
    *["run", "dataset", "model", "loss", "optimiser", "rule", "depth", "width", "K", "n"],
    *[
        "lambda_blocks",
        "lambda_head",
        "epochs",
        "seed",
        "diverged_at",
        "bound",
        "metric",
        "layer",
        "value",
    ],
]


def measure_residual(
    spec: ResidualSpec, states: dict[str, Tensor], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """Metrics of the last state of each seed on its training samples.

    Args:
        spec: the run.
        states: what `replica.residual.training.train_residual` keeps.
        run: its full name.
        threads: CPU threads.
        card: not needed.

    Returns:
        Columns `MEASURE`. Metrics: nc1, nc2, nc3 (Def. 3.4, of the features that enter the head);
        accuracy; fit, penalty and objective; penalty_term of `layer`, block 1 to the head, which is
        the last; gradient, see `observe` there. `bound` is the objective of the GUFM, see
        `replica.theory.gufm`. A member that diverged has one row, `diverged`.
    """
    torch.set_num_threads(threads)
    K = states["head"].shape[1]
    gram = states["head"] @ states["head"].mT
    values = {
        "nc1": collapse.nc1_ratio(states["within_trace"], states["means"]),
        "nc2": collapse.nc2_ce(gram) if spec.loss == "ce" else collapse.nc2_mse(gram),
        "nc3": 1 - states["aligned"],
        "accuracy": states["accuracy"],
        "fit": states["fit"],
        "penalty": states["penalty_terms"].sum(1),
        "objective": states["fit"] + states["penalty_terms"].sum(1),
        "gradient": states["gradient"],
    }
    found: dict[tuple[str, int | None], Tensor] = {(n, None): v for n, v in values.items()}
    found |= {("penalty_term", l): term
              for l, term in enumerate(states["penalty_terms"].unbind(1), start=1)}  # fmt: skip
    rows = []
    for s, seed in enumerate(states["seed"].tolist()):
        own = {"seed": seed, "diverged_at": int(states["diverged_at"][s])}
        if own["diverged_at"] >= 0:
            rows.append(own | {"metric": "diverged", "value": 1.0})
            continue
        rows += [own | {"metric": metric, "layer": layer, "value": float(value[s])}
                 for (metric, layer), value in found.items()]  # fmt: skip
    bound = gufm.optimum(spec.loss, K, spec.width, spec.lambda_head).objective
    table = pd.DataFrame(rows).assign(
        run=run, model=model_name(spec), rule=penalty_rule(spec), K=K, n=spec.per_class,
        epochs=spec.epochs, bound=bound, lambda_blocks=spec.lambda_blocks,
        lambda_head=spec.lambda_head,
        **spec.model_dump(include={"dataset", "loss", "optimiser", "depth", "width"}),
    )  # fmt: skip
    return table.reindex(columns=MEASURE).astype({"layer": float})


def model_name(spec: ResidualSpec) -> str:
    """L-RN1, L-T12, pre-LN L-T11, ..."""
    network = spec.network
    if isinstance(network, ResidualNetwork):
        name = f"L-RN{network.mlp}"
    else:
        name = f"L-T{network.attention}{network.mlp}"
    return name if spec.norm == "post" else f"pre-LN {name}"


def penalty_rule(spec: ResidualSpec) -> str:
    """λ = 0.005, λ = 0.005/L, or λ = 0.005/L and 0.005 in the last layer."""
    rule = f"λ = {spec.penalty:g}{'/L' if spec.over_depth else ''}"
    if spec.head_penalty is None:
        return rule
    return f"{rule} and {spec.head_penalty:g} in the last layer"
