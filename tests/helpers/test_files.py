"""A file is found, or fetched whole, or the reasons are told; none is lost."""

import hashlib
import os
import shutil
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from genlab_helpers import files

pytest_plugins = ["fixtures_mirror"]
pytestmark = pytest.mark.usefixtures("place")

CONTENT = bytes(range(256)) * 500
SHA256 = hashlib.sha256(CONTENT).hexdigest()
NAME = "weights/net.pth"


def put(folder, content=CONTENT):
    files.write(content, folder / "net.pth")
    return folder / "net.pth"


def everything(folder):
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if not p.is_dir())


def test_the_first_good_copy_is_used_in_silence(place, mirror, capfd):
    paths = [put(place.data / "weights"), put(place.cache / "weights"), put(place.hub)]
    for path in paths:
        for sha256 in (SHA256, SHA256[:8], ""):
            found = files.obtain(NAME, [mirror.url], sha256, [place.hub])
            assert found == (path, "folder")
        path.unlink()
    assert (mirror.asked, *capfd.readouterr()) == ([], "", "")


def test_a_download_is_whole_shown_and_kept(place, mirror, capfd):
    mirror.pages["net"] = CONTENT
    urls = [f"{mirror.url}elsewhere", f"{mirror.url}net"]
    path, source = files.obtain(NAME, urls, SHA256)
    assert (path, source) == (place.data / NAME, "download")
    assert path.read_bytes() == CONTENT
    assert "100%" in capfd.readouterr().err  # the progress bar
    assert files.obtain(NAME, urls, SHA256) == (path, "folder")
    assert mirror.asked == ["/elsewhere", "/net"]
    assert everything(place.data) == [Path(NAME)]


def test_a_faulty_mirror_is_named_and_leaves_nothing(place, mirror, fault):
    mirror.pages["net"] = CONTENT
    with pytest.raises(files.DownloadError) as caught:
        files.obtain(NAME, [f"{mirror.url}net"], SHA256)
    _, reason, remedy = str(caught.value).splitlines()
    assert f"{mirror.url}net: " in reason
    assert ("timed out" in reason) == (fault == "silent")
    assert ("network" in remedy, f"GENLAB_DATA/{NAME}" in remedy) == (True, True)
    assert everything(place.data.parent) == []
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("content", [CONTENT[:-1], b""])
def test_a_damaged_copy_is_named_and_kept(place, mirror, capsys, content):
    damaged = put(place.data / "weights", content)
    mirror.pages["net"] = CONTENT
    with pytest.raises(files.DownloadError, match=f"GENLAB_DATA/{NAME} is damaged"):
        files.obtain(NAME, [], SHA256)
    found = files.obtain(NAME, [f"{mirror.url}net"], SHA256)
    assert found == (place.cache / NAME, "download")
    assert files.obtain(NAME, [], SHA256) == (place.cache / NAME, "folder")
    assert f"GENLAB_DATA/{NAME} is damaged" in capsys.readouterr().out
    assert damaged.read_bytes() == content


@pytest.mark.parametrize("why", ["read-only", "a file in the way", "damaged"])
def test_where_no_file_can_go_the_next_folder_is_used(place, mirror, monkeypatch, why):
    mirror.pages["net"] = CONTENT
    closed, allowed = [], os.access  # root may write everywhere, so it is said here
    monkeypatch.setattr(os, "access", lambda p, m: p not in closed and allowed(p, m))
    for folder in (place.data, place.cache):
        if why == "read-only":
            closed.append(folder / "weights")
        else:  # where the file would go, or where its folder would
            files.write(b"", folder / (NAME if why == "damaged" else "weights"))
        if folder == place.data:
            found = files.obtain(NAME, [f"{mirror.url}net"], SHA256)
            assert found == (place.cache / NAME, "download")
            shutil.rmtree(place.cache)
    with pytest.raises(files.DownloadError, match="no place for it is both free and"):
        files.obtain(NAME, [f"{mirror.url}net"], SHA256)


@pytest.mark.parametrize("step", [(shutil, "move"), (Path, "replace")])
def test_an_interrupted_move_leaves_nothing_half(place, mirror, monkeypatch, step):
    def interrupted(*_):
        raise KeyboardInterrupt

    mirror.pages["net"] = CONTENT
    before = put(place.data, b"before")
    monkeypatch.setattr(*step, interrupted)
    obtain, write = (NAME, [f"{mirror.url}net"], SHA256), (CONTENT, before)
    with pytest.raises(KeyboardInterrupt):
        files.obtain(*obtain) if step[0] is shutil else files.write(*write)
    assert everything(place.data) == [Path("net.pth")]
    assert before.read_bytes() == b"before"


def test_many_writers_leave_the_whole_of_one(tmp_path):
    contents = [bytes([number]) * 100_000 for number in range(20)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: files.write(content, tmp_path / "x"), contents))
    assert (tmp_path / "x").read_bytes() in contents
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_paths_are_shown_without_the_place_on_this_machine(place, monkeypatch):
    monkeypatch.setenv("HOME", str(place.data.parent))
    assert files.shown(place.data / "a/b") == "~/GENLAB_DATA/a/b", "if it is not there"
    place.data.mkdir()
    assert files.shown(place.data / "a/b") == "GENLAB_DATA/a/b"
    assert files.shown(place.cache / "a") == "~/XDG_CACHE_HOME/genlab/a"
    assert files.shown(Path("/elsewhere/a")) == "/elsewhere/a"
