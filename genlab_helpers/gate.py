"""The gate: why a chapter must not be published, one line a reason."""

import re
from collections.abc import Iterator
from pathlib import Path

from genlab_helpers import exports, pairs, stamps
from genlab_helpers.pairs import ChapterError, rerun
from genlab_helpers.sources import SOURCES, SPLITS, VOUCHED, digest
from genlab_helpers.stamps import code_cells

LARGEST = 3_500_000  # bytes of a published notebook
PUBLISHED = ("laptop", "full")  # the profiles whose numbers mean something
WIDGET = "application/vnd.jupyter.widget-view+json"

# An absolute path of two parts or more, on Unix or Windows. Not part of an address
# (https://host/a/b), a relative path (a/b, ./a/b), a fraction (1/2) or a tag (</td>).
MACHINE_PATH = re.compile(
    r"(?<![\w/.~+)\]-])/[A-Za-z][\w.-]+/[\w.-]+"
    r"|file:///[\w.-]+"
    r"|(?<!\w)[A-Za-z]:(?:\\{1,2}|/)[\w .-]+(?:\\{1,2}|/)[\w.-]+"
)
EMBEDDED = re.compile(r"data:[\w/.+-]+;base64,[A-Za-z0-9+/=\s\\]+")


def reasons(root: Path, stem: str) -> list[str]:
    """Return why a chapter must not be published, each as "reason; remedy".

    An empty list means that the gate lets it pass.
    """
    source_file = pairs.source_path(root, stem)
    path = pairs.notebook_path(root, stem)
    if not source_file.is_file():
        return [f"{source_file.name} is missing; restore it, or delete {path.name}"]
    if not path.is_file():
        return [f"{path.name} is missing; run the chapter: {rerun(stem)}"]
    try:
        source, book = pairs.read_source(source_file), pairs.read_notebook(path)
        address = pairs.repository(root)
    except ChapterError as error:
        return [str(error)]
    there = pairs.address_in(book, source) or address
    found = [*_pair(book, source, there, address), *_cells(book), *_contents(book)]
    found += _stamp(book, stem, there)
    found += _exports(root, book, stem)
    if path.stat().st_size > LARGEST:
        size = path.stat().st_size / 1e6
        found.append(f"{path.name} has {size:.1f} MB, over 3.5; use smaller figures")
    return found


def _pair(book, source, there: str, address: str) -> Iterator[str]:
    wanted = [
        [c.cell_type, c.source, c.metadata] for c in pairs.render(source, there).cells
    ]
    cells = [[c.cell_type, c.source, c.metadata] for c in book.cells]
    if there != address:
        yield (
            f"the notebook gives the repository's address as {there},"
            f" pyproject.toml as {address}; run: make sync"
        )
    if cells != wanted:
        same = [ours == theirs for ours, theirs in zip(cells, wanted, strict=False)]
        number = ([*same, False]).index(False) + 1
        yield (
            f"the .ipynb differs from the .py, first in cell {number};"
            " edit the .py only, then run: make sync"
        )


def _cells(book) -> Iterator[str]:
    counts = [cell.execution_count for cell in code_cells(book)]
    for number, cell in enumerate(book.cells, start=1):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        if cell.execution_count is None:
            yield f"cell {number} was not run; run the chapter again"
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"cell {number} failed; mend it and run the chapter again"
    if None not in counts and counts != list(range(1, len(counts) + 1)):
        yield "its cells were not run once each, in order; run the chapter again"


def _contents(book) -> Iterator[str]:
    for number, cell in enumerate(book.cells, start=1):
        outputs = cell.get("outputs", [])
        kinds = {kind for output in outputs for kind in output.get("data", {})}
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
        if path := machine_path(outputs):
            yield (
                f"an output of cell {number} names a path of one machine ({path});"
                " print something else, and run the chapter again"
            )
        if WIDGET in kinds:
            yield f"cell {number} shows a widget, dead on a page; run the chapter again"
        if any(kind.startswith("image/") for kind in kinds) and not alt.strip():
            yield (
                f"the figure of cell {number} has no alt text; add mystnb="
                '{"image": {"alt": "..."}} to the cell in the .py, then run: make sync'
            )


def machine_path(outputs) -> str | None:
    """Return the first absolute path of a machine in some outputs, or None."""
    for output in outputs:
        texts = [output.get("text", ""), *output.get("traceback", [])]
        for kind, value in output.get("data", {}).items():
            if not kind.startswith("image/") or "svg" in kind:
                texts += _strings(value)
        for text in texts:
            if found := MACHINE_PATH.search(EMBEDDED.sub("", text)):
                return found[0]
    return None


def _strings(value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from _strings([*value, *value.values()])
    elif isinstance(value, list):
        for part in value:
            yield from _strings(part)


def _stamp(book, stem: str, address: str) -> Iterator[str]:
    again = f"run the chapter again: {rerun(stem)}"
    stamp = book.metadata.get("genlab")
    if not isinstance(stamp, dict):
        yield f"it has no stamp, so nothing shows that it ran; {again}"
    elif stamp.get("schema") != stamps.SCHEMA:
        yield f"its stamp has the unknown schema {stamp.get('schema')!r}; {again}"
    elif set(stamp) != stamps.FIELDS or stamp["stamp"] != stamps.seal(stamp):
        yield f"its stamp was edited; {again}"
    else:
        yield from (
            f"{reason}; {again}" for reason in _broken(book, stamp, stem, address)
        )


def _broken(book, stamp, stem: str, address: str) -> Iterator[str]:
    if stamp["code"] != stamps.code_digest(book, address):
        yield "its code was changed after the run"
    if stamp["outputs"] != stamps.outputs_digest(book):
        yield "its outputs were changed after the run"
    try:
        told = stamps.make_stamp(book, stem, address)
    except ChapterError as error:
        yield str(error)
        return
    if stamp["record"] != told["record"]:
        yield "the record in its stamp is not the one in its run card"
    elif odd := [
        key for key in ("device", *stamps.FROM_RECORD) if stamp[key] != told[key]
    ]:
        yield f"its stamp contradicts its run card in: {', '.join(odd)}"
    if stamp["chapter"] != stem:
        yield f"its stamp is the one of chapter {stamp['chapter']!r}"
    if stamp["profile"] not in PUBLISHED:
        yield f"it was run in the profile {stamp['profile']!r}, never to be published"
    yield from filter(None, map(_doubt, stamp["data"]))


def _exports(root: Path, book, stem: str) -> Iterator[str]:
    """Compare the arrays beside the page with what the run card says of them."""
    for card in stamps.cards(book)[:1]:
        for reason in exports.reasons(root, stem, card.get("exports", [])):
            yield f"{reason}; run the chapter again: {rerun(stem)}"


def _doubt(use: dict) -> str | None:
    """Return what speaks against one entry of the data that a run used."""
    name, split = use.get("name"), use.get("split")
    if use.get("source") == "stand-in":
        return f"it was run on a stand-in ({name}, {split}), not on the real data set"
    if (name, split) in VOUCHED:
        known = VOUCHED[name, split]
    elif name in SOURCES:
        known = (digest(name, split),) if split in SPLITS else ()
    else:
        return f"nothing vouches for its data set {name!r}; list it in sources.py"
    sha256 = str(use.get("sha256"))
    if len(sha256) != 64 or not sha256.startswith(known):
        return f"its data is not the real {name}: the digest of {split!r} differs"
    return None
