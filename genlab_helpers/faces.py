"""Pictures of faces, or any folder of pictures, as one tensor that stays on the disk.

Each picture is opened once, cut to its central square, made small, and kept in one
array in the cache folder of the user. Later runs map that array into memory. A
folder that has changed is prepared again; a build that was killed goes on where it
stopped.
"""

import hashlib
import io
import json
import os
import secrets
import threading
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.nn.functional import interpolate
from tqdm import tqdm

from genlab_helpers.settings import profile
from genlab_helpers.storage import cache_folder, data_folder, shown, write

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}
FORMATS = ("JPEG", "PNG", "WEBP", "BMP")  # whatever a file is called
SIDES = range(8, 257)
PART = 6 * 2**20  # bytes of one part: 512 pictures at side 64; a kill loses no more
WORKERS = min(16, os.cpu_count() or 1)  # threads: Pillow decodes and resizes unlocked
CELEBA = Path("celeba", "img_align_celeba")  # torchvision's layout
STAND_IN = "drawn faces (stand-in for CelebA)"
VERSION = 1  # to be raised when the same files would give other pixels


@dataclass(frozen=True, eq=False)
class FaceSet:
    """Square RGB pictures as one tensor, and where they came from.

    ``images`` (N, 3, side, side), uint8 in 0..255, RGB: a private map of a file, so
    writing to it never changes the file. ``names[i]`` is the path of picture i in its
    folder; ``attributes`` maps a name to an (N,) tensor, or is None if there are none.
    ``source`` is "folder" or "stand-in"; ``digest`` the sha256 of the pixels and
    names; ``note`` what was said while loading; ``broken`` the names of the pictures
    left out. ``seconds`` is what preparing them took, now or, if ``from_cache``, then.
    """

    name: str
    split: str
    images: torch.Tensor
    names: tuple[str, ...]
    attributes: dict[str, torch.Tensor] | None
    source: str
    digest: str
    note: str = ""
    broken: tuple[str, ...] = ()
    seconds: float = 0.0
    from_cache: bool = False

    @property
    def is_stand_in(self) -> bool:
        """Whether these pictures stand in for CelebA, which was not to be had."""
        return self.source == "stand-in"

    def provenance(self) -> dict:
        """Return what a run's record keeps: name, split, source, sha256, count."""
        return {
            "name": self.name,
            "split": self.split,
            "source": self.source,
            "sha256": self.digest,
            "count": len(self.images),
        }


class _Prepared(NamedTuple):
    """What is in the cache: pixels, digest, seconds, and name -> what is wrong."""

    images: np.ndarray
    digest: str
    seconds: float
    broken: dict[str, str]


def faces(
    folder: str | os.PathLike | None = None,
    *,
    side: int = 64,
    limit: int | None = None,
) -> FaceSet:
    """Return CelebA, the pictures in a folder of the reader, or drawn faces.

    A picture is turned as its EXIF says, laid on white where it is transparent, made
    RGB, cut to its central square and resized (bicubic, antialiased). Smaller ones are
    enlarged. One that cannot be read is named in the note and left out.

    Args:
        folder: a folder with JPEG, PNG, WebP or BMP files, in subfolders too (hidden
            ones do not count). None: CelebA's aligned pictures in the data folder or
            the cache folder, as torchvision lays them out
            (``celeba/img_align_celeba/*.jpg``, and ``celeba/list_attr_celeba.txt``
            for the attributes). Without them, and always in the ``smoke`` profile, a
            stand-in that says so: faces drawn by a program, 2,000 (``smoke``: 200).
        side: height and width of the result in pixels, 8 to 256.
        limit: take only the first so many files, sorted by name.

    Returns:
        A FaceSet: images (N, 3, side, side) uint8, in the order of the names.

    Raises:
        ValueError: if side or limit is out of range, the folder has no picture or
            none that can be read, or CelebA's attributes do not fit its pictures.
        FileNotFoundError, NotADirectoryError: if there is no such folder.
        SettingsError: if a GENLAB_* variable is not in order.

    Source: Liu et al. 2015, https://doi.org/10.1109/ICCV.2015.425.
    """
    if isinstance(side, bool) or not isinstance(side, int) or side not in SIDES:
        raise ValueError(f"side must be an int, {SIDES[0]} to {SIDES[-1]}, not {side}")
    if limit is not None and (
        isinstance(limit, bool) or not isinstance(limit, int) or limit < 1
    ):
        raise ValueError(f"limit must be None or an int of at least 1, not {limit}")
    smoke = profile() == "smoke"
    if folder is not None:
        return _own_pictures(folder, side, limit)
    if smoke:
        return _stand_in("The smoke profile uses no real data. ", 200, side, limit)
    for root in dict.fromkeys((data_folder(), cache_folder())):
        if (root / CELEBA).is_dir() and (names := _names(root / CELEBA)):
            table = root / "celeba/list_attr_celeba.txt"
            return _pictures("CelebA", root / CELEBA, names[:limit], side, limit, table)
    return _stand_in(_how_to_get_celeba(), 2000, side, limit)


