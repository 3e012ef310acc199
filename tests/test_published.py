"""The published numbers hold their bars, and the results show them as they are."""

import json
import operator

import pytest
from conftest import ROOT
from fixtures_course import RECORD, STEM, tamper

from genlab_helpers import pairs
from genlab_helpers.pairs import ChapterError
from genlab_helpers.results import read_bars, results, results_markdown

HOLDS = {"<=": operator.le, ">=": operator.ge}
BARS = read_bars(ROOT)
BAR = {
    "chapter": STEM,
    "measurement": "accuracy",
    "comparison": ">=",
    "target": 0.5,
    "accepted": 0.5,
    "reason": "",
}


def complaint(bar: dict, published: dict) -> str:
    """Return what is wrong with a bar or the number it is for, "" if nothing is."""
    name = f"{bar['chapter']}, {bar['measurement']}"
    if bar["chapter"] not in published:
        return f"{name}: the chapter is not published"
    found = published[bar["chapter"]]["measurements"]
    values = {entry["name"]: entry["value"] for entry in found}
    if bar["measurement"] not in values:
        return f"{name}: not measured; there are {sorted(values)}"
    if bar["accepted"] != bar["target"] and not bar["reason"].strip():
        return f"{name}: accepted differs from the target without a reason"
    value = values[bar["measurement"]]
    if not HOLDS[bar["comparison"]](value, bar["accepted"]):
        return f"{name}: {value} is not {bar['comparison']} {bar['accepted']}"
    return ""


def write_bars(root, *bars: dict) -> None:
    blocks = []
    for bar in bars:
        lines = [f"{key} = {json.dumps(value)}" for key, value in bar.items()]
        blocks.append("\n".join(["[[bar]]", *lines]))
    (root / "tests").mkdir(exist_ok=True)
    (root / "tests" / "bars.toml").write_text("\n\n".join(blocks), encoding="utf-8")


# ---------------------------------------------------------------- the real chapters


def test_every_chapter_holds_its_bars(root, chapter):
    bars = [bar for bar in BARS if bar["chapter"] == chapter]
    assert bars, f"tests/bars.toml has no bar for {chapter}"
    published = results(root)
    complaints = [complaint(bar, published) for bar in bars]
    assert not any(complaints), complaints


def test_no_bar_is_for_a_chapter_that_does_not_exist(root):
    known = set(pairs.chapters(root))
    assert {bar["chapter"] for bar in BARS} <= known


# ----------------------------------------------------------------- the bars' own test


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"target": 0.5432, "accepted": 0.5432}, ""),
        ({"comparison": "<=", "target": 0.6, "accepted": 0.6}, ""),
        ({"target": 0.9, "reason": "One pass over the data."}, ""),
        ({"target": 0.6, "accepted": 0.6}, "0.5432 is not >= 0.6"),
        ({"comparison": "<="}, "0.5432 is not <= 0.5"),
        ({"target": 0.9, "reason": " "}, "without a reason"),
        ({"measurement": "speed"}, "not measured"),
        ({"chapter": "02_other"}, "not published"),
    ],
)
def test_a_bar_holds_or_says_why_not(course, changes, said):
    found = complaint(BAR | changes, results(course))
    assert said in found
    assert bool(said) == bool(found)


@pytest.mark.parametrize(
    "bars",
    [
        [BAR | {"comparison": "=="}],
        [BAR | {"target": "high"}],
        [BAR | {"extra": 1}],
        [{key: BAR[key] for key in BAR if key != "reason"}],
        [BAR, BAR],
    ],
    ids=["comparison", "type", "unknown field", "missing field", "twice"],
)
def test_a_malformed_bar_is_refused(course, bars):
    write_bars(course, *bars)
    with pytest.raises(ChapterError, match=r"bars\.toml: (bar 1|two bars)"):
        read_bars(course)


def test_bars_that_are_no_toml_are_refused_and_no_bars_are_none(course, call):
    assert read_bars(course) == []
    write_bars(course, BAR)
    assert read_bars(course) == [BAR]
    (course / "tests" / "bars.toml").write_text("[[bar")
    code, _, error = call(course, "results", "--format", "md")
    assert code == 1
    assert "no valid TOML" in error


# -------------------------------------------------------------------------- results


def test_results_are_the_published_measurements_and_stamp(course, call):
    code, out, _ = call(course, "results")
    assert code == 0
    found = json.loads(out)
    assert found == results(course)
    assert list(found) == [STEM]
    assert found[STEM]["title"] == "A tiny chapter"
    assert found[STEM]["measurements"] == RECORD["measurements"]
    assert found[STEM]["stamp"]["profile"] == "laptop"
    assert "record" not in found[STEM]["stamp"]


def test_the_table_shows_every_measurement_with_its_bar(course, call):
    write_bars(course, BAR | {"target": 0.6, "reason": "A $5 machine"})
    code, out, _ = call(course, "results", "--format", "md")
    assert code == 0
    assert out == results_markdown(course)
    title, _, origin, _, head, line, row = out.splitlines()
    assert title == "## A tiny chapter"
    assert f"](/notebooks/{STEM}.ipynb)" in origin
    for part in ("`laptop`", "8.4 s on 2 CPU cores", "2025-01-31", "MNIST, test split"):
        assert part in origin
    assert head.count("|") == line.count("|") == row.replace(r"\|", "").count("|") == 8
    name, value, floor, ceiling, target, accepted, note = [
        cell.strip() for cell in row.replace(r"\|", "¦")[1:-1].split("|")
    ]
    assert (name, value) == ("accuracy", "0.543 ± 0.012 (5 seeds)")
    assert (floor, ceiling, target, accepted) == ("0.1", "1", "≥ 0.6", "≥ 0.5")
    assert note == r"one ¦ two. Accepted differs from the target: A \$5 machine."


def test_chapters_that_were_never_run_are_left_out(course, call):
    tamper(course, lambda book: book.metadata.pop("genlab"))
    assert results(course) == {}
    assert "No chapter" in results_markdown(course)
    pairs.notebook_path(course, STEM).unlink()
    assert call(course, "results")[:2] == (0, "{}\n")


def test_a_chapter_without_measurements_has_no_table(course):
    tamper(course, lambda book: book.metadata.genlab.record.update(measurements=[]))
    assert "|" not in results_markdown(course)
    assert "## A tiny chapter" in results_markdown(course)


def test_a_notebook_that_cannot_be_read_is_named(course, call):
    pairs.notebook_path(course, STEM).write_text("<<<<<<< ours")
    code, _, error = call(course, "results")
    assert code == 1
    assert f"{STEM}.ipynb is not a valid notebook" in error
