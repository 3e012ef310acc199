"""Chapters run on the pretended GPU: two here, all of them in the weekly workflow."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("run_chapter.py")
FAULTY = "# %%\nimport torch\nx = torch.ones(3).cuda()\n# %%\nx + torch.ones(3)\n"


def run(chapter: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(RUNNER), str(chapter)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("stem", ["02_autoencoders", "05_cgan"])
def test_a_chapter_runs(root, stem):
    done = run(root / "notebooks" / f"{stem}.py")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_fault_is_found_and_its_place_named(tmp_path):
    chapter = tmp_path / "99_faulty.py"
    chapter.write_text(FAULTY, encoding="utf-8")
    done = run(chapter)
    assert done.returncode == 1
    assert "FAULT cell 2, line 5" in done.stdout
    assert "at least two devices" in done.stdout
