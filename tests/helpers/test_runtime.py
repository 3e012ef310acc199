"""The device is the one asked for, seeds repeat, clocks and memory measure."""

import os
import platform
import random
import re
import time

import numpy as np
import pytest
import torch

from genlab_helpers import runtime
from genlab_helpers.settings import SettingsError

CPU = torch.device("cpu")


@pytest.fixture
def gpus(monkeypatch):
    """Return a function that pretends a number of CUDA GPUs, and mps or none."""
    real = torch.ones

    def pretend(count, mps=False, fault=None):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)

        def ones(size, device):
            if fault and str(device) != "cpu":
                raise RuntimeError(fault)
            return real(size)

        monkeypatch.setattr(torch, "ones", ones)

    return pretend


@pytest.mark.parametrize(
    ("wanted", "cuda", "mps", "expected"),
    [
        *(("", 1, True, "cuda"), ("", 0, True, "cpu"), ("mps", 0, True, "mps")),
        ("cuda:1", 2, False, "cuda:1"),
        ("cuda", 0, False, "0 CUDA device.* kinds: cpu.*unset it"),
        ("cuda:2", 2, False, "2 CUDA device.* kinds: cuda, cpu"),
        ("gpu", 1, True, "'gpu' is not a device"),
    ],
)
def test_device(monkeypatch, gpus, wanted, cuda, mps, expected):
    gpus(cuda, mps)
    monkeypatch.setenv("GENLAB_DEVICE", wanted)
    if " " not in expected:
        assert runtime.pick_device() == torch.device(expected)
    else:
        with pytest.raises(SettingsError, match=expected):
            runtime.pick_device()


def test_a_gpu_that_torch_cannot_use_is_told_at_once(monkeypatch, gpus):
    gpus(1, fault="CUDA error: no kernel image is available\nmore lines")
    said = (
        r"finds 'cuda', but cannot compute on it \(CUDA error: no kernel image is avai"
    )
    with pytest.raises(SettingsError, match=rf"{said}lable\)\. Set GENLAB_DEVICE=cpu"):
        runtime.pick_device()
    monkeypatch.setenv("GENLAB_DEVICE", "cpu")
    assert runtime.pick_device() == CPU


@pytest.mark.parametrize(
    ("device", "capability", "fast"),  # 7.5 is a T4's, which emulates it
    [("cuda:1", (7, 5), False), ("cuda", (8, 0), True), ("cpu", None, False)],
)
def test_autocast_takes_16_bits_in_hardware_only(monkeypatch, device, capability, fast):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    name = "_is_mkldnn_bf16_supported"
    monkeypatch.setattr(torch.ops.mkldnn, name, lambda: False, raising=False)
    assert runtime.fast_bfloat16(torch.device(device)) is fast
    monkeypatch.setattr(runtime, "fast_bfloat16", lambda _: fast)
    with runtime.autocast(CPU):
        product = torch.eye(2) @ torch.eye(2)
    assert product.dtype is (torch.bfloat16 if fast else torch.float32)
    assert runtime.machine(CPU)["precision"] == str(product.dtype).partition(".")[2]
    assert not runtime.fast_bfloat16(torch.device("mps")) or fast


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


def test_peak_memory_is_that_of_the_moment_with_most():
    before, held = runtime.peak_memory(), bytearray(b"x" * 900_000_000)
    assert runtime.peak_memory() > len(held)
    del held
    assert runtime.peak_memory() > max(900_000_000, before)


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
    shown = [here[key] for key in ("device", "system", "python", "precision")]
    assert all(part in line for part in (*shown, f"torch {torch.__version__}"))
    assert here["threads"] == torch.get_num_threads()
    assert here["instructions"] == torch.backends.cpu.get_cpu_capability()
    assert not {os.path.expanduser("~"), platform.node()} & set(line.split())
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Any")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert runtime.machine(torch.device("cuda"))["device"] == "NVIDIA Any"
    assert runtime.versions()["numpy"] == np.__version__
