"""Metrics of collapse and of the neural feature ansatz, from what a run kept; without torch.

    NC1 = tr Σ_W / tr Σ_B          NC2 = mean squared entry of μ̃ μ̃ᵀ - Σ_ETF

with Σ_W = (1/N) Σ (x-μ_c)(x-μ_c)ᵀ, Σ_B = (1/K) Σ (μ_c-μ_G)(μ_c-μ_G)ᵀ, μ_G the mean of the class
means, μ̃ the rows μ_c-μ_G of unit length, and Σ_ETF = (1+1/(K-1)) I - 11ᵀ/(K-1) (Beaglehole et al.
2024, section 3.4; the mean of squares as in the official code). In the official code NC1 is smaller
by the factor K.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from replica.kinds.kernels import DeepRfmSpec, ObservedNetworkSpec

RFM = [
    *["run", "dataset", "activation", "kernel", "ridge", "agop", "agop_norm", "width", "images"],
    *["depth", "feature_scale", "precision", "seed", "layer", "place"],
    *["nc1", "nc2_msd", "nc2_fro", "valid", "i", "j", "class_i", "class_j", "value"],
]
HEAD = [
    *["run", "model", "dataset", "width", "gain", "lr", "batch", "seed", "steps", "epoch", "layer"],
    *["place", "metric", "value"],
]
# Below this NC1 of X M^{1/2} is rounding: layers are valid as long as it is above.
FLOOR = {"float32": 1e-4, "float64": 1e-6}
# Epoch 0 of a network is after one epoch, as in the official code; this is before any training.
START = -1


# ======================================================================================
# Formulas


def nc1(within_trace: float, means: np.ndarray) -> float:
    """tr Σ_W / tr Σ_B of tr Σ_W and class means (K, d); NaN where all means are equal."""
    between = between_trace(means)
    return float(within_trace / between) if between > 0 else np.nan


def between_trace(means: np.ndarray) -> float:
    """tr Σ_B of class means (K, d)."""
    return float(np.square(means - means.mean(0)).sum() / len(means))


def nc2_msd(means: np.ndarray) -> float:
    """Mean squared entry of μ̃ μ̃ᵀ - Σ_ETF of class means (K, d); NaN where a mean is μ_G."""
    K = len(means)
    centred = means - means.mean(0)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    if not norms.all():
        return np.nan
    cosines = (centred / norms) @ (centred / norms).T
    frame = (1 + 1 / (K - 1)) * np.eye(K) - 1 / (K - 1)
    return float(np.square(cosines - frame).mean())


def nfa_pearson(gram: np.ndarray, sums: np.ndarray, gradients: np.ndarray, d: int) -> float:
    """Pearson correlation of the entries of WᵀW and of the square root of WᵀGW, both (d, d).

    With W = U S Vᵀ both have the form V A Vᵀ, A = S² and A = (S Uᵀ G U S)^{1/2}; so all sums over
    entries come from matrices of the size of W Wᵀ (derived).

    Args:
        gram: W Wᵀ (m, m).
        sums: W 1 (m,).
        gradients: G (m, m), the outer products of the gradients with respect to Wx.
        d: number of columns of W.
    """
    squares, U = np.linalg.eigh(np.asarray(gram, dtype=np.float64))
    # Directions in which W is zero but for rounding.
    seen = squares > squares[-1] * 1e-6
    S, U = np.sqrt(squares[seen]), U[:, seen]
    root = _square_root(S[:, None] * (U.T @ np.asarray(gradients, dtype=np.float64) @ U) * S)
    v = U.T @ np.asarray(sums, dtype=np.float64) / S
    weights = np.diag(S**2)
    products = {name: (a * b).sum() - (v @ a @ v) * (v @ b @ v) / d**2
                for name, a, b in [("wm", weights, root), ("ww", weights, weights),
                                   ("mm", root, root)]}  # fmt: skip
    if products["ww"] <= 0 or products["mm"] <= 0:
        return np.nan
    return float(products["wm"] / np.sqrt(products["ww"] * products["mm"]))


def _square_root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


# ======================================================================================
# Tables


def measure_deep_rfm(
    spec: DeepRfmSpec, states: dict[str, np.ndarray], *, run: str, threads: int, card: Path | None
) -> pd.DataFrame:
    """Collapse of each layer at its three places, and the Gram matrices of the drawn layers.

    Args:
        spec: the run.
        states: what `kernels.deep_rfm.train_deep_rfm` kept.
        run: full name of the run.
        threads, card: not needed.

    Returns:
        Columns `RFM`. Rows with a `place` have metrics of a layer; rows with `i` <= `j` have an
        entry of a Gram matrix, of seed 0 and with the definition of M.
    """
    rows = []
    for s, seed in enumerate(states["seed"].tolist()):
        valid = True
        for layer in range(1, spec.depth + 1):
            found = {}
            for place in ("base", "right", "full"):
                means = states[f"{layer}/{place}/means"][s]
                msd = nc2_msd(means)
                found[place] = {
                    "nc1": nc1(states[f"{layer}/{place}/within_trace"][s], means),
                    "nc2_msd": msd,
                    "nc2_fro": len(means) * np.sqrt(msd),
                }
            valid = valid and found["right"]["nc1"] > FLOOR[spec.precision]
            own = {"seed": seed, "layer": layer, "valid": valid}
            rows += [own | {"place": place} | values for place, values in found.items()]
    frames = [pd.DataFrame(rows)]
    if 0 in states["seed"] and spec.agop_norm == "mean":
        labels = states["labels"]
        i, j = np.triu_indices(len(labels))
        pairs = {"i": i, "j": j, "class_i": labels[i], "class_j": labels[j]}
        for name in sorted(name for name in states if name.startswith("gram/")):
            layer = int(name.removeprefix("gram/"))
            frames.append(pd.DataFrame({"layer": layer, **pairs, "value": states[name][i, j]}))
            frames[-1]["seed"] = 0
    shape = spec.model_dump(include=set(RFM) - {"seed"})
    table = pd.concat(frames, ignore_index=True).assign(run=run, **shape)
    return table.reindex(columns=RFM)


def measure_observed_network(
    spec: ObservedNetworkSpec, states: dict[str, np.ndarray], *, run: str, threads: int, card: Path
) -> pd.DataFrame:
    """Collapse of each layer, and the neural feature ansatz, by epoch.

    Args:
        spec: the run.
        states: what `kernels.observed_networks.train_observed_network` kept.
        run: full name of the run.
        threads, card: not needed.

    Returns:
        Columns `HEAD`; epoch `START` is the untrained network. Metrics: nc1 and nc2_msd of layers
        1..L at the places base (Φ_{l-1}), right (SVᵀΦ_{l-1}, of the same NC1 and NC2 as
        W_l Φ_{l-1}) and full (Φ_l); nfa_pearson of each layer; trSw_over_trSt and trSb_over_trSt
        of Φ_L, with Σ_T = Σ_W + Σ_B; train_loss and train_accuracy.
    """
    rows = []
    for s, seed in enumerate(states["seed"].tolist()):
        for epoch in (START, *range(0, spec.epochs + 1, spec.every)):
            at = {key.removeprefix(f"{epoch}/"): value[s] for key, value in states.items()
                  if key.startswith(f"{epoch}/")}  # fmt: skip
            own = {"seed": seed, "epoch": epoch}
            for layer in range(1, spec.layers + 1):
                places = {"base": f"phi{layer - 1}", "right": f"z{layer}", "full": f"phi{layer}"}
                for place, name in places.items():
                    means, trace = at[f"means/{name}"], at[f"trace/{name}"]
                    here = own | {"layer": layer, "place": place}
                    rows.append(here | {"metric": "nc1", "value": nc1(trace, means)})
                    rows.append(here | {"metric": "nc2_msd", "value": nc2_msd(means)})
                products, sums, slopes = (
                    at[f"{what}/{layer}"] for what in ("gram", "sums", "gradients")
                )
                value = nfa_pearson(products, sums, slopes, int(at[f"inputs/{layer}"]))
                rows.append(own | {"layer": layer, "metric": "nfa_pearson", "value": value})
            within = float(at[f"trace/phi{spec.layers}"])
            total = within + (between := between_trace(at[f"means/phi{spec.layers}"]))
            last = own | {"layer": spec.layers}
            for metric, value in [("trSw_over_trSt", within), ("trSb_over_trSt", between)]:
                rows.append(last | {"metric": metric, "value": value / total if total else np.nan})
            rows.append(own | {"metric": "train_loss", "value": float(at["loss"])})
            rows.append(own | {"metric": "train_accuracy", "value": float(at["accuracy"])})
    model = {"staged_resnet": "ResNet", "conv": "VGG", "resnet18": "ResNet", "vgg11": "VGG"}
    body = getattr(spec.body, "name", getattr(spec.body, "kind", ""))
    shape = spec.model_dump(include={"dataset", "width", "gain", "lr", "batch"})
    table = pd.DataFrame(rows).assign(
        run=run, model=model.get(body, "MLP"), steps=spec.epochs, **shape
    )
    return table[HEAD]
