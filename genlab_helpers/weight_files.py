"""Files of trained weights: find a good copy, fetch one, fill layers from it.

The rules are those of the datasets: a file is hashed before it is used, and a damaged
one is named and kept.
"""

import hashlib
import io
import re
from pathlib import Path

import torch
from torch import nn

from genlab_helpers import storage
from genlab_helpers.download import BadFile, DownloadError, check_digest, save
from genlab_helpers.sources import WEIGHTS

MIRROR = "https://download.pytorch.org/models/"
VGG_WHOLE = "vgg19-dcbb9e9d.pth"
VGG_KEPT = "vgg19_features_conv1_1-conv5_1.pt"  # cut from it, by us
KEPT_LAYERS = 29  # conv1_1 to conv5_1, counted as torchvision does
MEGABYTES = {"squeezenet1_0-b66bff10.pth": 5, VGG_WHOLE: 575}  # to download


def fill(layers: nn.Sequential, name: str, files: tuple[str, ...]) -> tuple:
    """Fill layers with the weights in the first good file, or in one just fetched.

    Args:
        layers: the first layers of the network's ``features``, in torchvision's
            order; changed only if there is a good file.
        name: of the network, for what is said.
        files: names of files in the order of preference; the last is torchvision's.

    Returns:
        "folder" or "download", the sha256 of the published file, and what the reader
        should be told ("" in the ordinary case).

    Raises:
        DownloadError: if there is no good copy and none could be downloaded.
    """
    problems = []
    for path in (path for file in files for path in _places(file)):
        try:
            digest, told = _read(path, layers)
        except (BadFile, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            shown = storage.shown(path)
            problems.append(f"{shown} is damaged or unreadable: {reason}")
        else:
            return "folder", digest, _note(name, problems, told)
    try:
        digest, told = _download(name, files[-1], layers)
    except DownloadError as error:
        left = [f"{problem}; left as it is" for problem in problems]
        raise DownloadError(error.file_name, left + error.reasons) from None
    return "download", digest, _note(name, problems, told)


def good(file: str) -> bool:
    """Return whether one of the copies of a file of weights is not damaged."""
    for path in _places(file):
        try:
            _digest(path)
        except (BadFile, OSError):
            continue
        return True
    return False


def explanation(name: str, error: DownloadError) -> str:
    """Return what to say when a network's weights could not be had, and the remedy."""
    lines = [
        f"The weights of {name} could not be had: no good copy of {error.file_name}.",
        *(f"  - {reason}" for reason in error.reasons),
        "What helps: connect to the network and run this again; or fetch",
        f"  {MIRROR}{error.file_name}",
        f"  and put it into {storage.data_folder() / 'weights'}",
    ]
    return "\n".join(lines) + "\n"


def _note(name: str, problems: list[str], told: list[str]) -> str:
    lines = [*(f"{problem}; not used" for problem in problems), *told]
    return "\n".join(f"{name}: {line}." for line in lines)


def _places(file: str) -> list[Path]:
    """Return where a file of weights lies, best place first."""
    folders = [
        storage.data_folder() / "weights",
        storage.cache_folder() / "weights",
        Path(torch.hub.get_dir()) / "checkpoints",
    ]
    paths = [folder / file for folder in dict.fromkeys(folders)]
    return [path for path in paths if path.is_file()]


def _digest(path: Path) -> str:
    """Check a file of weights; return the sha256 of the published file it is from."""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    wanted, published = WEIGHTS.get(path.name), found
    if path.name == VGG_KEPT:  # not published, so its digests lie beside it
        beside = _beside(path)
        lines = beside.read_text(encoding="utf-8") if beside.is_file() else ""
        digests = re.fullmatch(r"([0-9a-f]{64}) .*\n([0-9a-f]{64}) .*\n", lines)
        if not digests:
            raise BadFile(f"{beside.name} does not lie beside it in good order")
        wanted, published = digests.groups()
    check_digest(found, wanted, path.stat().st_size)
    return published


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _read(path: Path, layers: nn.Sequential) -> tuple[str, list[str]]:
    """Fill the layers from a file of weights; return its digest and what to tell."""
    digest = _digest(path)
    state = torch.load(path, map_location="cpu", weights_only=True)
    names = [name for name, _ in layers.named_children()]
    filled = {
        key.replace(f"features.{number}.", f"{name}.", 1): value
        for number, name in enumerate(names)
        for key, value in state.items()
        if key.startswith(f"features.{number}.")
    }
    wanted = {key: value.shape for key, value in layers.state_dict().items()}
    if {key: value.shape for key, value in filled.items()} != wanted:
        raise BadFile(f"it does not hold the weights of all layers up to {names[-1]}")
    layers.load_state_dict(filled)
    return digest, _keep(state, digest) if path.name == VGG_WHOLE else []


def _keep(state: dict, digest: str) -> list[str]:
    """Write the part of VGG19 that we use, 52 of 575 MB, to the cache folder."""
    path = storage.cache_folder() / "weights" / VGG_KEPT
    first = tuple(f"features.{number}." for number in range(KEPT_LAYERS))
    part = {key: state[key].clone() for key in state if key.startswith(first)}
    buffer = io.BytesIO()
    torch.save(part, buffer)
    own = hashlib.sha256(buffer.getvalue()).hexdigest()
    digests = f"{own}  {VGG_KEPT}\n{digest}  {VGG_WHOLE}\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        storage.write(buffer.getvalue(), path)
        storage.write(digests.encode(), _beside(path))
    except OSError as error:
        return [_unwritable(path, error)]
    return [f"the part that is used is now {storage.shown(path)}"]


def _download(name: str, file: str, layers: nn.Sequential) -> tuple[str, list[str]]:
    """Fetch torchvision's file and fill the layers from it, as `_read` does."""
    path = storage.cache_folder() / "weights" / file
    print(f"{name}: fetching {file}, {MEGABYTES[file]} MB, from {MIRROR}")
    fresh, told = path.with_name(f"{file}.fetched"), []
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save(MIRROR + file, fresh, WEIGHTS[file], largest=1_100_000 * MEGABYTES[file])
        if path.is_file():  # only a damaged one can be there
            aside = path.with_name(f"{file}.damaged")
            path.replace(aside)
            told.append(f"the damaged file is kept as {aside.name}")
        fresh.replace(path)
    except OSError as error:
        raise DownloadError(file, [_unwritable(path, error)]) from None
    digest, kept = _read(path, layers)
    if file == VGG_WHOLE and good(VGG_KEPT):
        path.unlink()
    else:
        told.append(f"a good copy is now {storage.shown(path)}")
    return digest, told + kept


def _unwritable(path: Path, error: OSError) -> str:
    return f"{storage.shown(path.parent)} cannot be written to: {error.strerror}"
