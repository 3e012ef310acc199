"""The stamp of a run: digests of what ran, of what came out, and of the helpers.

Everything else that a run says of itself is in the run card, among the outputs. A
stamp guards against mistakes; it is no signature, since anybody can compute one.
"""

import hashlib
import json
from pathlib import Path

from nbformat import NotebookNode

from publish import ChapterError

MIME = "application/vnd.genlab.record+json"  # of the run card; the package's, too
CARD = {"profile", "data", "machine", "versions", "seconds", "seed", "date"}
SCHEMA = 2
FIELDS = {"schema", "code", "outputs", "helpers"}
UNKNOWN = "unknown"  # the helpers of a run that did not note them
TOKEN = "{{repository}}"  # in a .py file: the repository, as OWNER/NAME
PACKAGE = "genlab_helpers"


def code_cells(book: NotebookNode) -> list[NotebookNode]:
    """Return the cells of code that are not empty, in order."""
    return [c for c in book.cells if c.cell_type == "code" and c.source.strip()]


def cards(book: NotebookNode) -> list[dict]:
    """Return the record of every run card in the outputs."""
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    return [out["data"][MIME] for out in outputs if MIME in out.get("data", {})]


def card(book: NotebookNode, stem: str) -> dict:
    """Return the record of the one run card.

    Raises ChapterError for none or several, one not complete or of another chapter.
    """
    found = cards(book)
    if len(found) != 1:
        raise ChapterError(
            f"{stem} has {len(found)} run cards, not one;"
            " end it with a cell whose last line is record.card()"
        )
    if missing := {*CARD, "chapter", "measurements"} - set(found[0]):
        raise ChapterError(f"the run card of {stem} lacks {', '.join(sorted(missing))}")
    if (chapter := found[0]["chapter"]) != stem:
        raise ChapterError(f"the run card of {stem} is for chapter {chapter!r}")
    return found[0]


def code_digest(book: NotebookNode, address: str) -> str:
    """Return the sha256 of all code; the repository's address does not count."""
    return _digest([c.source.replace(address, TOKEN) for c in code_cells(book)])


def outputs_digest(book: NotebookNode) -> str:
    """Return the sha256 of all outputs, execution counts and attachments."""
    code = [c for c in book.cells if c.cell_type == "code"]
    ran = [[c.execution_count, c.outputs] for c in code]
    attached = [c["attachments"] for c in book.cells if c.get("attachments")]
    return _digest([ran, attached])


def helpers_digest(root: Path) -> str:
    """Return the sha256 of the package, names and contents, or UNKNOWN without one."""
    patterns = ("*.py", "*.toml", "*.mplstyle", "weights/*.pt")
    paths = [path for pattern in patterns for path in (root / PACKAGE).glob(pattern)]
    files = {path.name: file_digest(path) for path in paths}
    return _digest(files) if files else UNKNOWN


def file_digest(path: Path) -> str:
    """Return the sha256 of a file; the kind of line ends in a text does not count."""
    content = path.read_bytes()
    if path.suffix != ".pt":
        content = content.replace(b"\r\n", b"\n")
    return hashlib.sha256(content).hexdigest()


def make_stamp(book: NotebookNode, address: str, helpers: str) -> dict:
    """Return the stamp of a notebook with this address, run with these helpers."""
    code, outputs = code_digest(book, address), outputs_digest(book)
    return {"schema": SCHEMA, "code": code, "outputs": outputs, "helpers": helpers}


def _digest(value) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
