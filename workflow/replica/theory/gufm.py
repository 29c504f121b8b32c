"""The generalised unconstrained features model (GUFM), the bound of regularised residual networks.

    min over W (K, d), X (d, N)   L(WX, Y) + (λ/2)|W|²   with |x_i| = √d and 1ᵀx_i = 0

(Súkeník et al. 2025, Def. 3.5). What enters the head of a network with LayerNorm satisfies the
constraints, and the rest of its penalty is not negative: its objective is nowhere below. Optima are
collapsed (Lemma 4.2), so that the minimum, for classes of equal size, is one over the norm z of a
row of W:

    cross-entropy   log(1 + (K-1) exp(-√d z K/(K-1))) + λKz²/2     rows of W: a simplex frame
    squared error   (1 - √d z)²/2 + λKz²/2                         rows of W: orthogonal

(derived). For the squared error z = √d/(d + λK); the paper prints 1/(√d(1 + λK)), which lacks 1/d.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit


@dataclass(frozen=True)
class Optimum:
    """The norm z of each row of W, and the two parts of the objective."""

    z: float
    fit: float
    penalty: float

    @property
    def objective(self) -> float:
        """The minimum."""
        return self.fit + self.penalty


def optimum(loss: Literal["ce", "mse"], K: int, d: int, lam: float) -> Optimum:
    """The optimum of the GUFM with K classes of equal size.

    Args:
        loss: cross-entropy, or half the squared error, each as a mean over samples.
        K: classes.
        d: dimensions of a feature.
        lam: λ of the head.

    Raises:
        ValueError: fewer than two classes, no penalty, or a frame that has no place: features of
            mean zero have d - 1 free dimensions, of which a simplex takes K - 1 and an orthogonal
            frame K.
    """
    needed = K if loss == "ce" else K + 1
    if K < 2 or lam <= 0 or d < needed:
        raise ValueError(f"K = {K} >= 2, λ = {lam:g} > 0 and d = {d} >= {needed} are needed.")
    if loss == "mse":
        z = d**0.5 / (d + lam * K)
        return Optimum(z, (1 - d**0.5 * z) ** 2 / 2, lam * K * z**2 / 2)
    margin = d**0.5 * K / (K - 1)

    def slope(z: float) -> float:
        # Divided by K: (K-1) e^{-m} / (1 + (K-1) e^{-m}) = expit(log(K-1) - m).
        return lam * z - margin / K * expit(np.log(K - 1) - margin * z)

    # The slope is negative at 0, and positive where λz exceeds all that the other term can be.
    z = float(brentq(slope, 0, margin / (K * lam), xtol=1e-15, rtol=1e-14))
    fit = float(np.log1p((K - 1) * np.exp(-margin * z)))
    return Optimum(z, fit, lam * K * z**2 / 2)
