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
        marker = "o" if len(y) <= 12 else ""
        ax.plot(where, y, color=colour, marker=marker, ms=5, label=label)
        last = _last(ax, label, y)
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
    above = 0 if ax.get_yscale() == "log" else -np.inf
    good = np.flatnonzero(np.isfinite(y) & (y > above))
    if not good.size:
        raise ValueError(f"{label!r} needs a finite number above {above}: it has none")
    return good[-1]


def _name_ends(ax: Axes, ends: list[tuple[str, float, float, str]]) -> None:
    """Write each (text, x, y, colour) to the right of its point, without overlap."""
    ax.figure.draw_without_rendering()  # settles limits and layout
    pixels = ax.transData.transform([end[1:3] for end in ends])[:, 1]
    wanted = pixels * 72 / ax.figure.dpi  # heights, in points
    order, steps = np.argsort(wanted, kind="stable"), 14.0 * np.arange(len(ends))
    # Moved as little as possible (least squares) to be 14 points apart.
    placed = isotonic_regression(wanted[order] - steps).x + steps
    style = {"va": "center", "textcoords": "offset points", "annotation_clip": False}
    for i, height in zip(order, placed, strict=True):
        text, x, y, colour = ends[i]
        dark = [0.75 * part for part in to_rgb(colour)]  # text has to be darker
        shift = (7, height - wanted[i])
        ax.annotate(text, (x, y), shift, color=dark, fontsize=12, **style)


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
    matrix = checked("matrix", matrix, len(row_labels), len(column_labels))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-12)
    ax.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    form = "{:,}" if matrix.dtype.kind in "iu" else "{:.2f}"
    texts = {cell: form.format(number) for cell, number in np.ndenumerate(matrix)}
    width = 72 * ax.get_position().width * ax.figure.get_figwidth()  # points
    cell = width / len(column_labels)
    size = min(12.5, cell / (0.62 * max(map(len, texts.values())) + 0.6))
    for (i, j), text in texts.items():
        colour = "white" if share[i, j] > 0.7 else INK if share[i, j] else "#767676"
        ax.text(j, i, text, color=colour, fontsize=size, ha="center", va="center")
    ax.set_xticks(range(len(column_labels)), column_labels)
    ax.set_yticks(range(len(row_labels)), row_labels)
    ax.set(xlabel=xlabel, ylabel=ylabel, frame_on=False)
    ax.tick_params(length=0)
    return ax
