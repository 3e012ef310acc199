"""Folders of pictures: every kind, damaged ones, and a cache that is never trusted."""

import errno
import io
import json
import os
import shutil
import sys
import types

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlab_helpers import data, faces, storage
from genlab_helpers.settings import SettingsError

SIDE = 16
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


@pytest.fixture(autouse=True)
def workplace(monkeypatch, tmp_path):
    """Give each test its own data folder and cache, and parts of three pictures."""
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for other in ("win32", "darwin"):  # where the cache has another place
        if sys.platform == other:
            monkeypatch.setattr(storage, "cache_folder", lambda: cache(tmp_path))
            monkeypatch.setattr(faces, "cache_folder", lambda: cache(tmp_path))
    monkeypatch.setattr(faces, "PART", 3 * 3 * SIDE * SIDE)


@pytest.fixture
def drawn(monkeypatch):
    """Put a quick program that draws in the place of the real one."""

    def draw_faces(n, side=128, seed=0):
        assert side in (32, 64, 128, 256)
        rng = np.random.default_rng(seed)
        images = torch.from_numpy(rng.integers(0, 256, (n, 3, side, side), np.uint8))
        return images, {"glasses": torch.arange(n) % 2 == 0}

    module = types.ModuleType("genlab_helpers.drawn_faces")
    module.draw_faces = draw_faces
    monkeypatch.setitem(sys.modules, module.__name__, module)


@pytest.fixture
def never_opened(monkeypatch):
    """Return a function after which opening a picture is a failure."""

    def forbid():
        def opened(path, side):
            raise AssertionError(f"{path} was opened")

        monkeypatch.setattr(faces, "_picture", opened)

    return forbid


def cache(tmp_path):
    return tmp_path / "cache/genlab"


def cached_files(tmp_path, pattern="*"):
    return sorted(cache(tmp_path).glob(f"faces/*/{pattern}"))


def noise(seed, width=SIDE, height=SIDE):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


