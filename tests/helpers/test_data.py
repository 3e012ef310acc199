"""MNIST and Fashion-MNIST: the real ones, or a stand-in that says so every time."""

import gzip
import hashlib
import shutil

import numpy as np
import pytest
import torch
import torchvision

from genlab_helpers import data, files

pytest_plugins = ["fixtures_mirror"]
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype(np.uint8).tobytes()


FILES, RNG = {}, np.random.default_rng(0)  # a data set of 6 train and 3 test images
for _start, _count in (("train", 6), ("t10k", 3)):
    FILES[f"{_start}-images-idx3-ubyte"] = idx(RNG.integers(0, 256, (_count, 28, 28)))
    FILES[f"{_start}-labels-idx1-ubyte"] = idx(np.arange(_count))
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}
SETS = {"MNIST": data.mnist, "Fashion-MNIST": data.fashion_mnist}


@pytest.fixture(autouse=True)
def raw(place, mirror, monkeypatch):
    """Let those files be the real ones, the mirror torchvision's; return MNIST/raw."""
    mirror.pages |= {f"{name}.gz": gzip.compress(FILES[name]) for name in FILES}
    md5 = [(name, hashlib.md5(mirror.pages[name]).hexdigest()) for name in mirror.pages]
    for name in SETS:
        monkeypatch.setitem(files.DIGESTS["datasets"][name], "files", SHA256.copy())
        kind = getattr(torchvision.datasets, name.replace("-", ""))
        monkeypatch.setattr(kind, "mirrors", [mirror.url])
        monkeypatch.setattr(kind, "resources", md5)
    data._real.cache_clear()
    return place.data / "MNIST/raw"


def fill(folder, names=FILES):
    for name in names:
        files.write(FILES[name], folder / name)


def held(folder):
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.name: path.read_bytes() for path in found}


def assert_real(found, split="train"):
    assert not found.is_stand_in
    grey = (found.images.double() * 255).round().to(torch.uint8)
    assert grey.shape == (found.count, 1, 28, 28)
    images, labels = (name for name in FILES if name.startswith(data.START[split]))
    assert grey.numpy().tobytes() == FILES[images][16:]
    assert found.labels.tolist() == list(range(found.count))
    both = (SHA256[images] + SHA256[labels]).encode()
    assert found.sha256 == hashlib.sha256(both).hexdigest()


def test_files_in_the_folder_are_used_in_silence(raw, place, mirror, capfd):
    fill(raw)
    fill(place.data / "FashionMNIST/raw")
    for name, load in SETS.items():
        for split in data.START:
            found = load(split)
            assert_real(found, split)
            assert (found.name, found.split, found.source) == (name, split, "folder")
            assert found.classes[9] == ("9" if name == "MNIST" else "Ankle boot")
    assert (mirror.asked, *capfd.readouterr()) == ([], "", "")


def test_float_images_lie_in_0_to_1_and_what_is_unknown_is_refused(raw):
    fill(raw)
    grey = data.mnist(dtype=torch.uint8).images.double()
    for dtype in data.DTYPES[1:]:
        images = data.mnist(dtype=dtype).images
        assert images.dtype is dtype
        assert torch.allclose(images.double(), grey / 255, atol=torch.finfo(dtype).eps)
    for dtype in (torch.int64, torch.complex64, "float32"):
        with pytest.raises(ValueError, match="dtype must be"):
            data.mnist(dtype=dtype)
    with pytest.raises(ValueError, match="'train' or 'test'"):
        data.mnist("valid")


def test_a_set_is_kept_for_its_folder_and_cannot_be_spoilt(
    raw, place, mirror, monkeypatch
):
    fill(raw, [IMAGES])
    fill(place.cache / "MNIST/raw", [LABELS])  # the two folders complete each other
    for dtype in (torch.uint8, torch.float32):
        spoilt = data.mnist(dtype=dtype)
        spoilt.images.zero_()
        spoilt.labels.zero_()
    assert mirror.asked == []
    shutil.rmtree(raw)
    mirror.fault = "absent"
    assert_real(data.mnist())
    monkeypatch.setenv("GENLAB_DATA", str(raw / "elsewhere"))
    assert data.mnist().is_stand_in


def test_a_download_is_shown_kept_and_used(raw, place, mirror, capfd):
    found = data.mnist()
    assert_real(found)
    assert found.source == "download"
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert held(place.data.parent) == FILES
    asked = len(mirror.asked)
    assert data.mnist("test").source == "folder"
    assert len(mirror.asked) == asked


def test_a_faulty_mirror_gives_a_stand_in_with_the_reason(place, mirror, fault, capsys):
    found = data.mnist()
    reason = {"wrong": "corrupted", "cut": "corrupted", "absent": "404 Not Found"}
    reason |= {"hangs up": "closed connection", "silent": "timed out"}
    parts = [reason[fault], "GENLAB_DATA/MNIST/raw", f"STAND-IN: {found.name}"]
    assert all(part in found.note for part in parts)
    assert capsys.readouterr().out == found.note + "\n"
    assert held(place.data.parent) == {}
    mirror.fault = None
    assert_real(data.mnist())  # the stand-in was not kept


def test_a_download_with_another_sha256_is_not_used(raw, monkeypatch):
    monkeypatch.setitem(files.DIGESTS["datasets"]["MNIST"]["files"], IMAGES, "0" * 64)
    found = data.mnist()
    assert found.is_stand_in
    assert "invalid hash value" in found.note
    assert held(raw) == {}


@pytest.mark.parametrize("content", [FILES[IMAGES][:-7], b""])
def test_a_damaged_file_is_named_kept_and_not_used(raw, place, mirror, capsys, content):
    fill(raw)
    (raw / IMAGES).write_bytes(content)
    mirror.fault = "absent"
    assert data.mnist().is_stand_in
    assert f"GENLAB_DATA/MNIST/raw/{IMAGES} is damaged" in capsys.readouterr().out
    mirror.fault = None
    assert_real(data.mnist())
    assert (raw / IMAGES).read_bytes() == content
    assert held(place.cache) == {IMAGES: FILES[IMAGES]}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("split", data.START)
def test_smoke_asks_nobody_and_says_so(raw, mirror, monkeypatch, capsys, name, split):
    fill(raw)
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    for _ in range(2):  # as often as it is asked
        found = SETS[name](split)
        assert capsys.readouterr().out == found.note + "\n"
    assert (found.source, found.split) == ("stand-in", split)
    assert found.name == f"scikit-learn digits (stand-in for {name})"
    assert found.note.startswith("The smoke profile uses no real data. STAND-IN: ")
    assert ("NOT garments" in found.note) == (name == "Fashion-MNIST")
    expected = {"train": (1437, "67d3a7a2"), "test": (360, "f4ca7507")}[split]
    assert (found.count, found.sha256[:8]) == expected  # the same on every machine
    assert mirror.asked == []
