"""Lift the definitions of a chapter out of its source without running the chapter."""

import ast
from pathlib import Path

import jupytext

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def source(stem: str) -> str:
    """Return the Python of a chapter; lines of notebook magic become blank."""
    book = jupytext.read(NOTEBOOKS / f"{stem}.py")
    text = "\n\n".join(c.source for c in book.cells if c.cell_type == "code")
    lines = text.splitlines()
    return "\n".join("" if line.strip().startswith("%") else line for line in lines)


def name_of(node: ast.stmt) -> str | None:
    """Return the name that a definition or the setting of a CONSTANT gives."""
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id if node.targets[0].id.isupper() else None
    return None


def texts(python: str) -> dict[str, str]:
    """Return name -> source text, comments included, of every definition."""
    lines, found = python.splitlines(), {}
    for node in ast.parse(python).body:
        if name := name_of(node):
            marks = getattr(node, "decorator_list", [])
            first = min(part.lineno for part in (node, *marks))
            found[name] = "\n".join(lines[first - 1 : node.end_lineno])
    return found


def definitions(stem: str) -> dict:
    """Return the namespace of a chapter's imports, constants, functions and classes."""
    tree = ast.parse(source(stem))
    imports = (ast.Import, ast.ImportFrom)
    tree.body = [n for n in tree.body if isinstance(n, imports) or name_of(n)]
    space: dict = {"__name__": stem}
    exec(compile(tree, f"{stem}.py", "exec"), space)
    return space
