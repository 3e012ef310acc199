"""The Markdown that this book makes from run cards, notebooks and tables."""

import re
import tomllib
from datetime import date
from pathlib import Path

import yaml

from publish import chapters, stamps
from publish.tokens import number_text

ATTACHED_IMAGE = re.compile(r"!\[([^\]]*)\]\(attachment:([^)\s]+)\)")
SHOWN_VERSIONS = ("torch", "numpy", "scikit-learn")
BARS = "book/bars.toml"
HEADINGS = "Measurement", "Value", "Floor", "Ceiling", "Bar"
HEADLINES = "What", "Ours", "Published", "Floor", "Ceiling", "Bar"
MARKUP = re.compile(r"([\\`*_\[\]<>|$~{}])")


# ---------------------------------------------------------------- the introduction


def cards(chapters: list[tuple[str, dict]]) -> str:
    """Return the grid of cards of all published (stem, notebook) pairs."""
    columns = "12" if len(chapters) == 1 else "12 12 6 6"
    items = [_card(stem, book.cells[0].source, columns) for stem, book in chapters]
    return "\n".join([":::::{grid}", ":gutter: 3", "", *items, ":::::", ""])


def _card(stem: str, text: str, columns: str) -> str:
    """Return one card: title, first paragraph and result picture of the opening."""
    title = re.search(r"^# (.+)$", text, re.M)[1]
    blocks = [" ".join(block.split()) for block in text.split("\n\n")]
    promise = next(block for block in blocks if re.match(r"[^#!\[<:]", block))
    lines = [f"::::{{grid-item-card}} {title}", f":columns: {columns}"]
    lines += [f":link: /notebooks/{stem}", ":link-type: doc", f":link-alt: {title}"]
    if picture := ATTACHED_IMAGE.search(text):
        lines.append(f":img-top: /book/_generated/{stem}/{picture[2]}")
        lines.append(f":img-alt: {picture[1]}")
    return "\n".join([*lines, "", promise, "::::"])


def course_path(chapters: list[tuple[str, dict]], plan_file: Path) -> str:
    """Return the whole path as a list that says which chapters can be read."""
    stems = {int(stem[:2]): stem for stem, _ in chapters}
    plan = yaml.safe_load(plan_file.read_text("utf-8"))
    lines = []
    for number, (title, about) in enumerate(plan.items(), start=1):
        if number in stems:
            link = f"[{title}](/notebooks/{stems[number]}.ipynb)"
            lines.append(f"{number}. **{link}.** {about}")
        else:
            lines.append(f"{number}. **{title}.** {about} *In preparation.*")
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------- the datasets page


def datasets(table: Path) -> str:
    """Return a section for each dataset, for weights and for pictures, from a table."""
    known = tomllib.loads(table.read_text("utf-8"))
    lines = []
    for name, entry in known["datasets"].items():
        citation = re.sub(r"(https?://\S+)", r"<\1>", entry["citation"])
        lines += [f"## {name}", "", f"- **Home:** <{entry['homepage']}>"]
        lines += [f"- **Size:** {entry['size']}", f"- **Licence:** {entry['licence']}"]
        lines += [f"- **Classes:** {', '.join(entry['classes'])}"]
        lines += [f"- **Folder:** `{entry['folder']}`", f"- **Cite as:** {citation}"]
        lines += ["", ":::{div} digests", "| File, unpacked | SHA-256 |", "|---|---|"]
        lines += [f"| `{file}` | `{sha}` |" for file, sha in entry["files"].items()]
        lines += [":::", ""]
    for title in ("Weights", "Pictures"):
        lines += [f"## {title}", "", "| Name | Licence | About |", "|---|---|---|"]
        for entry in known["known"]:
            if (entry["split"] == "weights") == (title == "Weights"):
                lines.append(_known(entry))
        lines.append("")
    return "\n".join(lines)


def _known(entry: dict) -> str:
    """Return the row of a file: its name, a link to it or to its makers, the rest."""
    name = entry["name"] + (f" ({entry['edition']})" if "edition" in entry else "")
    if address := entry.get("url") or entry.get("homepage"):
        name = f"[{name}]({address})"
    return f"| {name} | {entry['licence']} | {entry['about']} |"


# ---------------------------------------------------------------- the results page


def results(root: Path) -> dict[str, dict]:
    """Return {chapter: its run card, with its "title"} of every stamped notebook."""
    found = {}
    for stem in chapters.chapters(root):
        path = chapters.notebook_path(root, stem)
        book = chapters.read_notebook(path) if path.is_file() else None
        if book and "genlab" in book.metadata:
            title = [*re.findall(r"^# (.+)$", book.cells[0].source, re.M), stem][0]
            found[stem] = stamps.card(book, stem) | {"title": title.strip()}
    return found


def read_bars(root: Path) -> list[dict]:
    """Return the quality bars of book/bars.toml, which says what their fields mean."""
    return tomllib.loads((root / BARS).read_text(encoding="utf-8"))["bar"]


