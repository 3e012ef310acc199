"""Faces drawn by a small seeded program: the stand-in for photographs (chapter 6).

Every face is drawn at 512 x 512 as polygons with whole-number corners and averaged
down. Its random numbers are `random.Random.random`, which Python promises to keep, so
that the bytes depend on (seed, index) and on how one version of Pillow fills polygons.
"""

import random
from math import cos, pi, sin, sqrt
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

CANVAS = 512  # pixels a side while drawing
SIDES = (32, 64, 128, 256)
SKIN = {  # from light to dark
    "porcelain": (250, 221, 200),
    "fair": (238, 195, 160),
    "olive": (212, 164, 118),
    "tan": (176, 122, 80),
    "brown": (132, 84, 56),
    "deep": (92, 58, 44),
}
HAIR_COLOUR = {
    "black": (36, 31, 36),
    "brown": (70, 42, 28),
    "red": (172, 72, 30),
    "blond": (226, 186, 104),
    "grey": (172, 174, 182),
}
HAIR = ("bald", "short", "long", "curly", "bun")
EYES = {
    "brown": (92, 56, 30),
    "green": (78, 132, 70),
    "blue": (62, 118, 186),
    "grey": (122, 134, 144),
}
MOUTH = ("closed", "smile", "open")
BACKGROUND = {
    "sky": (150, 192, 222),
    "sand": (222, 206, 172),
    "sage": (154, 184, 150),
    "rose": (216, 168, 172),
    "dusk": (78, 92, 142),
    "lilac": (174, 162, 208),
}
NAMES = {  # of the values of each attribute that is an index
    "skin": tuple(SKIN),
    "hair_colour": tuple(HAIR_COLOUR),
    "hair": HAIR,
    "eyes": tuple(EYES),
    "mouth": MOUTH,
    "background": tuple(BACKGROUND),
}
CLOTHES = [(38, 62, 110), (150, 40, 52), (44, 104, 84), (232, 228, 220)]
CLOTHES += [(96, 60, 120), (206, 140, 44), (56, 56, 62), (60, 138, 160)]
FRAMES = [(22, 22, 26), (150, 24, 48), (34, 62, 150)]
INK, WHITE, BLUSH = (24, 16, 18), (248, 247, 244), (190, 52, 58)
FADE = [min(1.0, v / 180) for v in range(256)]  # 0 in the centre, 1 at 180: the edge
SOFT = Image.radial_gradient("L").point(
    [round(255 * (1 - t * t * (3 - 2 * t))) for t in FADE]  # no rim to be seen
)


class DrawnFaces(NamedTuple):
    """Images (N, 3, side, side), uint8 in 0..255, and the attributes of each.

    ``attributes`` holds tensors of N values: "skin", "hair_colour", "hair", "eyes",
    "mouth" and "background" int64, an index into NAMES; "glasses" bool; "turn"
    float32 in [-1, 1], -1 where the head is turned to the left edge of the image.
    A bald head shows its hair colour in the brows alone.
    """

    images: torch.Tensor
    attributes: dict[str, torch.Tensor]


def draw_faces(n: int, side: int = 128, seed: int = 0) -> DrawnFaces:
    """Return n drawn faces in colour and what is known of each.

    Face i depends on (seed, i) alone: more faces begin with the same ones, and
    another side shows the same faces at another size. The attributes are drawn
    independently of one another, each value equally often; one face in three
    wears glasses. About 75 faces a second on one core.

    Args:
        n: how many faces, at least 1.
        side: pixels a side: 32, 64, 128 or 256.
        seed: a whole number from 0 on.

    Raises:
        ValueError: for another n, side or seed.
    """
    if type(n) is not int or n < 1:
        raise ValueError(f"n is the number of faces: an int from 1 on, not {n!r}")
    if type(side) is not int or side not in SIDES:
        raise ValueError(f"side must be one of {SIDES} pixels, not {side!r}")
    if type(seed) is not int or seed < 0:
        raise ValueError(f"seed must be an int from 0 on, not {seed!r}")
    images = torch.empty(n, 3, side, side, dtype=torch.uint8)
    known = []
    for i in range(n):
        face = _face(seed, i)
        known.append(face.attributes)
        small = face.draw().reduce(CANVAS // side)
        images[i] = torch.from_numpy(np.array(small)).permute(2, 0, 1)
    return DrawnFaces(
        images, {key: torch.tensor([a[key] for a in known]) for key in known[0]}
    )


def _face(seed, index):
    return _Face(random.Random(f"{seed}/{index}"))


def _mix(colour, other, share):
    """Return a colour with a share of another in it, in whole numbers."""
    return tuple(round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))


