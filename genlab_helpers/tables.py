"""Small tables for a page: rows of results, and the layers of a network."""

import math
from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from IPython.display import Markdown
from torch import nn


def number_text(value: float | None, spread: float | None = None) -> str:
    """Round for reading: to two digits of the spread, else to four digits in all."""
    if value is None or isinstance(value, str):
        return value or ""
    if spread is not None and 1e-6 <= spread < 1e6:
        digits = max(1 - math.floor(math.log10(spread)), 0)
        return f"{value:,.{digits}f} ± {spread:,.{digits}f}"
    if spread is not None:
        return f"{number_text(value)} ± {spread:.2g}"
    whole = isinstance(value, int) or 1000 <= abs(value) < 1e9
    return f"{value:,.0f}" if whole else f"{value:.4g}"


def table(columns: Sequence[str], rows: Iterable[Sequence]) -> Markdown:
    """Return a table to display: numbers are rounded for reading, texts kept."""
    lines = [columns, ["---"] * len(columns), *rows]
    if wrong := [row for row in lines if len(row) != len(columns)]:
        raise ValueError(f"rows of {len(columns)} entries are needed, not {wrong[0]}")
    texts = (" | ".join(map(number_text, line)) for line in lines)
    return Markdown("\n".join(f"| {text} |" for text in texts))


def layers(modules: Iterable[nn.Module], x: torch.Tensor) -> Markdown:
    """Return a table of layers applied in a row: output shape and parameters of each.

    x: what goes into the first, with its batch axis; it stays as it is, as do they.
    """
    rows, sizes = [("(input)", str(tuple(x.shape)), "")], []
    for layer in modules:
        with torch.inference_mode():
            x = deepcopy(layer).eval()(x)  # a copy: running averages and modes stay
        sizes.append(sum(weight.numel() for weight in layer.parameters()))
        rows.append((type(layer).__name__, str(tuple(x.shape)), sizes[-1]))
    rows.append(("all", "", sum(sizes)))
    return table(("layer", "shape of its output", "parameters"), rows)