def results_page(root: Path) -> str:
    """Return what the results page makes of the cards: headlines, a table a chapter."""
    bars, cards = read_bars(root), results(root)
    headlines = [b for b in bars if "headline" in b and b["chapter"] in cards]
    lines = _table(HEADLINES, [_headline(bar, cards) for bar in headlines])
    for stem, card in cards.items():
        own = {bar["measurement"]: bar for bar in bars if bar["chapter"] == stem}
        where = f"[{_plain(stem)}](/{chapters.FOLDER}/{stem}.ipynb)"
        ran = f"`{card['profile']}` profile: {seconds_text(card['seconds'])} on"
        ran += f" {_plain(card['machine']['device'])}, {card['date']}"
        lines += [f"## {card['title']}", "", f"{where}, {ran}.", ""]
        entries = card["measurements"]
        barred, rest = (
            [
                _result(e, own.get(e["name"]))
                for e in entries
                if (e["name"] in own) == has
            ]
            for has in (True, False)
        )
        lines += _table(HEADINGS, barred)
        if rest:
            fold = (
                f":::{{dropdown}} All other measurements of this chapter: {len(rest)}"
            )
            lines += [fold, *_table(HEADINGS, rest), ":::", ""]
    return "\n".join(lines) or "No chapter has been published yet.\n"


def _table(headings: tuple[str, ...], rows: list[list[str]]) -> list[str]:
    """Return the lines of a table, or none if it has no row."""
    table = [headings, ["---"] * len(headings), *rows] if rows else []
    return [*(f"| {' | '.join(row)} |" for row in table), ""]


def _headline(bar: dict, cards: dict[str, dict]) -> list[str]:
    """Return the row of a headline: what, ours, published, both ends, bar."""
    entries = cards[bar["chapter"]]["measurements"]
    entry = next(e for e in entries if e["name"] == bar["measurement"])
    what = f"[{_plain(bar['headline'])}](/{chapters.FOLDER}/{bar['chapter']}.ipynb)"
    return [what, _value(entry), bar.get("published", ""), *_ends(entry, bar)]


def _result(entry: dict, bar: dict | None) -> list[str]:
    """Return the row of a measurement: name and notes, value, both ends, bar."""
    notes = [entry["name"], entry["note"]]
    if bar and bar["target"] != bar["accepted"]:
        notes.append(f"Accepted is {number_text(bar['accepted'])}: {bar['reason']}")
    name = ". ".join(note.rstrip(".") for note in notes if note)
    return [_plain(name), _value(entry), *_ends(entry, bar)]


def _value(entry: dict) -> str:
    value = f"{number_text(entry['value'], entry['spread'])} {entry['unit']}".rstrip()
    if entry["seeds"] is not None:
        value += f" ({entry['seeds']} seed{'' if entry['seeds'] == 1 else 's'})"
    return _plain(value)


def _ends(entry: dict, bar: dict | None) -> list[str]:
    """Return floor, ceiling and bar, with whether it is met."""
    ends = [number_text(entry[key]) for key in ("floor", "ceiling")]
    if not bar:
        return [*ends, ""]
    sign, way = {"<=": ("≤", -1), ">=": ("≥", 1)}[bar["comparison"]]
    met = "met" if way * (entry["value"] - bar["target"]) >= 0 else "**not met**"
    return [*ends, f"{sign} {number_text(bar['target'])} {met}"]


def _plain(text: str) -> str:
    return MARKUP.sub(r"\\\1", " ".join(text.split()))


# ---------------------------------------------------------------- chapter pages


def seconds_text(seconds: float) -> str:
    """Say a duration the way people do: 8.4 s, 6 min 05 s, 1 h 10 min."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def measured_line(card: dict) -> str:
    """Return the line near a chapter's top: how long, on what, from which data."""
    return (
        f":::{{div}} measured-run\n**Measured run:** {seconds_text(card['seconds'])} "
        f"on {card['machine']['device']}, `{card['profile']}` profile. "
        f"Data: {_data(card)}.\n:::"
    )


def footer(docname: str, card: dict, stamp: dict) -> str:
    """Return a chapter's last paragraph: where its page comes from."""
    day = date.fromisoformat(card["date"])
    found = [name for name in SHOWN_VERSIONS if name in card["versions"]]
    versions = ", ".join(f"{name} {card['versions'][name]}" for name in found)
    digests = [f"{part} `{stamp[part][:12]}`" for part in ("code", "outputs")]
    helpers = stamp["helpers"]
    known = f"`{helpers[:12]}`" if helpers != stamps.UNKNOWN else "not recorded"
    digests = ", ".join([*digests, f"helpers {known}"])
    return (
        ":::{div} measured-run\n**Where this page comes from.** "
        f"It is `{docname}.ipynb` as it ran on {day.day} {day:%B %Y}: "
        f"`{card['profile']}` profile, seed {card['seed']}, "
        f"{seconds_text(card['seconds'])} on {card['machine']['device']}, with "
        f"{versions}. Data: {_data(card)}. Digests (first 12 digits): {digests}.\n\n"
        "[What the digests prove](/book/how-this-book-is-made.md) · "
        "[All results](/book/results.md)\n:::"
    )


def _data(card: dict) -> str:
    """Say which data a run used: names, splits, number of images, digests."""
    splits = {}
    for use in card["data"]:
        split = f"{use['split']}: {use['count']:,}, sha256 `{use['sha256'][:12]}`"
        splits.setdefault(use["name"], []).append(split)
    uses = [f"{name} ({'; '.join(parts)})" for name, parts in splits.items()]
    return "; ".join(uses) or "made in the notebook"
