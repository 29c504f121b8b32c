"""The precision that networks compute in."""

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products compute in the named precision.

    Parameters, gradients, batch statistics and losses stay in float32.

    Args:
        precision: bfloat16 on any device; mixed is bfloat16 on a GPU and float32 on a CPU; anything
            else is the precision of the tensors.
        device: where the tensors lie.
    """
    half = precision == "bfloat16" or (precision == "mixed" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def dtype_of(precision: str) -> torch.dtype:
    """The data type of parameters and data: float64 where it is named, else float32."""
    return torch.float64 if precision == "float64" else torch.float32
