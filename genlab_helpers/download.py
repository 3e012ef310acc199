"""Fetch one file of a dataset, or of weights, checked before anyone uses it."""

import gzip
import hashlib
import http.client
import io
import os
import queue
import secrets
import threading
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

from tqdm import tqdm

from genlab_helpers import __version__
from genlab_helpers.sources import Source

SILENCE = 10.0  # seconds without a byte after which a mirror is given up
LONGEST = 600.0  # seconds that LARGEST bytes may take from one mirror
PAUSE = 1.0  # seconds before the one retry
FORGET = 30.0  # seconds for which a mirror that did not answer is not asked again
LARGEST = 64 * 2**20  # bytes; no file of a dataset is larger, packed or unpacked

_silent_since: dict[str, float] = {}  # host -> when it did not answer


class BadFile(ValueError):
    """A file that must not be used; the message says what is wrong with it."""


class DownloadError(RuntimeError):
    """A file could not be had; ``reasons`` holds one line for each mirror."""

    def __init__(self, file_name: str, reasons: list[str]):
        super().__init__(f"{file_name}: {'; '.join(reasons)}")
        self.file_name = file_name
        self.reasons = reasons


class _Refused(Exception):
    """A mirror does not help, and asking it again would not either."""


class _Passing(Exception):
    """Something went wrong that may be over a second later."""


def fetch(source: Source, file_name: str) -> bytes:
    """Return the decompressed content of one file, its sha256 checked.

    The mirrors are asked in turn, each once more after an error that can pass.

    Args:
        source: the dataset, with its mirrors and digests.
        file_name: a key of ``source.files``; mirrors serve ``file_name + ".gz"``.

    Raises:
        DownloadError: if no mirror gave a good copy.
    """
    reasons = []
    for mirror in source.mirrors:
        url = f"{mirror}{file_name}.gz"
        try:
            return _twice(lambda url=url: unpack(_get(url), source.files[file_name]))
        except (_Refused, _Passing, BadFile) as error:
            reasons.append(f"{urlsplit(url).netloc}: {error}")
    raise DownloadError(file_name, reasons)


def save(url: str, path: Path, sha256: str, largest: int) -> None:
    """Download one file as it is, of any size, onto the disk.

    All or nothing: ``path`` appears, or is replaced, when the content was checked.

    Args:
        url: its address, asked once more after an error that can pass.
        path: where it goes; the folder must be there.
        sha256: its sha256, or the beginning of it if no more is published.
        largest: bytes after which it cannot be the right file.

    Raises:
        DownloadError: if no good copy came.
        OSError: if ``path`` cannot be written.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        _twice(lambda: _to_disk(url, part, sha256, largest))
        os.replace(part, path)
    except (_Refused, _Passing, BadFile) as error:
        reason = f"{urlsplit(url).netloc}: {error}"
        raise DownloadError(url.rpartition("/")[2], [reason]) from None
    finally:
        part.unlink(missing_ok=True)


def check(content: bytes, sha256: str) -> bytes:
    """Return the content if it has this sha256.

    Raises:
        BadFile: if it has another one.
    """
    check_digest(hashlib.sha256(content).hexdigest(), sha256, len(content))
    return content


def check_digest(found: str, sha256: str, size: int) -> None:
    """Compare the sha256 found with the one wanted, or with the beginning of it.

    Raises:
        BadFile: if they differ; ``size``, in bytes, is for the message.
    """
    if not found.startswith(sha256):
        raise BadFile(
            f"wrong content: {size:,} bytes with sha256 {found[:8]}... "
            f"instead of {sha256[:8]}..."
        )


def unpack(packed: bytes, sha256: str) -> bytes:
    """Return the content of a gzip file if it has this sha256.

    Raises:
        BadFile: if it is no gzip file, is cut off, or holds something else.
    """
    if packed[:2] != b"\x1f\x8b":
        # Some programs unpack on the way and keep the name: only content counts.
        if hashlib.sha256(packed).hexdigest() == sha256:
            return packed
        page = packed[:512].lstrip()[:1] == b"<"
        kind = "a web page (a quota or log-in notice?)" if page else "something else"
        raise BadFile(f"{kind} came instead of a gzip file ({len(packed):,} bytes)")
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(packed)) as file:
            content = file.read(LARGEST + 1)  # bounded, whatever was sent
    except EOFError:
        raise BadFile(f"the gzip file is cut off after {len(packed):,} bytes") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise BadFile(f"the gzip file is damaged ({error})") from None
    return check(content, sha256)


def _twice(attempt: Callable):
    """Return what an attempt gives, made once more after an error that can pass."""
    try:
        return attempt()
    except _Passing:
        time.sleep(PAUSE)
        return attempt()


def _to_disk(url: str, path: Path, sha256: str, largest: int) -> None:
    hashed, size = hashlib.sha256(), 0
    with path.open("wb") as file, closing(_pieces(url, largest)) as pieces:
        for piece in pieces:
            file.write(piece)
            hashed.update(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    check_digest(hashed.hexdigest(), sha256, size)


def _get(url: str) -> bytes:
    return b"".join(_pieces(url, LARGEST))


def _pieces(url: str, largest: int) -> Iterator[bytes]:
    """Yield the body behind the address, or raise _Refused or _Passing."""
    host = urlsplit(url).netloc
    if time.monotonic() - _silent_since.get(host, -FORGET) < FORGET:
        raise _Refused("did not answer a moment ago, so it was not asked again")
    agent = {"User-Agent": f"genlab-helpers/{__version__}"}
    request = urllib.request.Request(url, headers=agent)
    try:
        with _open(request) as response:
            yield from _read(response, url.rpartition("/")[2], largest)
    except urllib.error.HTTPError as error:
        error.close()
        passing = error.code in (408, 429) or error.code >= 500
        kind = _Passing if passing else _Refused
        raise kind(f"answered {error.code} {error.reason}") from None
    except urllib.error.URLError as error:
        _silent_since[host] = time.monotonic()
        raise _Refused(f"cannot be reached ({error.reason})") from None
    except TimeoutError:
        _silent_since[host] = time.monotonic()
        raise _Refused(f"sent nothing within {SILENCE:g} s") from None
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"the connection broke ({error!r})") from None


def _open(request: urllib.request.Request) -> http.client.HTTPResponse:
    """Open an address within SILENCE seconds in all, else raise TimeoutError.

    A socket's own timeout holds for each of a host's addresses, of which a large
    host has many, and not at all for looking up its name: hence the thread.
    """
    answers = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(urllib.request.urlopen(request, timeout=SILENCE))
        except Exception as error:
            answers.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=SILENCE)
    except queue.Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _read(
    response: http.client.HTTPResponse, title: str, largest: int
) -> Iterator[bytes]:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    longest = LONGEST * max(1, largest / LARGEST)
    deadline = time.monotonic() + longest
    size = 0
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, leave=False) as bar:
        while piece := response.read(2**16):
            size += len(piece)
            bar.update(len(piece))
            if size > largest:
                raise _Refused("sent far more than the file holds")
            if time.monotonic() > deadline:
                raise _Refused(f"was not done after {longest:g} s")
            yield piece
    if total is not None and size < total:
        raise _Passing(f"the connection broke after {size:,} of {total:,} bytes")
