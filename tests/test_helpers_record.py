"""The record keeps what it is told, refuses what is not a number, and shows both."""

import json
import math
import re
from dataclasses import dataclass, replace
from datetime import date
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab_helpers import runtime
from genlab_helpers.card import MIME, memory_text, number_text, seconds_text
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

CPU = torch.device("cpu")
HTML = "text/html"
finite = st.floats(allow_nan=False, allow_infinity=False)
positive = st.floats(min_value=0, allow_nan=False, allow_infinity=False)
NOT_FINITE = (float("nan"), float("inf"), -float("inf"), 10**400)


@dataclass(frozen=True, kw_only=True)
class Chapter(Settings):
    clusters: int = 10
    sizes: tuple = (1, 2)


SETTINGS = Chapter(profile="laptop", seed=3)


def image_set(name="MNIST", source="folder", count=60_000, split="train"):
    origin = {"name": name, "split": split, "source": source, "count": count}
    return SimpleNamespace(
        provenance=lambda: origin | {"sha256": "0123456789ab" + "c" * 52}
    )


def new_record(chapter="01_kmeans") -> RunRecord:
    return RunRecord(chapter, SETTINGS, CPU)


def html_of(record: RunRecord) -> str:
    return record.card()._repr_mimebundle_()[HTML]


class Page(HTMLParser):
    """Collect tags, attribute values and texts; complain about a broken nesting."""

    def __init__(self, html: str):
        super().__init__()
        self.open, self.tags, self.values, self.cells = [], [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        self.tags.append((tag, dict(attrs)))
        self.values += [value for _, value in attrs]
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


@st.composite
def records(draw) -> RunRecord:
    record = new_record(draw(st.text(min_size=1)))
    for name in draw(st.lists(st.text(min_size=1), unique=True, max_size=4)):
        seeds = draw(st.none() | st.integers(1, 99))
        record.measure(
            name,
            draw(finite | st.integers(-(10**12), 10**12)),
            unit=draw(st.text()),
            seeds=seeds,
            spread=None if seeds is None else draw(st.none() | positive),
            floor=draw(st.none() | finite),
            ceiling=draw(st.none() | finite),
            note=draw(st.text()),
        )
        record.series(name, draw(st.lists(finite, max_size=5)))
    return record


@given(records())
@settings(max_examples=50, deadline=None)
def test_json_round_trip(record):
    record.card()  # the clock stops, so that two readings are equal
    again = RunRecord.from_json(record.to_json())
    assert again.to_dict() == record.to_dict()
    assert again.to_json() == record.to_json()
    assert html_of(again) == html_of(record)


@given(records())
@settings(max_examples=50, deadline=None)
def test_every_text_reaches_the_card_escaped(record):
    page = Page(html_of(record))
    known = {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "code"}
    assert {tag for tag, _ in page.tags} <= known
    for entry in record.to_dict()["measurements"]:
        for text in (entry["name"], entry["unit"], entry["note"]):
            assert text in page.cells or not text.isprintable()


def test_markup_in_any_text_is_shown_and_not_run():
    bad = '<script>alert("1")</script>&amp;\'"'
    record = new_record(bad)
    record.use(image_set(name=bad))
    record.measure(bad, 1.0, unit=bad, note=bad)
    html = html_of(record)
    assert "<script" not in html
    page = Page(html)
    assert f"Run card of {bad}" in page.values
    assert page.cells.count(bad) == 3  # name, unit, note
    assert any(cell.startswith(f"{bad}, train") for cell in page.cells)


def test_layout_of_the_dictionary():
    record = new_record()
    record.use(image_set())
    record.measure("accuracy", 0.53, seeds=5, spread=0.01, floor=0.1, ceiling=1.0)
    record.series("inertia", [3.0, 2.0])
    facts = record.to_dict()
    assert facts["schema"] == 1
    assert facts["chapter"] == "01_kmeans"
    assert (facts["profile"], facts["seed"]) == ("laptop", 3)
    expected = {"profile": "laptop", "seed": 3, "clusters": 10, "sizes": [1, 2]}
    assert facts["settings"] == expected
    assert facts["data"][0]["sha256"].startswith("0123456789ab")
    assert facts["machine"] == runtime.machine(CPU)
    assert facts["versions"] == runtime.versions()
    assert facts["peak_memory_bytes"] > 10**6
    assert facts["peak_device_memory_bytes"] is None
    assert abs((date.fromisoformat(facts["date"]) - date.today()).days) <= 1
    assert facts["series"] == {"inertia": [3.0, 2.0]}
    assert facts["measurements"] == [
        {
            "name": "accuracy",
            "value": 0.53,
            "unit": "",
            "seeds": 5,
            "spread": 0.01,
            "floor": 0.1,
            "ceiling": 1.0,
            "note": "",
        }
    ]


def test_the_dictionary_is_a_copy():
    record = new_record()
    record.to_dict()["measurements"].append("something else")
    assert record.to_dict()["measurements"] == []


def test_the_card_stops_the_clock(monkeypatch):
    now = iter([100.0, 101.5, 107.25, 500.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    record = new_record()
    assert record.to_dict()["seconds"] == 1.5
    card = record.card()
    assert card.facts["seconds"] == record.to_dict()["seconds"] == 7.25
    assert record.card().facts["seconds"] == 7.25


def test_seconds_of_an_earlier_run_are_added_and_said(monkeypatch):
    now = iter([100.0, 107.25])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    record = new_record()
    record.resume(60)
    record.resume(30.5)
    for bad in (-1, float("nan"), "1"):
        with pytest.raises(ValueError, match="earlier run"):
            record.resume(bad)
    card = record.card()
    assert card.facts["resumed_seconds"] == 90.5
    assert card.facts["seconds"] == 97.75
    said = "1 min 38 s, 1 min 30 s of it before a restart"
    assert said in repr(card)
    assert said in card._repr_mimebundle_()["text/html"]


def test_data_is_noted_once_and_each_split_for_itself():
    record = new_record()
    for one in (image_set(), image_set(), image_set(split="test")):
        record.use(one)
    assert [entry["split"] for entry in record.to_dict()["data"]] == ["train", "test"]


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("field", ["value", "spread", "floor", "ceiling", "seeds"])
def test_numbers_that_are_not_finite_are_refused(field, value):
    record = new_record()
    numbers = {"value": 1.0, "seeds": 2, field: value}
    with pytest.raises(ValueError, match=f"The {field} of 'loss' is not a finite"):
        record.measure("loss", numbers.pop("value"), **numbers)
    assert record.to_dict()["measurements"] == []


@pytest.mark.parametrize("value", ["1", None, True, 1j, [1.0], torch.ones(2)])
def test_what_is_not_one_number_is_refused(value):
    with pytest.raises(ValueError, match="must be one int or float"):
        new_record().measure("loss", value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.float32(0.5), 0.5),
        (np.int64(7), 7),
        (torch.tensor(0.25, requires_grad=True), 0.25),
        (np.array(3), 3),
    ],
)
def test_scalars_of_numpy_and_torch_become_plain_numbers(value, expected):
    record = new_record()
    record.measure("x", value)
    stored = record.to_dict()["measurements"][0]["value"]
    assert stored == expected
    assert type(stored) is type(expected)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"seeds": 0}, "count >= 1"),
        ({"seeds": 2.5}, "count >= 1"),
        ({"spread": 0.1}, "come with its number of seeds"),
        ({"spread": -0.1, "seeds": 3}, "must be >= 0"),
        ({"note": 5}, "must be text"),
        ({"unit": None}, "must be text"),
    ],
)
def test_measurements_that_make_no_sense_are_refused(options, reason):
    record = new_record()
    with pytest.raises(ValueError, match=reason):
        record.measure("accuracy", 0.5, **options)
    assert record.to_dict()["measurements"] == []


