"""Training faces on many processes is the training on one, and survives a kill."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from genlab_helpers import faces, train_faces
from genlab_helpers.train_faces import Options, Team, Training

COUNT, BATCH = 19, 8  # two batches an epoch, and three pictures left over
TINY = dict(side=16, channels=4, batch_size=BATCH, rate=2e-3)
PATIENCE = 300  # seconds for a job of several processes on a busy machine


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("GENLAB_DEVICE", "cpu")
    monkeypatch.delenv("WORLD_SIZE", raising=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Return a folder of small random pictures."""
    path = tmp_path_factory.mktemp("pictures")
    noise = np.random.default_rng(0).integers(0, 256, (COUNT, 16, 16, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(path / f"{i:02}.png")
    return path


@pytest.fixture
def pictures(folder):
    return faces.faces(folder, side=16)


@pytest.fixture
def options(folder, tmp_path):
    return Options(folder=folder, out=tmp_path / "out", epochs=2, **TINY)


def train(pictures, options):
    training = Training(pictures, options, Team())
    training.run()
    return training


def history(path):
    return torch.load(path, weights_only=True)["history"]


def equal(found, expected, tolerance=1e-4):
    return found.keys() == expected.keys() and all(
        np.allclose(found[key], expected[key], rtol=0, atol=tolerance)
        for key in expected
    )


# ----------------------------------------------------------------- several processes


@pytest.fixture
def job():
    """Return a function that starts two processes by torchrun; none outlives a test."""
    started = []

    def start(options):
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += ["--nproc-per-node=2", "-m", "genlab_helpers.train_faces"]
        for name in ("folder", "out", "epochs", "batch_size", "side", "channels"):
            command += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
        command += ["--rate", str(options.rate)]
        quiet = dict(os.environ, OMP_NUM_THREADS="1")
        pipe = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(subprocess.Popen(command, env=quiet, **pipe))
        return started[-1]

    yield start
    for running in started:
        if running.poll() is None:
            ranks = psutil.Process(running.pid).children(recursive=True)
            for process in (running, *ranks):
                process.kill()
            running.communicate()


def test_what_one_process_saved_two_go_on_with(job, pictures, options):
    train(pictures, options)
    running = job(replace(options, epochs=4))
    printed, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode == 0, errors
    assert "2 of 4 epochs are done" in printed
    assert "epoch 4 of 4: d_loss" in printed
    assert printed.count("epoch 3 of 4") == 1  # rank 0 alone prints
    sheets = {path.name for path in options.out.glob("*.png")}
    assert sheets == {"0001.png", "0002.png", "0003.png", "0004.png"}
    other = replace(options, epochs=4, out=options.out / "alone")
    alone = train(pictures, other)
    found = history(options.out / "training.pt")
    assert equal(found, alone.history)
    assert abs(alone.history["d_loss"][3] - alone.history["d_loss"][2]) > 1e-2


def test_a_killed_process_ends_the_job_and_the_checkpoint_is_good(
    job, pictures, options
):
    path = options.out / "training.pt"
    running = job(replace(options, epochs=10**6))
    deadline = time.monotonic() + PATIENCE
    while not path.is_file() or len(history(path)["d_loss"]) < 2:
        assert running.poll() is None, running.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)
    ranks = {
        process.environ()["RANK"]: process
        for process in psutil.Process(running.pid).children(recursive=True)
        if "RANK" in process.environ()
    }
    assert sorted(ranks) == ["0", "1"]
    ranks["1"].kill()
    _, errors = running.communicate(timeout=PATIENCE)
    assert running.returncode != 0
    assert "Rank 0 of 2 stopped" in errors
    assert f"The last checkpoint is {path}: the same command goes on" in errors
    done = len(history(path)["d_loss"])
    resumed = train(pictures, replace(options, epochs=done + 1))  # by one process
    other = replace(options, epochs=done + 1, out=options.out / "alone")
    alone = train(pictures, other)
    assert equal(resumed.history, alone.history)


@pytest.mark.parametrize("world", [2, 4])
def test_the_shares_of_all_ranks_are_the_batches_of_one(options, world):
    whole = list(train_faces.batches(COUNT, options, Team(), epoch=3))
    assert len(whole) == COUNT // BATCH
    teams = [Team(rank, world) for rank in range(world)]
    dealt = [train_faces.batches(COUNT, options, team, epoch=3) for team in teams]
    for one, shares in zip(whole, zip(*dealt, strict=True), strict=True):
        assert {len(share.rows) for share in shares} == {BATCH // world}
        for rank, share in enumerate(shares):
            mine = slice(rank, None, world)
            assert torch.equal(share.rows, one.rows[mine])
            assert torch.equal(share.flip, one.flip[mine])
            assert torch.equal(share.z, one.z[:, mine])
        draws = {torch.rand((), generator=share.rng).item() for share in shares}
        assert len(draws) == world


def test_every_epoch_and_seed_has_its_own_order_and_noise(options):
    def first(options, epoch):
        return next(train_faces.batches(COUNT, options, Team(), epoch))

    one, again = first(options, 0), first(options, 0)
    assert torch.equal(one.rows, again.rows)
    assert torch.equal(one.z, again.z)
    for other in (first(options, 1), first(replace(options, seed=5), 0)):
        assert not torch.equal(one.rows, other.rows)
        assert not torch.equal(one.z, other.z)
    rows = [b.rows for b in train_faces.batches(COUNT, options, Team(), 0)]
    assert len(set(torch.cat(rows).tolist())) == COUNT // BATCH * BATCH
    assert one.flip.shape == (BATCH, 1, 1, 1)
    assert not torch.equal(one.z[0], one.z[1])


# ---------------------------------------------------------------------- one process


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
    assert list(training.g.buffers()) + list(training.d.buffers()) == []
    first, second = train_faces.batches(COUNT, options, Team(), 0)
    x = pictures.images[first.rows].float() / 127.5 - 1
    x[first.flip[:, 0, 0, 0]] = x[first.flip[:, 0, 0, 0]].flip(3)
    with torch.no_grad():
        real, drawn = training.d(x), training.d(training.g(first.z[0]))
    expected = (
        train_faces.recap.bce(real, 1.0) + train_faces.recap.bce(drawn, 0.0)
    ) / 2
    d_loss, _ = training.step(first)
    assert d_loss == pytest.approx(expected.item(), abs=1e-5)
    weight, average = training.g[1].weight, training.average.module[1].weight
    assert torch.equal(average, weight)  # the first is taken over
    before = average.detach().clone()
    training.step(second)
    torch.testing.assert_close(average, 0.998 * before + 0.002 * weight)


@pytest.mark.parametrize("change", ["augment", "bfloat16"])
def test_augmented_and_in_bfloat16(pictures, options, tmp_path, change):
    plain = train(pictures, options)
    changed = train(pictures, replace(options, out=tmp_path / "b", **{change: True}))
    assert np.isfinite(changed.history["g_loss"]).all()
    assert changed.history != plain.history
    assert equal(changed.history, plain.history, tolerance=0.3)
    assert {p.dtype for p in changed.g.parameters()} == {torch.float32}


def test_the_command_trains_and_leaves_samples(folder, options, capsys):
    command = ["--folder", folder, "--out", options.out, "--epochs", 2, "--side", 16]
    command += ["--channels", 4, "--batch-size", BATCH]
    train_faces.main([str(part) for part in command])
    printed = capsys.readouterr().out
    assert "epoch 2 of 2: d_loss 0." in printed
    assert "images/s" in printed
    with Image.open(options.out / "0002.png") as sheet:
        assert sheet.size == (8 * 18 + 2, 8 * 18 + 2)
        assert len(sheet.convert("L").getcolors()) > 10
    train_faces.main([str(part) for part in command])
    assert "2 of 2 epochs are done" in capsys.readouterr().out


def test_samples_after_a_stand_in_say_so(options):
    images = torch.randint(256, (BATCH, 3, 16, 16), dtype=torch.uint8)
    drawn = SimpleNamespace(images=images, digest="", is_stand_in=True)
    train(drawn, replace(options, epochs=1))
    assert [path.name for path in options.out.glob("*.png")] == ["stand_in_0001.png"]


# ------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--side", "20"], "side must be 8, 16, 32"),
        (["--channels", "12"], "multiple of 8"),
        (["--channels", "0"], "multiple of 8"),
        (["--epochs", "0"], "at least 1"),
        (["--batch-size", "-4"], "at least 1"),
        (["--rate", "nan"], "rate must be above 0"),
        (["--seed", "-1"], "seed must be from 0"),
        (["--epochs", "many"], "invalid int value: 'many'"),
        (["--epoch-count", "3"], "unrecognized arguments"),
    ],
)
def test_bad_options_are_refused(arguments, reason, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_faces.main(arguments)
    assert stopped.value.code == 2
    assert reason in capsys.readouterr().err


def test_what_cannot_be_trained_on_is_refused(pictures, options, tmp_path, capsys):
    with pytest.raises(ValueError, match=r"8 cannot be dealt to 3 .* multiple of 3"):
        Training(pictures, options, Team(0, 3))
    with pytest.raises(ValueError, match=r"19 pictures do not fill .* below 32"):
        Training(pictures, replace(options, batch_size=32), Team())
    with pytest.raises(SystemExit, match=r"train_faces: .*nowhere"):
        train_faces.main(["--folder", str(tmp_path / "nowhere")])


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(
        train_faces.runtime, "pick_device", lambda: torch.device("cuda")
    )
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    with pytest.raises(ValueError, match=r"process 2 .* --nproc-per-node=1"):
        train_faces.join()


@pytest.mark.parametrize("damage", ["cut", "text", [1.0], {"weights": torch.ones(2)}])
def test_a_damaged_checkpoint_is_named_and_kept(pictures, options, damage):
    train(pictures, replace(options, epochs=1))
    path = options.out / "training.pt"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-200])
    elif damage == "text":
        path.write_text("not a checkpoint")
    else:
        torch.save(damage, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"training\.pt cannot be read .* delete it"):
        Training(pictures, options, Team())
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "change", [dict(channels=8), dict(side=8), dict(batch_size=4), dict(augment=True)]
)
def test_the_checkpoint_of_another_training_is_refused(pictures, options, change):
    train(pictures, replace(options, epochs=1))
    (name, value), path = next(iter(change.items())), options.out / "training.pt"
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"made with {name} .*, not {value}: give"):
        Training(pictures, replace(options, **change), Team())
    others = SimpleNamespace(images=pictures.images, digest="f00", is_stand_in=False)
    with pytest.raises(ValueError, match=r"made with pictures .*, not f00: give"):
        Training(others, options, Team())
    assert path.read_bytes() == before


