"""Small tables for a page: rows of results, and the layers of a network."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

import torch
from IPython.display import Markdown
from torch import nn

from genlab_helpers.card import number_text


def table(columns: Sequence[str], rows: Iterable[Sequence]) -> Markdown:
    """Return a table to display: numbers are rounded for reading, texts kept.

    rows: each as long as `columns`; else ValueError.
    """
    lines = [list(columns), ["---"] * len(columns)]
    for row in rows:
        if len(row) != len(columns):
            raise ValueError(f"a row of {len(columns)} entries is needed, not {row}")
        lines.append([v if isinstance(v, str) else number_text(v) for v in row])
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def layers(modules: Iterable[nn.Module], x: torch.Tensor) -> Markdown:
    """Return a table of layers applied in a row: output shape and parameters of each.

    x: what goes into the first, with its batch axis; it is not changed, and neither
    are the layers.
    """
    rows, modules = [("(input)", str(tuple(x.shape)), "")], list(modules)
    for layer in modules:
        with torch.inference_mode():
            x = deepcopy(layer).eval()(x)  # a copy: running averages and modes stay
        rows.append((type(layer).__name__, str(tuple(x.shape)), _size(layer)))
    rows.append(("all", "", sum(_size(layer) for layer in modules)))
    return table(("layer", "shape of its output", "parameters"), rows)


def _size(layer: nn.Module) -> int:
    return sum(parameter.numel() for parameter in layer.parameters())
