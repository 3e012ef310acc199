"""Colab, simulated: its packages, an empty folder, and nothing but the notebook.

The helpers come from a git repository that is made here from the working tree, in
the place of the public one. pip builds them, for which it asks its registry for
setuptools; nothing else is fetched.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import version
from pathlib import Path

import nbformat
import pytest
import uv
from fixtures_book import ROOT, chapters, require

from genlab_helpers import pairs

# What Colab ships and the chapters use, at the versions of this environment.
PREINSTALLED = [
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "matplotlib",
    "pillow",
    "imageio",
    "tqdm",
    "psutil",
    "ipykernel",
    "ipywidgets",
]
JUPYTER_EXECUTE = Path(sysconfig.get_path("scripts")) / "jupyter-execute"


def public_address() -> str:
    """Return what the chapters install: the repository's address at its main branch."""
    return f"git+https://github.com/{pairs.repository(ROOT)}@main"


def call(*command, cwd: Path | None = None) -> str:
    """Run a command that must succeed; return what it printed."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=os.environ | {"UV_PYTHON_DOWNLOADS": "never", "GIT_CONFIG_GLOBAL": ""},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make_machine(folder: Path, packages: list[str]) -> Path:
    """Make an environment with pip and `packages`; return its Python."""
    call(uv.find_uv_bin(), "venv", "-q", "--seed", "--python", sys.executable, folder)
    python = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    call(uv.find_uv_bin(), "pip", "install", "-q", "--python", python, *packages)
    return python


def installed(python: Path) -> set[str]:
    """Return everything an environment holds, one `name==version` each."""
    return set(call(uv.find_uv_bin(), "pip", "freeze", "--python", python).split("\n"))


def execute(python: Path, folder: Path, chapter: Path, address: str):
    """Run a chapter in a kernel of `python`, alone in a folder of its own."""
    notebook = folder / "content" / chapter.name
    notebook.parent.mkdir()
    text = chapter.read_text(encoding="utf-8")
    notebook.write_text(text.replace(public_address(), address), encoding="utf-8")
    kernel = folder / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    start = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    specification = {"argv": start, "display_name": "Colab", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(specification), encoding="utf-8")
    ours = {"PYTHONPATH", "VIRTUAL_ENV", "GENLAB_DATA", "GENLAB_DEVICE"}
    environment = {key: os.environ[key] for key in os.environ.keys() - ours}
    environment |= {"GENLAB_PROFILE": "smoke", "JUPYTER_PATH": str(folder / "share")}
    options = ["--kernel_name=python3", "--timeout=300", "--inplace"]
    return notebook, subprocess.run(
        [str(JUPYTER_EXECUTE), *options, notebook.name],
        cwd=notebook.parent,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """Make a git repository with what `pip install git+...` needs."""
    require(shutil.which("git"), "git", "apt install git")
    folder = tmp_path_factory.mktemp("public") / "repository"
    folder.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    without = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "genlab_helpers", folder / "genlab_helpers", ignore=without)
    author = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    call("git", "init", "-q", "-b", "main", cwd=folder)
    call("git", "add", ".", cwd=folder)
    call("git", *author, "commit", "-q", "-m", "as published", cwd=folder)
    return folder


@pytest.fixture(scope="module")
def colab(tmp_path_factory):
    """Make an environment as Colab has it: torch and friends, not our helpers."""
    packages = [f"{name}=={version(name)}" for name in PREINSTALLED]
    return make_machine(tmp_path_factory.mktemp("colab") / "env", packages)


def cell_with(book, tag: str) -> int:
    """Return the number of the one cell of a notebook with this tag."""
    (number,) = (
        i for i, c in enumerate(book.cells) if tag in c.metadata.get("tags", [])
    )
    return number


def installing(chapter: Path) -> str:
    """Return what a chapter's setup cell does before it imports for the chapter."""
    book = nbformat.read(chapter, as_version=4)
    setup = book.cells[cell_with(book, "setup")].source
    assert setup.count(public_address()) == 1, "one setup cell, one address"
    look, install, _ = setup.split("\n\n", maxsplit=2)
    assert "find_spec" in install
    return look + install


def beginnings(folder: Path) -> Path:
    """Write all chapters' cells up to their settings into one notebook."""
    together = nbformat.v4.new_notebook(metadata=pairs.METADATA)
    for chapter in chapters():
        book = nbformat.read(chapter, as_version=4)
        for cell in book.cells[: cell_with(book, "settings") + 1]:
            cell.id = str(len(together.cells))  # the same cell may stand in several
            together.cells.append(cell)
    nbformat.write(together, folder / "beginnings.ipynb")
    return folder / "beginnings.ipynb"


@pytest.mark.parametrize("part", ["beginnings", "judged"])
def test_chapters_run_from_their_notebooks_alone(
    part, colab, repository, tmp_path, tmp_path_factory
):
    # One with a judge, whose weights come with the helpers, runs whole; test_smoke
    # runs all, each by itself.
    folder = tmp_path_factory.mktemp(part)
    chapter = beginnings(folder) if part == "beginnings" else chapters()[3]
    before = installed(colab)
    assert not any(line.startswith("genlab") for line in before)
    address = f"git+file://{repository}@main"
    try:
        notebook, done = execute(colab, tmp_path, chapter, address)
        assert done.returncode == 0, done.stdout[-4000:]
        changed = installed(colab) ^ before
    finally:
        call(uv.find_uv_bin(), "pip", "uninstall", "--python", colab, "genlab-helpers")
    # Nothing but the helpers came, so torch and the rest stay as they were.
    assert [line.split(" @ git+file:")[0] for line in changed] == ["genlab-helpers"]
    cells = nbformat.read(notebook, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    assert [path.name for path in notebook.parent.iterdir()] == [notebook.name]


@pytest.fixture(scope="module")
def bare(tmp_path_factory):
    """Make an environment with a kernel and nothing else."""
    packages = [f"ipykernel=={version('ipykernel')}"]
    return make_machine(tmp_path_factory.mktemp("bare") / "env", packages)


# One chapter for each way to install there is: one, unless somebody edits one of them.
@pytest.mark.parametrize(
    "chapter",
    {installing(path): path for path in chapters()}.values(),
    ids=lambda path: path.stem,
)
def test_setup_cell_explains_itself_without_a_network(chapter, bare, tmp_path):
    before = installed(bare)
    nowhere = f"git+file://{tmp_path}/nowhere@main"
    _, done = execute(bare, tmp_path, chapter, nowhere)
    assert done.returncode != 0
    assert installed(bare) == before
    last = done.stdout.strip().rsplit("Error: ", 1)[-1]
    assert "network" in last, done.stdout
    assert "run this cell again" in last
    assert "No module named" not in last
