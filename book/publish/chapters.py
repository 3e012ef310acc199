"""A chapter is a pair: NN_name.py is what people edit, NN_name.ipynb is derived.

Everything here goes in that one direction, and writes whole files or nothing. What a
person must put right is a ChapterError.
"""

import functools
import hashlib
import os
import re
import subprocess
import tomllib
from collections import Counter, defaultdict, deque
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from publish import ChapterError, stamps, tokens
from publish.stamps import TOKEN

FOLDER = "notebooks"
PLACEHOLDER = "OWNER/"  # begins an address that is not known yet
FOLDED = {"hide-input", "solution"}  # tags of cells whose code is one click away
KERNEL = dict(display_name="Python 3 (ipykernel)", language="python", name="python3")
LANGUAGE = {"name": "python", "pygments_lexer": "ipython3"}
METADATA = {"kernelspec": KERNEL, "language_info": LANGUAGE}
NAME = r"([\w.-]+/[\w.-]+?)(?:\.git)?/?"
HOST = r"(?:https://|(?:ssh://)?git@)(?:[^/@]+@)?(?:ssh\.)?github\.com(?::\d+)?[/:]"
INSTALLED = re.compile(r"git\+https://github\.com/([\w.-]+/[\w.-]+)@")
BADGE = re.compile(rf"^\[.*\]\([^()\s]*{re.escape(TOKEN)}[^()\s]*\)$", re.MULTILINE)
NO_BADGE = "*No public address yet; to run this in Colab, upload the notebook by hand.*"


def find_root(start: Path) -> Path:
    """Return the repository's root: `start` or the nearest folder above it."""
    for folder in (start.absolute(), *start.absolute().parents):
        if (folder / FOLDER).is_dir() and (folder / "pyproject.toml").is_file():
            return folder
    raise ChapterError("No chapters here; call this from the root of the repository.")


def chapters(root: Path) -> list[str]:
    """Return the names of all chapters, whole pairs and halves, in order."""
    files = (root / FOLDER).iterdir()
    stems = {path.stem for path in files if path.suffix in (".py", ".ipynb")}
    return sorted(stem for stem in stems if "." not in stem)  # such as NAME.edited


def find_chapter(root: Path, text: str) -> str:
    """Return the one chapter that `text` means: "01", "1", "01_kmeans" or its file."""
    known, name = chapters(root), re.sub(r"\.(py|ipynb)$", "", Path(text).name)
    number = name.zfill(2) if name.isdecimal() else name
    meant = [stem for stem in known if number in (stem, stem.partition("_")[0])]
    if len(meant) != 1:
        listing = ", ".join(known) or "none yet"
        raise ChapterError(f"{text!r} is not one chapter. The chapters are: {listing}.")
    return meant[0]


def source_path(root: Path, stem: str) -> Path:
    """Return the path of a chapter's .py file."""
    return root / FOLDER / f"{stem}.py"


def notebook_path(root: Path, stem: str) -> Path:
    """Return the path of a chapter's .ipynb file."""
    return root / FOLDER / f"{stem}.ipynb"


def exports_folder(root: Path, stem: str) -> Path:
    """Return where the arrays lie that a chapter's run wrote for its page."""
    return root / "book" / "_static" / "data" / stem[:2]


def rerun(stem: str) -> str:
    """Return the command that runs a chapter, for messages."""
    return f"make run CHAPTER={stem.partition('_')[0]}"


