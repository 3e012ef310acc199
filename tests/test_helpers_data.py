import gzip
import hashlib
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import genlab_helpers
from genlab_helpers import data, download, stand_in, storage
from genlab_helpers.settings import SettingsError
from genlab_helpers.sources import SOURCES, SPLITS, digest, split_files

IMAGES, LABELS = split_files("MNIST", "train")
REAL_DIGESTS = {
    (name, split): digest(name, split) for name in SOURCES for split in SPLITS
}
ROOT = Path(genlab_helpers.__file__).parents[1]


def idx(array):
    header = bytes([0, 0, 8, array.ndim])
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return header + sizes + array.astype(np.uint8).tobytes()


def sha(content):
    return hashlib.sha256(content).hexdigest()


def small_files():
    """Return file name -> content of a dataset with 6 train and 3 test images."""
    draw = np.random.default_rng(0)
    files = {}
    for split, count in (("train", 6), ("test", 3)):
        images, labels = split_files("MNIST", split)
        files[images] = idx(draw.integers(0, 256, (count, 28, 28)))
        files[labels] = idx(np.arange(count))
    return files


FILES = small_files()


class Mirror(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        self.server.answer(self)

    def log_message(self, *_):
        pass


def send(handler, body, status=200, length=None):
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    handler.end_headers()
    handler.wfile.write(body)


def packed_of(handler):
    return gzip.compress(FILES[Path(handler.path).stem])


def good(handler):
    send(handler, packed_of(handler))


def without_length(handler):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(packed_of(handler))


def already_unpacked(handler):
    send(handler, FILES[Path(handler.path).stem])


def redirected(handler):
    if "/moved" in handler.path:
        return good(handler)
    handler.send_response(302)
    handler.send_header("Location", f"/moved{handler.path}")
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def html_page(handler):
    send(handler, b"\n<!DOCTYPE html><html>Quota exceeded</html>")


def cut_gzip(handler):
    send(handler, packed_of(handler)[:-40])


def scrambled_gzip(handler):
    body = bytearray(packed_of(handler))
    body[12] = 0xFF
    send(handler, bytes(body))


def wrong_content(handler):
    send(handler, gzip.compress(FILES[Path(handler.path).stem] + b"!"))


def too_much(handler):
    send(handler, gzip.compress(bytes(5000)))


def nothing_at_all(handler):
    send(handler, b"")


def forbidden(handler):
    send(handler, b"no", status=403)


def overloaded(handler):
    send(handler, b"later", status=503)


def dropped(handler):
    body = packed_of(handler)
    send(handler, body[: len(body) // 2], length=len(body))


def hangs_up(handler):
    handler.close_connection = True


def silent(handler):
    handler.server.released.wait(5)
    handler.close_connection = True


def stalls_half_way(handler):
    body = packed_of(handler)
    send(handler, body[: len(body) // 2], length=len(body))
    handler.wfile.flush()
    silent(handler)


def first(bad):
    """Answer the first request badly, and all later ones well."""

    def answer(handler):
        (bad if len(handler.server.asked) == 1 else good)(handler)

    return answer


@contextmanager
def serving(answer):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    server.answer, server.asked, server.released = answer, [], threading.Event()
    server.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def mirror():
    """Start mirrors that answer as told; all stop at the end of the test."""
    from contextlib import ExitStack

    with ExitStack() as stack:
        yield lambda answer: stack.enter_context(serving(answer))


@pytest.fixture(autouse=True)
def workplace(monkeypatch, tmp_path):
    """Give each test its own folders, no memory, no real mirror and no proxy."""
    for name in list(os.environ):
        if name.startswith("GENLAB_") or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.setattr(storage, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(data, "_loaded", {})
    monkeypatch.setattr(download, "_silent_since", {})
    monkeypatch.setattr(download, "PAUSE", 0.01)
    use_mirrors(monkeypatch)


def use_mirrors(monkeypatch, *urls):
    digests = {name: sha(content) for name, content in FILES.items()}
    for name in SOURCES:
        small = replace(SOURCES[name], mirrors=urls or (closed(),), files=digests)
        monkeypatch.setitem(SOURCES, name, small)


def closed():
    """Return the address of a mirror that refuses connections."""
    return "http://127.0.0.1:9/"


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "sets" / "MNIST" / "raw"
    path.mkdir(parents=True)
    return path


def fill(folder, names=tuple(FILES)):
    for name in names:
        (folder / name).write_bytes(FILES[name])


def assert_real(image_set, split="train"):
    images, labels = (FILES[name] for name in split_files("MNIST", split))
    count = len(labels) - 8
    assert not image_set.is_stand_in
    assert image_set.images.shape == (count, 1, 28, 28)
    grey = (image_set.images.double() * 255).round().to(torch.uint8)
    assert grey.numpy().tobytes() == images[16:]
    assert image_set.labels.tolist() == list(range(count))
    assert image_set.digest == digest("MNIST", split)


# The table


def test_the_table_is_whole():
    assert list(SOURCES) == ["MNIST", "Fashion-MNIST"]
    for name, source in SOURCES.items():
        assert source.name == name
        assert len(source.classes) == 10
        wanted = {file for split in SPLITS for file in split_files(name, split)}
        assert set(source.files) == wanted


def test_the_digest_of_a_split_is_that_of_both_digests():
    both = sha(FILES[IMAGES]) + sha(FILES[LABELS])
    assert digest("MNIST", "train") == sha(both.encode())
    assert digest("MNIST", "test") != digest("MNIST", "train")


@pytest.mark.parametrize("arguments", [("EMNIST", "train"), ("MNIST", "valid")])
def test_unknown_dataset_or_split_is_refused(arguments):
    with pytest.raises(ValueError, match=arguments[0]):
        digest(*arguments)


def test_the_digests_that_published_runs_carry():
    """A pin: whoever changes the table by mistake disowns every published run."""
    found = [REAL_DIGESTS[name, split] for name in SOURCES for split in SPLITS]
    expected = ["02def62d", "fc4ad292", "38831b7b", "9aa03676"]
    assert [text[:8] for text in found] == expected


# Reading what is there


def test_files_in_the_folder_are_used_in_silence(folder, capfd):
    fill(folder)
    for split in ("train", "test"):
        image_set = data.mnist(split)
        assert_real(image_set, split)
        assert (image_set.source, image_set.note) == ("folder", "")
    assert capfd.readouterr() == ("", "")
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)


def test_fashion_has_its_own_folder_and_names(tmp_path):
    folder = tmp_path / "sets" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    fill(folder)
    image_set = data.fashion_mnist()
    assert (image_set.name, image_set.source) == ("Fashion-MNIST", "folder")
    assert image_set.classes[9] == "Ankle boot"


def test_only_the_packed_files_are_there(folder):
    for name in FILES:
        (folder / f"{name}.gz").write_bytes(gzip.compress(FILES[name]))
    assert_real(data.mnist())
    assert sorted(p.name for p in folder.iterdir()) == sorted(f"{n}.gz" for n in FILES)


def test_the_cache_folder_is_searched_too(tmp_path):
    folder = tmp_path / "cache" / "MNIST" / "raw"
    folder.mkdir(parents=True)
    fill(folder)
    assert_real(data.mnist())
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16]
)
def test_float_images_lie_in_0_to_1(folder, dtype):
    fill(folder)
    images = data.mnist(dtype=dtype).images
    assert images.dtype is dtype
    assert images.min() >= 0
    assert images.max() <= 1
    grey = torch.frombuffer(bytearray(FILES[IMAGES][16:]), dtype=torch.uint8)
    expected = (grey.double() / 255).reshape(images.shape)
    assert torch.allclose(images.double(), expected, atol=torch.finfo(dtype).eps)


def test_uint8_images_and_int64_labels(folder):
    fill(folder)
    image_set = data.mnist(dtype=torch.uint8)
    assert image_set.images.dtype is torch.uint8
    assert image_set.images.numpy().tobytes() == FILES[IMAGES][16:]
    assert image_set.labels.dtype is torch.int64


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64, "float32"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(ValueError, match="dtype must be"):
        data.mnist(dtype=dtype)


def test_other_splits_are_refused():
    with pytest.raises(ValueError, match="'train' or 'test'"):
        data.mnist("valid")


def test_the_second_call_reads_nothing_and_cannot_be_spoilt(folder):
    fill(folder)
    for dtype in (torch.uint8, torch.float32):
        spoilt = data.mnist(dtype=dtype)
        spoilt.images.zero_()
        spoilt.labels.zero_()
    for path in folder.iterdir():
        path.unlink()
    assert_real(data.mnist())


def test_another_folder_is_another_read(folder, monkeypatch, tmp_path):
    fill(folder)
    assert_real(data.mnist())
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "elsewhere"))
    assert data.mnist().is_stand_in


def test_provenance_is_what_the_record_keeps(folder):
    fill(folder)
    assert data.mnist("test").provenance() == {
        "name": "MNIST",
        "split": "test",
        "source": "folder",
        "sha256": digest("MNIST", "test"),
        "count": 3,
    }


def test_a_large_set_is_there_in_milliseconds(monkeypatch, folder):
    """Generous, for busy machines: one image at a time takes some seconds."""
    monkeypatch.setitem(FILES, IMAGES, idx(np.zeros((60_000, 28, 28), np.uint8)))
    monkeypatch.setitem(FILES, LABELS, idx(np.zeros(60_000, np.uint8)))
    use_mirrors(monkeypatch)
    fill(folder, (IMAGES, LABELS))
    data.mnist()
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        data.mnist(dtype=torch.uint8)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.5


# Where the folder is


def test_data_folder_is_the_variable_or_the_cache(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GENLAB_DATA", "here")
    assert data.data_folder() == tmp_path / "here"
    monkeypatch.setenv("GENLAB_DATA", "")
    assert data.data_folder() == tmp_path / "cache"


def test_a_file_as_data_folder_is_refused(monkeypatch, tmp_path):
    (tmp_path / "sets").write_text("")
    for profile in ("laptop", "smoke"):
        monkeypatch.setenv("GENLAB_PROFILE", profile)
        with pytest.raises(SettingsError, match="is a file"):
            data.mnist()


@pytest.mark.parametrize(
    ("platform", "variables", "expected"),
    [
        ("linux", {}, "home/.cache/genlab"),
        ("linux", {"XDG_CACHE_HOME": "xdg"}, "xdg/genlab"),
        ("darwin", {}, "home/Library/Caches/genlab"),
        ("win32", {}, "home/AppData/Local/genlab"),
        ("win32", {"LOCALAPPDATA": "local"}, "local/genlab"),
    ],
)
def test_the_cache_folder_of_each_system(
    monkeypatch, tmp_path, platform, variables, expected
):
    monkeypatch.undo()
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name, value in variables.items():
        monkeypatch.setenv(name, str(tmp_path / value))
    monkeypatch.setattr(sys, "platform", platform)
    assert storage.cache_folder() == tmp_path / expected


def test_a_user_without_a_home_has_a_cache_folder(monkeypatch):
    monkeypatch.undo()
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert storage.cache_folder().is_absolute()
    assert storage.shown(Path("/elsewhere/file")) == "/elsewhere/file"


# Downloading


@pytest.mark.parametrize(
    "answer", [good, without_length, already_unpacked, redirected, first(dropped)]
)
def test_a_download_is_checked_saved_and_used(mirror, monkeypatch, folder, answer):
    server = mirror(answer)
    use_mirrors(monkeypatch, server.url)
    image_set = data.mnist()
    assert_real(image_set)
    assert image_set.source == "download"
    assert sorted(p.name for p in folder.iterdir()) == [IMAGES, LABELS]
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]
    data._loaded.clear()
    asked = len(server.asked)
    assert data.mnist().source == "folder"
    assert len(server.asked) == asked


def test_a_download_makes_the_folder_and_shows_no_path_of_this_machine(
    mirror, monkeypatch, tmp_path, capsys
):
    use_mirrors(monkeypatch, mirror(good).url)
    data.mnist()
    out = capsys.readouterr().out
    assert f"GENLAB_DATA/MNIST/raw/{IMAGES}" in out
    assert str(tmp_path) not in out


def test_a_progress_bar_is_shown(mirror, monkeypatch, capsys):
    use_mirrors(monkeypatch, mirror(good).url)
    data.mnist()
    assert f"{IMAGES}.gz: " in capsys.readouterr().err


FAULTS = {
    html_page: ("a web page", 1),
    cut_gzip: ("cut off", 1),
    scrambled_gzip: ("gzip file is damaged", 1),
    wrong_content: ("wrong content", 1),
    nothing_at_all: ("instead of a gzip file (0 bytes)", 1),
    forbidden: ("answered 403", 1),
    overloaded: ("answered 503", 2),
    dropped: ("the connection broke after", 2),
    hangs_up: ("the connection broke", 2),
    silent: ("sent nothing within", 1),
    stalls_half_way: ("sent nothing within", 1),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_faulty_mirror_is_named_and_leaves_nothing(
    mirror, monkeypatch, folder, capsys, fault
):
    reason, times = FAULTS[fault]
    monkeypatch.setattr(download, "SILENCE", 0.3)
    server = mirror(fault)
    use_mirrors(monkeypatch, server.url)
    image_set = data.mnist()
    assert image_set.is_stand_in
    assert len(server.asked) == times
    out = capsys.readouterr().out
    for part in (IMAGES, f"127.0.0.1:{server.server_port}: ", reason, str(folder)):
        assert part in out
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_the_second_mirror_helps(mirror, monkeypatch, folder, fault):
    monkeypatch.setattr(download, "SILENCE", 0.3)
    use_mirrors(monkeypatch, mirror(fault).url, mirror(good).url)
    assert_real(data.mnist())
    assert (folder / LABELS).read_bytes() == FILES[LABELS]


def test_a_gzip_that_unpacks_without_end_is_stopped(mirror, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 4000)
    use_mirrors(monkeypatch, mirror(too_much).url)
    assert "wrong content: 4,001 bytes" in data.mnist().note


def test_a_body_without_end_is_stopped(mirror, monkeypatch):
    monkeypatch.setattr(download, "LARGEST", 100)
    use_mirrors(monkeypatch, mirror(good).url)
    assert "far more than the file holds" in data.mnist().note


def test_a_body_that_drips_is_stopped(mirror, monkeypatch):
    monkeypatch.setattr(download, "LONGEST", -1.0)
    use_mirrors(monkeypatch, mirror(good).url)
    assert "was not done after" in data.mnist().note


def test_a_mirror_that_did_not_answer_is_left_in_peace_for_a_while(mirror, monkeypatch):
    monkeypatch.setattr(download, "SILENCE", 0.3)
    server = mirror(silent)
    use_mirrors(monkeypatch, server.url)
    data.mnist("train")
    start = time.monotonic()
    assert "not asked again" in data.mnist("test").note
    assert time.monotonic() - start < 0.25
    assert len(server.asked) == 1
    monkeypatch.setattr(download, "FORGET", 0.0)
    server.answer = good
    assert_real(data.mnist("train"))


def test_a_name_that_takes_for_ever_to_look_up_is_given_up(monkeypatch):
    release = threading.Event()

    def look_up(*_, **__):
        release.wait(5)
        raise OSError

    monkeypatch.setattr("socket.getaddrinfo", look_up)
    monkeypatch.setattr(download, "SILENCE", 0.2)
    use_mirrors(monkeypatch, "http://mirror.invalid/")
    start = time.monotonic()
    assert "sent nothing within" in data.mnist().note
    release.set()
    assert time.monotonic() - start < 3


def test_a_stand_in_for_want_of_a_network_is_not_kept(mirror, monkeypatch):
    assert data.mnist().is_stand_in
    use_mirrors(monkeypatch, mirror(good).url)
    assert_real(data.mnist())


def test_one_message_tells_file_reasons_and_remedy(mirror, monkeypatch, folder, capfd):
    use_mirrors(monkeypatch, closed(), mirror(forbidden).url)
    image_set = data.mnist()
    out, err = capfd.readouterr()
    assert err == ""
    assert out == image_set.note + "\n"
    parts = ["MNIST could not be had", IMAGES, "cannot be reached", "403"]
    parts += ["What helps", closed(), f"{LABELS}.gz", str(folder), "GENLAB_DATA"]
    places = [out.index(part) for part in parts]
    assert places[-1] < out.index("STAND-IN: scikit-learn digits (stand-in for MNIST)")


def test_half_a_split_is_no_split(folder):
    fill(folder, [IMAGES])
    assert LABELS in data.mnist().note


# Damaged files


DAMAGE = {
    "truncated": FILES[IMAGES][:-7],
    "empty": b"",
    "tampered": FILES[IMAGES][:-1] + b"\x00\x00",
}


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_told_kept_and_replaced(
    mirror, monkeypatch, folder, capsys, content
):
    use_mirrors(monkeypatch, mirror(good).url)
    fill(folder)
    (folder / IMAGES).write_bytes(content)
    assert_real(data.mnist())
    kept = f"{IMAGES}.damaged-{sha(content)[:8]}"
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, kept])
    assert (folder / kept).read_bytes() == content
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]
    out = capsys.readouterr().out
    for part in ("damaged or unreadable", "not used", kept, "a good copy is now"):
        assert part in out


