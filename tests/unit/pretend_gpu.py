"""A GPU that is not there: tensors that say they are on `cuda:0`, computed with on the processor.

In the block `pretend_gpu()` the tensors of both devices lie in the memory of the processor, and
which of them are on the GPU is written on their storage. Above autograd (`_Said`), devices that
code names are noted and taken out of the call, and `device` answers with what was noted. Below it
(`_Done`), an operation, also one of a backward pass, is refused where a GPU would refuse it, and
its results are noted.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

CPU, GPU = torch.device("cpu"), torch.device("cuda", 0)
GIB = 2**30
aten = torch.ops.aten

# Tensors of both devices may meet in a copy.
COPIES = {aten.copy_, aten._to_copy}
# The indices of these may lie on the processor while what they index does not, and so may a number.
INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_, aten._unsafe_index}
# A number on the processor may meet tensors on a GPU in elementwise operations, and in these.
WITH_NUMBERS = {aten.where, aten.masked_fill, aten.masked_fill_, aten.fill_, aten.fill}
# CUDA has no products of whole numbers.
PRODUCTS = {aten.mm, aten.bmm, aten.addmm, aten.baddbmm, aten.mv, aten.addmv, aten.dot}
NUMPY = (
    "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host "
    "memory first."
)


def is_cuda(device: object) -> bool:
    return torch.device(device).type == "cuda"


def _place(tensor: Tensor) -> bool | None:
    """Whether a tensor is on the pretended GPU; None: made inside of torch, it may be anywhere."""
    return getattr(tensor.untyped_storage(), "on_gpu", False)


def on_gpu(tensor: Tensor) -> bool:
    """Whether a tensor is on the pretended GPU."""
    return bool(_place(tensor))


def _note(tensor: Tensor, place: bool | None) -> Tensor:
    tensor.untyped_storage().on_gpu = place
    return tensor


def _tensors(*values: object) -> list[Tensor]:
    return [x for x in tree_leaves(values) if isinstance(x, Tensor)]


def _shares(tensor: Tensor, others: list[Tensor]) -> bool:
    """Whether it is a view of one of the others, or one of them."""
    return tensor.untyped_storage()._cdata in {x.untyped_storage()._cdata for x in others}


# --------------------------------------------------------------------------------------
# Below autograd


class _Done(TorchDispatchMode):
    """Refuses what a GPU refuses, and notes where the results of an operation are."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = _tensors(args, kwargs)
        places = {_place(x) for x in given} - {None}
        _refuse(func, args, given)
        out = func(*args, **(kwargs or {}))
        for made in _tensors(out):
            if not _shares(made, given):
                _note(made, max(places, default=None))
        return out


def _refuse(func: Any, args: Any, given: list[Tensor]) -> None:
    """Raise where tensors of two devices meet, and where CUDA does not know the type."""
    packet, there = func.overloadpacket, [x for x in given if on_gpu(x)]
    if there and packet in PRODUCTS and not given[0].is_floating_point():
        raise NotImplementedError(f'"{packet}" not implemented for {given[0].dtype} on CUDA')
    elsewhere = [x for x in given if _place(x) is False]
    if not there or not elsewhere or packet in COPIES:
        return
    numbers = torch.Tag.pointwise in func.tags or packet in WITH_NUMBERS
    if packet in INDEXING and on_gpu(args[0]):
        elsewhere = [x for x in elsewhere if not any(x is index for index in args[1])]
        numbers = True
    if not (numbers and all(x.dim() == 0 for x in elsewhere)):
        raise RuntimeError(
            f"Expected all tensors to be on the same device, but {func} found some on cuda:0 and "
            f"some on cpu; shapes {[tuple(x.shape) for x in given]}."
        )


# --------------------------------------------------------------------------------------
# Above autograd


