"""Colab, simulated: its packages, an empty folder, and nothing but the notebook.

The helpers come from a git repository that is made here, in the place of the public
one. pip builds them, for which it asks its registry for setuptools and nothing else.
"""

import os
import re
import shutil
import sys
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import uv
from fixtures_book import NOTEBOOKS, SCRIPTS, copy, require, run

from publish import chapters

# What Colab ships and the chapters use; here at the versions of this environment.
SHIPPED = "torch torchvision numpy scipy scikit-learn matplotlib pillow tqdm"
SHIPPED += " psutil ipykernel ipywidgets"
PUBLIC = re.compile(r"git\+https://github\.com/[\w.-]+/[\w.-]+@main")
WEEKLY = pytest.mark.skipif("WEEKLY" not in os.environ, reason="only with WEEKLY set")


def call(*command, cwd: Path | None = None) -> str:
    done = run(*command, cwd=cwd, UV_PYTHON_DOWNLOADS="never", GIT_CONFIG_GLOBAL="")
    assert done.returncode == 0, done.stdout
    return done.stdout


def make_machine(folder: Path, packages: str) -> Path:
    """Make an environment with pip and packages as they are here; return its Python."""
    call(uv.find_uv_bin(), "venv", "-q", "--seed", "--python", sys.executable, folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    pinned = [f"{name}=={version(name)}" for name in packages.split()]
    call(uv.find_uv_bin(), "pip", "install", "-q", "--python", python, *pinned)
    return python


def installed(python: Path) -> set[str]:
    return set(call(uv.find_uv_bin(), "pip", "freeze", "--python", python).split("\n"))


def execute(python: Path, folder: Path, chapter: Path, address: str):
    """Run a chapter in a kernel of `python`, alone in a folder of its own."""
    notebook = folder / "content" / chapter.name
    notebook.parent.mkdir()
    notebook.write_text(PUBLIC.sub(address, chapter.read_text("utf-8")), "utf-8")
    call(python, "-m", "ipykernel", "install", f"--prefix={folder}")
    variables = {"GENLAB_PROFILE": "smoke", "PYTHONPATH": "", "VIRTUAL_ENV": ""}
    variables["JUPYTER_PATH"] = str(folder / "share" / "jupyter")
    command = (SCRIPTS / "jupyter-execute", "--timeout=600", "--inplace", notebook)
    return notebook, run(*command, cwd=notebook.parent, **variables)


def cell_with(book, tag: str) -> int:
    return [tag in cell.metadata.get("tags", []) for cell in book.cells].index(True)


def beginnings(folder: Path) -> Path:
    """Write all chapters' cells up to their settings into one notebook."""
    together = nbformat.v4.new_notebook(metadata=chapters.METADATA)
    for chapter in NOTEBOOKS:
        book = nbformat.read(chapter, as_version=4)
        for cell in book.cells[: cell_with(book, "settings") + 1]:
            cell.id = str(len(together.cells))  # the same cell may stand in several
            together.cells.append(cell)
    nbformat.write(together, folder / "beginnings.ipynb")
    return folder / "beginnings.ipynb"


@pytest.mark.parametrize("part", ["beginnings", pytest.param("whole", marks=WEEKLY)])
def test_chapters_run_from_their_notebooks_alone(part, tmp_path):
    require(shutil.which("git"), "git", "apt install git")
    files = ("genlab_helpers", "pyproject.toml", "README.md", "LICENSE")
    public = copy(tmp_path / "public", *files)
    author = ("-c", "user.name=Test", "-c", "user.email=test@example.org")
    for command in (["init", "-q", "-b", "main"], ["add", "."], ["commit", "-qm", "x"]):
        call("git", *author, *command, cwd=public)
    colab = make_machine(tmp_path / "colab", SHIPPED)
    before = installed(colab)
    assert not any(line.startswith("genlab") for line in before)

    # The whole chapter is one with a judge, whose weights come with the helpers.
    chapter = NOTEBOOKS[3] if part == "whole" else beginnings(tmp_path)
    notebook, done = execute(colab, tmp_path, chapter, f"git+file://{public}@main")
    assert done.returncode == 0, done.stdout[-4000:]
    # Nothing but the helpers came, so torch and the rest stay as they were.
    changed = installed(colab) ^ before
    assert [line.split(" @ git+file:")[0] for line in changed] == ["genlab-helpers"]
    cells = nbformat.read(notebook, as_version=4).cells
    assert all(cell.execution_count for cell in cells if cell.cell_type == "code")
    assert [path.name for path in notebook.parent.iterdir()] == [notebook.name]


def test_setup_cell_explains_itself_without_a_network(tmp_path):
    books = [nbformat.read(path, as_version=4) for path in NOTEBOOKS]
    setups = [book.cells[cell_with(book, "setup")].source for book in books]
    assert [len(PUBLIC.findall(setup)) for setup in setups] == [1] * len(setups)
    # All look and install in the same way, so one is enough to try.
    assert len({tuple(setup.split("\n\n")[:2]) for setup in setups}) == 1
    bare = make_machine(tmp_path / "bare", "ipykernel")
    _, done = execute(bare, tmp_path, NOTEBOOKS[0], f"git+file://{tmp_path}/no@main")
    assert done.returncode != 0
    last = done.stdout.strip().rsplit("Error: ", 1)[-1]
    assert "network" in last, done.stdout
    assert "run this cell again" in last
    assert "No module named" not in last
