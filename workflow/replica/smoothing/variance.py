"""The input-dependent noise sigma(x): from the distance to the nearest training images."""

import torch
from torch import Tensor

# Neighbours beyond the k nearest that single precision proposes.
SPARE = 16
_ROWS = 512


def knn_mean_distance(
    queries: Tensor, train: Tensor, k: int, *, norm: float = 2, skip_self: bool = False
) -> Tensor:
    """(1/k) Σ ‖x - x_i‖_p over the k nearest training images, exactly.

    A block of queries at a time is multiplied with the training images in single precision; the
    candidates are measured again in double precision, and a query whose k nearest are not surely
    among them gets more candidates.

    Args:
        queries: (Q, ...), the images x, flattened here.
        train: (T, ...), the training images.
        k: neighbours.
        norm: p >= 1 of the distance.
        skip_self: the queries are the training images, and none is its own neighbour.

    Returns:
        Float64 (Q,) on the CPU.

    Raises:
        ValueError: k is larger than the number of neighbours, or an image is not
            finite.
    """
    x, t = queries.flatten(1).float(), train.flatten(1).float()
    if not 0 < k <= len(t) - skip_self:
        raise ValueError(
            f"k = {k} neighbours are requested, but there are only "
            f"{len(t) - skip_self} training images."
        )
    if not (x.sum() + t.sum()).isfinite():
        raise ValueError("Images must be finite.")
    found = []
    # Distances do not change with the origin, the error of the products does.
    centre = t.mean(0)
    centred = t - centre
    t_norm = centred.square().sum(1)
    for first in range(0, len(x), _ROWS):
        rows = torch.arange(first, min(first + _ROWS, len(x)))
        own = rows if skip_self else None
        if norm == 2:
            squared = _squared_distances(x[rows] - centre, centred, t_norm)
            found.append(_nearest(x[rows], t, squared, k, own))
        else:
            found.append(_all_distances(x[rows], t, own, norm).topk(k, largest=False).values)
    return torch.cat(found).mean(1).cpu()


def sigma_knn(sigma_b: float, rate: float, distance: Tensor, m: float) -> Tensor:
    """σ(x) = σ_b exp(r (d(x) - m)), d the mean distance to the nearest neighbours (follow-up code).

    Raises:
        ValueError: sigma_b or rate is not positive.
    """
    if not (sigma_b > 0 and rate > 0):
        raise ValueError(f"sigma_b = {sigma_b} and rate = {rate} must be positive.")
    return sigma_b * torch.exp(rate * (distance.double() - m))


def certificate_rate(rate: float, N: int, norm: float) -> float:
    """The semi-elasticity in the 2-norm: ‖.‖_p <= N^{1/p - 1/2} ‖.‖_2 for p < 2."""
    return rate * max(1.0, N ** (1 / norm - 1 / 2))


def semi_elasticity(images: Tensor, sigma: Tensor, rate: float) -> Tensor:
    """By image the largest |log σ(x) - log σ(x')| / (r ‖x - x'‖_2) over all other images x'.

    At most 1 for an r-semi-elastic σ. Pairs of equal images are left out.

    Args:
        images: (I, ...).
        sigma: (I,), positive.
        rate: r.

    Returns:
        Float64 (I,).
    """
    x, log_sigma = images.flatten(1).double(), sigma.double().log()
    distance = torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")
    change = (log_sigma[:, None] - log_sigma).abs()
    ratio = torch.where(distance > 0, change / (rate * distance), 0.0)
    return ratio.amax(1)


def _squared_distances(x: Tensor, t: Tensor, t_norm: Tensor) -> tuple[Tensor, Tensor]:
    """‖x - t‖² (b, T) in single precision, and a bound (b, 1) of its error."""
    x_norm = x.square().sum(1, keepdim=True)
    squared = torch.addmm(t_norm, x, t.mT, alpha=-2).add_(x_norm)
    # Twice the bound for the rounding of a product of N terms.
    error = x.shape[1] * torch.finfo(torch.float32).eps * (x_norm + t_norm.max())
    return squared, error


def _nearest(
    x: Tensor, train: Tensor, squared: tuple[Tensor, Tensor], k: int, own: Tensor | None
) -> Tensor:
    """The k smallest distances (b, k), float64; `own` are the rows that each x must not find."""
    approximate, error = squared
    if own is not None:
        approximate[torch.arange(len(x)), own] = torch.inf
    there = len(train) - (own is not None)
    found = torch.empty(len(x), k, dtype=torch.float64, device=x.device)
    rows, wanted = torch.arange(len(x), device=x.device), min(k + SPARE, there)
    while len(rows):
        candidates = approximate[rows].topk(wanted, largest=False)
        pairs = zip(x[rows].double(), candidates.indices, strict=True)
        exact = [torch.linalg.vector_norm(train[i].double().sub_(q), dim=1) for q, i in pairs]
        found[rows] = torch.stack(exact).topk(k, largest=False).values
        # An image that is no candidate is at least this far away, squared.
        others = candidates.values[:, -1].double() - error[rows, 0]
        unsure = (found[rows, -1].square() > others) & (wanted < there)
        rows, wanted = rows[unsure], min(4 * wanted, there)
    return found


def _all_distances(x: Tensor, train: Tensor, own: Tensor | None, norm: float) -> Tensor:
    mode = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(x.double(), train.double(), p=norm, compute_mode=mode)
    if own is not None:
        distances[torch.arange(len(x)), own] = torch.inf
    return distances
