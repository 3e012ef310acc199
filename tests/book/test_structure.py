"""The budgets of a chapter, printed for all as one table, and what all must hold."""

import ast
import re
import statistics

import pytest
from fixtures_book import TABLES
from nbformat.v4 import new_code_cell as py
from nbformat.v4 import new_markdown_cell as md

from publish import chapters

# Not yet revised: their budgets are shown, not asserted. A revision empties the list.
UNREVISED = ["08_deep_kmeans"]

BUDGETS = {  # least and most
    "words": (0, 3600),  # of prose, before the heading "Deeper"
    "lines": (0, 300),  # of code that is not folded, before that heading
    "all words": (0, 5000),
    "cells": (25, 45),  # of code; solutions do not count here and in the next three
    "median": (4, 8),  # lines of a cell
    "9 in 10": (0, 22),
    "longest": (0, 40),
    "read %": (100, 100),  # figures that a sentence follows
    "marked %": (100, 100),  # exercises that say how hard they are
    "function": (0, 25),  # lines
    "width": (0, 88),
}
HELD_BY_ALL = {"read %", "function", "width"}
ONCE = ("setup", "settings", "result-picture")
FOLDED = {"hide-input", "solution"}

NOT_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|<[^>]+>"
    r"|https?://\S+|\{\{[^{}]+\}\}",
    re.DOTALL,
)
LINE = re.compile(r"\S.*")  # that is not blank
WORD = re.compile(r"[^\W\d_][\w'’-]*")
DEEPER = re.compile(r"^## Deeper\b", re.MULTILINE)
EXERCISE = re.compile(r"^\*\*\d+\. .*", re.MULTILINE)
MARKED = re.compile(r"[(*](easy|medium|hard)\b")  # **1. Units.** *(easy)* Multiply ...
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def tags(cell) -> set[str]:
    return set(cell.metadata.get("tags", []))


def alt(cell) -> str:
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()


def code(cells):
    return [cell for cell in cells if cell.cell_type == "code"]


def prose(cells) -> str:
    return "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")


def functions(cells) -> list[int]:
    trees = [ast.parse(MAGIC.sub(r"\1pass", cell.source)) for cell in code(cells)]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    kinds = ast.FunctionDef | ast.AsyncFunctionDef
    return [n.end_lineno - n.lineno + 1 for n in nodes if isinstance(n, kinds)]


def measure(cells) -> dict[str, float]:
    """Return what the budgets are about."""
    deeper = [bool(DEEPER.search(prose([cell]))) for cell in cells]
    main, text = cells[: [*deeper, True].index(True)], NOT_PROSE.sub(" ", prose(cells))
    shown = [cell for cell in code(main) if not tags(cell) & FOLDED]
    counted = [cell for cell in code(cells) if "solution" not in tags(cell)]
    sizes = [len(LINE.findall(cell.source)) for cell in counted]
    after = [*(cell.cell_type for cell in cells[1:]), ""]
    read = [it == "markdown" for c, it in zip(cells, after, strict=True) if alt(c)]
    marked = [bool(MARKED.search(line)) for line in EXERCISE.findall(text)] or [False]
    return {
        "words": len(WORD.findall(DEEPER.split(text)[0])),
        "lines": sum(len(LINE.findall(cell.source)) for cell in shown),
        "all words": len(WORD.findall(text)),
        "cells": len(sizes),
        "median": statistics.median(sizes),
        "9 in 10": statistics.quantiles(sizes, n=10, method="inclusive")[-1],
        "longest": max(sizes),
        "read %": 100 * statistics.mean(read),
        "marked %": 100 * statistics.mean(marked),
        "function": max(functions(cells), default=0),
        "width": max(len(li) for c in code(cells) for li in c.source.splitlines()),
    }


@pytest.fixture
def cells(root, chapter):
    return chapters.read_source(chapters.source_path(root, chapter)).cells


def test_chapter_is_within_its_budgets(cells, chapter):
    found = measure(cells)
    over = {n for n, (low, high) in BUDGETS.items() if not low <= found[n] <= high}
    limits = [f"{low}-{high} " for low, high in BUDGETS.values()]
    first = [("", *(f"{name} " for name in BUDGETS)), ("budget", *limits)]
    table = TABLES.setdefault("budgets of chapters (! = not held)", first)
    shown = [f"{found[name]:.4g}{'!' if name in over else ' '}" for name in BUDGETS]
    table.append((chapter, *shown))
    assert not (over & HELD_BY_ALL if chapter in UNREVISED else over), shown


