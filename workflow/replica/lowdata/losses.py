"""Losses of the study and of the methods that it compares with; all are means over the batch."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F


def joint(heads: Sequence[Tensor], labels: Tensor) -> dict[str, Tensor]:
    """Online joint knowledge distillation: CE(z_orig, y) + CE(z_FR, y) (Fig. 2; official code).

    There is no term between the heads: what is distilled passes through the shared backbone.

    Args:
        heads: logits [z_orig] or [z_orig, z_FR], each (b, K).
        labels: (b,).
    """
    names = ("original", "extra")
    return {name: F.cross_entropy(z.float(), labels) for name, z in zip(names, heads, strict=False)}


def softened_kl(student: Tensor, teacher: Tensor, T: float = 1.0) -> Tensor:
    """T² KL(softmax(teacher / T) ‖ softmax(student / T)); no gradient to the teacher."""
    log_p = (student.float() / T).log_softmax(1)
    target = (teacher.detach().float() / T).log_softmax(1)
    return T**2 * F.kl_div(log_p, target, reduction="batchmean", log_target=True)


def distillation(student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """KD: CE and T² KL to a teacher trained before, T = 2 (official code)."""
    return {
        "original": F.cross_entropy(student.float(), labels),
        "soft": softened_kl(student, teacher, 2.0),
    }


def mutual(first: Tensor, second: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """DML: CE of both networks, and the KL of each to the other, held fixed (official code).

    KL(1 ‖ 2) has network 2 fixed, KL(2 ‖ 1) network 1.
    """
    log_1, log_2 = first.float().log_softmax(1), second.float().log_softmax(1)

    def kl(p: Tensor, q: Tensor) -> Tensor:
        return (p.exp() * (p - q)).sum(1).mean()

    return {
        "original": F.cross_entropy(first.float(), labels),
        "peer": F.cross_entropy(second.float(), labels),
        "soft": kl(log_1, log_2.detach()) + kl(log_2, log_1.detach()),
    }


def collaborative(first: Tensor, second: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """KDCL: CE of both, and T² KL(p_i^T ‖ q^T), q of the mean logits, fixed; T = 2."""
    T = 2.0
    log_q = ((first + second).detach().float() / (2 * T)).log_softmax(1)
    logs = [(z.float() / T).log_softmax(1) for z in (first, second)]
    return {
        "original": F.cross_entropy(first.float(), labels),
        "peer": F.cross_entropy(second.float(), labels),
        "soft": T**2 * sum((log_p.exp() * (log_p - log_q)).sum(1).mean() for log_p in logs),
    }


def fixmatch(weak: Tensor, strong: Tensor, threshold: float = 0.95) -> Tensor:
    """CE of strongly augmented images to the labels that their weak version is sure of.

    The mean is over all unlabelled images, also those below the threshold (Sohn et al. 2020).
    """
    sure, pseudo = weak.detach().float().softmax(1).max(1)
    each = F.cross_entropy(strong.float(), pseudo, reduction="none")
    return (each * (sure >= threshold)).mean()


def loss_ranking(predicted: Tensor, losses: Tensor, margin: float = 1.0) -> Tensor:
    """LLAL's loss of its module: pairs (i, b-1-i) should have predictions in the order of losses.

    The mean over b/2 pairs of max(0, margin - sign(l_i - l_j)(p_i - p_j)) (Yoo and Kweon 2019).

    Args:
        predicted: (b,) predicted losses, b even; the middle one of an odd batch is left out.
        losses: (b,) cross-entropies; no gradient flows to them.
    """
    half = len(predicted) // 2
    difference = (predicted - predicted.flip(0))[:half]
    order = torch.sign((losses - losses.flip(0))[:half].detach())
    # Equal losses count as falling, as in the published code.
    order = torch.where(order > 0, 1.0, -1.0)
    return F.relu(margin - order * difference).mean()
