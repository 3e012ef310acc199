"""The record keeps what it is told, refuses what is not a number, and shows both."""

import base64
import hashlib
import io
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from genlab_helpers import record as record_module
from genlab_helpers import runtime
from genlab_helpers.files import Origin
from genlab_helpers.record import MIME, RunRecord
from genlab_helpers.settings import Settings
from genlab_helpers.tables import number_text

CPU, LAPTOP = torch.device("cpu"), Settings(profile="laptop", seed=3)
LINE = re.compile(r'\(globalThis\.genlabData \?\?= \{\}\)\["01_x/a"\] = (\{.*\});\n')
MNIST = {"name": "MNIST", "split": "train", "source": "folder", "count": 60_000}
MNIST |= {"sha256": "0123456789ab" + "c" * 52}
HERE = torch.backends.cpu.get_cpu_capability()
ODD = dict(seeds=-1, spread=0.1, name="accuracy", value=None, cieling=1.0)
ARRAYS = hnp.arrays(
    np.float64,
    hnp.array_shapes(max_dims=3, max_side=4),
    elements=st.floats(-1000, 1000, width=16),
)


@pytest.fixture
def record():
    return RunRecord("01_x", LAPTOP, CPU)


def rows_of(record: RunRecord) -> list[list[str]]:
    """Return the cells of the card's tables as a reader sees them."""
    text = record.card()._repr_mimebundle_()["text/markdown"]
    lines = [re.split(r" ?(?<!\\)\| ?", line)[1:-1] for line in text.splitlines()]
    return [[re.sub(r"\\(.)", r"\1", cell) for cell in line] for line in lines]


def test_facts_of_a_run(record):
    for split in ("train", "train", "test"):
        record.use(Origin(**(MNIST | {"split": split})))
    record.measure("accuracy", 0.5, seeds=5, spread=0.1, floor=0.1, ceiling=1.0)
    record.series("loss", torch.tensor([1.0, 0.5]))
    record.to_dict()["data"].clear()  # a copy
    facts = record.to_dict()
    assert facts.pop("seconds") >= 0
    assert facts.pop("peak_memory_bytes") > 10**6
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", facts.pop("date"))
    measurement = {"name": "accuracy", "value": 0.5, "unit": "", "seeds": 5, "note": ""}
    measurement |= {"spread": 0.1, "floor": 0.1, "ceiling": 1.0}
    assert facts == {
        **{"schema": 1, "chapter": "01_x", "profile": "laptop", "seed": 3},
        **{"settings": {"profile": "laptop", "seed": 3}, "exports": []},
        **{"data": [MNIST, MNIST | {"split": "test"}], "series": {"loss": [1.0, 0.5]}},
        **{"machine": runtime.machine(CPU), "versions": runtime.versions()},
        **{"measurements": [measurement], "resumed_seconds": 0.0},
        "peak_device_memory_bytes": None,
    }
    with pytest.raises(ValueError, match="JSON"):
        RunRecord("01_x", replace(LAPTOP, seed=math.inf), CPU)


