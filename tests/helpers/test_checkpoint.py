"""A checkpoint is whole or absent, belongs to its settings, and runs no code."""

import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from genlab_helpers import checkpoint, runtime
from genlab_helpers.files import Origin
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

CELLS, NAN = [], float("nan")
OTHER = dict(seed=1, profile="full", name="x", chapter="04", data="b2", cell="a = 2")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    (tmp_path / "_toc.yml").touch()  # the course's folder
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    shell = SimpleNamespace(user_ns={"In": CELLS})
    monkeypatch.setattr(checkpoint, "get_ipython", lambda: shell)
    return lambda: [path for path in tmp_path.rglob("runs/**/*") if path.is_file()]


def make(
    name="gan", chapter="03", data="a1", cell="", source="own", code=(), **changes
):
    cfg = replace(Settings(profile="laptop"), **changes)
    record = RunRecord(chapter, cfg, torch.device("cpu"))
    record.use(Origin(name="M", split="test", source=source, sha256=data, count=1))
    CELLS[:] = ["", cell]
    return checkpoint.Checkpoint(name, record, code)


def test_what_is_saved_is_loaded(files, tmp_path):
    saved = make()
    assert saved.load() is None
    saved.save(epoch=2, weights={"a": torch.arange(3.0)}, losses=[0.5, 0.25])
    found = make(source="download").load()
    assert (found["epoch"], found["losses"]) == (2, [0.5, 0.25])
    assert torch.equal(found["weights"]["a"], torch.arange(3.0))
    (path,) = files()
    assert path.match(f"{tmp_path}/runs/03/laptop/*/gan.pt")


@pytest.mark.parametrize("what", OTHER)
def test_another_training_starts_afresh(what, files, monkeypatch):
    make().save(epoch=1)
    assert make().load() == {"epoch": 1}
    assert make(**{what: OTHER[what]}).load() is None
    fast = runtime.fast_bfloat16(torch.device("cpu"))
    monkeypatch.setattr(runtime, "fast_bfloat16", lambda device: not fast)
    assert make().load() is None, "nor at another precision"


def test_a_cell_run_again_or_with_another_comment_goes_on(files, capsys):
    make(cell="a = 1  # as in the paper").save(epoch=1)
    saved = make(cell="a = 1\n# no: as in the talk")
    assert saved.load() == {"epoch": 1}
    CELLS.extend(["a = 1", "%magic"])
    CELLS[-1:] = ["b = 2", "b  =  2"]
    assert make(cell="a=1").load() == {"epoch": 1}
    assert capsys.readouterr().out == ""
    assert make(cell="a = 2").load() is None
    said = (
        "A checkpoint 'gan' of other settings, data, precision or code is not used.\n"
    )
    assert capsys.readouterr().out == said
    assert make(cell="%%time\nnot Python").load() is None


def step(scale=1):
    return scale  # a comment


class Net:
    def forward(self):
        return 1


def test_code_that_is_handed_over_counts_in_place_of_the_cells(files, monkeypatch):
    make(code=[step, Net]).save(epoch=1)
    assert make(code=[step, Net], cell="other").load() == {"epoch": 1}
    assert make(code=[step]).load() is None
    monkeypatch.setattr(Net, "__module__", "__main__")  # as in a notebook: no file
    cell = "@decorated\nclass Net:  # first\n    width: int = 1"
    make(code=[Net], cell=cell).save(epoch=2)
    assert make(code=[Net], cell=cell.replace("first", "then")).load() == {"epoch": 2}
    assert make(code=[Net], cell=cell.replace("= 1", "= 2")).load() is None
    with pytest.raises(TypeError, match="functions and classes, not of 'step'"):
        make(code=["step"])


def test_the_folder_may_be_another_one(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_RUNS", str(tmp_path / "mounted"))
    make().save(epoch=1)
    assert make().path.is_relative_to(tmp_path / "mounted" / "03" / "laptop")
    assert make().load() == {"epoch": 1}


@pytest.mark.parametrize("profile", ["laptop", "smoke"])
@pytest.mark.parametrize(
    ("state", "said"),
    [
        (
            {"g": {"w": torch.tensor([1, NAN])}},
            r"state\.g\.w is NaN \(epoch 7.*learn",
        ),
        ({"losses": [0.1, NAN]}, r"state\.losses\.1 is NaN"),
        ({"loss": np.float64(0.5)}, r"could not be loaded: save tensors, plain"),
        ({"g": torch.nn.Linear(1, 1)}, r"could not be loaded: save tensors, plain"),
    ],
)
def test_what_must_not_be_gone_on_with_is_not_saved(profile, state, said):
    saved = make(profile=profile)
    saved.save(epoch=6, best=float("inf"))
    with pytest.raises(ValueError, match=said):
        saved.save(epoch=7, **state)
    assert (make().load() or {"epoch": 6})["epoch"] == 6


def test_a_full_disk_is_told_and_what_killed_writes_left_goes(files, monkeypatch):
    saved = make()
    saved.save(epoch=1)
    for name, age in ((".genlab-old", 4000), (".genlab-new", 0)):
        (saved.path.parent / name).mkdir()
        then = time.time() - age
        os.utime(saved.path.parent / name, (then, then))
    saved.save(epoch=2)
    left = [path.name for path in saved.path.parent.iterdir()]
    assert sorted(left) == [".genlab-new", "gan.pt"]
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(full))
    said = r"gan\.pt \(0 MB\): No space left on device; make room, or let GENLAB_RUNS"
    with pytest.raises(OSError, match=said):
        saved.save(epoch=3)
    assert make().load() == {"epoch": 2}


def test_smoke_keeps_nothing(files):
    smoke = make(profile="smoke")
    smoke.save(epoch=1)
    assert (smoke.load(), files()) == (None, [])


def test_seconds_of_killed_runs_add_up(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    first, now = make(), 10.0
    first.save(epoch=1)
    second, now = make(), 105.0
    second.load()
    now = 110.0
    second.save(epoch=2)
    second.load()  # its own work is not that of an earlier run
    assert second._record.to_dict()["resumed_seconds"] == 10.0
    third = make()
    third.load()
    assert third._record.to_dict()["resumed_seconds"] == 15.0


@pytest.mark.parametrize("step", ["write_bytes", "replace"])
def test_a_kill_while_writing_leaves_the_old_state(files, monkeypatch, step):
    def killed(*_):
        raise KeyboardInterrupt

    saved = make()
    saved.save(epoch=1)
    with monkeypatch.context() as patch:
        patch.setattr(Path, step, killed)
        with pytest.raises(KeyboardInterrupt):
            saved.save(epoch=2)
    assert make().load() == {"epoch": 1}
    assert len(files()) == 1


class Harm:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize("content", ["cut", "text", "code"])
def test_a_damaged_or_foreign_file_is_named_and_kept(files, content):
    make().save(epoch=1)
    (path,) = files()
    if content == "code":
        torch.save({"epoch": Harm()}, path)
    else:
        path.write_bytes(path.read_bytes()[:-200] if content == "cut" else b"no")
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"gan\.pt cannot be read.*delete it"):
        make().load()
    assert path.read_bytes() == before
    assert not Path("harm").exists()
