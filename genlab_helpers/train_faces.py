"""The training of the face chapter as a script, for one process or for many.

    python -m genlab_helpers.train_faces --folder PATH --epochs 10
    torchrun --nproc-per-node=4 -m genlab_helpers.train_faces --folder PATH --epochs 10

The second line starts four processes, ranks 0 to 3: one on each of four GPUs (nccl), or
all on the CPU where there is none or GENLAB_DEVICE=cpu (gloo; set OMP_NUM_THREADS to
cores / processes). Each takes its share of every batch, and the gradients are averaged,
so that the losses are those of one process with the whole batch (Goyal et al., 2017,
https://doi.org/10.48550/arXiv.1706.02677), up to the order of float32 sums. With
--augment each rank draws its own changes, and this holds in distribution only.

After each epoch rank 0 replaces ``training.pt`` in the folder --out and adds a sheet of
64 samples. The same command goes on from there, with any number of processes.
"""

import argparse
import contextlib
import io
import math
import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import distributed, nn
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler
from torch.utils.data.distributed import DistributedSampler
from torchvision.utils import save_image

from genlab_helpers import faces, recap, runtime, storage

NOISE_SIZE = 100
DECAY = 0.998  # of the generator's average, a step
UNREADABLE = (RuntimeError, EOFError, pickle.UnpicklingError, LookupError, TypeError)
# torchrun itself ends the job soon after a process died. This is for one that hangs,
# and longer than the first preparation of a large folder, for which the others wait.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training depends on; `parse` says what each is. ValueError if bad."""

    folder: Path | None = None
    out: Path = Path("runs/train_faces")
    epochs: int = 10
    batch_size: int = 64
    side: int = 64
    channels: int = 64
    rate: float = 2e-4
    seed: int = 0
    augment: bool = False
    bfloat16: bool = False

    def __post_init__(self):
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch-size must be at least 1")
        if self.channels not in (1, 2, 4) and (self.channels < 1 or self.channels % 8):
            raise ValueError("channels must be 1, 2, 4 or a multiple of 8")
        if not 0 < self.rate < math.inf:
            raise ValueError("rate must be above 0, such as 2e-4")
        if not 0 <= self.seed < 2**32:
            raise ValueError("seed must be from 0 to 2**32 - 1")
        recap.face_widths(self.side, self.channels)

    def fixed(self) -> dict:
        """Return what must not change when a training goes on."""
        free = ("folder", "out", "epochs")
        return {key: value for key, value in asdict(self).items() if key not in free}


class Team(NamedTuple):
    """The place of this process among those that train together."""

    rank: int = 0
    world: int = 1  # how many they are
    device: torch.device = torch.device("cpu")


def join() -> Team:
    """Return this process's place, as torchrun's variables say; meet the others.

    Raises ValueError if there are fewer GPUs here than processes.
    """
    device = runtime.pick_device()
    world = int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return Team(device=device)
    if device.type == "cuda":
        local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= found:
            raise ValueError(
                f"there is no GPU for process {local + 1} on this machine: give"
                f" --nproc-per-node={found}, or set GENLAB_DEVICE=cpu"
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:  # Apple's GPUs have no way to exchange gradients
        device = torch.device("cpu")
        distributed.init_process_group("gloo", timeout=TIMEOUT)
    return Team(distributed.get_rank(), world, device)


def obtain(options: Options, team: Team) -> faces.FaceSet:
    """Return the pictures; on each machine one process prepares them for all."""
    if team.world == 1:
        return faces.faces(options.folder, side=options.side)
    first = int(os.environ["LOCAL_RANK"]) == 0
    if not first:
        distributed.barrier()
    silent = contextlib.redirect_stdout(io.StringIO())  # once is enough
    with contextlib.nullcontext() if team.rank == 0 else silent:
        found = faces.faces(options.folder, side=options.side)
    if first:
        distributed.barrier()
    return found


def seeded(seed: int, *place: int) -> torch.Generator:
    """Return a CPU generator whose draws depend on these whole numbers alone."""
    (state,) = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, "u8")
    return torch.Generator().manual_seed(int(state))


class Batch(NamedTuple):
    """A rank's share, of size b, of one batch."""

    rows: torch.Tensor  # (b,) which pictures
    flip: torch.Tensor  # (b, 1, 1, 1) which of them are mirrored
    z: torch.Tensor  # (2, b, NOISE_SIZE) noise: for D's step, for G's
    rng: torch.Generator  # for what is random in one rank only


