"""A course of one small chapter, really run, on which the press can be tried."""

import shutil
from pathlib import Path

import nbformat

from publish import chapters, execution, recap, stamps

ROOT = Path(__file__).parents[1]
ADDRESS = "someone/course"
STEM = "01_tiny"
MNIST_TEST = "fc4ad2928469b062b04de83eeb03d9a9368e93e5c0fa488affd0729f7e16c3ec"
USED = {"name": "MNIST", "split": "test", "source": "folder", "sha256": MNIST_TEST}
MEASURED = {"value": 0.5432, "unit": "", "seeds": 5, "spread": 0.0123, "floor": 0.1}
RECORD = {"chapter": STEM, "profile": "laptop", "seed": 0, "seconds": 8.4}
RECORD |= {"data": [USED | {"count": 10_000}], "date": "2025-01-31"}
RECORD |= {"machine": {"device": "2 CPU cores"}, "versions": {"numpy": "2.4.6"}}
MEASURED |= {"name": "accuracy", "ceiling": None, "note": "a | b"}
RECORD["measurements"] = [MEASURED]
SOURCE = f'''\
# %% [markdown]
# # A tiny chapter
#
# [Open it](https://colab.research.google.com/github/{stamps.TOKEN}/blob/main/x.ipynb)
#
# ![A dot](attachment:result.png)

# %% tags=["setup", "hide-input"]
if False:
    # %pip install -q "genlab-helpers @ git+https://github.com/{stamps.TOKEN}@main"

# %% [markdown]
# ## Sums
#
# Two and two. Right: {{{{accuracy | .2f}}}} of all.

# %%
print(2 + 2)

# %% tags=["result-picture"] mystnb={{"image": {{"alt": "A dot"}}}}
from IPython.display import Image, display

Image(data=bytes.fromhex("89504e470d0a1a0a"))  # enough of a PNG

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


def make_course(root: Path) -> Path:
    """Write a course with one chapter, run it, and return the course's root."""
    for folder in ("notebooks", "genlab_helpers", "book"):
        (root / folder).mkdir(parents=True)
    shutil.copy(ROOT / "genlab_helpers" / "digests.toml", root / "genlab_helpers")
    set_address(root, ADDRESS)
    chapters.source_path(root, STEM).write_text(SOURCE, encoding="utf-8")
    chapters.write(root / recap.PATH, recap.derived(root))
    execution.run(root, STEM)
    return root


def set_address(root: Path, address: str) -> None:
    text = f'[project.urls]\nRepository = "https://github.com/{address}"\n'
    (root / "pyproject.toml").write_text(text)


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (root / "notebooks").iterdir()}


def read(root: Path, stem: str = STEM) -> nbformat.NotebookNode:
    return chapters.read_notebook(chapters.notebook_path(root, stem))


def tamper(root: Path, change, *, restamp: bool = False) -> None:
    """Change the notebook as somebody might; with `restamp`, cover the traces."""
    book = read(root)
    change(book)
    if restamp:
        helpers = stamps.helpers_digest(root)
        book.metadata["genlab"] = stamps.make_stamp(book, ADDRESS, helpers)
    path = chapters.notebook_path(root, STEM)
    path.write_text(nbformat.writes(book) + "\n", encoding="utf-8")


def edit_source(root: Path, before: str, after: str) -> None:
    path = chapters.source_path(root, STEM)
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