@pytest.mark.parametrize("content", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_without_replacement_is_left_alone(folder, capsys, content):
    fill(folder)
    (folder / IMAGES).write_bytes(content)
    assert data.mnist().is_stand_in
    assert "left as it is" in capsys.readouterr().out
    assert (folder / IMAGES).read_bytes() == content
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)


@given(
    st.sampled_from([IMAGES, LABELS]),
    st.integers(0, 2**20),
    st.integers(1, 255),
    st.booleans(),
)
def test_whatever_byte_is_changed_or_missing_is_noticed(name, place, change, cut):
    content = bytearray(FILES[name])
    place %= len(content)
    content[place] ^= change
    spoilt = bytes(content[:place] if cut else content)
    for attempt in (spoilt, gzip.compress(spoilt)):
        opener = download.check if attempt is spoilt else download.unpack
        with pytest.raises(download.BadFile):
            opener(attempt, sha(FILES[name]))


@given(st.binary(max_size=200))
def test_whatever_bytes_come_they_are_content_or_a_bad_file(packed):
    for start in (b"", b"\x1f\x8b\x08\x00"):
        with pytest.raises(download.BadFile):
            download.unpack(start + packed, sha(FILES[IMAGES]))


def test_a_damaged_packed_file_is_told_and_a_good_one_fetched(
    mirror, monkeypatch, folder, capsys
):
    use_mirrors(monkeypatch, mirror(good).url)
    packed = gzip.compress(FILES[IMAGES])[:-9]
    (folder / f"{IMAGES}.gz").write_bytes(packed)
    assert_real(data.mnist())
    assert f"{IMAGES}.gz is damaged" in capsys.readouterr().out
    assert (folder / f"{IMAGES}.gz").read_bytes() == packed
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]


