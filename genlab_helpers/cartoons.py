"""Cartoon faces with known attributes, drawn by a seeded program (chapter 6).

Every face is drawn at 512 x 512 as polygons with whole-number corners and averaged
down. Its random numbers are `random.Random.random`, which Python promises to keep: the
bytes depend on (seed, index) and on how one version of Pillow fills polygons.
"""

from contextlib import contextmanager
from math import copysign, cos, pi, sin, sqrt
from random import Random
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageOps

CANVAS = 512  # pixels a side while drawing
INK, WHITE, BLUSH = (24, 16, 18), (248, 247, 244), (190, 52, 58)
# fmt: off
ATTRIBUTES = {  # the values of each: names, or colours (R, G, B)
    "skin": [(250, 221, 200), (238, 195, 160), (212, 164, 118),  # porcelain fair olive
             (176, 122, 80), (132, 84, 56), (92, 58, 44)],  # tan brown deep
    "hair_colour": [(36, 31, 36), (70, 42, 28), (172, 72, 30),  # black brown red
                    (226, 186, 104), (172, 174, 182)],  # blond grey
    "hair": ["bald", "short", "long", "curly", "bun"],
    "eyes": [(92, 56, 30), (78, 132, 70), (62, 118, 186), (122, 134, 144)],
    "mouth": ["closed", "smile", "open"],  # above: brown, green, blue, grey eyes
    "background": [(150, 192, 222), (222, 206, 172), (154, 184, 150),  # sky sand sage
                   (216, 168, 172), (78, 92, 142), (174, 162, 208)],  # rose dusk lilac
    "glasses": [True, False, False]}
MEASURES = {  # from, to; x, y and unit in pixels, lengths in units
    "turn": (-1, 1), "x": (-24, 24), "y": (-14, 14), "unit": (122, 144),
    "tilt": (-0.1, 0.1), "tall": (1.24, 1.42), "jaw": (0.1, 0.3), "eye_x": (0.4, 0.46),
    "eye_h": (0.1, 0.135), "brow": (0.04, 0.075), "lift": (-0.03, 0.06),
    "nose": (0.36, 0.46), "wide": (0.11, 0.17), "lips": (0.06, 0.1),
    "lip_w": (0.27, 0.36), "gaze": (-0.04, 0.04)}
DETAILS = {  # light: the shaded side; bend: of the glasses, round or nearly square
    "light": [-1, 1], "fringe": ["back", "parting", "locks"],
    "neckline": ["round", "collar", "pointed"],
    "cloth": [(38, 62, 110), (150, 40, 52), (44, 104, 84), (232, 228, 220),
              (96, 60, 120), (206, 140, 44), (56, 56, 62), (60, 138, 160)],
    "frame": [(22, 22, 26), (150, 24, 48), (34, 62, 150)], "bend": [1, 0.5]}
# fmt: on
FADE = [min(1.0, v / 180) for v in range(256)]  # 0 in a spot's centre, 1 at its edge
SOFT = [round(255 * (1 - t * t * (3 - 2 * t))) for t in FADE]  # no rim to be seen
SPOT = Image.radial_gradient("L").point(SOFT)


class Cartoons(NamedTuple):
    """Images (N, 3, side, side), uint8 in 0..255, and the attributes of each.

    ``attributes`` holds tensors of N values: "glasses" bool; the others of ATTRIBUTES
    int64, an index into its values; "turn" float32 in [-1, 1], -1 where the head is
    turned to the left edge. A bald head shows its hair colour in the brows alone.
    """

    images: torch.Tensor
    attributes: dict[str, torch.Tensor]


