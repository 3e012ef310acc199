"""Data sets as plain tensors that know where they came from.

Order of search: the data folder, the cache folder, a download by torchvision, and last
a stand-in that says so. Every file is hashed before it is used.
"""

import hashlib
import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_digits

from genlab_helpers import files
from genlab_helpers.settings import data_folder, profile

START = {"train": "train-", "test": "t10k-"}  # of the names of a split's files
DTYPES = (torch.uint8, torch.float32, torch.float64, torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageSet(files.Origin):
    """One split of a data set as two tensors, and where they came from.

    ``images`` (N, 1, 28, 28), uint8 in 0..255 or a float type in [0, 1]; ``labels``
    (N,), int64; ``classes[k]`` names label k.
    """

    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]


def mnist(split: str = "train", *, dtype: torch.dtype = torch.float32) -> ImageSet:
    """Return MNIST: 60,000 ("train") or 10,000 ("test") handwritten digits.

    The tensors are the caller's own. ``dtype`` is torch.uint8 for grey values 0..255,
    or float32, float64, float16 or bfloat16 for [0, 1]; the ink is bright. If the
    files cannot be had, and always in ``smoke``, a stand-in that says so: 1,437 or 360
    of scikit-learn's digits, enlarged to 28 x 28. Raises ValueError for another split
    or dtype. Source: LeCun et al. 1998, https://doi.org/10.1109/5.726791.
    """
    return _load("MNIST", split, dtype)


def fashion_mnist(
    split: str = "train", *, dtype: torch.dtype = torch.float32
) -> ImageSet:
    """Return Fashion-MNIST, garments; all else, even the stand-in, is as in `mnist`.

    Source: Xiao et al. 2017, https://doi.org/10.48550/arXiv.1708.07747.
    """
    return _load("Fashion-MNIST", split, dtype)


def _load(name: str, split: str, dtype: torch.dtype) -> ImageSet:
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {DTYPES}, not {dtype!r}")
    if split not in START:
        raise ValueError(f"no split {split!r} of {name}; use 'train' or 'test'")
    if profile() == "smoke":
        found = _stand_in(name, split, "The smoke profile uses no real data. ")
    else:
        try:
            found = _real(name, split, data_folder())
        except files.FAILURES as error:  # is not kept, so the next call tries again
            folder = files.DIGESTS["datasets"][name]["folder"]
            place = files.shown(data_folder() / folder)
            remedy = f"run this again with a network, or put good files into {place}"
            why = f"{name} could not be had: {error}\nWhat helps: {remedy}.\n"
            found = _stand_in(name, split, why)
    if found.is_stand_in:  # never silent
        print(found.note)
    images = found.images.to(dtype, copy=True)
    if dtype is not torch.uint8:
        images.div_(255)
    return replace(found, images=images, labels=found.labels.clone())


@cache
def _real(name: str, split: str, folder: Path) -> ImageSet:
    """Return a real split as uint8, or raise one of FAILURES; kept for each folder."""
    from torchvision import datasets  # slow to import, and not needed in smoke

    entry, start = files.DIGESTS["datasets"][name], START[split]
    known = {f"{entry['folder']}/{file}": d for file, d in entry["files"].items()}
    images, labels = (file for file in known if f"/{start}" in file)
    try:
        paths = {f: files.obtain(f, [], known[f])[0] for f in (images, labels)}
        source = "folder"
    except files.DownloadError:
        with tempfile.TemporaryDirectory() as fresh, files.patience():
            getattr(datasets, entry["folder"].split("/")[0])(fresh, download=True)
            urls = {file: [Path(fresh, file).as_uri()] for file in known}
            paths = {f: files.obtain(f, urls[f], known[f])[0] for f in known}
        source = "download"
    digest = hashlib.sha256((known[images] + known[labels]).encode()).hexdigest()
    labels = datasets.mnist.read_label_file(paths[labels])
    facts = dict(name=name, split=split, source=source, sha256=digest)
    images = datasets.mnist.read_image_file(paths[images])[:, None]
    tensors = dict(images=images, labels=labels, classes=tuple(entry["classes"]))
    return ImageSet(**facts, **tensors, count=len(labels))


def _stand_in(name: str, split: str, why: str) -> ImageSet:
    """Return scikit-learn's digits; every fifth image of each class is for "test".

    Source: E. Alpaydin and C. Kaynak 1998, https://doi.org/10.24432/C50P49.
    """
    digits = load_digits()
    held_out = np.zeros(len(digits.target), dtype=bool)
    held_out[np.argsort(digits.target, kind="stable")[::5]] = True
    chosen = held_out if split == "test" else ~held_out
    labels = digits.target[chosen].astype(np.int64)
    # Linear interpolation from 8 to 28 pixels in whole numbers, so that every machine
    # gets the same bytes. The centre of pixel i lies at (i + 1/2) * 8/28 - 1/2 pixels
    # of the small image: in fourteenths, which makes every weight a whole number.
    position = np.clip(4 * np.arange(28) - 5, 0, 7 * 14)
    weights = np.clip(14 - abs(position[:, None] - 14 * np.arange(8)), 0, None)
    values = weights @ digits.images[chosen].astype(np.int64) @ weights.T
    white = 16 * 14 * 14  # of a small image, times the weights
    images = ((values * 255 + white // 2) // white).astype(np.uint8)  # (N, 28, 28)
    label = f"scikit-learn digits (stand-in for {name})"
    garments = " They are digits, NOT garments." if name == "Fashion-MNIST" else ""
    note = f"{why}STAND-IN: {label}, {len(labels):,} images.{garments}"
    digest = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    facts = dict(name=label, split=split, source="stand-in", sha256=digest, note=note)
    images, labels = torch.from_numpy(images[:, None]), torch.from_numpy(labels)
    tensors = dict(images=images, labels=labels, classes=tuple("0123456789"))
    return ImageSet(**facts, **tensors, count=len(labels))
