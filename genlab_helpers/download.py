"""Fetch one file of a dataset from its mirrors, checked before anyone uses it."""

import gzip
import hashlib
import http.client
import io
import queue
import threading
import time
import urllib.error
import urllib.request
import zlib
from urllib.parse import urlsplit

from tqdm import tqdm

from genlab_helpers import __version__
from genlab_helpers.sources import Source

SILENCE = 10.0  # seconds without a byte after which a mirror is given up
LONGEST = 600.0  # seconds that one file may take from one mirror
PAUSE = 1.0  # seconds before the one retry
FORGET = 30.0  # seconds for which a mirror that did not answer is not asked again
LARGEST = 64 * 2**20  # bytes; no file of ours is larger, packed or unpacked

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
            return _from_mirror(url, source.files[file_name])
        except (_Refused, _Passing, BadFile) as error:
            reasons.append(f"{urlsplit(url).netloc}: {error}")
    raise DownloadError(file_name, reasons)


def check(content: bytes, sha256: str) -> bytes:
    """Return the content if it has this sha256.

    Raises:
        BadFile: if it has another one.
    """
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise BadFile(
            f"wrong content: {len(content):,} bytes with sha256 {found[:8]}... "
            f"instead of {sha256[:8]}..."
        )
    return content


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


def _from_mirror(url: str, sha256: str) -> bytes:
    try:
        return unpack(_get(url), sha256)
    except _Passing:
        time.sleep(PAUSE)
        return unpack(_get(url), sha256)


def _get(url: str) -> bytes:
    """Return the body behind the address, or raise _Refused or _Passing."""
    host = urlsplit(url).netloc
    if time.monotonic() - _silent_since.get(host, -FORGET) < FORGET:
        raise _Refused("did not answer a moment ago, so it was not asked again")
    agent = {"User-Agent": f"genlab-helpers/{__version__}"}
    request = urllib.request.Request(url, headers=agent)
    try:
        with _open(request) as response:
            return _read(response, url.rpartition("/")[2])
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


def _read(response: http.client.HTTPResponse, title: str) -> bytes:
    length = response.headers.get("Content-Length", "")
    total = int(length) if length.isdecimal() else None
    deadline = time.monotonic() + LONGEST
    body = bytearray()
    with tqdm(total=total, desc=title, unit="B", unit_scale=True, leave=False) as bar:
        while piece := response.read(2**16):
            body += piece
            bar.update(len(piece))
            if len(body) > LARGEST:
                raise _Refused("sent far more than the file holds")
            if time.monotonic() > deadline:
                raise _Refused(f"was not done after {LONGEST:g} s")
    if total is not None and len(body) < total:
        raise _Passing(f"the connection broke after {len(body):,} of {total:,} bytes")
    return bytes(body)
