"""The stamp of a run: what ran, what came out, and what the run says about itself.

It guards against mistakes; it is no signature, since anybody can compute a new one.
"""

import hashlib
import json

from nbformat import NotebookNode

from genlab_helpers.card import MIME
from genlab_helpers.pairs import TOKEN, ChapterError

SCHEMA = 1
FROM_RECORD = ("profile", "data", "versions", "seconds", "seed", "date")
FIELDS = frozenset(
    ("schema", "chapter", "code", "outputs", "device", "record", "stamp", *FROM_RECORD)
)


def code_cells(book: NotebookNode) -> list[NotebookNode]:
    """Return the cells of code that are not empty, in order."""
    return [c for c in book.cells if c.cell_type == "code" and c.source.strip()]


def cards(book: NotebookNode) -> list[dict]:
    """Return the record of every run card in the outputs."""
    outputs = [output for cell in code_cells(book) for output in cell.outputs]
    return [out["data"][MIME] for out in outputs if MIME in out.get("data", {})]


def code_digest(book: NotebookNode, address: str) -> str:
    """Return the sha256 of all code; the repository's address does not count."""
    return _digest([c.source.replace(address, TOKEN) for c in code_cells(book)])


def outputs_digest(book: NotebookNode) -> str:
    """Return the sha256 of all outputs, execution counts and attachments."""
    code = [c for c in book.cells if c.cell_type == "code"]
    ran = [[c.execution_count, c.outputs] for c in code]
    attached = [c["attachments"] for c in book.cells if c.get("attachments")]
    return _digest([ran, attached])


def seal(stamp: dict) -> str:
    """Return the sha256 over all fields of a stamp but the seal itself."""
    return _digest({key: stamp[key] for key in stamp if key != "stamp"})


def make_stamp(book: NotebookNode, stem: str, address: str) -> dict:
    """Return the stamp of an executed notebook.

    address: the OWNER/NAME that stands in the notebook. Raises ChapterError unless
    the outputs hold exactly one run card, complete and of this chapter.
    """
    found = cards(book)
    if len(found) != 1:
        raise ChapterError(
            f"{stem} has {len(found)} run cards, not one;"
            " end it with a cell whose last line is record.card()"
        )
    record = found[0]
    try:
        facts = {key: record[key] for key in FROM_RECORD}
        facts["device"] = record["machine"]["device"]
        chapter = record["chapter"]
    except (KeyError, TypeError) as error:
        raise ChapterError(f"the run card of {stem} lacks {error}") from error
    if chapter != stem:
        raise ChapterError(f"the run card of {stem} is for chapter {chapter!r}")
    stamp = {"schema": SCHEMA, "chapter": stem, **facts, "record": record}
    stamp["code"] = code_digest(book, address)
    stamp["outputs"] = outputs_digest(book)
    return stamp | {"stamp": seal(stamp)}


def _digest(value) -> str:
    text = json.dumps(value, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
