"""What ran, in words: the network, its head and its training, from a run's specification."""

from replica.kinds.low_data import (
    DenseBackbone,
    DepthwiseBackbone,
    LowDataSpec,
    MixerBackbone,
    StagedBackbone,
    TorchvisionBackbone,
)

PUBLISHED_WIDTHS = [64, 128, 256, 512]


def network(spec: LowDataSpec) -> str:
    """The backbone, as `ResNet18`, or `ResNet8 (widths 16, 32, 64)`: a name, then its sizes.

    A ResNet is called by its layers: the stem, two or three a block, and the classifier.
    """
    own = spec.network
    match own:
        case StagedBackbone():
            layers = 2 + (3 if own.bottleneck else 2) * sum(own.blocks)
            name = f"ResNet{layers}"
            return name if own.widths == PUBLISHED_WIDTHS else f"{name} (widths {_of(own.widths)})"
        case DenseBackbone():
            return f"dense net (growth {own.growth}, blocks {_of(own.blocks)})"
        case DepthwiseBackbone():
            return f"depthwise net (widths {_of(own.widths)})"
        case TorchvisionBackbone():
            names = {"resnet18": "ResNet18", "densenet121": "DenseNet121"}
            return names.get(own.name, "EfficientNetB3")
        case MixerBackbone():
            return f"MLP-Mixer (patch {own.patch}, width {own.width}, depth {own.depth})"
        case _:
            return f"ViT (patch {own.patch}, width {own.width}, depth {own.depth})"


def head(spec: LowDataSpec) -> str:
    """The width of the FR head; "" of a network without one."""
    return "" if spec.refiner is None else f"d_fr = {spec.refiner.width}"


def training(spec: LowDataSpec) -> str:
    """How long and how fast a run is trained, as `rate 0.02, 700 steps`."""
    length = f"{spec.steps} steps" if spec.epochs is None else f"{spec.epochs} epochs"
    optimiser = "AdamW, " if spec.optimiser == "adamw" else ""
    return f"{optimiser}rate {spec.lr:g}, {length}"


def _of(sizes: list[int]) -> str:
    return ", ".join(map(str, sizes))
