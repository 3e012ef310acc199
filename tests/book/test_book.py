"""The book builds without a warning, and only after the gate has agreed."""

import re
import shutil

import pytest
import yaml
from fixtures_book import NOTEBOOKS, SCRIPTS, copy, require, run, toc_pages
from fixtures_course import ADDRESS, STEM, edit_source, tamper

from publish import chapters

PAGES = ("intro", "results", "how-this-book-is-made")  # a chapter points to them


def test_every_page_of_the_contents_is_built_and_shows_nothing_dead(site):
    assert {f"notebooks/{path.stem}" for path in NOTEBOOKS} <= set(toc_pages())
    for name in toc_pages():
        page = (site / f"{name}.html").read_text("utf-8")
        assert not re.search(r'href="[^"]*\bOWNER\b', page)  # no address, no link
        # A page has no kernel, so a stored view of a widget would be dead.
        assert "application/vnd.jupyter.widget-view+json" not in page


@pytest.fixture
def tiny(course):
    """Make a book of one small chapter, run and in order, and of the pages it needs."""
    require(shutil.which("make"), "make", "apt install make")
    copy(course, "Makefile", "_config.yml", "requirements-book.lock", "book")
    edit_source(course, "# ![A dot]", "# A dot is promised.\n#\n# ![A dot]")
    chapters.sync(course, STEM)
    for name in PAGES:
        (course / "book" / f"{name}.md").write_text(f"# The page {name}\n")
    files = [f"notebooks/{STEM}", *(f"book/{name}" for name in PAGES[1:])]
    parts = [{"caption": "Pages", "chapters": [{"file": name} for name in files]}]
    toc = {"format": "jb-book", "root": f"book/{PAGES[0]}", "parts": parts}
    (course / "_toc.yml").write_text(yaml.safe_dump(toc))
    (course / "book" / "vendor.py").write_text("")  # no browser will look
    (course / "book" / "_vendor").mkdir(exist_ok=True)
    (course / ".venv-book" / "bin").mkdir(parents=True)
    for name in ("python", "jupyter-book"):
        script = course / ".venv-book" / "bin" / name
        script.write_text(f'#!/bin/sh\nexec "{SCRIPTS / name}" "$@"\n')
        script.chmod(0o755)
    (course / ".venv-book" / "complete").touch()
    return course


def test_make_book_checks_builds_and_says_where(tiny):
    done = run("make", "book", cwd=tiny)
    assert done.returncode == 0, done.stdout
    assert done.stdout.index(f"{STEM}: OK") < done.stdout.index("Running Sphinx")
    assert done.stdout.rstrip().endswith(f"{tiny}/_build/html/index.html")
    page = (tiny / f"_build/html/notebooks/{STEM}.html").read_text("utf-8")
    assert f'google.com/github/{ADDRESS}/blob/main/notebooks/{STEM}.ipynb"' in page


def test_a_warning_stops_the_build(tiny):
    (tiny / "book" / "intro.md").write_text("# A page\n\n[lost](nowhere.md)\n")
    done = run("make", "book", cwd=tiny)
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout
    assert "The book is ready" not in done.stdout


TAMPERED = {
    "code": lambda book: book.cells[3].update(source="print(2 + 3)"),
    "outputs": lambda book: book.cells[3].update(outputs=[]),
    "stamp": lambda book: book.metadata.pop("genlab"),
}


@pytest.mark.parametrize("change", TAMPERED.values(), ids=TAMPERED)
def test_make_book_stops_at_a_chapter_that_was_tampered_with(tiny, change):
    tamper(tiny, change)
    done = run("make", "book", cwd=tiny)
    assert done.returncode != 0
    assert "run the chapter again" in done.stdout
    assert not (tiny / "_build").exists()
