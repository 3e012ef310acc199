"""Paintings and photographs as tensors that know where they came from (chapter 7).

A picture is named (the table below), given by its path, or as the bytes of an upload.
Named ones are looked for in the data folder, the cache folder and on the network; last
comes a stand-in that says so. Nothing is decoded before its size is known.
"""

import hashlib
import io
import tempfile
import warnings
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from sklearn.datasets import load_sample_image

from genlab_helpers import download, storage
from genlab_helpers.download import DownloadError
from genlab_helpers.settings import profile

SMALLEST = 32  # pixels of a side, below which four poolings leave next to nothing
LARGEST = 64_000_000  # pixels of a file
BYTES_A_PIXEL = 11  # while decoding: the picture, its turned copy, RGBA, RGB
COMMONS = "https://commons.wikimedia.org/wiki/Special:FilePath/"
SKIMAGE = (
    "https://raw.githubusercontent.com/scikit-image/scikit-image/v0.25.2/skimage/data/"
)
ADDRESSES = {  # kind -> file name -> where a reader's copy comes from
    "content": {
        name: SKIMAGE + name
        for name in ("astronaut.png", "rocket.jpg", "chelsea.png", "coffee.png")
    },
    "style": {
        name: f"{COMMONS}{title}?width=960"
        for name, title in {
            "starry_night.jpg": "Van_Gogh_-_Starry_Night_-_Google_Art_Project.jpg",
            "the_scream.jpg": "Edvard_Munch,_1893,_The_Scream,_oil,_tempera_and_"
            "pastel_on_cardboard,_91_x_73_cm,_National_Gallery_of_Norway.jpg",
            "great_wave.jpg": "Tsunami_by_hokusai_19th_century.jpg",
            "kandinsky_composition_vii.jpg": "Vassily_Kandinsky,_1913_-_"
            "Composition_7.jpg",
            "shipwreck_turner.jpg": "Shipwreck_turner.jpg",
        }.items()
    },
}
PHOTOGRAPHS, PAINTINGS = (
    tuple(Path(name).stem for name in ADDRESSES[kind]) for kind in ("content", "style")
)


class PictureError(ValueError):
    """A picture that cannot be used; the message says why and what helps."""


@dataclass(frozen=True, eq=False)
class Picture:
    """One picture: ``x`` (1, 3, H, W) float32 in [0, 1], RGB.

    ``kind`` is "content" or "style" for a named picture and "own" otherwise.
    ``source`` is "folder", "download", "stand-in" or "own"; ``digest`` is the sha256
    of the file (of the pixels, for a stand-in); ``note`` is what was said about it.
    """

    name: str
    kind: str
    x: torch.Tensor
    source: str
    digest: str
    note: str = ""

    @property
    def is_stand_in(self) -> bool:
        """Whether it stands in for a picture that was not to be had."""
        return self.source == "stand-in"

    def provenance(self) -> dict:
        """Return what a run's record keeps: name, split, source, sha256, count."""
        return {
            "name": self.name,
            "split": self.kind,
            "source": self.source,
            "sha256": self.digest,
            "count": 1,
        }


def load(what: str | Path | bytes, side: int, *, square: bool = False) -> Picture:
    """Return one picture, its longer side `side` pixels long.

    Transparent pixels are laid over white, grey and palette pictures become RGB, and a
    turn that the camera noted (EXIF) is carried out. A picture that had to be enlarged
    says so in its note. In `smoke` a name always gives a stand-in, without network.

    Args:
        what: a name of `PHOTOGRAPHS` or `PAINTINGS`, the path of a file, or the bytes
            of one (an upload).
        side: pixels, at least 32.
        square: cut the middle out, side x side, instead of keeping the aspect ratio.

    Raises:
        PictureError: for an unknown name, a file that is missing or cannot be read, or
            a picture that is too small or too large.
    """
    if not isinstance(side, int) or side < SMALLEST:
        raise PictureError(f"side must be at least {SMALLEST} pixels, not {side!r}")
    if isinstance(what, (bytes, bytearray, memoryview)):
        found = _own("uploaded picture", bytes(what))
    elif str(what) in PHOTOGRAPHS + PAINTINGS:
        found = _named(str(what))
    else:
        found = _own(Path(what).name, _content(Path(what)))
    image, picture = found
    if side > max(image.size):
        wide, high = image.size
        note = f"{picture.name}: enlarged, the file has only {wide} x {high} pixels."
        picture = replace(picture, note=f"{picture.note}\n{note}".strip())
    if picture.note:
        print(picture.note)
    return replace(picture, x=_tensor(_resized(image, side, square)))


def decode(content: bytes) -> Image.Image:
    """Return the picture in a file's bytes, upright and in RGB.

    Raises PictureError if they are no picture, damaged, under 32 pixels on a side, or
    over 64 million pixels; the last two before anything is decoded.
    """
    try:
        with warnings.catch_warnings():  # of Pillow's own limit: ours is lower
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(content))
        _check_size(*image.size)
        return _rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise PictureError(f"the picture is too large: {error}") from None
    except PictureError:
        raise
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise PictureError(
            f"{len(content):,} bytes that cannot be read as a picture ({error}); use a"
            " JPEG, PNG or WebP file, and fetch or save it again if it is one"
        ) from None


