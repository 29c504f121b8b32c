"""Networks of one shape as one, whose layers compute all of them at once.

A layer of a network with a few thousand weights takes a processor longer to start than to compute.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from replica.models.classifiers import Normalise

Output = Tensor | Sequence["Output"]


class Linears(nn.Module):
    """Linear layers of one shape side by side: features (b, S d) to (b, S k)."""

    def __init__(self, S: int, d: int, k: int, bias: bool) -> None:
        super().__init__()
        self.S = S
        self.weight = nn.Parameter(torch.empty(S * k, d))
        self.bias = nn.Parameter(torch.empty(S * k)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        weights = self.weight.unflatten(0, (self.S, -1)).mT
        y = (x.unflatten(1, (self.S, -1)).transpose(0, 1) @ weights).transpose(0, 1).flatten(1)
        return y if self.bias is None else y + self.bias


class Stack(nn.Module):
    """S networks of convolutions, batch norm, linear layers and layer norm, as one.

    The channels of all networks lie side by side, and so do their features and logits. Each weight
    is those of the networks, concatenated in the first dimension.

    Args:
        networks: of one shape, which map images (b, C, H, W) to tensors (b, ...) or lists of them;
            whatever else they do must act on each channel alone.
    """

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.S = len(networks)
        self.network = copy.deepcopy(networks[0])
        with torch.device("meta"):
            _widen(self.network, self.S)
        states = [network.state_dict() for network in networks]
        # A count of batches has no dimension, and is the same in all of them.
        joined = {
            name: torch.cat([state[name] for state in states]) if value.dim() else value.clone()
            for name, value in states[0].items()
        }
        self.network.load_state_dict(joined, assign=True)

    def forward(self, x: Tensor) -> list[Output]:
        """The output of each network, from (S b, C, H, W): first the images of the first one."""
        x = x.unflatten(0, (self.S, -1)).transpose(0, 1).flatten(1, 2)
        x = x.contiguous(memory_format=torch.channels_last)
        return _split(self.network(x), self.S)

    def unstack(self, networks: Sequence[nn.Module]) -> None:
        """Give each network its part of all weights."""
        parts = {
            name: value.chunk(self.S) if value.dim() else (value,) * self.S
            for name, value in self.network.state_dict().items()
        }
        for s, network in enumerate(networks):
            network.load_state_dict({name: own[s] for name, own in parts.items()})


def _widen(module: nn.Module, S: int) -> None:
    """Make all layers below `module` those of S networks, without values."""
    for name, layer in module.named_children():
        match layer:
            case nn.Conv2d():
                wide = nn.Conv2d(
                    *(S * layer.in_channels, S * layer.out_channels, layer.kernel_size),
                    *(layer.stride, layer.padding),
                    groups=S * layer.groups,
                    bias=layer.bias is not None,
                )
            case nn.BatchNorm2d():
                wide = nn.BatchNorm2d(S * layer.num_features)
            case nn.Linear():
                wide = Linears(S, layer.in_features, layer.out_features, layer.bias is not None)
            case nn.LayerNorm():
                # The features of one network are one group.
                wide = nn.GroupNorm(S, S * layer.normalized_shape[0])
            case Normalise():
                wide = Normalise(
                    layer.mean.flatten().tolist() * S, layer.std.flatten().tolist() * S
                )
            case _:
                _widen(layer, S)
                continue
        setattr(module, name, wide)


def _split(output: Output, S: int) -> list[Output]:
    """What each network gives, from the outputs side by side."""
    if isinstance(output, Tensor):
        return list(output.chunk(S, 1))
    return list(zip(*(_split(part, S) for part in output), strict=True))
