"""Networks that end in fully connected layers without bias, and their gradients by the chain rule.

    Φ_0 = body(x)     z_l = W_l Φ_{l-1}     Φ_l = ReLU(z_l), l = 1..L     f = R Φ_L

(Beaglehole et al. 2024, appendix D.) In the notebook of the official code z_l has a bias, and Φ_l =
ReLU(BN_l(z_l)) with batch normalisation.
"""

import math

import torch
from torch import Tensor, nn

from replica.kinds.kernels import ConvBody, ObservedNetworkSpec
from replica.kinds.low_data import StagedBackbone
from replica.models.backbones import build_backbone


class ObservedNetwork(nn.Module):
    """A body and a head; see the top of this module.

    Attributes:
        body: images to features (b, d_0).
        layers: W_1..W_L.
        norms: BN_1..BN_L; the identity where there is no batch normalisation.
        readout: R.
    """

    def __init__(
        self, body: nn.Module, d: int, layers: int, width: int, K: int, batch_norm: bool = False
    ) -> None:
        super().__init__()
        self.body = body
        inputs = [d] + [width] * (layers - 1)
        self.layers = nn.ModuleList(nn.Linear(i, width, bias=batch_norm) for i in inputs)
        norms = (nn.BatchNorm1d(width) if batch_norm else nn.Identity() for _ in inputs)
        self.norms = nn.ModuleList(norms)
        self.readout = nn.Linear(width, K, bias=False)

    def activations(self, x: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Φ_0..Φ_L and z_1..z_L, each (b, .)."""
        features, before = [self.body(x)], []
        for layer, norm in zip(self.layers, self.norms, strict=True):
            before.append(layer(features[-1]))
            features.append(torch.relu(norm(before[-1])))
        return features, before

    def forward(self, x: Tensor) -> Tensor:
        return self.readout(self.activations(x)[0][-1])


def gradients_before_relu(network: ObservedNetwork, features: list[Tensor]) -> list[Tensor]:
    """∂f_k/∂z_l of each sample and output k, for l = 1..L: (b, K, width), by the chain rule.

    The gradient with respect to the input of layer l is W_lᵀ times that. Batch normalisation is
    that of a network in evaluation, a fixed scale.

    Args:
        network: the network.
        features: Φ_0..Φ_L of the samples.
    """
    g = network.readout.weight
    found = []
    for layer in reversed(range(len(network.layers))):
        g = g * (features[layer + 1] > 0)[:, None, :]
        norm = network.norms[layer]
        if isinstance(norm, nn.BatchNorm1d):
            g = g * (norm.weight * (norm.running_var + norm.eps).rsqrt())
        found.append(g)
        g = g @ network.layers[layer].weight
    return found[::-1]


def build_observed_network(
    spec: ObservedNetworkSpec, shape: tuple[int, ...], K: int, seed: int
) -> ObservedNetwork:
    """The network of a run with its weights at the start.

    Args:
        spec: the run.
        shape: of a sample: (C, H, W), or (d,) for points.
        K: number of classes.
        seed: of the weights.

    Raises:
        ValueError: a body of convolutions and samples that are no images.
    """
    if spec.body is not None and len(shape) != 3:
        raise ValueError(f"{spec.dataset} has no images, and {spec.body.kind} needs them.")
    # torch's own initialisation draws from the global generator: fork it, seed it, leave no trace.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        body, d = _body(spec, shape)
        network = ObservedNetwork(body, d, spec.layers, spec.width, K, spec.batch_norm)
        # Behind a body the first layer, and the read-out everywhere, start as torch starts them.
        if spec.gain is not None:
            for layer in network.layers[spec.body is not None :]:
                nn.init.xavier_uniform_(layer.weight, spec.gain)
    return network


def _body(spec: ObservedNetworkSpec, shape: tuple[int, ...]) -> tuple[nn.Module, int]:
    """The body and the number of its features."""
    if spec.body is None:
        return nn.Flatten(), math.prod(shape)
    channels = shape[0]
    if isinstance(spec.body, StagedBackbone):
        backbone = build_backbone(spec.body, shape)
        return backbone, backbone.width
    if isinstance(spec.body, ConvBody):
        layers: list[nn.Module] = []
        for position, width in enumerate(spec.body.channels):
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            if position < len(spec.body.channels) - 1:
                layers.append(nn.MaxPool2d(2))
            channels = width
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten()), 4 * channels
    from torchvision import models

    if spec.body.name == "resnet18":
        whole = models.resnet18(weights=None)
        whole.conv1 = nn.Conv2d(channels, 64, 7, 2, 3, bias=False)
        whole.fc = nn.Identity()
        return whole, 512
    features = models.vgg11(weights=None).features[:15]
    features[0] = nn.Conv2d(channels, 64, 3, 1, 1, bias=False)
    return nn.Sequential(features, nn.AdaptiveAvgPool2d(4), nn.Flatten()), 8192