def test_a_damaged_file_is_repaired_from_the_packed_one(folder):
    fill(folder)
    (folder / IMAGES).write_bytes(b"half")
    (folder / f"{IMAGES}.gz").write_bytes(gzip.compress(FILES[IMAGES]))
    image_set = data.mnist()
    assert_real(image_set)
    assert image_set.source == "folder"
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]
    assert (folder / f"{IMAGES}.damaged-{sha(b'half')[:8]}").read_bytes() == b"half"


def test_a_folder_in_the_place_of_a_file_is_told(mirror, monkeypatch, folder, tmp_path):
    use_mirrors(monkeypatch, mirror(good).url)
    (folder / IMAGES).mkdir()
    image_set = data.mnist()
    assert_real(image_set)
    assert "Is a directory" in image_set.note
    assert (tmp_path / "cache/MNIST/raw" / IMAGES).is_file()
    assert (folder / IMAGES).is_dir()


def test_leftovers_of_a_killed_download_do_no_harm(mirror, monkeypatch, folder):
    leftover = folder / f".{IMAGES}.0123abcd.part"
    leftover.write_bytes(FILES[IMAGES][:100])
    use_mirrors(monkeypatch, mirror(good).url)
    assert_real(data.mnist())
    assert leftover.exists()
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]


# Folders that cannot be written to


