"""A checkpoint is whole or absent, belongs to its settings, and runs no code."""

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from genlab_helpers import checkpoint
from genlab_helpers.files import Origin
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

CELLS = []
OTHER = dict(seed=1, profile="full", name="x", chapter="04", data="b2", cell="a = 2")


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    (tmp_path / "_toc.yml").touch()  # the course's folder
    (tmp_path / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "notebooks")
    shell = SimpleNamespace(user_ns={"In": CELLS})
    monkeypatch.setattr(checkpoint, "get_ipython", lambda: shell)
    return lambda: [path for path in tmp_path.rglob("runs/**/*") if path.is_file()]


def make(name="gan", chapter="03", data="a1", cell="", source="own", **changes):
    cfg = replace(Settings(profile="laptop"), **changes)
    record = RunRecord(chapter, cfg, torch.device("cpu"))
    record.use(Origin(name="M", split="test", source=source, sha256=data, count=1))
    CELLS[:] = [cell]
    return checkpoint.Checkpoint(name, record)


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
def test_another_training_starts_afresh(what, files):
    make().save(epoch=1)
    assert make().load() == {"epoch": 1}
    assert make(**{what: OTHER[what]}).load() is None


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
