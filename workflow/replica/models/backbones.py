"""Backbones of the low-data study: images (b, C, H, W) to features (b, width)."""

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from replica.kinds.low_data import (
    DenseBackbone,
    DepthwiseBackbone,
    LowDataSpec,
    MixerBackbone,
    StagedBackbone,
    TorchvisionBackbone,
    VitBackbone,
)
from replica.models.classifiers import Normalise
from replica.models.headed_networks import BasicBlock, projected
from replica.models.refiner import FeatureRefiner, TwoHeaded

BackboneSpec = (
    StagedBackbone
    | DenseBackbone
    | DepthwiseBackbone
    | MixerBackbone
    | VitBackbone
    | TorchvisionBackbone
)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions with batch norm, four times wider at the end (ResNet50)."""

    expansion = 4

    def __init__(self, before: int, planes: int, stride: int) -> None:
        super().__init__()
        after = self.expansion * planes
        self.layers = nn.Sequential(
            *(nn.Conv2d(before, planes, 1, bias=False), nn.BatchNorm2d(planes), nn.ReLU()),
            nn.Conv2d(planes, planes, 3, stride, padding=1, bias=False),
            *(nn.BatchNorm2d(planes), nn.ReLU()),
            *(nn.Conv2d(planes, after, 1, bias=False), nn.BatchNorm2d(after)),
        )
        self.stride = stride
        self.shortcut = nn.Sequential()
        if before != after or stride != 1:
            self.shortcut = projected(before, after)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.shortcut(x[:, :, :: self.stride, :: self.stride])
        return F.relu(self.layers(x) + shortcut)


class StagedResNet(nn.Module):
    """CIFAR-style ResNet: a 3x3 stem, no pooling after it, stride 2 from the second stage on.

    widths 64, 128, 256, 512 with 2, 2, 2, 2 blocks are ResNet18, with 3, 4, 6, 3 ResNet34.
    """

    def __init__(self, spec: StagedBackbone, channels: int) -> None:
        super().__init__()
        first = spec.widths[0]
        self.stem = nn.Conv2d(channels, first, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(first)
        stages, before = [], first
        for stage, (planes, count) in enumerate(zip(spec.widths, spec.blocks, strict=True)):
            blocks: list[nn.Module] = []
            for block in range(count):
                stride = 2 if stage and not block else 1
                if spec.bottleneck:
                    blocks.append(Bottleneck(before, planes, stride))
                    before = Bottleneck.expansion * planes
                else:
                    projection = stride != 1 or before != planes
                    blocks.append(BasicBlock(before, planes, stride, projection=projection))
                    before = planes
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.ModuleList(stages)
        self.width = before

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps after each stage."""
        found, x = [], F.relu(self.norm(self.stem(x)), inplace=True)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.maps(x)[-1])


def pooled(x: Tensor) -> Tensor:
    """Global average pooling (b, d, H, W) -> (b, d)."""
    return x.mean((2, 3))


class _DenseLayer(nn.Module):
    def __init__(self, before: int, growth: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(before)
        self.conv = nn.Conv2d(before, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.conv(F.relu(self.norm(x), inplace=True))], 1)


class DenseNet(nn.Module):
    """Blocks whose layers see all maps before them; a 1x1 convolution and pooling halve between."""

    def __init__(self, spec: DenseBackbone, channels: int) -> None:
        super().__init__()
        width = 2 * spec.growth
        layers: list[nn.Module] = [nn.Conv2d(channels, width, 3, padding=1, bias=False)]
        for block, count in enumerate(spec.blocks):
            if block:
                layers += [nn.BatchNorm2d(width), nn.ReLU()]
                layers += [nn.Conv2d(width, width // 2, 1, bias=False), nn.AvgPool2d(2)]
                width //= 2
            for _ in range(count):
                layers.append(_DenseLayer(width, spec.growth))
                width += spec.growth
        self.layers = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
        self.width = width

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.layers(x))


class _InvertedResidual(nn.Module):
    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        inner = 4 * before
        self.layers = nn.Sequential(
            *(nn.Conv2d(before, inner, 1, bias=False), nn.BatchNorm2d(inner), nn.SiLU()),
            nn.Conv2d(inner, inner, 3, stride, padding=1, groups=inner, bias=False),
            *(nn.BatchNorm2d(inner), nn.SiLU()),
            *(nn.Conv2d(inner, after, 1, bias=False), nn.BatchNorm2d(after)),
        )
        self.residual = stride == 1 and before == after

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x) if self.residual else self.layers(x)


