"""Features of named layers of a network, taken with forward hooks."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn


@contextmanager
def capture(model: nn.Module, layers: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Within the block each forward pass of `model` fills the dictionary: layer -> its output.

    Args:
        model: any module.
        layers: names as in `model.named_modules()`.

    Raises:
        ValueError: a layer does not exist; names those that do.
    """
    modules = dict(model.named_modules())
    if unknown := [layer for layer in layers if layer not in modules]:
        names = ", ".join(name for name in modules if name)
        raise ValueError(f"There are no layers {', '.join(unknown)}; there are {names}.")
    outputs: dict[str, Tensor] = {}

    def keep(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            outputs[name] = output.detach()

        return hook

    handles = [modules[layer].register_forward_hook(keep(layer)) for layer in layers]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()
