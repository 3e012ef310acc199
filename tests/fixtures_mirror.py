"""A plugin: folders of a test's own, and a mirror that serves files, well or badly."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import HTTPDefaultErrorHandler

import pytest

from genlab_helpers import files


@pytest.fixture
def place(monkeypatch, tmp_path):
    """Return the folders of a computer that has nothing yet: data, cache, hub."""
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    monkeypatch.setenv("no_proxy", "*")
    for name in ("GENLAB_DATA", "XDG_CACHE_HOME", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    cache, hub = tmp_path / "XDG_CACHE_HOME/genlab", tmp_path / "TORCH_HOME/hub"
    data = tmp_path / "GENLAB_DATA"
    return SimpleNamespace(data=data, cache=cache, hub=hub / "checkpoints")


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        server, fault = self.server, self.server.fault
        server.asked.append(self.path)
        content = server.pages.get(self.path.strip("/"))
        if fault == "silent":
            server.closing.wait(5)
        if fault in ("silent", "hangs up"):
            return
        if fault == "absent" or content is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        content = b"!" + content[1:] if fault == "wrong" else content
        self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)

    def log_message(self, *_):
        pass


def refused(self, request, answer, code, message, headers):
    answer.close()  # torch leaves it open, which a test may not
    raise URLError(f"{code} {message}")


@pytest.fixture
def mirror(monkeypatch):
    """Return a server of `pages` (name -> content) at `url`, with a `fault` or none."""
    monkeypatch.setattr(HTTPDefaultErrorHandler, "http_error_default", refused)
    with ThreadingHTTPServer(("127.0.0.1", 0), Mirror) as server:
        server.pages, server.fault, server.asked = {}, None, []
        server.url = f"http://127.0.0.1:{server.server_port}/"
        server.closing = threading.Event()
        server.handle_error = lambda *_: None  # torchvision hangs up early
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.closing.set()
        server.shutdown()
        thread.join()


@pytest.fixture(params=["absent", "wrong", "cut", "hangs up", "silent"])
def fault(request, mirror, monkeypatch) -> str:
    """Let the mirror fail, in each way in turn."""
    mirror.fault = request.param
    if mirror.fault == "silent":
        monkeypatch.setattr(files, "SILENCE", 0.3)
    return mirror.fault
