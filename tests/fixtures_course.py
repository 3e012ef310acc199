"""A course of one small chapter, on which the tools can be tried in no time.

Its notebook is put together by hand as a run would leave it; `test_run.py` sees to
it that a real run leaves the same.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from genlab_helpers import pairs, sources, stamps

ADDRESS = "someone/course"
STEM = "01_tiny"
PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9"
    "awAAAABJRU5ErkJggg=="
)
RECORD = {
    "schema": 1,
    "chapter": STEM,
    "profile": "laptop",
    "seed": 0,
    "settings": {"n_points": 6},
    "data": [
        {
            "name": "MNIST",
            "split": "test",
            "source": "folder",
            "sha256": sources.digest("MNIST", "test"),
            "count": 10_000,
        }
    ],
    "machine": {"device": "2 CPU cores", "system": "Linux", "python": "3.11.7"},
    "versions": {"numpy": "2.4.6"},
    "seconds": 8.4,
    "peak_memory_bytes": 1,
    "peak_device_memory_bytes": None,
    "date": "2025-01-31",
    "measurements": [
        {
            "name": "accuracy",
            "value": 0.5432,
            "unit": "",
            "seeds": 5,
            "spread": 0.0123,
            "floor": 0.1,
            "ceiling": 1.0,
            "note": "one | two",
        }
    ],
    "series": {},
    "exports": [],
}
SOURCE = f'''\
# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A tiny chapter
#
# [Open it](https://colab.research.google.com/github/{pairs.TOKEN}/blob/main/x.ipynb)
#
# ![A dot](attachment:result.png)

# %% tags=["setup"]
try:
    import genlab_helpers
except ImportError:
    # %pip install -q "genlab-helpers @ git+https://github.com/{pairs.TOKEN}@main"
    import genlab_helpers

# %% [markdown]
# Two and two.

# %%
print(2 + 2)

# %% tags=["result-picture"] mystnb={{"image": {{"alt": "A dot"}}}}
import base64

from IPython.display import Image, display

Image(data=base64.b64decode("{PIXEL}"))

# %% [markdown]
# The dot is small.

# %%
import os

record = {RECORD!r}
record["profile"] = os.environ.get("GENLAB_PROFILE") or "laptop"
display({{"{stamps.MIME}": record, "text/plain": "Run card"}}, raw=True)

# %% [markdown]
# **Exercise.** Add one and one.

# %% tags=["solution"]
1 + 1
'''
PYPROJECT = '[project.urls]\nRepository = "https://github.com/{}"\n'


def make_course(root: Path, source: str = SOURCE) -> Path:
    """Write a course with one chapter, run by hand and stamped; return its root."""
    (root / "notebooks").mkdir(parents=True)
    set_address(root, ADDRESS)
    pairs.source_path(root, STEM).write_text(source, encoding="utf-8")
    pairs.sync(root, STEM)
    tamper(root, _run_by_hand, restamp=True)
    return root


def set_address(root: Path, address: str) -> None:
    text = PYPROJECT.format(address)
    (root / "pyproject.toml").write_text(text, encoding="utf-8")


def output(kind: str, data, count: int | None = None) -> NotebookNode:
    """Return what a cell shows: displayed, or with `count` its last value."""
    name = "execute_result" if count else "display_data"
    extra = {"execution_count": count} if count else {}
    return nbformat.v4.new_output(name, data={kind: data}, **extra)


def _run_by_hand(book: NotebookNode) -> None:
    _setup, add, picture, card, solution = stamps.code_cells(book)
    for count, cell in enumerate(stamps.code_cells(book), start=1):
        cell.execution_count = count
    add.outputs = [nbformat.v4.new_output("stream", name="stdout", text="4\n")]
    picture.outputs = [output("image/png", PIXEL, 3)]
    picture.outputs[0]["data"]["text/plain"] = "<IPython.core.display.Image object>"
    card.outputs = [output(stamps.MIME, json.loads(json.dumps(RECORD)))]
    card.outputs[0]["data"]["text/plain"] = "Run card"
    solution.outputs = [output("text/plain", "2", 5)]
    book.cells[0].attachments = {"result.png": {"image/png": PIXEL}}


def read(root: Path) -> NotebookNode:
    return pairs.read_notebook(pairs.notebook_path(root, STEM))


def tamper(
    root: Path, change: Callable[[NotebookNode], object], *, restamp: bool = False
) -> None:
    """Change the notebook as somebody might; with `restamp`, cover the traces."""
    book = read(root)
    change(book)
    if restamp:
        book.metadata["genlab"] = stamps.make_stamp(book, STEM, ADDRESS)
    path = pairs.notebook_path(root, STEM)
    path.write_text(nbformat.writes(book) + "\n", encoding="utf-8")


def edit_source(root: Path, before: str, after: str) -> None:
    path = pairs.source_path(root, STEM)
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")


def tool(root: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Call the tool as a person does, in the folder `root`."""
    return subprocess.run(
        [sys.executable, "-m", "genlab_helpers.notebooks", *arguments],
        cwd=root,
        env=os.environ | variables,
        capture_output=True,
        text=True,
    )
