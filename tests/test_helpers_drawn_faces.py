"""The drawn faces: the same every time, and their attributes are seen in the pixels."""

import numpy as np
import pytest
import torch

from genlab_helpers import drawn_faces
from genlab_helpers.drawn_faces import NAMES, _face, _mix, draw_faces

N, SIDE, SEED = 240, 128, 11
SHARE = 0.95  # of the faces whose attribute must be read rightly


@pytest.fixture(scope="module")
def drawn():
    return draw_faces(N, SIDE, SEED)


# ---- Reading: the colours of the pixels at a few places of the face


def pixels(image, face, places):
    """Return the colours (P, 3) at places (x, y) or (x, y, depth) of a face."""
    step = drawn_faces.CANVAS // SIDE
    at = [[c // step for c in face.at(*place)] for place in places]
    inside = [(x, y) for x, y in at if 0 <= x < SIDE and 0 <= y < SIDE]
    return np.array([image[:, y, x].tolist() for x, y in inside]).reshape(-1, 3)


def nearest(colours, palette):
    """Return the index of the colour in a palette that is nearest to their median."""
    away = np.median(colours, axis=0) - np.array(list(palette))
    return int((away**2).sum(axis=1).argmin())


def read_skin(image, face):
    cheek = [(-0.3 * face.light, 0.36 + 0.04 * k) for k in range(4)]
    return nearest(pixels(image, face, cheek), drawn_faces.SKIN.values())


def read_hair_colour(image, face):
    top = -0.24 - face.lift
    brows = [
        (face.eye_x * s + d, top - 0.08) for s in (-1, 1) for d in (-0.06, 0, 0.06)
    ]
    tones = [_mix(c, drawn_faces.INK, 0.25) for c in drawn_faces.HAIR_COLOUR.values()]
    return nearest(pixels(image, face, brows), tones)


def has_hair(image, face, place, shadow=0.3):
    tone = _mix(face.hair, drawn_faces.INK, shadow)
    found = pixels(image, face, [place, (-place[0], *place[1:])])
    return len(found) > 0 and bool((np.abs(found - tone).max(axis=1) < 24).any())


def read_hair(image, face):
    if has_hair(image, face, (1.15, 1.2, -0.3)):
        return drawn_faces.HAIR.index("long")
    if has_hair(image, face, (1.3, -0.3, -0.3)):
        return drawn_faces.HAIR.index("curly")
    if has_hair(image, face, (0, -face.tall - 0.3, -0.3)):
        return drawn_faces.HAIR.index("bun")
    crown = pixels(image, face, [(x, -0.85 * face.tall, 0.2) for x in (-0.2, 0, 0.2)])
    bald = nearest(crown, [face.skin, face.hair]) == 0
    return drawn_faces.HAIR.index("bald" if bald else "short")


def read_eyes(image, face):
    beside = [
        (face.eye_x * s + face.gaze + d, 0.03) for s in (-1, 1) for d in (-0.065, 0.065)
    ]
    tones = [_mix(c, drawn_faces.INK, 0.2) for c in drawn_faces.EYES.values()]
    return nearest(pixels(image, face, beside), tones)


def read_mouth(image, face):
    y = face.mouth_y
    teeth = pixels(image, face, [(x, y + 0.09) for x in (-0.06, 0, 0.06)])
    if np.median(teeth, axis=0).min() > 180:
        return drawn_faces.MOUTH.index("smile")
    depth = pixels(image, face, [(x, y + 0.05) for x in (-0.06, 0, 0.06)])
    lips = _mix(face.skin, drawn_faces.BLUSH, 0.5)
    return drawn_faces.MOUTH.index(
        "closed" if nearest(depth, [lips, (70, 16, 24)]) == 0 else "open"
    )


def read_glasses(image, face):
    below = [(0.43 * s + d, 0.28) for s in (-1, 1) for d in (-0.06, 0, 0.06)]
    return nearest(pixels(image, face, below), [face.skin, face.frame]) == 1


def read_background(image, face):
    corners = torch.stack([image[:, 3:9, 3:9], image[:, 3:9, -9:-3]])
    colours = drawn_faces.BACKGROUND.values()
    tones = [_mix(colour, drawn_faces.WHITE, 0.2) for colour in colours]
    return nearest(corners.permute(0, 2, 3, 1).reshape(-1, 3).numpy(), tones)


READERS = {
    "skin": read_skin,
    "hair_colour": read_hair_colour,
    "hair": read_hair,
    "eyes": read_eyes,
    "mouth": read_mouth,
    "glasses": read_glasses,
    "background": read_background,
}


@pytest.mark.parametrize("name", READERS)
def test_an_attribute_is_read_back_from_the_pixels(drawn, name):
    read = [
        READERS[name](image, _face(SEED, i)) for i, image in enumerate(drawn.images)
    ]
    right = torch.tensor(read) == drawn.attributes[name]
    assert right.float().mean() >= SHARE, right.logical_not().nonzero().flatten()


def test_the_turn_moves_the_mouth_across_the_face(drawn):
    across = []
    for i, image in enumerate(drawn.images):
        face = _face(SEED, i)
        row = [(-0.6 + 0.05 * k, face.mouth_y + 0.06, 0) for k in range(25)]
        colours = pixels(image, face, row)
        unlike = np.abs(colours - face.skin).sum(axis=1) ** 2
        across.append(np.average([x for x, *_ in row], weights=unlike))
    turn = drawn.attributes["turn"].numpy()
    assert np.corrcoef(across, turn)[0, 1] > 0.9


# ---- What the set is


def test_shapes_types_and_ranges(drawn):
    assert drawn.images.shape == (N, 3, SIDE, SIDE)
    assert drawn.images.dtype == torch.uint8
    assert list(drawn.attributes) == [*NAMES, "glasses", "turn"]
    for name, values in drawn.attributes.items():
        kind = {"glasses": torch.bool, "turn": torch.float32}.get(name, torch.int64)
        assert values.shape == (N,)
        assert values.dtype == kind
    assert drawn.attributes["turn"].abs().max() <= 1


def test_every_value_occurs_as_often_as_promised():
    known = [_face(0, i).attributes for i in range(500)]
    for name, values in NAMES.items():
        counts = np.bincount([a[name] for a in known], minlength=len(values))
        assert len(counts) == len(values)
        assert counts.min() > 0.6 * 500 / len(values)
    assert 0.25 < np.mean([a["glasses"] for a in known]) < 0.42
    assert np.ptp([a["turn"] for a in known]) > 1.9


def test_a_face_depends_on_seed_and_index_alone(drawn):
    few = draw_faces(4, SIDE, SEED)
    assert torch.equal(few.images, drawn.images[:4])
    for name, values in few.attributes.items():
        assert torch.equal(values, drawn.attributes[name][:4])
    assert not torch.equal(few.images, draw_faces(4, SIDE, SEED + 1).images)


def test_no_two_faces_are_alike(drawn):
    assert len({image.numpy().tobytes() for image in drawn.images}) == N


@pytest.mark.parametrize("side", [32, 64])
def test_another_side_shows_the_same_faces(drawn, side):
    small = draw_faces(6, side, SEED)
    reduced = torch.nn.functional.avg_pool2d(drawn.images[:6].float(), SIDE // side)
    assert (small.images - reduced).abs().max() <= 1
    assert torch.equal(small.attributes["skin"], drawn.attributes["skin"][:6])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"n": 0}, "from 1 on, not 0"),
        ({"n": 2.0}, "an int from 1 on"),
        ({"n": True}, "an int from 1 on"),
        ({"n": 1, "side": 100}, r"\(32, 64, 128, 256\) pixels, not 100"),
        ({"n": 1, "side": 64.0}, "pixels, not 64.0"),
        ({"n": 1, "side": "64"}, "pixels, not '64'"),
        ({"n": 1, "seed": -1}, "from 0 on, not -1"),
        ({"n": 1, "seed": None}, "from 0 on, not None"),
    ],
)
def test_what_cannot_be_drawn_is_refused(arguments, reason):
    with pytest.raises(ValueError, match=reason):
        draw_faces(**arguments)
