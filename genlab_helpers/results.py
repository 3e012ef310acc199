"""What the published chapters measured, read from their notebooks and nowhere else."""

import re
import tomllib
from pathlib import Path

from genlab_helpers import pairs
from genlab_helpers.card import number_text, seconds_text

BARS = Path("tests") / "bars.toml"
BAR_FIELDS = {
    "chapter": str,
    "measurement": str,
    "comparison": str,
    "target": int | float,
    "accepted": int | float,
    "reason": str,
}
HEADINGS = "Measurement", "Value", "Floor", "Ceiling", "Target", "Accepted", "Note"
SPECIAL = re.compile(r"([\\`*_\[\]<>|$~{}])")  # what Markdown would take for markup


def results(root: Path) -> dict[str, dict]:
    """Return {chapter: {"title", "stamp", "measurements"}} of every stamped notebook.

    "stamp" is metadata.genlab without the record, "measurements" the record's list.
    Raises ChapterError for a notebook that cannot be read.
    """
    found = {}
    for stem in pairs.chapters(root):
        path = pairs.notebook_path(root, stem)
        book = pairs.read_notebook(path) if path.is_file() else None
        if book is None or "genlab" not in book.metadata:
            continue
        stamp = dict(book.metadata["genlab"])
        title = re.search(r"^# (.+)$", book.cells[0].source, re.MULTILINE)
        found[stem] = {
            "title": title[1].strip() if title else stem,
            "measurements": stamp.pop("record")["measurements"],
            "stamp": stamp,
        }
    return found


def read_bars(root: Path) -> list[dict]:
    """Return the quality bars of tests/bars.toml, which says what their fields mean.

    [] if there is no such file. Raises ChapterError for a bar that is not complete
    or a measurement with two bars.
    """
    path = root / BARS
    if not path.is_file():
        return []
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8")).get("bar", [])
    except tomllib.TOMLDecodeError as error:
        raise pairs.ChapterError(f"{BARS} is no valid TOML: {error}") from error
    for number, bar in enumerate(found, start=1):
        fits = set(bar) == set(BAR_FIELDS) and bar["comparison"] in ("<=", ">=")
        if not fits or not all(isinstance(bar[k], t) for k, t in BAR_FIELDS.items()):
            raise pairs.ChapterError(
                f"{BARS}: bar {number} must have exactly {', '.join(BAR_FIELDS)};"
                f' comparison is "<=" or ">=". It is: {bar}'
            )
    keys = [(bar["chapter"], bar["measurement"]) for bar in found]
    for key in keys:
        if keys.count(key) > 1:
            raise pairs.ChapterError(f"{BARS}: two bars for {key}; keep one")
    return found


def results_markdown(root: Path) -> str:
    """Return the results page's part that is made from the stamps: a table a chapter.

    Links lead to `/notebooks/NN_name.ipynb`, which the book resolves.
    """
    bars = {(bar["chapter"], bar["measurement"]): bar for bar in read_bars(root)}
    parts = []
    for stem, chapter in results(root).items():
        lines = [f"## {chapter['title']}", "", _origin(stem, chapter["stamp"])]
        if chapter["measurements"]:
            lines += ["", _row(HEADINGS), _row(["---"] * len(HEADINGS))]
        for entry in chapter["measurements"]:
            lines.append(_row(_cells(entry, bars.get((stem, entry["name"])))))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts) or "No chapter has been published yet.\n"


def _origin(stem: str, stamp: dict) -> str:
    data = [
        f"{_plain(use['name'])}, {use['split']} split (sha256 `{use['sha256'][:12]}`)"
        for use in stamp["data"]
    ]
    return (
        f"[{_plain(stem)}](/{pairs.FOLDER}/{stem}.ipynb), `{stamp['profile']}` profile:"
        f" {seconds_text(stamp['seconds'])} on {_plain(stamp['device'])},"
        f" {stamp['date']}. Data: {'; '.join(data) or 'made in the notebook'}."
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


def _row(cells) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    return SPECIAL.sub(r"\\\1", " ".join(text.split()))
