"""Run a chapter's code cells on the pretended GPU and list its faults.

    python run_chapter.py NOTEBOOK.py [--all]

Each fault is printed with the number of the cell and the lines of the .py. The run ends
at the first; with --all it goes on in the next cell, and nothing is repaired. Lines of
magic stand as comments in the .py, so the one that installs the helpers is not run.
"""

import os
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path

os.environ |= {"GENLAB_PROFILE": "smoke", "GENLAB_DEVICE": "cuda", "MPLBACKEND": "agg"}


def cells(path: Path):
    """Yield the number and the code of each code cell, on its lines in the .py."""
    lines = path.read_text(encoding="utf-8").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("# %%")]
    ends = [*starts[1:], len(lines)]
    for number, (start, end) in enumerate(zip(starts, ends, strict=True), 1):
        if not lines[start].startswith("# %% [markdown]"):
            code = "\n".join(lines[start:end])
            yield number, compile("\n" * start + code, str(path), "exec")


def run(path: Path, go_on: bool) -> int:
    """Run the cells and print each fault; return how many there were."""
    import matplotlib.pyplot as plt
    from pretend_gpu import pretended_gpu

    found, space = 0, {"__name__": "__main__"}
    sys.modules["__main__"].__file__ = str(path)  # where `inspect` finds its classes
    with pretended_gpu(), tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for number, code in cells(path):
            try:
                exec(code, space)
            except Exception as error:
                found += 1
                frames = traceback.extract_tb(error.__traceback__)
                own = [f"{f.lineno}" for f in frames if f.filename == str(path)]
                place = f"cell {number}, line {' > '.join(own)}"
                last = [f for f in frames if "site-packages" not in f.filename][-1]
                place += f" ({Path(last.filename).name}:{last.lineno}: {last.line})"
                print(f"FAULT {place}\n  {type(error).__name__}: {error}", flush=True)
                if not go_on:
                    break
            plt.close("all")
        os.chdir(path.parent)
    return found


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of figures that nobody shows
    begin, chapter = time.perf_counter(), Path(sys.argv[1]).resolve()
    count = run(chapter, "--all" in sys.argv)
    print(f"{chapter.name}: {count} faults, {time.perf_counter() - begin:.0f} s")
    sys.exit(bool(count))
