"""A pretended GPU: run code for CUDA on the CPU, and fail where CUDA would fail.

    with pretended_gpu():
        model.to("cuda")(x)  # RuntimeError: Expected all tensors to be on the same ...

Inside, torch finds one CUDA device. What is put there is computed on the CPU but *far*:
the mark sits on the tensor's storage, which views, `detach`, `.data`, what autograd
saves and `torch.save` share. Two modes work together. `Kernels` sees every operation
below autograd, in a backward pass too: it carries the mark from inputs to results and
refuses what mixes far and near tensors. `Calls` sees every call from Python: it answers
`.device`, turns device="cuda" into a mark, and refuses `.numpy()` and generators of the
other side. Refusals are in CUDA's words, as they stand in torch's libraries.

Autocast for CUDA becomes CPU autocast in the same type around each call with a far
tensor: truly in bfloat16, but by CPU autocast's lists of operations. Both sides draw
from the CPU's random numbers, so that results are bit-equal to a run on the CPU.

Not pretended: streams, events, a second device, other threads, sparse tensors, packed
sequences, DLPack, TorchScript, torch.func, torch.compile, CUDA's own rounding and
random numbers; and nothing is refused in what runs within a backward pass.
"""

import functools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
import torch._dynamo  # optimisers import it late, and it must not find the fakes
import torch.nn.functional as F
from pretend_answers import ANSWERS, FAKES, STORAGES, kind
from pretend_marks import is_far, mark, move, side, state, tensors
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils import _device
from torch.utils._python_dispatch import TorchDispatchMode

CROSSING = {"copy_", "_foreach_copy_"}  # from one device to another
BY_INDEX = {"index", "index_put", "_index_put_impl", "_unsafe_index"}
# These take a single number from any device; the pointwise operations and masked_fill
# take one from the CPU.
TAKE_NUMBER = {"fill", "index_fill", "index_put", "_index_put_impl"}
# Matrix products that CUDA has for floating-point numbers only, under its names.
NO_INTEGERS = dict(mm="addmm_cuda", addmm="addmm_cuda", mv="addmv_impl_cuda", dot="dot")
NO_INTEGERS |= dict(bmm="baddbmm_cuda", baddbmm="baddbmm_cuda", addmv="addmv_impl_cuda")
MIXED = "Expected all tensors to be on the same device, but"
FROM_DATA = {torch.tensor, torch.as_tensor, torch.asarray, Tensor.new_tensor}


class Kernels(TorchDispatchMode):
    """Carries the mark from inputs to results, and refuses mixtures."""

    @classmethod
    def _should_skip_dynamo(cls):  # its wrapper would slow each operation
        return False

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        with torch._C.DisableTorchFunction():
            kwargs, name = kwargs or {}, op._schema.name.partition("::")[2]
            if name in CROSSING:
                return op(*args, **kwargs)
            if torch.is_inference_mode_enabled():  # else autograd takes calls apart
                with self:
                    found = op.decompose(*args, **kwargs)
                if found is not NotImplemented:
                    return found
            given = [is_far(x) for x in tensors(args, kwargs)]
            far, name = any(given) if given else state.within, name.rstrip("_")
            # Going back, autograd makes zeros of its own, which nobody could mark.
            if any(given) and torch._C._current_graph_task_id() < 0:
                if not all(given):
                    refuse_mixture(op, name, args, kwargs)
                    far = is_far(args[0]) or name not in TAKE_NUMBER
                refuse_missing(op.name(), name, args)
            found = op(*args, **kwargs)
            return mark(found) if far else found


def refuse_mixture(op, name: str, args: tuple, kwargs: dict) -> None:
    """Raise what CUDA raises if these arguments, some of them far, do not mix."""
    if name in BY_INDEX and not is_far(args[0]) and any(map(is_far, tensors(args[1]))):
        words = "indices should be either on cpu or on the same device as the indexed"
        raise RuntimeError(f"{words} tensor (cpu)")
    pointwise = torch.Tag.pointwise in op.tags or name.startswith("_foreach")
    numbers = pointwise or name == "masked_fill"
    places = []  # name and side of all that have to agree
    for i, formal in enumerate(op._schema.arguments):
        value = args[i] if i < len(args) else kwargs.get(formal.name)
        kept = formal.alias_info is not None and formal.alias_info.is_write
        for x in tensors(value):
            number = name in TAKE_NUMBER or (numbers and not is_far(x))
            free = number and x.dim() == 0 and not kept
            free = free or (name in BY_INDEX and formal.name == "indices")
            if not free and x.device.type == "cpu":
                places.append((formal.name, is_far(x)))
    stray, far = next((p for p in places if p[1] != places[0][1]), (None, None))
    if stray and name == "convolution":
        kinds = kind(args[0]), stray, kind(args[1 if stray == "weight" else 2])
        words = "Input type ({}) and {} type ({}) should be the same"
        raise RuntimeError(words.format(*kinds))
    words = "found at least two devices, cuda:0 and cpu!"
    if not pointwise:
        here, there = ("cuda:0", "cpu") if far else ("cpu", "cuda:0")
        words = f"got {stray} is on {here}, different from other tensors on {there}"
        words += f" (when checking argument in method wrapper_CUDA_{name})"
    if stray:
        raise RuntimeError(f"{MIXED} {words}")