def batches(count: int, options: Options, team: Team, epoch: int) -> Iterator[Batch]:
    """Yield this rank's shares of an epoch's batches; an incomplete one is dropped.

    count: of all pictures. The order, flips and noise of a whole batch depend on the
    seed and epoch (from 0); of everything rank r of N takes entries r, r + N, ...,
    which is how DistributedSampler deals the pictures.
    """
    deal = DistributedSampler(
        range(count), team.world, team.rank, seed=options.seed, drop_last=True
    )
    deal.set_epoch(epoch)
    whole, rng = options.batch_size, seeded(options.seed, epoch)
    mine = slice(team.rank, None, team.world)
    shares = BatchSampler(deal, whole // team.world, drop_last=True)
    for step, rows in enumerate(shares):
        flip = torch.rand(whole, 1, 1, 1, generator=rng) < 0.5
        z = torch.randn(2, whole, NOISE_SIZE, generator=rng)
        own = seeded(options.seed, epoch, step, team.rank)
        yield Batch(torch.tensor(rows), flip[mine], z[:, mine], own)


class Training:
    """Both players, in each process the same, and all that the next step depends on.

    pictures: has images (N, 3, side, side) uint8, a digest and is_stand_in, such as a
    `faces.FaceSet`. A checkpoint in ``options.out`` is loaded. Raises ValueError if it
    is damaged or from another training, or if the pictures cannot be dealt.
    """

    parts = ("g", "d", "average", "g_opt", "d_opt")

    def __init__(self, pictures: faces.FaceSet, options: Options, team: Team):
        self.pictures, self.options, self.team = pictures, options, team
        if options.batch_size % team.world:
            raise ValueError(
                f"batch-size {options.batch_size} cannot be dealt to {team.world}"
                f" processes: it must be a multiple of {team.world}"
            )
        if len(pictures.images) < options.batch_size:
            raise ValueError(
                f"{len(pictures.images)} pictures do not fill one batch: give more, or"
                f" a batch-size below {options.batch_size}"
            )
        self.path = options.out / "training.pt"
        runtime.seed_everything(options.seed)
        # Group normalisation: of its own image alone, however a batch is dealt.
        size = dict(channels=options.channels, side=options.side, norm=recap.group)
        self.g = recap.face_generator(NOISE_SIZE, **size).to(team.device)
        self.d = recap.face_discriminator(**size).to(team.device)
        self.shared_g, self.shared_d = self._shared(self.g), self._shared(self.d)
        ema = get_ema_multi_avg_fn(DECAY)
        self.average = AveragedModel(self.g, multi_avg_fn=ema, use_buffers=True)
        adam = partial(torch.optim.Adam, betas=(0.5, 0.999), fused=True)
        self.g_opt = adam(self.g.parameters(), lr=options.rate)
        self.d_opt = adam(self.d.parameters(), lr=options.rate)
        self.history = {"d_loss": [], "g_loss": []}  # one entry an epoch
        self._load()

    def _shared(self, network: nn.Module) -> nn.Module:
        """Return the network, its gradients averaged over all processes."""
        if self.team.world == 1:
            return network
        gpu = [self.team.device] if self.team.device.type == "cuda" else None
        # DDP sends buffers before each forward pass, and D's step calls D twice before
        # it goes back: one overwritten in between would be an error. Here are none,
        # another reason for group normalisation.
        return DistributedDataParallel(network, device_ids=gpu)

    def _run(self, network: nn.Module, rng: torch.Generator | None = None) -> Callable:
        """Return the network as a step calls it; rng: augment what it sees."""
        kind, low = self.team.device.type, self.options.bfloat16

        def run(x: torch.Tensor) -> torch.Tensor:
            x = x if rng is None else recap.augment(x, rng)
            with torch.autocast(kind, torch.bfloat16, enabled=low):
                return network(x).float()  # losses in float32

        return run

    def step(self, batch: Batch) -> torch.Tensor:
        """Let both players learn once: this rank's losses (2,), D's and G's."""
        device = self.team.device
        x = self.pictures.images[batch.rows].to(device).float() / 127.5 - 1
        x = torch.where(batch.flip.to(device), x.flip(3), x)
        z, rng = batch.z.to(device), batch.rng if self.options.augment else None
        # Only the player that learns is shared. The other's gradients are not wanted,
        # and the bare network sends none: DDP acts on a backward pass only after a
        # forward pass of its own.
        g, d = self._run(self.g), self._run(self.shared_d, rng)
        d_loss = recap.discriminator_step(g, d, self.d_opt, x, z[0])
        g, d = self._run(self.shared_g), self._run(self.d, rng)
        g_loss = recap.generator_step(g, d, self.g_opt, z[1])
        self.average.update_parameters(self.g)
        return torch.stack((d_loss, g_loss))

    def epoch(self) -> None:
        """Learn from all pictures once; rank 0 prints a line and saves.

        Raises RuntimeError, and saves nothing, if a loss is not finite.
        """
        done, options = len(self.history["d_loss"]), self.options
        total = torch.zeros(2, device=self.team.device)
        count = len(self.pictures.images)
        with runtime.Stopwatch(self.team.device) as stopwatch:
            for batch in batches(count, options, self.team, done):
                total += self.step(batch)
            if self.team.world > 1:
                distributed.all_reduce(total)
        steps = count // options.batch_size
        d_loss, g_loss = (total / (steps * self.team.world)).tolist()
        if not math.isfinite(d_loss + g_loss):
            raise RuntimeError(
                f"the losses of epoch {done + 1} are not finite: it is not saved; try"
                f" a rate below {options.rate:g}, or without bfloat16"
            )
        self.history["d_loss"].append(d_loss)
        self.history["g_loss"].append(g_loss)
        if self.team.rank == 0:
            speed = steps * options.batch_size / stopwatch.seconds
            print(
                f"epoch {done + 1} of {options.epochs}: d_loss {d_loss:.4f},"
                f" g_loss {g_loss:.4f}, {speed:,.0f} images/s",
                flush=True,
            )
            self._save()

    def _save(self) -> None:
        """Write the checkpoint, from the bare networks, and a sheet of samples."""
        content, sheet = io.BytesIO(), io.BytesIO()
        state = {name: getattr(self, name).state_dict() for name in self.parts}
        torch.save(state | dict(history=self.history, made_with=self._facts()), content)
        z = torch.randn(64, NOISE_SIZE, generator=seeded(1)).to(self.team.device)
        x = recap.draw(self.average, z)  # (64, 3, side, side) in [-1, 1]
        save_image(x, sheet, format="png", normalize=True, value_range=(-1, 1))
        done = len(self.history["d_loss"])
        kind = "stand_in_" if self.pictures.is_stand_in else ""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        storage.write(content.getvalue(), self.path)
        storage.write(sheet.getvalue(), self.path.with_name(f"{kind}{done:04}.png"))

    def _facts(self) -> dict:
        return self.options.fixed() | dict(pictures=self.pictures.digest)

    def _load(self) -> None:
        """Take over the state saved last, if there is one; all get it from rank 0."""
        found = [None]
        if self.team.rank == 0 and self.path.is_file():
            found = [self.path.read_bytes()]
        if self.team.world > 1:  # other machines may not see the file
            distributed.broadcast_object_list(found)
        if found[0] is None:
            return
        try:
            kept = dict(map_location="cpu", weights_only=True)
            state = torch.load(io.BytesIO(found[0]), **kept)
            saved, self.history = state["made_with"], state["history"]
        except UNREADABLE as error:
            raise ValueError(
                f"the checkpoint {self.path} cannot be read ({type(error).__name__});"
                " delete it to start afresh, or give another folder --out"
            ) from error
        others = [
            f"{key} {saved.get(key)}, not {value}"
            for key, value in self._facts().items()
            if saved.get(key) != value
        ]
        if others:
            raise ValueError(
                f"the checkpoint {self.path} was made with {'; '.join(others)}: give"
                " what it was made with, or another folder --out"
            )
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])

    def run(self) -> None:
        """Train until all epochs are done."""
        while len(self.history["d_loss"]) < self.options.epochs:
            self.epoch()

    def left(self) -> str:
        """Say what is left of a training that failed."""
        if not self.path.is_file():
            return "There is no checkpoint yet."
        return (
            f"The last checkpoint is {self.path}: the same command goes on from there,"
            " with any number of processes."
        )


