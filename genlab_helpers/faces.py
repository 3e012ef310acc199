"""Pictures of faces, or any folder of pictures, as one tensor (chapter 6)."""

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.nn.functional import interpolate
from tqdm import tqdm

from genlab_helpers.cartoons import draw_faces
from genlab_helpers.files import DIGESTS, Origin, shown, write
from genlab_helpers.pictures import PictureError, decode
from genlab_helpers.settings import cache_folder, data_folder, profile

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
VERSION = 3  # to be raised when the same files would give other pixels


@dataclass(frozen=True, eq=False, kw_only=True)
class FaceSet(Origin):
    """Square RGB pictures as one tensor; writing to it changes no file.

    ``images`` (N, 3, side, side) uint8 in 0..255; ``names`` their paths in the folder;
    ``attributes`` name -> (N,) tensor, or None; ``broken`` the names of those left out;
    ``seconds`` what preparing them took, now or when that was done.
    """

    images: torch.Tensor
    names: tuple[str, ...]
    attributes: dict[str, torch.Tensor] | None
    broken: tuple[str, ...]
    seconds: float


def faces(
    folder: str | Path | None = None, *, side: int = 64, limit: int | None = None
) -> FaceSet:
    """Return the pictures in a folder, CelebA, or cartoons that stand in for it.

    Each is cut to its central square and resized (bicubic, antialiased); one that
    cannot be decoded is named and left out. Later calls map the saved tensor.

    folder: JPEG, PNG, WebP or BMP files, in subfolders too. None: CelebA (Liu et al.
    2015, https://doi.org/10.1109/ICCV.2015.425) as torchvision lays it out in the data
    or cache folder; without it, and in ``smoke``, the stand-in.
    side: height and width in pixels, 8 to 256. limit: take only the first, by name.

    Raises ValueError for another side or limit, if there is no picture or none can be
    decoded, or if CelebA's attributes do not fit.
    """
    if type(side) is not int or not 8 <= side <= 256:
        raise ValueError(f"side must be an int from 8 to 256, not {side!r}")
    if limit is not None and (type(limit) is not int or limit < 1):
        raise ValueError(f"limit must be None or an int from 1 on, not {limit!r}")
    usual = [f / "celeba/img_align_celeba" for f in (data_folder(), cache_folder())]
    if folder is None and profile() == "smoke":
        return _stand_in("The smoke profile uses no real data.", 200, side, limit)
    if folder is not None:
        usual = [Path(folder).expanduser().absolute()]
    for place in usual:
        inside = place / place.name  # as some programs unpack img_align_celeba.zip
        place = inside if folder is None and inside.is_dir() else place
        found = (p.relative_to(place) for p in place.rglob("*") if p.is_file())
        names = [p.as_posix() for p in found if p.suffix.lower() in SUFFIXES]
        if names := sorted(n for n in names if not n.startswith(".") and "/." not in n):
            break
    else:
        if folder is not None:
            raise ValueError(f"no picture {SUFFIXES} in {shown(place)}; put some there")
        why = DIGESTS["celeba"]["missing"].format(shown(usual[0]))
        return _stand_in(why, 2000, side, limit)
    kept = _prepared(place, names[:limit], side, limit)
    if kept["note"]:
        print(kept["note"])
    tables = [] if folder else [p / "list_attr_celeba.txt" for p in place.parents[:2]]
    table = next(filter(Path.is_file, tables), None)
    known = _attributes(table, kept["names"]) if table else None
    name = (place.name or str(place)) if folder else "CelebA"
    return FaceSet(name=name, split="train", source="folder", attributes=known, **kept)


