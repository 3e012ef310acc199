"""What all tests share: a clean environment, the repository, and its chapters."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from fixtures_course import ROOT, make_course
from hypothesis import settings

from publish.cli import main

CHAPTERS = sorted({path.stem for path in (ROOT / "notebooks").glob("[!.]*.py")})

# The tester's own settings of GenLab must not decide what the tests see, nor the
# repository that a workflow runs in. Set here: some tests start other processes.
for _name in list(os.environ):
    if _name.startswith("GENLAB_") or _name == "GITHUB_REPOSITORY":
        del os.environ[_name]

# A slow moment of the machine is no failure, and no run depends on an earlier one.
settings.register_profile("genlab", deadline=None, database=None)
settings.load_profile("genlab")


@pytest.fixture(scope="session")
def root() -> Path:
    """Return the root of the repository; tests read it and never write to it."""
    return ROOT


@pytest.fixture(params=CHAPTERS or [None])
def chapter(request) -> str:
    """Return the name of each chapter in turn; to have none is a failure."""
    assert request.param, "no chapter found: notebooks/ holds no NN_name.py"
    return request.param


@pytest.fixture(scope="session")
def made_course(tmp_path_factory) -> Path:
    return make_course(tmp_path_factory.mktemp("made") / "course")


@pytest.fixture
def course(made_course, tmp_path) -> Path:
    """Return the root of a small course, its one chapter run, stamped and in order."""
    return shutil.copytree(made_course, tmp_path / "course")


@pytest.fixture
def call(monkeypatch, capsys) -> Callable[..., tuple[int, str, str]]:
    """Return a function that calls the press in a folder: exit code, output, errors."""

    def call_press(folder: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(folder)
        return main([*arguments]), *capsys.readouterr()

    return call_press
