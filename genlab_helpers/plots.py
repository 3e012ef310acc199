"""Figures made of numbers: curves, clusters, confusion tables and histograms."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from scipy.optimize import isotonic_regression

from genlab_helpers.figures import INK, PALETTE, QUIET, axis_width, no_frame
from genlab_helpers.metrics import to_numpy


def curves(
    ax: Axes,
    ys: dict[str, object],
    *,
    xlabel: str,
    ylabel: str,
    x=None,
    reference: dict[str, float] | None = None,
    xscale: str = "linear",
    yscale: str = "linear",
    legend: bool = False,
) -> Axes:
    """Draw curves over one x, each named at its right end.

    ys: label -> (T,) numbers; NaN leaves a gap. x: (T,) positions, 0..T-1 if None.
    reference: label -> height of a dashed line (a bound, a theoretical value).
    xscale, yscale: "linear" or "log". legend: instead of names at the ends, one
    legend above the figure, for narrow panels that show the same curves. Raises
    ValueError for other shapes, unequal lengths, no curve, or one of which nothing
    can be drawn on the scale.
    """
    if not ys:
        raise ValueError("curves needs at least one curve")
    ax.set(xlabel=xlabel, ylabel=ylabel, xscale=xscale, yscale=yscale)
    ends = []
    for (label, values), colour in zip(ys.items(), _colours(len(ys)), strict=True):
        where, y = _curve(label, x, values)
        last = _drawable(label, y, yscale)[-1]
        marker = "o" if len(y) <= 12 else ""
        ax.plot(where, y, color=colour, marker=marker, ms=5, label=label)
        ends.append((label, where[last], y[last], colour))
    right = max(end[1] for end in ends)
    for label, height in (reference or {}).items():
        _drawable(label, np.array([height], float), yscale)
        style = {"linestyle": (0, (5, 4)), "linewidth": 1.2, "label": label}
        ax.axhline(height, color=QUIET, **style)
        ends.append((label, right, height, QUIET))
    ax.grid(axis="y")
    ax.margins(x=0.05 if marker else 0.01)  # no point is cut in half
    if not legend:
        _name_ends(ax, ends)
    elif not ax.figure.legends:
        handles = ax.get_legend_handles_labels()
        ax.figure.legend(*handles, loc="outside upper left", ncols=len(ends))
    return ax


def clusters(ax: Axes, x, labels=None, centers=None) -> Axes:
    """Scatter points of the plane, coloured by cluster, with their centres on top.

    x: (N, 2). labels: (N,) whole numbers (ten colours, then again from the first),
    or None for points that have no cluster yet. centers: (K, 2), drawn as crosses;
    a centre that is NaN is left out. Raises ValueError for other shapes.
    """
    x = _plane("x", x)
    colours = "#9a9a9a"
    if labels is not None:
        labels = to_numpy(labels)
        if labels.shape != x.shape[:1] or labels.dtype.kind not in "iu":
            raise ValueError(
                f"labels must be {len(x)} whole numbers, one a point; got"
                f" {labels.dtype} of shape {labels.shape}"
            )
        colours = np.array(PALETTE)[labels % len(PALETTE)]
    size, edge = (22, 0.4) if len(x) <= 2000 else (6, 0)
    ax.scatter(*x.T, s=size, c=colours, linewidths=edge, edgecolors="white")
    if centers is not None:
        style = {"marker": "X", "s": 240, "linewidths": 1.8, "zorder": 3}
        ax.scatter(*_plane("centers", centers).T, c=INK, edgecolors="white", **style)
    ax.set_aspect("equal")
    return ax


def confusion(
    ax: Axes,
    matrix,
    *,
    row_labels: Sequence,
    column_labels: Sequence,
    xlabel: str = "cluster",
    ylabel: str = "class",
) -> Axes:
    """Draw a table of counts, the number in each cell, shaded by its row's share.

    matrix: (R, C) finite numbers >= 0, with R row and C column labels. Raises
    ValueError otherwise.
    """
    matrix = to_numpy(matrix)
    shape = (len(row_labels), len(column_labels))
    if matrix.shape != shape or not matrix.size or not (np.isfinite(matrix).all()):
        raise ValueError(
            f"matrix must hold {shape[0]} x {shape[1]} finite numbers, as its labels"
            f" say, but its shape is {matrix.shape}"
        )
    if (matrix < 0).any():
        raise ValueError("matrix holds a negative number; counts are >= 0")
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    form = "{:,}" if matrix.dtype.kind in "iu" else "{:.2f}"
    texts = np.vectorize(form.format, otypes=[object])(matrix)
    longest = max(map(len, texts.flat))
    size = min(12.5, 72 * axis_width(ax) / shape[1] / (0.62 * longest + 0.6))
    for (i, j), value in np.ndenumerate(share):
        colour = "white" if value > 0.7 else INK if value > 0 else "#767676"
        options = {"ha": "center", "va": "center", "fontsize": size}
        ax.text(j, i, texts[i, j], color=colour, **options)
    ax.set_xticks(range(shape[1]), column_labels)
    ax.set_yticks(range(shape[0]), row_labels)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    no_frame(ax)
    return ax


def histogram(
    ax: Axes,
    groups: dict[str, object],
    *,
    xlabel: str,
    ylabel: str = "count",
    bins: int = 30,
) -> Axes:
    """Draw how the numbers of several groups are distributed, over the same bins.

    groups: label -> (N,) finite numbers, N >= 1, in any unit. Raises ValueError
    otherwise, or for no group at all.
    """
    arrays = {label: to_numpy(values).astype(float) for label, values in groups.items()}
    for label, values in arrays.items():
        if values.ndim != 1 or values.size == 0 or not np.isfinite(values).all():
            raise ValueError(f"The group {label!r} must be (N,) finite numbers, N >= 1")
    if not arrays:
        raise ValueError("histogram needs at least one group")
    edges = np.histogram_bin_edges(np.concatenate(list(arrays.values())), bins)
    for (label, values), colour in zip(
        arrays.items(), _colours(len(arrays)), strict=True
    ):
        counts = np.histogram(values, edges)[0]
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
        ax.stairs(counts, edges, color=colour, linewidth=1.8, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax


def _colours(count: int) -> list[str]:
    return [PALETTE[i % len(PALETTE)] for i in range(count)]


def _plane(name: str, points) -> np.ndarray:
    points = to_numpy(points)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"{name} must have shape (N, 2), not {points.shape}")
    return points


def _curve(label: str, x, values) -> tuple[np.ndarray, np.ndarray]:
    """Return x and y of a curve as two (T,) float arrays; else ValueError."""
    y = to_numpy(values).astype(float)
    where = np.arange(y.size) if x is None else to_numpy(x)
    if y.ndim != 1 or where.shape != y.shape:
        raise ValueError(
            f"The curve {label!r} must be (T,) numbers, one for each x; its shape is"
            f" {y.shape}, and that of x {where.shape}"
        )
    return where.astype(float), y


def _drawable(label: str, y: np.ndarray, scale: str) -> np.ndarray:
    """Return where y can be drawn; ValueError if that is nowhere."""
    good = np.isfinite(y) & ((y > 0) | (scale != "log"))
    if not good.any():
        kind = "a number above 0" if scale == "log" else "a finite number"
        raise ValueError(f"{label!r} cannot be drawn: it never is {kind}")
    return np.flatnonzero(good)


def _apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Move heights as little as possible (least squares) to be `gap` apart."""
    order = np.argsort(wanted, kind="stable")
    steps = gap * np.arange(len(wanted))
    placed = np.empty(len(wanted))
    placed[order] = isotonic_regression(wanted[order] - steps).x + steps
    return placed


def _name_ends(ax: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each (text, x, y, colour) to the right of its point, without overlap."""
    points = ax.figure.dpi / 72  # pixels a point
    ax.figure.draw_without_rendering()  # settles limits and layout
    old = ax.transData.transform([end[1:3] for end in ends])[:, 1] / points
    for end, shift in zip(ends, _apart(old, 14.0) - old, strict=True):
        text, x, y, colour = end
        ax.annotate(
            text,
            (x, y),
            (7, shift),
            textcoords="offset points",
            color=[0.75 * part for part in to_rgb(colour)],  # text has to be darker
            va="center",
            fontsize=12,
            annotation_clip=False,
        )
