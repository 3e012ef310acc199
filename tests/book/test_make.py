"""The Makefile: its list, its order, whole environments; and what runs it on GitHub."""

import os
import re
import select
import shutil
import subprocess
import sys

import pytest
import yaml
from fixtures_book import ROOT, copy, require, run

import environment


@pytest.fixture
def tree(tmp_path):
    require(shutil.which("make"), "make", "apt install make")
    return copy(
        tmp_path / "tree", "Makefile", "requirements.lock", "book/environment.py"
    )


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


def test_run_asks_for_a_chapter(tree):
    (tree / "python").write_text("exit 0")  # the environment is complete
    asked = run("make", "run", "PYTHON=sh python", cwd=tree)
    assert asked.returncode != 0
    assert "make run CHAPTER=01" in asked.stdout


@pytest.fixture
def steps(tree, monkeypatch):
    """Return what setting up .venv would have called; nothing is installed."""
    called = []

    def pretend(step, cwd):
        called.append(" ".join(map(str, step[1:])))
        python = cwd / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True, exist_ok=True)
        python.touch()
        failed = (cwd / "no network").exists() and "-r" in step
        return subprocess.CompletedProcess(step, int(failed))

    monkeypatch.setattr(environment, "ROOT", tree)
    monkeypatch.setattr(environment.subprocess, "run", pretend)
    return called


def test_an_environment_is_made_anew_only_when_it_has_to_be(tree, steps, monkeypatch):
    (tree / "no network").touch()
    for _ in range(2):  # an installation that failed is not taken for complete
        assert environment.main(".venv") == 1
        assert (steps[0], len(steps)) == (f"-m venv --clear {tree}/.venv", 3)
        steps.clear()
    (tree / "no network").unlink()
    changes = {
        "fresh": lambda: None,
        "newer lock": lambda: (tree / "requirements.lock").write_text("numpy==9"),
        "no Python": (tree / ".venv" / "bin" / "python").unlink,
        "moved": lambda: monkeypatch.setattr(
            environment, "ROOT", tree.rename(tree.with_name("moved"))
        ),
    }
    for change in changes.values():
        change()
        assert environment.main(".venv") == 0
        assert (len(steps), steps[-1]) == (5, "-c import pytest")
        steps.clear()
        assert environment.main(".venv") == 0
        assert steps == []


@pytest.mark.skipif(os.name == "nt", reason="nobody is waited for on Windows")
def test_two_at_once_wait_for_each_other(tmp_path):
    hold = (
        "import environment as e, pathlib, sys\nwith e.alone(pathlib.Path('lock')):\n"
    )
    hold += "    print('in', flush=True)\n    sys.stdin.read()\n"
    python = [sys.executable, "-c", hold]
    both = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "cwd": tmp_path}
    both["env"] = {"PYTHONPATH": str(ROOT / "book")}
    with subprocess.Popen(python, **both) as first:
        assert first.stdout.readline() == b"in\n"
        with subprocess.Popen(python, **both) as second:
            assert select.select([second.stdout], [], [], 1)[0] == []
            first.stdin.close()
            assert second.stdout.readline() == b"in\n"
            second.stdin.close()


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
