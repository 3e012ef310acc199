"""Training faces on many processes is the training on one, and survives a kill."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from genlab_helpers import faces

SCRIPT = Path(__file__).parents[2] / "notebooks/scripts/train_faces.py"
spec = spec_from_file_location("train_faces", SCRIPT)
script = sys.modules["train_faces"] = module_from_spec(spec)
spec.loader.exec_module(script)
Options, Team, Training = script.Options, script.Team, script.Training
COUNT, BATCH = 19, 8  # two batches an epoch, and three pictures left over
BAD = {
    "--side 20": "side must be 8, 16, 32",
    "--channels 12": "multiple of 8",
    "--epochs 0": "at least 1",
    "--batch-size -4": "at least 1",
    "--rate nan": "rate must be above 0",
    "--seed -1": "seed must be from 0",
    "--epochs many": "invalid int value: 'many'",
    "--epoch-count 3": "unrecognized arguments",
}
OTHERS = [dict(channels=8), dict(side=8), dict(batch_size=4), dict(augment=True)]
PATIENCE = 300  # seconds for a job of several processes on a busy machine


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Return those of a small training, with a folder of random pictures."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GENLAB_DEVICE", "cpu")
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    (folder := tmp_path / "pictures").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(folder / f"{i:02}.png")
    tiny = dict(side=16, channels=4, batch_size=BATCH, rate=2e-3)
    return Options(folder=folder, out=tmp_path / "out", epochs=2, **tiny)


@pytest.fixture
def pictures(options):
    return faces.faces(options.folder, side=16)


def line(options):
    """Return the options as somebody types them."""
    names = ("folder", "out", "epochs", "batch_size", "side", "channels", "rate")
    flags = [("--" + name.replace("_", "-"), getattr(options, name)) for name in names]
    return [str(part) for flag in flags for part in flag]


def train(pictures, options):
    training = Training(pictures, options, Team())
    while len(training.history["d_loss"]) < options.epochs:
        training.epoch()
    return training


def history(path):
    return torch.load(path, weights_only=True)["history"]


def equal(found, expected, tolerance=1e-4):
    pairs = [(found[key], expected[key]) for key in ("d_loss", "g_loss")]
    return all(np.allclose(*pair, rtol=0, atol=tolerance) for pair in pairs)


@pytest.fixture
def job():
    """Return a function that starts two processes by torchrun; none outlives a test."""
    started = []

    def start(options):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", SCRIPT, *line(options)]
        quiet = dict(os.environ, OMP_NUM_THREADS="1")
        pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env=quiet, **pipe))
        return started[-1]

    yield start
    for running in started:
        if running.poll() is None:
            for process in psutil.Process(running.pid).children(recursive=True):
                process.kill()
            running.kill()
            running.communicate()


def test_two_processes_are_as_one_though_one_is_killed(job, pictures, options):
    path = train(pictures, replace(options, epochs=1)).path
    running = job(replace(options, epochs=10**6))
    deadline = time.monotonic() + PATIENCE
    while len(history(path)["d_loss"]) < 3:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    children = psutil.Process(running.pid).children(recursive=True)
    ranks = {child.environ().get("RANK"): child for child in children}
    assert {"0", "1"} <= ranks.keys()
    ranks["1"].kill()
    printed, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert "1 of 1000000 epochs are done" in printed
    assert printed.count("epoch 2 of 1000000: d_loss") == 1  # rank 0 alone prints
    assert "Rank 0 of 2 stopped" in errors
    assert f"The last checkpoint is {path}: the same command goes on" in errors
    done = len(history(path)["d_loss"]) + 1
    running = job(replace(options, epochs=done))
    running.communicate(timeout=PATIENCE)
    assert running.returncode == 0
    alone = train(pictures, replace(options, epochs=done, out=options.out / "alone"))
    assert equal(history(path), alone.history)
    assert len(alone.history["g_loss"]) == len([*options.out.glob("*.png")]) == done


@pytest.mark.parametrize("world", [2, 4])
def test_the_shares_of_all_ranks_are_the_batches_of_one(options, world):
    def deal(epoch, rank=0, world=1):
        return script.batches(COUNT, options, Team(rank, world), epoch)

    whole = [*deal(3)]
    for one, *shares in zip(
        whole, *(deal(3, r, world) for r in range(world)), strict=True
    ):
        for rank, (rows, flip, z, _) in enumerate(shares):
            assert torch.equal(rows, one[0][rank::world])
            assert torch.equal(flip, one[1][rank::world])
            assert torch.equal(z, one[2][:, rank::world])
        assert len({torch.rand((), generator=rng) for *_, rng in shares}) == world
    assert len(set(torch.cat([rows for rows, *_ in whole]).tolist())) == 2 * BATCH
    for part in (0, 2):  # another epoch has another order, and other noise
        assert not torch.equal(next(deal(4))[part], whole[0][part])


def test_a_resumed_training_is_the_uninterrupted_one(pictures, options, tmp_path):
    train(pictures, replace(options, epochs=1))
    resumed = train(pictures, options)
    alone = train(pictures, replace(options, out=tmp_path / "alone"))
    assert resumed.history == alone.history
    for name in Training.parts:
        found, expected = (getattr(t, name).state_dict() for t in (resumed, alone))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_step_is_the_chapters_and_the_average_follows(pictures, options):
    training = Training(pictures, options, Team())
    first, second = script.batches(COUNT, options, Team(), 0)
    x = pictures.images[first[0]].float() / 127.5 - 1
    x = torch.where(first[1], x.flip(3), x)
    with torch.no_grad():
        real, drawn = training.d(x), training.d(training.g(first[2][0]))
        expected = (script.recap.bce(real, 1.0) + script.recap.bce(drawn, 0.0)) / 2
    assert training.step(*first)[0] == pytest.approx(expected.item(), abs=1e-5)
    weight, average = training.g[1].weight, training.average.module[1].weight
    assert torch.equal(average, weight)  # the first is taken over
    before = average.detach().clone()
    training.step(*second)
    want = 0.998 * before + 0.002 * weight
    torch.testing.assert_close(average, want, rtol=0, atol=1e-8)


def test_augmented_and_in_bfloat16(pictures, options, tmp_path, monkeypatch):
    plain = train(pictures, replace(options, epochs=1))
    slow = replace(options, epochs=1, out=tmp_path / "slow", bfloat16=True)
    monkeypatch.setattr(script.runtime, "fast_bfloat16", lambda device: False)
    assert train(pictures, slow).history == plain.history, "where it is emulated"
    monkeypatch.setattr(script.runtime, "fast_bfloat16", lambda device: True)
    assert Training(pictures, slow, Team()).precision == "float32", "goes on as begun"
    for change in ("augment", "bfloat16"):
        other = replace(options, epochs=1, out=tmp_path / change, **{change: True})
        changed = train(pictures, other)
        assert changed.history != plain.history
        assert equal(changed.history, plain.history, tolerance=0.3)
        assert {p.dtype for p in changed.g.parameters()} == {torch.float32}
    monkeypatch.setattr(script.runtime, "fast_bfloat16", lambda device: False)
    with pytest.raises(ValueError, match="with precision bfloat16, not float32: give"):
        Training(pictures, other, Team())


@pytest.mark.parametrize("arguments", BAD)
def test_bad_options_are_refused(arguments, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main(arguments.split())
    assert BAD[arguments] in capsys.readouterr().err


def test_what_cannot_be_trained_on_is_refused(pictures, options, monkeypatch):
    with pytest.raises(ValueError, match=r"8 cannot be dealt to 3 .* multiple of 3"):
        Training(pictures, options, Team(0, 3))
    with pytest.raises(ValueError, match=r"19 pictures do not fill .* below 32"):
        Training(pictures, replace(options, batch_size=32), Team())
    with pytest.raises(SystemExit, match=r"train_faces: .*no where"):
        script.main(["--folder", "no where"])
    (options.out.parent / "file").touch()
    with pytest.raises(SystemExit, match=r"file/x cannot be written to .*--out"):
        script.main(["--out", str(options.out.parent / "file" / "x")])
    monkeypatch.setattr(script.runtime, "pick_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=r"process 2 .* --nproc-per-node=1"):
        script.join()


def test_a_checkpoint_that_does_not_fit_is_named_and_kept(pictures, options):
    path = train(pictures, replace(options, epochs=1)).path
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"made with pictures .*, not f00: give"):
        Training(replace(pictures, sha256="f00"), options, Team())
    for change in OTHERS:
        ((name, value),) = change.items()
        with pytest.raises(ValueError, match=f"made with {name} .*, not {value}: give"):
            Training(pictures, replace(options, **change), Team())
    assert path.read_bytes() == before
    for damaged in (before[:-200], b"not a checkpoint"):
        path.write_bytes(damaged)
        with pytest.raises(
            ValueError, match=r"training\.pt cannot be read .* delete it"
        ):
            Training(pictures, options, Team())
        assert path.read_bytes() == damaged


def test_a_full_disk_is_told_with_the_file(pictures, options, monkeypatch):
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "write_bytes", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(OSError, match=r"training\.pt cannot be written .*make room"):
        train(pictures, options)


def test_samples_after_a_stand_in_say_so(pictures, options):
    train(replace(pictures, source="stand-in"), replace(options, epochs=1))
    assert [path.name for path in options.out.glob("*.png")] == ["stand_in_0001.png"]


def test_a_loss_that_is_not_finite_stops_it(options, monkeypatch, capsys):
    monkeypatch.setattr(script.signal, "signal", lambda *handler: None)
    path = options.out / "training.pt"
    for left in ("There is no checkpoint yet.", f"The last checkpoint is {path}"):
        before = path.is_file() and path.read_bytes()
        with monkeypatch.context() as patch:
            patch.setattr(Training, "step", lambda *_: torch.full((2,), torch.nan))
            with pytest.raises(RuntimeError, match=r"not finite.*below 0\.002"):
                script.main(line(options))
        assert f"Rank 0 of 1 stopped (RuntimeError). {left}" in capsys.readouterr().err
        assert (path.is_file() and path.read_bytes()) == before
        script.main(line(replace(options, epochs=1)))
