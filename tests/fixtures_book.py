"""What the tests of the book share; all happens in copies outside the repository."""

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]_*.ipynb"))
SCRIPTS = Path(sysconfig.get_path("scripts"))  # of this environment
LEFT_OUT = shutil.ignore_patterns("__pycache__", "_generated")
BOTH = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
TABLES: dict[str, list[tuple[str, ...]]] = {}  # printed when the tests are through


def require(found, what: str, remedy: str):
    """Return `found`; if it is missing, skip with the remedy, under CI fail."""
    if not found:
        stop = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        stop(f"{what} is missing: {remedy}")
    return found


def copy(target: Path, *names: str) -> Path:
    """Copy files and folders of the repository to the same places in `target`."""
    for name in names:
        here, there = ROOT / name, target / name
        there.parent.mkdir(parents=True, exist_ok=True)
        if here.is_dir():
            shutil.copytree(here, there, ignore=LEFT_OUT, dirs_exist_ok=True)
        else:
            shutil.copy(here, there)
    return target


def run(*command, cwd: Path, **variables: str) -> subprocess.CompletedProcess:
    """Run a command in `cwd`; its two streams come back as one text."""
    # Called from `make test`, an inner make would speak of being an inner one.
    inner = {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}
    variables = {key: os.environ[key] for key in os.environ.keys() - inner} | variables
    return subprocess.run([*map(str, command)], cwd=cwd, env=variables, **BOTH)


def toc_pages() -> list[str]:
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))
    files = [page["file"] for part in toc["parts"] for page in part["chapters"]]
    return [toc["root"], *files]
