"""Seeds, device choice, timing, peak memory, and what this runs on."""

import ctypes
import os
import platform
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Self

import numpy as np
import psutil
import torch

from genlab_helpers import __version__
from genlab_helpers.settings import SettingsError, check_environment, variable

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "scikit-learn", "matplotlib")


def pick_device() -> torch.device:
    """Return the device to compute on.

    GENLAB_DEVICE decides; without it the first of cuda, mps and cpu that this
    machine has.

    Raises:
        SettingsError: if the device asked for is not there.
    """
    check_environment()
    wanted = variable("GENLAB_DEVICE")
    if not wanted:
        return torch.device(next(name for name in ("cuda", "mps", "cpu") if _has(name)))
    if not _has(wanted):
        there = ", ".join(name for name in ("cpu", "cuda", "mps") if _has(name))
        raise SettingsError(
            f"GENLAB_DEVICE={wanted!r} was asked for, but torch {torch.__version__} "
            f"finds {torch.cuda.device_count()} CUDA device(s) and only these kinds "
            f"here: {there}. Set GENLAB_DEVICE to one of them, or unset it."
        )
    return torch.device(wanted)


def _has(name: str) -> bool:
    kind, _, index = name.partition(":")
    if kind == "cuda":
        return torch.cuda.is_available() and int(index or 0) < torch.cuda.device_count()
    return kind == "cpu" or torch.backends.mps.is_available()


def seed_everything(seed: int) -> torch.Generator:
    """Seed Python, NumPy and torch (all devices), and return a CPU generator.

    Args:
        seed: a whole number from 0 to 2**32 - 1 (NumPy's range).

    Returns:
        A new ``torch.Generator`` on the CPU, seeded with ``seed``: the same
        draws on every machine, whatever device they are moved to.

    Raises:
        ValueError: if the seed is not a whole number in that range.
    """
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool)
    if not whole or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number in 0..2**32-1, got {seed!r}")
    seed = int(seed)
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    return torch.Generator().manual_seed(seed)


def synchronize(device: torch.device | str) -> None:
    """Wait until the device has done all work queued so far (nothing on CPU)."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize(device)
    elif kind == "mps":
        torch.mps.synchronize()


class Stopwatch:
    """Measure wall-clock seconds, including the work a GPU still has queued.

    ``with Stopwatch(device) as watch: ...`` then ``watch.seconds``; inside the
    block ``watch.seconds`` is the time so far.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self._start = self._stop = None

    def __enter__(self) -> Self:
        synchronize(self.device)
        self._stop = None
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        synchronize(self.device)
        self._stop = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds from start to stop, or until now while still running."""
        if self._start is None:
            raise RuntimeError("this stopwatch was never started: use it with `with`")
        if self._stop is not None:
            return self._stop - self._start
        synchronize(self.device)
        return time.perf_counter() - self._start


def peak_memory() -> int:
    """Return the peak resident memory of this process so far, in bytes."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "linux":
        # ru_maxrss would also count the process that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource  # does not exist on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def memory_above(task: Callable[[], object]) -> int:
    """Return the highest resident memory during `task()` above that before, in bytes.

    A second thread looks every 2 ms, so what lives for less may be missed, and so may,
    without glibc, what fits into memory that the process has freed but still holds.
    Device memory does not count.
    """
    with suppress(AttributeError, OSError, TypeError):  # not every system has it
        ctypes.CDLL(None).malloc_trim(0)  # give back what was freed
    process, done = psutil.Process(), threading.Event()
    seen = [process.memory_info().rss]

    def watch() -> None:
        while not done.wait(0.002):
            seen.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        task()
    finally:
        done.set()
        watcher.join()
    return max(seen) - seen[0]


def peak_device_memory(device: torch.device | str) -> int | None:
    """Return the peak memory torch allocated on a CUDA device, in bytes.

    None where torch keeps no such number (CPU, MPS).
    """
    if torch.device(device).type != "cuda":
        return None
    return torch.cuda.max_memory_allocated(device)


def machine(device: torch.device | str) -> dict[str, str]:
    """Say what this runs on: {"device", "system", "python"}; no names, no paths."""
    kind = torch.device(device).type
    if kind == "cuda":
        name = torch.cuda.get_device_name(device)
    elif kind == "mps":
        name = f"GPU of {_processor()}"
    else:
        cores = _usable_cores()
        name = f"{cores} CPU core{'s' if cores > 1 else ''} ({_processor()})"
    return {
        "device": name,
        "system": {"Darwin": "macOS"}.get(platform.system(), platform.system()),
        "python": platform.python_version(),
    }


def describe(device: torch.device | str) -> str:
    """Return one line that says what this runs on, for the top of a chapter."""
    here = machine(device)
    return (
        f"Runs on {here['device']}, {here['system']}, Python {here['python']}, "
        f"torch {torch.__version__}."
    )


def versions() -> dict[str, str]:
    """Return the versions of the packages that results depend on, if installed."""
    found = {"genlab-helpers": __version__}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):  # Linux: a container may grant fewer
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _processor() -> str:
    """Return the processor's name as its maker gives it, else its architecture."""
    name = ""
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                name = line.partition(":")[2].strip()
                break
    elif sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        name = subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return name or platform.processor() or platform.machine()
