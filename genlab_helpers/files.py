"""Where files lie: find a good copy or fetch one, never use or lose a damaged one."""

import hashlib
import os
import shutil
import socket
import tempfile
import time
import tomllib
from collections.abc import Callable
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import torch

from genlab_helpers.settings import cache_folder, data_folder, variable

SILENCE = 20.0  # seconds without a byte after which a download is given up
LEFT = 3600.0  # seconds after which a temporary folder belongs to no write any more
DIGESTS = tomllib.loads(Path(__file__).with_name("digests.toml").read_text("utf-8"))
FAILURES = (OSError, RuntimeError, HTTPException)  # what a download raises


class DownloadError(RuntimeError):
    """A file could not be had; the message gives the reasons and the remedy."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Origin:
    """What something is and where it came from; subclasses add the tensors.

    ``source`` is "folder", "download", "stand-in" or "own"; ``sha256`` is that of the
    content, ``count`` says how many; ``note`` is what was said while loading.
    """

    name: str
    split: str
    source: str
    sha256: str
    count: int
    note: str = ""

    @property
    def is_stand_in(self) -> bool:
        """Whether this stands in for something that was not to be had."""
        return self.source == "stand-in"

    def facts(self) -> dict:
        """Return what a run's record keeps of this."""
        names = ("name", "split", "source", "sha256", "count")
        return {name: getattr(self, name) for name in names}


def known(name: str, split: str) -> list[dict]:
    """Return the entries of digests.toml with this name and split, the best first."""
    return [e for e in DIGESTS["known"] if (e["name"], e["split"]) == (name, split)]


def obtain(name: str, urls: list[str], sha256: str, also=()) -> tuple[Path, str]:
    """Return the path of a good copy of a file, and "folder" or "download".

    It is looked for at ``name`` in the data folder and the cache folder, and by its
    file name in the folders ``also``; else fetched from one of ``urls`` to the first
    place that is free. ``sha256`` may be the beginning of one; "" takes any content.
    Raises DownloadError if it cannot be had; a damaged copy is left where it is.
    """
    places = [folder / name for folder in (data_folder(), cache_folder())]
    reasons, free = [], []
    for path in dict.fromkeys([*places, *(Path(a, Path(name).name) for a in also)]):
        if path.is_file():
            if (found := sha256_of(path)).startswith(sha256):
                return path, "folder"
            reasons.append(f"{shown(path)} is damaged: its sha256 is {found[:8]}...")
            print(f"{reasons[-1]}; it is not used, and left as it is.")
    for path in places if urls else []:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            free += [path] * (os.access(path.parent, os.W_OK) and not path.exists())
    for url in urls:
        try:
            if not free:
                raise OSError("no place for it is both free and writable")
            with patience():  # all or nothing, with a check of the sha256
                torch.hub.download_url_to_file(url, str(free[0]), hash_prefix=sha256)
            return free[0], "download"
        except FAILURES as error:
            reasons.append(f"{url}: {error}")
    lines = [f"{name} could not be had.", *(f"  - {reason}" for reason in reasons)]
    remedy = f"with a network, or put a good copy at {shown(places[0])}."
    raise DownloadError("\n".join([*lines, f"What helps: run this again {remedy}"]))


def sha256_of(path: Path) -> str:
    """Return a file's sha256, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def patience():
    """Give up, in this block, a server that sends nothing for SILENCE seconds."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(SILENCE)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def write(content: bytes | Callable, path: Path) -> None:
    """Write all or nothing, safe with other processes that write the same file.

    content: bytes, or a function of the path to write them to. What killed writes have
    left beside the file goes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in path.parent.glob(".genlab-*"):
        with suppress(OSError):  # another process may be faster
            if old.stat().st_mtime < time.time() - LEFT:
                shutil.rmtree(old)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".genlab-") as folder:
        fresh = Path(folder, path.name)
        content(fresh) if callable(content) else fresh.write_bytes(content)
        fresh.replace(path)


def shown(path: Path) -> str:
    """Return a path as readers may see it: without the place on this machine.

    A GENLAB_DATA that is not there, perhaps mistyped, is shown as it is.
    """
    named = variable("GENLAB_DATA") and data_folder().is_dir()
    bases = {"GENLAB_DATA": data_folder()} if named else {}
    for name, base in {**bases, "~": Path(os.path.expanduser("~"))}.items():
        if path.is_relative_to(base):
            return Path(name, path.relative_to(base)).as_posix()
    return str(path)
