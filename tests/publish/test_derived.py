"""What is derived from all chapters: recap.py, word for word, and the results."""

import lift
import pytest
from fixtures_course import RECORD, STEM, edit_source

from _ext.genlab_parts import BARS, read_bars, results, results_page
from publish import chapters, recap

CELL = """import math
from functools import partial

# %% recap=["area", "SIDES"]
SIDES = 4  # a comment stays


@partial
def area(side, power=SIDES):
    return math.pow(side, power) + sum([helper(side) for side in range(2)])


# %% recap=["helper"]
def helper(x):
    return x
"""
HEAD = "import math\nfrom functools import partial\n\n\n# ---- 01_tiny: Sums\n\n\nSIDES"
BAR = f'[[bar]]\nchapter = "{STEM}"\nmeasurement = "accuracy"\ncomparison = ">="\n'
BAR += 'target = 0.6\naccepted = 0.5\nreason = "A $5 machine"\n'


def test_named_definitions_are_collected_with_the_imports_they_use(course, call):
    (course / recap.PATH).write_text("# edited\n")
    said = "recap.py is not what the chapters' cells name; run: make sync"
    code, out, _ = call(course, "check")
    assert (code, out.startswith(f"{STEM}: OK\n"), said in out) == (1, True, True)
    edit_source(course, "print(2 + 2)\n", CELL)
    assert "recap.py: written" in call(course, "sync")[1]
    text = (course / recap.PATH).read_text()
    assert f'"""\n\n{HEAD}' in text
    assert lift.texts(text) == lift.texts(CELL)
    assert said not in call(course, "check")[1]
    (course / recap.FROZEN).write_text("def old():\n    return 1\n")
    assert call(course, "sync")[0] == 0
    assert "genlab_helpers.earlier import old" in (course / recap.PATH).read_text()
    (course / recap.FROZEN).write_text("def helper():\n    return 1\n")
    assert "helper is named twice: genlab_helpers/earlier.py" in call(course, "sync")[2]
    (course / recap.FROZEN).unlink()
    for name in ("math", "helper"):
        text = f'# %% recap=["f"]\nimport os as {name}\ndef f():\n    {name}.abort()\n'
        (course / "notebooks" / "02_other.py").write_text(text)
        assert f"{name}, used by f in cell 1 of 02_other, ha" in call(course, "sync")[2]


LACKING = [
    ('["helper"]', '["B"]', "cell 6 of 01_tiny names B, but does not define it"),
    ('["helper"]', "[]", "in cell 5 of 01_tiny uses helper; name that, too, in ce"),
    ('["helper"]', '["helper", "SIDES"]\nSIDES = 3', "twice: cell 5 of 01_tiny, c"),
    ("+ sum(", "+ cfg(", "uses cfg, which no cell defines or imports"),
]


@pytest.mark.parametrize(("before", "after", "said"), LACKING)
def test_what_recap_would_lack_is_an_error(course, call, before, after, said):
    edit_source(course, "print(2 + 2)\n", CELL.replace(before, after))
    code, _, error = call(course, "sync")
    assert (code, said in error) == (1, True), error


def test_recap_is_what_its_chapters_teach(root):
    text = (root / recap.PATH).read_text("utf-8")
    assert text == recap.derived(root), "run: make sync"
    taught = [lift.texts(lift.source(stem)) for stem in chapters.chapters(root)]
    for name, definition in lift.texts(text).items():
        assert definition in [chapter.get(name) for chapter in taught], name


def test_every_chapter_has_bars_and_holds_them(root):
    bars, cards = read_bars(root), results(root)
    assert {bar["chapter"] for bar in bars} == set(cards) == {*chapters.chapters(root)}
    assert len({(bar["chapter"], bar["measurement"]) for bar in bars}) == len(bars)
    for bar in bars:
        entries = cards[bar["chapter"]]["measurements"]
        values = {entry["name"]: entry["value"] for entry in entries}
        above = values[bar["measurement"]] - bar["accepted"]
        assert {">=": 1, "<=": -1}[bar["comparison"]] * above >= 0, bar
        assert bar["accepted"] == bar["target"] or bar["reason"].strip(), bar


def test_the_table_shows_every_measurement_with_its_bar(course):
    (course / BARS).write_text(BAR, encoding="utf-8")
    assert results(course) == {STEM: RECORD | {"title": "A tiny chapter"}}
    page = results_page(course)
    head, *_, row = page.strip().splitlines()
    assert "## A tiny chapter" in page
    assert f"](/notebooks/{STEM}.ipynb), `laptop` profile: 8.4 s on 2 CPU cor" in page
    assert row == (
        r"| accuracy. a \| b. Accepted is 0.5: A \$5 machine"
        r" | 0.543 ± 0.012 (5 seeds) | 0.1 |  | ≥ 0.6 **not met** |"
    )
    assert head.startswith("## ")  # no headline, no table
    with (course / BARS).open("a", encoding="utf-8") as file:
        file.write('headline = "Sorted"\npublished = "0.7"\n')
    rows = results_page(course).splitlines()
    value = "0.543 ± 0.012 (5 seeds)"
    assert rows[2] == (
        f"| [Sorted](/notebooks/{STEM}.ipynb) | {value} | 0.7 | 0.1 |  "
        "| ≥ 0.6 **not met** |"
    )