def parse(arguments: list[str] | None = None) -> Options:
    """Return the options given on the command line; exit with a message if bad."""
    parser = argparse.ArgumentParser(
        prog="train_faces",
        description="Train the face chapter's networks; see the module's text.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    known = Options()
    for name, kind, text in (
        ("folder", Path, "pictures to learn from; without it CelebA or its stand-in"),
        ("out", Path, "folder for the checkpoint and the samples"),
        ("epochs", int, "times through all pictures, earlier runs included"),
        ("batch-size", int, "pictures a step, all processes together"),
        ("side", int, "side of a picture in pixels: 8, 16, 32, ..."),
        ("channels", int, "channels at side / 2 pixels: 1, 2, 4, 8, 16, 24, ..."),
        ("rate", float, "learning rate of both players"),
        ("seed", int, "start of all random numbers"),
    ):
        default = getattr(known, name.replace("-", "_"))
        parser.add_argument(f"--{name}", type=kind, default=default, help=text)
    for name, text in (
        ("augment", "let D see changed pictures only, real and drawn"),
        ("bfloat16", "compute in bfloat16 where that is safe"),
    ):
        parser.add_argument(f"--{name}", action="store_true", help=text)
    try:
        return Options(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line says; exit with a message if that cannot begin."""
    options = parse(arguments)
    try:
        team = join()
        training = Training(obtain(options, team), options, team)
    except (ValueError, OSError) as error:
        sys.exit(f"train_faces: {error}")
    if team.rank == 0:
        done, path = len(training.history["d_loss"]), training.path
        print(
            f"{done} of {options.epochs} epochs are done; saved in {path}", flush=True
        )
    try:
        training.run()
    except (Exception, KeyboardInterrupt) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this one ends anyway
        text = f"Rank {team.rank} of {team.world} stopped ({type(error).__name__})."
        print(f"\n{text} {training.left()}", file=sys.stderr, flush=True)
        raise
    if team.world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    # So does torchrun end the other processes: let them say what is left, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record(main)()  # torchrun then shows the error of the process that failed first