def repository(root: Path) -> str:
    """Return the repository as OWNER/NAME; it begins with PLACEHOLDER if none is known.

    From pyproject.toml, or while a placeholder stands there from GITHUB_REPOSITORY,
    or from git's remote `origin`. Only an address on GitHub counts.
    """
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
        address = tomllib.loads(text)["project"]["urls"]["Repository"]
        named = re.fullmatch(f"https://github.com/{NAME}", address)[1]
    except (OSError, KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ChapterError(
            "pyproject.toml must give the repository's address in [project.urls], as"
            f' in Repository = "https://github.com/OWNER/NAME" ({error}).'
        ) from error
    if not named.startswith(PLACEHOLDER):
        return named
    given = re.fullmatch(NAME, os.environ.get("GITHUB_REPOSITORY", ""))
    found = given or re.fullmatch(HOST + NAME, _origin(root))
    return found[1] if found else named


def _origin(root: Path) -> str:
    if not (root / ".git").exists():  # git would look in the folders above
        return ""
    command = ["git", "-C", str(root), "remote", "get-url", "origin"]
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except OSError:  # git is not installed
        return ""


def address_in(book: NotebookNode) -> str | None:
    """Return the OWNER/NAME from which a notebook's setup cell installs, or None."""
    found = (INSTALLED.search(cell.source) for cell in stamps.code_cells(book))
    return next((match[1] for match in found if match), None)


def read_source(path: Path) -> NotebookNode:
    """Read a .py file as a notebook, tokens in place, without ids or outputs."""
    try:
        book = jupytext.reads(path.read_text(encoding="utf-8"), fmt="py:percent")
    except (OSError, ValueError) as error:
        raise ChapterError(f"{path.name} cannot be read ({error}); mend it") from error
    for cell in book.cells:
        for key in ("lines_to_next_cell", "lines_to_end_of_cell_marker", "cell_marker"):
            cell.metadata.pop(key, None)
    return book


def read_notebook(path: Path) -> NotebookNode:
    """Read a .ipynb file, which must be a valid notebook."""
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


def numbers(root: Path, stem: str, book: NotebookNode | None) -> tokens.Measured:
    """Return what a chapter's tokens look up: `book`'s card, other chapters' cards."""

    @functools.cache
    def measured(other: str | None) -> list[dict] | None:
        if other is None or other == stem:
            found = book
        elif other in (known := chapters(root)):
            path = notebook_path(root, other)
            found = read_notebook(path) if path.is_file() else None
        else:
            raise ChapterError(f"no chapter {other!r}; there are: {', '.join(known)}")
        cards = stamps.cards(found) if found else []
        return cards[0].get("measurements", []) if cards else None

    return measured


def render(
    source: NotebookNode, address: str, measured: tokens.Measured = lambda other: None
) -> NotebookNode:
    """Return the notebook that a source stands for: not run, its tokens filled.

    measured: `numbers`; without it only the address is filled in. An id comes from the
    content. Raises ChapterError, a line for each token that cannot be filled.
    """
    book = nbformat.v4.new_notebook(metadata=METADATA)
    seen: Counter[str] = Counter()
    problems = []
    for number, cell in enumerate(source.cells, start=1):
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        text, metadata = cell.source, dict(cell.metadata)
        if cell.cell_type == "markdown":
            if address.startswith(PLACEHOLDER):
                text = BADGE.sub(NO_BADGE, text)
            text, wrong = tokens.fill(text, address, measured)
            problems += [f"cell {number}: {problem}" for problem in wrong]
        else:
            text = text.replace(TOKEN, address)
            if FOLDED & set(metadata.get("tags", [])):  # for JupyterLab and for Colab
                metadata |= {"jupyter": {"source_hidden": True}, "cellView": "form"}
        digest = _digest(cell.cell_type, text)
        seen[digest] += 1
        name = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        book.cells.append(make(text, id=name, metadata=metadata))
    if problems:
        raise ChapterError("\n".join(problems))
    return book


def _digest(kind: str, text: str) -> str:
    """Return the id of a cell as `render` writes it; Jupyter keeps ids at an edit."""
    return hashlib.sha256(f"{kind}\n{text}".encode()).hexdigest()[:12]


def refuse_edited(root: Path, stem: str, *, keep: bool = False) -> None:
    """Raise ChapterError if the .ipynb has cells that somebody typed into it.

    Such a cell is not in the .py, and its id is not that of its content. With ``keep``
    the notebook is copied to NAME.edited.ipynb instead.
    """
    path = notebook_path(root, stem)
    copy = path.with_suffix(".edited.ipynb")
    book = read_notebook(path) if path.exists() else nbformat.v4.new_notebook()
    there = {cell.source for cell in read_source(source_path(root, stem)).cells}
    typed = [
        f"cell {number} ({cell.source[:40]!r})"
        for number, cell in enumerate(book.cells, start=1)
        if cell.id[:12] != _digest(cell.cell_type, cell.source)
        and cell.source not in there | {""}
    ]
    if typed and keep and not copy.exists():
        write(copy, book)
        print(f"{stem}: the notebook was kept as {copy.name}")
    elif typed:
        again = " (move the old one away first)" if copy.exists() else ""
        raise ChapterError(
            f"{path.name} was edited, which would be lost now: {', '.join(typed)}.\n"
            f"Carry this to {stem}.py; the notebook as such a file shows\n"
            f"  .venv-book/bin/jupytext --to py:percent -o - {FOLDER}/{path.name}\n"
            f"Or go on, and keep a copy as {copy.name}{again}, with\n"
            f"  .venv-book/bin/python book/publish sync --keep {stem[:2]}"
        )


def sync(root: Path, stem: str) -> bool:
    """Carry a chapter's .py over to its .ipynb; return whether the file changed.

    Cells whose code is the same keep their outputs; attachments and the stamp stay.
    """
    path, address = notebook_path(root, stem), repository(root)
    old = read_notebook(path) if path.exists() else None
    source = read_source(source_path(root, stem))
    book = render(source, address, numbers(root, stem, old))
    if old:
        _carry_over(old, book, address_in(old) or address, address)
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


def write(path: Path, content: NotebookNode | str) -> bool:
    """Write a notebook or a text in one step, or not at all; say whether it changed."""
    if not isinstance(content, str):
        content = nbformat.writes(content).rstrip("\n") + "\n"
    if path.is_file() and path.read_bytes() == content.encode():
        return False
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(content.encode())
        os.replace(part, path)
    except OSError as error:
        what = f"{path} cannot be written ({error.strerror})"
        raise ChapterError(f"{what}; make room for it, or mend its rights") from error
    finally:
        part.unlink(missing_ok=True)
    return True
