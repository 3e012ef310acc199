"""The training of the face chapter as a script, for one process or for many.

    python notebooks/scripts/train_faces.py --folder PATH --epochs 10
    torchrun --nproc-per-node=2 notebooks/scripts/train_faces.py --folder PATH

The second line starts two processes, ranks 0 and 1: each on a GPU of its own (nccl), or
both on the CPU (gloo; set OMP_NUM_THREADS to cores / processes). Each takes its share of
every batch and the gradients are averaged, so that the losses are those of one process
with the whole batch (Goyal et al., 2017, https://doi.org/10.48550/arXiv.1706.02677), up
to the order of float32 sums; with --augment this holds in distribution only.

After each epoch rank 0 replaces ``training.pt`` in the folder --out and adds a sheet of
64 samples. The same command goes on from there, with any number of processes.
"""

import argparse
import io
import math
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import nullcontext, redirect_stdout
from dataclasses import asdict, dataclass, fields
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import torch
from torch import distributed
from torch.distributed.elastic.multiprocessing.errors import record
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import BatchSampler
from torch.utils.data.distributed import DistributedSampler
from torchvision.utils import save_image

from genlab_helpers import faces, files, recap, runtime

NOISE_SIZE = 100
DECAY = 0.998  # of the generator's average, a step
# torchrun itself ends the job soon after a process died. This is for one that hangs,
# and longer than the first preparation of a large folder, for which the others wait.
TIMEOUT = timedelta(minutes=30)


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a training depends on: the options of the command line."""

    folder: Annotated[Path, "pictures; without it CelebA or its stand-in"] = None
    out: Annotated[Path, "for checkpoint and samples"] = Path("runs/train_faces")
    epochs: Annotated[int, "times through all pictures, earlier runs included"] = 10
    batch_size: Annotated[int, "pictures a step, all processes together"] = 64
    side: Annotated[int, "side of a picture in pixels: 8, 16, 32, ..."] = 64
    channels: Annotated[int, "at side / 2 pixels: 1, 2, 4, 8, 16, 24, ..."] = 64
    rate: Annotated[float, "learning rate of both players"] = 2e-4
    seed: Annotated[int, "start of all random numbers"] = 0
    augment: Annotated[bool, "let D see changed pictures only, real and drawn"] = False
    bfloat16: Annotated[bool, "compute in bfloat16 if this device is fast at it"] = (
        False
    )

    def __post_init__(self):
        """Raise ValueError for what cannot be trained."""
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError("epochs and batch-size must be at least 1")
        if self.channels not in (1, 2, 4) and (self.channels < 1 or self.channels % 8):
            raise ValueError("channels must be 1, 2, 4 or a multiple of 8")
        if not 0 < self.rate < math.inf:
            raise ValueError("rate must be above 0, such as 2e-4")
        if not 0 <= self.seed < 2**32:
            raise ValueError("seed must be from 0 to 2**32 - 1")
        recap.face_widths(self.side, self.channels)


def parse(arguments: list[str] | None = None) -> Options:
    """Return the options given on the command line; exit with a message if bad."""
    looks = argparse.ArgumentDefaultsHelpFormatter
    parser = argparse.ArgumentParser("train_faces", formatter_class=looks)
    for known in fields(Options):
        flag, kind = "--" + known.name.replace("_", "-"), known.type.__origin__
        how = {"action": "store_true"} if kind is bool else {"type": kind}
        (text,) = known.type.__metadata__
        parser.add_argument(flag, default=known.default, help=text, **how)
    try:
        return Options(**vars(parser.parse_args(arguments)))
    except ValueError as error:
        parser.error(str(error))


class Team(NamedTuple):
    """The place of this process among those that train together."""

    rank: int = 0
    world: int = 1  # how many they are
    device: torch.device = torch.device("cpu")


def join() -> Team:
    """Meet the others that torchrun started. ValueError if there are too few GPUs."""
    device, world = runtime.pick_device(), int(os.environ.get("WORLD_SIZE", 1))
    if world == 1:
        return Team(device=device)
    if device.type == "cuda":
        local, found = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= found:
            why = f"there is no GPU for process {local + 1} on this machine"
            raise ValueError(f"{why}: --nproc-per-node={found}, or GENLAB_DEVICE=cpu")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
        distributed.init_process_group("nccl", timeout=TIMEOUT, device_id=device)
    else:  # Apple's GPUs have no way to exchange gradients
        device = torch.device("cpu")
        distributed.init_process_group("gloo", timeout=TIMEOUT)
    return Team(distributed.get_rank(), world, device)


def load_pictures(options: Options, team: Team) -> faces.FaceSet:
    """Return the pictures; on each machine one process prepares them for all."""
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local > 0:
        distributed.barrier()
    silent = redirect_stdout(io.StringIO())  # once is enough
    with silent if team.rank > 0 else nullcontext():
        found = faces.faces(options.folder, side=options.side)
    if local == 0 and team.world > 1:
        distributed.barrier()
    return found


def seeded(seed: int, *place: int) -> torch.Generator:
    """Return a CPU generator whose draws depend on these whole numbers alone."""
    (state,) = np.random.SeedSequence(seed, spawn_key=place).generate_state(1, "u8")
    return torch.Generator().manual_seed(int(state))


def batches(count: int, options: Options, team: Team, epoch: int) -> Iterator[tuple]:
    """Yield this rank's share, of size b, of each whole batch of an epoch (from 0).

    Each has rows (b,), which of count pictures; flip (b, 1, 1, 1), which of them are
    mirrored; z (2, b, NOISE_SIZE), noise for D's step and G's; rng, for what is random
    in one rank only. The first three depend on seed and epoch, and rank r of N takes
    entries r, r + N, ..., which is how DistributedSampler deals the pictures.
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
        yield torch.tensor(rows), flip[mine], z[:, mine], own


