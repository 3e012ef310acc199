"""The pair: derived in one direction, completely, and without losing anything."""

import os
import shutil

import nbformat
import pytest
from fixtures_course import ADDRESS, PIXEL, STEM, edit_source, read, set_address, tamper

from genlab_helpers import pairs, stamps
from genlab_helpers.pairs import TOKEN, ChapterError


def files(root) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "notebooks").iterdir()}


def shown(root) -> dict[str, list]:
    """Return source -> outputs of the cells that were run."""
    cells = stamps.code_cells(read(root))
    return {cell.source: cell.outputs for cell in cells if cell.execution_count}


def test_every_chapter_is_in_step_byte_for_byte(root, chapter, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(root / "notebooks", copy / "notebooks")
    shutil.copy(root / "pyproject.toml", copy)
    assert pairs.notebook_path(copy, chapter).is_file(), f"run the chapter: {chapter}"
    assert not pairs.sync(copy, chapter), "run: make sync"
    assert files(copy) == files(root)


def test_sync_writes_the_notebook_that_the_source_stands_for(course):
    notebook = pairs.notebook_path(course, STEM)
    notebook.unlink()
    assert pairs.sync(course, STEM)
    book = read(course)
    kinds = [cell.cell_type for cell in book.cells]
    assert kinds == ["markdown", "code"] * 2 + ["code"] + ["markdown", "code"] * 2
    assert book.cells[3].source == "print(2 + 2)"
    assert book.cells[4].metadata == {
        "tags": ["result-picture"],
        "mystnb": {"image": {"alt": "A dot"}},
    }
    assert book.metadata == pairs.METADATA
    assert (book.nbformat, book.nbformat_minor) == (4, 5)
    assert shown(course) == {}


def test_sync_twice_changes_nothing(course):
    edit_source(course, "Two and two.", "Two.")
    assert pairs.sync(course, STEM)
    before = files(course)
    assert not pairs.sync(course, STEM)
    assert files(course) == before


def test_sync_never_touches_the_source(course):
    tamper(course, lambda book: book.cells[3].update(source="print(9)"))
    path = pairs.notebook_path(course, STEM)
    os.utime(path, (4e9, 4e9))  # newer than the source
    source = files(course)[f"{STEM}.py"]
    assert pairs.sync(course, STEM)
    assert files(course)[f"{STEM}.py"] == source
    assert read(course).cells[3].source == "print(2 + 2)"


def test_unchanged_cells_keep_outputs_and_changed_ones_lose_them(course):
    before = shown(course)
    edit_source(course, "print(2 + 2)", "print(2 + 3)")
    pairs.sync(course, STEM)
    del before["print(2 + 2)"]
    assert shown(course) == before


def test_the_same_code_twice_keeps_the_outputs_in_order(course):
    edit_source(course, "1 + 1\n", "1 + 1\n\n# %%\n1 + 1\n")
    pairs.sync(course, STEM)

    def run(book):
        for number, cell in enumerate(book.cells[-2:]):
            cell.execution_count = number + 5
            data = {"text/plain": str(number)}
            cell.outputs = [nbformat.v4.new_output("display_data", data=data)]

    tamper(course, run)
    edit_source(course, "Add one and one", "Add")
    pairs.sync(course, STEM)
    last = read(course).cells[-2:]
    assert [c.outputs[0]["data"]["text/plain"] for c in last] == ["0", "1"]
    assert len({cell.id for cell in last}) == 2


def test_stamp_and_attachments_stay(course):
    before = read(course)
    edit_source(course, "A tiny chapter", "A small chapter")
    pairs.sync(course, STEM)
    after = read(course)
    assert after.metadata["genlab"] == before.metadata["genlab"]
    assert after.cells[0].attachments == {"result.png": {"image/png": PIXEL}}


def test_what_jupyter_adds_is_taken_out_again(course):
    before = files(course)

    def change(book):
        book.metadata["widgets"] = {"state": {}}
        book.metadata["kernelspec"]["name"] = "mine"
        for cell in book.cells:
            cell.metadata["collapsed"] = False
            cell.id = f"x{cell.id}"

    tamper(course, change)
    assert pairs.sync(course, STEM)
    assert files(course) == before


def test_ids_come_from_the_content(course):
    before = [cell.id for cell in read(course).cells]
    edit_source(course, "Two and two.", "Two.")
    set_address(course, "else/where")
    pairs.sync(course, STEM)
    after = [cell.id for cell in read(course).cells]
    differ = [i for i in range(len(before)) if before[i] != after[i]]
    assert differ == [2]


def test_the_address_stands_in_the_notebook_and_the_token_in_the_source(course):
    text = files(course)[f"{STEM}.ipynb"].decode()
    assert text.count(ADDRESS) == 2
    assert TOKEN not in text
    set_address(course, "else/where.git")
    assert pairs.repository(course) == "else/where"
    before = list(shown(course).values())
    pairs.sync(course, STEM)
    text = files(course)[f"{STEM}.ipynb"].decode()
    assert text.count("else/where") == 2
    assert ADDRESS not in text
    assert list(shown(course).values()) == before


@pytest.mark.parametrize(
    "text", ["", "[project]\n", "[project.urls]\nRepository = 'x'\n", "[["]
)
def test_a_missing_address_is_explained(course, text):
    (course / "pyproject.toml").write_text(text)
    before = files(course)
    with pytest.raises(ChapterError, match=r"pyproject\.toml must give"):
        pairs.sync(course, STEM)
    assert files(course) == before


def test_a_notebook_that_cannot_be_read_is_not_overwritten(course):
    path = pairs.notebook_path(course, STEM)
    path.write_text("<<<<<<< ours")
    with pytest.raises(ChapterError, match=r"01_tiny\.ipynb is not a valid notebook"):
        pairs.sync(course, STEM)
    assert path.read_text() == "<<<<<<< ours"


def test_a_source_that_is_missing_or_unreadable_is_named(course):
    path = pairs.source_path(course, STEM)
    path.write_bytes(b"# %%\n\xff")
    with pytest.raises(ChapterError, match=r"01_tiny\.py cannot be read"):
        pairs.sync(course, STEM)
    path.unlink()
    with pytest.raises(ChapterError, match=r"01_tiny\.py cannot be read"):
        pairs.sync(course, STEM)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(course, monkeypatch):
    before = files(course)

    def fail(*paths):
        raise OSError("disk full")

    book = read(course)
    book.cells[2].source = "Two."
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        pairs.write(pairs.notebook_path(course, STEM), book)
    assert files(course) == before


def test_the_command_syncs_all_or_the_named(course, call):
    edit_source(course, "Two and two.", "Two.")
    assert call(course, "sync") == (0, f"{STEM}: written\n", "")
    assert call(course / "notebooks", "sync", "1") == (
        0,
        f"{STEM}: already in step\n",
        "",
    )


def test_the_command_reports_half_a_pair(course, call):
    pairs.source_path(course, STEM).unlink()
    code, _, error = call(course, "sync")
    assert code == 1
    assert f"{STEM}.py cannot be read" in error


def test_two_chapters_of_one_number_are_told_apart(course):
    for path in list((course / "notebooks").iterdir()):
        shutil.copy(path, path.with_name(f"01_other{path.suffix}"))
    with pytest.raises(ChapterError, match=r"more than one chapter.*01_other, 01_tiny"):
        pairs.find_chapter(course, "1")
    assert pairs.find_chapter(course, "01_other") == "01_other"
