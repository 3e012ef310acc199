"""What the tests of the book share: a copy of the tree, and the book built from it.

Everything happens in a copy, so that no test leaves anything in the repository.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
JUPYTER_BOOK = Path(sysconfig.get_path("scripts")) / "jupyter-book"
LEFT_OUT = shutil.ignore_patterns(
    ".git", ".venv*", "_build", "_generated", "__pycache__", "*.egg-info", ".*_cache"
)
SITE = pytest.StashKey[Path]()


def require(found, what: str, remedy: str):
    """Return `found`; if it is missing, skip with the remedy, under CI fail."""
    if not found:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"{what} is missing: {remedy}")
    return found


def copy_tree(target: Path) -> Path:
    """Copy the repository's files, without environments, runs, data and builds."""

    def ignore(folder: str, names: list[str]) -> set[str]:
        top = {"runs", "data"} if Path(folder) == ROOT else set()
        return LEFT_OUT(folder, names) | (top & set(names))

    return Path(shutil.copytree(ROOT, target, ignore=ignore))


def run(*command, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a command in `cwd`; its two streams come back as one text."""
    # The copy's own package must be the one that is imported.
    environment = os.environ | {"PYTHONPATH": str(cwd)} | variables
    # Called from `make test`, an inner make would speak of being an inner one.
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        environment.pop(name, None)
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def build(tree: Path) -> subprocess.CompletedProcess:
    """Build the book of a tree as `make book` does after the gate."""
    vendor = run(sys.executable, "book/vendor.py", cwd=tree)
    assert vendor.returncode == 0, vendor.stdout
    return run(JUPYTER_BOOK, "build", ".", "-W", "-n", "--keep-going", cwd=tree)


def built_book(config: pytest.Config, folder: pytest.TempPathFactory) -> Path:
    """Return the folder of the built site; built once a session."""
    if SITE not in config.stash:
        tree = copy_tree(folder.mktemp("book") / "tree")
        done = build(tree)
        assert done.returncode == 0, done.stdout[-6000:]
        config.stash[SITE] = tree / "_build" / "html"
    return config.stash[SITE]


def toc_pages() -> list[str]:
    """Return the pages of the table of contents, without suffix, in order."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))

    def files(entry: dict) -> list[str]:
        own = [entry[key] for key in ("root", "file") if key in entry]
        below = [
            child
            for key in ("parts", "chapters", "sections")
            for child in entry.get(key, [])
        ]
        return own + [name for child in below for name in files(child)]

    return [name.removesuffix(".md").removesuffix(".ipynb") for name in files(toc)]


def chapters() -> list[Path]:
    """Return the notebooks of the course."""
    return sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