@pytest.fixture
def read_only(monkeypatch):
    """Make a folder read-only, for root too, whom the permissions do not stop."""

    def protect(folder):
        write = storage.write

        def refuse(content, path):
            if path.is_relative_to(folder):
                raise OSError(30, "Read-only file system")
            write(content, path)

        monkeypatch.setattr(storage, "write", refuse)

    return protect


def test_a_read_only_folder_with_good_files_is_used(folder, read_only, capsys):
    fill(folder)
    read_only(folder)
    assert_real(data.mnist())
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("there", [None, b"half a file"])
def test_a_read_only_folder_sends_the_download_to_the_cache(
    mirror, monkeypatch, folder, tmp_path, read_only, there
):
    use_mirrors(monkeypatch, mirror(good).url)
    if there:
        (folder / IMAGES).write_bytes(there)
    read_only(folder)
    image_set = data.mnist()
    assert_real(image_set)
    assert "GENLAB_DATA/MNIST/raw cannot be written to: Read-only" in image_set.note
    cached = tmp_path / "cache/MNIST/raw" / IMAGES
    assert cached.read_bytes() == FILES[IMAGES]
    if there:
        assert (folder / IMAGES).read_bytes() == there
    data._loaded.clear()
    assert data.mnist().source == "folder"


def test_nowhere_to_write_still_gives_the_data(
    mirror, monkeypatch, tmp_path, read_only
):
    use_mirrors(monkeypatch, mirror(good).url)
    read_only(tmp_path)
    image_set = data.mnist()
    assert_real(image_set)
    assert "will be fetched again" in image_set.note


