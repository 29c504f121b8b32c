"""Data-dependent randomized smoothing (Alfarra et al. 2022), for comparison.

Its radius is that of Cohen et al. at a sigma found for each input, which is no certificate of the
deployed classifier; the memory of what was certified before repairs that, in order of arrival.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from replica.kinds.smoothing import Ascent

# Soft outputs are kept inside, so that the quantile is finite.
CLAMP = (0.02, 0.98)
# Numbers of noise that images may have together for them to ascend as one batch.
TOGETHER = 2**23


def ascended_sigma(
    model: nn.Module, images: Tensor, sigma_b: float, settings: Ascent, seed: int
) -> Tensor:
    """Gradient ascent in sigma on sigma/2 (Φ⁻¹(p1) - Φ⁻¹(p2)), for each image.

    p1 and p2 are the two largest of the mean softmax outputs over draws of noise.

    Args:
        model: from images to logits, in evaluation mode.
        images: (I, ...).
        sigma_b: where the ascent starts.
        settings: its step size, steps and draws.
        seed: of the noise.

    Returns:
        Float64 (I,) on the CPU, positive.
    """
    generator = torch.Generator(images.device).manual_seed(seed)
    shape = (settings.steps, settings.samples, *images.shape[1:])
    together = max(1, TOGETHER // math.prod(shape))
    standard = torch.distributions.Normal(0.0, 1.0)
    found = []
    for part in images.split(together):
        # Image after image, so that no image changes the noise of those before it.
        noise = torch.empty(len(part), *shape, device=images.device)
        for step in noise.flatten(0, 1):
            torch.randn(step.shape, generator=generator, out=step)
        sigma = torch.full((len(part),), sigma_b, device=images.device, requires_grad=True)
        for step in range(settings.steps):
            scale = sigma.reshape(-1, *[1] * images.dim())
            noisy = part[:, None] + scale * noise[:, step]
            soft = model(noisy.flatten(0, 1)).float().softmax(1)
            mean = soft.unflatten(0, noisy.shape[:2]).mean(1).clamp(*CLAMP)
            first, second = mean.topk(2).values.unbind(1)
            radius = sigma / 2 * (standard.icdf(first) - standard.icdf(second))
            (slope,) = torch.autograd.grad(radius.sum(), sigma)
            with torch.no_grad():
                sigma += settings.lr * slope
                sigma.clamp_(min=1e-3)
        found.append(sigma.detach().double().cpu())
    return torch.cat(found)


def with_memory(
    distance: NDArray[np.float64], prediction: NDArray[np.int64], radius: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.bool_]]:
    """Predictions and radii after the memory-based correction, in order of arrival.

    A new ball that overlaps a kept ball of another label is cut to the gap between them; where x
    lies inside such a ball it takes that ball's label, and the radius is at most what is left of
    that ball around x (reconstructed). So no two kept balls of different labels overlap.

    Args:
        distance: (I, I) between the inputs.
        prediction: (I,) labels.
        radius: (I,) naive radii; 0 for abstentions, which are not kept.

    Returns:
        Labels, radii, and whether the naive ball overlapped a kept one of another label.
    """
    label, kept = prediction.copy(), np.zeros_like(radius)
    overlaps = np.zeros(len(radius), dtype=bool)
    for i in range(len(radius)):
        if radius[i] <= 0:
            continue
        size = radius[i]
        before = np.flatnonzero(kept[:i] > 0)
        other = before[label[before] != label[i]]
        overlaps[i] = bool((distance[i, other] < size + kept[other]).any())
        inside = other[distance[i, other] < kept[other]]
        if len(inside):
            # The first ball that holds x; kept balls of different labels do not meet.
            j = inside[0]
            label[i] = label[j]
            size = min(size, kept[j] - distance[i, j])
            other = before[label[before] != label[i]]
        gap = (distance[i, other] - kept[other]).min(initial=np.inf)
        kept[i] = max(min(size, gap), 0.0)
    return label, kept, overlaps
