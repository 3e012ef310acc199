"""The run card: how a record looks at the end of a chapter."""

import math
from html import escape
from typing import Any

MIME = "application/vnd.genlab.record+json"

# Only inherited colours, so that the card reads in JupyterLab, Colab and the book,
# light and dark. A wide table scrolls inside its own box on a phone.
_LINE = (
    "border:0;border-bottom:1px solid color-mix(in srgb,currentColor 25%,transparent)"
)
_CELL = (
    f"{_LINE};padding:.35em 1em .35em 0;text-align:left;vertical-align:top;"
    "color:inherit;background:none"
)
_BOX = "overflow-x:auto;max-width:100%;margin:0 0 1em 0"
_TABLE = "border-collapse:collapse;margin:0;color:inherit"
_CAPTION = (
    "caption-side:top;text-align:left;font-weight:bold;color:inherit;padding:.3em 0"
)
_HEADINGS = ("Measurement", "Value", "Unit", "Floor", "Ceiling", "Note")


class RunCard:
    """A record to look at: HTML and plain text for people, and its dictionary.

    facts: a record as `RunRecord.to_dict` gives it.
    """

    def __init__(self, facts: dict[str, Any]):
        self.facts = facts

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, Any]:
        return {
            "text/html": _html(self.facts),
            "text/plain": repr(self),
            MIME: self.facts,
        }

    def __repr__(self) -> str:
        lines = [
            f"{heading}: {text} {digest[:12]}".rstrip()
            for heading, text, digest in _run_rows(self.facts)
        ]
        for entry in self.facts["measurements"]:
            value, unit, *_ = _result_cells(entry)
            lines.append(f"{entry['name']}: {value} {unit}".rstrip())
        return "\n".join(lines)


def seconds_text(seconds: float) -> str:
    """Say a duration the way people do: 8.4 s, 6 min 05 s, 1 h 10 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def memory_text(size: int) -> str:
    """Say a number of bytes in MB (10**6 bytes) or GB (10**9 bytes)."""
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


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


def _origin(entry: dict[str, Any]) -> str:
    kind = "numbers" if entry["split"] == "weights" else "images"
    text = f"{entry['name']}, {entry['split']}, {entry['count']:,} {kind}"
    if entry["source"] == "stand-in":
        text += " (a stand-in, not the real data set: only the method is shown)"
    return f"{text}, sha256"


def _run_rows(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return (heading, text, digest or "") for each line of the first table."""
    machine = facts["machine"]
    memory = memory_text(facts["peak_memory_bytes"])
    if facts["peak_device_memory_bytes"] is not None:
        memory += f", and {memory_text(facts['peak_device_memory_bytes'])} on the GPU"
    time = seconds_text(facts["seconds"])
    if facts["resumed_seconds"]:
        time += f", {seconds_text(facts['resumed_seconds'])} of it before a restart"
    where = f"{machine['device']}, {machine['system']}, Python {machine['python']}"
    versions = ", ".join(f"{name} {text}" for name, text in facts["versions"].items())
    return [
        ("What it ran on", where, ""),
        *(("Data", _origin(entry), entry["sha256"]) for entry in facts["data"]),
        ("Profile", facts["profile"], ""),
        ("Time", time, ""),
        ("Peak memory", memory, ""),
        ("Versions", versions, ""),
        ("Seed", str(facts["seed"]), ""),
        ("Date", facts["date"], ""),
    ]


def _result_cells(entry: dict[str, Any]) -> list[str]:
    """Return value, unit, floor, ceiling and note of a measurement as texts."""
    value = number_text(entry["value"], entry["spread"])
    if entry["seeds"] is not None:
        value += f" ({entry['seeds']} seed{'' if entry['seeds'] == 1 else 's'})"
    bounds = [number_text(entry[key]) for key in ("floor", "ceiling")]
    return [value, entry["unit"], *bounds, entry["note"]]


def _box(title: str, chapter: str, rows: str) -> str:
    """Return a captioned table in a box that scrolls, by keyboard too."""
    label = escape(f"{title} of {chapter}")
    return (
        f'<div role="region" aria-label="{label}" tabindex="0" style="{_BOX}">'
        f'<table style="{_TABLE}"><caption style="{_CAPTION}">{title}</caption>'
        f"{rows}</table></div>"
    )


def _cell(text: str, extra: str = "") -> str:
    return f'<td style="{_CELL}{extra}">{escape(text)}</td>'


def _heading(text: str, scope: str, extra: str = "") -> str:
    return f'<th scope="{scope}" style="{_CELL}{extra}">{escape(text)}</th>'


def _run_table(facts: dict[str, Any]) -> str:
    rows = ""
    for heading, text, digest in _run_rows(facts):
        cell = escape(text)
        if digest:
            cell += f' <code title="{escape(digest)}">{escape(digest[:12])}</code>'
        name = _heading(heading, "row", ";white-space:nowrap")
        rows += f'<tr>{name}<td style="{_CELL}">{cell}</td></tr>'
    return _box("Run card", facts["chapter"], f"<tbody>{rows}</tbody>")


def _result_table(facts: dict[str, Any]) -> str:
    if not facts["measurements"]:
        return ""
    head = "".join(_heading(text, "col") for text in _HEADINGS)
    rows = ""
    for entry in facts["measurements"]:
        *numbers, note = _result_cells(entry)
        rows += f"<tr>{_heading(entry['name'], 'row')}"
        rows += "".join(_cell(text, ";white-space:nowrap") for text in numbers)
        rows += f"{_cell(note, ';min-width:12em')}</tr>"
    body = f"<thead><tr>{head}</tr></thead><tbody>{rows}</tbody>"
    return _box("Measurements", facts["chapter"], body)


def _html(facts: dict[str, Any]) -> str:
    tables = _run_table(facts) + _result_table(facts)
    return f'<div class="genlab-run-card">{tables}</div>'
