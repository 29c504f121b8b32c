"""Active learning: which unlabelled images to label next.

A further query is a row of `QUERIES`, and a word in `Active`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replica.models.refiner import TwoHeaded


@dataclass(frozen=True)
class Asked:
    """What a query may use.

    Attributes:
        model: what was trained, with LLAL's module where there is one.
        network: the network itself.
        labelled, candidates: images (n, C, H, W) that are labelled, and (N, C, H, W) that may be.
        evaluate: applies a function to images in evaluation mode; float32 on the CPU.
        wanted: how many are to be labelled.
    """

    model: nn.Module
    network: TwoHeaded
    labelled: Tensor
    candidates: Tensor
    evaluate: Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]
    wanted: int


# Positions of the chosen candidates in the order of choice, and the score of each.
Answer = tuple[Tensor, Tensor]


def by_chance(asked: Asked) -> Answer:
    """The first candidates; they are in random order."""
    return torch.arange(asked.wanted), torch.full((asked.wanted,), torch.nan)


def by_entropy(asked: Asked) -> Answer:
    """Those whose predictions have the highest entropy."""
    z = asked.evaluate(lambda x: asked.network(x)[0], asked.candidates)
    return _of_highest(entropy(z), asked.wanted)


def by_predicted_loss(asked: Asked) -> Answer:
    """Those with the highest predicted loss (LLAL, Yoo and Kweon 2019)."""
    scores = asked.evaluate(lambda x: asked.model(x)[1], asked.candidates).squeeze(1)
    return _of_highest(scores, asked.wanted)


def by_distance(asked: Asked) -> Answer:
    """Those that cover the candidates' features best (core-set, Sener and Savarese 2018)."""
    known, new = (
        asked.evaluate(asked.network.features, images)
        for images in (asked.labelled, asked.candidates)
    )
    return k_center(known, new, asked.wanted)


def _of_highest(scores: Tensor, wanted: int) -> Answer:
    chosen = highest(scores, wanted)
    return chosen, scores[chosen]


QUERIES = {
    "random": by_chance,
    "entropy": by_entropy,
    "llal": by_predicted_loss,
    "core_set": by_distance,
}


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
        raise ValueError(f"{wanted} images should be labelled, but the pool has only {available}.")