def test_chapter_opens_with_title_colab_badge_and_result(cells, chapter):
    opening = prose(cells[:1])
    assert re.match(r"# \S", opening)
    address = f"github/{chapters.TOKEN}/blob/main/notebooks/{chapter}.ipynb"
    assert f"https://colab.research.google.com/{address}" in opening
    assert re.search(r"!\[[^\]]+\]\(attachment:result\.(png|jpg)\)", opening)


def test_tags_are_known_solutions_enough_and_no_prose_is_lost(cells):
    used = [tag for cell in cells for tag in tags(cell)]
    assert set(used) <= {*ONCE, *FOLDED}
    assert [used.count(tag) for tag in ONCE] == [1] * len(ONCE)
    assert used.count("solution") >= 5
    assert all(tags(cell) & FOLDED for cell in cells if tags(cell) & {*ONCE[:2]})
    assert not any(tags(cell) for cell in cells if cell.cell_type != "code")
    # The book takes a line that starts with "%" for a comment.
    assert [line for line in prose(cells).splitlines() if line[:1] == "%"] == []


def test_every_published_figure_has_alt_text_and_a_cell_of_its_own(root, chapter):
    published = chapters.read_notebook(chapters.notebook_path(root, chapter))
    for cell in code(published.cells):
        kinds = [kind for out in cell.outputs for kind in out.get("data", {})]
        images = [kind for kind in kinds if kind.startswith("image/")]
        assert len(images) == bool(alt(cell)), cell.source


def learning(tree: ast.AST, known: dict[str, ast.AST], deep: bool = True) -> bool:
    """Say whether code goes backward or makes a step, itself or in what it calls."""
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    names = {getattr(func, "attr", getattr(func, "id", "")) for func in calls}
    inner = [known[name] for name in names & known.keys()] if deep else []
    return bool(names & {"backward", "step"}) or any(
        learning(function, known, False) for function in inner
    )


def learning_in_autocast(text: str) -> list[int]:
    """Return the lines of the autocast blocks that hold more than forward and loss.

    Until such a block ends, it computes with copies of the weights from before a step.
    """
    nodes = [*ast.walk(ast.parse(MAGIC.sub(r"\1pass", text)))]
    known = {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}
    blocks = [node for node in nodes if isinstance(node, ast.With)]
    casts = [b for b in blocks if "autocast" in ast.unparse(b.items[0].context_expr)]
    return [b.lineno for b in casts if learning(ast.Module(b.body, []), known)]


def test_autocast_is_for_the_forward_pass_and_the_loss_only(root):
    paths = [*root.glob("genlab_helpers/*.py"), *root.glob("notebooks/scripts/*.py")]
    texts = {path: path.read_text("utf-8") for path in paths}
    for stem in {*chapters.chapters(root)} - {*UNREVISED}:
        cells = chapters.read_source(chapters.source_path(root, stem)).cells
        texts[stem] = "\n".join(cell.source for cell in code(cells))
    found = {where: learning_in_autocast(text) for where, text in texts.items()}
    assert [where for where in found if found[where]] == []


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("loss = f(x)", []),
        ("f(x).backward()", [5]),
        ("with a: opt.step()", [5]),
        ("train(x)", [5]),
        ("loss = f(x)\nloss.backward()\nopt.step()", []),
    ],
)
def test_a_step_within_autocast_is_found(inside, found):
    before = "def train(x):\n    f(x).backward()\n%time\n\nwith torch.autocast('cpu'):"
    assert learning_in_autocast(f"{before}\n    {inside}") == found


DOT = {"mystnb": {"image": {"alt": "A dot"}}}
SMALL = [
    md("# A title\n\nSee [k-means](https://a.b/c), it isn't $J = \\sum x$ <b> in 3."),
    py("%pip\n\n# a\ndef f(x):\n    return x", metadata={"tags": ["hide-input"]}),
    md("![alt](attachment:x.png) Three {{a number | .2f}}\n\n$$\n\\text{no}\n$$"),
    py("plot(" + "x" * 40 + ")", metadata=DOT),
    md("**1. Units.** *(easy)* Multiply.\n\n```python\nprint('no')\n```"),
    py("y\n" * 50, metadata=DOT | {"tags": ["solution"]}),
    md("**2. On paper.** An easy one\n\n## Deeper\n\nMore https://a.b"),
    py("if True:\n    !ls\n    class A:\n        def g(self): pass\n\n" + "y\n" * 3),
]


def test_the_measures_of_a_small_chapter():
    numbers = (16, 1, 18, 3, 4, 6.4, 7, 100, 50, 2, 46)
    assert measure(SMALL) == dict(zip(BUDGETS, numbers, strict=True))
    assert measure(SMALL[3:4] + SMALL[3:5])["read %"] == 50
