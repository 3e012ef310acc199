"""What this machine lacks for the course, and the remedy: `python book/publish doctor`.

It needs the standard library only. What concerns device and data the course's package
says itself, started in the course's environment.
"""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = (".venv/bin/python", ".venv/Scripts/python.exe")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SET_UP = "remove .venv if it is there, then `make test` sets it up"
INSTALLED = """import importlib.metadata as m, json, platform
found = {d.name: d.version for d in m.distributions()}
print(json.dumps(found | {"python": platform.python_version()}))"""


def main(root: Path = ROOT) -> int:
    """Print a line for each thing; return 0 if nothing is wrong, else 1."""
    found = list(findings(root))
    print(*(f"{mark:5} {text}" for mark, text in found), sep="\n")
    return int(any(mark == "WRONG" for mark, _ in found))


def findings(root: Path) -> Iterator[tuple[str, str]]:
    """Yield ("ok", "note" or "WRONG", what was found and what to do about it)."""
    own = next((root / name for name in PYTHONS if (root / name).is_file()), None)
    python = str(own or sys.executable)
    found, error = _ask(root, python, "-c", INSTALLED)
    version = found.get("python", f"does not start ({error})")
    fits = version.startswith(("3.11.", "3.12.", "3.13."))
    remedy = "" if fits else f"; install 3.11, 3.12 or 3.13; {SET_UP}"
    yield "ok" if fits else "WRONG", f"Python {version}, {python}{remedy}"
    odd = _odd((root / "requirements.lock").read_text("utf-8"), found)
    remedy = f", but not {', '.join(odd[:5])} ({len(odd)} in all); {SET_UP}"
    text = f"packages as in requirements.lock{remedy if odd else ''}"
    yield "WRONG" if odd else "ok", text
    yield from _course(root, python)
    free, needed = shutil.disk_usage(root).free / 1e9, 2 if own else 10
    remedy = "" if free > needed else f"; the course needs {needed}"
    yield "WRONG" if remedy else "ok", f"{free:.0f} GB of disk space are free{remedy}"
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    missing = "none, so the tests of pages are skipped; apt install chromium"
    yield "ok" if browser else "WRONG", f"Chromium: {browser or missing}"


def _ask(root: Path, *command: str) -> tuple[dict, str]:
    """Return what a command prints as JSON, or {} and the last line of its errors."""
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True)
        return json.loads(done.stdout), ""
    except OSError as error:
        return {}, str(error)
    except ValueError:  # no JSON
        return {}, (done.stderr.strip().splitlines() or ["it says nothing"])[-1]


def _odd(lock: str, packages: dict[str, str]) -> list[str]:
    """Return the packages of a lock that are missing or have another version."""
    have = {re.sub(r"[-_.]+", "-", name).lower(): v for name, v in packages.items()}
    pins: dict[str, set[str | None]] = {}
    for name, version, marker in re.findall(r"^([\w.-]+)==(\S+)(.*)", lock, re.M):
        # Some are for other systems or Pythons: those may be missing.
        pins.setdefault(name, {None} if marker else set()).add(version)
    return [name for name, versions in pins.items() if have.get(name) not in versions]


def _course(root: Path, python: str) -> Iterator[tuple[str, str]]:
    facts, error = _ask(root, python, "-m", "genlab_helpers")
    if "device" not in facts:
        said = " ".join(facts.get("error", f"{error}; {SET_UP}").split())
        yield "WRONG", f"device and data could not be looked at: {said}"
        return
    fast = "fast" if facts["bfloat16"] else "slow, so full precision is used"
    yield "ok", f"device: {facts['device']}; bfloat16 is {fast} on it"
    yield "ok", f"data folder: {facts['data']} (GENLAB_DATA names another)"
    for name, complete in facts["datasets"].items():
        state = "complete" if complete else "not complete; book/datasets.md says more"
        yield "ok" if complete else "note", f"data set {name}: {state}"
