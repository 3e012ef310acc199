"""Seeds, device, precision, timing, memory, and what this runs on."""

import ctypes
import platform
import random
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from threading import Event

import numpy as np
import psutil
import torch

from genlab_helpers import __version__
from genlab_helpers.settings import SettingsError, check_environment, variable

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")


def pick_device() -> torch.device:
    """Return what GENLAB_DEVICE names, else a CUDA GPU, else the processor.

    Raises SettingsError for one that is not there, or that torch cannot compute on.
    """
    check_environment()
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    kinds = {"cuda": count, "cpu": True, "mps": torch.backends.mps.is_available()}
    there = [kind for kind, found in kinds.items() if found]
    wanted = variable("GENLAB_DEVICE") or there[0]
    if wanted not in there + [f"cuda:{i}" for i in range(count)]:
        raise SettingsError(
            f"GENLAB_DEVICE={wanted!r} is not there: torch {torch.__version__} finds"
            f" {count} CUDA device(s) and only these kinds: {', '.join(there)}."
            " Set GENLAB_DEVICE to one of them, or unset it."
        )
    try:
        torch.ones(1, device=wanted).add(1).item()
    except RuntimeError as error:  # such as a GPU too old for this torch
        raise SettingsError(
            f"torch {torch.__version__} finds {wanted!r}, but cannot compute on it"
            f" ({str(error).splitlines()[0]}). Set GENLAB_DEVICE=cpu, or install"
            " a torch for this device: https://pytorch.org/get-started/locally"
        ) from error
    return torch.device(wanted)


def fast_bfloat16(device: torch.device) -> bool:
    """Say whether a device computes in bfloat16 itself; others only emulate it."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)  # from Ampere on
    with suppress(AttributeError, RuntimeError):  # a torch without oneDNN
        return device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return False


def autocast(device: torch.device) -> torch.autocast:
    """Compute in bfloat16 inside this block if `fast_bfloat16`, else in full precision.

    For the forward pass and the loss only, not for `backward` and the optimiser's step:
    16-bit copies of the weights are kept until the block ends, so that whatever follows
    a step inside it would still see the old weights.
    """
    return torch.autocast(device.type, torch.bfloat16, enabled=fast_bfloat16(device))


def seed_everything(seed: int) -> torch.Generator:
    """Seed NumPy, Python and torch, and return a CPU generator seeded alike.

    NumPy refuses all but whole numbers from 0 to 2**32 - 1 (ValueError, TypeError).
    """
    for function in (np.random.seed, random.seed, torch.manual_seed):
        function(seed)
    return torch.Generator().manual_seed(seed)


class Stopwatch:
    """Measure wall-clock seconds, including the work a GPU still has queued.

    ``with Stopwatch(device) as watch: ...`` then ``watch.seconds``, which inside the
    block is the time so far.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)

    def __enter__(self):
        self._start, self._stop = self._now(), None
        return self

    def __exit__(self, *_: object) -> None:
        self._stop = self._now()

    @property
    def seconds(self) -> float:
        """Seconds from start to stop, or until now while still running."""
        return (self._now() if self._stop is None else self._stop) - self._start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()
        return time.perf_counter()


def peak_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    import resource  # does not exist on Windows

    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def memory_above(task) -> int:
    """Return the highest resident memory during `task()` above that before, in bytes.

    A second thread looks every 2 ms and may miss what lives for less; without glibc it
    misses what fits into memory that is freed but still held. No device memory.
    """
    with suppress(AttributeError, OSError, TypeError):  # not every system has it
        ctypes.CDLL(None).malloc_trim(0)  # give back what was freed
    process, done = psutil.Process(), Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(watch)
        try:
            task()
        finally:
            done.set()
    return max(seen) - seen[0]


def machine(device: torch.device) -> dict:
    """Say what this runs on, without names of people or folders.

    {"device", "system", "python", "threads", "instructions", "precision"}; the last is
    that of `autocast`.
    """
    chip, cores = platform.processor() or platform.machine(), psutil.cpu_count()
    if sys.platform == "linux":
        cores = len(psutil.Process().cpu_affinity())  # a container may grant fewer
        model = re.search(r"model name\s*: (.+)", Path("/proc/cpuinfo").read_text())
        chip = model[1] if model else chip
    names = {"cpu": f"{cores} CPU cores ({chip})", "mps": f"GPU of {chip}"}
    return {
        "device": names.get(device.type) or torch.cuda.get_device_name(device),
        "system": platform.system().replace("Darwin", "macOS"),
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "precision": "bfloat16" if fast_bfloat16(device) else "float32",
    }


def describe(device: torch.device) -> str:
    """Return one line that says what this runs on, for the top of a chapter."""
    line = "Runs on {device}, {system}, Python {python}, torch {torch}, autocast in"
    return f"{line} {{precision}}.".format(torch=torch.__version__, **machine(device))


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on."""
    return {"genlab-helpers": __version__} | {name: version(name) for name in PACKAGES}
