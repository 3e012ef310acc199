"""Numbers in sentences: filled from run cards, and from nothing else."""

import shutil

import pytest
from fixtures_course import MEASURED, STEM, edit_source, read

from _ext.genlab_parts import seconds_text
from genlab_helpers import tables
from publish import ChapterError, chapters, gate, tokens

ENTRIES = [MEASURED | {"name": "F: é, x", "value": 12.3456}]
ENTRIES += [MEASURED | {"name": "t / u", "value": 1234.5, "spread": None}]


def fill(text: str) -> tuple[str, list[str]]:
    def measured(other):
        if other in (None, "02_other"):
            return None if other else ENTRIES
        raise ChapterError(f"no chapter {other!r}; there are: 02_other")

    return tokens.fill(text, "a/b", measured)


TEXTS = [
    ("{{F: é, x}}, {{ F: é, x | .1f }}", "12.35, 12.3"),
    ("**{{F: é,\nx | spread .3f}}**", "**0.012**"),
    ("{{F: é, x | seeds}} {{F: é, x|floor .2f}}", "5 0.10"),
    ("{{t / u}} {{t / u | ,.1f}}", "1,234 1,234.5"),
    ("$$x$$ {{t / u}} $y$ `a` {{t / u}} `b`", "$$x$$ 1,234 $y$ `a` 1,234 `b`"),
    ("(x.y/{{repository}}/x) \\$5 {{t / u}} \\$6", "(x.y/a/b/x) \\$5 1,234 \\$6"),
    ("$\\frac{{a}}{b}$ $$\n{{a}}\n$$ ``b ` {{repository}}``", None),
    ("\\begin{align*}\nx^{{a}}\n\\end{align*}", None),
    ("> ```\n> {{a}}\n> ```\n\n~~~\n{{repository}}\n~~~", None),
    ("{{02_other / never run | .2f}}", None),
]


@pytest.mark.parametrize(("text", "filled"), TEXTS)
def test_tokens_are_filled_and_formulas_and_code_stay(text, filled):
    assert fill(text) == (filled or text, [])


WRONG = [
    ("F", "no run measured 'F'; measured are: F: é, x, t / u"),
    ("03_x / F", "no chapter '03_x'; there are: 02_other"),
    ("F: é, x | ceiling", "no ceiling; it has: value, spread, floor, seeds"),
    ("F: é, x | speed .2f", "one of value, spread, floor, ceiling, seeds, or a"),
    ("F: é, x | d", "'d' does not fit 12.3456"),
]


@pytest.mark.parametrize(("token", "said"), WRONG)
def test_what_is_wrong_with_a_token_is_said_in_one_line(token, said):
    text, (problem,) = fill(f"It is {{{{{token}}}}}.")
    assert text == f"It is {{{{{token}}}}}."
    assert problem.startswith(f"{{{{{token}}}}}: ")
    assert (said in problem, "\n" in problem) == (True, False)


def test_a_number_of_another_chapter_is_filled_once_that_has_run(course, call):
    other = chapters.source_path(course, "02_other")
    shutil.copy(chapters.source_path(course, STEM), other)
    edit_source(course, "is small", "is {{02_other / accuracy | floor .1f}}")
    assert call(course, "sync", "1")[0] == 0
    assert "cell 6: no run has the number for {{02_" in gate.reasons(course, STEM)[0]
    shutil.copy(chapters.notebook_path(course, STEM), other.with_suffix(".ipynb"))
    assert "first in cell 6" in gate.reasons(course, STEM)[0]
    assert call(course, "sync", "1")[0] == 0
    assert gate.reasons(course, STEM) == []
    edit_source(course, "/ accuracy | floor", "/ speed | floor")
    assert "cell 6: {{02_other / speed | floor .1f}}: " in call(course, "sync")[2]
    assert read(course).cells[5].source == "The dot is 0.1."


def test_numbers_and_durations_read_as_on_the_run_card():
    for value in (0, 5, 12345, -0.00123456, 0.5, 999.95, 123456.7, 2e12, None):
        for spread in (None, 0.0, 0.0123, 45.6, 1e7):
            ours = tokens.number_text(value, spread)
            assert ours == tables.number_text(value, spread)
    durations = map(seconds_text, (4210, 8.44, 59.96, 365))
    assert [*durations] == ["1 h 10 min", "8.4 s", "1 min 00 s", "6 min 05 s"]