class DepthwiseNet(nn.Module):
    """A stem and inverted residuals with depthwise convolutions, two a width."""

    def __init__(self, spec: DepthwiseBackbone, channels: int) -> None:
        super().__init__()
        before = spec.widths[0]
        layers: list[nn.Module] = [nn.Conv2d(channels, before, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(before), nn.SiLU()]
        for stage, after in enumerate(spec.widths):
            layers.append(_InvertedResidual(before, after, 2 if stage else 1))
            layers.append(_InvertedResidual(after, after, 1))
            before = after
        self.layers = nn.Sequential(*layers)
        self.width = before

    def forward(self, x: Tensor) -> Tensor:
        return pooled(self.layers(x))


class Mixer(nn.Module):
    """MLP-Mixer (Tolstikhin et al. 2021): patches, then MLPs across patches and across channels."""

    def __init__(self, spec: MixerBackbone, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        patches = (height // spec.patch) * (width // spec.patch)
        self.embed = nn.Conv2d(channels, spec.width, spec.patch, spec.patch)
        self.layers = nn.ModuleList()
        for _ in range(spec.depth):
            layer = nn.ModuleDict()
            layer["norm1"], layer["norm2"] = nn.LayerNorm(spec.width), nn.LayerNorm(spec.width)
            layer["tokens"] = _mlp(patches, spec.tokens)
            layer["channels"] = _mlp(spec.width, spec.hidden)
            self.layers.append(layer)
        self.norm = nn.LayerNorm(spec.width)
        self.width = spec.width

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        for layer in self.layers:
            x = x + layer["tokens"](layer["norm1"](x).mT).mT
            x = x + layer["channels"](layer["norm2"](x))
        return self.norm(x).mean(1)


def _mlp(width: int, hidden: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))


class ViT(nn.Module):
    """Vision transformer (Dosovitskiy et al. 2021): pre-norm, features of the class token."""

    def __init__(self, spec: VitBackbone, shape: tuple[int, int, int]) -> None:
        super().__init__()
        channels, height, width = shape
        patches = (height // spec.patch) * (width // spec.patch)
        self.embed = nn.Conv2d(channels, spec.width, spec.patch, spec.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.position = nn.Parameter(0.02 * torch.randn(1, patches + 1, spec.width))
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                *(spec.width, spec.heads, spec.hidden, 0.0, F.gelu),
                batch_first=True,
                norm_first=True,
            )
            for _ in range(spec.depth)
        )
        self.norm = nn.LayerNorm(spec.width)
        self.width = spec.width

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).mT
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.position
        for layer in self.layers:
            x = layer(x)
        return self.norm(x[:, 0])


class TorchvisionFeatures(nn.Module):
    """A network of torchvision up to its pooled features, without its classifier and dropout.

    The stems are those for ImageNet, also for images of 32 pixels. DenseNet121 and EfficientNetB3
    start from torch's defaults and not from torchvision's, and EfficientNetB3 has the batch norm
    and the padding of TensorFlow, all as in the official code.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        # It costs seconds of import, and only these networks need it.
        from torchvision import models

        # DenseNet121 has a head without a bias in the official code.
        self.head_bias = name != "densenet121"
        if name == "resnet18":
            whole = models.resnet18(weights=None)
            self.width = whole.fc.in_features
            whole.fc = nn.Identity()
        elif name == "densenet121":
            whole = models.densenet121(weights=None)
            self.width = whole.classifier.in_features
            whole.classifier = nn.Identity()
            _start_anew(whole)
        else:
            norm = functools.partial(nn.BatchNorm2d, eps=1e-3, momentum=0.01)
            whole = models.efficientnet_b3(weights=None, norm_layer=norm)
            self.width = whole.classifier[1].in_features
            whole.classifier = nn.Identity()
            _pad_as_tensorflow(whole)
            _start_anew(whole)
        self.network = whole

    def maps(self, x: Tensor) -> list[Tensor]:
        """The feature maps after each of the four stages of ResNet18."""
        n = self.network
        found, x = [], n.maxpool(n.relu(n.bn1(n.conv1(x))))
        for stage in (n.layer1, n.layer2, n.layer3, n.layer4):
            x = stage(x)
            found.append(x)
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


def _start_anew(network: nn.Module) -> None:
    """Draw all parameters again, by the defaults of their layers."""
    for module in network.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()


def _pad_as_tensorflow(network: nn.Module) -> None:
    """Pad convolutions of stride 2, on images of even sides, by k - 2 pixels, the odd one last."""
    for block in list(network.modules()):
        conv = block[0] if isinstance(block, nn.Sequential) else None
        if isinstance(conv, nn.Conv2d) and conv.stride == (2, 2):
            k = conv.kernel_size[0]
            conv.padding = (0, 0)
            block[0] = nn.Sequential(nn.ZeroPad2d(((k - 2) // 2, (k - 1) // 2) * 2), conv)


def build_backbone(spec: BackboneSpec, shape: tuple[int, int, int]) -> nn.Module:
    """The backbone of a specification for images of a shape (C, H, W); `.width` is d_bb.

    Raises:
        ValueError: the patches do not tile the image.
    """
    if isinstance(spec, MixerBackbone | VitBackbone):
        if shape[1] % spec.patch or shape[2] % spec.patch:
            raise ValueError(f"Patches of {spec.patch} do not tile {shape[1]}x{shape[2]} images.")
        return Mixer(spec, shape) if isinstance(spec, MixerBackbone) else ViT(spec, shape)
    if isinstance(spec, TorchvisionBackbone):
        if shape[0] != 3:
            raise ValueError(f"{spec.name} needs images with 3 channels, got {shape[0]}.")
        return TorchvisionFeatures(spec.name)
    kind = {
        StagedBackbone: StagedResNet,
        DenseBackbone: DenseNet,
        DepthwiseBackbone: DepthwiseNet,
    }[type(spec)]
    return kind(spec, shape[0])


def build_network(
    spec: LowDataSpec, shape: tuple[int, int, int], K: int, seed: int, *, peer: bool = False
) -> TwoHeaded:
    """The network of a run with its weights at the start.

    Args:
        spec: the run.
        shape: (C, H, W) of an image.
        K: number of classes.
        seed: of the weights.
        peer: the second network of a distillation instead; it has no FR head.
    """
    network = spec.peer if peer else spec.network
    # torch's own initialisation draws from the global generator: fork it, seed it, leave no trace.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(network, shape)
        refiner = None
        if spec.refiner is not None and not peer:
            head = spec.refiner
            refiner = FeatureRefiner(backbone.width, head.width, head.inner_layers, head.drop)
        normalise = Normalise(spec.mean, spec.std) if spec.mean is not None else None
        return TwoHeaded(backbone, K, refiner, spec.gate, normalise)
