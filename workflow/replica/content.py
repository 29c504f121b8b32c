"""Whether a figure table holds anything that was measured."""

import numpy as np
import pandas as pd

# Columns of figure tables that say of which run, where and under which settings something was
# measured, and not what was measured.
COORDINATES = frozenset(
    [
        "seed", "step", "steps", "epoch", "epochs", "layer", "head", "text", "texts", "position",
        "index", "index2", "i", "j", "class_i", "class_j", "image", "images", "label", "iterate",
        "features", "draw", "repeats", "weight_id", "h", "kept", "filtered", "K", "L", "N", "n",
        "m", "d", "r", "k", "S", "T", "eps", "depth", "width", "context", "heads", "mlp", "batch",
        "hypotheses", "n_obj", "n_min_group", "n_dim", "n_labelled", "inner_layers", "n_runs",
        "lr", "lambda_w", "lambda_h", "lambda_blocks", "lambda_head", "lambda_fraction",
        "log2_lambda", "ridge", "feature_scale", "gain", "lam_hat", "lam_map", "p_a", "alpha",
        "rate", "noise", "norm", "sigma_0", "sigma_b", "train_sigma", "delta", "tolerance",
        "share", "slope", "setting", "gate", "diverged_at", "bos", "residual", "value_bias", "x1",
        "x2", "missing_classes", "fairness", "adversarial", "severity",
    ]
)  # fmt: skip
NO_DATA = "no data"
NONE_CONVERGED = "no run converged"


def why_nothing(table: pd.DataFrame) -> str:
    """Why there is nothing to draw of a table, or to decide on; "" where something is finite.

    Args:
        table: a figure table, or some rows of it.

    Returns:
        `no data` without rows, `no run converged` where no measured number is finite.
    """
    if table.empty:
        return NO_DATA
    numbers = table.select_dtypes("number")
    numbers = numbers[numbers.columns.difference(sorted(COORDINATES))]
    if numbers.shape[1] and not np.isfinite(numbers.to_numpy(float)).any():
        return NONE_CONVERGED
    return ""


def none_converged(table: pd.DataFrame) -> bool:
    """Whether a table says of its runs how they ended, and none of them has converged."""
    if "converged" in table:
        return not table["converged"].any()
    if "status_run" in table:
        return set(table["status_run"].dropna()) == {"diverged"}
    return False
