"""Networks whose features H_1 feed a DUFM head: stacked MLPs, and ResNet20.

The head has the matrices W_1..W_L of the deep unconstrained features model, ReLU between them,
no biases, no ReLU on H_1 and none after W_L (Súkeník et al. 2024, Fig. 2 bottom).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.data.prepare import Dataset
from replica.data.splits import first_rows
from replica.kinds.features import NetworkHeadSpec

# --------------------------------------------------------------------------------------
# Samples


@dataclass(frozen=True)
class Samples:
    """Training samples sorted by class.

    Attributes:
        inputs: (N, C, H, W), each channel standardised over these samples.
        labels: (N,) int64 in 0..K-1.
        K: number of classes.
    """

    inputs: Tensor
    labels: Tensor
    K: int

    @property
    def n(self) -> int:
        """Samples per class, rounded down where classes differ in size."""
        return len(self.labels) // self.K

    def one_hot(self) -> Tensor:
        """Targets (N, K) with the type of the inputs."""
        return F.one_hot(self.labels, self.K).to(self.inputs.dtype)


def training_samples(
    dataset: Dataset,
    classes: Sequence[int] | None,
    per_class: int | None,
    dtype: torch.dtype = torch.float32,
) -> Samples:
    """Select classes and the first `per_class` samples of each; standardise per channel.

    Raises:
        DataError: a class does not exist or has fewer samples than asked for.
    """
    labels = np.asarray(dataset.array("train.labels"))
    chosen = list(range(int(labels.max()) + 1)) if classes is None else list(classes)
    rows = first_rows(labels, chosen, per_class, dataset.card["dataset"])
    images = torch.from_numpy(np.asarray(dataset.array("train.images"))[np.concatenate(rows)])
    images = images.double()
    std, mean = torch.std_mean(images, (0, 2, 3), correction=0, keepdim=True)
    targets = torch.arange(len(chosen)).repeat_interleave(torch.tensor([len(r) for r in rows]))
    return Samples(((images - mean) / std).to(dtype), targets, len(chosen))


# --------------------------------------------------------------------------------------
# Stacked MLPs

Params = dict[str, Tensor]


def initialise_mlp(
    *,
    widths: Sequence[int],
    gain: float,
    K: int,
    L: int,
    width: int,
    head_gain: float,
    generators: Sequence[torch.Generator],
    dtype: torch.dtype,
) -> Params:
    """Stacked parameters of an MLP backbone and a DUFM head, one generator a member.

    Backbone: A1..AD (S, out, in) with N(0, gain²/in) and zero biases b1..bD (S, out, 1);
    head: W1..WL with N(0, head_gain²/width). Drawn in float64.

    Raises:
        ValueError: the backbone's output is not the head's width.
    """
    if widths[-1] != width:
        raise ValueError(f"The backbone's output has width {widths[-1]}, but the head has {width}.")
    shapes, std = {}, {}
    for d, (before, after) in enumerate(itertools.pairwise(widths), start=1):
        shapes[f"A{d}"], std[f"A{d}"] = (after, before), gain / before**0.5
        shapes[f"b{d}"], std[f"b{d}"] = (after, 1), 0.0
    for l in range(1, L + 1):
        shapes[f"W{l}"] = (K if l == L else width, width)
        std[f"W{l}"] = head_gain / width**0.5
    members = [
        {k: std[k] * torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}
        for g in generators
    ]
    return {name: torch.stack([m[name] for m in members]).to(dtype) for name in shapes}


def forward_mlp(params: Params, inputs: Tensor) -> list[Tensor]:
    """[H_1, ..., H_{L+1}], each (S, d, N), before the ReLU, for inputs (N, ...) or (S, N, ...)."""
    x = inputs.flatten(-3).mT if inputs.dim() > 3 else inputs.mT
    depth = sum(name.startswith("A") for name in params)
    for d in range(1, depth + 1):
        x = params[f"A{d}"] @ x + params[f"b{d}"]
        if d < depth:
            x = torch.relu(x)
    return head_layers(x, [params[f"W{l}"] for l in range(1, len(params) - 2 * depth + 1)])


def head_layers(H1: Tensor, weights: Sequence[Tensor]) -> list[Tensor]:
    """[H_1, W_1 H_1, W_2 σ(H_2), ...], columns are samples."""
    layers = [H1, weights[0] @ H1]
    for W in weights[1:]:
        layers.append(W @ torch.relu(layers[-1]))
    return layers


def fit_and_penalty(
    layers: Sequence[Tensor],
    weights: Sequence[Tensor],
    Y: Tensor,
    lambda_w: float,
    lambda_h: float,
    N: int,
) -> tuple[Tensor, Tensor]:
    """The DUFM objective on a batch of b of N samples.

    Fit (1/2b)‖H_{L+1} - Y‖² and penalty ½ Σ λ_w‖W_l‖² + ½ λ_h (N/b)‖H_1‖²: without N/b the
    penalty on the features would be too small by b/N, and no closed form would apply.

    Args:
        layers: [H_1, ..., H_{L+1}], each (..., d, b).
        weights: the head's W_1..W_L, (..., d', d).
        Y: targets (..., K, b).
        lambda_w, lambda_h: penalties.
        N: number of training samples.

    Returns:
        Two tensors (...).
    """
    b = Y.shape[-1]
    fit = (layers[-1] - Y).square().sum((-2, -1)) / (2 * b)
    penalty = lambda_w * sum(W.square().sum((-2, -1)) for W in weights)
    return fit, (penalty + lambda_h * N / b * layers[0].square().sum((-2, -1))) / 2


# --------------------------------------------------------------------------------------
# ResNet20


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with batch norm and a shortcut (He et al. 2016).

    Where the shape changes, the shortcut pads with zeros (option A) or, with `projection`, is a
    1x1 convolution with batch norm (option B).
    """

    def __init__(self, before: int, after: int, stride: int, projection: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(after)
        self.stride, self.more = stride, after - before
        self.shortcut = None
        if projection:
            self.shortcut = projected(before, after)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        shortcut = x[:, :, :: self.stride, :: self.stride]
        if self.shortcut is not None:
            shortcut = self.shortcut(shortcut)
        elif self.more:
            # No parameters: new channels are zero.
            shortcut = F.pad(shortcut, (0, 0, 0, 0, self.more // 2, self.more - self.more // 2))
        y += shortcut
        return F.relu(y, inplace=True)


def projected(before: int, after: int) -> nn.Sequential:
    """The 1x1 convolution of a shortcut, for images of which every other pixel is left out.

    It has no stride of its own: with stride 2, channels last and fewer than 8 of them, its
    gradient writes beyond its memory (torch 2.13 on CPUs with AVX2 and no AVX-512).
    """
    return nn.Sequential(nn.Conv2d(before, after, 1, bias=False), nn.BatchNorm2d(after))


class ResNet20(nn.Module):
    """ResNet20 for CIFAR: stem of 16 channels, three stages of three blocks, 64 features.

    The pooled features are outputs of a ReLU and so non-negative, while H_1 of the theory is
    free: a linear 64 -> 64 layer follows the pooling (ours).
    """

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(16)
        blocks, before = [], 16
        for after, stride in [(16, 1), (32, 2), (64, 2)]:
            for block in range(3):
                blocks.append(BasicBlock(before, after, stride if block == 0 else 1))
                before = after
        self.blocks = nn.Sequential(*blocks)
        self.features = nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.norm(self.stem(x))))
        return self.features(x.mean((2, 3)))


class DufmHead(nn.Module):
    """W_1..W_L with ReLU between them, no biases; each layer is a module, to be hooked."""

    def __init__(self, K: int, L: int, width: int) -> None:
        super().__init__()
        sizes = [width] * (L - 1) + [K]
        self.layers = nn.ModuleList(nn.Linear(width, size, bias=False) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for l, layer in enumerate(self.layers):
            x = layer(F.relu(x) if l else x)
        return x

    @property
    def weights(self) -> list[Tensor]:
        """[W_1, ..., W_L]."""
        return [layer.weight for layer in self.layers]


class HeadedNetwork(nn.Module):
    """A backbone and a DUFM head."""

    def __init__(self, backbone: nn.Module, head: DufmHead) -> None:
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.backbone(x))


def resnet20_with_head(
    spec: NetworkHeadSpec, K: int, seed: int, channels: int = 3
) -> HeadedNetwork:
    """A ResNet20 with library-default init and a head N(0, head_gain²/width), from one seed.

    Raises:
        ValueError: the head is not 64 wide, as the backbone's output is.
    """
    if spec.width != 64:
        raise ValueError(f"ResNet20 has 64 features; the head's width is {spec.width}.")
    # The default init of torch draws from the global generator: fork it, seed it, leave no trace.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = HeadedNetwork(ResNet20(channels), DufmHead(K, spec.L, spec.width))
        for W in model.head.weights:
            nn.init.normal_(W, std=spec.head_gain / spec.width**0.5)
    return model
