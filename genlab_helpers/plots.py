"""Figures made of numbers; all raise ValueError for what has another shape."""

from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from scipy.optimize import isotonic_regression

from genlab_helpers.figures import INK, PALETTE, QUIET
from genlab_helpers.metrics import checked


def curves(
    ax, ys: dict, *, xlabel, ylabel, x=None, reference=None, legend=False, **scales
) -> Axes:
    """Draw curves over one x, each named at its right end.

    ys: label -> (T,) numbers; NaN leaves a gap. x: (T,) positions, 0..T-1 if None.
    reference: label -> height of a dashed line (a bound, a theoretical value).
    legend: instead of names at the ends, one legend above the figure, for narrow
    panels that show the same curves. scales: xscale and yscale, such as "log".
    """
    ax.set(xlabel=xlabel, ylabel=ylabel, **scales)
    ends = []
    for (label, values), colour in zip(ys.items(), cycle(PALETTE), strict=False):
        y = checked(repr(label), values, "T", finite=False)
        where = np.arange(len(y)) if x is None else checked("x", x, len(y))
        last = _last(ax, label, y)
        marker = "o" if len(y) <= 12 else ""
        ax.plot(where, y, color=colour, marker=marker, ms=5, label=label)
        ends.append((label, where[last], y[last], colour))
    right = max(end[1] for end in ends)
    for label, y in (reference or {}).items():
        _last(ax, label, np.array([y]))
        ax.axhline(y, color=QUIET, linestyle=(0, (5, 4)), linewidth=1.2, label=label)
        ends.append((label, right, y, QUIET))
    ax.grid(axis="y")
    ax.margins(x=0.05 if marker else 0.01)  # no point is cut in half
    if not legend:
        _name_ends(ax, ends)
    elif not ax.figure.legends:
        handles = ax.get_legend_handles_labels()
        ax.figure.legend(*handles, loc="outside upper left", ncols=len(ends))
    return ax


def _last(ax: Axes, label: str, y: np.ndarray) -> int:
    """Return the last place where y can be drawn; ValueError if there is none."""
    log = ax.get_yscale() == "log"
    good = np.flatnonzero(np.isfinite(y) & ((y > 0) | (not log)))
    if not good.size:
        kind = "a number above 0" if log else "a finite number"
        raise ValueError(f"{label!r} cannot be drawn: it never is {kind}")
    return good[-1]


def _name_ends(ax: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each (text, x, y, colour) to the right of its point, without overlap."""
    ax.figure.draw_without_rendering()  # settles limits and layout
    pixels = ax.transData.transform([end[1:3] for end in ends])[:, 1]
    heights = pixels * 72 / ax.figure.dpi  # in points
    shifts = _apart(heights, 14.0) - heights
    style = {"va": "center", "textcoords": "offset points", "annotation_clip": False}
    for (text, x, y, colour), shift in zip(ends, shifts, strict=True):
        dark = [0.75 * part for part in to_rgb(colour)]  # text has to be darker
        ax.annotate(text, (x, y), (7, shift), color=dark, fontsize=12, **style)


def _apart(wanted: np.ndarray, gap: float) -> np.ndarray:
    """Move heights as little as possible (least squares) to be `gap` apart."""
    order = np.argsort(wanted, kind="stable")
    steps, placed = gap * np.arange(len(wanted)), np.empty(len(wanted))
    placed[order] = isotonic_regression(wanted[order] - steps).x + steps
    return placed


def clusters(ax: Axes, x, labels=None, centers=None) -> Axes:
    """Scatter points of the plane, coloured by cluster, with their centres on top.

    x: (N, 2). labels: (N,) whole numbers (ten colours, then again from the first),
    or None for points without cluster. centers: (K, 2), crosses; NaN is left out.
    """
    x, colours = checked("x", x, "N", 2), "#9a9a9a"
    if labels is not None:
        labels = checked("labels", labels, len(x), kinds="iu")
        colours = np.array(PALETTE)[labels % len(PALETTE)]
    size, edge = (22, 0.4) if len(x) <= 2000 else (6, 0)
    ax.scatter(*x.T, s=size, c=colours, linewidths=edge, edgecolors="white")
    if centers is not None:
        centers = checked("centers", centers, "K", 2, finite=False)
        style = {"marker": "X", "s": 240, "linewidths": 1.8, "zorder": 3}
        ax.scatter(*centers.T, c=INK, edgecolors="white", **style)
    ax.set_aspect("equal")
    return ax


def confusion(
    ax, matrix, *, row_labels, column_labels, xlabel="cluster", ylabel="class"
) -> Axes:
    """Draw a table of counts, the number in each cell, shaded by its row's share.

    matrix: (R, C) finite numbers >= 0, with R row and C column labels.
    """
    rows, columns = len(row_labels), len(column_labels)
    matrix = checked("matrix", matrix, rows, columns)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    form = "{:,}" if matrix.dtype.kind in "iu" else "{:.2f}"
    texts = np.vectorize(form.format, otypes=[object])(matrix)
    points = 72 * ax.get_position().width * ax.figure.get_figwidth() / columns  # a cell
    size = min(12.5, points / (0.62 * max(map(len, texts.flat)) + 0.6))
    for (i, j), value in np.ndenumerate(share):
        colour = "white" if value > 0.7 else INK if value > 0 else "#767676"
        ax.text(
            j, i, texts[i, j], color=colour, fontsize=size, ha="center", va="center"
        )
    ax.set_xticks(range(columns), column_labels)
    ax.set_yticks(range(rows), row_labels)
    ax.set(xlabel=xlabel, ylabel=ylabel, frame_on=False)
    ax.tick_params(length=0)
    return ax


def histogram(ax, groups: dict, *, xlabel, ylabel="count", bins=30) -> Axes:
    """Draw how the numbers of several groups, label -> (N,), are distributed."""
    arrays = [checked(repr(label), x, "N").astype(float) for label, x in groups.items()]
    edges = np.histogram_bin_edges(np.concatenate(arrays), bins)  # the same for all
    for label, values, colour in zip(groups, arrays, cycle(PALETTE), strict=False):
        counts = np.histogram(values, edges)[0]
        ax.stairs(counts, edges, fill=True, color=colour, alpha=0.3)
        ax.stairs(counts, edges, color=colour, linewidth=1.8, label=label)
    ax.set(xlabel=xlabel, ylabel=ylabel)
    ax.legend()
    return ax
