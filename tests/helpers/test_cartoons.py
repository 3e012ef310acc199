"""Cartoon faces: the same every time, and their attributes are seen in the pixels."""

import hashlib
from random import Random

import numpy as np
import PIL
import pytest
import torch

from genlab_helpers.cartoons import ATTRIBUTES, CANVAS, INK, _Face, draw_faces, mix

N, SIDE, SEED = 150, 64, 11
KINDS = {"glasses": torch.bool, "turn": torch.float32}  # all others are int64
PALETTES = {  # of each attribute that a place shows, False before True
    "skin": lambda face: ATTRIBUTES["skin"],
    "eyes": lambda face: [mix(c, INK, 0.2) for c in ATTRIBUTES["eyes"]],
    "hair_colour": lambda face: [mix(c, INK, 0.25) for c in ATTRIBUTES["hair_colour"]],
    "glasses": lambda face: [face.skin, face.frame],
}
PLACES = {
    "skin": lambda face: [(-0.3 * face.light, 0.36 + 0.04 * k) for k in range(4)],
    "eyes": lambda face: [
        (face.eye_x * s + face.gaze + d, 0.03) for s in (-1, 1) for d in (-0.065, 0.065)
    ],
    "hair_colour": lambda face: [(face.eye_x * s, -0.32 - face.lift) for s in (-1, 1)],
    "glasses": lambda face: [(0.43 * s, 0.28) for s in (-1, 1)],
}


@pytest.fixture(scope="module")
def drawn():
    return draw_faces(N, 2 * SIDE, SEED)


@pytest.mark.skipif(PIL.__version__ != "13.0.0", reason="another Pillow may fill anew")
def test_the_drawing_has_not_changed():
    found = draw_faces(12, 64, 3)
    digest = hashlib.sha256(found.images.numpy().tobytes())
    for name, values in found.attributes.items():
        digest.update(name.encode() + values.numpy().tobytes())
    assert digest.hexdigest().startswith("ac58e369af8802348e406a3c83eaad5e")


@pytest.mark.parametrize("name", PLACES)
def test_an_attribute_is_read_back_from_the_pixels(drawn, name):
    right = 0
    for i, image in enumerate(drawn.images):
        face = _Face(Random(f"{SEED}/{i}"))
        at = [[c * 2 * SIDE // CANVAS for c in face.at(*p)] for p in PLACES[name](face)]
        seen = np.median([image[:, y, x].tolist() for x, y in at], axis=0)
        away = ((np.array(PALETTES[name](face)) - seen) ** 2).sum(1)
        right += int(away.argmin()) == drawn.attributes[name][i]
    assert right > 0.93 * N


def test_what_is_drawn(drawn):
    assert drawn.images.shape == (N, 3, 2 * SIDE, 2 * SIDE)
    assert drawn.images.dtype == torch.uint8
    assert len({image.numpy().tobytes() for image in drawn.images}) == N
    for name, values in drawn.attributes.items():
        assert values.shape == (N,)
        assert values.dtype == KINDS.get(name, torch.int64)
        shares = torch.bincount(values.long()).float() / N if name != "turn" else None
        assert shares is None or shares.min() > 0.5 / len(shares)
    assert 1.8 < np.ptp(drawn.attributes["turn"].numpy()) <= 2


def test_a_face_depends_on_seed_and_index_alone(drawn):
    few = draw_faces(4, SIDE, SEED)
    halves = torch.nn.functional.avg_pool2d(drawn.images[:4].float(), 2)
    assert (few.images - halves).abs().max() <= 1
    for name, values in few.attributes.items():
        assert torch.equal(values, drawn.attributes[name][:4])
    assert not torch.equal(few.images, draw_faces(4, SIDE, SEED + 1).images)


BAD = [{"n": n} for n in (0, 2.0, True)] + [{"n": 1, "seed": s} for s in (-1, None)]
BAD += [{"n": 1, "side": side} for side in (100, 64.0, "64")]


@pytest.mark.parametrize("arguments", BAD, ids=str)
def test_what_cannot_be_drawn_is_refused(arguments):
    with pytest.raises(ValueError, match=r"from 1 and 0 on|64, 128 or 256 pixels"):
        draw_faces(**arguments)