def _own_pictures(folder: str | os.PathLike, side: int, limit: int | None) -> FaceSet:
    place = Path(os.path.abspath(os.path.expanduser(folder)))
    if not place.exists():
        raise FileNotFoundError(
            f"there is no folder {shown(place)}; give one that holds pictures"
        )
    if not place.is_dir():
        raise NotADirectoryError(
            f"{shown(place)} is a file; give the folder that holds the pictures"
        )
    names = _names(place)
    if not names:
        raise ValueError(
            f"{shown(place)} holds no picture; put some there "
            f"({', '.join(sorted(SUFFIXES))}) or give another folder"
        )
    return _pictures(place.name or str(place), place, names[:limit], side, limit, None)


def _names(folder: Path) -> list[str]:
    """Return the pictures' paths in the folder, with "/", sorted."""

    def refuse(error: OSError) -> None:
        raise error  # else a folder that cannot be read would pass for an empty one

    found = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if not name.startswith(".")]
        inside = Path(place).relative_to(folder).as_posix()
        head = "" if inside == "." else f"{inside}/"
        for name in files:
            if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES:
                found.append(head + name)
    return sorted(found)


def _pictures(
    title: str,
    folder: Path,
    names: list[str],
    side: int,
    limit: int | None,
    table: Path | None,
) -> FaceSet:
    """Prepare the named files, or find them prepared."""
    # One place for a folder, so that what it held before a change can be cleared.
    place = cache_folder() / "faces" / _hash([str(folder), str(side), str(limit)])
    lines = [f"{name}\0{_state(folder / name)}" for name in names]
    stem = place / _hash([str(VERSION), *lines])
    found, from_cache, told = _prepared(title, folder, names, side, stem)
    if found.broken:
        told.insert(0, _broken_note(found.broken, len(names)))
    note = "\n".join(f"{title}: {line}." for line in told)
    if note:
        print(note)
    good = tuple(name for name in names if name not in found.broken)
    return FaceSet(
        name=title,
        split="train",
        images=torch.from_numpy(found.images),
        names=good,
        attributes=_attributes(table, good) if table and table.is_file() else None,
        source="folder",
        digest=found.digest,
        note=note,
        broken=tuple(found.broken),
        seconds=found.seconds,
        from_cache=from_cache,
    )


def _state(path: Path) -> str:
    """Return what changes when the file does: bytes and time of the last change."""
    try:
        facts = path.stat()
    except OSError:  # a link that leads nowhere will be named as broken
        return "unreadable"
    return f"{facts.st_size}\0{facts.st_mtime_ns}"


def _hash(lines: list[str]) -> str:
    return hashlib.sha256(_bytes(lines)).hexdigest()[:16]


def _bytes(lines: Iterable[str]) -> bytes:
    # A file's name need not be good text, neither on Linux nor on Windows.
    return "\n".join(lines).encode("utf-8", "surrogatepass")


def _broken_note(broken: dict[str, str], count: int) -> str:
    some = [f"{name} ({reason})" for name, reason in list(broken.items())[:5]]
    more = [f"and {len(broken) - 5:,} more"] if len(broken) > 5 else []
    listed = ", ".join(some + more).encode("utf-8", "backslashreplace").decode()
    return (
        f"{len(broken):,} of {count:,} pictures could not be read and are left out "
        f"(replace or remove them): {listed}"
    )


