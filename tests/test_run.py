"""A real run: what it leaves behind, and that a failed one leaves nothing behind."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from fixtures_course import SOURCE, STEM, edit_source, make_course, read, tool

from genlab_helpers import gate, pairs, stamps
from genlab_helpers.pairs import read_notebook

PROBE = """
import json, os, sys
names = ["GENLAB_DATA", "GENLAB_PROFILE", "IPYTHONDIR", "MPLBACKEND"]
print(json.dumps([sys.executable, os.getcwd(), *map(os.environ.get, names)]))
"""


@pytest.fixture
def fresh(course):
    """Return a course whose notebook is the one that a failed run must leave."""
    edit_source(course, "Two and two.", "Two.")
    return course


def untouched(root, before: bytes) -> bool:
    """Say whether the old notebook is there, and nothing new beside it."""
    names = {path.name for path in (root / "notebooks").iterdir()}
    whole = names == {f"{STEM}.py", f"{STEM}.ipynb"}
    return whole and pairs.notebook_path(root, STEM).read_bytes() == before


def run_broken(call, root, before: str, after: str) -> str:
    """Run a chapter with a mistake in it; return what is said about it."""
    notebook = pairs.notebook_path(root, STEM).read_bytes()
    edit_source(root, before, after)
    code, _, error = call(root, "run", "1")
    assert code == 1
    assert untouched(root, notebook)
    assert f"{STEM}.ipynb is as it was" in error
    return error


def test_a_run_leaves_what_the_gate_lets_pass(course, call):
    by_hand = read(course)
    edit_source(course, "print(2 + 2)", "for _ in range(1):\n    print(4)")
    code, out, error = call(course, "run", "01")
    assert (code, out) == (0, f"{STEM}: written to notebooks/{STEM}.ipynb\n")
    assert gate.reasons(course, STEM) == []
    assert not pairs.sync(course, STEM), "a run leaves the pair in step"
    book = read(course)
    for old, new in zip(by_hand.cells, book.cells, strict=True):
        assert new.get("outputs") == old.get("outputs")
        assert new.get("execution_count") == old.get("execution_count")
        assert new.get("attachments") == old.get("attachments")
        assert new.metadata == old.metadata
    assert book.metadata.keys() == by_hand.metadata.keys()
    assert len(error.splitlines()) == 5
    assert error.splitlines()[1].startswith("[2/5] for _ in range(1): ... ")


def test_a_smoke_run_stays_away_from_the_published_notebook(fresh, call):
    before = pairs.notebook_path(fresh, STEM).read_bytes()
    folder = fresh / "notebooks"
    code, out, _ = call(folder, "run", f"{STEM}.py", "--profile", "smoke")
    assert code == 0
    assert f"_build/smoke/{STEM}.ipynb" in out
    assert untouched(fresh, before)
    stamp = read_notebook(fresh / "_build" / "smoke" / f"{STEM}.ipynb").metadata
    assert stamp["genlab"]["profile"] == "smoke"


def test_the_kernel_is_this_interpreter_in_a_clean_environment(tmp_path):
    source = SOURCE.replace("print(2 + 2)", PROBE.strip())
    root = make_course(tmp_path / "course", source)
    # A kernel of the same name, such as another project may have registered.
    kernel = tmp_path / "share" / "kernels" / "python3"
    kernel.mkdir(parents=True)
    wrong = {"argv": ["false"], "display_name": "Other", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(wrong))
    variables = {
        "JUPYTER_PATH": str(tmp_path / "share"),
        "JUPYTER_DATA_DIR": str(tmp_path / "share"),
        "MPLBACKEND": "Agg",
        "GENLAB_DATA": "../mine",
        "GENLAB_PROFILE": "laptop",
    }
    done = tool(root / "notebooks", "run", "1", "--profile", "smoke", **variables)
    assert done.returncode == 0, done.stderr
    book = read_notebook(root / "_build" / "smoke" / f"{STEM}.ipynb")
    python, folder, data, profile, ipython, backend = json.loads(
        stamps.code_cells(book)[1].outputs[0].text
    )
    assert python == sys.executable
    assert os.path.samefile(folder, root / "notebooks")
    assert os.path.isabs(data)
    assert os.path.normpath(data) == str(root / "mine")
    assert profile == "smoke"
    assert not os.path.exists(ipython)
    assert backend != "Agg"


def test_outputs_are_tidied(course, call):
    noisy = r"""
import time
from IPython.display import display
for percent in (0, 50, 100):
    print(f"\r{percent} %", end="", flush=True)
    time.sleep(0.3)
