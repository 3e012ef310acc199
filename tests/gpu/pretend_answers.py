"""What torch's Python side is told about the pretended GPU and the tensors on it."""

import functools
from types import SimpleNamespace

import torch
from pretend_marks import is_far, mark, mark_storage, side, state, to
from torch import Tensor

CUDA, NAME, TOTAL = torch.device("cuda", 0), "Pretended GPU", 16 * 2**30


def set_grad(x: Tensor, value) -> None:
    """`x.grad = value`."""
    if isinstance(value, Tensor) and is_far(value) != is_far(x):
        kinds = ("cpu", "cuda") if is_far(x) else ("cuda", "cpu")
        raise RuntimeError(
            "attempting to assign a gradient with device type '{}' to a tensor with"
            " device type '{}'. Please ensure that the gradient and the tensor are on"
            " the same device".format(*kinds)
        )
    Tensor.grad.__set__(x, value)


def array(func, x: Tensor, *args, force: bool = False, **kwargs):
    """What gives a tensor to NumPy."""
    if is_far(x) and not force:
        words = "can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() to"
        raise TypeError(f"{words} copy the tensor to host memory first.")
    return func(x, *args, **kwargs)


def kind(x: Tensor, *args, **kwargs) -> str | Tensor:
    """`Tensor.type`."""
    found = Tensor.type(x, *args, **kwargs)
    named = isinstance(found, str) and is_far(x)
    return found.replace("torch.", "torch.cuda.") if named else found


def text(x: Tensor, **kwargs) -> str:
    """`repr` of a tensor."""
    found = Tensor.__repr__(x, **kwargs)
    return f"{found[:-1]}, device='{CUDA}')" if is_far(x) else found


ANSWERS = {
    Tensor.device.__get__: lambda x: CUDA if is_far(x) else x.device,
    Tensor.is_cuda.__get__: is_far,
    Tensor.is_cpu.__get__: lambda x: x.is_cpu and not is_far(x),
    Tensor.get_device: lambda x: 0 if is_far(x) else x.get_device(),
    Tensor.grad.__get__: lambda x: mark(x.grad) if is_far(x) else x.grad,
    Tensor.grad.__set__: set_grad,
    Tensor.to: to,
    Tensor.type_as: to,
    Tensor.cuda: lambda x, device=None, *_, **__: to(x, device or CUDA),
    Tensor.cpu: lambda x, **kwargs: to(x, "cpu", **kwargs),
    Tensor.numpy: functools.partial(array, Tensor.numpy),
    Tensor.__array__: functools.partial(array, Tensor.__array__),
    Tensor.type: kind,
    Tensor.__repr__: text,
}


class Generator(torch._C.Generator):
    """`torch.Generator`, which may pretend to be the GPU's."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls, device="cpu")
        made.place = CUDA if side(device) else torch.device(device)
        return made

    device = property(lambda self: self.place)


def pin_memory(x: Tensor, device=None) -> Tensor:
    """`Tensor.pin_memory`, which a DataLoader calls in another thread."""
    if is_far(x):
        words = "only dense CPU tensors can be pinned"
        raise RuntimeError(f"cannot pin '{x.type()}' {words}")
    return x.clone()


def groups(lists: list, with_indices: bool = False) -> dict:
    """What optimisers call to sort tensors by device and type."""
    found = {}
    for i, first in enumerate(lists[0]):
        fresh = ([[] for _ in lists], [])
        columns, rows = found.setdefault((first.device, first.dtype), fresh)
        for column, values in zip(columns, lists, strict=True):
            column += values[i : i + 1]
        rows += [i] if with_indices else []
    return found


def answer(names: str, value) -> dict:
    """Return a function of each name that always gives this answer."""
    return {name: lambda *_, **__: value for name in names.split()}


CARD = SimpleNamespace(name=NAME, major=8, minor=0, total_memory=TOTAL)
NOTHING = "set_device synchronize empty_cache manual_seed manual_seed_all"
FAKES = [  # place, and what stands there under these names
    (torch.cuda, answer("is_available is_bf16_supported", True)),
    (torch.cuda, answer(NOTHING, None)),
    (torch.cuda, answer("current_device _exchange_device _maybe_exchange_device", 0)),
    (torch.cuda, answer("device_count", 1)),
    (torch.cuda, answer("is_current_stream_capturing", False)),
    (torch.cuda, answer("get_device_name", NAME)),
    (torch.cuda, answer("get_device_capability", (8, 0))),
    (torch.cuda, answer("get_device_properties", CARD)),
    (torch.cuda, dict(
        get_rng_state=lambda *_: torch.get_rng_state(),
        set_rng_state=lambda new, *_: torch.set_rng_state(new),
        memory_allocated=lambda *_: state.bytes,
        max_memory_allocated=lambda *_: state.peak,
        reset_peak_memory_stats=lambda *_: setattr(state, "peak", state.bytes),
        mem_get_info=lambda *_: (TOTAL - state.bytes, TOTAL),
    )),
    (torch.accelerator, answer("is_available", True)),
    (torch.accelerator, answer("current_accelerator", CUDA)),
    (torch.accelerator, answer("current_device_index", 0)),
    (torch.accelerator, answer("set_device_index", None)),
    (torch.accelerator, answer("current_stream", SimpleNamespace(is_capturing=bool))),
    (torch.backends.cudnn, answer("is_acceptable", False)),
    (torch.autograd, answer("has_torch_function", False)),  # `Calls` shall stay on
    (torch._C, dict(_group_tensors_by_device_and_dtype=groups)),
    (torch, dict(Generator=Generator)),
    (Tensor, dict(pin_memory=pin_memory)),
]  # fmt: skip

STORAGES = (  # how `torch.save` names the place of a storage, and `load` puts it there
    5,  # asked before the CPU's
    lambda storage: "cuda:0" if hasattr(storage, "far") else None,
    lambda storage, place: mark_storage(storage) if side(place) else None,
)
