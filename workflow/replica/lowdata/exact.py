"""Results without training: parameter counts, and the gradient of each head in the backbone."""

import pandas as pd
import torch
from torch.nn import functional as F

from replica.kinds.low_data import MixerBackbone, StagedBackbone, TorchvisionBackbone, VitBackbone
from replica.models.backbones import BackboneSpec, build_backbone
from replica.models.refiner import FeatureRefiner, TwoHeaded, parameter_count

RESNET18 = StagedBackbone(kind="staged_resnet", widths=[64, 128, 256, 512], blocks=[2, 2, 2, 2])
# Network, classes, and d_fr of the runs of the paper.
NETWORKS: list[tuple[str, BackboneSpec, int, int | None]] = [
    ("ResNet18, CIFAR10", RESNET18, 10, 64),
    ("ResNet18, CIFAR100", RESNET18, 100, 64),
    ("ResNet18, Caltech101", TorchvisionBackbone(kind="torchvision", name="resnet18"), 101, 256),
    ("ResNet34, CIFAR10",
     StagedBackbone(kind="staged_resnet", widths=[64, 128, 256, 512], blocks=[3, 4, 6, 3]), 10, 64),
    ("DenseNet121, CIFAR10", TorchvisionBackbone(kind="torchvision", name="densenet121"), 10, 64),
    ("EfficientNetB3, CIFAR10",
     TorchvisionBackbone(kind="torchvision", name="efficientnet_b3"), 10, 50),
    ("MLPMixer, CIFAR10",
     MixerBackbone(kind="mixer", patch=4, width=768, depth=12, tokens=384, hidden=3072), 10, None),
    ("ViT-B16, CIFAR10",
     VitBackbone(kind="vit", patch=4, width=768, depth=12, heads=12, hidden=3072), 10, None),
]  # fmt: skip
LAYERS = (1, 2, 3, 4, 5)


def parameters() -> pd.DataFrame:
    """Trainable parameters of the networks of the paper, by part.

    Returns:
        Columns model, part, parameters and percent (of the network at test time); at the end the
        refiner of ResNet18 on CIFAR10 with one to five inner layers.
    """
    rows = []
    with torch.device("meta"):
        for model, spec, K, d_fr in NETWORKS:
            backbone = build_backbone(spec, (3, 32, 32))
            refiner = FeatureRefiner(backbone.width, d_fr) if d_fr else None
            network = TwoHeaded(backbone, K, refiner)
            test = parameter_count(network.at_test_time())
            counts = {"backbone": parameter_count(backbone)}
            counts["original head"] = parameter_count(network.original)
            if refiner is not None:
                counts["FR without fc"] = parameter_count(refiner)
                counts["fc of FR"] = parameter_count(network.extra)
            counts |= {"training": parameter_count(network), "test time": test}
            rows += [
                {"model": model, "part": part, "parameters": count, "percent": 100 * count / test}
                for part, count in counts.items()
            ]
        whole = parameter_count(TwoHeaded(build_backbone(RESNET18, (3, 32, 32)), 10))
        for inner in LAYERS:
            count = parameter_count(FeatureRefiner(512, 64, inner))
            rows.append(
                {"model": "FR 512 to 64", "part": f"{inner} inner layers", "parameters": count,
                 "percent": 100 * count / whole}
            )  # fmt: skip
    return pd.DataFrame(rows)


def head_gradients(seed: int = 0) -> pd.DataFrame:
    """Gradients in the backbone of ResNet18 with FR (512 to 64) on eight random images.

    Returns:
        A row for each parameter of the backbone, gate m in {0, 1} and loss (original: CE(z_orig),
        extra: CE(z_FR), total: their sum): `norm` of its gradient and `difference`, the norm of
        the gradient of the total minus that of the extra loss, relative to the latter. float64.
    """
    rows = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        backbone = build_backbone(RESNET18, (3, 32, 32))
        refiner = FeatureRefiner(512, 64)
        network = TwoHeaded(backbone, 10, refiner).double()
        x, y = torch.rand(8, 3, 32, 32, dtype=torch.float64), torch.randint(10, (8,))
    names, parameters = zip(*backbone.named_parameters(), strict=True)
    for gate in (0.0, 1.0):
        network.gate = gate
        z_orig, z_fr = network(x)
        losses = {"original": F.cross_entropy(z_orig, y), "extra": F.cross_entropy(z_fr, y)}
        losses["total"] = losses["original"] + losses["extra"]
        gradients = {
            loss: torch.autograd.grad(value, parameters, retain_graph=True, materialize_grads=True)
            for loss, value in losses.items()
        }
        for loss, values in gradients.items():
            for name, own, extra in zip(names, values, gradients["extra"], strict=True):
                away = torch.linalg.vector_norm(own - extra) / torch.linalg.vector_norm(extra)
                rows.append(
                    {"seed": seed, "gate": gate, "loss": loss, "parameter": name,
                     "norm": torch.linalg.vector_norm(own).item(), "difference": away.item()}
                )  # fmt: skip
    return pd.DataFrame(rows)