print("\ndone")
display({"application/vnd.jupyter.widget-view+json": {}, "text/plain": "w"}, raw=True)
print("after")
"""
    edit_source(course, "print(2 + 2)", noisy.strip())
    assert call(course, "run", "1")[0] == 0
    (stream,) = stamps.code_cells(read(course))[1].outputs
    assert stream.text == "100 %\ndone\nafter\n"


def test_a_widget_runs_and_leaves_nothing_in_the_notebook(course, call):
    touch = "import ipywidgets\n\nipywidgets.interact(lambda k: print(k), k=(0, 3))"
    edit_source(course, "print(2 + 2)", touch + "\nprint('below')")
    code, _, error = call(course, "run", "1")
    assert code == 0, error
    assert gate.reasons(course, STEM) == []
    (below,) = stamps.code_cells(read(course))[1].outputs
    assert below.text == "below\n"
    assert "widgets" not in read(course).metadata


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ("print(2 / 0)", "Cell 4 ('print(2 / 0)') failed: ZeroDivisionError"),
        ("import os\nos._exit(3)", "Cell 4 ('import os') failed: the kernel died"),
    ],
)
def test_a_failed_cell_is_named_and_the_old_notebook_stays(fresh, call, after, said):
    assert said in run_broken(call, fresh, "print(2 + 2)", after)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("raw=True)\n", 'raw=True)\n\n# %%\nprint("more")\n', "shows no run card"),
        ("1 + 1\n", f"display({{'{stamps.MIME}': record}}, raw=True)\n", "2 run cards"),
        ("'seconds': 8.4,", "", "lacks 'seconds'"),
        ("'chapter': '01_tiny'", "'chapter': '02_other'", "for chapter '02_other'"),
        ("(attachment:result.png)", "(attachment:other.png)", None),
        ("(attachment:result.png)", "(attachment:result.jpg)", "picture of this kind"),
        ('tags=["result-picture"]', "", "'result-picture' drew a picture"),
    ],
    ids=[
        "after card",
        "two cards",
        "half a card",
        "other card",
        "ok",
        "kind",
        "picture",
    ],
)
def test_a_run_without_a_sound_ending_is_refused(fresh, call, before, after, said):
    if said:
        assert said in run_broken(call, fresh, before, after)
    else:  # no top picture is asked for, so none is attached
        edit_source(fresh, before, after)
        assert call(fresh, "run", "1")[0] == 0
        assert "attachments" not in read(fresh).cells[0]


@pytest.mark.skipif(os.name == "nt", reason="Windows sends Ctrl-C in another way")
def test_an_interrupted_run_leaves_nothing_behind(fresh):
    before = pairs.notebook_path(fresh, STEM).read_bytes()
    edit_source(fresh, "print(2 + 2)", "import time\ntime.sleep(60)")
    command = [sys.executable, "-m", "genlab_helpers.notebooks", "run", "1"]
    with subprocess.Popen(
        command,
        cwd=fresh,
        stderr=subprocess.PIPE,
        text=True,
        # A suite that was itself started in the background ignores Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        said = ""
        while "import time" not in said:
            said += process.stderr.read(1)
        time.sleep(0.5)
        below = psutil.Process(process.pid).children(recursive=True)
        assert below, "the kernel"
        process.send_signal(signal.SIGINT)
        said += process.stderr.read()
        assert process.wait(timeout=30) == 130
    assert "Interrupted" in said
    assert "Traceback" not in said
    assert untouched(fresh, before)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert not alive


@pytest.mark.parametrize(
    ("variable", "value"), [("GENLAB_PROFIL", "smoke"), ("GENLAB_PROFILE", "fast")]
)
def test_a_bad_variable_stops_before_the_kernel(
    fresh, call, monkeypatch, variable, value
):
    before = pairs.notebook_path(fresh, STEM).read_bytes()
    monkeypatch.setenv(variable, value)
    code, _, error = call(fresh, "run", "1", "--profile", "smoke")
    assert code == 1
    assert variable in error
    assert "GENLAB_DEVICE" in error, "the list of what is allowed"
    assert "[1/" not in error
    assert untouched(fresh, before)


def test_an_empty_variable_counts_as_unset(course, call, monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "")
    assert call(course, "run", "1")[0] == 0
    assert read(course).metadata["genlab"]["profile"] == "laptop"


def test_a_run_on_a_stand_in_does_not_replace_the_published_one(fresh, call):
    edit_source(fresh, "'source': 'folder'", "'source': 'stand-in'")
    before = pairs.notebook_path(fresh, STEM).read_bytes()
    code, out, _ = call(fresh, "run", "1")
    assert code == 0
    assert "on a stand-in only tests" in out
    assert pairs.notebook_path(fresh, STEM).read_bytes() == before
    assert (fresh / "_build" / "stand-in" / f"{STEM}.ipynb").is_file()
