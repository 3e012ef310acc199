"""The gate: why a chapter must not be published, one line a reason."""

import hashlib
import itertools
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

from publish import ChapterError, chapters, stamps, tokens

LARGEST = 3_500_000  # bytes of a published notebook
PUBLISHED = ("laptop", "full")  # the profiles whose numbers mean something
WIDGET = "application/vnd.jupyter.widget-view+json"
DIGESTS = f"{stamps.PACKAGE}/digests.toml"  # what data and weights are real
SPLITS = {"train": "train", "test": "t10k"}  # the prefix of a split's files

# An absolute path of two parts or more, on Unix or Windows. Not part of an address
# (https://host/a/b), a relative path (a/b, ./a/b), a fraction (1/2) or a tag (</td>).
MACHINE_PATH = re.compile(
    r"(?<![\w/.~+)\]-])/[A-Za-z][\w.-]+/[\w.-]+"
    r"|file:///[\w.-]+"
    r"|(?<!\w)[A-Za-z]:(?:\\{1,2}|/)[\w .-]+(?:\\{1,2}|/)[\w.-]+"
)
STRING = re.compile(r'"(?:[^"\\]+|\\.)*"')  # of JSON
EMBEDDED = re.compile(r"data:[\w/.+-]+;base64,[A-Za-z0-9+/=\s\\]+")


def reasons(root: Path, stem: str) -> list[str]:
    """Return why a chapter must not be published, each as "reason; remedy"."""
    source_file = chapters.source_path(root, stem)
    path = chapters.notebook_path(root, stem)
    if not source_file.is_file():
        return [f"{source_file.name} is missing; restore it, or delete {path.name}"]
    if not path.is_file():
        return [f"{path.name} is missing; run the chapter: {chapters.rerun(stem)}"]
    try:
        source, book = chapters.read_source(source_file), chapters.read_notebook(path)
        address = chapters.address_in(book) or chapters.repository(root)
    except ChapterError as error:
        return [str(error)]
    found = [*_pair(root, stem, book, source, address), *_cells(book)]
    again = f"run the chapter again: {chapters.rerun(stem)}"
    found += [f"{reason}; {again}" for reason in _run(root, stem, book, address)]
    if path.stat().st_size > LARGEST:
        found.append(f"{path.name} has over 3.5 MB; use smaller figures, and run again")
    return found


def notices(root: Path, stem: str) -> list[str]:
    """Return what is worth knowing of a chapter and no reason against it."""
    stamp = chapters.read_notebook(chapters.notebook_path(root, stem)).metadata.genlab
    if stamp["helpers"] == stamps.UNKNOWN:
        return ["(its run did not note the digest of the helpers)"]
    same = stamp["helpers"] == stamps.helpers_digest(root)
    return [] if same else [f"({stamps.PACKAGE} was changed after the run)"]


def _pair(root: Path, stem: str, book, source, address: str) -> Iterator[str]:
    try:
        measured = chapters.numbers(root, stem, book)
        wanted = chapters.render(source, address, measured)
    except ChapterError as error:
        yield from (f"{line}; then run: make sync" for line in str(error).splitlines())
        return
    both = [book.cells, wanted.cells]
    pair = ([(c.cell_type, c.source, c.metadata) for c in cells] for cells in both)
    same = [ours == theirs for ours, theirs in itertools.zip_longest(*pair)]
    if not all(same):
        yield (
            f"the .ipynb differs from the .py, first in cell {same.index(False) + 1};"
            " edit the .py only, then run: make sync"
        )
    for number, cell in enumerate(book.cells, start=1):
        for token in tokens.left(cell.source) if cell.cell_type == "markdown" else ():
            yield (
                f"cell {number}: no run has the number for {token};"
                " run the chapter that measures it, then run: make sync"
            )


