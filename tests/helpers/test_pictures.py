"""Named, own and uploaded pictures: every kind, the order of search, stand-ins."""

import hashlib
import io
import re
from contextlib import suppress

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from genlab_helpers.files import known
from genlab_helpers.pictures import PAINTINGS, PHOTOGRAPHS, PictureError, decode, load

pytest_plugins = ["fixtures_mirror"]
MODES = {"JPEG": "L RGB CMYK", "PNG": "1 L P RGB RGBA LA", "BMP": "1 L P RGB"}
MODES["WEBP"] = "L RGB RGBA"
KINDS = [(form, mode, {}) for form in MODES for mode in MODES[form].split()]
KINDS += [("PNG", "P", {"transparency": i}) for i in (0, bytes(range(0, 256, 2)))]
KINDS += [("PNG", "L", {"transparency": 9}), ("PNG", "RGB", {"transparency": (9,) * 3})]
TURNS = [None, "FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE"]
TURNS += ["ROTATE_270", "TRANSVERSE", "ROTATE_90"]  # as EXIF counts them, from 1
NOISE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 80, 4), "u1"))
HALVES = Image.new("RGB", (80, 60), "blue")
HALVES.paste("red", (0, 0, 40, 60))
BAD = [(HALVES, side, "at least 32 pixels") for side in (31, -5, 64.0, None)]
BAD += [(HALVES.resize(size), 64, "too few.*square") for size in [(400, 40), (31, 31)]]
KINDS_OF = {b"": "empty", b"\n<!doctype html>": "a web page", b"no": "something else"}
KINDS_OF[b"\0\0\0\x18ftypheic"] = "a HEIC photo (save it as JPEG)"
BAD += [(it, 64, re.escape(f"but {kind}; replace")) for it, kind in KINDS_OF.items()]
BAD += [("no/such file", 64, r"no/such file: No such file.*starry_night")]


def file_of(image, form="PNG", **options):
    content = io.BytesIO()
    image.save(content, form, **options)
    return content.getvalue()


def far(found, expected):
    return np.abs(np.array(found, int) - np.array(expected, int)).max()


@pytest.mark.parametrize(("form", "mode", "options"), KINDS, ids=lambda v: str(v)[:22])
def test_every_kind_is_what_pillow_shows_on_white(form, mode, options, tmp_path):
    content = file_of(NOISE.convert(mode), form, **options)
    seen = Image.open(io.BytesIO(content)).convert("RGBA")
    white = Image.new("RGB", seen.size, "white")
    white.paste(seen, mask=seen)
    (tmp_path / "a.txt").write_bytes(content)
    found = decode(tmp_path / "a.txt")
    assert (found.mode, found.size) == ("RGB", (80, 60))
    assert far(found, white) <= 1  # of the rounding where it is half transparent
    assert far(found, decode(content)) == 0


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("number", range(1, 9))
def test_a_turn_noted_by_the_camera_is_carried_out(form, number):
    exif = Image.Exif()
    exif[0x0112] = number
    smooth = NOISE.convert("RGB").resize((8, 6)).resize((80, 60))
    lying = decode(file_of(smooth, form, quality=90))
    want = lying.transpose(Image.Transpose[TURNS[number - 1]]) if number > 1 else lying
    assert far(decode(file_of(smooth, form, quality=90, exif=exif)), want) == 0


def test_16_bits_are_scaled_exactly():
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    found = decode(file_of(Image.fromarray(every)))
    assert far(found.getchannel(0), (every / 257).round()) == 0


@settings(max_examples=40)
@given(st.sampled_from([*MODES]), st.floats(0, 1), st.binary(max_size=40))
@pytest.mark.filterwarnings("default::UserWarning")  # Pillow's, on damaged metadata
def test_whatever_the_damage_it_is_told(form, place, junk):
    content = file_of(NOISE.convert("RGB"), form)
    start = int(place * len(content))
    for bad in (content[:start], content[:start] + junk + content[start + len(junk) :]):
        with suppress(PictureError):
            assert decode(bad).mode == "RGB"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("size", [(9000, 8000), (20000, 20000)])
def test_a_large_picture_is_refused_before_it_is_decoded(size, monkeypatch):
    content = file_of(Image.new("1", size))
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(PictureError, match=r"over 64,000,000|exceeds limit"):
        decode(content)


def test_a_path_and_an_upload_give_the_same(tmp_path):
    path = tmp_path / "my own é.png"
    HALVES.save(path)
    found, content = load(path, 80), path.read_bytes()
    assert torch.equal(found.x[0, :, 30, 5], torch.tensor([1.0, 0.0, 0.0]))
    assert found.x.is_contiguous()
    for other in (str(path), content, memoryview(content)):
        assert torch.equal(load(other, 80).x, found.x)
    facts = [path.name, "own", "own", hashlib.sha256(content).hexdigest(), 1]
    assert [*found.facts().values()] == facts
    assert load(path, 48).x.shape == (1, 3, 36, 48)
    assert load(path, 99, square=True).x.shape == (1, 3, 99, 99)


@pytest.mark.parametrize(("what", "side", "reason"), BAD, ids=range(len(BAD)))
def test_what_is_of_no_use_is_refused(what, side, reason):
    with pytest.raises(PictureError, match=reason):
        load(file_of(what) if isinstance(what, Image.Image) else what, side)


@pytest.fixture
def coffee(place, mirror, monkeypatch):
    """Return where the picture belongs; the mirror does not have it yet."""
    monkeypatch.setitem(known("coffee", "content")[0], "url", f"{mirror.url}c?width=9")
    return place.data / "images/content/coffee.png"


def test_a_named_picture_is_fetched_once(coffee, mirror):
    mirror.pages["c?width=9"] = file_of(HALVES)
    assert [load("coffee", 64).source for _ in range(2)] == ["download", "folder"]
    assert coffee.read_bytes() == file_of(HALVES)
    assert len(mirror.asked) == 1


def test_what_does_not_open_is_not_kept_and_what_is_damaged_is(coffee, mirror, capsys):
    for content in (b"<html>log in first</html>", b"damaged"):
        mirror.pages["c?width=9"] = content
        assert load("coffee", 64).is_stand_in
        assert not coffee.exists()
    coffee.write_bytes(b"damaged")
    assert load("coffee", 64).is_stand_in
    assert coffee.read_bytes() == b"damaged"
    said = "GENLAB_DATA/images/content/coffee.png: no JPEG, PNG, WebP or BMP picture"
    assert capsys.readouterr().out.count(said) == 3


def test_stand_ins_say_so_and_differ(coffee, monkeypatch, capsys):
    assert load("coffee", 64).is_stand_in
    assert "404" in capsys.readouterr().out
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")  # which looks nowhere
    found = {name: load(name, 64) for name in PHOTOGRAPHS + PAINTINGS}
    assert all(f"(stand-in for {name})" in found[name].name for name in found)
    assert len({picture.sha256 for picture in found.values()}) == 2 + len(PAINTINGS)
    assert all(picture.x.std() > 0.1 for picture in found.values())
    assert capsys.readouterr().out.count("STAND-IN") == len(found) == 9