def test_a_full_disk_leaves_no_half_written_file(monkeypatch, tmp_path):
    target = tmp_path / "file"
    target.write_bytes(b"before")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write(b"after", target)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"before"


def test_a_good_file_that_came_meanwhile_is_not_called_damaged(tmp_path):
    target = tmp_path / IMAGES
    target.write_bytes(FILES[IMAGES])
    assert storage._place(FILES[IMAGES], target, sha(FILES[IMAGES])) == []
    assert [p.name for p in tmp_path.iterdir()] == [IMAGES]


def test_the_old_file_stays_whole_until_the_new_one_takes_its_place(
    monkeypatch, tmp_path
):
    target = tmp_path / "file"
    target.write_bytes(b"before")
    replace_file, seen = os.replace, []

    def watched(temporary, path):
        seen.append((Path(temporary).read_bytes(), Path(path).read_bytes()))
        replace_file(temporary, path)

    monkeypatch.setattr(os, "replace", watched)
    storage.write(b"after", target)
    assert seen == [(b"after", b"before")]
    assert target.read_bytes() == b"after"


# Several processes

CHILD = """
import sys, time
from dataclasses import replace
sys.path.insert(0, {root!r})
from genlab_helpers import data, storage
from genlab_helpers.sources import SOURCES
SOURCES["MNIST"] = replace(SOURCES["MNIST"], mirrors=({url!r},), files={files!r})
{before}
found = data.mnist()
print(found.source, found.images.sum().item())
"""


