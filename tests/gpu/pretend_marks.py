"""The mark of a tensor that pretends to be on the GPU, and the way to the other side.

The mark is an attribute of the storage, so that all tensors of a storage are on one
side, and it lasts for as long as torch keeps the storage.
"""

import weakref
from collections.abc import Iterator
from types import SimpleNamespace

import torch
from torch import Tensor

# Bytes in far storages; and whether a call with far tensors is at work, in which what
# is made from nothing is far too.
state = SimpleNamespace(bytes=0, peak=0, within=False)


def tensors(*values) -> Iterator[Tensor]:
    """Yield the tensors in nested tuples, lists and dictionaries."""
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, (tuple, list, dict)):
            yield from tensors(*(value.values() if isinstance(value, dict) else value))


def is_far(value) -> bool:
    """Return whether this is a tensor that pretends to be on the GPU."""
    try:
        return isinstance(value, Tensor) and hasattr(value.untyped_storage(), "far")
    except (NotImplementedError, RuntimeError):  # a tensor without a storage
        return False


def mark(found, far: bool = True):
    """Mark the CPU's tensors in a result as far or near, and return the result."""
    for x in tensors(found):
        if far and x.device.type == "cpu":
            mark_storage(x.untyped_storage())
        elif is_far(x) and not far:
            x.untyped_storage().far()  # counts it as freed
            del x.untyped_storage().far
    return found


def mark_storage(storage):
    """Mark a storage as far, and count its bytes for as long as it lives."""
    if not hasattr(storage, "far"):
        storage.far = weakref.finalize(storage, count, -storage.nbytes())
        count(storage.nbytes())
    return storage


def count(size: int) -> None:
    """Let the memory in use grow."""
    state.bytes += size
    state.peak = max(state.peak, state.bytes)


def side(place) -> bool | None:
    """Return True for the pretended device, False for the CPU, None for all else."""
    if isinstance(place, bool) or not isinstance(place, (str, int, torch.device)):
        return None
    device = torch.device(f"cuda:{place}" if isinstance(place, int) else place)
    if device.type == "cuda" and device.index:
        raise torch.AcceleratorError("CUDA error: invalid device ordinal")
    return {"cuda": True, "cpu": False}.get(device.type)


class Move(torch.autograd.Function):
    """Copy to the other side; the gradient goes back to the side it came from."""

    @staticmethod
    def forward(ctx, x, far):
        with torch._C.DisableTorchFunction():
            ctx.far = is_far(x)
            return mark(x.clone(), far)

    @staticmethod
    def backward(ctx, gradient):
        return Move.apply(gradient, ctx.far), None


def move(x: Tensor, far: bool | None) -> Tensor:
    """Return `x` on the side that is wanted, itself if it is there already."""
    stays = far is None or is_far(x) == far or x.device.type != "cpu"
    return x if stays else Move.apply(x, far)


def to(x: Tensor, *args, **kwargs) -> Tensor:
    """`Tensor.to`: type and layout as on the CPU, then over to the other side."""
    wanted = None
    for value in (*args, *kwargs.values()):
        wanted = is_far(value) if isinstance(value, Tensor) else wanted
        wanted = wanted if side(value) is None else side(value)
    args = ["cpu" if side(value) else value for value in args]
    kwargs = {key: "cpu" if side(value) else value for key, value in kwargs.items()}
    return move(Tensor.to(x, *args, **kwargs), wanted)
