"""Image classifiers whose first layer normalises, so that noise is added to pixels before it."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.kinds.smoothing import (
    ConvClassifier,
    MlpClassifier,
    NoisyClassifierSpec,
    ResNetClassifier,
)
from replica.models.headed_networks import BasicBlock


class Normalise(nn.Module):
    """(x - mean) / std by channel."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean)[:, None, None])
        self.register_buffer("std", torch.tensor(std)[:, None, None])

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class ResNet(nn.Module):
    """6n + 2 layers for small images: 16, 32 and 64 filters, global average pooling, linear.

    As in the published baseline (Cohen et al. 2019, resnet110): projections as shortcuts, and
    convolutions that start as N(0, 2 / (k² filters)).
    """

    def __init__(self, depth: int, channels: int, K: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, before = [], 16
        for after, stride in [(16, 1), (32, 2), (64, 2)]:
            for block in range((depth - 2) // 6):
                first = stride if block == 0 else 1
                blocks.append(BasicBlock(before, after, first, projection=before != after))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.linear = nn.Linear(64, K)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.linear(x.mean((2, 3)))


def build_classifier(
    spec: NoisyClassifierSpec, shape: tuple[int, ...], K: int, seed: int
) -> nn.Module:
    """The classifier of a run with its weights at the start.

    Args:
        spec: the run.
        shape: of one input: (C, H, W), or (d,) for points.
        K: number of classes.
        seed: of the weights.

    Returns:
        A module from (b, *shape) to logits (b, K).
    """
    # torch's own initialisation draws from the global generator: fork it, seed it, leave no trace.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(spec.network, shape, K)
    if spec.mean is None:
        return network
    return nn.Sequential(Normalise(spec.mean, spec.std), network)


def _network(
    spec: MlpClassifier | ConvClassifier | ResNetClassifier, shape: tuple[int, ...], K: int
) -> nn.Module:
    if isinstance(spec, ResNetClassifier):
        return ResNet(spec.depth, shape[0], K)
    layers: list[nn.Module] = []
    if isinstance(spec, MlpClassifier):
        before = math.prod(shape)
        layers.append(nn.Flatten())
        for after in spec.hidden:
            layers += [nn.Linear(before, after), nn.ReLU()]
            before = after
        return nn.Sequential(*layers, nn.Linear(before, K))
    before, height, width = shape
    for after in spec.channels:
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        before, height, width = after, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(before * height * width, K))