def child(url, before=""):
    digests = {name: sha(content) for name, content in FILES.items()}
    code = CHILD.format(root=str(ROOT), url=url, files=digests, before=before)
    return subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def test_two_processes_download_at_once(mirror, folder):
    (folder / IMAGES).write_bytes(b"half a file")
    together = threading.Barrier(2, timeout=120)

    def both_at_once(handler):
        if IMAGES in handler.path:
            together.wait()
        good(handler)

    url = mirror(both_at_once).url
    children = [child(url), child(url)]
    outputs = [process.communicate(timeout=180) for process in children]
    assert [process.returncode for process in children] == [0, 0], outputs
    last_lines = {out.decode().splitlines()[-1] for out, _ in outputs}
    assert len(last_lines) == 1
    assert last_lines.pop().startswith("download ")
    kept = f"{IMAGES}.damaged-{sha(b'half a file')[:8]}"
    assert sorted(p.name for p in folder.iterdir()) == sorted([IMAGES, LABELS, kept])
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]
    assert (folder / kept).read_bytes() == b"half a file"


def test_a_process_killed_while_it_writes_does_no_harm(mirror, monkeypatch, folder):
    freeze = "storage.os.fsync = lambda fd: (print('half', flush=True), time.sleep(60))"
    process = child(mirror(good).url, freeze)
    lines = iter(process.stdout.readline, b"")
    assert any(line.startswith(b"half") for line in lines)
    process.kill()
    process.communicate()
    (leftover,) = folder.iterdir()
    assert leftover.name.endswith(".part")
    use_mirrors(monkeypatch, mirror(good).url)
    assert_real(data.mnist())
    assert (folder / IMAGES).read_bytes() == FILES[IMAGES]


