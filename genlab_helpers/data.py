"""Datasets as plain tensors that know where they came from.

Order of search: the data folder, the cache folder of the user, a download, and
last a stand-in that says so. Every file is hashed before it is used; a damaged one
is named and kept, never trained on.
"""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import torch

from genlab_helpers.download import DownloadError
from genlab_helpers.settings import profile
from genlab_helpers.sources import SOURCES, Source, digest, split_files
from genlab_helpers.stand_in import digits
from genlab_helpers.storage import data_folder, obtain

__all__ = ["ImageSet", "data_folder", "fashion_mnist", "mnist"]

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)

_loaded: dict[tuple[str, str, str], "ImageSet"] = {}  # uint8, by name, split, place


@dataclass(frozen=True, eq=False)
class ImageSet:
    """One split of a dataset as two tensors, and where they came from.

    ``images`` (N, 1, 28, 28), uint8 in 0..255 or a float type in [0, 1];
    ``labels`` (N,), int64; ``classes[k]`` names label k. ``source`` is "folder",
    "download" or "stand-in"; ``digest`` is the sha256 of the split; ``note`` is
    what was said while loading.
    """

    name: str
    split: str
    images: torch.Tensor
    labels: torch.Tensor
    classes: tuple[str, ...]
    source: str
    digest: str
    note: str = ""

    @property
    def is_stand_in(self) -> bool:
        """Whether these images stand in for a dataset that was not to be had."""
        return self.source == "stand-in"

    def provenance(self) -> dict:
        """Return what a run's record keeps: name, split, source, sha256, count."""
        return {
            "name": self.name,
            "split": self.split,
            "source": self.source,
            "sha256": self.digest,
            "count": len(self.labels),
        }


def mnist(split: str = "train", *, dtype: torch.dtype = torch.float32) -> ImageSet:
    """Return MNIST: 60,000 ("train") or 10,000 ("test") handwritten digits.

    The tensors are the caller's own: changing them does not change the next call.
    The ``smoke`` profile always gets the stand-in and never uses the network.

    Args:
        split: "train" or "test".
        dtype: torch.uint8 for grey values 0..255, or float32, float64, float16 or
            bfloat16 for values in [0, 1]; 0 is the background, the ink is bright.

    Returns:
        An ImageSet: images (N, 1, 28, 28), labels (N,) int64 in 0..9. If the files
        can neither be found nor downloaded, a stand-in that says so: scikit-learn's
        digits enlarged to 28 x 28, 1,437 ("train") or 360 ("test").

    Raises:
        ValueError: for another split or dtype.
        SettingsError: if a GENLAB_* variable is not in order.

    Source: LeCun et al. 1998, https://doi.org/10.1109/5.726791.
    """
    return _load("MNIST", split, dtype)


def fashion_mnist(
    split: str = "train", *, dtype: torch.dtype = torch.float32
) -> ImageSet:
    """Return Fashion-MNIST: 60,000 ("train") or 10,000 ("test") garments.

    Arguments, shapes, ranges and errors are those of `mnist`. The stand-in shows
    digits, not garments, and its ``classes`` are those of digits.

    Source: Xiao et al. 2017, https://doi.org/10.48550/arXiv.1708.07747.
    """
    return _load("Fashion-MNIST", split, dtype)


def _load(name: str, split: str, dtype: torch.dtype) -> ImageSet:
    if dtype is not torch.uint8 and dtype not in FLOATS:
        raise ValueError(f"dtype must be torch.uint8 or one of {FLOATS}, not {dtype}")
    split_files(name, split)  # refuses an unknown split before any work
    smoke = profile() == "smoke"
    key = (name, split, "smoke" if smoke else str(data_folder()))
    if key not in _loaded:
        found = _smoke_set(name, split) if smoke else _search(SOURCES[name], split)
        if found.is_stand_in and not smoke:  # not kept: the next call tries again
            return _converted(found, dtype)
        _loaded[key] = found
    return _converted(_loaded[key], dtype)


def _converted(stored: ImageSet, dtype: torch.dtype) -> ImageSet:
    if stored.is_stand_in:  # never silent, however often it is asked for
        print(stored.note)
    images = stored.images.to(dtype, copy=True)
    if dtype is not torch.uint8:
        images.div_(255)
    return replace(stored, images=images, labels=stored.labels.clone())


def _search(source: Source, split: str) -> ImageSet:
    """Return the real split, or the stand-in with the reasons in its note."""
    contents, origins, told = [], [], []
    try:
        for file_name in split_files(source.name, split):
            content, origin, said = obtain(source, file_name)
            contents.append(content)
            origins.append(origin)
            told += said
    except DownloadError as error:
        return _stand_in(source.name, split, _explanation(source, error))
    note = "\n".join(f"{source.name}: {line}." for line in told)
    if note:
        print(note)
    images, labels = (parse_idx(content) for content in contents)
    if images.shape != (len(labels), 28, 28) or labels.ndim != 1:
        raise ValueError(
            f"{source.name} {split}: images {images.shape} do not go with labels "
            f"{labels.shape}"
        )
    return ImageSet(
        name=source.name,
        split=split,
        images=torch.from_numpy(images[:, None]),
        labels=torch.from_numpy(labels.astype(np.int64)),
        classes=source.classes,
        source="download" if "download" in origins else "folder",
        digest=digest(source.name, split),
        note=note,
    )


def parse_idx(content: bytes) -> np.ndarray:
    """Return the uint8 array in an idx file: two zero bytes, type, rank, sizes, data.

    Raises:
        ValueError: if the header is not that of an idx file of bytes, or the data
            are not as many as the sizes say.
    """
    if len(content) < 4 or content[:3] != b"\x00\x00\x08" or not content[3]:
        raise ValueError(f"not an idx file of bytes: it begins with {content[:4]!r}")
    start = 4 + 4 * content[3]
    if len(content) < start:
        raise ValueError(f"the idx header is cut off after {len(content)} bytes")
    shape = tuple(int(size) for size in np.frombuffer(content[4:start], dtype=">u4"))
    count = len(content) - start
    if count != int(np.prod(shape, dtype=object)):
        raise ValueError(f"the idx header promises {shape}, but {count} bytes follow")
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy()


def _explanation(source: Source, error: DownloadError) -> str:
    place = data_folder() / source.folder
    lines = [
        f"{source.name} could not be had: no good copy of {error.file_name}.",
        *(f"  - {reason}" for reason in error.reasons),
        "What helps: connect to the network and run this again; or fetch these from",
        f"  {source.mirrors[0]}",
        *(f"  {file_name}.gz" for file_name in source.files),
        f"  and put them into {place}",
        f"  (or set GENLAB_DATA to a folder that holds {source.folder}).",
    ]
    return "\n".join(lines) + "\n"


def _smoke_set(name: str, split: str) -> ImageSet:
    return _stand_in(name, split, "The smoke profile uses no real data. ")


def _stand_in(name: str, split: str, why: str) -> ImageSet:
    """Return the stand-in, with the reason for it at the head of its note."""
    images, labels = digits(split)
    label = f"scikit-learn digits (stand-in for {name})"
    garments = " They are digits, NOT garments." if name == "Fashion-MNIST" else ""
    return ImageSet(
        name=label,
        split=split,
        images=torch.from_numpy(images[:, None]),
        labels=torch.from_numpy(labels),
        classes=tuple("0123456789"),
        source="stand-in",
        digest=hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest(),
        note=f"{why}STAND-IN: {label}, {len(labels):,} images.{garments}",
    )
