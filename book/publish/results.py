"""What the published chapters measured, read from their run cards and nowhere else."""

import re
import tomllib
from pathlib import Path

from publish import chapters, stamps
from publish.tokens import number_text, seconds_text

BARS = "book/bars.toml"
HEADINGS = "Measurement", "Value", "Floor", "Ceiling", "Target", "Accepted", "Note"
SPECIAL = re.compile(r"([\\`*_\[\]<>|$~{}])")  # what Markdown would take for markup


def results(root: Path) -> dict[str, dict]:
    """Return {chapter: its run card, with its "title"} of every stamped notebook."""
    found = {}
    for stem in chapters.chapters(root):
        path = chapters.notebook_path(root, stem)
        book = chapters.read_notebook(path) if path.is_file() else None
        if book and "genlab" in book.metadata:
            title = re.search(r"^# (.+)$", book.cells[0].source, re.MULTILINE)
            name = title[1].strip() if title else stem
            found[stem] = stamps.card(book, stem) | {"title": name}
    return found


def read_bars(root: Path) -> list[dict]:
    """Return the quality bars of book/bars.toml, which says what their fields mean."""
    return tomllib.loads((root / BARS).read_text(encoding="utf-8"))["bar"]


def results_markdown(root: Path) -> str:
    """Return the results page's part that is made from the cards: a table a chapter."""
    bars = {(bar["chapter"], bar["measurement"]): bar for bar in read_bars(root)}
    parts = []
    for stem, card in results(root).items():
        entries = card["measurements"]
        rows = [_cells(entry, bars.get((stem, entry["name"]))) for entry in entries]
        table = [HEADINGS, ["---"] * len(HEADINGS), *rows] if rows else []
        lines = [f"| {' | '.join(row)} |" for row in table]
        head = f"## {card['title']}\n\n{_origin(stem, card)}\n"
        parts.append("\n".join([head, *lines, ""]))
    return "\n".join(parts) or "No chapter has been published yet.\n"


def _origin(stem: str, card: dict) -> str:
    data = [
        f"{_plain(use['name'])}, {use['split']} split (sha256 `{use['sha256'][:12]}`)"
        for use in card["data"]
    ]
    return (
        f"[{_plain(stem)}](/{chapters.FOLDER}/{stem}.ipynb), `{card['profile']}`"
        f" profile: {seconds_text(card['seconds'])} on"
        f" {_plain(card['machine']['device'])}, {card['date']}."
        f" Data: {'; '.join(data) or 'made in the notebook'}."
    )


def _cells(entry: dict, bar: dict | None) -> list[str]:
    value = f"{number_text(entry['value'], entry['spread'])} {entry['unit']}".rstrip()
    if entry["seeds"] is not None:
        value += f" ({entry['seeds']} seed{'' if entry['seeds'] == 1 else 's'})"
    notes = [entry["note"]] if entry["note"] else []
    limits = ["", ""]
    if bar:
        sign = {"<=": "≤", ">=": "≥"}[bar["comparison"]]
        limits = [f"{sign} {number_text(bar[key])}" for key in ("target", "accepted")]
        if bar["target"] != bar["accepted"]:
            notes.append(f"Accepted differs from the target: {bar['reason']}")
    ends = [number_text(entry[key]) for key in ("floor", "ceiling")]
    notes = [note if note.endswith((".", "!", "?")) else f"{note}." for note in notes]
    return [*map(_plain, [entry["name"], value, *ends, *limits, " ".join(notes)])]


def _plain(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