class _Said(TorchFunctionMode):
    """Takes devices out of calls, and answers where a tensor is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func in ANSWERS:
            return ANSWERS[func](args[0])
        if func in (Tensor.numpy, Tensor.__array__) and on_gpu(args[0]):
            raise TypeError(NUMPY)
        if func in (Tensor.cpu, Tensor.cuda):
            return _moved(args[0], func is Tensor.cuda)
        if func is Tensor.to:
            return _to(*args, **kwargs)
        given = _tensors(args, kwargs)
        device = kwargs.pop("device", None)
        gpu = any(map(on_gpu, given)) if device is None else is_cuda(device)
        generator = kwargs.get("generator")
        if generator is not None and is_cuda(generator.device) != gpu:
            raise RuntimeError(
                f"Expected a '{'cuda' if gpu else 'cpu'}' device type for generator but found "
                f"'{generator.device.type}' in {func.__name__}."
            )
        out = func(*args, **kwargs)
        for made in _tensors(out):
            if _place(made) is None:
                _note(made, gpu)
        # `torch.as_tensor` of a tensor is the tensor itself.
        return out if device is None else _moved(out, gpu)


class _Copy(torch.autograd.Function):
    """A copy on a device; the gradient goes the other way."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor, gpu: bool) -> Tensor:
        ctx.came_from_gpu = on_gpu(tensor)
        return _note(tensor.clone(), gpu)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _moved(gradient, ctx.came_from_gpu), None


def _moved(tensor: Tensor, gpu: bool, **more: Any) -> Tensor:
    """The tensor in another type or layout, and on a device: by a copy where it was elsewhere."""
    found = tensor.to(**more) if more else tensor
    return found if on_gpu(found) == gpu else _Copy.apply(found, gpu)


def _to(tensor: Tensor, *to: Any, **more: Any) -> Tensor:
    """`Tensor.to` with any of its arguments."""
    device, dtype = more.pop("device", None), more.pop("dtype", None)
    for value in to:
        if isinstance(value, Tensor):
            device, dtype = GPU if on_gpu(value) else CPU, value.dtype
        elif isinstance(value, torch.dtype):
            dtype = value
        elif isinstance(value, str | torch.device):
            device = value
    more["dtype"] = tensor.dtype if dtype is None else dtype
    return _moved(tensor, on_gpu(tensor) if device is None else is_cuda(device), **more)


ANSWERS = {
    Tensor.device.__get__: lambda tensor: GPU if on_gpu(tensor) else CPU,
    Tensor.is_cuda.__get__: on_gpu,
    Tensor.is_cpu.__get__: lambda tensor: not on_gpu(tensor),
    Tensor.get_device: lambda tensor: 0 if on_gpu(tensor) else -1,
}


class Generator(torch._C.Generator):
    """A generator that knows which device it is for, and draws other numbers on each."""

    def __new__(cls, device: torch.device | str = "cpu") -> "Generator":
        made = super().__new__(cls, "cpu")
        made.where = torch.device(device)
        return made

    @property
    def device(self) -> torch.device:
        return self.where

    def manual_seed(self, seed: int) -> "Generator":
        super().manual_seed(seed ^ is_cuda(self.where))
        return self


class Autocast(torch.autocast):
    """The autocast of the processor in place of that of a GPU."""

    def __init__(self, device_type: str, *args: Any, **kwargs: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **kwargs)


# --------------------------------------------------------------------------------------


@contextmanager
def pretend_gpu(free: float = 100 * GIB) -> Iterator[torch.device]:
    """A block in which there is a GPU.

    Args:
        free: bytes that it has.
    """
    properties = SimpleNamespace(uuid="pretended", name="Pretended", total_memory=int(free))
    of_cuda = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "get_device_properties": lambda device=None: properties,
        "get_device_name": lambda device=None: properties.name,
        "mem_get_info": lambda device=None: (int(free), int(free)),
        "memory_reserved": lambda device=None: 0,
        "memory_allocated": lambda device=None: 0,
        "max_memory_allocated": lambda device=None: 0,
        "synchronize": lambda device=None: None,
        "manual_seed_all": lambda seed: None,
    }
    with ExitStack() as stack:
        for name, function in of_cuda.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch, "autocast", Autocast))
        stack.enter_context(_Done())
        stack.enter_context(_Said())
        yield GPU
