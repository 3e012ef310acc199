"""One look for all figures, and those made of images; `plots` draws numbers."""

import io
import textwrap
from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from IPython.display import Image
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Pillow

from genlab_helpers.metrics import checked, to_numpy

STYLE = mpl.rc_params_from_file(
    Path(__file__).with_name("genlab.mplstyle"), use_default_template=False
)
PALETTE = tuple(STYLE["axes.prop_cycle"].by_key()["color"])
INK = "#222222"  # text and centres
QUIET = "#5f5f5f"  # axes, reference lines, what should stay in the background
WIDTH = 7.0  # inches


def use_style() -> None:
    """Give all later figures the look of the course (sets Matplotlib's rcParams)."""
    plt.style.use(STYLE)


def caption_source(fig: Figure, origin) -> Figure:
    """Name the `Origin` in the figure's title, once, if it is a stand-in."""
    title = fig.get_suptitle()
    if origin.is_stand_in and origin.name not in title:
        fig.suptitle(f"{title}\n{origin.name}".strip())
    return fig


def image_grid(images, *, columns, titles=(), ax=None, value_range=(0.0, 1.0)) -> Axes:
    """Draw N images row by row, as a grid with white gaps.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), uint8 in 0..255 or floats in
    `value_range`, clipped for display. titles: N short texts above the images; where
    only the first row has any, they head the columns. Raises ValueError for other
    images, columns < 1, or a number of titles that is not N.
    """
    tiles = _tiles(images, value_range)
    count, width = len(tiles), tiles.shape[2]
    if columns < 1 or len(titles) not in (0, count):
        raise ValueError("columns must be >= 1, and titles one an image, or none")
    inches = WIDTH if ax is None else ax.get_position().width * ax.figure.get_figwidth()
    room = int(np.ceil(0.28 / (inches / columns) * width))
    room *= any(titles[columns if count > columns else 0 :])
    ax, step_y, step_x = _mosaic(ax, tiles, columns, room, 1.0)
    for i, title in enumerate(titles):
        x = i % columns * step_x + width / 2
        y = i // columns * step_y + 0.8 * room
        ax.text(x, y, title, ha="center", va="bottom", fontsize=11.5)
    return ax


def before_after(rows: dict, *, ax=None, value_range=(0.0, 1.0)) -> Axes:
    """Draw labelled rows of images under one another, to be compared by column.

    rows: label -> images and value range as in `image_grid`, all rows of one shape.
    """
    stacks = np.stack([_tiles(images, value_range) for images in rows.values()])
    count, height = stacks.shape[1:3]
    ax, step, _ = _mosaic(ax, np.concatenate(stacks), count, 0, 0.82)
    labels = [textwrap.fill(label, 14) for label in rows]
    ax.set_yticks(step * np.arange(len(rows)) + height / 2, labels)
    return ax


def _tiles(images, value_range: tuple[float, float]) -> np.ndarray:
    """Turn images into (N, H, W, 3) floats in [0, 1]."""
    array = to_numpy(images)
    array = array[:, None] if array.ndim == 3 else array
    channels = 3 if array.shape[1:2] == (3,) else 1
    array = np.moveaxis(checked("images", array, "N", channels, "H", "W"), 1, -1)
    low, high = (0, 255) if array.dtype == np.uint8 else value_range
    if not low < high:
        raise ValueError(f"value_range must be (low, high), got {value_range}")
    array = (array.astype(np.float32) - low) / (high - low)
    return np.broadcast_to(array.clip(0, 1), (*array.shape[:3], 3))


def _mosaic(ax, tiles, columns, room, share) -> tuple[Axes, int, int]:
    """Draw tiles in rows, with `room` white pixels above each; return the steps.

    Without `ax` a figure is made, so high that the tiles fill a `share` of its width.
    """
    gap = max(1, round(0.08 * tiles.shape[2]))
    margins = ((0, -len(tiles) % columns), (room, gap), (0, gap), (0, 0))
    tiles = np.pad(tiles, margins, constant_values=1)
    _, high, wide, _ = tiles.shape
    canvas = tiles.reshape(-1, columns, high, wide, 3).swapaxes(1, 2)
    canvas = canvas.reshape(-1, columns * wide, 3)
    if ax is None:
        tall = share * WIDTH * len(canvas) / (columns * wide)
        ax = plt.figure(figsize=(WIDTH, tall)).add_subplot()
    ax.imshow(canvas[:-gap, :-gap], interpolation="nearest")
    ax.set(xticks=[], yticks=[], frame_on=False)
    ax.tick_params(length=0)
    return ax, high, wide


def animation(
    frames: Iterable[Figure], *, fps: float = 6, width: int = 700, colours: int = 64
) -> Image:
    """Turn figures into a GIF that any page plays, once; the last frame stays.

    frames: figures of one size; each is closed once drawn, so that a generator
    keeps one open at a time. fps: frames a second, at most 50. width: pixels.
    colours: in all, up to 256; few keep the file small.
    """
    if not 0 < fps <= 50:
        raise ValueError(f"fps must be above 0 and at most 50, got {fps}")
    drawn = (still(figure, dpi=width / figure.get_figwidth()) for figure in frames)
    pictures = [Pillow.open(io.BytesIO(png)).convert("RGB") for png in drawn]
    if len({picture.size for picture in pictures}) != 1:
        raise ValueError("animation needs at least one frame, and all of one size")
    # One palette for all frames stops flicker.
    sheet = Pillow.fromarray(np.concatenate(pictures[:: -(-len(pictures) // 12)]))
    palette = sheet.quantize(colours, method=Pillow.Quantize.MEDIANCUT)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    colours[colours.min(axis=1) > 243] = 255  # the background stays pure white
    palette.putpalette(colours.ravel().tolist())
    plain = {"palette": palette, "dither": Pillow.Dither.NONE}
    first, *others = (picture.quantize(**plain) for picture in pictures)
    gif = {"append_images": others, "duration": round(1000 / fps)}  # milliseconds
    first.save(file := io.BytesIO(), "gif", save_all=True, **gif)
    return Image(data=file.getvalue(), format="gif")


def still(figure: Figure, **options) -> bytes:
    """Close a figure and return it as a PNG (options: those of its `savefig`)."""
    file = io.BytesIO()
    figure.savefig(file, **options)
    plt.close(figure)
    return file.getvalue()


def photograph(figure: Figure) -> Image:
    """Close a figure full of photographs and return a JPEG, a fifth of a PNG's size.

    JPEG blurs text and lines: let Jupyter show figures made of those.
    """
    small = {"pil_kwargs": {"quality": 88, "optimize": True}}
    data = still(figure, format="jpeg", bbox_inches="tight", **small)
    return Image(data=data, format="jpeg")
