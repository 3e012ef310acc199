"""The Makefile: its list, its order, whole environments; and what runs it on GitHub."""

import re
import shutil
import sys

import pytest
import yaml
from fixtures_book import ROOT, copy, require, run


@pytest.fixture
def tree(tmp_path):
    require(shutil.which("make"), "make", "apt install make")
    return copy(tmp_path, "Makefile", "requirements.lock", "requirements-book.lock")


def test_make_lists_every_target_and_what_can_refuse_comes_first(tree):
    listing = re.compile(r"^  make (\w+) +\w.{10,}$", re.MULTILINE)
    targets = " ".join(listing.findall(run("make", cwd=tree).stdout))
    assert targets == "help book test lint run serve sync doctor lock clean"
    book = r"publish check\n.*vendor\.py\n.*jupyter-book build \. -W -n"
    assert re.search(book, run("make", "-n", "book", cwd=tree).stdout)
    test = r"ruff check(.*\n)*.*format --check(.*\n)*.*zizmor(.*\n)*.*-m pytest"
    assert re.search(test, run("make", "-n", "test", cwd=tree).stdout)


@pytest.mark.parametrize("python", ["no-such", f"env PYTHONPATH=. {sys.executable}"])
def test_an_unfit_python_is_told_what_to_install(tree, python):
    (tree / "venv.py").write_text("raise ImportError")  # for the one that is there
    done = run("make", "book", f"PYTHON={python}", cwd=tree)
    assert done.returncode != 0
    assert "3.11" in done.stdout
    assert "apt install python3-venv" in done.stdout
    assert not (tree / ".venv-book").exists()


@pytest.mark.parametrize("target", ["book", "run"])
def test_an_install_that_failed_is_not_taken_for_complete(tree, target):
    # The environment appears, but installing into it fails.
    folder = ".venv" if target == "run" else ".venv-book"
    (tree / "broken").write_text("exit 3\n")
    steps = f"mkdir -p {folder}/bin; install -m 755 broken {folder}/bin/python"
    (tree / "python").write_text(f'case "$*" in *--clear*) {steps};; esac\n')
    for _ in range(2):
        done = run("make", target, "CHAPTER=01", "PYTHON=sh python", cwd=tree)
        assert done.returncode != 0
        assert (tree / folder / "bin" / "python").exists()
        assert f"-m venv --clear {folder}" in done.stdout


def test_a_newer_lock_renews_the_environment_and_run_asks_for_a_chapter(tree):
    (tree / ".venv").mkdir()
    (tree / ".venv" / "complete").touch()
    assert "venv --clear" not in run("make", "-n", "test", cwd=tree).stdout
    newer = run("make", "-n", "test", "-W", "requirements.lock", cwd=tree).stdout
    assert "venv --clear" in newer
    asked = run("make", "run", cwd=tree)
    assert asked.returncode != 0
    assert "make run CHAPTER=01" in asked.stdout


def test_clean_keeps_environments_runs_and_data(tree):
    kept = {".venv/x", ".venv-book/x", "runs/x", "data/x", "book/_vendor/x"}
    kept |= {"genlab_helpers/x", "notebooks/x"}
    gone = {"_build/x", "book/_generated/x", "tests/__pycache__/x"}
    for name in kept | gone:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).touch()
    assert run("make", "clean", cwd=tree).returncode == 0
    assert {name for name in kept | gone if (tree / name).exists()} == kept


def test_the_light_lock_agrees_with_the_full_one():
    names = ("requirements-book.lock", "requirements.lock")
    texts = [(ROOT / name).read_text("utf-8") for name in names]
    light, full = (set(re.findall(r"^[a-z0-9]\S+", it, re.MULTILINE)) for it in texts)
    assert light < full
    assert not any(pin.startswith("torch") for pin in light)


def test_only_two_jobs_may_write_and_ci_and_publishing_go_through_make():
    paths = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
    assert [path.stem for path in paths] == ["ci", "publish", "weekly"]
    flows = [yaml.safe_load(path.read_text("utf-8")) for path in paths]
    assert [flow["permissions"] for flow in flows] == [{}, {}, {}]
    jobs = {name: job for flow in flows for name, job in flow["jobs"].items()}
    assert all(job["timeout-minutes"] <= 60 for job in jobs.values())
    rights = {name: job.pop("permissions") for name, job in jobs.items()}
    assert rights.pop("deploy") == {"pages": "write", "id-token": "write"}
    assert rights.pop("report") == {"issues": "write"}
    assert all(own == {"contents": "read"} for own in rights.values())
    for name, command in {"test": ".ci/run", "build": "make book"}.items():
        assert [it["run"] for it in jobs[name]["steps"] if "run" in it] == [command]
    assert jobs["deploy"]["needs"] == "build"
    assert (ROOT / ".ci" / "run").read_text("utf-8").endswith("\nmake test\n")
