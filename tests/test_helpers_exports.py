"""Arrays for the pages: packed exactly, refused when unfit, guarded by the gate."""

import base64
import json
import re

import numpy as np
import pytest
import torch
from fixtures_course import RECORD, SOURCE, STEM, edit_source, make_course, read, tamper
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from genlab_helpers import exports, gate, stamps
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

CPU = torch.device("cpu")
LINE = re.compile(r'\(globalThis\.genlabData \?\?= \{\}\)\["([\w/]+)"\] = (\{.*\});\n')
arrays = hnp.arrays(
    st.sampled_from([np.float16, np.float32, np.float64]),
    hnp.array_shapes(max_dims=3, max_side=4),
    elements=st.floats(-1000, 1000, width=16),
)


def unpack(content: bytes) -> tuple[str, dict[str, np.ndarray]]:
    """Read a script back; return its place and the arrays."""
    place, text = LINE.fullmatch(content.decode()).groups()
    return place, {
        name: np.frombuffer(base64.b64decode(packed["float16"]), "<f2").reshape(
            packed["shape"]
        )
        for name, packed in json.loads(text).items()
    }


def record(profile="laptop"):
    return RunRecord(STEM, Settings(profile=profile), CPU)


# ----------------------------------------------------------------------- the script


@given(
    st.dictionaries(st.sampled_from(["weight", "bias", "codes"]), arrays, min_size=1)
)
def test_what_is_packed_can_be_read_back(given_arrays):
    place, found = unpack(exports.script("02_x", "code_map", given_arrays))
    assert place == "02_x/code_map"
    assert found.keys() == given_arrays.keys()
    for name, array in given_arrays.items():
        assert found[name].shape == array.shape
        assert np.array_equal(found[name], array.astype(np.float16))


@pytest.mark.parametrize("order", ["C", "F"])
def test_numbers_are_packed_row_by_row(order):
    table = np.array([[1.0, 2.0], [3.0, 4.0]], order=order)
    assert unpack(exports.script("x", "a", {"t": table}))[1]["t"].tolist() == [
        [1, 2],
        [3, 4],
    ]


@pytest.mark.parametrize("name", ["", "Code", "code-map", "../map", "1map", "a.js"])
def test_a_name_that_is_no_file_name_is_refused(name):
    with pytest.raises(ValueError, match="lower case"):
        exports.script("x", name, {"t": np.ones(2)})


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        ({}, "no array"),
        ({"t": np.array([])}, "a/t is empty"),
        ({"t": np.array([1.0, np.nan])}, "cannot hold"),
        ({"t": np.array([-np.inf])}, "cannot hold"),
        ({"t": np.array([70_000.0])}, "cannot hold"),
        ({"t": np.zeros(800_000)}, "over 2000000"),
    ],
)
def test_what_cannot_be_packed_is_refused(packed, reason):
    with pytest.raises(ValueError, match=reason):
        exports.script("x", "a", packed)


# ----------------------------------------------------------------------- the record


def test_a_file_is_written_only_for_the_tool_and_never_in_smoke(tmp_path, monkeypatch):
    monkeypatch.delenv("GENLAB_EXPORTS", raising=False)
    noted = record()
    noted.export("a", {"t": torch.ones(2, requires_grad=True)})
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setenv("GENLAB_EXPORTS", str(tmp_path))
    smoke = record("smoke")
    smoke.export("a", {"t": torch.ones(2)})
    assert list(tmp_path.iterdir()) == []
    written = record()
    written.export("a", {"t": torch.ones(2)})
    content = (tmp_path / "a.js").read_bytes()
    assert unpack(content)[1]["t"].tolist() == [1, 1]
    entry = {"file": "a.js", "sha256": exports.digest(content)}
    for each in (noted, smoke, written):
        assert each.to_dict()["exports"] == [entry]


def test_a_refused_export_leaves_no_trace(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_EXPORTS", str(tmp_path))
    noted = record()
    noted.export("a", {"t": torch.ones(2)})
    before = (tmp_path / "a.js").read_bytes()
    for name, array in {"a": torch.zeros(2), "b": torch.tensor([torch.inf])}.items():
        with pytest.raises(ValueError, match=r"already in the record|cannot hold"):
            noted.export(name, {"t": array})
    assert [path.name for path in tmp_path.iterdir()] == ["a.js"]
    assert (tmp_path / "a.js").read_bytes() == before
    assert len(noted.to_dict()["exports"]) == 1


# ------------------------------------------------------------------------- the gate


@pytest.fixture
def exported(course):
    """Return a course whose run wrote one export, and its folder."""
    place = exports.folder(course, STEM)
    place.mkdir(parents=True)
    content = exports.script(STEM, "map", {"t": np.ones(3)})
    (place / "map.js").write_bytes(content)
    entry = {"file": "map.js", "sha256": exports.digest(content)}
    change = {"exports": [entry]}
    tamper(course, lambda b: stamps.cards(b)[0].update(change), restamp=True)
    assert gate.reasons(course, STEM) == []
    return course, place


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda place: (place / "map.js").unlink(), "map.js is missing"),
        (lambda place: (place / "map.js").write_text("1"), "map.js was changed"),
        (lambda place: (place / "old.js").write_text("1"), "data/01/old.js; delete"),
    ],
    ids=["missing", "changed", "left over"],
)
def test_the_gate_refuses_exports_that_are_not_of_the_run(exported, change, reason):
    course, place = exported
    change(place)
    (found,) = gate.reasons(course, STEM)
    assert reason in found
    assert "run the chapter again" in found


RUN = f"""
from types import SimpleNamespace

from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings
import torch

record = RunRecord("{STEM}", Settings.for_profile(smoke={{}}), torch.device("cpu"))
origin = {RECORD["data"][0]!r}
record.use(SimpleNamespace(provenance=lambda: origin))
record.export("map", {{"t": torch.ones(3)}})
record.card()
"""


def test_a_run_replaces_the_exports_of_the_one_before(tmp_path, call):
    start = SOURCE.index("import os\n\nrecord =")
    end = SOURCE.index("# %% [markdown]\n# **Exercise.**")
    course = make_course(tmp_path / "course")
    edit_source(course, SOURCE[start:end], RUN.lstrip() + "\n")
    place = exports.folder(course, STEM)
    place.mkdir(parents=True)
    (place / "old.js").write_text("left over")
    code, _, error = call(course, "run", "1", "--profile", "smoke")
    assert code == 0, error
    assert [path.name for path in place.iterdir()] == ["old.js"]
    code, _, error = call(course, "run", "1", "--profile", "laptop")
    assert code == 0, error
    assert [path.name for path in place.iterdir()] == ["map.js"]
    assert gate.reasons(course, STEM) == []
    assert stamps.cards(read(course))[0]["exports"][0]["file"] == "map.js"
