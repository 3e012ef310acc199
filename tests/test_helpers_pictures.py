"""Named, own and uploaded pictures: every input case, the order of search, errors."""

import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlab_helpers import download, pictures
from genlab_helpers.download import DownloadError
from genlab_helpers.pictures import PAINTINGS, PHOTOGRAPHS, PictureError

NAMES = PHOTOGRAPHS + PAINTINGS


def file_of(image, form="PNG", **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def halves(wide=80, high=60, left=(255, 0, 0), right=(0, 0, 255)):
    """A picture whose left half is red and whose right half is blue."""
    pixels = np.empty((high, wide, 3), np.uint8)
    pixels[:, : wide // 2], pixels[:, wide // 2 :] = left, right
    return Image.fromarray(pixels)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An empty data folder and cache, no network, the laptop profile."""
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(pictures.storage, "cache_folder", lambda: tmp_path / "cache")
    asked = []

    def refuse(address, path, sha256, largest):
        asked.append(address)
        raise DownloadError("picture", ["no network"])

    monkeypatch.setattr(download, "save", refuse)
    return tmp_path, asked


def put(folder, content, name="starry_night.jpg", kind="style"):
    path = folder / "images" / kind / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def serve(monkeypatch, content):
    """Let every download bring this content; return the addresses asked for."""
    asked = []

    def save(address, path, sha256, largest):
        asked.append(address)
        path.write_bytes(content)

    monkeypatch.setattr(download, "save", save)
    return asked


# ------------------------------------------------------------------------ own pictures


@given(st.integers(40, 99), st.integers(40, 99), st.integers(90, 120))
@settings(max_examples=25, deadline=None)
def test_aspect_is_kept_or_the_middle_is_cut_out(wide, high, side):
    content = file_of(halves(wide, high))
    kept = pictures.load(content, side).x
    assert kept.shape[:2] == (1, 3)
    assert max(kept.shape[2:]) == side
    assert kept.shape[3] / kept.shape[2] == pytest.approx(wide / high, abs=0.06)
    assert pictures.load(content, side, square=True).x.shape == (1, 3, side, side)


def test_values_are_colours_in_0_1():
    x = pictures.load(file_of(halves()), 80).x
    assert x.dtype == torch.float32
    assert x.is_contiguous()
    assert torch.equal(x[0, :, 30, 5], torch.tensor([1.0, 0.0, 0.0]))
    assert torch.equal(x[0, :, 30, 75], torch.tensor([0.0, 0.0, 1.0]))


def test_a_path_and_an_upload_give_the_same(tmp_path):
    content = file_of(halves())
    path = tmp_path / "mine.png"
    path.write_bytes(content)
    by_path, by_text = pictures.load(path, 64), pictures.load(str(path), 64)
    uploaded = pictures.load(memoryview(content), 64)
    assert torch.equal(by_path.x, uploaded.x)
    assert torch.equal(by_text.x, uploaded.x)
    assert (by_path.name, uploaded.name) == ("mine.png", "uploaded picture")
    assert by_path.provenance() == {
        "name": "mine.png",
        "split": "own",
        "source": "own",
        "sha256": hashlib.sha256(content).hexdigest(),
        "count": 1,
    }


def test_transparency_is_laid_over_white():
    image = halves().convert("RGBA")
    image.putalpha(Image.fromarray(np.tile(np.uint8([0, 255]), (60, 40))))
    x = pictures.load(file_of(image), 80).x
    assert torch.equal(x[0, :, 0, 0], torch.ones(3))
    assert torch.equal(x[0, :, 0, 1], torch.tensor([1.0, 0.0, 0.0]))


def test_grey_palette_and_other_kinds_become_rgb():
    grey = Image.fromarray(np.full((60, 80), 51, np.uint8))
    deep = Image.fromarray(np.full((60, 80), 51 * 257, np.uint16))
    for image in (grey, deep, grey.convert("LA")):
        x = pictures.load(file_of(image), 80).x
        assert torch.equal(x, torch.full((1, 3, 60, 80), 0.2))
    colours = pictures.load(file_of(halves()), 80).x
    palette = halves().convert("P", palette=Image.Palette.ADAPTIVE)
    assert torch.equal(pictures.load(file_of(palette), 80).x, colours)
    clear = file_of(palette, transparency=palette.getpixel((0, 0)))
    assert torch.equal(pictures.load(clear, 80).x[0, :, 0, 0], torch.ones(3))
    printed = pictures.load(file_of(halves().convert("CMYK"), "TIFF"), 80).x
    assert torch.allclose(printed, colours, atol=0.02)


@pytest.mark.parametrize(("turn", "corner"), [(1, 0), (3, 2), (6, 0), (8, 2)])
def test_a_turn_noted_by_the_camera_is_carried_out(turn, corner):
    exif = Image.Exif()
    exif[0x0112] = turn
    x = pictures.load(file_of(halves(), exif=exif), 80).x
    assert x.shape[2:] == ((60, 80) if turn in (1, 3) else (80, 60))
    assert x[0, corner, 0, 0] == 1  # the colour that is now at the upper left


def test_an_enlarged_picture_says_so(capsys):
    picture = pictures.load(file_of(halves()), 100)
    assert "enlarged, the file has only 80 x 60 pixels" in picture.note
    assert picture.note in capsys.readouterr().out
    assert pictures.load(file_of(halves()), 80).note == ""


@pytest.mark.parametrize("side", [31, 0, -5, 64.0, "64", None])
def test_a_bad_side_is_refused(side):
    with pytest.raises(PictureError, match="at least 32 pixels"):
        pictures.load(file_of(halves()), side)


@pytest.mark.parametrize("size", [(31, 100), (100, 31), (1, 1)])
def test_a_small_picture_is_refused(size):
    with pytest.raises(PictureError, match=f"too small: {size[0]} x {size[1]} pixels"):
        pictures.load(file_of(halves(*size)), 64)


def test_a_picture_that_would_get_too_narrow_is_refused():
    content = file_of(halves(400, 40))
    with pytest.raises(PictureError, match="square=True"):
        pictures.load(content, 64)
    assert pictures.load(content, 64, square=True).x.shape[2:] == (64, 64)


@pytest.mark.parametrize(
    ("size", "need"),
    [((9000, 8000), "0.8 GB"), ((12000, 10000), "1.3 GB"), ((20000, 20000), "pixels")],
)
def test_a_large_picture_is_refused_before_it_is_decoded(size, need, monkeypatch):
    content = file_of(Image.new("1", size))
    monkeypatch.setattr(Image.Image, "convert", None)
    with pytest.raises(PictureError, match=rf"too large.*{need}"):
        pictures.load(content, 64)


@given(st.binary(max_size=200))
@settings(max_examples=50, deadline=None)
def test_what_is_no_picture_is_refused(content):
    with pytest.raises(PictureError, match="JPEG, PNG or WebP"):
        pictures.load(content, 64)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WebP", "GIF", "BMP"])
def test_a_cut_file_is_refused(form):
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    content = file_of(Image.fromarray(noise), form)
    assert pictures.load(content, 64).x.shape == (1, 3, 48, 64)
    for part in (0.02, 0.3, 0.7):
        with pytest.raises(PictureError):
            pictures.load(content[: int(part * len(content))], 64)


@pytest.mark.parametrize("name", ["no_such_name", "folder/none.png", "."])
def test_an_unknown_name_or_missing_file_names_the_remedy(name):
    with pytest.raises(PictureError, match=r"no file that can be read.*starry_night"):
        pictures.load(name, 64)


# ---------------------------------------------------------------------- named pictures


def test_the_data_folder_comes_first_then_the_cache(places):
    folder, asked = places
    put(folder / "cache", file_of(halves(left=(0, 255, 0)), "JPEG"))
    assert pictures.load("starry_night", 64).x[0, 1, 24, 5] > 0.9
    content = file_of(halves(), "JPEG")
    put(folder / "data", content)
    found = pictures.load("starry_night", 64)
    assert found.x[0, 0, 24, 5] > 0.9
    assert (found.source, found.kind, found.note) == ("folder", "style", "")
    assert found.digest == hashlib.sha256(content).hexdigest()
    assert asked == []


def test_a_download_is_kept_and_used_from_then_on(places, monkeypatch):
    folder, _ = places
    content = file_of(halves(), "JPEG")
    asked = serve(monkeypatch, content)
    first = pictures.load("coffee", 64)
    assert first.source == "download"
    assert (folder / "data/images/content/coffee.png").read_bytes() == content
    again = pictures.load("coffee", 64)
    assert (again.source, again.digest) == ("folder", first.digest)
    assert asked == [pictures.ADDRESSES["content"]["coffee.png"]]


def test_a_folder_that_cannot_be_written_leaves_it_to_the_cache(places, monkeypatch):
    folder, _ = places
    (folder / "data").mkdir()
    (folder / "data" / "images").write_text("a file where a folder should be")
    serve(monkeypatch, file_of(halves()))
    assert pictures.load("coffee", 64).source == "download"
    assert (folder / "cache/images/content/coffee.png").is_file()


def test_a_damaged_file_is_named_and_never_lost(places, monkeypatch, capsys):
    folder, _ = places
    damaged = put(folder / "data", b"not a picture")
    serve(monkeypatch, file_of(halves(), "JPEG"))
    found = pictures.load("starry_night", 64)
    assert found.source == "download"
    assert "GENLAB_DATA/images/style/starry_night.jpg" in capsys.readouterr().out
    assert damaged.read_bytes() == b"not a picture"
    assert (folder / "cache/images/style/starry_night.jpg").is_file()


@pytest.mark.parametrize("name", NAMES)
def test_without_network_a_stand_in_says_so(places, name, capsys):
    found = pictures.load(name, 64)
    assert found.is_stand_in
    assert f"(stand-in for {name})" in found.name
    said = capsys.readouterr().out
    assert "STAND-IN" in said
    assert "no network" in said
    assert "GENLAB_DATA/images" in said
    assert len(places[1]) == 1


def test_a_web_page_in_place_of_a_picture_is_not_kept(places, monkeypatch, capsys):
    folder, _ = places
    serve(monkeypatch, b"<html>log in first</html>")
    assert pictures.load("rocket", 64).is_stand_in
    assert "cannot be read as a picture" in capsys.readouterr().out
    assert not list(folder.rglob("*.jpg"))


def test_smoke_asks_neither_folder_nor_network(places, monkeypatch):
    folder, asked = places
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    put(folder / "data", file_of(halves(), "JPEG"))
    assert pictures.load("starry_night", 64).is_stand_in
    assert asked == []


def test_stand_ins_are_the_same_everywhere_and_differ_from_each_other(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    digests = [pictures.load(name, 64).digest for name in NAMES]
    assert digests == [pictures.load(name, 64).digest for name in NAMES]
    assert len(set(digests)) == 2 + len(PAINTINGS)  # two photographs, turn by turn
    for name in PAINTINGS:
        assert pictures.load(name, 64).x.std() > 0.1


def test_every_name_has_an_address_of_its_own():
    files = [
        (kind, name) for kind, table in pictures.ADDRESSES.items() for name in table
    ]
    addresses = [pictures.ADDRESSES[kind][name] for kind, name in files]
    assert len(set(addresses)) == len(NAMES) == 9
    assert all(address.startswith("https://") for address in addresses)
    assert {Path(name).suffix for _, name in files} == {".jpg", ".png"}