class Training:
    """Both players, in each process the same, and all that the next step depends on.

    pictures: has images (N, 3, side, side) uint8, a sha256 and is_stand_in, such as a
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
        fast = options.bfloat16 and runtime.fast_bfloat16(team.device)
        self.precision = "bfloat16" if fast else "float32"
        runtime.seed_everything(options.seed)
        # Group normalisation: of its own image alone, however a batch is dealt.
        size = dict(channels=options.channels, side=options.side, norm=recap.group)
        self.g = recap.face_generator(NOISE_SIZE, **size).to(team.device)
        self.d = recap.face_discriminator(**size).to(team.device)
        # What learns has its gradients averaged over all processes. DDP sends buffers
        # before each forward pass, and D's step calls D twice before it goes back: one
        # overwritten in between would be an error. Groups have none.
        shared = DistributedDataParallel if team.world > 1 else lambda network: network
        self.shared_g, self.shared_d = shared(self.g), shared(self.d)
        ema = get_ema_multi_avg_fn(DECAY)
        self.average = AveragedModel(self.g, multi_avg_fn=ema, use_buffers=True)
        adam = dict(lr=options.rate, betas=(0.5, 0.999), fused=True)
        self.g_opt = torch.optim.Adam(self.g.parameters(), **adam)
        self.d_opt = torch.optim.Adam(self.d.parameters(), **adam)
        self.history = {"d_loss": [], "g_loss": []}  # one entry an epoch
        self._load()

    def step(self, rows, flip, z, rng) -> torch.Tensor:
        """Let both players learn from a batch: this rank's losses (2,), D's and G's."""
        device, options, autocast = self.team.device, self.options, nullcontext
        if self.precision == "bfloat16":
            autocast = partial(runtime.autocast, device)

        def run(network, augment=False):
            def forward(x):
                x = recap.augment(x, rng) if augment else x
                with autocast():
                    return network(x).float()  # losses in float32

            return forward

        x, z = self.pictures.images[rows].to(device).float() / 127.5 - 1, z.to(device)
        x = torch.where(flip.to(device), x.flip(3), x)
        # Only the player that learns is shared. The other's gradients are not wanted,
        # and the bare network sends none: DDP acts on a backward pass only after a
        # forward pass of its own.
        g, d = run(self.g), run(self.shared_d, options.augment)
        d_loss = recap.discriminator_step(g, d, self.d_opt, x, z[0])
        g, d = run(self.shared_g), run(self.d, options.augment)
        g_loss = recap.generator_step(g, d, self.g_opt, z[1])
        self.average.update_parameters(self.g)
        return torch.stack((d_loss, g_loss))

    def epoch(self) -> None:
        """Learn from all pictures once; rank 0 prints a line and saves.

        Raises RuntimeError, and saves nothing, if a loss is not finite.
        """
        options, count = self.options, len(self.pictures.images)
        done, total = len(self.history["d_loss"]), torch.zeros(2).to(self.team.device)
        with runtime.Stopwatch(self.team.device) as stopwatch:
            for batch in batches(count, options, self.team, done):
                total += self.step(*batch)
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
            losses = f"d_loss {d_loss:.4f}, g_loss {g_loss:.4f}, {speed:,.0f} images/s"
            print(f"epoch {done + 1} of {options.epochs}: {losses}", flush=True)
            self._save()

    def _save(self) -> None:
        """Write the checkpoint, from the bare networks, and a sheet of samples."""
        content, sheet = io.BytesIO(), io.BytesIO()
        state = {name: getattr(self, name).state_dict() for name in self.parts}
        torch.save(state | dict(history=self.history, made_with=self._facts()), content)
        z = torch.randn(64, NOISE_SIZE, generator=seeded(1))
        x = recap.generate(self.average, z.to(self.team.device))  # in [-1, 1]
        save_image(x, sheet, format="png", normalize=True, value_range=(-1, 1))
        kind = "stand_in_" if self.pictures.is_stand_in else ""
        name = f"{kind}{len(self.history['d_loss']):04}.png"
        try:
            files.write(content.getvalue(), self.path)
            files.write(sheet.getvalue(), self.path.with_name(name))
        except OSError as error:
            what = f"{self.path} cannot be written ({error.strerror}): make room for it"
            raise OSError(error.errno, what) from error

    def _facts(self) -> dict:
        """Return what must not change when a training goes on."""
        free = ("folder", "out", "epochs")
        facts = {k: v for k, v in asdict(self.options).items() if k not in free}
        facts |= {"pictures": self.pictures.sha256, "precision": self.precision}
        return facts

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
            source = io.BytesIO(found[0])
            state = torch.load(source, map_location="cpu", weights_only=True)
            saved, self.history = state["made_with"], state["history"]
            if saved.get("precision") == "float32":  # a faster device keeps it, too
                self.precision = "float32"
        except Exception as error:
            raise ValueError(
                f"the checkpoint {self.path} cannot be read ({type(error).__name__});"
                " delete it to start afresh, or give another folder --out"
            ) from error
        facts = self._facts()
        others = [k for k in facts if saved.get(k) != facts[k]]
        if others:
            told = "; ".join(f"{k} {saved.get(k)}, not {facts[k]}" for k in others)
            raise ValueError(
                f"the checkpoint {self.path} was made with {told}: give what it was"
                " made with, or another folder --out"
            )
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])


