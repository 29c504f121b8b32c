"""Scalarizations U of several objectives: monotone, sub-additive, positively homogeneous.

For such U the deviation of a scalarized risk is at most the scalarized deviation:
|U(a) - U(b)| <= U(|a - b|) for a, b >= 0 (statement R2 of docs/mol.md).
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Family -> the p of its norm of the weighted objectives.
FAMILIES = {
    "linear": 1.0,
    "Tchebycheff": np.inf,
    "l_1.5": 1.5,
    "l_2": 2.0,
    "l_4": 4.0,
}


def scalarize(family: str, weights: Array, values: Array) -> Array:
    """U_λ(v) = ‖(λ_1 v_1, ..., λ_N v_N)‖_p: weighted sum, weighted maximum or weighted ℓ_p.

    Args:
        family: a key of `FAMILIES`.
        weights: (S, N), not negative.
        values: (M, N), not negative.

    Returns:
        (S, M).
    """
    p = FAMILIES[family]
    if p == 1:
        return weights @ values.T
    if np.isinf(p):
        largest = np.multiply.outer(weights[:, 0], values[:, 0])
        for i in range(1, weights.shape[1]):
            np.maximum(largest, np.multiply.outer(weights[:, i], values[:, i]), out=largest)
        return largest
    return (weights**p @ (values**p).T) ** (1 / p)


def drawn_weights(S: int, N: int, generator: np.random.Generator) -> Array:
    """S weight vectors (S, N) from Dirichlet(1, ..., 1): uniform on the simplex."""
    return generator.dirichlet(np.ones(N), size=S)
