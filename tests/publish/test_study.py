"""Questions and exercises, as the pages of the book show them."""

import re

import yaml
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

from _ext import genlab_study as study
from publish import chapters

FILE = "book/questions.yml"


def test_every_chapter_asks_five_questions_with_one_right_answer(root):
    asked = yaml.safe_load((root / FILE).read_text("utf-8"))
    assert [*asked] == chapters.chapters(root)
    for stem, entries in asked.items():
        text = study.questions(stem, root / FILE)
        assert text.count("**Question ") == text.count("<strong>Right.") == 5
        assert text.count("<details") == text.count("</details>") == 15
        places = [entry["right"] for entry in entries]
        assert {1, 2, 3} == set(places), stem  # no place is always right
        assert all(len(entry["options"]) == 3 for entry in entries)
    assert study.questions("99_none", root / FILE) == ""


def test_all_exercises_are_listed_with_their_difficulty(root):
    book = new_notebook()
    exercise = "**2. Units.** *(easy)* Multiply."
    book.cells = [new_markdown_cell(exercise), new_code_cell("**3. No.** *(hard)*")]
    row = study.exercises([("03_gan", book)]).splitlines()[-1]
    assert row == "| [3](/notebooks/03_gan.ipynb) | 2. Units | easy |"
    notebook = chapters.read_notebook(chapters.notebook_path(root, "02_autoencoders"))
    listed = study.exercises([("02_autoencoders", notebook)])
    numbers = [int(n) for n in re.findall(r"\| (\d+)\. ", listed)]
    assert numbers == list(range(1, len(numbers) + 1))