@pytest.mark.parametrize("name", ["", None])
def test_a_measurement_needs_a_name(name):
    with pytest.raises(ValueError, match="name not empty"):
        new_record().measure(name, 0.5)


def test_a_name_is_used_once_and_the_first_value_stays():
    record = new_record()
    record.measure("accuracy", 0.5)
    record.series("loss", [1.0])
    with pytest.raises(ValueError, match="'accuracy' is already in the record"):
        record.measure("accuracy", 0.6)
    with pytest.raises(ValueError, match="'loss' is already in the record"):
        record.series("loss", [2.0])
    facts = record.to_dict()
    assert facts["measurements"][0]["value"] == 0.5
    assert facts["series"]["loss"] == [1.0]


def test_seeds_give_mean_and_standard_deviation():
    record = new_record()
    record.measure_seeds("error", torch.tensor([1.0, 2.0, 4.0]), unit="dB", floor=0.0)
    record.measure_seeds("alone", [3])
    several, alone = record.to_dict()["measurements"][-2:]
    assert several["value"] == pytest.approx(7 / 3)
    assert several["spread"] == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert (several["seeds"], several["unit"], several["floor"]) == (3, "dB", 0.0)
    assert (alone["value"], alone["seeds"], alone["spread"]) == (3, 1, None)


@pytest.mark.parametrize(
    ("values", "reason"), [([], "no value"), ([1.0, math.nan], "finite")]
)
def test_seeds_without_good_values_are_refused(values, reason):
    record = new_record()
    before = record.to_dict()["measurements"]
    with pytest.raises(ValueError, match=reason):
        record.measure_seeds("error", values)
    assert record.to_dict()["measurements"] == before


def test_series_take_tensors_and_name_the_bad_step():
    record = new_record()
    record.series("loss", torch.tensor([1.0, 0.5]))
    assert record.to_dict()["series"]["loss"] == [1.0, 0.5]
    with pytest.raises(ValueError, match="Number 1 of the series 'bad'"):
        record.series("bad", [0.0, float("nan")])
    assert "bad" not in record.to_dict()["series"]


