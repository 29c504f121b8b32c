"""The non-central chi-square distribution for any dimension and any non-centrality, vectorised.

scipy's distribution function is exact everywhere, but its Poisson series has sqrt(λ) terms: where λ
is large it is up to 67 times as slow as what stands here. A chi-square variable with N degrees of
freedom and non-centrality λ is u² + v², with u normal about sqrt(λ) and v the length of a normal
vector in N-1 dimensions. Its distribution function is the mass of a disc of radius sqrt(x) in the
plane (u, v), where both densities have widths near 1. Where λ >= N the circle is flat in v (its
slope is at most 1 where the mass lies), and integrating over u leaves a smooth integrand of unit
width: some dozens of nodes give 13 digits.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats
from scipy.optimize import elementwise

Array = NDArray[np.float64]
# From this non-centrality on scipy is the slower one.
LARGE = 3e4
# Half width of the window, in standard deviations: the mass outside is below 1e-19.
WINDOW = 9.0
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(80)
_ROWS = 20_000
# Steps of the secant method before a bracket is used, and how near in probability, relatively.
SECANTS = 8
CLOSE = 1e-13


def cdf(x: ArrayLike, N: ArrayLike, nc: ArrayLike) -> Array:
    """F_N(x; λ) = P(χ²_N(λ) <= x), absolute error below 1e-12.

    Args:
        x: points.
        N: degrees of freedom, at least 2.
        nc: non-centrality λ >= 0.

    Returns:
        Float64 with the shape of the arguments broadcast together; 0 for x <= 0.
    """
    x, N, nc = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (x, N, nc)))
    shape = x.shape
    x, N, nc = x.ravel(), N.ravel(), nc.ravel()
    result = np.zeros(x.shape)
    large = (nc >= N) & (nc >= LARGE)
    for chosen, method in [(large, _over_v), (~large, stats.ncx2.cdf)]:
        rows = np.flatnonzero(chosen & (x > 0))
        # In pieces: each point has 80 nodes.
        for piece in np.array_split(rows, -(-len(rows) // _ROWS) or 1):
            if len(piece):
                result[piece] = method(x[piece], N[piece], nc[piece])
    return result.reshape(shape)


def quantile(p: ArrayLike, N: ArrayLike, nc: ArrayLike) -> Array:
    """Q_N(p; λ): the x with F_N(x; λ) = p, for p in (0, 1).

    Raises:
        ValueError: p is not inside (0, 1), or no root was found.
    """
    p, N, nc = np.broadcast_arrays(*(np.asarray(a, dtype=np.float64) for a in (p, N, nc)))
    if not ((p > 0) & (p < 1)).all():
        raise ValueError("A quantile needs 0 < p < 1.")
    # sqrt(x) is near normal with deviation at most 1 and mean near sqrt(N + λ).
    shape = p.shape
    p, N, nc = p.ravel(), N.ravel(), nc.ravel()
    z = special.ndtri(p)
    total = N + nc
    spread = np.sqrt((N + 2 * nc) / (2 * total))
    y = np.maximum(np.sqrt(np.maximum(total - spread**2, 0)) + z * spread, 1e-8)
    off = cdf(y * y, N, nc) - p
    # The slope of the normal curve, then that of the secant: one or two digits more, then double.
    slope = np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / spread
    for _ in range(SECANTS):
        rows = np.flatnonzero(np.abs(off) > CLOSE * p)
        if not len(rows):
            break
        new = np.maximum(y[rows] - off[rows] / slope[rows], 1e-8)
        found = cdf(new * new, N[rows], nc[rows]) - p[rows]
        moved = new - y[rows]
        with np.errstate(divide="ignore", invalid="ignore"):
            secant = (found - off[rows]) / moved
        slope[rows] = np.where(secant > 0, secant, slope[rows])
        y[rows], off[rows] = new, found
    # Far tails and small N, where the start was poor: a bracket.
    rows = np.flatnonzero(np.abs(off) > CLOSE * p)
    if len(rows):
        middle, reach = np.sqrt(total[rows]), np.abs(z[rows]) + 4
        root = elementwise.find_root(
            lambda y, p, N, nc: cdf(y * y, N, nc) - p,
            (np.maximum(middle - reach, 0.0), middle + reach),
            args=(p[rows], N[rows], nc[rows]),
            tolerances={"xatol": 0.0, "xrtol": 4e-16, "fatol": 0.0, "frtol": 0.0},
            maxiter=100,
        )
        y[rows] = root.x
    if not np.isfinite(y).all():
        raise ValueError("No quantile was found.")
    return (y * y).reshape(shape)


def _over_v(x: Array, N: Array, nc: Array) -> Array:
    """∫ f(v) [Φ(w - sqrt(λ)) - Φ(-w - sqrt(λ))] dv, w = sqrt(x - v²), f the density of χ_{N-1}."""
    k = (N - 1)[:, None]
    mode, reach = np.sqrt(k - 1), np.sqrt(x)[:, None]
    low = np.maximum(mode - WINDOW, 0)
    high = np.minimum(mode + WINDOW, reach)
    half = np.maximum(high - low, 0) / 2
    v = low + half * (1 + _NODES)
    centre = np.sqrt(nc)[:, None]
    # From sqrt(x) itself the difference of squares keeps its digits.
    w = np.sqrt(np.maximum((reach - v) * (reach + v), 0))
    inside = special.ndtr(w - centre) - special.ndtr(-w - centre)
    return (half * _WEIGHTS * np.exp(_log_chi_density(v, k)) * inside).sum(1)


def _log_chi_density(v: Array, k: Array) -> Array:
    """log of v^(k-1) exp(-v²/2) / (2^(k/2-1) Γ(k/2))."""
    small = np.minimum(k, 100)
    direct = special.xlogy(small - 1, v) - v * v / 2 - special.gammaln(small / 2)
    direct -= (small / 2 - 1) * np.log(2)
    # For many degrees of freedom, where those terms cancel: relative to the mode sqrt(k-1), and
    # the height of the mode by Stirling's series.
    large = np.maximum(k, 100)
    mode = np.sqrt(large - 1)
    off = (v - mode) / mode
    away = (large - 1) * (np.log1p(np.maximum(off, -1 + 1e-300)) - off - off * off / 2)
    z = large / 2
    series = 1 / (12 * z) - 1 / (360 * z**3) + 1 / (1260 * z**5)
    height = (large - 1) / 2 * np.log1p(-1 / large) + 0.5 - np.log(np.pi) / 2 - series
    return np.where(k < 100, direct, height + away)
