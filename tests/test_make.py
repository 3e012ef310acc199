"""The Makefile: its list, its order of work, and environments that are never half."""

import re
import shutil
import sys

import pytest
from fixtures_book import ROOT, require, run

TARGETS = ["help", "book", "test", "run", "serve", "sync", "lock", "clean"]


@pytest.fixture
def tree(tmp_path):
    """Make a folder with nothing but the Makefile and the locks."""
    require(shutil.which("make"), "make", "apt install make")
    for path in [ROOT / "Makefile", *ROOT.glob("requirements*")]:
        shutil.copy(path, tmp_path)
    return tmp_path


def python_that(folder, body: str):
    """Write a stand-in for the Python that is to make the environments."""
    path = folder / "python-stand-in"
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def pins(name: str) -> set[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return {line.split(" ;")[0] for line in lines if re.match(r"[a-z0-9]", line)}


def test_make_alone_lists_every_target_with_a_sentence(tree):
    done = run("make", cwd=tree)
    listed = re.findall(r"^  make (\w+) +(\w.{10,})$", done.stdout, re.MULTILINE)
    assert [name for name, _ in listed] == TARGETS


def test_the_gate_comes_before_the_build(tree):
    steps = run("make", "-n", "book", cwd=tree).stdout
    gate, build = "genlab_helpers.notebooks check", "jupyter-book build . -W -n"
    assert 0 < steps.index(gate) < steps.index(build)


@pytest.mark.parametrize(
    "body",
    ["exit 1", f'[ "$1" = -c ] && {sys.executable} -c "import no_such_module"'],
    ids=["too old or not there", "without the venv module"],
)
def test_an_unfit_python_is_told_what_to_install(tree, body):
    done = run("make", "book", f"PYTHON={python_that(tree, body)}", cwd=tree)
    assert done.returncode != 0
    assert "3.11" in done.stdout
    assert "apt install python3-venv" in done.stdout
    assert not (tree / ".venv-book").exists()


@pytest.mark.parametrize(
    ("target", "folder"), [("book", ".venv-book"), ("run", ".venv")]
)
def test_an_install_that_failed_is_not_taken_for_complete(tree, target, folder):
    # The environment appears, but installing into it fails.
    body = f"""case "$*" in
    *venv*--clear*) mkdir -p {folder}/bin
      printf '#!/bin/sh\\nexit 3\\n' > {folder}/bin/python
      chmod +x {folder}/bin/python ;;
    esac"""
    call = ["make", target, "CHAPTER=01", f"PYTHON={python_that(tree, body)}"]
    first = run(*call, cwd=tree)
    assert first.returncode != 0
    assert (tree / folder / "bin" / "python").exists()
    again = run(*call, cwd=tree)
    assert again.returncode != 0
    assert f"-m venv --clear {folder}" in again.stdout


def test_a_newer_lock_renews_the_environment(tree):
    (tree / ".venv").mkdir()
    (tree / ".venv" / "complete").touch()
    up_to_date = run("make", "-n", "test", cwd=tree).stdout
    assert "venv --clear" not in up_to_date
    newer = run("make", "-n", "test", "-W", "requirements.lock", cwd=tree).stdout
    assert "venv --clear" in newer


def test_run_asks_for_the_chapter(tree):
    (tree / ".venv").mkdir()
    (tree / ".venv" / "complete").touch()
    done = run("make", "run", cwd=tree)
    assert done.returncode != 0
    assert "make run CHAPTER=01" in done.stdout


def test_clean_keeps_environments_runs_and_data(tree):
    kept = [".venv/x", ".venv-book/x", "runs/x", "data/x", "book/_vendor/x"]
    gone = ["_build/x", "book/_generated/x", "tests/__pycache__/x"]
    for name in [*kept, *gone, "genlab_helpers/x", "notebooks/x"]:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    done = run("make", "clean", cwd=tree)
    assert done.returncode == 0, done.stdout
    assert all((tree / name).exists() for name in kept)
    assert not any((tree / name).exists() for name in gone)


def test_the_light_lock_agrees_with_the_full_one():
    assert pins("requirements-book.lock") < pins("requirements.lock")
    assert not any(pin.startswith("torch") for pin in pins("requirements-book.lock"))
