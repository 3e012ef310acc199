"""The book builds without a warning, and only after the gate has agreed."""

import shutil
import sys

import fixtures_book
import nbformat
import pytest
from fixtures_book import copy_tree, require, run, toc_pages


@pytest.fixture(scope="session")
def site(pytestconfig, tmp_path_factory):
    return fixtures_book.built_book(pytestconfig, tmp_path_factory)


def test_every_page_of_the_contents_is_built_without_a_warning(site):
    assert toc_pages()
    missing = [name for name in toc_pages() if not (site / f"{name}.html").is_file()]
    assert not missing


def test_no_widget_promises_more_than_a_page_can_do(site):
    """A page has no kernel, so a stored view of a widget would be dead."""
    for path in fixtures_book.chapters():
        page = (site / "notebooks" / f"{path.stem}.html").read_text(encoding="utf-8")
        assert "application/vnd.jupyter.widget-view+json" not in page


def test_a_warning_stops_the_build(tmp_path):
    tree = copy_tree(tmp_path / "tree")
    page = tree / f"{toc_pages()[0]}.md"
    page.write_text(
        page.read_text(encoding="utf-8") + "\n\n[lost](nowhere.md)\n", encoding="utf-8"
    )
    done = fixtures_book.build(tree)
    assert done.returncode != 0
    assert "nowhere.md" in done.stdout


@pytest.fixture
def tree(tmp_path):
    """Copy the repository, with a light environment that only notes the build."""
    require(shutil.which("make"), "make", "apt install make")
    require(fixtures_book.chapters(), "a chapter", "make run CHAPTER=01")
    tree = copy_tree(tmp_path / "tree")
    scripts = tree / ".venv-book" / "bin"
    scripts.mkdir(parents=True)
    for name, line in {
        "python": f'exec "{sys.executable}" "$@"',
        "jupyter-book": 'echo "built: $*" >> builds.txt',
    }.items():
        (scripts / name).write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        (scripts / name).chmod(0o755)
    (tree / "book" / "vendor.py").write_text("", encoding="utf-8")
    (tree / ".venv-book" / "complete").touch()
    return tree


def test_make_book_checks_builds_and_says_where(tree):
    done = run("make", "book", cwd=tree)
    assert done.returncode == 0, done.stdout
    assert (tree / "builds.txt").read_text() == "built: build . -W -n --keep-going\n"
    assert done.stdout.rstrip().endswith(f"{tree}/_build/html/index.html")


@pytest.mark.parametrize("part", ["code", "outputs", "stamp"])
def test_make_book_stops_at_a_chapter_that_was_tampered_with(tree, part):
    path = tree / "notebooks" / fixtures_book.chapters()[0].name
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if part == "code":
        cells[0].source += "\nprint('added after the run')"
    elif part == "outputs":
        cells[-1].outputs = []
        cells[0].outputs = [nbformat.v4.new_output("stream", text="0.99 accuracy\n")]
    else:
        del notebook.metadata["genlab"]
    nbformat.write(notebook, path)

    done = run("make", "book", cwd=tree)

    assert done.returncode != 0
    assert path.stem in done.stdout
    assert not (tree / "builds.txt").exists()
