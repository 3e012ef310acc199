"""The budgets of a chapter: enough prose, small cells, short functions, alt text."""

import ast
import re
import statistics

import nbformat
import pytest
from nbformat import NotebookNode

from genlab_helpers import pairs

TAGS = {"setup", "settings", "result-picture", "solution"}
ONCE = ("setup", "settings", "result-picture")
CODE_CELLS = range(25, 46)  # solutions not counted
MEDIAN_LINES = (4, 8)
LINES_90 = 22  # at the 90th percentile
MOST_LINES = 45
WORDS_A_LINE = (6, 15)
INTRODUCED = 0.8  # share of code cells with prose right before them
FUNCTION_LINES = 25
WIDTH = 88
SOLUTIONS = 5

NOT_PROSE = re.compile(
    r"```.*?```|\$\$.*?\$\$|\$[^$\n]+\$|!\[[^\]]*\]\([^)]*\)|\]\([^)]*\)|<[^>]+>"
    r"|https?://\S+",
    re.DOTALL,
)
WORD = re.compile(r"[^\W\d_][\w'’-]*")
# A run under nbclient can wait for ever where a widget captures output.
CAPTURE = re.compile(
    r"\b(interact|interactive|interactive_output|interact_manual)\(|\bOutput\("
)
MAGIC = re.compile(r"^(\s*)[%!].*$", re.MULTILINE)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def alt(cell: NotebookNode) -> str:
    return cell.metadata.get("mystnb", {}).get("image", {}).get("alt", "").strip()


def code(book: NotebookNode) -> list[NotebookNode]:
    """Return the code cells that the budgets count."""
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return [cell for cell in cells if "solution" not in tags(cell)]


def lines(cell: NotebookNode) -> int:
    """Return how many lines of a cell are not blank."""
    return sum(bool(line.strip()) for line in cell.source.splitlines())


def words(book: NotebookNode) -> int:
    """Return the words of prose: no formulas, code, links or pictures."""
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    return sum(len(WORD.findall(NOT_PROSE.sub(" ", text))) for text in texts)


def percentile_90(numbers: list[int]) -> float:
    return statistics.quantiles(numbers, n=10, method="inclusive")[-1]


def introduced(book: NotebookNode) -> float:
    """Return the share of code cells with a markdown cell right before them."""
    kinds = ["", *(cell.cell_type for cell in book.cells)]
    before = [
        kinds[index] == "markdown"
        for index, cell in enumerate(book.cells)
        if cell.cell_type == "code" and "solution" not in tags(cell)
    ]
    return sum(before) / len(before)


def lost_lines(book: NotebookNode) -> list[str]:
    """Return lines of prose that the book would drop, taking "% ..." as a comment."""
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    return [line for text in texts for line in text.splitlines() if line[:1] == "%"]


def figures_without_prose(book: NotebookNode) -> list[str]:
    """Return the alt texts of figures that no markdown cell follows."""
    after = [cell.cell_type for cell in book.cells[1:]] + [""]
    return [
        alt(cell)
        for cell, kind in zip(book.cells, after, strict=True)
        if alt(cell) and kind != "markdown"
    ]


def function_lengths(book: NotebookNode) -> dict[str, int]:
    """Return name -> number of lines of every function and method."""
    found = {}
    for cell in book.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(MAGIC.sub(r"\1pass", cell.source))):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    found[node.name] = node.end_lineno - node.lineno + 1
    return found


def wide_lines(book: NotebookNode) -> list[str]:
    cells = [cell for cell in book.cells if cell.cell_type == "code"]
    return [
        line for cell in cells for line in cell.source.splitlines() if len(line) > WIDTH
    ]


def images(cell: NotebookNode) -> int:
    """Return how many outputs of a cell are pictures."""
    kinds = [output.get("data", {}) for output in cell.get("outputs", [])]
    return sum(any(kind.startswith("image/") for kind in data) for data in kinds)


# ----------------------------------------------------------------- the real chapters


@pytest.fixture
def book(root, chapter) -> NotebookNode:
    return pairs.read_source(pairs.source_path(root, chapter))


def test_number_and_size_of_code_cells(book):
    sizes = [lines(cell) for cell in code(book)]
    assert len(sizes) in CODE_CELLS
    assert MEDIAN_LINES[0] <= statistics.median(sizes) <= MEDIAN_LINES[1], sizes
    assert percentile_90(sizes) <= LINES_90, sorted(sizes)
    assert max(sizes) <= MOST_LINES


def test_words_of_prose_a_line_of_code(book):
    ratio = words(book) / sum(lines(cell) for cell in code(book))
    assert WORDS_A_LINE[0] <= ratio <= WORDS_A_LINE[1]


def test_code_has_prose_before_it_and_figures_have_it_after(book):
    assert introduced(book) >= INTRODUCED
    assert figures_without_prose(book) == []


def test_no_line_of_prose_is_lost_in_the_book(book):
    assert lost_lines(book) == []


def test_no_widget_captures_output(book):
    assert [cell.source for cell in code(book) if CAPTURE.search(cell.source)] == []


def test_functions_are_short_and_lines_narrow(book):
    lengths = function_lengths(book)
    assert lengths
    assert {name: n for name, n in lengths.items() if n > FUNCTION_LINES} == {}
    assert wide_lines(book) == []


