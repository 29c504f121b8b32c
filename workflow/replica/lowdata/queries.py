"""Active learning: which unlabelled images to label next."""

import torch
from torch import Tensor


def entropy(logits: Tensor) -> Tensor:
    """Softmax entropy of logits (N, K), in nats, in float64; log K where they are all equal."""
    log_p = logits.double().log_softmax(1)
    return -(log_p.exp() * log_p).sum(1)


def highest(scores: Tensor, wanted: int) -> Tensor:
    """Positions of the `wanted` highest scores, from the highest; ties by position.

    Raises:
        ValueError: fewer scores than wanted, or none wanted.
    """
    _check(wanted, len(scores))
    return torch.sort(scores, descending=True, stable=True).indices[:wanted]


def k_center(labelled: Tensor, candidates: Tensor, wanted: int) -> tuple[Tensor, Tensor]:
    """Greedy k-centre: the candidate that is farthest from all centres becomes one, repeatedly.

    Starting from the labelled features as centres (core-set, Sener and Savarese 2018). Its
    covering radius is at most twice the smallest possible.

    Args:
        labelled: features (n, d) that are centres at the start.
        candidates: features (N, d).
        wanted: number of new centres.

    Returns:
        Positions (wanted,) of the new centres in the order of choice, and the distance at which
        each was chosen, in the units of the features.

    Raises:
        ValueError: fewer candidates than wanted, or none wanted.
    """
    _check(wanted, len(candidates))
    candidates = candidates.double()
    distance = torch.cdist(candidates, labelled.double()).amin(1)
    chosen, radii = [], []
    for _ in range(wanted):
        farthest = int(distance.argmax())
        chosen.append(farthest)
        radii.append(distance[farthest].item())
        new = torch.linalg.vector_norm(candidates - candidates[farthest], dim=1)
        distance = torch.minimum(distance, new)
        # Equal images have distance zero too; none is chosen twice.
        distance[farthest] = -torch.inf
    return torch.tensor(chosen), torch.tensor(radii, dtype=torch.float64)


def _check(wanted: int, available: int) -> None:
    if wanted < 1:
        raise ValueError(f"A query labels at least one image, not {wanted}.")
    if wanted > available:
        raise ValueError(f"{wanted} images are to be labelled, but the pool has only {available}.")