def fill(folder, count=8):
    """Put count pictures of SIDE x SIDE there, which need no resizing."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        noise(number).save(folder / f"{number:06d}.png")
    return folder


def pixels(seed):
    return torch.from_numpy(np.array(noise(seed)).transpose(2, 0, 1))


def one(folder, image, name="a.png", **options):
    """Return what becomes of one picture, (3, SIDE, SIDE)."""
    folder.mkdir(exist_ok=True)
    image.save(folder / name, **options)
    return faces.faces(folder, side=SIDE).images[0]


def colour(picture):
    """Return the one colour of a picture, or fail."""
    assert picture.flatten(1).min(1).values.equal(picture.flatten(1).max(1).values)
    return tuple(picture[:, 0, 0].tolist())


# What becomes of a picture


def test_a_picture_of_the_right_size_keeps_every_pixel(tmp_path):
    found = faces.faces(fill(tmp_path / "mine"), side=SIDE)
    assert found.images.dtype is torch.uint8
    assert torch.equal(found.images, torch.stack([pixels(i) for i in range(8)]))
    assert found.names == tuple(f"{i:06d}.png" for i in range(8))
    assert (found.name, found.split, found.source) == ("mine", "train", "folder")
    assert not found.is_stand_in
    assert (found.note, found.broken, found.attributes) == ("", (), None)


def test_the_provenance_has_the_keys_of_all_datasets(tmp_path):
    found = faces.faces(fill(tmp_path / "mine", 2), side=SIDE)
    other = data.ImageSet("x", "y", torch.zeros(1), torch.zeros(1), (), "folder", "")
    assert found.provenance().keys() == other.provenance().keys()
    assert found.provenance()["sha256"] == found.digest
    assert found.provenance()["count"] == 2


@settings(max_examples=30)
@given(width=st.integers(1, 300), height=st.integers(1, 300))
def test_the_central_square_of_any_size_fills_the_picture(
    tmp_path_factory, width, height
):
    path = tmp_path_factory.mktemp("sizes") / "a.png"
    image = Image.new("RGB", (width, height), RED)
    short = min(width, height)
    corner = ((width - short) // 2, (height - short) // 2)
    # The filter reaches two pixels, of the larger grid, beyond the square's border;
    # one more, because an odd rest is split evenly: half a pixel on each side.
    more = 3 + 2 * short // SIDE
    square = Image.new("RGB", (short + 2 * more, short + 2 * more), GREEN)
    image.paste(square, (corner[0] - more, corner[1] - more))
    image.save(path)
    assert colour(torch.from_numpy(faces._picture(path, SIDE).copy())) == GREEN


@pytest.mark.parametrize("size", [(40, 20), (20, 40)])
def test_what_lies_beside_the_square_is_cut_off(tmp_path, size):
    # Pale: what a pass of the filter clips would depend on which pass comes first.
    pale = noise(3, 20, 20).point(lambda value: 64 + value // 2)
    image = Image.new("RGB", size, RED)
    image.paste(pale, ((size[0] - 20) // 2, (size[1] - 20) // 2))
    found, square = one(tmp_path / "a", image), one(tmp_path / "b", pale)
    inside = (slice(None), slice(3, -3), slice(3, -3))  # beyond the filter's reach
    assert (found[inside].int() - square[inside].int()).abs().max() <= 1


def test_a_tiny_picture_is_enlarged(tmp_path):
    assert colour(one(tmp_path / "a", Image.new("RGB", (1, 1), BLUE))) == BLUE


def test_making_small_averages(tmp_path):
    board = np.indices((SIDE * 8, SIDE * 8)).sum(0) % 2 * 255  # the finest there is
    small = one(tmp_path / "a", Image.fromarray(board.astype(np.uint8)))
    assert (small.float() - 127.5).abs().max() < 8


def test_a_large_jpeg_is_close_to_the_careful_way(tmp_path):
    smooth = noise(1, 8, 8).resize((800, 600), Image.Resampling.BICUBIC)
    found = one(tmp_path / "a", smooth, "a.jpg", quality=95)
    box = (100, 0, 700, 600)
    want = smooth.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box)
    want = torch.from_numpy(np.array(want)).permute(2, 0, 1)
    assert (found.float() - want.float()).abs().mean() < 3


def clear(mode, paint):
    """Return a picture with a palette whose one colour is transparent."""
    image = Image.new(mode, (SIDE, SIDE), 0)
    image.putpalette([*paint, 0, 0, 0])
    return image


@pytest.mark.parametrize(
    ("image", "options", "expected"),
    [
        (Image.new("L", (20, 20), 77), {}, (77, 77, 77)),
        (Image.new("1", (20, 20), 1), {}, WHITE),
        (Image.fromarray(np.full((20, 20), 200 * 256, np.uint16)), {}, (200,) * 3),
        (Image.new("RGBA", (20, 20), (*RED, 255)), {}, RED),
        (Image.new("RGBA", (20, 20), (*RED, 0)), {}, WHITE),
        (Image.new("RGBA", (20, 20), (*RED, 51)), {}, (255, 204, 204)),
        (Image.new("LA", (20, 20), (0, 0)), {}, WHITE),
        (clear("P", RED), {}, RED),
        (clear("P", RED), {"transparency": 0}, WHITE),
        (clear("P", RED), {"transparency": b"\x33"}, (255, 204, 204)),
        (Image.new("RGB", (20, 20), RED), {"transparency": RED}, WHITE),
    ],
)
def test_every_kind_of_colour_becomes_rgb(tmp_path, image, options, expected):
    assert colour(one(tmp_path / "a", image, **options)) == expected


def test_print_colours_become_rgb(tmp_path):
    found = one(tmp_path / "a", Image.new("CMYK", (20, 20), (255, 0, 0, 0)), "a.jpg")
    red, green, blue = colour(found)
    assert red < 10
    assert min(green, blue) > 200


@pytest.mark.parametrize("name", ["a.JPG", "a.jpeg", "a.Png", "a.webp", "a.BMP"])
def test_the_kinds_of_files(tmp_path, name):
    folder = tmp_path / "a"
    found = one(folder, Image.new("RGB", (20, 20), WHITE), name)
    assert colour(found) == WHITE


@pytest.mark.parametrize("kind", ["png", "jpg", "webp"])
@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (2, lambda x: x.flip(2)),
        (3, lambda x: x.flip(1, 2)),
        (6, lambda x: x.rot90(-1, (1, 2))),
        (8, lambda x: x.rot90(1, (1, 2))),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(tmp_path, orientation, turned, kind):
    smooth = noise(0, 4, 3).resize((60, 45), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    told = one(tmp_path / "told", smooth, f"a.{kind}", exif=exif)
    plain = one(tmp_path / "plain", smooth, f"a.{kind}")
    assert not torch.equal(turned(plain), plain)
    assert (turned(plain).float() - told.float()).abs().max() <= 2


# What is found in a folder


def test_subfolders_count_hidden_ones_and_other_files_do_not(tmp_path):
    folder = fill(tmp_path / "mine", 2)
    (folder / "deep/er").mkdir(parents=True)
    noise(7).save(folder / "deep/er/z.png")
    (folder / ".hidden").mkdir()
    noise(8).save(folder / ".hidden/b.png")
    noise(9).save(folder / "._000001.png")
    (folder / "readme.txt").write_text("not a picture")
    (folder / "folder.png").mkdir()
    found = faces.faces(str(folder), side=SIDE)
    assert found.names == ("000000.png", "000001.png", "deep/er/z.png")
    assert torch.equal(found.images[2], pixels(7))


def test_the_limit_takes_the_first_names(tmp_path):
    folder = fill(tmp_path / "mine")
    found = faces.faces(folder, side=SIDE, limit=5)
    assert found.names == tuple(f"{i:06d}.png" for i in range(5))
    assert len(faces.faces(folder, side=SIDE, limit=99).images) == 8


def test_a_folder_may_be_given_in_any_way(tmp_path, monkeypatch):
    fill(tmp_path / "home/mine", 1)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "home/mine")
    digests = {faces.faces(way, side=SIDE).digest for way in (".", "~/mine", "../mine")}
    assert len(digests) == 1
    assert faces.faces(".", side=SIDE).name == "mine"


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no folder GENLAB_DATA/nowhere; give"):
        faces.faces(tmp_path / "sets/nowhere")


def test_a_file_is_no_folder(tmp_path):
    noise(0).save(tmp_path / "a.png")
    with pytest.raises(NotADirectoryError, match=r"a\.png is a file; give the folder"):
        faces.faces(tmp_path / "a.png")


def test_a_folder_without_pictures_says_what_it_wants(tmp_path):
    (tmp_path / "readme.txt").write_text("nothing")
    with pytest.raises(ValueError, match=r"holds no picture; put some there .*\.webp"):
        faces.faces(tmp_path)


@pytest.mark.parametrize("side", [0, 7, 257, 64.0, "64", True, None])
def test_a_side_out_of_range_is_refused(tmp_path, side):
    with pytest.raises(ValueError, match="side must be an int, 8 to 256"):
        faces.faces(fill(tmp_path / "mine", 1), side=side)


@pytest.mark.parametrize("limit", [0, -1, 2.0, "2", True])
def test_a_limit_out_of_range_is_refused(tmp_path, limit):
    with pytest.raises(ValueError, match="limit must be None or an int of at least 1"):
        faces.faces(fill(tmp_path / "mine", 1), side=SIDE, limit=limit)


def test_the_environment_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "fast")
    with pytest.raises(SettingsError, match="is not a profile"):
        faces.faces(fill(tmp_path / "mine", 1))


# Damaged pictures


def test_broken_pictures_are_named_and_left_out(tmp_path, capsys):
    folder = fill(tmp_path / "mine", 6)
    (folder / "000001.png").write_bytes(b"")
    (folder / "000002.png").write_text("this is no picture at all")
    whole = (folder / "000004.png").read_bytes()
    (folder / "000004.png").write_bytes(whole[: len(whole) // 2])
    noise(0).save(folder / "b.gif")
    (folder / "b.gif").rename(folder / "b.jpg")
    found = faces.faces(folder, side=SIDE)
    assert found.broken == ("000001.png", "000002.png", "000004.png", "b.jpg")
    assert found.names == ("000000.png", "000003.png", "000005.png")
    assert torch.equal(found.images, torch.stack([pixels(i) for i in (0, 3, 5)]))
    assert "4 of 7 pictures could not be read and are left out" in found.note
    assert "000002.png (not a JPEG, PNG, WebP or BMP picture)" in found.note
    assert str(tmp_path) not in found.note
    assert found.note in capsys.readouterr().out


def test_broken_pictures_are_named_again_from_the_cache(tmp_path, capsys, never_opened):
    folder = fill(tmp_path / "mine", 3)
    (folder / "000001.png").write_bytes(b"no")
    first = faces.faces(folder, side=SIDE)
    capsys.readouterr()
    never_opened()
    again = faces.faces(folder, side=SIDE)
    assert again.from_cache
    assert (again.broken, again.names) == (first.broken, first.names)
    assert "000001.png" in capsys.readouterr().out


def test_of_many_broken_pictures_some_are_named(tmp_path):
    folder = fill(tmp_path / "mine", 9)
    for number in range(1, 9):
        (folder / f"{number:06d}.png").write_bytes(b"no")
    found = faces.faces(folder, side=SIDE)
    assert len(found.broken) == 8
    assert found.note.count(".png (") == 5
    assert found.note.endswith("and 3 more.")


def test_if_all_are_broken_there_is_nothing_to_go_on_with(tmp_path):
    folder = fill(tmp_path / "mine", 4)
    for path in folder.iterdir():
        path.write_bytes(b"no")
    with pytest.raises(ValueError, match=r"4 of 4 pictures could not .*replace or"):
        faces.faces(folder, side=SIDE)
    assert not cached_files(tmp_path, "*.json")


@pytest.mark.skipif(os.name == "nt", reason="links need a right on Windows")
def test_a_link_that_leads_nowhere_is_a_broken_picture(tmp_path):
    folder = fill(tmp_path / "mine", 2)
    (folder / "000009.png").symlink_to(tmp_path / "nowhere.png")
    found = faces.faces(folder, side=SIDE)
    assert found.broken == ("000009.png",)
    assert len(found.images) == 2


@settings(max_examples=40)
@given(
    kind=st.sampled_from(["JPEG", "PNG", "WEBP", "BMP"]),
    place=st.floats(0, 1),
    junk=st.binary(min_size=1, max_size=40),
)
@pytest.mark.filterwarnings("default::UserWarning")  # Pillow's, on damaged metadata
def test_whatever_the_damage_it_is_never_fatal(tmp_path_factory, kind, place, junk):
    folder = tmp_path_factory.mktemp("damage")
    content = io.BytesIO()
    noise(0).save(content, kind)
    bad = bytearray(content.getvalue())
    start = int(place * len(bad))
    bad[start : start + len(junk)] = junk
    (folder / "bad.jpg").write_bytes(bad)
    noise(1).save(folder / "good.png")
    names = ["bad.jpg", "good.png"]
    images, broken = faces._decoded(folder, names, SIDE, lambda count: None)
    assert len(images) + len(broken) == 2
    assert np.array_equal(images[-1], pixels(1))


# The cache


def test_the_second_time_no_picture_is_opened(tmp_path, never_opened):
    folder = fill(tmp_path / "mine")
    first = faces.faces(folder, side=SIDE)
    assert not first.from_cache
    assert first.seconds > 0
    never_opened()
    again = faces.faces(folder, side=SIDE)
    assert again.from_cache
    assert again.seconds == first.seconds
    assert torch.equal(again.images, first.images)
    assert (again.digest, again.names) == (first.digest, first.names)


def test_the_cache_holds_one_array_and_its_facts(tmp_path):
    faces.faces(fill(tmp_path / "mine"), side=SIDE)
    assert [path.suffix for path in cached_files(tmp_path)] == [".bin", ".json"]
    assert cached_files(tmp_path)[0].stat().st_size == 8 * 3 * SIDE * SIDE


def test_writing_to_the_images_does_not_reach_the_file(tmp_path):
    folder = fill(tmp_path / "mine")
    first = faces.faces(folder, side=SIDE)
    first.images.zero_()
    again = faces.faces(folder, side=SIDE)
    assert again.from_cache
    assert torch.equal(again.images[0], pixels(0))


@pytest.mark.parametrize("change", ["added", "changed", "touched", "removed"])
def test_a_changed_folder_is_prepared_anew(tmp_path, change):
    folder = fill(tmp_path / "mine")
    first = faces.faces(folder, side=SIDE)
    last = folder / "000007.png"
    if change == "added":
        noise(8).save(folder / "000008.png")
    elif change == "changed":
        noise(99).save(last)
    elif change == "touched":
        os.utime(last, ns=(1, 1))
    else:
        last.unlink()
    again = faces.faces(folder, side=SIDE)
    assert not again.from_cache
    assert len(again.images) == {"added": 9, "removed": 7}.get(change, 8)
    assert torch.equal(again.images[-1], pixels({"added": 8}.get(change, 99))) is (
        change in ("added", "changed")
    )
    assert (again.digest == first.digest) is (change == "touched")
    assert len(cached_files(tmp_path)) == 2  # what the folder held before is cleared


def test_sides_and_limits_have_caches_of_their_own(tmp_path, never_opened):
    folder = fill(tmp_path / "mine")
    wanted = [{"side": 16}, {"side": 8}, {"side": 16, "limit": 3}]
    first = [faces.faces(folder, **options) for options in wanted]
    assert len({found.digest for found in first}) == 3
    never_opened()
    again = [faces.faces(folder, **options) for options in wanted]
    assert [found.digest for found in again] == [found.digest for found in first]


def test_two_folders_of_alike_files_are_not_mixed_up(tmp_path):
    for place, paint in (("a", RED), ("b", BLUE)):  # same name, bytes and time
        (tmp_path / place).mkdir()
        Image.new("RGB", (SIDE, SIDE), paint).save(tmp_path / place / "x.bmp")
        os.utime(tmp_path / place / "x.bmp", ns=(1, 1))
    assert colour(faces.faces(tmp_path / "a", side=SIDE).images[0]) == RED
    assert colour(faces.faces(tmp_path / "b", side=SIDE).images[0]) == BLUE


def kill_at(monkeypatch, name):
    """Let the build die when it comes to this picture; return what was opened."""
    whole, opened, dead = faces._picture, [], []

    def fragile(path, side):
        if path.name == name or dead:
            dead.append(path)
            raise KeyboardInterrupt
        opened.append(path.name)
        return whole(path, side)

    monkeypatch.setattr(faces, "_picture", fragile)
    return opened


def test_a_killed_build_goes_on_where_it_stopped(tmp_path, monkeypatch):
    folder = fill(tmp_path / "mine", 10)  # four parts: 3, 3, 3, 1
    (folder / "000001.png").write_bytes(b"no")
    monkeypatch.setattr(faces, "WORKERS", 1)
    with monkeypatch.context() as patch:
        kill_at(patch, "000007.png")
        with pytest.raises(KeyboardInterrupt):
            faces.faces(folder, side=SIDE)
    assert len(cached_files(tmp_path, "*.npz")) == 2
    assert not cached_files(tmp_path, "*.json")
    assert not cached_files(tmp_path, ".*")  # the half of an array is taken away
    opened = kill_at(monkeypatch, "none")
    resumed = faces.faces(folder, side=SIDE)
    assert opened == [f"{number:06d}.png" for number in (6, 7, 8, 9)]
    assert resumed.broken == ("000001.png",)
    shutil.rmtree(cache(tmp_path))
    assert resumed.digest == faces.faces(folder, side=SIDE).digest


@pytest.mark.parametrize("damage", ["cut", "scrambled", "empty", "other side"])
def test_a_damaged_part_is_made_anew(tmp_path, monkeypatch, damage):
    folder = fill(tmp_path / "mine")
    monkeypatch.setattr(faces, "WORKERS", 1)
    with monkeypatch.context() as patch:
        kill_at(patch, "000005.png")
        with pytest.raises(KeyboardInterrupt):
            faces.faces(folder, side=SIDE)
    (part,) = cached_files(tmp_path, "*.npz")
    content = part.read_bytes()
    if damage == "other side":
        faces._store_part(part, np.zeros((3, 3, 8, 8), np.uint8), {}, 0.0)
    else:
        middle = content[:900] + bytes(9) + content[909:]
        part.write_bytes({"cut": content[:-50], "empty": b""}.get(damage, middle))
    opened = kill_at(monkeypatch, "none")
    found = faces.faces(folder, side=SIDE)
    assert len(opened) == 8
    assert torch.equal(found.images, torch.stack([pixels(i) for i in range(8)]))


def cut(array, facts):
    array.write_bytes(array.read_bytes()[:-1])


def lengthen(array, facts):
    array.write_bytes(array.read_bytes() + b"\0")


def no_array(array, facts):
    array.unlink()


def no_facts(array, facts):
    facts.unlink()


def other_text(array, facts):
    facts.write_text("{")


def other_facts(array, facts):
    facts.write_text(json.dumps([1]))


def missing_fact(array, facts):
    facts.write_text(json.dumps({"broken": {}, "seconds": 1.0}))


@pytest.mark.parametrize(
    "damage",
    [cut, lengthen, no_array, no_facts, other_text, other_facts, missing_fact],
)
def test_a_damaged_cache_is_made_anew(tmp_path, damage):
    folder = fill(tmp_path / "mine")
    digest = faces.faces(folder, side=SIDE).digest
    damage(*cached_files(tmp_path))
    again = faces.faces(folder, side=SIDE)
    assert not again.from_cache
    assert again.digest == digest
    assert faces.faces(folder, side=SIDE).from_cache


def test_without_a_cache_the_pictures_are_held_in_memory(tmp_path, capsys):
    folder = fill(tmp_path / "mine")
    (tmp_path / "cache").write_text("a file where the folder should be")
    found = faces.faces(folder, side=SIDE)
    assert torch.equal(found.images, torch.stack([pixels(i) for i in range(8)]))
    assert "cannot be written to" in found.note
    assert "held in memory" in capsys.readouterr().out
    found.images.zero_()  # no warning, no error
    digest = found.digest
    (tmp_path / "cache").unlink()
    assert faces.faces(folder, side=SIDE).digest == digest


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    folder = fill(tmp_path / "mine")
    written = []

    def full(content, path):
        if len(written) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        storage.write(content, path)

    monkeypatch.setattr(faces, "WORKERS", 1)
    monkeypatch.setattr(faces, "write", full)
    found = faces.faces(folder, side=SIDE)
    assert torch.equal(found.images, torch.stack([pixels(i) for i in range(8)]))
    assert "cannot be written to (No space left on device)" in found.note
    assert "make room" in found.note


def test_a_quicker_process_is_no_failure(tmp_path, monkeypatch):
    folder = fill(tmp_path / "mine")
    faces.faces(folder, side=SIDE)
    shutil.move(tmp_path / "cache", tmp_path / "other")

    def overtaken(content, path):
        if (tmp_path / "other").exists():
            shutil.rmtree(tmp_path / "cache")
            shutil.move(tmp_path / "other", tmp_path / "cache")
        raise FileNotFoundError(errno.ENOENT, "cleared by another process")

    monkeypatch.setattr(faces, "WORKERS", 1)
    monkeypatch.setattr(faces, "write", overtaken)
    found = faces.faces(folder, side=SIDE)
    assert found.note == ""
    assert len(found.images) == 8


@pytest.mark.parametrize("workers", [1, 2, 7])
@pytest.mark.parametrize("pictures_a_part", [1, 4, 100])
def test_the_result_does_not_depend_on_how_it_was_split(
    tmp_path, monkeypatch, workers, pictures_a_part
):
    folder = fill(tmp_path / "mine", 13)
    (folder / "000004.png").write_bytes(b"no")
    monkeypatch.setattr(faces, "WORKERS", workers)
    monkeypatch.setattr(faces, "PART", pictures_a_part * 3 * SIDE * SIDE)
    found = faces.faces(folder, side=SIDE)
    good = [number for number in range(13) if number != 4]
    assert torch.equal(found.images, torch.stack([pixels(i) for i in good]))


def test_the_digest_covers_the_names_and_the_pixels(tmp_path):
    first = faces.faces(fill(tmp_path / "a"), side=SIDE)
    assert faces.faces(fill(tmp_path / "b"), side=SIDE).digest == first.digest
    (tmp_path / "b/000007.png").rename(tmp_path / "b/000008.png")
    renamed = faces.faces(tmp_path / "b", side=SIDE)
    assert torch.equal(renamed.images, first.images)
    assert renamed.digest != first.digest


# CelebA and its stand-in


@pytest.mark.parametrize("place", ["sets", "cache/genlab"])
def test_celeba_is_found_in_torchvisions_layout(tmp_path, place, capsys):
    fill(tmp_path / place / "celeba/img_align_celeba", 4)
    found = faces.faces(side=SIDE, limit=3)
    assert (found.name, found.source, found.note) == ("CelebA", "folder", "")
    assert not found.is_stand_in
    assert len(found.images) == 3
    assert found.attributes is None
    assert capsys.readouterr().out == ""


HEADING = "2\nBald Smiling \n"
ROWS = {
    "000000.png": "000000.png -1  1\n",
    "000001.png": "000001.png  1 -1\n",
    "000002.png": "000002.png -1 -1\n",
}


def celeba(tmp_path, text):
    fill(tmp_path / "sets/celeba/img_align_celeba", 3)
    (tmp_path / "sets/celeba/list_attr_celeba.txt").write_text(text)


def test_celebas_attributes_go_with_the_pictures(tmp_path):
    celeba(tmp_path, HEADING + "".join(reversed(ROWS.values())))
    (tmp_path / "sets/celeba/img_align_celeba/000000.png").write_bytes(b"broken")
    found = faces.faces(side=SIDE)
    assert found.names == ("000001.png", "000002.png")
    assert list(found.attributes) == ["Bald", "Smiling"]
    assert all(values.dtype is torch.bool for values in found.attributes.values())
    assert found.attributes["Bald"].tolist() == [True, False]
    assert found.attributes["Smiling"].tolist() == [False, False]


@pytest.mark.parametrize(
    "text",
    [
        "",
        HEADING,
        HEADING + ROWS["000000.png"] + ROWS["000001.png"],
        HEADING + ROWS["000000.png"] + ROWS["000001.png"] + "000002.png -1\n",
        HEADING + ROWS["000000.png"] + ROWS["000001.png"] + "000002.png -1 0\n",
    ],
)
def test_attributes_that_do_not_fit_are_refused(tmp_path, text):
    celeba(tmp_path, text)
    with pytest.raises(ValueError, match=r"list_attr_celeba\.txt has no line for .*or"):
        faces.faces(side=SIDE)


@pytest.mark.parametrize("empty", [True, False])
def test_without_celeba_the_stand_in_says_how_to_get_it(tmp_path, capsys, drawn, empty):
    if empty:
        (tmp_path / "sets/celeba/img_align_celeba").mkdir(parents=True)
    found = faces.faces(side=32, limit=5)
    said = capsys.readouterr().out
    assert found.note in said
    for part in (
        "STAND-IN: drawn faces (stand-in for CelebA), 5 images",
        "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html",
        "torchvision.datasets.CelebA(",
        "GENLAB_DATA/celeba/img_align_celeba/000001.jpg",
    ):
        assert part in said
    assert found.is_stand_in
    assert found.name == faces.STAND_IN
    assert found.images.shape == (5, 3, 32, 32)
    assert found.attributes["glasses"].shape == (5,)
    assert len(found.names) == len(set(found.names)) == 5
    assert found.seconds > 0
    faces.faces(side=32, limit=5)
    assert "STAND-IN" in capsys.readouterr().out  # never silent


def test_smoke_always_gives_the_stand_in(tmp_path, monkeypatch, capsys, drawn):
    fill(tmp_path / "sets/celeba/img_align_celeba", 4)
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    found = faces.faces(side=SIDE)
    assert found.is_stand_in
    assert found.images.shape == (200, 3, SIDE, SIDE)
    assert "The smoke profile uses no real data. STAND-IN" in capsys.readouterr().out
    assert faces.faces(side=SIDE).digest == found.digest
    assert faces.faces(side=SIDE, limit=199).digest != found.digest


def test_smoke_reads_a_folder_that_was_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    assert faces.faces(fill(tmp_path / "mine", 2), side=SIDE).name == "mine"


@pytest.mark.parametrize("side", [8, 48, 64, 256])
def test_the_stand_in_has_any_side(drawn, side):
    found = faces.faces(side=side, limit=2)
    assert found.images.shape == (2, 3, side, side)
    assert found.images.dtype is torch.uint8


def test_the_real_program_draws_what_is_asked_for(capsys):
    found = faces.faces(side=SIDE, limit=3)
    assert found.images.shape == (3, 3, SIDE, SIDE)
    assert found.images.float().std() > 10
    assert all(len(values) == 3 for values in found.attributes.values())
    assert "STAND-IN" in capsys.readouterr().out