def refuse_missing(full_name: str, name: str, args: tuple) -> None:
    """Raise what CUDA raises for operations that it lacks, wholly or for integers."""
    if not has_kernel(full_name):
        words = f"Could not run {full_name!r} with arguments from the 'CUDA' backend."
        raise NotImplementedError(words)
    x = args[0]
    if name in NO_INTEGERS and not (x.is_floating_point() or x.is_complex()):
        word = x.type().removeprefix("torch.").removesuffix("Tensor")
        raise RuntimeError(f"\"{NO_INTEGERS[name]}\" not implemented for '{word}'")


@functools.cache
def has_kernel(name: str) -> bool:
    """Return whether this build of torch has an operation for CUDA, if it can tell."""
    own = "mkldnn" in name or "cpu" in name  # for these CUDA has others
    known = torch._C._dispatch_has_computed_kernel_for_dispatch_key
    return own or not torch.version.cuda or known(name, "CUDA")


class Calls(TorchFunctionMode):
    """Answers for far tensors, and tells each call on which side it is."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if func is Tensor.backward:
            kwargs["grad_tensors"] = kwargs.pop("gradient", None)
            with self:  # hooks and checkpoints run Python code on the way back
                return torch.autograd.backward(*args, **kwargs)
        if func in ANSWERS:
            return ANSWERS[func](*args, **kwargs)
        place = kwargs.get("device")
        if place is None and func in _device._device_constructors():
            place = _device.CURRENT_DEVICE  # as in `with torch.device("cuda")`
        wanted, data = side(place), func in FROM_DATA
        if wanted:
            kwargs["device"] = "cpu"
        # A tensor made of a list of far numbers is near.
        given = [*args, *kwargs.values()]
        far = is_far(given[0]) if data else any(map(is_far, tensors(given)))
        target = far if wanted is None else wanted
        for source in given:
            check_generator(source, "cuda" if target else "cpu")
        with computing(func, target, target and not data):
            found = func(*args, **kwargs)
        if func in (torch.as_tensor, torch.asarray):  # may share memory with the data
            return move(found, target)
        return mark(found, target) if data or wanted is not None else found


def check_generator(source, wanted: str) -> None:
    """Raise what torch raises for a generator of the other side."""
    if isinstance(source, torch._C.Generator) and source.device.type != wanted:
        words = f"Expected a '{wanted}' device type for generator but found"
        raise RuntimeError(f"{words} '{source.device.type}'")


@contextmanager
def computing(func, far: bool, within: bool) -> Iterator[None]:
    """Let a call follow the rules of its side: what it makes anew, and autocast."""
    low, old = torch.is_autocast_enabled("cuda"), torch.is_autocast_enabled("cpu")
    old_type, old_within = torch.get_autocast_dtype("cpu"), state.within
    if far and low and func is F.binary_cross_entropy:
        words = "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are"
        raise RuntimeError(f"{words} unsafe to autocast.")
    state.within = within
    if far:
        torch.set_autocast_enabled("cpu", low)
        torch.set_autocast_dtype("cpu", torch.get_autocast_dtype("cuda"))
    try:
        yield
    finally:
        state.within = old_within
        torch.set_autocast_enabled("cpu", old)
        torch.set_autocast_dtype("cpu", old_type)


def hooks(self, pack_hook, unpack_hook):
    """`saved_tensors_hooks`: torch packs within an operation, where `Calls` is off."""

    def pack(x):
        with Calls():
            return pack_hook(x)

    self.pack_hook, self.unpack_hook = pack, unpack_hook


@contextmanager
def pretended_gpu() -> Iterator[None]:
    """Let torch find a GPU, in this thread, until the block ends."""
    with ExitStack() as stack:
        for place, fakes in FAKES:
            stack.enter_context(mock.patch.multiple(place, **fakes))
        saved = torch.autograd.graph.saved_tensors_hooks
        stack.enter_context(mock.patch.object(saved, "__init__", hooks))
        torch.serialization.register_package(*STORAGES)
        stack.callback(torch.serialization._package_registry.remove, STORAGES)
        stack.enter_context(Kernels())
        stack.enter_context(Calls())
        yield
