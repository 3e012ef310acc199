"""Arrays of a run as small scripts, for the parts of a page that the reader can move.

A script works from a web server and from a file opened by hand, where a page may
load scripts but no other files. Nothing here imports torch or NumPy.
"""

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

FOLDER = Path("book") / "_static" / "data"  # below it, one folder a chapter: 02, ...
NAME = re.compile(r"[a-z][a-z0-9_]*")
LARGEST = 2_000_000  # bytes of one script
LARGEST_NUMBER = 65_504  # that float16 holds


def script(chapter: str, name: str, arrays: dict) -> bytes:
    """Pack NumPy arrays, given by name, as one line of JavaScript.

    It sets ``genlabData["<chapter>/<name>"]`` to an object that maps each array's name
    to its ``shape`` and its numbers, ``float16``: little-endian, row by row, as base64.
    Raises ValueError for a name that is no file name, no array, a number that float16
    cannot hold, or a script of more than 2 MB.
    """
    if not NAME.fullmatch(name):
        raise ValueError(f"An export's name is lower case, like code_map; not {name!r}")
    if not arrays:
        raise ValueError(f"The export {name!r} holds no array")
    packed = {key: _pack(f"{name}/{key}", value) for key, value in arrays.items()}
    text = json.dumps(packed, separators=(",", ":"))
    place = json.dumps(f"{chapter}/{name}")
    content = f"(globalThis.genlabData ??= {{}})[{place}] = {text};\n".encode()
    if len(content) > LARGEST:
        raise ValueError(
            f"The export {name!r} has {len(content)} bytes, over {LARGEST}"
        )
    return content


def digest(content: bytes) -> str:
    """Return the sha256 of a script."""
    return hashlib.sha256(content).hexdigest()


def folder(root: Path, stem: str) -> Path:
    """Return where the exports of a chapter lie."""
    return root / FOLDER / stem[:2]


def reasons(root: Path, stem: str, exports: list[dict]) -> Iterator[str]:
    """Say how the files of a chapter differ from what its run wrote down."""
    place = folder(root, stem)
    there = {path.name: path for path in place.iterdir()} if place.is_dir() else {}
    for entry in exports:
        path = there.pop(entry["file"], None)
        if path is None:
            yield f"its export {entry['file']} is missing"
        elif digest(path.read_bytes()) != entry["sha256"]:
            yield f"its export {entry['file']} was changed after the run"
    for name in sorted(there):
        yield f"no run of it wrote {FOLDER.as_posix()}/{stem[:2]}/{name}; delete that"


def _pack(what: str, array) -> dict:
    # A comparison with NaN is false, so that this refuses it too.
    if array.size == 0 or not (abs(array) <= LARGEST_NUMBER).all():
        raise ValueError(f"{what} is empty or holds numbers that float16 cannot hold")
    text = base64.b64encode(array.astype("<f2").tobytes()).decode("ascii")
    return {"shape": list(array.shape), "float16": text}