def test_the_card_stops_the_clock_and_adds_an_earlier_run(monkeypatch):
    now = iter([100.0, 101.5, 107.25, 500.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(now))
    record = RunRecord("01_x", LAPTOP, CPU)
    assert record.to_dict()["seconds"] == 1.5
    record.resume(90.5)
    facts = record.card().to_dict()
    assert (facts["seconds"], facts["resumed_seconds"]) == (97.75, 90.5)
    assert ["Time, h:m:s", "0:01:38, 0:01:30 of it before a restart"] in rows_of(record)
    assert record.to_dict() == facts


@pytest.mark.parametrize(
    "bad", [math.nan, -math.inf, 10**400, "1", True, [1.0], torch.ones(2)]
)
def test_what_is_not_one_finite_number_is_refused(record, bad):
    for options in ({"value": bad}, {"value": 1.0, "ceiling": bad}):
        with pytest.raises(ValueError, match=f"The {[*options][-1]} of 'loss'"):
            record.measure("loss", **options)
    with pytest.raises(ValueError, match="Number 1 of 'loss'"):
        record.series("loss", [0.0, bad])
    with pytest.raises(ValueError, match="A value of 'loss'"):
        record.measure_seeds("loss", [0.0, bad])
    assert (record.to_dict()["measurements"], record.to_dict()["series"]) == ([], {})


@pytest.mark.parametrize("what", ODD)
def test_measurements_that_make_no_sense_change_nothing(record, what):
    record.measure("accuracy", 0.5, seeds=2, spread=0.1)
    options = {"name": "other", "value": 0.6, what: ODD[what]}
    with pytest.raises((ValueError, TypeError), match=r"need|already|knows"):
        record.measure(**options)
    assert [e["value"] for e in record.to_dict()["measurements"]] == [0.5]


def test_scalars_become_plain_numbers_and_seeds_mean_and_deviation(record):
    for value in (np.float32(0.5), np.int64(7), torch.tensor(1 / 3).double() / 3):
        record.measure(repr(value), value)
        stored = record.to_dict()["measurements"][-1]["value"]
        assert (stored, type(stored)) == (value.item(), type(value.item()))
    record.measure_seeds("error", torch.tensor([1.0, 2.0, 4.0]), unit="dB", floor=0.0)
    record.measure_seeds("alone", [3])
    several, alone = record.to_dict()["measurements"][-2:]
    assert several["value"] == pytest.approx(7 / 3)
    assert several["spread"] == pytest.approx(np.std([1, 2, 4], ddof=1))
    assert (several["seeds"], several["unit"], several["floor"]) == (3, "dB", 0.0)
    assert (alone["value"], alone["seeds"], alone["spread"]) == (3, 1, None)


def test_the_card_shows_all_texts_escaped_with_the_data_beside(record):
    bad = '<script>alert("1")</script>&amp;\'" | $x_1$ `a` *b* [c](d) \\ {{e}}'
    record.use(Origin(**(MNIST | {"name": bad, "source": "stand-in"})))
    record.measure(bad, 0.5341, unit=bad, note=bad, seeds=5, spread=0.0123, floor=0.1)
    bundle = record.card()._repr_mimebundle_()
    assert bundle[MIME] == record.to_dict() == json.loads(json.dumps(bundle[MIME]))
    rows = rows_of(record)
    value = "0.534 ± 0.012 (5 seeds)"
    assert rows[-1] == [bad, value, bad, "0.1", "", bad]
    assert ["Data", f"{bad}, train, 60,000, sha256 0123456789ab"] in rows
    found = [number_text(value) for value in (None, 60000, 2374521.3, 0.53414, 1.5e-7)]
    assert found == ["", "60,000", "2,374,521", "0.5341", "1.5e-07"]
    assert (number_text(53.41, 12.0), number_text(0.5, 0.0)) == ("53 ± 12", "0.5 ± 0")


def test_the_card_tells_memory_of_a_gpu_and_knows_runs_without_results(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA Any")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    monkeypatch.setattr(record_module, "max_memory_allocated", lambda device: 2.5e9)
    rows = rows_of(RunRecord("01_x", LAPTOP, torch.device("cuda:1")))
    assert rows[0] == ["Run card", "01_x"]
    assert len(rows) == 7
    assert rows[2][1].endswith(f" threads, {HERE}, autocast in bfloat16")
    assert rows[-2][1].endswith("GB, and 2.50 GB on the GPU")


def exported(folder) -> dict[str, np.ndarray]:
    found = json.loads(LINE.fullmatch((folder / "a.js").read_text())[1])
    for label, packed in found.items():
        numbers = np.frombuffer(base64.b64decode(packed["float16"]), "<f2")
        found[label] = numbers.reshape(packed["shape"])
    return found


@given(st.dictionaries(st.sampled_from(["weight", "codes"]), ARRAYS, min_size=1))
def test_what_is_exported_can_be_read_back(tmp_path_factory, arrays):
    folder = tmp_path_factory.mktemp("exports")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GENLAB_EXPORTS", str(folder))
        RunRecord("01_x", LAPTOP, CPU).export("a", {k: v.T for k, v in arrays.items()})
    for label, found in exported(folder).items():
        assert np.array_equal(found, arrays.pop(label).T.astype("f2"))
    assert not arrays


def test_an_exported_image_is_a_png(record, tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_EXPORTS", str(tmp_path))
    image = Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4))
    record.export("a", {"digits": image})
    packed = json.loads(LINE.fullmatch((tmp_path / "a.js").read_text())[1])["digits"]
    back = Image.open(io.BytesIO(base64.b64decode(packed["png"])))
    assert np.array_equal(back, image)


def test_a_file_is_written_only_for_the_tool_and_never_in_smoke(tmp_path, monkeypatch):
    entries = []
    for profile, place in (("laptop", ""), ("smoke", tmp_path), ("laptop", tmp_path)):
        assert list(tmp_path.iterdir()) == []
        monkeypatch.setenv("GENLAB_EXPORTS", str(place))
        record = RunRecord("01_x", replace(LAPTOP, profile=profile), CPU)
        record.export("a", {"t": torch.ones(2, requires_grad=True)})
        entries += record.to_dict()["exports"]
    sha256 = hashlib.sha256((tmp_path / "a.js").read_bytes()).hexdigest()
    assert entries == [{"file": "a.js", "sha256": sha256}] * 3


@pytest.mark.parametrize(
    ("name", "arrays", "reason"),
    [
        ("a", {"t": np.zeros(1)}, "already in the record"),
        *((name, {"t": np.zeros(1)}, "lower") for name in ("", "Code", "c-m", "../m")),
        ("b", {}, "has arrays"),
        *(("b", {"t": np.array(x)}, "hold") for x in ([], [math.nan], [7e4])),
        ("b", {"t": np.zeros(800_000)}, "over 2000000"),
    ],
)
def test_a_refused_export_leaves_no_trace(
    record, tmp_path, monkeypatch, name, arrays, reason
):
    monkeypatch.setenv("GENLAB_EXPORTS", str(tmp_path))
    record.export("a", {"t": torch.ones(2)})
    with pytest.raises(ValueError, match=reason):
        record.export(name, arrays)
    assert exported(tmp_path)["t"].tolist() == [1, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["a.js"]
    assert len(record.to_dict()["exports"]) == 1
