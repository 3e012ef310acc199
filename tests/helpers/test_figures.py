"""Figures and tables show what they were given, and can be read by everybody."""

import io
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image
from torch import nn

from genlab_helpers import figures, plots, tables

# What severe colour blindness makes of linear RGB: Machado, Oliveira and Fernandes
# (2009), doi:10.1109/TVCG.2009.113, table 1.
VISION = """normal 1 0 0 0 1 0 0 0 1
protan .152286 1.052583 -.204868 .114503 .786281 .099216 -.003882 -.048116 1.051998
deutan .367322 .860646 -.227968 .280085 .672501 .047413 -.011820 .042940 .968881
tritan 1.255528 -.076749 -.178779 -.078411 .930809 .147602 .004733 .691367 .303900"""
XYZ = "0.4124 0.3576 0.1805 0.2126 0.7152 0.0722 0.0193 0.1192 0.9505"
XY, AB = {"xlabel": "x", "ylabel": "y"}, {"row_labels": "ab", "column_labels": "cd"}
RNG = np.random.default_rng(0)
NOISE, POINTS = RNG.random((20, 1, 28, 28)), RNG.normal(size=(500, 2))
COUNTS = RNG.integers(0, 6000, (10, 10))
TEN = {"row_labels": range(10), "column_labels": range(10)}
FALL = {"d": np.exp(-np.arange(200) / 50), "g": 2 - np.exp(-np.arange(200) / 50)}
KINDS = {
    "grid": lambda ax: figures.image_grid(NOISE, columns=10, titles="abcdefghij" * 2),
    "rows": lambda ax: figures.before_after(
        {"in": NOISE[:8], "a long one": NOISE[8:16]}
    ),
    "curves": lambda ax: plots.curves(ax, FALL, reference={"log 2": 0.69}, **XY),
    "clusters": lambda ax: plots.clusters(ax, POINTS, np.arange(500), POINTS[:10]),
    "confusion": lambda ax: plots.confusion(ax, COUNTS, **TEN),
}


@pytest.fixture(autouse=True)
def ax():
    with matplotlib.rc_context({"backend": "agg"}):
        figures.use_style()
        yield plt.subplots()[1]
    plt.close("all")


def picture(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


@pytest.mark.parametrize("line", VISION.splitlines(), ids=str.split)
def test_the_ten_colours_stay_apart_for_every_kind_of_eye(line):
    kind, to_xyz = (np.array(s.split()[-9:], float).reshape(3, 3) for s in (line, XYZ))
    part = np.array([to_rgb(colour) for colour in figures.PALETTE])
    rgb = np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)
    ratio = (rgb @ kind.T).clip(0, 1) @ to_xyz.T / to_xyz.sum(axis=1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116).T
    lab = np.stack([116 * f[1], 500 * (f[0] - f[1]), 200 * (f[1] - f[2])], axis=1)
    # CIELAB: 2 to 3 is the least difference people notice side by side.
    assert min(np.linalg.norm(a - b) for a, b in combinations(lab, 2)) > 18


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_small_opaque_readable_and_the_same_each_time(kind):
    figure, again = (KINDS[kind](plt.subplots()[1]).figure for _ in range(2))
    data = figures.still(figure)
    assert data == figures.still(again)
    assert not plt.fignum_exists(figure.number)
    texts = [text for text in figure.findobj(matplotlib.text.Text) if text.get_text()]
    assert min(text.get_fontsize() for text in texts) >= 10
    assert len(data) < 150_000
    assert picture(data).width == 840
    assert picture(data).convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


def shown(ax) -> np.ndarray:
    return ax.images[0].get_array()


