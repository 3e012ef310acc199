"""The Markdown that this book makes from stamps, notebooks and tables."""

import re
from datetime import date
from pathlib import Path

import yaml

from genlab_helpers.card import seconds_text
from genlab_helpers.sources import SOURCES

ATTACHED_IMAGE = re.compile(r"!\[([^\]]*)\]\(attachment:([^)\s]+)\)")
SHOWN_VERSIONS = ("torch", "numpy", "scikit-learn")


def source_text(cell: dict) -> str:
    """Return a cell's source as one string."""
    return "".join(cell["source"])


# ---------------------------------------------------------------- the introduction


def cards(chapters: list[tuple[str, dict]]) -> str:
    """Return the grid of cards of all published (stem, notebook) pairs."""
    columns = "12" if len(chapters) == 1 else "12 12 6 6"
    items = [_card(stem, book["cells"][0], columns) for stem, book in chapters]
    return "\n".join([":::::{grid}", ":gutter: 3", "", *items, ":::::", ""])


def _card(stem: str, opening: dict, columns: str) -> str:
    """Return one card: title, first paragraph and result picture of the opening."""
    text = source_text(opening)
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


def datasets() -> str:
    """Return a section for each dataset, from the table that the loader uses."""
    lines = []
    for source in SOURCES.values():
        citation = re.sub(r"(https?://\S+)", r"<\1>", source.citation)
        lines += [f"## {source.name}", "", f"- **Home:** <{source.homepage}>"]
        lines += [f"- **Size:** {source.size}", f"- **Licence:** {source.licence}"]
        lines += [f"- **Classes:** {', '.join(source.classes)}"]
        lines += [f"- **Folder:** `{source.folder}`", f"- **Cite as:** {citation}", ""]
        lines += [":::{div} digests", "| File, decompressed | SHA-256 |", "|---|---|"]
        lines += [f"| `{name}` | `{sha}` |" for name, sha in source.files.items()]
        lines += [":::", ""]
    return "\n".join(lines)


# ---------------------------------------------------------------- chapter pages


def measured_line(stamp: dict) -> str:
    """Return the line near a chapter's top: how long, on what, from which data."""
    return (
        f":::{{div}} measured-run\n**Measured run:** {seconds_text(stamp['seconds'])} "
        f"on {stamp['device']}, `{stamp['profile']}` profile. "
        f"Data: {_data(stamp)}.\n:::"
    )


def footer(docname: str, stamp: dict) -> str:
    """Return a chapter's last paragraph: where its page comes from."""
    day = date.fromisoformat(stamp["date"])
    found = [name for name in SHOWN_VERSIONS if name in stamp["versions"]]
    versions = ", ".join(f"{name} {stamp['versions'][name]}" for name in found)
    parts = ("code", "outputs", "stamp")
    digests = ", ".join(f"{part} `{stamp[part][:12]}`" for part in parts)
    return (
        ":::{div} measured-run\n**Where this page comes from.** "
        f"It is `{docname}.ipynb` as it ran on {day.day} {day:%B %Y}: "
        f"`{stamp['profile']}` profile, seed {stamp['seed']}, "
        f"{seconds_text(stamp['seconds'])} on {stamp['device']}, with {versions}. "
        f"Data: {_data(stamp)}. Digests (their first 12 digits): {digests}.\n\n"
        "[What the digests prove](/book/how-this-book-is-made.md) · "
        "[All results](/book/results.md)\n:::"
    )


def _data(stamp: dict) -> str:
    """Say which data a run used: names, splits, number of images, digests."""
    splits = {}
    for use in stamp["data"]:
        split = f"{use['split']}: {use['count']:,}, sha256 `{use['sha256'][:12]}`"
        splits.setdefault(use["name"], []).append(split)
    uses = [f"{name} ({'; '.join(parts)})" for name, parts in splits.items()]
    return "; ".join(uses) or "made in the notebook"