def _prepared(place: Path, names: list[str], side: int, limit: int | None) -> dict:
    """Return what is kept of these pictures: from the cache, or decoded and saved."""
    facts = [os.stat(place / name) for name in names]
    states = [f"{fact.st_size} {fact.st_mtime_ns}" for fact in facts]
    key = _digest([VERSION, *names, *states])
    path = cache_folder() / "faces" / f"{_digest([place, side, limit])[:16]}.pt"
    with suppress(Exception):  # none is there, or it is damaged
        kept = torch.load(path, mmap=True, weights_only=True)  # a private map
        same = kept.pop("key") == key
        if same and _digest(kept["names"], kept["images"]) == kept["sha256"]:
            return kept
    kept = _decoded(place, names, side)
    try:
        write(lambda file: torch.save(kept | {"key": key}, file), path)
    except OSError as error:
        why = f"{shown(path.parent)} cannot be written to ({error.strerror}): make room"
        kept["note"] += f"{why}. Until then the pictures are prepared anew each time."
    return kept


def _decoded(place: Path, names: list[str], side: int) -> dict:
    """Decode the pictures, and say which ones cannot be."""
    started, broken = time.perf_counter(), {}
    images = np.empty((len(names), 3, side, side), np.uint8)

    def prepare(i):
        try:  # the good filter has the last halving to do, so that nothing shifts
            image = decode(place / names[i], draft=(2 * side, 2 * side))
            small = ImageOps.fit(image, (side, side), Image.Resampling.BICUBIC)
            images[i] = np.asarray(small).transpose(2, 0, 1)
        except PictureError as error:
            broken[names[i]] = f"{names[i]!r} ({error})"

    with ThreadPool(min(16, os.cpu_count() or 1)) as pool:  # Pillow runs unlocked
        done = pool.imap_unordered(prepare, range(len(names)), chunksize=16)
        for _ in tqdm(done, place.name, len(names), leave=False, unit=" pictures"):
            pass
    good = [i for i, name in enumerate(names) if name not in broken]
    note = f"{len(broken):,} of {len(names):,} pictures are left out: "
    note += ", ".join(broken[name] for name in sorted(broken)[:5])
    note += ", ...\n" if len(broken) > 5 else ".\n"
    if not good:
        raise ValueError(f"{shown(place)}: {note}")
    images = torch.from_numpy(images[good] if broken else images)
    kept = _kept(images, [names[i] for i in good], started)
    return kept | {"broken": tuple(sorted(broken)), "note": note if broken else ""}


def _kept(images: torch.Tensor, names: list[str], started: float) -> dict:
    digest, seconds = _digest(names, images), time.perf_counter() - started
    facts = dict(names=tuple(names), count=len(names), sha256=digest, broken=())
    return dict(facts, images=images, seconds=seconds, note="")


def _digest(lines, images: torch.Tensor | None = None) -> str:
    """Return the sha256 of the pixels, then the lines, as 64 hex digits."""
    digest = sha256(b"" if images is None else images.flatten().numpy())
    digest.update("\n".join(map(str, lines)).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _attributes(table: Path, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return CelebA's attributes, name -> (N,) bool: after two lines, one a picture."""
    where = shown(table)
    try:
        _, heading, *lines = table.read_text("utf-8").splitlines()
        rows = {name: values for name, *values in map(str.split, lines)}
        if stray := [name for name in names if name not in rows]:
            where = f"{where} for {stray[0]!r} (if it is no picture of CelebA, move it)"
        values = [[("-1", "1").index(v) for v in rows[name]] for name in names]
        columns = torch.tensor(values).bool().T.contiguous()
        return dict(zip(heading.split(), columns, strict=True))
    except (KeyError, ValueError):
        why = f"no full line of 1 and -1 in {where}"
        raise ValueError(f"{why}: get it anew, or remove it to go without") from None


def _stand_in(why: str, most: int, side: int, limit: int | None) -> FaceSet:
    name, started = "cartoon faces (stand-in for CelebA)", time.perf_counter()
    count, drawn = min(most, limit or most), max(32, 2 ** (side - 1).bit_length())
    print(note := f"{why}\nSTAND-IN: {name}, {count:,} images.")
    images, attributes = draw_faces(count, side=drawn)  # whose side is a power of two
    if drawn != side:
        images = interpolate(images, (side, side), mode="bilinear", antialias=True)
    names = [f"drawn_{number:05d}" for number in range(count)]
    facts = dict(name=name, split="train", source="stand-in", attributes=attributes)
    return FaceSet(**facts, **_kept(images, names, started) | {"note": note})