def draw_faces(n: int, side: int = 128, seed: int = 0) -> Cartoons:
    """Return n cartoon faces in colour and what is known of each.

    Face i depends on (seed, i) alone: more faces begin with the same ones, and
    another side shows the same faces at another size. The attributes are independent,
    each value equally frequent. About 75 faces a second on one core. Raises ValueError
    unless n is an int from 1 on, side 32, 64, 128 or 256, and seed an int from 0 on.
    """
    if type(n) is not int or n < 1 or type(seed) is not int or seed < 0:
        raise ValueError(f"n and seed are ints from 1 and 0 on, not {n!r} and {seed!r}")
    if type(side) is not int or side not in (32, 64, 128, 256):
        raise ValueError(f"side must be 32, 64, 128 or 256 pixels, not {side!r}")
    images, known = torch.empty(n, 3, side, side, dtype=torch.uint8), []
    for i in range(n):
        face = _Face(Random(f"{seed}/{i}"))
        known.append(face.attributes)
        small = np.array(face.draw().reduce(CANVAS // side))
        images[i] = torch.from_numpy(small).permute(2, 0, 1)
    return Cartoons(images, {k: torch.tensor([a[k] for a in known]) for k in known[0]})


def mix(colour, other, share):
    """Return a colour with a share of another in it, in whole numbers."""
    return tuple(round(a + share * (b - a)) for a, b in zip(colour, other, strict=True))


def arc(x, y, w, h, start=0.0, stop=360.0, steps=36):
    """Return points on an ellipse, from angle to angle in degrees, y downwards."""
    angles = [pi / 180 * (start + (stop - start) * k / steps) for k in range(steps + 1)]
    return [(x + w * cos(t), y + h * sin(t)) for t in angles]


class _Face:
    """One face. The unit is half the head's width; (0, 0) lies between the eyes.

    The head is a vertical cylinder: what lies at x on its front is at depth
    sqrt(1 - x^2), and turning the head moves near and far parts against each other.
    """

    def __init__(self, rng: Random):
        self.rng, number = rng, {}
        for key, values in ATTRIBUTES.items():
            number[key] = int(len(values) * rng.random())
            setattr(self, key, values[number[key]])
        for key, (low, high) in MEASURES.items():
            setattr(self, key, low + (high - low) * rng.random())
        for key, values in DETAILS.items():
            setattr(self, key, values[int(len(values) * rng.random())])
        self.attributes = number | {"glasses": self.glasses, "turn": self.turn}
        self.sine, self.shade = 0.32 * self.turn, mix(self.skin, (40, 10, 20), 0.22)

    def at(self, x, y, depth=None):
        """Return the pixel of a point; without a depth it lies on the front."""
        z = sqrt(max(0.0, 1 - x * x)) if depth is None else depth
        x = x * sqrt(1 - self.sine**2) + z * self.sine
        x, y = x + self.tilt * (1.2 - y), y + self.tilt * x  # about the neck
        return round(256 + self.x + self.unit * x), round(256 + self.y + self.unit * y)

    def fill(self, points, colour, depth=None):
        """Fill a polygon of points (x, y), at one depth, or (x, y, depth)."""
        corners = [self.at(*p) if len(p) == 3 else self.at(*p, depth) for p in points]
        ImageDraw.Draw(self.canvas).polygon(corners, fill=colour)

    def line(self, points, colour, width, depth=None):
        corners = [self.at(x, y, depth) for x, y in points]
        pixels = max(2, round(width * self.unit))
        ImageDraw.Draw(self.canvas).line(corners, colour, pixels, joint="curve")

    def glow(self, x, y, w, h, colour, strength, depth=None):
        """Lay a soft spot of a colour there; it fades to nothing at its rim."""
        left, top = self.at(x, y, depth)
        width, height = (2 * round(half * self.unit) for half in (w, h))
        mask = SPOT.point(lambda v: round(strength * v))
        mask = mask.resize((width, height), Image.Resampling.NEAREST)
        self.canvas.paste(colour, (left - width // 2, top - height // 2), mask)

    @contextmanager
    def inside(self, shapes, colour, depth):
        """Fill shapes with a colour; what is drawn meanwhile shows inside them only."""
        canvas, self.canvas = self.canvas, Image.new("L", (CANVAS, CANVAS))
        for points in shapes:
            self.fill(points, 255, depth)
        mask, self.canvas = self.canvas, Image.new("RGB", (CANVAS, CANVAS), colour)
        yield
        box = mask.getbbox()  # only what is covered: the rest costs time
        canvas.paste(self.canvas.crop(box), box, mask.crop(box))
        self.canvas = canvas

    # fmt: off
    def draw(self) -> Image.Image:  # from what is far to what is near
        low, high = mix(self.background, INK, 0.25), mix(self.background, WHITE, 0.2)
        ramp = ImageOps.colorize(Image.linear_gradient("L"), high, low)
        self.canvas = ramp.resize((CANVAS, CANVAS), Image.Resampling.NEAREST)
        for _ in range(3):
            x, y, size = (self.rng.random() for _ in range(3))
            tone, width = WHITE if size > 0.4 else low, 0.8 + size
            self.glow(4 * x - 2, 3 * y - 2, width, width, tone, 0.35, 0)
        shoulders = [(-2.2, 3.2), *arc(0, 2.55, 1.75, 0.95, 180, 360), (2.2, 3.2)]
        with self.inside([shoulders], self.cloth, 0):
            dark = mix(self.cloth, INK, 0.6)
            self.glow(1.5 * self.light, 2.4, 1.9, 1.9, dark, 0.7, 0)
        left, right = (arc(x, 1.6, 0.42, 0.4, 0, 180, 12) for x in (-0.9, 0.9))
        shapes = {
            "long": [left + arc(0, -0.15, 1.25, self.tall + 0.08, 180, 360) + right],
            "curly": [arc(*p, 0.4, 0.4) for p in arc(0, -0.3, 1.1, 1.2, 150, 390, 14)],
            "bun": [arc(0, -self.tall - 0.22, 0.42, 0.36)]}
        for points in shapes.get(self.hair, []):
            self.fill(points, mix(self.hair_colour, INK, 0.3), -0.3)
        self.draw_neck_and_head()
        self.draw_eyes_nose_and_mouth()
        self.draw_hair_and_glasses()
        return self.canvas

    def draw_neck_and_head(self):
        head = [(x * (1 - self.jaw * max(0.0, y / self.tall) ** 2), y)  # a narrow chin
                for x, y in arc(0, 0, 1, self.tall, steps=72)]
        shapes = [[(-0.5, 0.9), (-0.52, 1.64), (0.52, 1.64), (0.5, 0.9)],
                  arc(0, 1.62, 0.62, 0.3, 0, 180), [(-0.5, 1.6), (0, 2.2), (0.5, 1.6)]]
        shapes = shapes if self.neckline == "pointed" else shapes[:2]
        with self.inside(shapes, mix(self.skin, self.shade, 0.35), 0):
            self.fill([(x, y + 0.2) for x, y in head], self.shade, 0.1)
        collar = mix(self.cloth, WHITE if sum(self.cloth) < 400 else INK, 0.25)
        for s in (-1, 1):
            flap = [(0.52 * s, 1.5), (0.78 * s, 1.62), (0.45 * s, 2.1), (0, 1.95)]
            if self.neckline == "collar":
                self.fill(flap, collar, 0)
            self.fill(arc(1.0 * s, 0.12, 0.16, 0.25), self.skin, -0.3)
            self.fill(arc(1.02 * s, 0.12, 0.08, 0.15), self.shade, -0.3)
        with self.inside([head], self.skin, 0.1):
            bright, warm = mix(self.skin, WHITE, 0.35), mix(self.skin, BLUSH, 0.5)
            self.glow(1.1 * self.light, 0.3, 1.0, 2.0, self.shade, 0.9, 0)
            self.glow(0, 1.4, 1.3, 0.5, self.shade, 0.7, 0.3)
            self.glow(-0.3 * self.light, -0.65, 0.75, 0.55, bright, 0.55)
            for s in (-1, 1):
                self.glow(0.55 * s, 0.42, 0.42, 0.34, warm, 0.45)
                self.glow(self.eye_x * s, -0.06, 0.46, 0.34, self.shade, 0.6)
            if self.hair != "bald":
                self.fill(self.front_hair(0.08), mix(self.skin, self.shade, 0.7))

    def draw_eyes_nose_and_mouth(self):
        w, h, y, ring = 0.21, self.eye_h, -0.24 - self.lift, mix(self.eyes, INK, 0.5)
        for x in (-self.eye_x, self.eye_x):
            upper = arc(x, 0.02, w, h, 180, 360, 18)
            lower = arc(x, 0.02, w, 0.75 * h, 0, 180, 18)
            lid = arc(x, 0.0, w + 0.04, h + 0.07, 180, 360, 18) + upper[::-1]
            brow = [*arc(x, y, 0.27, 0.1, 190, 350, 12),
                    *arc(x, y + self.brow, 0.25, 0.09, 345, 195, 12)]
            self.fill(upper + lower, WHITE)
            for size, tone in ((0.11, ring), (0.094, self.eyes), (0.045, INK)):
                self.fill(arc(x + self.gaze, 0.01, size, size), tone)
            self.fill(arc(x + self.gaze - 0.04, -0.03, 0.024, 0.024), WHITE)
            self.fill(lid, mix(self.skin, self.shade, 0.55))
            self.line(upper, mix(self.shade, INK, 0.75), 0.035)
            self.line(lower, mix(self.skin, self.shade, 0.9), 0.02)
            self.fill(brow, mix(self.hair_colour, INK, 0.25))
        s, y, w = self.light, self.nose, self.wide
        flank = [(0.03 * s, 0.0), (0.09 * s, 0.05), (w * s, y), (0.02 * s, y + 0.03)]
        bright, dark = mix(self.skin, WHITE, 0.4), mix(self.shade, INK, 0.45)
        self.fill(flank, mix(self.skin, self.shade, 0.75), 1.08)
        self.line(arc(0, y - 0.03, w, 0.08, 10, 170, 12), self.shade, 0.035, 1.1)
        self.glow(-0.03 * s, y - 0.1, 0.12, 0.12, bright, 0.8, 1.12)
        for side in (-1, 1):
            self.fill(arc(0.55 * w * side, y + 0.015, 0.035, 0.02), dark, 1.08)
        y, w, t, red = 0.42 * y + 0.6, self.lip_w, self.lips, mix(self.skin, BLUSH, 0.5)
        if self.mouth == "closed":
            top = y - 1.2 * t
            bow = [(-w, y), (-0.3 * w, top), (0, y - 0.8 * t), (0.3 * w, top), (w, y)]
            self.fill(bow + arc(0, y, 0.9 * w, 1.7 * t, 0, 180, 18), red)
            self.line([(-w, y), (0, y + 0.015), (w, y)], mix(red, INK, 0.55), 0.03)
        elif self.mouth == "smile":
            w, y = 1.2 * w, y - 0.07
            lips = arc(0, y, w, 0.2 + 1.3 * t, 0, 180, 18)
            teeth = arc(0, y + 0.02, 0.86 * w, 0.2, 0, 180, 18)
            self.fill(lips + arc(0, y, w, 0.05 - 0.5 * t, 180, 0, 18), red)
            self.fill(teeth + arc(0, y + 0.02, 0.86 * w, 0.06, 180, 0, 18), WHITE)
        else:
            self.fill(arc(0, y + 0.04, 0.75 * w + t, 0.17 + t), red)
            self.fill(arc(0, y + 0.04, 0.75 * w, 0.16), (70, 16, 24))
            self.fill(arc(0, y + 0.04, 0.66 * w, 0.15, 200, 340, 12), WHITE)
            self.fill(arc(0, y + 0.14, 0.45 * w, 0.06), (196, 84, 88))

    def front_hair(self, lower=0.0):
        """Return the outline of the hair over the forehead, from ear to ear."""
        fringe = self.fringe if self.hair in ("short", "long") else "back"
        points = [(x, y, 0) for x, y in arc(0, -0.1, 1.09, self.tall + 0.06, 172, 368)]
        for k in range(-24, 25):
            x = -0.04 * k
            y = -0.74 * self.tall * sqrt(1 - x * x)
            if fringe == "parting":
                y = max(y, 0.34 * abs(x - 0.45 * self.light) ** 1.5 - 0.78 * self.tall)
            elif fringe == "locks":
                y = -0.47 + 0.1 * x * x - 0.01 * (k % 8)
            y = y + lower if abs(k) < 23 else lower  # it ends at the ears
            points.append((x, y, 0.7 * sqrt(1 - x * x)))
        return points

    def draw_hair_and_glasses(self):
        shapes, colour = [self.front_hair()], self.hair_colour
        if self.hair == "curly":
            around = arc(0, -0.2, 0.9, 0.78 * self.tall, 190, 350, 12)
            shapes += [arc(x, y, 0.18, 0.18) for x, y in around]
        if self.hair != "bald":
            bright, dark = mix(colour, WHITE, 0.3), mix(colour, INK, 0.4)
            with self.inside(shapes, colour, 0):
                self.glow(-0.35 * self.light, -1.0, 0.8, 0.5, bright, 0.8, 0.2)
                self.glow(1.0 * self.light, -0.4, 0.6, 1.0, dark, 0.8, 0)
        for s in (-1, 1) if self.glasses else ():
            rim = [(0.43 * s + 0.28 * copysign(abs(x) ** self.bend, x),
                    0.03 + 0.25 * copysign(abs(y) ** self.bend, y))
                   for x, y in arc(0, 0, 1, 1)]
            self.line([*rim, rim[1]], self.frame, 0.055)
            self.line([(0.71 * s, -0.03), (0.97 * s, -0.02)], self.frame, 0.05)
            self.line(arc(0, 0.02, 0.14, 0.07, 180, 360, 8), self.frame, 0.055)
