"""The precision that networks compute in."""

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products compute in the named precision.

    Parameters, gradients, batch statistics and losses stay in float32.

    Args:
        precision: bfloat16 on any device; mixed is bfloat16 where that is faster, on a GPU and on a
            CPU with AMX, and float32 elsewhere; anything else is the precision of the tensors.
        device: where the tensors lie.
    """
    half = precision == "bfloat16" or (precision == "mixed" and fast_in_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device has units for matrix products in bfloat16.

    Without AMX a processor converts, and takes 1.4 times as long as in float32 (AVX-512 with
    instructions for bfloat16), three times (AVX-512) or far longer (AVX2).
    """
    return device.type == "cuda" or bool(torch.cpu.get_capabilities().get("amx_bf16", False))


def in_words(device: torch.device) -> str:
    """The device as stamps name it: what mixed precision was follows from it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} with AMX" if fast_in_bfloat16(device) else str(device)


def dtype_of(precision: str) -> torch.dtype:
    """The data type of parameters and data: float64 where it is named, else float32."""
    return torch.float64 if precision == "float64" else torch.float32
