"""Figures made of images: grids, and labelled rows to compare."""

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes

from genlab_helpers.figures import SMALL, WIDTH, axis_width, no_frame
from genlab_helpers.metrics import to_numpy


def image_grid(
    images,
    *,
    columns: int,
    titles: Sequence[str] | None = None,
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """Draw N images row by row, as a grid with white gaps.

    images: (N, H, W), (N, 1, H, W) or (N, 3, H, W), uint8 in 0..255 or floats in
    `value_range` (what lies outside is clipped for display). titles: N short texts
    above the images. Without `ax` a figure of the right height is made. Raises
    ValueError for other shapes, no image, values that are not finite, columns < 1,
    or a number of titles that is not N.
    """
    tiles = _tiles(images, value_range)
    count, height, width, _ = tiles.shape
    titles = list(titles if titles is not None else ())
    if columns < 1 or len(titles) not in (0, count):
        raise ValueError(
            f"{count} images need columns >= 1 and {count} titles or none;"
            f" got columns={columns} and {len(titles)} titles"
        )
    inches = (WIDTH if ax is None else axis_width(ax)) / columns
    room = int(np.ceil(0.28 / inches * width)) if titles else 0
    step_x, step_y = width + _gap(width), height + _gap(width) + room
    if ax is None:
        rows = -(-count // columns)
        tall = WIDTH * rows * step_y / (columns * step_x)
        ax = plt.figure(figsize=(WIDTH, tall)).add_subplot()
    _mosaic(ax, tiles, columns, room)
    for i, title in enumerate(titles):
        x = i % columns * step_x + width / 2
        y = i // columns * step_y + 0.8 * room
        ax.text(x, y, title, ha="center", va="bottom", fontsize=SMALL)
    return ax


def before_after(
    rows: dict[str, object],
    *,
    ax: Axes | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
) -> Axes:
    """Draw labelled rows of images under one another, to be compared by column.

    rows: label -> images and value range as in `image_grid`, every row of one
    shape. Raises ValueError otherwise, or for no row at all.
    """
    stacks = {label: _tiles(images, value_range) for label, images in rows.items()}
    shapes = {label: tiles.shape[:3] for label, tiles in stacks.items()}
    if len(set(shapes.values())) != 1:
        raise ValueError(
            f"before_after needs rows of one shape (N, H, W), got {shapes}"
        )
    count, height, width = next(iter(shapes.values()))
    step = height + _gap(width)
    if ax is None:
        tall = 0.82 * WIDTH * len(rows) * step / (count * (width + _gap(width)))
        ax = plt.figure(figsize=(WIDTH, tall)).add_subplot()
    _mosaic(ax, np.concatenate(list(stacks.values())), count, 0)
    labels = [textwrap.fill(label, 14) for label in rows]
    ax.set_yticks([i * step + height / 2 for i in range(len(rows))], labels)
    return ax


def _tiles(images, value_range: tuple[float, float]) -> np.ndarray:
    """Turn images into (N, H, W, 3) floats in [0, 1]."""
    array = to_numpy(images)
    if array.ndim == 4 and array.shape[1] in (1, 3):
        array = np.moveaxis(array, 1, -1)
    elif array.ndim == 3:
        array = array[..., None]
    else:
        raise ValueError(
            "images must have shape (N, H, W), (N, 1, H, W) or (N, 3, H, W),"
            f" but their shape is {array.shape}"
        )
    if array.size == 0:
        raise ValueError("images is empty: there is nothing to draw")
    low, high = (0, 255) if array.dtype == np.uint8 else value_range
    if not low < high:
        raise ValueError(f"value_range must be (low, high), got {value_range}")
    array = (array.astype(np.float32) - low) / (high - low)
    if not np.isfinite(array).all():
        raise ValueError("images hold values that are not finite")
    return np.broadcast_to(array.clip(0, 1), (*array.shape[:3], 3))


def _gap(width: int) -> int:
    return max(1, round(0.08 * width))


def _mosaic(ax: Axes, tiles: np.ndarray, columns: int, room: int) -> None:
    """Draw tiles row by row with white gaps, and `room` white pixels above each."""
    count, height, width, _ = tiles.shape
    gap = _gap(width)
    rows = -(-count // columns)
    step_y, step_x = room + height + gap, width + gap
    canvas = np.ones((rows * step_y - gap, columns * step_x - gap, 3), np.float32)
    for i, tile in enumerate(tiles):
        y, x = i // columns * step_y + room, i % columns * step_x
        canvas[y : y + height, x : x + width] = tile
    ax.imshow(canvas, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    no_frame(ax)
