"""The precision that networks compute in."""

import torch


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """A context in which convolutions and matrix products compute in the named precision.

    Parameters, gradients, batch statistics and losses stay in float32.

    Args:
        precision: bfloat16 on any device; mixed is bfloat16 where that is faster, and float32
            elsewhere; anything else is the precision of the tensors.
        device: where the tensors lie.
    """
    half = precision == "bfloat16" or (precision == "mixed" and fast_in_bfloat16(device))
    return torch.autocast(device.type, torch.bfloat16, enabled=half)


def fast_in_bfloat16(device: torch.device) -> bool:
    """Whether a device is faster in bfloat16 than in float32.

    A GPU is taken to be, and so are processors with AMX, and those of AMD with AVX512_BF16. Of the
    latter a Zen 5 was measured: ResNets count 2.0 to 2.7 times as fast as in float32, and train 1.3
    to 1.9 times as fast. On another processor with such instructions and without AMX a training
    step took 1.4 times as long; with AVX-512 alone it is three times, with AVX2 far longer.
    """
    if device.type == "cuda":
        return True
    has = torch.cpu.get_capabilities()
    return bool(
        has.get("amx_bf16") or (has.get("avx512_bf16") and "AMD" in has.get("cpu_name", ""))
    )


def in_words(device: torch.device) -> str:
    """The device as stamps name it: what mixed precision was follows from it."""
    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"{device} with bfloat16" if fast_in_bfloat16(device) else str(device)


def dtype_of(precision: str) -> torch.dtype:
    """The data type of parameters and data: float64 where it is named, else float32."""
    return torch.float64 if precision == "float64" else torch.float32
