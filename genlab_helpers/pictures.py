"""Paintings and photographs as tensors that know where they came from (chapter 7)."""

import io
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from genlab_helpers.files import DIGESTS, DownloadError, Origin, known, obtain, shown
from genlab_helpers.settings import profile

SMALLEST, LARGEST = 32, 64_000_000  # pixels: of a side, and of a whole picture
PHOTOGRAPHS = tuple(e["name"] for e in DIGESTS["known"] if e["split"] == "content")
PAINTINGS = tuple(e["name"] for e in DIGESTS["known"] if e["split"] == "style")


class PictureError(ValueError):
    """A picture that cannot be used; the message says why and what helps."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture(Origin):
    """One picture: ``x`` (1, 3, H, W) float32 in [0, 1], RGB."""

    x: torch.Tensor


def decode(file: bytes | Path, draft: tuple[int, int] | None = None) -> Image.Image:
    """Return the picture in a JPEG, PNG, WebP or BMP: upright, in RGB, on white.

    A JPEG is halved while decoding as long as it stays above the size ``draft``.
    Raises PictureError for no such file, a damaged one, or over 64 million pixels.
    """
    try:
        source = io.BytesIO(file) if isinstance(file, bytes) else file
        with Image.open(source, formats=("JPEG", "PNG", "WEBP", "BMP")) as image:
            image.draft("RGB", draft)
            if image.width * image.height > LARGEST:
                raise ValueError(f"too large: {image.size} pixels, over {LARGEST:,}")
            image = ImageOps.exif_transpose(image)
        if image.mode.startswith("I"):  # 16 bits, which `convert` would cut at 255
            grey = (np.asarray(image, "i4") + 128) // 257
            image = Image.fromarray(grey.astype("u1"))
        if image.has_transparency_data:
            white = Image.new("RGBA", image.size, "white")
            image = Image.alpha_composite(white, image.convert("RGBA"))
        return image.convert("RGB")
    except Exception as error:  # damaged files make Pillow raise many kinds
        why = getattr(error, "strerror", None) or str(error) or repr(error)
        if isinstance(error, UnidentifiedImageError):  # whose words name folders
            start = (file if isinstance(file, bytes) else file.read_bytes())[:99]
            marks = {"a web page": b"<", "a HEIC photo (save it as JPEG)": b"ftyp"}
            what = [kind for kind, mark in marks.items() if mark in start]
            what = what or ["something else" if start else "empty"]
            why = f"no JPEG, PNG, WebP or BMP picture, but {what[0]}"
        raise PictureError(f"{why}; replace it, or delete it") from None


def load(what: str | Path | bytes, side: int, *, square: bool = False) -> Picture:
    """Return one picture, its longer side `side` pixels long, at least 32.

    ``what`` is a name of `PHOTOGRAPHS` or `PAINTINGS`, the path of a file, or its
    bytes. In `smoke`, or if there is no good copy to be had, a name gives a stand-in.
    ``square`` cuts the middle out, side x side, instead of keeping the aspect ratio.
    Raises PictureError for a file that cannot be read or decoded, or is too small.
    """
    if not isinstance(side, int) or side < SMALLEST:
        raise PictureError(f"side must be at least {SMALLEST} pixels, not {side!r}")
    name, split, source, note = "uploaded picture", "own", "own", ""
    try:
        if what in PHOTOGRAPHS + PAINTINGS:
            name, split = what, "content" if what in PHOTOGRAPHS else "style"
            if profile() == "smoke":
                raise DownloadError("The smoke profile uses no real pictures.")
            (entry,) = known(name, split)
            what, source = obtain(f"images/{split}/{entry['file']}", [entry["url"]], "")
        elif isinstance(what, str | Path):
            name, what = Path(what).name, Path(what).expanduser()
        content = what.read_bytes() if isinstance(what, Path) else bytes(what)
        image = decode(content)
    except (DownloadError, PictureError, OSError) as error:
        why = getattr(error, "strerror", None) or error
        why = f"{shown(what)}: {why}" if isinstance(what, Path) else why
        if split == "own":
            names = ", ".join(PHOTOGRAPHS + PAINTINGS)
            raise PictureError(f"{why}. Known names: {names}") from None
        if source == "download":
            what.unlink()  # such as a page that asks to log in
        name, image = _stand_in(name)
        source, content, note = "stand-in", image.tobytes(), f"{why}\nSTAND-IN: {name}."
        print(note)
    shape = ImageOps.fit if square else ImageOps.contain
    small = shape(image, (side, side), Image.Resampling.LANCZOS)
    if min(*image.size, *small.size) < SMALLEST:
        sides = f"{small.size} of {image.size} pixels"
        raise PictureError(f"{name}: {sides} are too few: try a larger side, or square")
    facts = dict(name=name, split=split, source=source, note=note, count=1)
    x = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None].contiguous() / 255
    return Picture(**facts, sha256=sha256(content).hexdigest(), x=x)


def _stand_in(name: str) -> tuple[str, Image.Image]:
    """Return a photograph of scikit-learn, or for a painting coloured blots."""
    from sklearn.datasets import load_sample_image  # slow to import

    if name in PHOTOGRAPHS:
        file = ("china.jpg", "flower.jpg")[PHOTOGRAPHS.index(name) % 2]
        label, pixels = f"scikit-learn's {file}", load_sample_image(file)
    else:
        number = PAINTINGS.index(name)
        rng, label = np.random.default_rng(number), f"drawn blots {number}"
        pixels = rng.integers(0, 256, (24, 24, 3), np.uint8)
    image = Image.fromarray(pixels)
    image = image.resize((512, 512)) if name in PAINTINGS else image  # bicubic: smooth
    return f"{label} (stand-in for {name})", image