def check_folder(folder: Path) -> None:
    """Raise ValueError if nothing can be written into a folder."""
    try:
        files.write(b"", folder / "empty")
        (folder / "empty").unlink()
    except OSError as error:
        why = f"{folder} cannot be written to ({error.strerror})"
        raise ValueError(f"{why}: give another folder --out") from error


def main(arguments: list[str] | None = None) -> None:
    """Train as the command line says; exit with a message if that cannot begin."""
    options = parse(arguments)
    try:
        team = join()
        if team.rank == 0:
            check_folder(options.out)
        training = Training(load_pictures(options, team), options, team)
    except (ValueError, OSError) as error:
        sys.exit(f"train_faces: {error}")
    done, path = len(training.history["d_loss"]), training.path
    if team.rank == 0:
        told = f"{done} of {options.epochs} epochs are done; saved in {path}"
        print(f"{told}; precision {training.precision}", flush=True)
    try:
        while len(training.history["d_loss"]) < options.epochs:
            training.epoch()
    except (Exception, KeyboardInterrupt) as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # this one ends anyway
        there = f"The last checkpoint is {path}: the same command goes on from there,"
        there += " with any number of processes."
        left = there if path.is_file() else "There is no checkpoint yet."
        text = f"Rank {team.rank} of {team.world} stopped ({type(error).__name__})."
        print(f"\n{text} {left}", file=sys.stderr, flush=True)
        raise
    if team.world > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    # So does torchrun end the other processes: let them say what is left, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    record(main)()  # torchrun then shows the error of the process that failed first
