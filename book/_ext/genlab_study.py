"""What helps to study: questions at the end of a chapter, and a list of exercises."""

import re
from html import escape
from pathlib import Path

import yaml

EXERCISE = re.compile(r"^\*\*(\d+)\. (.+?)\.?\*\* \*\((.+?)\)\*", re.MULTILINE)


def questions(stem: str, file: Path) -> str:
    """Return the questions of a chapter, each answer with its explanation, or ""."""
    asked = yaml.safe_load(file.read_text("utf-8")).get(stem, [])
    blocks = [
        "## Test yourself",
        "",
        "Choose an answer to see what is to be said of it.",
    ]
    for number, entry in enumerate(asked, start=1):
        blocks += ["", f"**Question {number}.** {entry['ask']}", ""]
        for place, (text, why) in enumerate(entry["options"], start=1):
            verdict = "Right." if place == entry["right"] else "No."
            blocks += [
                f'<details class="answer"><summary>{escape(text)}</summary>',
                f"<p><strong>{verdict}</strong> {escape(why)}</p></details>",
            ]
    return "\n".join(blocks) if asked else ""


def exercises(books: list[tuple[str, dict]]) -> str:
    """Return a table of all exercises: chapter, exercise, how hard."""
    lines = ["| Chapter | Exercise | Difficulty |", "| --- | --- | --- |"]
    for stem, book in books:
        for cell in book.cells:
            found = (
                EXERCISE.findall(cell.source) if cell.cell_type == "markdown" else ()
            )
            for number, title, difficulty in found:
                link = f"[{int(stem[:2])}](/notebooks/{stem}.ipynb)"
                lines.append(f"| {link} | {number}. {title} | {difficulty} |")
    return "\n".join([*lines, ""])