# The idx format


@given(arrays(np.uint8, st.lists(st.integers(0, 5), min_size=1, max_size=4)))
def test_idx_round_trip(array):
    back = data.parse_idx(idx(array))
    assert back.shape == array.shape
    assert np.array_equal(back, array)


@given(st.binary(max_size=40), st.booleans())
def test_idx_parser_accepts_only_what_its_header_promises(content, with_magic):
    content = b"\x00\x00\x08" * with_magic + content
    try:
        array = data.parse_idx(content)
    except ValueError:
        return
    assert idx(array) == content


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not an idx file"),
        (b"\x00\x00\x0d\x01\x00\x00\x00\x00", "not an idx file"),
        (b"\x00\x00\x08\x00", "not an idx file"),
        (FILES[IMAGES][:10], "header is cut off"),
        (FILES[IMAGES][:-1], "promises"),
        (FILES[IMAGES] + b"!", "promises"),
    ],
)
def test_bad_idx_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        data.parse_idx(content)


@pytest.mark.parametrize("labels", [idx(np.arange(5)), idx(np.zeros((6, 1)))])
def test_images_and_labels_must_go_together(monkeypatch, folder, labels):
    monkeypatch.setitem(FILES, LABELS, labels)
    use_mirrors(monkeypatch)
    fill(folder)
    with pytest.raises(ValueError, match="do not go with labels"):
        data.mnist()


# The stand-in


def test_smoke_uses_the_stand_in_and_no_network(mirror, monkeypatch, folder, capsys):
    fill(folder)
    server = mirror(good)
    use_mirrors(monkeypatch, server.url)
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    for _ in range(2):
        image_set = data.mnist()
        assert image_set.is_stand_in
        out = capsys.readouterr().out
        assert out == image_set.note + "\n"
        assert out.count("\n") == 1
        assert "STAND-IN: scikit-learn digits (stand-in for MNIST), 1,437" in out
    assert server.asked == []
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    assert_real(data.mnist())


def test_the_stand_in_is_labelled_in_the_record(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    image_set = data.fashion_mnist("test")
    assert image_set.provenance() == {
        "name": "scikit-learn digits (stand-in for Fashion-MNIST)",
        "split": "test",
        "source": "stand-in",
        "sha256": image_set.digest,
        "count": 360,
    }
    assert "NOT garments" in image_set.note
    assert image_set.classes == tuple("0123456789")


def test_the_stand_in_is_the_same_everywhere(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    digests = [data.mnist(split).digest[:16] for split in ("train", "test")]
    assert digests == ["67d3a7a25995c33d", "f4ca75076fd46766"]


def test_the_stand_in_is_split_by_class_and_shares_nothing(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    train, test = (data.mnist(split, dtype=torch.uint8) for split in ("train", "test"))
    assert train.images.shape == (1437, 1, 28, 28)
    assert test.images.shape == (360, 1, 28, 28)
    ratio = test.labels.bincount() / train.labels.bincount()
    assert ratio.min() > 0.23
    assert ratio.max() < 0.27
    from sklearn.datasets import load_digits

    together = torch.cat([train.images, test.images]).flatten(1)
    originals = torch.from_numpy(load_digits().images).flatten(1)
    assert len(together.unique(dim=0)) == len(originals.unique(dim=0))


def test_stand_in_images_can_be_recognised(monkeypatch):
    """A nearest neighbour knows them: pictures and labels belong together."""
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    train, test = (data.mnist(split) for split in ("train", "test"))
    nearest = torch.cdist(test.images.flatten(1), train.images.flatten(1)).argmin(1)
    assert (train.labels[nearest] == test.labels).float().mean() > 0.95


@given(arrays(np.int64, (2, 8, 8), elements=st.integers(0, 16)))
def test_enlarging_is_linear_interpolation(small):
    large = stand_in.enlarge(small)
    assert large.shape == (2, 28, 28)
    assert large.dtype == np.uint8
    reference = torch.nn.functional.interpolate(
        torch.from_numpy(small)[:, None].double(), size=(28, 28), mode="bilinear"
    )
    expected = reference[:, 0].numpy() * 255 / 16
    assert abs(large - expected).max() <= 0.5 + 1e-9