def _check_size(wide: int, high: int) -> None:
    if min(wide, high) < SMALLEST:
        raise PictureError(
            f"the picture is too small: {wide} x {high} pixels; each side needs at"
            f" least {SMALLEST}"
        )
    if wide * high > LARGEST:
        raise PictureError(
            f"the picture is too large: {wide:,} x {high:,} pixels, which would take"
            f" {BYTES_A_PIXEL * wide * high / 1e9:.1f} GB of memory to open; save it"
            f" smaller, with at most {LARGEST / 1e6:.0f} million pixels"
        )


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits: Pillow itself would cut at 255
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype("u1"))
    if image.has_transparency_data:
        above = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, above)
    return image.convert("RGB")


def _resized(image: Image.Image, side: int, square: bool) -> Image.Image:
    shape = ImageOps.fit if square else ImageOps.contain
    image = shape(image, (side, side), Image.Resampling.LANCZOS)
    if min(image.size) < SMALLEST:
        raise PictureError(
            f"with a longer side of {side} pixels the shorter one has only"
            f" {min(image.size)}; choose a larger side, or square=True"
        )
    return image


def _tensor(image: Image.Image) -> torch.Tensor:
    pixels = torch.from_numpy(np.array(image))  # (H, W, 3)
    return pixels.permute(2, 0, 1)[None].contiguous() / 255  # (1, 3, H, W)


def _content(path: Path) -> bytes:
    try:
        return path.expanduser().read_bytes()
    except OSError as error:
        raise PictureError(
            f"{path.name!r} is no file that can be read ({error.strerror}). Give the"
            " path of a picture, the bytes of one, or a name: "
            + ", ".join(PHOTOGRAPHS + PAINTINGS)
        ) from None


def _own(name: str, content: bytes) -> tuple[Image.Image, Picture]:
    return decode(content), _picture(name, "own", content, "own")


def _picture(name: str, kind: str, content: bytes, source: str, note="") -> Picture:
    digest = hashlib.sha256(content).hexdigest()
    return Picture(name, kind, torch.empty(0), source, digest, note)


def _named(name: str) -> tuple[Image.Image, Picture]:
    kind = "content" if name in PHOTOGRAPHS else "style"
    if profile() == "smoke":
        return _stand_in(name, kind, "The smoke profile uses no real pictures. ")
    file_name, address = next(
        (file, url) for file, url in ADDRESSES[kind].items() if Path(file).stem == name
    )
    folders = dict.fromkeys([storage.data_folder(), storage.cache_folder()])
    paths = [folder / "images" / kind / file_name for folder in folders]
    problems = []
    for path in paths:
        try:
            content = path.read_bytes()
            note = "\n".join(f"{problem}; not used." for problem in problems)
            return decode(content), _picture(name, kind, content, "folder", note)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (PictureError, OSError) as error:
            problems.append(f"{storage.shown(path)}: {error}")
    return _fetched(name, kind, address, paths, problems)


def _fetched(name, kind, address, paths, problems) -> tuple[Image.Image, Picture]:
    try:
        content = _downloaded(address)
        image = decode(content)
    except (DownloadError, PictureError) as error:
        lines = [f"{name} could not be had.", f"  - {address}: {error}"]
        lines += [f"  - {problem}; left as it is" for problem in problems]
        lines += [
            f"What helps: connect to the network; or put a picture of it at"
            f" {storage.shown(paths[0])}.\n"
        ]
        return _stand_in(name, kind, "\n".join(lines))
    # A damaged file keeps its place: the good copy goes where there is none.
    for path in (path for path in paths if not path.exists()):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            storage.write(content, path)
            break
        except OSError:
            continue
    return image, _picture(name, kind, content, "download", "\n".join(problems))


def _downloaded(address: str) -> bytes:
    with tempfile.TemporaryDirectory(prefix="genlab-") as folder:
        path = Path(folder) / "picture"
        # No digest is asked for: museums' servers make these sizes anew now and then.
        download.save(address, path, "", download.LARGEST)
        return path.read_bytes()


def _stand_in(name: str, kind: str, why: str) -> tuple[Image.Image, Picture]:
    """Return a photograph of scikit-learn, or for a painting a drawn pattern."""
    if kind == "content":
        used = ("china.jpg", "flower.jpg")[PHOTOGRAPHS.index(name) % 2]
        image = Image.fromarray(load_sample_image(used))
        label = f"scikit-learn's {used}"
    else:
        number = PAINTINGS.index(name)
        image, label = pattern(number), f"drawn pattern {number}"
    label = f"{label} (stand-in for {name})"
    note = f"{why}STAND-IN: {label}."
    return image, _picture(label, kind, image.tobytes(), "stand-in", note)


def pattern(seed: int, side: int = 512) -> Image.Image:
    """Return side x side pixels of bent coloured waves, another pattern a seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] / side
    colours = np.zeros((side, side, 3))
    for cycles in rng.uniform(4, 24, size=6):
        angle, bend, phase = rng.uniform(0, 2 * np.pi, size=3)
        along = np.cos(angle) * x + np.sin(angle) * y
        across = np.cos(angle) * y - np.sin(angle) * x
        wave = np.sin(
            2 * np.pi * cycles * along + 2 * np.sin(5 * across + bend) + phase
        )
        colours += wave[..., None] * rng.normal(size=3)
    values = 255 / (1 + np.exp(-colours))
    return Image.fromarray(values.round().astype(np.uint8))
