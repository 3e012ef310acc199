"""Every published notebook runs in `smoke`, two at a time, and asks no network."""

import select
import shutil
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from fixtures_book import TABLES, run

from publish import chapters

# A cell that takes ten minutes is taken to hang.
NBMAKE = ("pytest", "-p", "no:cacheprovider", "--nbmake", "--nbmake-timeout=600")
FIXED = {"GENLAB_PROFILE": "smoke", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
FIXED |= {"JUPYTER_PREFER_ENV_PATH": "1"}  # this environment's kernel before others
FIXED |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}


def execute(notebook: Path):
    """Run a notebook with nbmake, alone in its folder; note `seconds` and `asked`."""
    folder = notebook.parent
    variables = {"GENLAB_DATA": f"{folder}/data", "IPYTHONDIR": f"{folder}/ipython"}
    # The proxy never answers, but knows whether anybody asked for the network.
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            address = f"http://127.0.0.1:{proxy.getsockname()[1]}"
            variables |= {name: address, name.upper(): address}
        command = (sys.executable, "-m", *NBMAKE, f"--rootdir={folder}", notebook.name)
        started = time.perf_counter()
        done = run(*command, cwd=folder, **FIXED, **variables)
        done.seconds = time.perf_counter() - started
        done.asked = bool(select.select([proxy], [], [], 0)[0])
    return done


@pytest.fixture(scope="module")
def runs(request, root, tmp_path_factory):
    """Start all runs that were asked for; return chapter -> (copy, coming result)."""
    tests = [it for it in request.session.items if "runs" in it.fixturenames]
    found = {}
    with ThreadPoolExecutor(2) as pool:
        for stem in (test.callspec.params["chapter"] for test in tests):
            published = chapters.notebook_path(root, stem)
            copy = Path(shutil.copy(published, tmp_path_factory.mktemp(stem)))
            found[stem] = copy, pool.submit(execute, copy)
        yield found
        pool.shutdown(cancel_futures=True)


def test_chapter_runs_in_smoke(root, chapter, runs):
    copy, coming = runs[chapter]
    done = coming.result()
    table = TABLES.setdefault("smoke, two at a time", [("chapter", "seconds")])
    table.append((chapter, f"{done.seconds:.0f}"))
    assert done.returncode == 0, done.stdout[-6000:]
    assert "1 passed" in done.stdout
    assert not done.asked, "a smoke run must not ask the network"
    assert copy.read_bytes() == chapters.notebook_path(root, chapter).read_bytes()


def test_a_request_to_the_network_is_noticed(tmp_path):
    ask = "u.urlopen('http://example.org', timeout=1)"
    line = f"import urllib.request as u\ntry:\n    {ask}\nexcept OSError:\n    pass"
    cells = [nbformat.v4.new_code_cell(line)]
    book = nbformat.v4.new_notebook(cells=cells, metadata=chapters.METADATA)
    nbformat.write(book, tmp_path / "ask.ipynb")
    done = execute(tmp_path / "ask.ipynb")
    assert done.returncode == 0, done.stdout
    assert done.asked
