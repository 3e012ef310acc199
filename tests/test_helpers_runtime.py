import os
import platform
import random
import re
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import genlab_helpers
from genlab_helpers import runtime
from genlab_helpers.settings import SettingsError

MEGABYTE = 10**6


@pytest.fixture(autouse=True)
def no_device_asked_for(monkeypatch):
    monkeypatch.delenv("GENLAB_DEVICE", raising=False)


@pytest.fixture
def machine_with(monkeypatch):
    """Pretend to have so many CUDA devices, and Apple's GPU or not."""

    def pretend(cuda=0, mps=False):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

    return pretend


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(1, True, "cuda"), (0, True, "mps"), (0, False, "cpu")],
)
def test_default_device(machine_with, cuda, mps, expected):
    machine_with(cuda, mps)
    assert runtime.pick_device() == torch.device(expected)


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps"),
    [("cpu", 1, True), ("cuda", 1, False), ("cuda:1", 2, False), ("mps", 1, True)],
)
def test_device_asked_for_and_there(monkeypatch, machine_with, wanted, cuda, mps):
    machine_with(cuda, mps)
    monkeypatch.setenv("GENLAB_DEVICE", wanted)
    assert runtime.pick_device() == torch.device(wanted)


@pytest.mark.parametrize(
    ("wanted", "cuda", "there"),
    [("cuda", 0, "cpu"), ("cuda:2", 2, "cpu, cuda"), ("mps", 1, "cpu, cuda")],
)
def test_device_asked_for_but_absent(monkeypatch, machine_with, wanted, cuda, there):
    machine_with(cuda)
    monkeypatch.setenv("GENLAB_DEVICE", wanted)
    with pytest.raises(SettingsError) as caught:
        runtime.pick_device()
    for part in (repr(wanted), f"{cuda} CUDA device", f"here: {there}.", "unset"):
        assert part in str(caught.value)


def test_misspelt_device_is_refused(monkeypatch):
    monkeypatch.setenv("GENLAB_DEVICE", "gpu")
    with pytest.raises(SettingsError, match="'gpu' is not a device"):
        runtime.pick_device()


def draws(generator):
    return (
        random.random(),
        np.random.rand(),
        torch.rand(1).item(),
        torch.rand(1, generator=generator).item(),
    )


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_same_seed_same_draws(seed):
    first = draws(runtime.seed_everything(seed))
    assert draws(runtime.seed_everything(np.uint64(seed))) == first
    other = draws(runtime.seed_everything((seed + 1) % 2**32))
    assert all(a != b for a, b in zip(first, other, strict=True))


def test_the_generator_leans_on_no_global_state():
    generator = runtime.seed_everything(3)
    torch.manual_seed(99)
    expected = torch.rand(4, generator=torch.Generator().manual_seed(3))
    assert torch.equal(torch.rand(4, generator=generator), expected)
    assert generator.device == torch.device("cpu")


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, "1", None, True])
def test_bad_seed_is_refused(seed):
    with pytest.raises(ValueError, match="seed must be a whole number"):
        runtime.seed_everything(seed)


def test_stopwatch_measures():
    with runtime.Stopwatch("cpu") as watch:
        time.sleep(0.02)
        half_way = watch.seconds
        time.sleep(0.02)
    first = watch.seconds
    assert 0.02 <= half_way <= first - 0.02
    assert watch.seconds == first < 5
    with watch:
        pass
    assert watch.seconds < first


def test_stopwatch_stops_when_the_block_fails():
    watch = runtime.Stopwatch()
    with pytest.raises(KeyError), watch:
        raise KeyError
    first = watch.seconds
    time.sleep(0.002)
    assert watch.seconds == first


def test_stopwatch_never_started_says_so():
    with pytest.raises(RuntimeError, match="never started"):
        _ = runtime.Stopwatch().seconds


@pytest.mark.parametrize("kind", ["cuda", "mps"])
def test_stopwatch_waits_for_the_device(monkeypatch, kind):
    calls = []
    module = getattr(torch, kind)
    monkeypatch.setattr(module, "synchronize", lambda *_: calls.append(kind))
    with runtime.Stopwatch(kind):
        assert calls == [kind]
    assert calls == [kind, kind]


def test_peak_memory_sees_what_was_allocated_and_is_its_own():
    # The process that starts this one is made fat first: its peak must not count.
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]);"
        "from genlab_helpers.runtime import peak_memory as peak; before = peak();"
        "held = bytearray(b'x' * 300_000_000); print(before, peak())"
    )
    held = bytearray(b"x" * (1200 * MEGABYTE))
    root = os.path.dirname(os.path.dirname(genlab_helpers.__file__))
    command = [sys.executable, "-c", code, root]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert runtime.peak_memory() > len(held)
    assert after - before > 290 * MEGABYTE
    if sys.platform == "linux":
        assert before < len(held)


def test_device_memory_is_known_for_cuda_only(monkeypatch):
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 42)
    assert runtime.peak_device_memory("cpu") is None
    assert runtime.peak_device_memory(torch.device("mps")) is None
    assert runtime.peak_device_memory("cuda:0") == 42


def test_machine_says_what_but_not_whose():
    here = runtime.machine("cpu")
    assert set(here) == {"device", "system", "python"}
    assert re.fullmatch(r"[1-9][0-9]* CPU cores? \(.+\)", here["device"])
    assert here["python"] == platform.python_version()
    text = " ".join(here.values())
    assert "/" not in here["system"]
    assert os.path.expanduser("~") not in text
    assert not re.search(rf"\b{re.escape(platform.node())}\b", text)


def test_machine_names_the_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Any")
    monkeypatch.setattr(runtime, "_processor", lambda: "Apple M9")
    assert runtime.machine("cuda")["device"] == "NVIDIA Any"
    assert runtime.machine("mps")["device"] == "GPU of Apple M9"


def test_one_core_is_singular(monkeypatch):
    monkeypatch.setattr(runtime, "_usable_cores", lambda: 1)
    monkeypatch.setattr(runtime, "_processor", lambda: "Any")
    assert runtime.machine("cpu")["device"] == "1 CPU core (Any)"


def test_describe_is_one_line_with_the_essentials():
    line = runtime.describe("cpu")
    assert "\n" not in line
    for part in (*runtime.machine("cpu").values(), f"torch {torch.__version__}"):
        assert part in line


def test_versions_are_of_what_is_installed(monkeypatch):
    found = runtime.versions()
    assert found["genlab-helpers"] == genlab_helpers.__version__
    assert found["numpy"] == np.__version__
    assert torch.__version__.startswith(found["torch"].partition("+")[0])
    monkeypatch.setattr(runtime, "PACKAGES", ("numpy", "no-such-package-here"))
    assert set(runtime.versions()) == {"genlab-helpers", "numpy"}


def test_memory_above_sees_what_a_task_holds_for_a_while():
    def task():
        held = torch.ones(25_000_000)  # 100 MB
        time.sleep(0.05)
        return held

    assert 90e6 < runtime.memory_above(task) < 200e6


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_above_sees_what_fits_into_memory_freed_before():
    def pieces():  # small enough to come from the heap, 100 MB in all
        return [torch.ones(25_000) for _ in range(1_000)]

    freed, last = pieces(), torch.ones(25_000)  # what is last keeps the heap's end
    del freed
    assert 90e6 < runtime.memory_above(lambda: (pieces(), time.sleep(0.05))) < 200e6
    assert last.sum() == 25_000


def test_memory_above_passes_errors_on_and_stops_watching():
    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        runtime.memory_above(lambda: 1 / 0)
    assert threading.active_count() == before
