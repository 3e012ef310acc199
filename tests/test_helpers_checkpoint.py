"""A checkpoint is whole or absent, belongs to its settings, and runs no code."""

import os
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
import torch

from genlab_helpers import checkpoint
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Chapter(Settings):
    epochs: int = 3


LAPTOP = Chapter(profile="laptop")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make(cfg=LAPTOP, name="fashion", chapter="03_gan"):
    return Checkpoint(name, RunRecord(chapter, cfg, torch.device("cpu")))


def files(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_is_saved_is_loaded(folder):
    saved = make()
    assert saved.load() is None
    state = {"epoch": 2, "weights": {"a": torch.arange(3.0)}, "losses": [0.5, 0.25]}
    saved.save(**state)
    found = make().load()
    assert found["epoch"] == 2
    assert found["losses"] == [0.5, 0.25]
    assert torch.equal(found["weights"]["a"], state["weights"]["a"])
    saved.save(epoch=3)
    assert make().load() == {"epoch": 3}
    (path,) = files(folder)
    assert path.parts[-5:-2] == ("runs", "03_gan", "laptop")


@pytest.mark.parametrize(
    "other",
    [
        lambda: make(Chapter(profile="laptop", epochs=4)),
        lambda: make(Chapter(profile="laptop", seed=1)),
        lambda: make(Chapter(profile="full")),
        lambda: make(name="digits"),
        lambda: make(chapter="04_dcgan"),
    ],
)
def test_another_training_has_its_own_file(other):
    make().save(epoch=1)
    assert other().load() is None


def test_edited_cells_start_afresh(monkeypatch):
    monkeypatch.setattr(checkpoint, "_cells", lambda: ["a = 1"])
    make().save(epoch=1)
    assert make().load() == {"epoch": 1}
    monkeypatch.setattr(checkpoint, "_cells", lambda: ["a = 2"])
    assert make().load() is None


def test_other_data_start_afresh():
    def on(digest, source="download"):
        origin = {"sha256": digest, "source": source}
        record = RunRecord("03_gan", LAPTOP, torch.device("cpu"))
        record.use(SimpleNamespace(provenance=lambda: origin))
        return Checkpoint("fashion", record)

    on("a1").save(epoch=1)
    assert on("a1", source="folder").load() == {"epoch": 1}
    assert on("b2").load() is None


def test_seconds_of_killed_runs_add_up(monkeypatch):
    now = 0.0
    monkeypatch.setattr("time.perf_counter", lambda: now)
    first = make()
    now = 10.0
    first.save(epoch=1)
    now = 100.0
    record = RunRecord("03_gan", LAPTOP, torch.device("cpu"))
    second = Checkpoint("fashion", record)
    second.load()
    now = 105.0
    second.save(epoch=2)
    second.load()  # its own work is not that of an earlier run
    assert record.to_dict()["resumed_seconds"] == 10.0
    third = RunRecord("03_gan", LAPTOP, torch.device("cpu"))
    Checkpoint("fashion", third).load()
    assert third.to_dict()["resumed_seconds"] == 15.0


def test_smoke_keeps_nothing(folder):
    smoke = make(Chapter(profile="smoke"))
    smoke.save(epoch=1)
    assert smoke.load() is None
    assert files(folder) == []


def test_a_kill_while_writing_leaves_the_old_state(folder, monkeypatch):
    saved = make()
    saved.save(epoch=1)

    def killed(*paths):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        saved.save(epoch=2)
    monkeypatch.undo()
    os.chdir(folder)
    assert make().load() == {"epoch": 1}
    assert len(files(folder)) == 1


class Harm:
    def __reduce__(self):
        return (os.mkdir, ("harm",))


@pytest.mark.parametrize("content", ["cut", "text", "code"])
def test_a_damaged_or_foreign_file_is_named_and_kept(folder, content):
    saved = make()
    saved.save(epoch=1)
    (path,) = files(folder)
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif content == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save({"epoch": Harm()}, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"fashion\.pt cannot be read.*delete it"):
        make().load()
    assert path.read_bytes() == before
    assert not (folder / "harm").exists()


def test_from_a_notebooks_folder_the_file_lies_in_the_course(folder, monkeypatch):
    (folder / "_toc.yml").write_text("")
    (folder / "notebooks").mkdir()
    monkeypatch.chdir(folder / "notebooks")
    make().save(epoch=1)
    assert (folder / "runs").is_dir()
    assert not (folder / "notebooks" / "runs").exists()
