"""Every published notebook runs from top to bottom in `smoke`: fast, no network."""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from genlab_helpers import pairs

LIMIT = 30.0  # seconds a chapter, beyond what an empty notebook takes
SLOWER = 1.4  # by so much a machine may be slower than the one the chapters are made on


class Proxy:
    """A proxy that never answers, but knows whether anybody asked."""

    def __enter__(self):
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._socket.setblocking(False)
        host, port = self._socket.getsockname()
        self.address = f"http://{host}:{port}"
        return self

    def __exit__(self, *error):
        self._socket.close()

    def was_asked(self) -> bool:
        try:
            self._socket.accept()[0].close()
        except BlockingIOError:
            return False
        return True


def execute(notebook: Path, proxy: Proxy) -> tuple[float, subprocess.CompletedProcess]:
    """Run a notebook with nbmake in its own folder; return the seconds, and how."""
    folder = notebook.parent
    variables = {
        "GENLAB_PROFILE": "smoke",
        "GENLAB_DATA": str(folder / "data"),
        "IPYTHONDIR": str(folder / "ipython"),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel before others
    }
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        variables |= {name: proxy.address, name.upper(): proxy.address}
    variables |= {"no_proxy": "127.0.0.1,localhost", "NO_PROXY": "127.0.0.1,localhost"}
    command = [sys.executable, "-m", "pytest", "--nbmake", "-p", "no:cacheprovider"]
    command += ["--nbmake-timeout=300", f"--rootdir={folder}", notebook.name]
    started = time.perf_counter()
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    return time.perf_counter() - started, done


@pytest.fixture(scope="module")
def overhead(tmp_path_factory) -> float:
    """Return the seconds that pytest and a kernel need for a notebook of one line."""
    path = tmp_path_factory.mktemp("empty") / "empty.ipynb"
    cells = [nbformat.v4.new_code_cell("1 + 1")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=pairs.METADATA), path)
    with Proxy() as proxy:
        seconds, done = execute(path, proxy)
    assert done.returncode == 0, done.stdout
    return seconds


def test_chapter_runs_in_smoke(root, chapter, tmp_path, overhead):
    published = pairs.notebook_path(root, chapter)
    assert published.is_file(), f"run the chapter first: {pairs.rerun(chapter)}"
    before = published.read_bytes()
    notebook = Path(shutil.copy(published, tmp_path))
    with Proxy() as proxy:
        seconds, done = execute(notebook, proxy)
        if done.returncode == 0 and seconds - overhead > SLOWER * LIMIT:
            # A slow moment of the machine is no failure; a slow chapter is slow twice.
            seconds = min(seconds, execute(notebook, proxy)[0])
        asked = proxy.was_asked()
    print(f"{chapter}: {seconds:.1f} s, of which an empty notebook: {overhead:.1f} s")
    assert done.returncode == 0, done.stdout[-6000:]
    assert "1 passed" in done.stdout
    assert not asked, "a smoke run must not ask the network"
    assert seconds - overhead <= SLOWER * LIMIT
    assert notebook.read_bytes() == published.read_bytes() == before


@pytest.mark.parametrize("reach", [True, False])
def test_a_request_to_the_network_is_noticed(tmp_path, reach):
    line = "import urllib.request as u\ntry:\n    {}\nexcept OSError:\n    pass"
    ask = "u.urlopen('http://example.org', timeout=1)" if reach else "pass"
    path = tmp_path / "ask.ipynb"
    cells = [nbformat.v4.new_code_cell(line.format(ask))]
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=pairs.METADATA), path)
    with Proxy() as proxy:
        _, done = execute(path, proxy)
        assert done.returncode == 0, done.stdout
        assert proxy.was_asked() == reach