def _prepared(
    title: str, folder: Path, names: list[str], side: int, stem: Path
) -> tuple[_Prepared, bool, list[str]]:
    """Return the pictures, whether they were in the cache, and what to tell."""
    found = _cached(stem, names, side)
    if found:
        return found, True, []
    try:
        _build_on_disk(title, folder, names, side, stem)
        found, error = _cached(stem, names, side), None
    except OSError as problem:  # or another process may have put the same files there
        found, error = _cached(stem, names, side), problem
    if found:
        return found, False, []
    file = io.BytesIO()
    facts = _build(title, folder, names, side, stem, file, keep=False)
    images = np.frombuffer(file.getbuffer(), np.uint8).reshape(-1, 3, side, side)
    reason = f" ({error.strerror})" if error else ""
    told = (
        f"{shown(stem.parent)} cannot be written to{reason}, so the pictures are held "
        "in memory and prepared anew each time; make room or give yourself the right "
        "to write there"
    )
    return _Prepared(images, **facts), False, [told]


def _cached(stem: Path, names: list[str], side: int) -> _Prepared | None:
    """Return what is in the cache, or None if it is not there, or not whole."""
    pixels = stem.with_suffix(".bin")
    try:
        facts = json.loads(stem.with_suffix(".json").read_text("utf-8"))
        shape = (len(names) - len(facts["broken"]), 3, side, side)
        if pixels.stat().st_size != np.prod(shape, dtype=np.int64):
            return None
        images = np.memmap(pixels, np.uint8, mode="c", shape=shape)
        return _Prepared(np.asarray(images), **facts)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _build_on_disk(
    title: str, folder: Path, names: list[str], side: int, stem: Path
) -> None:
    """Put the array and its facts into the cache; clear what they make needless."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    temporary = stem.with_name(f".{stem.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            facts = _build(title, folder, names, side, stem, file, keep=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, stem.with_suffix(".bin"))
    finally:
        temporary.unlink(missing_ok=True)
    write(json.dumps(facts).encode(), stem.with_suffix(".json"))
    whole = {stem.with_suffix(".bin"), stem.with_suffix(".json")}
    for path in set(stem.parent.iterdir()) - whole:
        with suppress(OSError):  # in use by another process, or gone already
            path.unlink()


def _build(
    title: str,
    folder: Path,
    names: list[str],
    side: int,
    stem: Path,
    file: BinaryIO,
    *,
    keep: bool,
) -> dict:
    """Write the pixels of all good pictures to the file, in order; return the facts.

    Finished parts are taken from the cache and, if ``keep``, put there.
    """
    count = max(1, PART // (3 * side * side))
    started, earlier, broken, digest = time.perf_counter(), 0.0, {}, hashlib.sha256()
    stopped, pool = threading.Event(), ThreadPoolExecutor(WORKERS)
    bar = tqdm(total=len(names), desc=title, unit=" pictures", leave=False)

    def advance(pictures: int) -> None:
        if stopped.is_set():  # an interrupt must not wait for whole parts
            raise CancelledError
        with bar.get_lock():
            bar.update(pictures)

    def part(first: int) -> tuple[np.ndarray, dict[str, str], float]:
        path = stem.with_name(f"{stem.name}-{first:07d}.npz")
        some = names[first : first + count]
        stored = _stored_part(path, len(some), side)
        if stored:
            advance(len(some))
            return stored
        begun = time.perf_counter()
        images, wrong = _decoded(folder, some, side, advance)
        if keep:
            _store_part(path, images, wrong, (time.perf_counter() - begun) / WORKERS)
        return images, wrong, 0.0

    try:
        for images, wrong, seconds in pool.map(part, range(0, len(names), count)):
            pixels = images.tobytes()
            file.write(pixels)
            digest.update(pixels)
            broken |= wrong
            earlier += seconds
    finally:
        stopped.set()
        pool.shutdown(cancel_futures=True)
        bar.close()
    if len(broken) == len(names):
        raise ValueError(f"{shown(folder)}: {_broken_note(broken, len(names))}")
    good = [name for name in names if name not in broken]
    digest.update(_bytes(good))
    seconds = time.perf_counter() - started + earlier
    return {"digest": digest.hexdigest(), "seconds": seconds, "broken": broken}


def _stored_part(
    path: Path, count: int, side: int
) -> tuple[np.ndarray, dict[str, str], float] | None:
    """Return a part that an earlier build finished, or None if it is not good."""
    try:
        # The zip's checksums find any damage.
        with np.load(io.BytesIO(path.read_bytes())) as stored:
            images, broken = stored["images"], json.loads(str(stored["broken"]))
            seconds = float(stored["seconds"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):
        return None
    if images.shape != (count - len(broken), 3, side, side):
        return None
    return images, broken, seconds


def _store_part(
    path: Path, images: np.ndarray, broken: dict[str, str], seconds: float
) -> None:
    content = io.BytesIO()
    np.savez(content, images=images, broken=json.dumps(broken), seconds=seconds)
    write(content.getvalue(), path)


def _decoded(
    folder: Path, names: list[str], side: int, advance: Callable[[int], None]
) -> tuple[np.ndarray, dict[str, str]]:
    """Return the good pictures (n, 3, side, side), and name -> what is wrong."""
    images, good, broken = np.empty((len(names), 3, side, side), np.uint8), 0, {}
    for name in names:
        try:
            images[good] = _picture(folder / name, side)
            good += 1
        except UnidentifiedImageError:  # its own words name the reader's folders
            broken[name] = "not a JPEG, PNG, WebP or BMP picture"
        except Exception as error:  # damaged files make Pillow raise many kinds
            broken[name] = getattr(error, "strerror", None) or str(error) or repr(error)
        advance(1)
    return images[:good], broken


def _picture(path: Path, side: int) -> np.ndarray:
    """Return one picture as (3, side, side), uint8."""
    with Image.open(path, formats=FORMATS) as image:
        # libjpeg halves large pictures while decoding, which saves most of the work.
        # Twice the side is left for the good filter below, so that what libjpeg rounds
        # up at the border shifts the result by a quarter of a pixel at most.
        image.draft("RGB", (2 * side, 2 * side))
        rgb = _rgb(ImageOps.exif_transpose(image))
    small = ImageOps.fit(rgb, (side, side), Image.Resampling.BICUBIC)
    return np.asarray(small).transpose(2, 0, 1)  # (side, side, 3) -> (3, side, side)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a pixel, which `convert` would clip
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image.convert("RGB")


def _attributes(table: Path, names: tuple[str, ...]) -> dict[str, torch.Tensor]:
    """Return CelebA's attributes, name -> (N,) bool, in the order of the pictures.

    The file has a line with the number of pictures, one with the attributes' names,
    and one a picture: its name, then 1 or -1 for each attribute.
    """
    _, heading, *lines = [*table.read_text("utf-8").splitlines(), "", ""]
    titles = heading.split()
    rows = {name: rest for name, _, rest in (line.partition(" ") for line in lines)}
    values = []
    for name in names:
        row = rows.get(name, "").split()
        if not row or len(row) != len(titles) or not {"1", "-1"}.issuperset(row):
            raise ValueError(
                f"{shown(table)} has no line for {name} with {len(titles)} values, "
                "each 1 or -1; get the file anew, or remove it to go without"
            )
        values.append([value == "1" for value in row])
    columns = torch.tensor(values).T.contiguous()
    return dict(zip(titles, columns, strict=True))


def _how_to_get_celeba() -> str:
    return (
        "CelebA was not found. It is not downloaded on its own, because its authors "
        "ask you to agree to their terms (non-commercial research only).\n"
        "What helps: read https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html, then run\n"
        "  torchvision.datasets.CelebA(genlab_helpers.storage.data_folder(), "
        "download=True)\n"
        "  (needs `pip install gdown`; its source often answers that a quota is used "
        "up), or fetch img_align_celeba.zip from that page and unpack it, so that\n"
        f"  {shown(data_folder() / CELEBA)}/000001.jpg exists, and for the attributes\n"
        f"  {shown(data_folder() / 'celeba')}/list_attr_celeba.txt;\n"
        '  or call faces("FOLDER") with a folder of your own pictures.\n'
    )


def _stand_in(why: str, most: int, side: int, limit: int | None) -> FaceSet:
    """Draw the stand-in, with the reason for it at the head of its note."""
    from genlab_helpers.drawn_faces import draw_faces  # nobody else needs it

    count = min(most, limit or most)
    note = f"{why}STAND-IN: {STAND_IN}, {count:,} images."
    print(note)
    started = time.perf_counter()
    drawn = max(32, 2 ** (side - 1).bit_length())  # the program knows powers of two
    images, attributes = draw_faces(count, side=drawn, seed=0)
    if drawn != side:
        images = interpolate(images, (side, side), mode="bilinear", antialias=True)
    seconds = time.perf_counter() - started
    names = tuple(f"drawn_{number:05d}" for number in range(len(images)))
    content = images.numpy().tobytes() + _bytes(names)
    return FaceSet(
        name=STAND_IN,
        split="train",
        images=images,
        names=names,
        attributes=attributes,
        source="stand-in",
        digest=hashlib.sha256(content).hexdigest(),
        note=note,
        seconds=seconds,
    )
