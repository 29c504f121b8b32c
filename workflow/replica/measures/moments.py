"""Class means and within-class variances in one pass over the data.

Batches are merged by the pairwise update of Chan, Golub and LeVeque (1979), in float64, so that a
large common offset costs no digits and memory is O(K d), whatever the number of samples.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from replica.models.features import capture


@dataclass
class ClassMoments:
    """Sums over samples of K classes of d-dimensional features.

    Attributes:
        counts: (K,) samples of each class, float64.
        sums_of_squares: (K,) sums of |x - μ_k|² over each class.
        means: (d, K).
    """

    counts: Tensor
    sums_of_squares: Tensor
    means: Tensor

    @staticmethod
    def empty(K: int, d: int, device: torch.device | None = None) -> "ClassMoments":
        """No samples yet; the sums are kept on `device`, the CPU where it is absent.

        Raises:
            ValueError: fewer than two classes.
        """
        if K < 2:
            raise ValueError(f"Collapse needs at least two classes, got {K}.")
        counts, square, means = (
            torch.zeros(*shape, dtype=torch.float64, device=device)
            for shape in ((K,), (K,), (d, K))
        )
        return ClassMoments(counts, square, means)

    def add(self, features: Tensor, labels: Tensor) -> None:
        """Add a batch: features (b, d), labels (b,)."""
        x, K = features.detach().to(self.means), len(self.counts)
        labels = labels.to(self.means.device)
        hot = torch.nn.functional.one_hot(labels, K).double()
        counts = hot.sum(0)
        means = (x.T @ hot) / counts.clamp_min(1)
        residual = x - means.T[labels]
        squares = hot.T @ residual.square().sum(1)
        # Between the old mean and that of the batch, with the weight of Chan et al.
        total = (self.counts + counts).clamp_min(1)
        shift = torch.where(counts > 0, means - self.means, 0.0)
        weight = self.counts * counts / total
        self.sums_of_squares += squares + weight * shift.square().sum(0)
        self.means += shift * (counts / total)
        self.counts += counts

    @property
    def variances(self) -> Tensor:
        """v_k = mean over class k of |x - μ_k|², (K,)."""
        self._check()
        return self.sums_of_squares / self.counts

    @property
    def within_trace(self) -> Tensor:
        """tr Σ_W, a scalar."""
        self._check()
        return self.sums_of_squares.sum() / self.counts.sum()

    def _check(self) -> None:
        if (self.counts == 0).any():
            empty = torch.nonzero(self.counts == 0).flatten().tolist()
            raise ValueError(f"The classes {empty} have no samples: their means do not exist.")


def stream_moments(
    model: nn.Module,
    layers: Mapping[str, bool],
    batches: Iterable[tuple[Tensor, Tensor]],
    K: int,
) -> dict[tuple[str, str], ClassMoments]:
    """Moments of the outputs of some layers of a network, before and after the ReLU.

    Args:
        model: in the mode (train or eval) that is wanted.
        layers: name -> whether the layer is followed by a ReLU.
        batches: pairs of inputs (b, ...) and labels (b,).
        K: number of classes.

    Returns:
        (layer, "pre" or "post") -> its moments.
    """
    found: dict[tuple[str, str], ClassMoments] = {}
    with capture(model, list(layers)) as outputs, torch.no_grad():
        for inputs, labels in batches:
            model(inputs)
            for layer, relu in layers.items():
                sides = {"pre": outputs[layer]}
                if relu:
                    sides["post"] = torch.relu(outputs[layer])
                for side, values in sides.items():
                    if (layer, side) not in found:
                        found[layer, side] = ClassMoments.empty(K, values.shape[1])
                    found[layer, side].add(values, labels)
    return found
