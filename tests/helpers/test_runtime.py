"""The device is the one asked for, seeds repeat, clocks and memory measure."""

import os
import platform
import random
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genlab_helpers import runtime
from genlab_helpers.settings import SettingsError

CPU = torch.device("cpu")
PEAKS = """from genlab_helpers.runtime import peak_memory as peak; before = peak()
held = bytearray(b'x' * 300_000_000); print(before, peak())"""


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "expected"),
    [
        ("", 1, True, "cuda"),
        ("", 0, True, "mps"),
        ("", 0, False, "cpu"),
        ("cuda:1", 2, False, "cuda:1"),
        ("cuda", 0, False, "0 CUDA device.* kinds: cpu.*unset it"),
        ("cuda:2", 2, False, "2 CUDA device.* kinds: cuda, cpu"),
        ("gpu", 1, True, "'gpu' is not a device"),
    ],
)
def test_device(monkeypatch, wanted, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setenv("GENLAB_DEVICE", wanted)
    if " " not in expected:
        assert runtime.pick_device() == torch.device(expected)
    else:
        with pytest.raises(SettingsError, match=expected):
            runtime.pick_device()


@pytest.mark.parametrize(
    ("device", "major", "fast"),
    [("cuda", 7, False), ("cuda", 8, True), ("mps", 0, False), ("cpu", 0, False)],
)
def test_bfloat16_is_fast_in_hardware_only(monkeypatch, device, major, fast):
    chip = SimpleNamespace(major=major)  # 7 is a T4's, which emulates it
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: chip)
    emulated = "_check_bf16_tensor_supported"
    monkeypatch.setattr(torch.cuda, emulated, lambda _: True, raising=False)
    name = "_is_mkldnn_bf16_supported"
    monkeypatch.setattr(torch.ops.mkldnn, name, lambda: False, raising=False)
    assert runtime.fast_bfloat16(torch.device(device)) is fast


def test_same_seed_same_numbers_and_bad_seeds_are_refused():
    def numbers(seed):
        own = runtime.seed_everything(seed)
        three = random.random(), np.random.rand(), torch.rand(1).item()
        return (*three, torch.rand(1, generator=own).item())

    assert numbers(5) == numbers(5)
    assert all(a != b for a, b in zip(numbers(0), numbers(2**32 - 1), strict=True))
    for bad in (-1, 2**32, 1.5, "1", None):
        with pytest.raises((ValueError, TypeError)):
            runtime.seed_everything(bad)


def test_stopwatch_measures_until_its_block_ends_and_waits_for_the_gpu(monkeypatch):
    waited, now = [], iter([1.0, 3.0, 6.0])
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    monkeypatch.setattr(time, "perf_counter", lambda: next(now))
    with runtime.Stopwatch("cuda:1") as watch:
        assert watch.seconds == 2.0
    assert watch.seconds == 5.0
    assert waited == [torch.device("cuda:1")] * 3


def test_peak_memory_sees_what_was_held_by_this_process_alone():
    held = bytearray(b"x" * 900_000_000)  # of the parent: must not count
    command = [sys.executable, "-c", PEAKS]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, done.stdout.split())
    assert after - before > 290e6
    assert runtime.peak_memory() > len(held) > before or sys.platform != "linux"


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="needs glibc")
def test_memory_above_sees_even_what_fits_into_memory_freed_before():
    def pieces():  # small enough to come from the heap, 100 MB in all
        return [torch.ones(25_000) for _ in range(1_000)]

    freed, last = pieces(), torch.ones(25_000)  # what is last keeps the heap's end
    del freed
    assert 90e6 < runtime.memory_above(lambda: (pieces(), time.sleep(0.05))) < 200e6
    assert last.sum() == 25_000


def test_machine_says_what_but_not_whose(monkeypatch):
    here, line = runtime.machine(CPU), runtime.describe(CPU)
    assert re.fullmatch(r"[1-9][0-9]* CPU cores \(.+\)", here["device"])
    assert all(part in line for part in (*here.values(), f"torch {torch.__version__}"))
    assert not {os.path.expanduser("~"), platform.node()} & set(line.split())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Any")
    assert runtime.machine(torch.device("cuda"))["device"] == "NVIDIA Any"
    assert runtime.versions()["numpy"] == np.__version__
