"""Numbers in sentences: `{{name of a measurement | spread .2f}}` in a chapter's prose.

After the bar, both optional: a field (value, if none is named) and a Python format.
Another chapter's measurement is `{{05_cgan / its name}}`.
"""

import math
import re
from collections.abc import Callable

from publish import ChapterError

FIELDS = ("value", "spread", "floor", "ceiling", "seeds")
OTHER_CHAPTER = re.compile(r"(\d\d_\w+) / (.+)")
# From left to right: what stays as it stands, or a token.
PARTS = re.compile(
    r"""
      ^[ >]*(?P<fence>`{3,}|~{3,}).*?(?:^[ >]*(?P=fence)[`~]*[ ]*$|\Z)  # code
    | (?<!\\)(?P<ticks>`++)(?:(?!\n\s*\n).)+?(?<!`)(?P=ticks)(?!`)
    | \\begin\{(?P<name>\w+\*?)\}.*?\\end\{(?P=name)\}  # formulas
    | \$\$.*?\$\$
    | (?<!\\)\$(?:\\.|[^$\\\n]|\n(?!\s*\n))+\$
    | \{\{(?P<token>[^{}]+)\}\}
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)

# Of another chapter, or with None of the own one: the run's measurements, if it ran.
Measured = Callable[[str | None], list[dict] | None]


def fill(text: str, address: str, measured: Measured) -> tuple[str, list[str]]:
    """Return Markdown with its tokens filled, and what is wrong, a line each.

    A token stays as it stands if something is wrong with it, or no run has its number.
    """
    problems = []

    def filled(part: re.Match) -> str:
        try:
            return (part["token"] and _text(part, address, measured)) or part[0]
        except ChapterError as error:
            problems.append(f"{_shown(part)}: {error}")
            return part[0]

    return PARTS.sub(filled, text), problems


def left(text: str) -> list[str]:
    """Return the tokens that stand in Markdown."""
    return [_shown(part) for part in PARTS.finditer(text) if part["token"]]


def _shown(part: re.Match) -> str:
    return " ".join(part[0].split())


def _text(part: re.Match, address: str, measured: Measured) -> str | None:
    name, _, form = (text.strip() for text in _shown(part)[2:-2].partition("|"))
    if name == "repository":
        return address
    other = OTHER_CHAPTER.fullmatch(name)
    chapter, name = other.groups() if other else (None, name)
    entries = measured(chapter)
    if entries is None:
        return None
    found = {entry["name"]: entry for entry in entries}
    if name not in found:
        names = ", ".join(found) or "none"
        raise ChapterError(f"no run measured {name!r}; measured are: {names}")
    entry, (field, _, spec) = found[name], form.partition(" ")
    if field not in FIELDS:
        field, spec = "value", form
    if entry[field] is None:
        there = ", ".join(name for name in FIELDS if entry[name] is not None)
        raise ChapterError(f"{name!r} has no {field}; it has: {there}")
    try:
        return format(entry[field], spec) if spec else number_text(entry[field])
    except ValueError:
        raise ChapterError(
            f"{spec!r} does not fit {entry[field]!r}; after the bar comes one of"
            f" {', '.join(FIELDS)}, or a format such as .2f, or both"
        ) from None


def number_text(value: float | None, spread: float | None = None) -> str:
    """Round for reading: to two digits of the spread, else to four digits in all."""
    if value is None:
        return ""
    if spread is not None:
        if not 1e-6 <= spread < 1e6:
            return f"{number_text(value)} ± {spread:.2g}"
        digits = max(1 - math.floor(math.log10(spread)), 0)
        return f"{value:,.{digits}f} ± {spread:,.{digits}f}"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if 1000 <= abs(value) < 1e9 else f"{value:.4g}"