def _arc(x, y, w, h, start=0.0, stop=360.0, steps=36):
    """Return points on an ellipse, from angle to angle in degrees, y downwards."""
    angles = [pi / 180 * (start + (stop - start) * k / steps) for k in range(steps + 1)]
    return [(x + w * cos(t), y + h * sin(t)) for t in angles]


class _Face:
    """One face. Lengths are in half widths of the head, from a point between the eyes.

    The head is a vertical cylinder: what lies at x on its front is at depth
    sqrt(1 - x^2), and turning the head moves near and far parts against each other.
    """

    def __init__(self, rng: random.Random):
        def between(low, high):
            return low + (high - low) * rng.random()

        def pick(values):
            return int(len(values) * rng.random())

        self.attributes = {key: pick(values) for key, values in NAMES.items()}
        self.attributes["glasses"] = rng.random() < 1 / 3
        self.attributes["turn"] = between(-1, 1)
        self.x, self.y = 256 + between(-24, 24), 256 + between(-14, 14)
        self.unit = between(122, 144)  # pixels
        self.sine = 0.32 * self.attributes["turn"]
        self.tilt = between(-0.1, 0.1)
        self.tall, self.jaw = between(1.24, 1.42), between(0.1, 0.3)
        self.eye_x, self.eye_h = between(0.4, 0.46), between(0.1, 0.135)
        self.brow, self.lift = between(0.04, 0.075), between(-0.03, 0.06)
        self.nose, self.wide = between(0.36, 0.46), between(0.11, 0.17)
        self.lips, self.lip_w = between(0.06, 0.1), between(0.27, 0.36)
        self.mouth_y = 0.42 * self.nose + 0.6
        self.gaze = between(-0.04, 0.04)
        self.light = -1 if rng.random() < 0.5 else 1
        self.fringe, self.neckline = pick(range(3)), pick(range(3))
        self.cloth, self.frame = CLOTHES[pick(CLOTHES)], FRAMES[pick(FRAMES)]
        self.round_frame = rng.random() < 0.5
        self.rng = rng
        self.skin = tuple(SKIN.values())[self.attributes["skin"]]
        self.shade = _mix(self.skin, (40, 10, 20), 0.22)
        self.hair = tuple(HAIR_COLOUR.values())[self.attributes["hair_colour"]]
        self.style = HAIR[self.attributes["hair"]]
        self.canvas = Image.new("RGB", (CANVAS, CANVAS))

    def at(self, x, y, depth=None):
        """Return the pixel of a point; without a depth it lies on the front."""
        z = sqrt(max(0.0, 1 - x * x)) if depth is None else depth
        x = x * sqrt(1 - self.sine**2) + z * self.sine
        below = 1.2 - y  # the head tilts about the neck
        x, y = x + self.tilt * below, y + self.tilt * x
        return round(self.x + self.unit * x), round(self.y + self.unit * y)

    def fill(self, points, colour, depth=None, on=None):
        corners = [
            self.at(*point) if len(point) == 3 else self.at(*point, depth)
            for point in points
        ]
        ImageDraw.Draw(on or self.canvas).polygon(corners, fill=colour)

    def line(self, points, colour, width, depth=None):
        corners = [self.at(x, y, depth) for x, y in points]
        pixels = max(2, round(width * self.unit))
        ImageDraw.Draw(self.canvas).line(corners, colour, pixels, joint="curve")

    def glow(self, x, y, w, h, colour, strength, on, depth=None):
        """Lay a soft spot of a colour on a layer; it fades to nothing at its rim."""
        (left, top), size = self.at(x, y, depth), (w * self.unit, h * self.unit)
        width, height = (2 * round(half) for half in size)
        mask = SOFT.point([round(strength * v) for v in range(256)])
        mask = mask.resize((width, height), Image.Resampling.NEAREST)
        on.paste(colour, (left - width // 2, top - height // 2), mask)

    def draw(self):
        self.draw_background()
        self.draw_body()
        self.draw_hair_behind()
        self.draw_neck_and_head()
        for side in (-1, 1):
            self.draw_eye(side)
        self.draw_nose()
        self.draw_mouth()
        if self.style != "bald":
            self.draw_hair_in_front()
        if self.attributes["glasses"]:
            self.draw_glasses()
        return self.canvas

    def layer(self, colour, shapes, depth):
        """Return a sheet of one colour and the mask through which it will be seen."""
        mask = Image.new("L", (CANVAS, CANVAS))
        for points in shapes:
            self.fill(points, 255, depth, on=mask)
        return Image.new("RGB", (CANVAS, CANVAS), colour), mask

    def lay(self, sheet, mask):
        box = mask.getbbox()  # only what is covered: the rest costs time
        self.canvas.paste(sheet.crop(box), box, mask.crop(box))

    def draw_background(self):
        colour = tuple(BACKGROUND.values())[self.attributes["background"]]
        low, high = _mix(colour, INK, 0.25), _mix(colour, WHITE, 0.2)
        ramp = ImageOps.colorize(Image.linear_gradient("L"), high, low)
        self.canvas = ramp.resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
        for _ in range(3):
            x, y, size = (self.rng.random() for _ in range(3))
            place, tone = (4 * x - 2, 3 * y - 2), WHITE if size > 0.4 else low
            self.glow(*place, 0.8 + size, 0.8 + size, tone, 0.35, self.canvas, 0)

    def draw_body(self):
        shoulders = [(-2.2, 3.2), *_arc(0, 2.55, 1.75, 0.95, 180, 360), (2.2, 3.2)]
        sheet, mask = self.layer(self.cloth, [shoulders], 0)
        dark = _mix(self.cloth, INK, 0.6)
        self.glow(1.5 * self.light, 2.4, 1.9, 1.9, dark, 0.7, sheet, 0)
        self.lay(sheet, mask)

    def draw_neck_and_head(self):
        opening = [
            _arc(0, 1.62, 0.62, 0.3, 0, 180),
            [(-0.5, 1.6), (0, 2.2), (0.5, 1.6)],
        ]
        neck = [(-0.5, 0.9), (-0.52, 1.64), (0.52, 1.64), (0.5, 0.9)]
        shapes = [neck, *opening[: 1 + self.neckline // 2]]
        sheet, mask = self.layer(_mix(self.skin, self.shade, 0.35), shapes, 0)
        self.fill(self.outline(0.2), self.shade, 0.1, on=sheet)
        self.lay(sheet, mask)
        if self.neckline == 1:  # a collar
            tone = _mix(self.cloth, WHITE if sum(self.cloth) < 400 else INK, 0.25)
            for s in (-1, 1):
                flap = [(0.52 * s, 1.5), (0.78 * s, 1.62), (0.45 * s, 2.1), (0, 1.95)]
                self.fill(flap, tone, 0)
        for s in (-1, 1):
            self.fill(_arc(1.0 * s, 0.12, 0.16, 0.25), self.skin, -0.3)
            self.fill(_arc(1.02 * s, 0.12, 0.08, 0.15), self.shade, -0.3)
        sheet, mask = self.layer(self.skin, [self.outline()], 0.1)
        bright, warm = _mix(self.skin, WHITE, 0.35), _mix(self.skin, BLUSH, 0.5)
        self.glow(1.1 * self.light, 0.3, 1.0, 2.0, self.shade, 0.9, sheet, 0)
        self.glow(0, 1.4, 1.3, 0.5, self.shade, 0.7, sheet, 0.3)
        self.glow(-0.3 * self.light, -0.65, 0.75, 0.55, bright, 0.55, sheet)
        for s in (-1, 1):
            self.glow(0.55 * s, 0.42, 0.42, 0.34, warm, 0.45, sheet)
            self.glow(self.eye_x * s, -0.06, 0.46, 0.34, self.shade, 0.6, sheet)
        if self.style != "bald":
            fallen = self.front_hair(lower=0.08)
            self.fill(fallen, _mix(self.skin, self.shade, 0.7), on=sheet)
        self.lay(sheet, mask)

    def outline(self, lower=0.0):
        """Return the head: an ellipse that narrows towards the chin."""
        return [
            (x * (1 - self.jaw * max(0.0, y / self.tall) ** 2), y + lower)
            for x, y in _arc(0, 0, 1, self.tall, steps=72)
        ]

    def draw_eye(self, side):
        x, w, h = self.eye_x * side, 0.21, self.eye_h
        upper = _arc(x, 0.02, w, h, 180, 360, 18)
        lower = _arc(x, 0.02, w, 0.75 * h, 0, 180, 18)
        lid = _arc(x, 0.02, w, h, 360, 180, 18)
        self.fill(upper + lower, WHITE)
        colour = tuple(EYES.values())[self.attributes["eyes"]]
        centre = (x + self.gaze, 0.01)
        self.fill(_arc(*centre, 0.11, 0.11), _mix(colour, INK, 0.5))
        self.fill(_arc(*centre, 0.094, 0.094), colour)
        self.fill(_arc(*centre, 0.045, 0.045), INK)
        self.fill(_arc(centre[0] - 0.04, -0.03, 0.024, 0.024), WHITE)
        above = _arc(x, 0.0, w + 0.04, h + 0.07, 180, 360, 18)
        self.fill(above + lid, _mix(self.skin, self.shade, 0.55))
        self.line(upper, _mix(self.shade, INK, 0.75), 0.035)
        self.line(lower, _mix(self.skin, self.shade, 0.9), 0.02)
        tone = _mix(self.hair, INK, 0.25)
        thick, y = self.brow, -0.24 - self.lift
        top = _arc(x, y, 0.27, 0.1, 190, 350, 12)
        under = _arc(x, y + thick, 0.25, 0.09, 345, 195, 12)
        self.fill(top + under, tone)

    def draw_nose(self):
        s, tip, w = self.light, self.nose, self.wide
        shadow = _mix(self.skin, self.shade, 0.75)
        flank = [
            (0.03 * s, 0.0),
            (0.09 * s, 0.05),
            (w * s, tip),
            (0.02 * s, tip + 0.03),
        ]
        self.fill(flank, shadow, 1.08)
        self.line(_arc(0, tip - 0.03, w, 0.08, 10, 170, 12), self.shade, 0.035, 1.1)
        bright = _mix(self.skin, WHITE, 0.4)
        self.glow(-0.03 * s, tip - 0.1, 0.12, 0.12, bright, 0.8, self.canvas, 1.12)
        nostril = _mix(self.shade, INK, 0.45)
        for side in (-1, 1):
            self.fill(_arc(0.55 * w * side, tip + 0.015, 0.035, 0.02), nostril, 1.08)

    def draw_mouth(self):
        red = _mix(self.skin, BLUSH, 0.5)
        dark = _mix(red, INK, 0.55)
        y, w, t = self.mouth_y, self.lip_w, self.lips
        kind = MOUTH[self.attributes["mouth"]]
        if kind == "closed":
            bow = [
                (-w, y),
                (-0.3 * w, y - 1.2 * t),
                (0, y - 0.8 * t),
                (0.3 * w, y - 1.2 * t),
                (w, y),
            ]
            self.fill(bow + _arc(0, y, 0.9 * w, 1.7 * t, 0, 180, 18), red)
            self.line([(-w, y), (0, y + 0.015), (w, y)], dark, 0.03)
        elif kind == "smile":
            w, y = 1.2 * w, y - 0.07
            outer = _arc(0, y, w, 0.2 + 1.3 * t, 0, 180, 18)
            self.fill(outer + _arc(0, y, w, 0.05 - 0.5 * t, 180, 0, 18), red)
            inner = _arc(0, y + 0.02, 0.86 * w, 0.2, 0, 180, 18)
            self.fill(inner + _arc(0, y + 0.02, 0.86 * w, 0.06, 180, 0, 18), WHITE)
        else:
            self.fill(_arc(0, y + 0.04, 0.75 * w + t, 0.17 + t), red)
            self.fill(_arc(0, y + 0.04, 0.75 * w, 0.16), (70, 16, 24))
            self.fill(_arc(0, y + 0.04, 0.66 * w, 0.15, 200, 340, 12), WHITE)
            self.fill(_arc(0, y + 0.14, 0.45 * w, 0.06), (196, 84, 88))

    def front_hair(self, lower=0.0):
        """Return the outline of the hair over the forehead, from ear to ear."""
        outer = _arc(0, -0.1, 1.09, self.tall + 0.06, 172, 368, 36)
        hairline = []
        for k in range(-24, 25):
            x = -0.04 * k
            y = back = -0.74 * self.tall * sqrt(1 - x * x)  # combed back
            if self.style in ("short", "long") and self.fringe == 1:  # a parting
                part = 0.34 * abs(x - 0.45 * self.light) ** 1.5 - 0.78 * self.tall
                y = max(back, part)
            elif self.style in ("short", "long") and self.fringe == 2:  # locks
                y = -0.47 + 0.1 * x * x - 0.01 * (k % 8)
            y = y if abs(k) < 23 else 0.0
            hairline.append((x, y + lower, 0.7 * sqrt(1 - x * x)))
        return [(x, y, 0.0) for x, y in outer] + hairline

    def draw_hair_behind(self):
        long = _arc(0, -0.15, 1.25, self.tall + 0.08, 180, 360)
        shapes = {
            "bald": [],
            "short": [],
            "long": [
                [
                    *_arc(-0.9, 1.6, 0.42, 0.4, 0, 180, 12),
                    *long,
                    *_arc(0.9, 1.6, 0.42, 0.4, 0, 180, 12),
                ]
            ],
            "curly": [
                _arc(x, y, 0.4, 0.4) for x, y in _arc(0, -0.3, 1.1, 1.2, 150, 390, 14)
            ],
            "bun": [_arc(0, -self.tall - 0.22, 0.42, 0.36)],
        }[self.style]
        if shapes:
            sheet, mask = self.layer(_mix(self.hair, INK, 0.3), shapes, -0.3)
            self.lay(sheet, mask)

    def draw_hair_in_front(self):
        shapes = [self.front_hair()]
        if self.style == "curly":
            curls = _arc(0, -0.2, 0.9, 0.78 * self.tall, 190, 350, 12)
            shapes += [_arc(x, y, 0.18, 0.18) for x, y in curls]
        sheet, mask = self.layer(self.hair, shapes, 0)
        bright, dark = _mix(self.hair, WHITE, 0.3), _mix(self.hair, INK, 0.4)
        self.glow(-0.35 * self.light, -1.0, 0.8, 0.5, bright, 0.8, sheet, 0.2)
        self.glow(1.0 * self.light, -0.4, 0.6, 1.0, dark, 0.8, sheet, 0)
        self.lay(sheet, mask)

    def draw_glasses(self):
        n = 2 if self.round_frame else 4  # exponent of the rim's shape
        for s in (-1, 1):
            rim = [
                (0.43 * s + 0.28 * _bend(x, n), 0.03 + 0.25 * _bend(y, n))
                for x, y in _arc(0, 0, 1, 1)
            ]
            self.line([*rim, rim[1]], self.frame, 0.055)
            self.line([(0.71 * s, -0.03), (0.97 * s, -0.02)], self.frame, 0.05)
        self.line(_arc(0, 0.02, 0.14, 0.07, 180, 360, 8), self.frame, 0.055)


def _bend(value, exponent):
    return (1 if value > 0 else -1) * abs(value) ** (2 / exponent)