def test_settings_that_json_cannot_hold_are_refused():
    for bad in (float("inf"), object()):
        with pytest.raises(ValueError, match="The settings cannot be written as JSON"):
            RunRecord("01_kmeans", replace(SETTINGS, clusters=bad), CPU)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda facts: [], "not a run record"),
        (lambda facts: facts | {"schema": 2}, "not a run record of schema 1"),
        (lambda facts: facts | {"extra": 1}, "lacks or does not know: extra"),
        (lambda facts: {k: facts[k] for k in facts if k != "seed"}, "know: seed"),
        (lambda facts: facts | {"seconds": float("nan")}, "cannot be written as JSON"),
    ],
)
def test_other_dictionaries_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        RunRecord.from_dict(change(new_record().to_dict()))


def test_the_bundle_holds_html_text_and_the_record():
    record = new_record()
    bundle = record.card()._repr_mimebundle_()
    assert set(bundle) == {HTML, "text/plain", MIME}
    assert bundle[MIME] == record.to_dict() == json.loads(json.dumps(bundle[MIME]))


def full_record() -> RunRecord:
    record = new_record()
    record.use(image_set())
    record.measure("accuracy", 0.5341, seeds=5, spread=0.0123, floor=0.1, note="pixels")
    record.measure("time", 0.0321, unit="s")
    return record


def test_what_the_card_says():
    record = full_record()
    cells = Page(html_of(record)).cells
    facts = record.to_dict()
    rows = dict(zip(cells[0:18:2], cells[1:18:2], strict=True))
    assert rows["What it ran on"].startswith(facts["machine"]["device"])
    assert rows["Data"] == "MNIST, train, 60,000 images, sha256 0123456789ab"
    assert rows["Profile"] == "laptop"
    assert rows["Seed"] == "3"
    assert rows["Date"] == facts["date"]
    assert rows["Peak memory"] == memory_text(facts["peak_memory_bytes"])
    assert f"torch {torch.__version__.split('+')[0]}" in rows["Versions"]
    assert cells[-12:-6] == [
        "accuracy",
        "0.534 ± 0.012 (5 seeds)",
        "",
        "0.1",
        "",
        "pixels",
    ]
    assert cells[-6:] == ["time", "0.0321", "s", "", "", ""]


def test_plain_text_says_the_same():
    text = repr(full_record().card())
    assert "Data: MNIST, train, 60,000 images, sha256 0123456789ab" in text
    assert "accuracy: 0.534 ± 0.012 (5 seeds)" in text
    assert "time: 0.0321 s" in text


def test_memory_of_the_gpu_is_shown_where_there_is_one(monkeypatch):
    monkeypatch.setattr(runtime, "peak_device_memory", lambda device: 2_500_000_000)
    record = new_record()
    assert "and 2.50 GB on the GPU" in html_of(record)
    assert record.to_dict()["peak_device_memory_bytes"] == 2_500_000_000


def test_a_stand_in_is_named_in_words():
    record = new_record()
    record.use(image_set("scikit-learn digits (stand-in for MNIST)", "stand-in", 1437))
    assert "a stand-in, not the real data set" in html_of(record)
    assert "a stand-in, not the real data set" in repr(record.card())
    assert "not the real" not in html_of(full_record())


def test_the_card_is_accessible_and_brings_no_colour_of_its_own():
    html = html_of(full_record())
    page = Page(html)
    assert page.tags[0] == ("div", {"class": "genlab-run-card"})
    assert all(attrs.get("scope") for tag, attrs in page.tags if tag == "th")
    regions = [attrs for _, attrs in page.tags if attrs.get("role") == "region"]
    assert len({region["aria-label"] for region in regions}) == 2
    assert all(region["tabindex"] == "0" for region in regions)
    assert all("overflow-x:auto" in region["style"] for region in regions)
    colours = re.findall(r"(?:color|background)\s*:\s*([^;\"]+)", html)
    assert set(colours) == {"inherit", "none"}
    assert not re.search(r"#[0-9a-f]{3}|rgb\(", html)
    digests = [attrs["title"] for tag, attrs in page.tags if tag == "code"]
    assert digests == ["0123456789ab" + "c" * 52]


def test_a_card_without_measurements_has_one_table():
    assert html_of(new_record()).count("<table") == 1


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (8.44, "8.4 s"),
        (59.96, "1 min 00 s"),
        (365, "6 min 05 s"),
        (3599.7, "1 h 00 min"),
        (4210, "1 h 10 min"),
    ],
)
def test_durations(seconds, text):
    assert seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (None, None, ""),
        (0.53414, None, "0.5341"),
        (1.0, None, "1"),
        (60000, None, "60,000"),
        (2374521.3, None, "2,374,521"),
        (1.5e-7, None, "1.5e-07"),
        (0.53414, 0.0123, "0.534 ± 0.012"),
        (0.98, 0.1, "0.98 ± 0.10"),
        (53.41, 12.0, "53 ± 12"),
        (0.5, 0.0, "0.5 ± 0"),
        (0.5, 2e-9, "0.5 ± 2e-09"),
    ],
)
def test_numbers(value, spread, text):
    assert number_text(value, spread) == text


def test_memory_sizes():
    assert memory_text(542_300_000) == "542 MB"
    assert memory_text(1_234_000_000) == "1.23 GB"
