"""A real run: what it leaves behind, and that a failed one leaves nothing behind."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
from fixtures_course import ROOT, STEM, edit_source, files, read

from publish import ChapterError, chapters, execution, gate, stamps

EXPORTED = {"file": "map.js", "sha256": hashlib.sha256(b"x").hexdigest()}
BUSY = r"""
import json, os, pathlib, sys, time
import ipywidgets
from IPython.display import display
for percent in (0, 100):
    print(f"\r{percent} %", end="", flush=True)
    time.sleep(0.3)
names = ["GENLAB_DATA", "GENLAB_PROFILE", "IPYTHONDIR", "MPLBACKEND"]
told = json.dumps([sys.executable, os.getcwd(), *map(os.environ.get, names)])
print("\n" + told.replace("/", "|"))  # the gate refuses paths
display({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "w"}, raw=True)
ipywidgets.interact(lambda k: print(k), k=(0, 3))
(pathlib.Path(os.environ["GENLAB_EXPORTS"]) / "map.js").write_text("x")
print("after")
"""


def test_a_run_leaves_what_the_gate_lets_pass(course, call, monkeypatch, tmp_path):
    edit_source(course, "print(2 + 2)", BUSY.strip())
    edit_source(course, "'seed': 0", f"'seed': 0, 'exports': [{EXPORTED}]")
    place = chapters.exports_folder(course, STEM)
    place.mkdir(parents=True)
    (place / "old.js").touch()
    # A kernel of the same name, such as another project may have registered.
    kernel = tmp_path / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    wrong = '{"argv": ["false"], "display_name": "Other", "language": "python"}'
    (kernel / "kernel.json").write_text(wrong)
    variables = {"MPLBACKEND": "Agg", "GENLAB_PROFILE": "full", "GENLAB_DATA": "../me"}
    variables |= {"JUPYTER_PATH": tmp_path / "share"}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    code, _, error = call(course / "notebooks", "run", "01", "--profile", "laptop")
    assert (code, "[2/5] import json, os" in error) == (0, True)
    assert gate.reasons(course, STEM) == gate.notices(course, STEM) == []
    assert not chapters.sync(course, STEM), "a run leaves the pair in step"
    book = read(course)
    assert book.metadata.keys() == {*chapters.METADATA, "genlab"}
    assert book.cells[0].attachments == {"result.png": {"image/png": "iVBORw0KGgo="}}
    (stream,) = stamps.code_cells(book)[1].outputs
    percent, told, after = stream.text.splitlines()
    assert (percent, after) == ("100 %", "after")
    python, folder, data, profile, ipython, backend = json.loads(told.replace("|", "/"))
    assert (python, profile) == (sys.executable, "laptop")
    assert (data, folder) == (str(course / "me"), str(course / "notebooks"))
    assert (os.path.exists(ipython), backend == "Agg") == (False, False)


@pytest.mark.parametrize("kind", ["smoke", "stand-in"])
def test_a_run_that_only_tests_stays_away_from_the_published_one(course, call, kind):
    before = chapters.notebook_path(course, STEM).read_bytes()
    profile = "smoke" if kind == "smoke" else "full"
    if kind == "stand-in":
        edit_source(course, "'source': 'folder'", "'source': 'stand-in'")
    code, out, _ = call(course, "run", "1", "--profile", profile)
    assert (code, f"_build/{kind}/{STEM}.ipynb" in out) == (0, True)
    assert chapters.notebook_path(course, STEM).read_bytes() == before
    book = chapters.read_notebook(course / "_build" / kind / f"{STEM}.ipynb")
    assert stamps.card(book, STEM)["profile"] == profile


def test_a_long_line_and_an_output_area_do_not_make_a_run_hang():
    text = "x" * 3_000_000 + "\n50 %\r100 %\r\n"
    (tidy,) = execution._tidy([nbformat.v4.new_output("stream", text=text)])
    assert tidy.text == "x" * 3_000_000 + "\n100 %\r\n"
    quiet = execution.Output("id", {"outputs": []}, None, None)  # it has no kernel
    quiet.clear_output([], {"parent_header": {}, "content": {}}, 0)


def test_what_would_spoil_a_run_at_its_end_is_refused_at_the_start(course, monkeypatch):
    (course / "file").touch()
    monkeypatch.setenv("MPLCONFIGDIR", str(course / "file" / "folder"))
    before = files(course)
    with pytest.raises(ChapterError, match="MPLCONFIGDIR to a folder of yours"):
        execution.run(course, STEM)
    assert files(course) == before


def test_a_notebook_that_cannot_be_written_is_kept_elsewhere(course, monkeypatch):
    edit_source(course, "print(2 + 2)", "print(2 + 3)")
    full, replace = OSError(28, "No space left on device"), os.replace

    def fail(part, path):
        if course in path.parents:
            raise full
        replace(part, path)

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(ChapterError, match=f"{STEM}.*No space left.*make room") as told:
        execution.run(course, STEM)
    (note,) = told.value.__notes__
    kept = Path(note.removeprefix("The notebook of this run is ").rstrip("."))
    assert stamps.card(chapters.read_notebook(kept), STEM)["seconds"] == 8.4


FAILS = {
    "error": ("print(2 + 2)", "print(2 / 0)", "Cell 4 ('print(2 / 0)') failed: ZeroD"),
    "death": ("print(2 + 2)", "import os\nos._exit(3)", "the kernel died"),
    "after card": ("raw=True)\n", "raw=True)\n\n# %%\nprint(1)\n", "shows no run card"),
    "kind of picture": ("result.png", "result.jpg", "picture of this kind"),
}


@pytest.mark.parametrize(("before", "after", "said"), FAILS.values(), ids=FAILS)
def test_a_failed_run_leaves_the_old_notebook(course, call, before, after, said):
    edit_source(course, before, after)
    there = files(course)
    code, _, error = call(course, "run", "1")
    assert (code, files(course)) == (1, there)
    assert said in error
    assert f"{STEM}.ipynb is as it was" in error


def test_a_bad_token_costs_no_run_but_is_refused_until_it_is_mended(course, call):
    edit_source(course, "accuracy | .2f", "acuracy | .2f")
    code, out, error = call(course, "run", "1")
    assert (code, "written to notebooks" in out) == (1, True)
    assert "no run measured 'acuracy'; measured are: accuracy" in error
    assert "cell 3: {{acuracy" in gate.reasons(course, STEM)[0]
    edit_source(course, "acuracy | .2f", "accuracy | .2f")
    assert call(course, "sync")[0] == 0
    assert gate.reasons(course, STEM) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
def test_an_interrupted_run_leaves_nothing_behind(course):
    edit_source(course, "print(2 + 2)", "import time\ntime.sleep(60)")
    before = files(course)
    # A suite that was itself started in the background ignores Ctrl-C.
    heed = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731
    options = {"cwd": course, "stderr": subprocess.PIPE, "text": True}
    command = [sys.executable, ROOT / "book" / "publish", "run", "1"]
    with subprocess.Popen(command, preexec_fn=heed, **options) as process:
        said = ""
        while "import time" not in said:
            said += process.stderr.read(1)
        time.sleep(0.5)
        below = psutil.Process(process.pid).children(recursive=True)
        assert below, "the kernel"
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert ("Interrupted" in said, "Traceback" in said) == (True, False)
    assert files(course) == before
    assert not psutil.wait_procs(below, timeout=10)[1]
