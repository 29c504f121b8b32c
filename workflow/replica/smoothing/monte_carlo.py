"""Counts of a classifier's predictions on noisy copies of an image.

Draws come in blocks with a random stream each, named by the image and the block: counts add up,
a stopped count resumes, and two noise levels see the same draws, scaled.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse

from replica.training.precision import autocast

# Draws that one stream makes.
BLOCK = 1000
# Pixels of the images that go through convolutions together on a CPU, 100 images of CIFAR-10: the
# activations of more leave its caches, and each call of fewer has its price.
CPU_PIXELS = 100 * 32 * 32


class InvalidModel(ValueError):
    """The classifier returned something that is not a finite number."""


@dataclass(frozen=True)
class Predictor:
    """A classifier made ready for many predictions; see `for_inference`.

    Attributes:
        model: from (b, *shape) to logits (b, K), in evaluation mode.
        pixels: of all images that go through it together; None where as many as are drawn do.
        precision: see `replica.training.precision`.
    """

    model: nn.Module
    pixels: int | None
    precision: str


def for_inference(model: nn.Module, device: torch.device, precision: str = "float32") -> Predictor:
    """The same function, faster: batch norm folded into the convolutions, channels last, ReLU in
    place. The model itself is changed.

    Args:
        model: the classifier.
        device: where it computes.
        precision: see `replica.training.precision`; bfloat16 is another function within rounding,
            whose counts differ by less than their binomial error.
    """
    model = model.eval()
    if any(isinstance(module, nn.BatchNorm2d) for module in model.modules()):
        model = fuse(model)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = True
    convolves = any(isinstance(module, nn.Conv2d) for module in model.modules())
    pixels = CPU_PIXELS if convolves and device.type == "cpu" else None
    model.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Predictor(model, pixels, precision)


def class_counts(
    predict: Predictor,
    image: Tensor,
    sigma: float,
    K: int,
    stream: Callable[[int], int],
    start: int,
    stop: int,
) -> Tensor:
    """How often each class is the prediction for image + sigma z, for draws start..stop-1.

    Counts over start..stop are those over start..middle and middle..stop together.

    Args:
        predict: the classifier.
        image: one input, on the device to compute on.
        sigma: standard deviation of the noise.
        K: number of classes.
        stream: from the number of a block to the seed of its noise.
        start, stop: which draws.

    Returns:
        Int64 (K,) on the CPU.

    Raises:
        ValueError: sigma is not positive.
        InvalidModel: a logit is not finite.
    """
    if not sigma > 0:
        raise ValueError(f"Noise must have sigma > 0, not {sigma}.")
    device = image.device
    classes = torch.arange(K, device=device)
    counts = torch.zeros(K, dtype=torch.int64, device=device)
    finite = torch.ones((), dtype=torch.bool, device=device)
    layout = torch.channels_last if image.dim() == 3 else torch.contiguous_format
    chunk = BLOCK
    if predict.pixels is not None:
        chunk = min(max(predict.pixels // image[0].numel(), 1), BLOCK)
    # Nothing in the loop waits for the device.
    with (
        torch.inference_mode(),
        autocast(predict.precision, device),
    ):
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            generator = torch.Generator(device).manual_seed(stream(block))
            noise = torch.randn(BLOCK, *image.shape, generator=generator, device=device)
            # The whole block is drawn: a shorter one would not be its beginning.
            noise = noise[max(start - block * BLOCK, 0) : stop - block * BLOCK]
            batch = torch.add(image, noise, alpha=sigma).contiguous(memory_format=layout)
            for part in batch.split(chunk):
                logits = predict.model(part)
                # Of finite numbers in single precision the sum in double precision is finite.
                finite &= logits.sum(dtype=torch.float64).isfinite()
                # Of equal logits the first, as `argmax` says, in less time.
                counts += (logits.max(1, keepdim=True).indices == classes).sum(0)
    if not finite:
        raise InvalidModel(
            "The classifier returned a value that is not finite; its training has failed."
        )
    return counts.cpu()
