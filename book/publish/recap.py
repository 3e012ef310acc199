"""Derive genlab_helpers/recap.py: what a later chapter imports from an earlier one.

A code cell names such definitions in its metadata, `# %% recap=["arc"]`: functions,
classes and CAPITAL constants, carried over word for word with the imports they use.
"""

import ast
import builtins
import re
import symtable
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from publish import ChapterError, chapters
from publish.stamps import PACKAGE

PATH = f"{PACKAGE}/recap.py"
FROZEN = f"{PACKAGE}/earlier.py"  # definitions that no chapter teaches any more
HEAD = '''\
"""Definitions that one chapter teaches and a later one uses again, word for word.

Derived, never edited: `make sync` collects what the chapters' cells name in their
metadata (`recap=["name"]`). Above each group stand its chapter and section.
"""
'''
MAGIC = re.compile(r"^([ \t]*)[%!].*$", re.MULTILINE)  # of notebooks, no Python


class Cell(NamedTuple):
    """What a code cell defines and imports at its top level."""

    stem: str
    number: int
    section: str
    named: list[str]  # in its metadata
    definitions: dict[str, str]  # name -> text
    imports: dict[str, str]  # name -> statement

    def __str__(self) -> str:
        return f"cell {self.number} of {self.stem}"


def derived(root: Path) -> str:
    """Return the text of recap.py.

    Raises ChapterError for a name that is given twice, that its cell does not define,
    or that a definition uses and recap.py would lack.
    """
    paths = [chapters.source_path(root, stem) for stem in chapters.chapters(root)]
    cells = [cell for path in paths if path.is_file() for cell in _cells(path)]
    earlier = root / FROZEN
    frozen = _read(earlier.read_text("utf-8"))[0] if earlier.is_file() else {}
    owner: dict[str, Cell | str] = dict.fromkeys(frozen, FROZEN)
    for cell in cells:
        if missing := set(cell.named) - set(cell.definitions):
            raise ChapterError(f"{cell} names {min(missing)}, but does not define it")
        for name in filter(cell.named.__contains__, cell.definitions):
            if name in owner:
                raise ChapterError(f"{name} is named twice: {owner[name]}, {cell}")
            owner[name] = cell
    imports: dict[str, str] = {}
    parts, heading = [], ""
    for name, cell in list(owner.items())[len(frozen) :]:
        if heading != (heading := f"# ---- {cell.stem}: {cell.section}"):
            parts.append(heading)
        parts.append(cell.definitions[name])
        for used in sorted(_names_used(cell.definitions[name])):
            needed = _needed(used, f"{name} in {cell}", cell.stem, cells, owner)
            if needed and (used in owner or imports.setdefault(used, needed) != needed):
                raise ChapterError(
                    f"{used}, used by {name} in {cell}, has two meanings"
                )
    lines = sorted(set(imports.values()), key=lambda line: (line[0] == "f", line))
    if frozen:  # first, since a default value may use one of its names
        lines.append(f"from {PACKAGE}.earlier import {', '.join(frozen)}  # noqa: F401")
    return "\n\n\n".join(["\n".join([HEAD, *lines]).rstrip(), *parts]) + "\n"


def _cells(path: Path) -> Iterator[Cell]:
    section = path.stem
    for number, cell in enumerate(chapters.read_source(path).cells, start=1):
        if cell.cell_type == "markdown":
            section = [section, *re.findall(r"^## (.+)$", cell.source, re.M)][-1]
        elif cell.cell_type == "code":
            named = cell.metadata.get("recap", [])
            yield Cell(path.stem, number, section, named, *_read(cell.source))


def _read(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """Return the definitions and the imports at the top level of a Python text."""
    text = MAGIC.sub(r"\1pass", text)
    lines, definitions, imports = text.splitlines(), {}, {}
    try:
        nodes = ast.parse(text).body
    except SyntaxError:  # some other magic
        nodes = []
    for node in nodes:
        name = getattr(node, "name", "")  # of a function or class
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id if node.targets[0].id.isupper() else ""
        elif isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", "")
            for alias in node.names:
                start = f"from {module} import" if module else "import"
                bound = alias.asname or alias.name.partition(".")[0]
                imports[bound] = f"{start} {ast.unparse(alias)}"
        if name:
            marks = getattr(node, "decorator_list", [])
            first = min(part.lineno for part in (node, *marks))
            definitions[name] = "\n".join(lines[first - 1 : node.end_lineno])
    return definitions, imports


def _names_used(text: str) -> set[str]:
    """Return the names that a definition takes from outside, or gives."""
    tables = [symtable.symtable(text, "recap", "exec")]
    for table in tables:
        tables += table.get_children()
    return {s.get_name() for t in tables for s in t.get_symbols() if s.is_global()}


def _needed(used, where, stem, cells, owner) -> str | None:
    """Return the import that a used name needs, or None if it needs none."""
    if used in owner and getattr(owner[used], "stem", "") == stem:
        return None
    own = [cell for cell in cells if cell.stem == stem]
    if holder := next((cell for cell in own if used in cell.definitions), None):
        raise ChapterError(f"{where} uses {used}; name that, too, in {holder}")
    found = next((cell.imports[used] for cell in own if used in cell.imports), None)
    if found and not found.startswith(f"from {PACKAGE}.recap "):
        return found
    if used in owner if found else hasattr(builtins, used):
        return None
    raise ChapterError(f"{where} uses {used}, which no cell defines or imports for it")