def test_losses_that_are_not_finite_stop_it_and_are_not_saved(pictures, options):
    training = train(pictures, replace(options, epochs=1))
    before = training.path.read_bytes()
    with torch.no_grad():
        training.g[1].weight.fill_(torch.nan)
    with pytest.raises(RuntimeError, match=r"epoch 2 are not finite.*below 0\.002"):
        training.epoch()
    assert training.path.read_bytes() == before


def test_a_process_that_fails_says_what_is_left(folder, options, monkeypatch, capsys):
    def fail(training, batch):
        raise RuntimeError("out of memory")

    command = ["--folder", folder, "--out", options.out, "--side", 16]
    command = [str(part) for part in (*command, "--channels", 4, "--batch-size", BATCH)]
    monkeypatch.setattr(train_faces.signal, "signal", lambda *handler: None)
    with monkeypatch.context() as patched:
        patched.setattr(Training, "step", fail)
        with pytest.raises(RuntimeError, match="out of memory"):
            train_faces.main(command)
    told = capsys.readouterr().err
    assert "Rank 0 of 1 stopped (RuntimeError). There is no checkpoint yet." in told
    train_faces.main([*command, "--epochs", "1"])
    monkeypatch.setattr(Training, "step", fail)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_faces.main(command)
    left = f"The last checkpoint is {options.out / 'training.pt'}: the same command"
    assert left in capsys.readouterr().err
