"""A chapter is a pair: NN_name.py is what people edit, NN_name.ipynb is derived.

Everything here goes in that one direction, and writes whole files or nothing.
"""

import hashlib
import os
import re
import tomllib
from collections import defaultdict, deque
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

FOLDER = "notebooks"
TOKEN = "{{repository}}"  # in a .py file: the repository, as OWNER/NAME
METADATA = {
    "kernelspec": {
        "display_name": "Python 3 (ipykernel)",
        "language": "python",
        "name": "python3",
    },
    "language_info": {"name": "python", "pygments_lexer": "ipython3"},
}


class ChapterError(ValueError):
    """Something about a chapter that a person must put right; the message says how."""


def find_root(start: Path) -> Path:
    """Return the repository's root: `start` or the nearest folder above it.

    Raises ChapterError if none holds both pyproject.toml and the notebooks folder.
    """
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / FOLDER).is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise ChapterError(
        f"No folder {FOLDER!r} beside a pyproject.toml, neither here nor in a folder"
        " above; call this from the root of the repository."
    )


def chapters(root: Path) -> list[str]:
    """Return the names of all chapters, whole pairs and halves, in order.

    Raises ChapterError if the notebooks folder is missing.
    """
    folder = root / FOLDER
    if not folder.is_dir():
        raise ChapterError(f"There is no folder {folder}; restore it with git.")
    files = [*folder.glob("*.py"), *folder.glob("*.ipynb")]
    return sorted({path.stem for path in files if not path.name.startswith(".")})


def find_chapter(root: Path, text: str) -> str:
    """Return the chapter that `text` means: "01", "1", "01_kmeans" or a path.

    Raises ChapterError, listing the chapters, if it means none or several.
    """
    known, path = chapters(root), Path(text)
    name = re.sub(r"\.(py|ipynb)$", "", path.name)
    meant = [stem for stem in known if name == stem or _same_number(name, stem)]
    if path.parent != Path() and path.resolve().parent != (root / FOLDER).resolve():
        meant = []
    if len(meant) != 1:
        what = "more than one chapter" if meant else "no chapter"
        listing = ", ".join(known) or "none yet"
        raise ChapterError(f"{text!r} means {what}. The chapters are: {listing}.")
    return meant[0]


def _same_number(name: str, stem: str) -> bool:
    number = stem.partition("_")[0]
    return name.isdecimal() and number.isdecimal() and int(name) == int(number)


def repository(root: Path) -> str:
    """Return the repository as OWNER/NAME, from the one place where it stands.

    Raises ChapterError if pyproject.toml does not give it.
    """
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        address = tomllib.loads(text)["project"]["urls"]["Repository"]
        return re.fullmatch(r"https://[^/]+/([^/]+/[^/]+?)(\.git)?/?", address)[1]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ChapterError(
            "pyproject.toml must give the repository's address in [project.urls], as"
            f' in Repository = "https://github.com/OWNER/NAME" ({error}).'
        ) from error


def source_path(root: Path, stem: str) -> Path:
    """Return the path of a chapter's .py file."""
    return root / FOLDER / f"{stem}.py"


def notebook_path(root: Path, stem: str) -> Path:
    """Return the path of a chapter's .ipynb file."""
    return root / FOLDER / f"{stem}.ipynb"


def read_source(path: Path) -> NotebookNode:
    """Read a .py file as a notebook, TOKEN in place, without ids or outputs.

    Raises ChapterError if it cannot be read.
    """
    try:
        book = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, ValueError) as error:
        raise ChapterError(f"{path.name} cannot be read ({error}); mend it") from error
    for cell in book.cells:
        for key in ("lines_to_next_cell", "lines_to_end_of_cell_marker", "cell_marker"):
            cell.metadata.pop(key, None)
    return book


def read_notebook(path: Path) -> NotebookNode:
    """Read a .ipynb file.

    Raises ChapterError if it cannot be read, or is no valid notebook.
    """
    try:
        book = nbformat.reads(path.read_text(encoding="utf-8"), as_version=4)
        nbformat.validate(book)
    except Exception as error:  # nbformat raises whatever it stumbles over
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ChapterError(
            f"{path.name} is not a valid notebook ({first});"
            f" restore it with git, or delete it, then {rerun(path.stem)}"
        ) from error
    return book


def rerun(stem: str) -> str:
    """Return the command that runs a chapter, for messages."""
    return f"make run CHAPTER={stem.partition('_')[0]}"


def render(source: NotebookNode, address: str) -> NotebookNode:
    """Return the notebook that a source stands for: not run, the address filled in.

    Ids come from the content, so that an unchanged cell keeps its own.
    """
    book = nbformat.v4.new_notebook(metadata=METADATA)
    seen: dict[str, int] = defaultdict(int)
    for cell in source.cells:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()
        seen[digest] += 1
        name = digest[:12] if seen[digest] == 1 else f"{digest[:12]}-{seen[digest]}"
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        text = cell.source.replace(TOKEN, address)
        book.cells.append(make(text, id=name, metadata=cell.metadata))
    return book


def address_in(book: NotebookNode, source: NotebookNode) -> str | None:
    """Return the OWNER/NAME that stands in a notebook where its source has TOKEN."""
    lines = [line for cell in book.cells for line in cell.source.splitlines()]
    for cell in source.cells:
        for model in filter(lambda line: TOKEN in line, cell.source.splitlines()):
            start, *rest = map(re.escape, model.split(TOKEN))
            pattern = start + r"([\w.-]+/[\w.-]+?)" + r"\1".join(rest)
            for line in lines:
                if found := re.fullmatch(pattern, line):
                    return found[1]
    return None


def sync(root: Path, stem: str) -> bool:
    """Carry a chapter's .py over to its .ipynb; return whether the file changed.

    Cells whose code is the same keep their outputs; attachments and the stamp stay.
    Raises ChapterError, and writes nothing, if a file is missing or unreadable.
    """
    path, address = notebook_path(root, stem), repository(root)
    source = read_source(source_path(root, stem))
    book = render(source, address)
    if path.exists():
        old = read_notebook(path)
        _carry_over(old, book, address_in(old, source) or address, address)
    return write(path, book)


def _carry_over(old, book, old_address: str, address: str) -> None:
    ran = defaultdict(deque)
    attached = {}
    for cell in old.cells:
        ran[cell.source.replace(old_address, address)].append(cell)
        attached |= cell.get("attachments", {})
    for cell in book.cells:
        if cell.cell_type == "code" and ran[cell.source]:
            before = ran[cell.source].popleft()
            cell.outputs = before.get("outputs", [])
            cell.execution_count = before.get("execution_count")
        names = [name for name in attached if f"(attachment:{name})" in cell.source]
        if cell.cell_type == "markdown" and names:
            cell.attachments = {name: attached[name] for name in names}
    if "genlab" in old.metadata:
        book.metadata["genlab"] = old.metadata["genlab"]


def write(path: Path, book: NotebookNode) -> bool:
    """Write a notebook in one step, or not at all; return whether the file changed."""
    content = (nbformat.writes(book).rstrip("\n") + "\n").encode()
    if path.is_file() and path.read_bytes() == content:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return True
