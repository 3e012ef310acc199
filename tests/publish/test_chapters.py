"""The pair: derived in one direction, completely, and without losing anything."""

import os
import shutil
import subprocess

import nbformat
import pytest
from fixtures_course import ADDRESS, STEM, edit_source, files, read, set_address, tamper

from publish import ChapterError, chapters, gate, stamps

OWN = "OWNER/course"


def test_every_chapter_passes_and_is_in_step(root, chapter, tmp_path, monkeypatch):
    assert gate.reasons(root, chapter) == []
    shutil.copytree(root / "notebooks", tmp_path / "notebooks")
    shutil.copy(root / "pyproject.toml", tmp_path)
    address = chapters.address_in(read(root, chapter))
    if not address.startswith(chapters.PLACEHOLDER):  # as a fork's `make sync` wrote it
        monkeypatch.setenv("GITHUB_REPOSITORY", address)
    assert not chapters.sync(tmp_path, chapter), "run: make sync"


def test_sync_writes_the_notebook_that_the_source_stands_for(course):
    chapters.notebook_path(course, STEM).unlink()
    assert chapters.sync(course, STEM)
    book = read(course)
    kinds = "".join(cell.cell_type[0] for cell in book.cells)
    assert kinds == "mcmccmcmc", "(markdown or code)"
    assert "{{accuracy | .2f}}" in book.cells[2].source, "no run, no number"
    assert (book.metadata, book.nbformat_minor) == (chapters.METADATA, 5)
    assert not any(cell.get("outputs") for cell in book.cells)
    folded = {"jupyter": {"source_hidden": True}, "cellView": "form"}
    assert book.cells[1].metadata == {"tags": ["setup", "hide-input"]} | folded
    assert book.cells[8].metadata == {"tags": ["solution"]} | folded


def test_sync_goes_one_way_and_twice_changes_nothing(course):
    before = files(course)

    def jupyter(book):
        book.metadata["widgets"] = {"state": {}}
        book.metadata["kernelspec"]["name"] = "mine"
        book.cells[3].metadata["collapsed"] = False
        book.cells[2].source = "Mine."

    tamper(course, jupyter)
    os.utime(chapters.notebook_path(course, STEM), (4e9, 4e9))  # newer than the source
    assert chapters.sync(course, STEM)
    assert files(course) == before
    assert not chapters.sync(course, STEM)


def test_what_did_not_change_keeps_outputs_ids_attachments_and_stamp(course):
    before = read(course)
    edit_source(course, "print(2 + 2)", "print(2 + 3)")
    edit_source(course, "A tiny chapter", "A small chapter")
    edit_source(course, "1 + 1\n", "1 + 1\n\n# %%\n1 + 1\n")  # the first one ran
    chapters.sync(course, STEM)
    after = read(course)
    assert after.metadata.genlab == before.metadata.genlab
    assert after.cells[0].attachments == before.cells[0].attachments
    differ = [a.id != b.id for a, b in zip(before.cells, after.cells[:9], strict=True)]
    assert differ == [True, False, False, True] + [False] * 5
    assert after.cells[3].outputs == after.cells[9].outputs == []
    assert [after.cells[n] == before.cells[n] for n in (1, 4, 6, 8)] == [True] * 4


def test_a_bad_file_is_named_and_nothing_is_lost(course, monkeypatch):
    edit_source(course, "Two and two", "Two")
    before, path = files(course), chapters.notebook_path(course, STEM)
    monkeypatch.setattr(os, "replace", lambda *paths: os.rmdir(course))
    with pytest.raises(ChapterError, match=r"01_tiny\.ipynb cannot be written.*room"):
        chapters.sync(course, STEM)
    assert files(course) == before
    path.write_text("<<<<<<< ours")
    with pytest.raises(ChapterError, match=r"01_tiny\.ipynb is not a valid notebook"):
        chapters.sync(course, STEM)
    assert path.read_text() == "<<<<<<< ours"
    path.with_suffix(".py").write_bytes(b"# %%\n\xff")
    assert "01_tiny.py cannot be read" in gate.reasons(course, STEM)[0]


def test_what_was_typed_into_a_notebook_is_never_lost(course, call):
    def work(book):
        book.cells[3].source = "print(6 * 7)"
        book.cells[5].source = "Mine."
        book.cells.insert(8, nbformat.v4.new_code_cell("more = 1"))

    tamper(course, work)
    edit_source(course, "The dot is small", "The dot is tiny")  # no reason to refuse
    before = files(course)
    for command in ("sync", "run"):
        code, _, error = call(course, command, *["1"] * (command == "run"))
        assert (code, files(course)) == (1, before)
        assert "cell 4 ('print(6 * 7)'), cell 6 ('Mine.'), cell 9 ('more" in error
    typed = read(course)
    assert call(course, "sync", "--keep")[0] == 0
    assert read(course, f"{STEM}.edited") == typed
    assert [read(course).cells[n].source[:11] for n in (3, 5)] == [
        "print(2 + 2",
        "The dot is ",
    ]
    assert call(course, "sync", "--keep")[0] == 0, "nothing more to keep"
    tamper(course, work)
    code, _, error = call(course, "sync", "--keep")
    assert (code, "move the old one away" in error) == (1, True)
    assert read(course, f"{STEM}.edited") == typed


ADDRESSES = [
    ("a/b.git", "c/d", "https://github.com/e/f", "a/b"),
    (OWN, "c/d", "https://github.com/e/f", "c/d"),
    (OWN, "", "https://token@github.com/e/f.git/", "e/f"),
    (OWN, "", "ssh://git@ssh.github.com:443/e/f", "e/f"),
    (OWN, "", "git@github.com:e/f.git", "e/f"),
    (OWN, "", "https://gitlab.com/e/github.com/f", OWN),
]


@pytest.mark.parametrize(("written", "given", "origin", "found"), ADDRESSES)
def test_the_first_address_counts(course, monkeypatch, written, given, origin, found):
    set_address(course, written)
    monkeypatch.setenv("GITHUB_REPOSITORY", given)
    for arguments in (["init", "-q"], ["remote", "add", "origin", origin]):
        subprocess.run(["git", *arguments], cwd=course, check=True)
    assert chapters.repository(course) == found
    with monkeypatch.context() as context:
        context.setenv("PATH", "")  # no git: no remote
        assert chapters.repository(course) == found.replace("e/f", OWN)
    # A repository around the course is not the course's own.
    (course / ".git").rename(course.parent / ".git")
    assert chapters.repository(course) == found.replace("e/f", OWN)


def test_a_new_address_needs_a_sync_and_no_run_and_none_is_explained(course):
    before, code = files(course), read(course).metadata.genlab.code
    for address, badges in ((OWN, 0), ("else/where", 1), (OWN, 0), (ADDRESS, 1)):
        set_address(course, address)
        assert gate.reasons(course, STEM) == [], "an old address is no reason"
        assert chapters.sync(course, STEM)
        assert gate.reasons(course, STEM) == []
        opening = read(course).cells[0].source
        badge = f"](https://colab.research.google.com/github/{address}/"
        assert opening.count(badge) == badges
        assert ("upload the notebook by hand" in opening) == (not badges)
        assert chapters.address_in(read(course)) == address
        assert stamps.code_digest(read(course), address) == code
    assert files(course) == before
    for text in ("", "[project.urls]\nRepository = 'x'\n", "[["):
        (course / "pyproject.toml").write_text(text)
        with pytest.raises(ChapterError, match=r"pyproject\.toml must give"):
            chapters.sync(course, STEM)
