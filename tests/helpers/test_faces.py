"""Folders of pictures: every kind, damaged ones, and a cache that is never trusted."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab_helpers import faces as module
from genlab_helpers.faces import faces

pytest_plugins = ["fixtures_mirror"]
ROWS = ["2\nBald Smiling", "000002.png -1 -1", "000001.png  1 -1", "000000.png -1  1"]
BAD = [dict(side=side) for side in (7, 257, 64.0, True, None)]
BAD += [dict(limit=limit) for limit in (0, -1, "2", True)] + [dict(folder="no where")]


@pytest.fixture(autouse=True)
def cached(place):
    return lambda: list(place.cache.glob("faces/*"))


@pytest.fixture
def folder(tmp_path):
    return fill(tmp_path / "my pictures é", 8)


def noise(seed, side=16):
    numbers = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    return Image.fromarray(numbers)


def fill(folder, count):
    """Return a folder of pictures that need no resizing."""
    folder.mkdir(parents=True)
    for number in range(count):
        noise(number).save(folder / f"{number:06}.png")
    return folder


def holds(found, *seeds):
    pixels = torch.from_numpy(np.stack([noise(seed) for seed in seeds]))
    return torch.equal(found.images.permute(0, 2, 3, 1), pixels)


def test_a_folder_and_what_is_known_of_it(folder):
    for name in ("deep/er [1]/z ü.PNG", ".hidden/b.png", "deep/._c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        noise(8).save(folder / name)
    (folder / "readme.txt").write_text("not a picture")
    (folder / "folder.png").mkdir()
    found = faces(str(folder), side=16)
    assert holds(found, *range(9))
    assert found.names[7:] == ("000007.png", "deep/er [1]/z ü.PNG")
    content = found.images.numpy().tobytes() + "\n".join(found.names).encode()
    facts = ("my pictures é", "train", "folder", hashlib.sha256(content).hexdigest(), 9)
    assert tuple(found.facts().values()) == facts
    assert (found.note, found.broken, found.attributes) == ("", (), None)


def test_the_middle_of_a_large_jpeg_is_close_to_the_careful_way(tmp_path):
    smooth = noise(1, 8).resize((128, 96), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    want = smooth.crop((16, 0, 112, 96)).resize((16, 16), Image.Resampling.BICUBIC)
    found = faces(tmp_path, side=16).images[0].permute(1, 2, 0).numpy()
    assert np.abs(found - np.array(want, float)).mean() < 3


@pytest.mark.parametrize("options", BAD, ids=str)
def test_what_cannot_be_prepared_is_refused(options, folder):
    reasons = "from 8 to 256|an int from 1 on|no picture .*webp.* in .*no where; put"
    with pytest.raises(ValueError, match=reasons):
        faces(**{"folder": folder} | options)


def test_broken_pictures_are_named_and_left_out(folder, capsys, monkeypatch):
    for number in range(1, 8):
        (folder / f"{number:06}.png").write_bytes(b"no picture at all")
    for _ in ("prepared", "from the cache"):
        found, said = faces(folder, side=16), capsys.readouterr().out
        assert holds(found, 0)
        assert found.broken == tuple(f"{i:06}.png" for i in range(1, 8))
        assert "7 of 8 pictures are left out: '000001.png' (no JPEG, PNG" in said
        assert said.count(".png'") == 5
        assert str(folder) not in said
        monkeypatch.setattr(module, "_decoded", None)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"7 of 7 pictures .* replace it"):
        faces((folder / "000000.png").unlink() or folder, side=16)


def test_prepared_once_whatever_is_written_to_the_images(folder, monkeypatch):
    wanted = [dict(side=16), dict(side=8), dict(side=16, limit=3)]
    digests = {faces(folder, **options).sha256: options for options in wanted}
    assert len(digests) == 3
    monkeypatch.setattr(module, "_decoded", None)  # from now on a failure
    for digest, options in [*digests.items()] * 2:
        again = faces(folder, **options)
        assert again.sha256 == digest
        assert options != wanted[0] or holds(again, *range(8))
        again.images.zero_()


@pytest.mark.parametrize("change", ["added", "changed", "touched", "removed"])
def test_a_changed_folder_is_prepared_anew(folder, change, cached):
    first, last, (old,) = faces(folder, side=16), folder / "000007.png", cached()
    if change == "removed":
        last.unlink()
    elif change == "touched":
        os.utime(last, ns=(1, 1))
    else:
        noise(8).save(last if change == "changed" else folder / "000008.png")
    again, tail = faces(folder, side=16), dict(added=[7, 8], changed=[8], removed=[])
    assert holds(again, *range(7), *tail.get(change, [7]))
    assert (again.sha256 == first.sha256) is (change == "touched")
    assert cached() == [old], "no second copy"


@pytest.mark.parametrize("damage", ["cut", "scrambled", "text"])
def test_a_damaged_cache_is_prepared_anew(folder, damage, cached):
    digest, (path,) = faces(folder, side=16).sha256, cached()
    old = path.read_bytes()
    middle = old[:3000] + bytes(9) + old[3009:]
    path.write_bytes(dict(cut=old[:-9], scrambled=middle, text=b"text")[damage])
    again = faces(folder, side=16)
    assert holds(again, *range(8))
    assert again.sha256 == digest
    assert torch.load(path, weights_only=True)["sha256"] == digest


@pytest.mark.parametrize("where", [(module, "tqdm"), (Path, "replace")], ids=str)
def test_what_was_stopped_leaves_nothing_behind(folder, where, monkeypatch, cached):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(*where, stop)
    with pytest.raises(KeyboardInterrupt):
        faces(folder, side=16)
    assert not cached()


def test_without_a_cache_the_pictures_stay_in_memory(folder, place, capsys):
    place.cache.parent.write_text("a file where the folder should be")
    assert holds(faces(folder, side=16), *range(8))
    assert "cannot be written to" in capsys.readouterr().out


@pytest.mark.parametrize("root", ["data", "cache"])
def test_celeba_is_found_with_its_attributes(place, root):
    celeba = fill(getattr(place, root) / "celeba/img_align_celeba", 3)
    table = celeba.with_name("list_attr_celeba.txt")
    assert faces(side=16, limit=2).attributes is None
    table.write_text("\n".join(ROWS))
    (celeba / "000000.png").write_bytes(b"broken")
    found = faces(side=16)
    assert (found.name, *found.names) == ("CelebA", "000001.png", "000002.png")
    known = {name: values.tolist() for name, values in found.attributes.items()}
    assert known == {"Bald": [True, False], "Smiling": [False, False]}
    for row in ("", "000001.png 1", "000001.png 1 0", "000001.png 1 1 1"):
        table.write_text("\n".join([*ROWS[:2], row]))
        with pytest.raises(ValueError, match=r"no full line .*list_attr_celeba"):
            faces(side=16)
    table.write_text("\n".join(ROWS))
    noise(9).save(celeba / "holiday.png")
    with pytest.raises(ValueError, match=r"for 'holiday\.png' \(if it is no pict"):
        faces(side=16)


def test_celeba_unpacked_into_itself_or_looked_for_in_a_wrong_place(
    place, monkeypatch, capsys
):
    celeba = fill(place.data / "celeba/img_align_celeba/img_align_celeba", 3)
    (place.data / "celeba/list_attr_celeba.txt").write_text("\n".join(ROWS))
    found = faces(side=16)
    assert (found.names[0], *found.attributes) == ("000000.png", "Bald", "Smiling")
    celeba.parent.rename(place.data / "celeba/img_align_celeb")
    assert faces(limit=1).is_stand_in
    assert "GENLAB_DATA/celeba/img_align_celeba/000001.jpg" in capsys.readouterr().out
    monkeypatch.setenv("GENLAB_DATA", str(place.data.with_name("datta")))
    assert faces(limit=1).is_stand_in
    assert f"{place.data.parent}/datta/celeba/" in capsys.readouterr().out


def test_without_celeba_cartoons_say_what_they_are(place, monkeypatch, capsys):
    for side, reason in ((48, "GENLAB_DATA/celeba/img"), (64, "smoke profile")):
        found, said = faces(side=side, limit=3), capsys.readouterr().out
        assert found.is_stand_in
        assert reason in said
        assert "STAND-IN: cartoon faces (stand-in for CelebA), 3 images" in said
        assert found.images.shape == (3, 3, side, side)
        assert len(set(found.names)) == len(found.attributes["glasses"]) == 3
        monkeypatch.setenv("GENLAB_PROFILE", "smoke")  # which looks nowhere
        own = fill(place.data / f"celeba/img_align_celeba/{side}", 1)
    assert faces(own, side=16).source == "folder"