@given(st.integers(1, 7), st.integers(1, 4), st.sampled_from([(), (1,), (3,)]))
def test_grid_holds_every_image_in_reading_order(count, columns, channels):
    images = np.random.default_rng(count).random((count, *channels, 12, 9))
    ax = plt.figure().add_subplot()
    canvas = shown(figures.image_grid(images, columns=columns, ax=ax))
    plt.close(ax.figure)
    assert canvas.shape == (-(-count // columns) * 13 - 1, columns * 10 - 1, 3)
    for i, image in enumerate(images):
        y, x = i // columns * 13, i % columns * 10
        last = image.reshape(-1, 12, 9).transpose(1, 2, 0)
        assert np.allclose(canvas[y : y + 12, x : x + 9], last, atol=1e-6)


def test_bytes_and_ranges_agree_gaps_are_white_and_the_rest_is_clipped():
    images = torch.arange(2 * 28 * 28).reshape(2, 1, 28, 28).to(torch.uint8)
    signed = (images.double() / 100 - 1).requires_grad_()  # up to 1.55
    low = shown(figures.image_grid(images.clip(0, 200), columns=2)) * 255 / 200
    canvas = shown(figures.image_grid(signed, columns=2, value_range=(-1, 1)))
    assert (canvas[:, 28:30] == 1).all()
    assert np.allclose(canvas, low.clip(0, 1), atol=1e-6)


def test_titles_of_the_first_row_alone_head_the_columns():
    x, titles = np.zeros((4, 28, 28)), ["a", "b", "", ""]
    ax = figures.image_grid(x, columns=2, titles=titles)
    places = {text.get_text(): text.get_position() for text in ax.texts}
    assert (places["a"], places["b"]) == ((14, 0), (44, 0))
    plain = figures.image_grid(x, columns=2)
    assert ax.get_ylim() == plain.get_ylim()  # no room between the rows


def test_titles_stand_above_their_images_and_rows_have_labels():
    ax = figures.image_grid(np.zeros((4, 28, 28)), columns=2, titles="abcd")
    ax.figure.canvas.draw()
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        rows = slice(int(max(box.y1, 0)), int(box.y0))
        assert (shown(ax)[rows, int(box.x0) : int(box.x1)] == 1).all()  # white
    ax = figures.before_after({"in": np.zeros((3, 8, 8)), "out": np.ones((3, 8, 8))})
    assert (shown(ax)[0, 0, 0], shown(ax)[-1, 0, 0]) == (0, 1)
    assert [label.get_text() for label in ax.get_yticklabels()] == ["in", "out"]


def test_curves_are_named_at_their_last_number(ax):
    ys = {"a": torch.tensor([3.0, 2.0, 1.0], requires_grad=True), "b": [1, 9, 0]}
    more = {"x": [10, 20, 30], "reference": {"bound": 0.5}, "yscale": "log"}
    plots.curves(ax, ys, **XY, **more)
    assert ax.lines[0].get_xydata().tolist() == [[10, 3], [20, 2], [30, 1]]
    named = {text.get_text(): text.xy for text in ax.texts}
    assert named == {"a": (30, 1), "b": (20, 9), "bound": (30, 0.5)}


@pytest.mark.parametrize("ends", [[1 + i / 1000 for i in range(6)], [0, 11.5, 11.7]])
def test_names_at_the_ends_do_not_overlap_and_stay_inside(ax, ends):
    ys = {f"curve {i}": np.linspace(20, end, 50) for i, end in enumerate(ends)}
    plots.curves(ax, ys, reference={"one": 1.0}, **XY)
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    heights = sorted((box.y0 + box.y1) / 2 for box in boxes)
    assert np.diff(heights).min() >= 20  # a name is 12 points or 20 pixels high
    assert max(box.x1 for box in boxes) <= ax.figure.bbox.x1 + 1


def test_clusters_colour_points_by_label_and_leave_out_a_lost_centre(ax):
    x, centers = torch.eye(3)[:, :2], [[0.0, 0.5], [np.nan, np.nan]]
    plots.clusters(ax, x, torch.tensor([0, 1, 10]), centers)
    ax.figure.canvas.draw()  # raises if anything warns
    points, _crosses = ax.collections
    colours = [to_rgb(figures.PALETTE[k]) for k in (0, 1, 0)]
    assert points.get_facecolors()[:, :3] == pytest.approx(np.array(colours))


def test_confusion_writes_every_number_where_it_belongs_and_it_fits(ax):
    plots.confusion(ax, COUNTS, **TEN)
    ax.figure.canvas.draw()
    for text in ax.texts:
        j, i = text.get_position()
        assert text.get_text() == f"{COUNTS[i, j]:,}"
        assert text.get_window_extent().width < 0.95 * ax.bbox.width / 10


@pytest.mark.parametrize(
    ("reason", "draw"),
    [
        ("shape", lambda ax: figures.image_grid(np.zeros((2, 8, 8, 3)), columns=2)),
        (
            "finite",
            lambda ax: figures.image_grid(np.full((1, 8, 8), np.nan), columns=2),
        ),
        ("titles", lambda ax: figures.image_grid(NOISE, columns=2, titles=["a"])),
        ("range", lambda ax: figures.image_grid(NOISE, columns=2, value_range=(1, 1))),
        ("same shape", lambda ax: figures.before_after({"a": NOISE, "b": NOISE[:3]})),
        ("a finite", lambda ax: plots.curves(ax, {"a": [np.nan]}, **XY)),
        ("above 0", lambda ax: plots.curves(ax, {"a": [0.0]}, yscale="log", **XY)),
        ("x: finite", lambda ax: plots.curves(ax, {"a": [1.0]}, x=[1, 2], **XY)),
        ("labels: whole", lambda ax: plots.clusters(ax, POINTS, POINTS[:, 0])),
        ("centers", lambda ax: plots.clusters(ax, POINTS, centers=np.zeros((2, 3)))),
        ("shape", lambda ax: plots.confusion(ax, np.zeros((2, 3)), **AB)),
        ("one size", lambda ax: figures.animation([])),
        ("fps", lambda ax: figures.animation([], fps=51)),
        ("2 entries", lambda ax: tables.table(("name", "value"), [("a",)])),
    ],
)
def test_what_makes_no_sense_is_refused(ax, reason, draw):
    with pytest.raises(ValueError, match=reason):
        draw(ax)


def test_animation_is_small_looks_like_its_figures_and_plays_once():
    def moving():
        for step in range(5):
            figure, ax = plt.subplots(figsize=(7, 5))
            plots.clusters(ax, POINTS, np.arange(500), POINTS[:5] * 0.9**step)
            yield figure

    before = plt.get_fignums()
    gif, times = figures.animation(moving(), fps=5, width=840), []
    assert plt.get_fignums() == before
    for i, figure in enumerate(moving()):
        frame, still = picture(gif.data), picture(figures.still(figure)).convert("RGB")
        frame.seek(i)
        times.append(frame.info["duration"])
        seen = np.asarray(frame.convert("RGB"))
        assert seen[0, 0].min() == 255
        assert np.abs(seen - np.asarray(still).astype(int)).mean() < 2
    assert times == [200] * 5
    assert "loop" not in picture(gif.data).info  # it plays once, and the last stays


def test_only_a_stand_in_is_named_in_the_title_and_only_once(ax):
    real, other = (SimpleNamespace(is_stand_in=x, name="X") for x in (False, True))
    three = [figures.caption_source(ax.figure, o) for o in (real, other, other)]
    assert three[-1].get_suptitle() == "X"
    assert figures.caption_source(plt.figure(), real).get_suptitle() == ""
    assert picture(figures.photograph(ax.figure).data).format == "JPEG"
    assert not plt.fignum_exists(ax.figure.number)


def test_layers_give_shapes_and_parameters_and_leave_the_network_as_it_was():
    network = nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 1).eval())
    assert tables.table("nv", [("a", 12345)]).data.endswith("| a | 12,345 |")
    lines = tables.layers(network, torch.ones(1, 3)).data.splitlines()
    assert lines[2:4] == ["| (input) | (1, 3) |  |", "| BatchNorm1d | (1, 3) | 6 |"]
    assert lines[-1] == "| all |  | 10 |"
    assert [layer.training for layer in network] == [True, False]
    assert not network[0].running_mean.any()