def test_tags_are_known_and_solutions_enough(book):
    used = [tag for cell in book.cells for tag in tags(cell)]
    assert set(used) <= TAGS
    assert [used.count(tag) for tag in ONCE] == [1] * len(ONCE)
    solutions = [cell for cell in book.cells if "solution" in tags(cell)]
    assert all(cell.cell_type == "code" for cell in solutions)
    assert len(solutions) >= SOLUTIONS


def test_a_chapter_opens_with_title_colab_badge_and_result(book, chapter):
    opening = book.cells[0]
    assert opening.cell_type == "markdown"
    assert re.match(r"# \S", opening.source)
    address = f"github/{pairs.TOKEN}/blob/main/notebooks/{chapter}.ipynb"
    assert f"https://colab.research.google.com/{address}" in opening.source
    assert re.search(r"!\[[^\]]+\]\(attachment:result\.(png|jpg)\)", opening.source)


def test_every_published_figure_has_alt_text_and_a_cell_of_its_own(root, chapter):
    published = pairs.read_notebook(pairs.notebook_path(root, chapter))
    shown = [cell for cell in published.cells if images(cell)]
    assert shown
    assert [cell.source for cell in shown if not alt(cell)] == []
    assert [cell.source for cell in shown if images(cell) > 1] == []
    promised = [cell.source for cell in published.cells if alt(cell)]
    assert promised == [cell.source for cell in shown], "alt text without a figure"


# ------------------------------------------------------------ the budgets' own tests


def md(text: str) -> NotebookNode:
    return nbformat.v4.new_markdown_cell(text)


def py(text: str, *used: str, described: str = "") -> NotebookNode:
    metadata = {"tags": [*used]} if used else {}
    if described:
        metadata["mystnb"] = {"image": {"alt": described}}
    return nbformat.v4.new_code_cell(text, metadata=metadata)


def made(*cells: NotebookNode) -> NotebookNode:
    return nbformat.v4.new_notebook(cells=cells)


def test_solutions_and_blank_lines_do_not_count():
    counted = code(made(md("a"), py("x = 1\n\n# why\ny = 2"), py("z", "solution")))
    assert [lines(cell) for cell in counted] == [3]


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("Two words.", 2),
        ("The cost $J = \\sum_i x_i$ falls", 3),
        ("A\n\n$$\nx = \\text{no words here}\n$$\n\nB", 2),
        ("See [the paper](https://doi.org/10.1/abc) and https://a.b/c", 4),
        ("![a long alt text](attachment:x.png) Yes", 1),
        ("```python\nprint('no')\n```\nYes", 1),
        ("k-means isn't 3 x 3", 3),
    ],
)
def test_words_are_words_of_prose(text, count):
    assert words(made(md(text), py("not_a_word = 1"))) == count


def test_percentile():
    assert percentile_90([*range(1, 11)]) == pytest.approx(9.1)
    assert percentile_90([5] * 9 + [100]) == pytest.approx(14.5)


def test_prose_must_stand_right_before_the_code():
    assert introduced(made(md("a"), py("1"), py("2"))) == 0.5
    assert introduced(made(py("1"))) == 0
    assert introduced(made(md("a"), py("1"), py("2", "solution"))) == 1


def test_prose_must_follow_a_figure():
    figure = py("plot()", described="A dot")
    assert figures_without_prose(made(figure, md("It is small."))) == []
    assert figures_without_prose(made(figure, py("1"), md("Late."))) == ["A dot"]
    assert figures_without_prose(made(md("a"), figure)) == ["A dot"]


def test_a_line_that_starts_with_a_per_cent_sign_is_lost():
    book = made(md("It is 3\n% of all."), py("%pip list"))
    assert lost_lines(book) == ["% of all."]


@pytest.mark.parametrize(
    ("line", "captures"),
    [
        ("widgets.interact(explore, k=(1, 9))", True),
        ("out = widgets.Output()", True),
        ("interactive_output(f, {})", True),
        ("control.observe(redraw)", False),
        ("interaction(x)", False),
    ],
)
def test_widgets_that_capture_output_are_known(line, captures):
    assert bool(CAPTURE.search(line)) == captures


def test_functions_and_methods_are_measured_beside_magics():
    text = (
        "if True:\n    %pip install x\n!ls\n"
        "class A:\n    def f(self):\n        a = 1\n\n        return a\n"
        "def g():\n    pass"
    )
    assert function_lengths(made(py(text), md("def h(:"))) == {"f": 4, "g": 2}


def test_wide_lines_are_those_of_code():
    cells = [py("x" * 88 + "\n" + "y" * 89), md("z" * 200)]
    assert wide_lines(made(*cells)) == ["y" * 89]


def test_pictures_are_counted_by_output():
    cell = py("plot()")
    picture = {"image/png": "AA", "image/svg+xml": "B", "text/plain": "C"}
    assert images(cell) == 0
    cell.outputs = [
        nbformat.v4.new_output("display_data", data=picture),
        nbformat.v4.new_output("stream", text="image/png"),
        nbformat.v4.new_output("display_data", data={"image/gif": "AA"}),
    ]
    assert images(cell) == 2