def _cells(book) -> Iterator[str]:
    again, cells = "run the chapter again", enumerate(book.cells, start=1)
    code = [(n, c) for n, c in cells if c.cell_type == "code" and c.source.strip()]
    late = [n for i, (n, c) in enumerate(code, start=1) if c.execution_count != i]
    if late:
        yield f"cell {late[0]} was not run, or not once and in order; {again}"
    for number, cell in code:
        kinds = {kind for output in cell.outputs for kind in output.get("data", {})}
        alt = cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()
        if any(output.output_type == "error" for output in cell.outputs):
            yield f"cell {number} failed; mend it and {again}"
        if path := machine_path(cell.outputs):
            yield (
                f"an output of cell {number} names a path of one machine ({path});"
                f" print something else, and {again}"
            )
        if WIDGET in kinds:
            yield f"cell {number} shows a widget, dead on a page; {again}"
        if any(kind.startswith("image/") for kind in kinds) and not alt:
            yield (
                f"the figure of cell {number} has no alt text; add mystnb="
                '{"image": {"alt": "..."}} to the cell in the .py, then run: make sync'
            )


def machine_path(outputs) -> str | None:
    """Return the first absolute path of a machine in some outputs, or None."""
    for output in outputs:
        data = output.get("data", {}).items()
        shown = {kind: v for kind, v in data if "svg" in kind or "image/" not in kind}
        parts = json.dumps([output.get("text"), output.get("traceback"), shown])
        for text in map(json.loads, STRING.findall(parts)):
            if found := MACHINE_PATH.search(EMBEDDED.sub("", text)):
                return found[0]
    return None


def _run(root: Path, stem: str, book, address: str) -> Iterator[str]:
    """Compare the notebook with its stamp, its card, known data and its exports."""
    stamp = book.metadata.get("genlab")
    if not isinstance(stamp, dict):
        yield "it has no stamp, so nothing shows that it ran"
    elif stamp.get("schema") != stamps.SCHEMA:
        yield f"its stamp has the unknown schema {stamp.get('schema')!r}"
    elif set(stamp) != stamps.FIELDS:
        yield "its stamp was edited"
    else:
        if stamp["code"] != stamps.code_digest(book, address):
            yield "its code was changed after the run"
        if stamp["outputs"] != stamps.outputs_digest(book):
            yield "its outputs were changed after the run"
    try:
        card = stamps.card(book, stem)
    except ChapterError as error:
        yield str(error)
        return
    if card["profile"] not in PUBLISHED:
        yield f"it was run in the profile {card['profile']!r}, never to be published"
    known = tomllib.loads((root / DIGESTS).read_text(encoding="utf-8"))
    yield from filter(None, (_doubt(use, known) for use in card["data"]))
    yield from _exports(root, stem, card.get("exports", []))


def _doubt(use: dict, known: dict) -> str | None:
    """Return what speaks against one entry of the data that a run used."""
    name, split, sha256 = (str(use.get(key)) for key in ("name", "split", "sha256"))
    if use.get("source") == "stand-in":
        return f"it was run on a stand-in ({name}, {split}), not on the real data set"
    real = _real(name.partition(" (")[0], split, known)  # the edition is in brackets
    if not real:
        return f"nothing vouches for its data {name!r}, {split!r}; list it in {DIGESTS}"
    if len(sha256) != 64 or not sha256.startswith(real):
        return f"its data is not the real {name}: the digest of {split!r} differs"
    return None


def _real(name: str, split: str, known: dict) -> tuple[str, ...]:
    """Return every sha256, or as much of it as is published, that is known."""
    if name in known["datasets"] and split in SPLITS:
        files, prefix = known["datasets"][name]["files"], SPLITS[split]
        both = [f"{prefix}-{end}-ubyte" for end in ("images-idx3", "labels-idx1")]
        text = "".join(files[file] for file in both)
        return (hashlib.sha256(text.encode()).hexdigest(),)
    found = [e for e in known["known"] if (e["name"], e["split"]) == (name, split)]
    return tuple(entry["sha256"] for entry in found)


def _exports(root: Path, stem: str, exports: list[dict]) -> Iterator[str]:
    """Compare the arrays beside the page with what the run card says of them."""
    place = chapters.exports_folder(root, stem)
    there = {path.name: path for path in place.glob("*")}
    for entry in exports:
        path = there.pop(entry["file"], None)
        if path is None:
            yield f"its export {entry['file']} is missing"
        elif stamps.file_digest(path) != entry["sha256"]:
            yield f"its export {entry['file']} was changed after the run"
    for name in sorted(there):
        yield f"no run of it wrote {place.relative_to(root).as_posix()}/{name}"
