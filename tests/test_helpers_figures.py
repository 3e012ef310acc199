"""Figures show what they were given, and can be read by everybody."""

import io
from itertools import combinations
from types import SimpleNamespace

import matplotlib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import pyplot as plt
from matplotlib.colors import to_rgb
from PIL import Image
from sklearn.datasets import load_sample_image

from genlab_helpers import figures, film, grids, plots

# What severe colour blindness makes of linear RGB: Machado, Oliveira and Fernandes
# (2009), doi:10.1109/TVCG.2009.113, table 1.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
XYZ = np.array(
    [
        [0.4124, 0.3576, 0.1805],
        [0.2126, 0.7152, 0.0722],
        [0.0193, 0.1192, 0.9505],
    ]
)


@pytest.fixture(autouse=True)
def _fresh_figures():
    with matplotlib.rc_context({"backend": "agg"}):
        figures.use_style()
        yield
    plt.close("all")


@pytest.fixture
def ax():
    return plt.subplots()[1]


def linear(colour) -> np.ndarray:
    part = np.array(to_rgb(colour))
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


def lab(rgb: np.ndarray) -> np.ndarray:
    """CIELAB of linear RGB: distances in it are differences as people see them."""
    ratio = XYZ @ rgb.clip(0, 1) / XYZ.sum(axis=1)
    f = np.where(ratio > 0.008856, np.cbrt(ratio), 7.787 * ratio + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def contrast_with_white(colour) -> float:
    return 1.05 / (XYZ[1] @ linear(colour) + 0.05)


def png(figure, **options) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", **options)
    return file.getvalue()


def pixels(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(png(figure))).convert("RGB"))


def example(kind: str):
    """Make one figure of each kind, the way a chapter would; return it."""
    rng = np.random.default_rng(0)
    if kind == "image_grid":
        images = torch.rand(20, 1, 28, 28, generator=torch.Generator().manual_seed(0))
        return grids.image_grid(images, columns=10, titles=range(20)).figure
    if kind == "before_after":
        rows = {"input": rng.random((8, 28, 28)), "output": rng.random((8, 28, 28))}
        return grids.before_after(rows).figure
    figure, ax = plt.subplots()
    if kind == "curves":
        falling = np.exp(-np.arange(200) / 50) + rng.normal(0, 0.02, 200)
        ys = {"discriminator": 0.7 + falling, "generator": 2 - falling}
        reference = {"log 2": 0.69}
        plots.curves(ax, ys, xlabel="step", ylabel="loss", reference=reference)
    elif kind == "clusters":
        x, labels = rng.normal(size=(500, 2)), rng.integers(0, 10, 500)
        plots.clusters(ax, x, labels, rng.normal(size=(10, 2)))
    elif kind == "confusion":
        counts, names = rng.integers(0, 6000, (10, 10)), range(10)
        plots.confusion(ax, counts, row_labels=names, column_labels=names)
    else:
        groups = {"random": rng.normal(size=99), "k-means++": rng.normal(1, 1, 99)}
        plots.histogram(ax, groups, xlabel="inertia")
    return figure


KINDS = ("image_grid", "before_after", "curves", "clusters", "confusion", "histogram")


@pytest.mark.parametrize("vision", VISION)
def test_the_ten_colours_stay_apart_for_every_kind_of_eye(vision):
    seen = [lab(np.array(VISION[vision]) @ linear(c)) for c in figures.PALETTE]
    assert len(seen) == 10
    # 2 to 3 is the least difference people notice side by side.
    assert min(np.linalg.norm(a - b) for a, b in combinations(seen, 2)) > 18


def test_colours_stand_out_on_white():
    assert all(contrast_with_white(c) >= 3 for c in figures.PALETTE[:4])
    assert all(contrast_with_white(c) >= 2.2 for c in figures.PALETTE)
    for text in (figures.INK, figures.QUIET):
        assert contrast_with_white(text) >= 4.5


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_small_opaque_and_the_same_each_time(kind):
    first, again = png(example(kind)), png(example(kind))
    assert first == again
    assert len(first) < 150_000
    picture = Image.open(io.BytesIO(first))
    assert picture.width == 840
    assert picture.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)


@pytest.mark.parametrize("kind", KINDS)
def test_all_text_can_be_read(kind):
    figure = example(kind)
    figure.canvas.draw()
    texts = figure.findobj(
        lambda a: isinstance(a, matplotlib.text.Text) and a.get_text()
    )
    assert texts or kind == "image_grid"
    assert min(text.get_fontsize() for text in texts) >= 10


def test_nothing_is_shown_or_left_in_the_global_state(monkeypatch):
    monkeypatch.setattr(plt, "show", lambda *_: pytest.fail("show() was called"))
    state = np.random.get_state()[1].copy()
    for kind in KINDS:
        example(kind)
    assert (np.random.get_state()[1] == state).all()


# image grids


def shown(ax) -> np.ndarray:
    return ax.images[0].get_array()


@given(
    st.integers(1, 7), st.integers(1, 4), st.sampled_from([(), (1,), (3,)]), st.data()
)
@settings(max_examples=25, deadline=None)
def test_grid_holds_every_image_in_reading_order(count, columns, channels, data):
    seed = data.draw(st.integers(0, 99))
    images = np.random.default_rng(seed).random((count, *channels, 12, 9))
    ax = plt.figure().add_subplot()
    canvas = shown(grids.image_grid(images, columns=columns, ax=ax))
    plt.close(ax.figure)
    rows, gap = -(-count // columns), 1
    assert canvas.shape == (rows * 13 - gap, columns * 10 - gap, 3)
    for i, image in enumerate(images):
        y, x = i // columns * 13, i % columns * 10
        last = image.reshape(-1, 12, 9).transpose(1, 2, 0)
        assert np.allclose(canvas[y : y + 12, x : x + 9], last, atol=1e-6)


def test_bytes_floats_tensors_and_gaps_agree():
    images = (
        torch.arange(2 * 28 * 28).reshape(2, 1, 28, 28).remainder(256).to(torch.uint8)
    )
    forms = (images, images.numpy()[:, 0], images.float() / 255)
    canvases = [shown(grids.image_grid(form, columns=2)) for form in forms]
    signed = (images.double() / 127.5 - 1).requires_grad_()
    canvases.append(shown(grids.image_grid(signed, columns=2, value_range=(-1.0, 1.0))))
    for canvas in canvases[1:]:
        assert np.allclose(canvas, canvases[0], atol=1e-6)
    assert (canvases[0][:, 28:30] == 1).all()


def test_values_outside_the_range_are_clipped():
    canvas = shown(grids.image_grid(torch.full((1, 4, 4), 1.5), columns=1))
    assert canvas.max() == 1


def test_titles_stand_above_their_images():
    ax = grids.image_grid(np.zeros((4, 28, 28)), columns=2, titles="abcd")
    ax.figure.canvas.draw()
    assert [text.get_text() for text in ax.texts] == list("abcd")
    canvas = shown(ax)
    for text in ax.texts:
        box = text.get_window_extent().transformed(ax.transData.inverted())
        covered = canvas[int(max(box.y1, 0)) : int(box.y0), int(box.x0) : int(box.x1)]
        assert covered.size
        assert (covered == 1).all()  # white, so no image lies under the text


@pytest.mark.parametrize(
    ("images", "options", "reason"),
    [
        (np.zeros((28, 28)), {}, "images must have shape"),
        (np.zeros((2, 28, 28, 3)), {}, "images must have shape"),
        (np.zeros((2, 2, 28, 28)), {}, "images must have shape"),
        (np.zeros((0, 28, 28)), {}, "images is empty"),
        (np.full((1, 28, 28), np.nan), {}, "not finite"),
        (np.zeros((2, 28, 28)), {"columns": 0}, "columns >= 1"),
        (np.zeros((2, 28, 28)), {"titles": ["one"]}, "2 titles or none"),
        (np.zeros((2, 28, 28)), {"value_range": (1, 1)}, r"must be \(low, high\)"),
    ],
)
def test_bad_images_are_refused(images, options, reason):
    with pytest.raises(ValueError, match=reason):
        grids.image_grid(images, **({"columns": 2} | options))


def test_before_after_stacks_labelled_rows():
    rows = {"input": np.zeros((3, 8, 8)), "a rather long label": np.ones((3, 8, 8)) / 2}
    ax = grids.before_after(rows)
    assert shown(ax)[0, 0, 0] == 0
    assert shown(ax)[-1, 0, 0] == 0.5
    labels = [label.get_text() for label in ax.get_yticklabels()]
    assert labels == ["input", "a rather long\nlabel"]


@pytest.mark.parametrize(
    "rows", [{}, {"a": np.zeros((2, 8, 8)), "b": np.zeros((3, 8, 8))}]
)
def test_before_after_refuses_rows_that_do_not_match(rows):
    with pytest.raises(ValueError, match="rows of one shape"):
        grids.before_after(rows)


# curves


def test_curves_draw_the_numbers_and_name_them(ax):
    ys = {"a": torch.tensor([3.0, 2.0, 1.0], requires_grad=True), "b": [1, 2, 3]}
    same = plots.curves(
        ax, ys, xlabel="step", ylabel="cost", x=[10, 20, 30], reference={"bound": 0.5}
    )
    assert same is ax
    assert ax.lines[0].get_xydata().tolist() == [[10, 3], [20, 2], [30, 1]]
    assert ax.lines[1].get_ydata().tolist() == [1, 2, 3]
    assert set(ax.lines[2].get_ydata()) == {0.5}
    assert [(text.get_text(), text.xy) for text in ax.texts] == [
        ("a", (30, 1)),
        ("b", (30, 3)),
        ("bound", (30, 0.5)),
    ]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("step", "cost")


@pytest.mark.parametrize("ends", [[1 + i / 1000 for i in range(6)], [0, 11.5, 11.7]])
def test_names_at_the_ends_do_not_overlap_and_stay_inside(ax, ends):
    ys = {f"curve {i}": np.linspace(20, end, 50) for i, end in enumerate(ends)}
    plots.curves(ax, ys, xlabel="step", ylabel="loss", reference={"one": 1.0})
    ax.figure.canvas.draw()
    boxes = [text.get_window_extent() for text in ax.texts]
    for one, other in combinations(boxes, 2):
        assert abs((one.y0 + one.y1) - (other.y0 + other.y1)) / 2 >= 12 * 120 / 72
    assert max(box.x1 for box in boxes) <= ax.figure.bbox.x1 + 1


@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=12))
@settings(max_examples=25, deadline=None)
def test_apart_keeps_order_distance_and_mean(wanted):
    wanted = np.array(wanted)
    placed = plots._apart(wanted, 14.0)
    assert (np.diff(np.sort(placed)) >= 14 - 1e-6).all()
    assert (np.argsort(placed) == np.argsort(wanted, kind="stable")).all()
    assert placed.mean() == pytest.approx(wanted.mean(), abs=1e-6)


def test_apart_leaves_alone_what_is_apart():
    assert plots._apart(np.array([50.0, 0.0, 20.0]), 14.0).tolist() == [50, 0, 20]


def test_curves_with_gaps_single_points_and_log_scales(ax):
    plots.curves(ax, {"a": [1.0, np.nan, 4.0, np.nan]}, xlabel="x", ylabel="y")
    assert ax.texts[0].xy == (2, 4.0)  # named where the last number is
    other = plt.subplots()[1]
    plots.curves(other, {"a": [2.0]}, xlabel="x", ylabel="y")
    scales = {"xscale": "log", "yscale": "log"}
    ys = {"a": [1.0, 10.0, 0.0]}
    third = plots.curves(
        plt.subplots()[1], ys, xlabel="x", ylabel="y", x=[1, 10, 100], **scales
    )
    assert third.texts[0].xy == (10, 10.0)
    for one in (ax, other, third):
        one.figure.canvas.draw()  # raises if anything warns


def test_panels_share_one_legend():
    figure, axes = plt.subplots(1, 2)
    for ax in axes:
        plots.curves(ax, {"a": [1, 2]}, xlabel="x", ylabel="y", legend=True)
        assert not ax.texts
    assert len(figure.legends) == 1


@pytest.mark.parametrize(
    ("ys", "options", "reason"),
    [
        ({}, {}, "at least one curve"),
        ({"a": [[1.0]]}, {}, "The curve 'a' must be"),
        ({"a": []}, {}, "'a' cannot be drawn"),
        ({"a": [np.nan]}, {}, "never is a finite number"),
        ({"a": [0.0]}, {"yscale": "log"}, "never is a number above 0"),
        ({"a": [1.0]}, {"x": [1, 2]}, "one for each x"),
        ({"a": [1.0]}, {"reference": {"bad": np.inf}}, "'bad' cannot be drawn"),
    ],
)
def test_bad_curves_are_refused(ax, ys, options, reason):
    with pytest.raises(ValueError, match=reason):
        plots.curves(ax, ys, xlabel="x", ylabel="y", **options)


# clusters, confusion, histogram


def test_clusters_colour_points_by_label_and_mark_centres(ax):
    x = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    centers = torch.tensor([[0.0, 0.5], [1.0, 0.0]], requires_grad=True)
    assert plots.clusters(ax, x, torch.tensor([0, 1, 10]), centers) is ax
    points, crosses = ax.collections
    assert points.get_offsets().tolist() == x.tolist()
    colours = [figures.PALETTE[k] for k in (0, 1, 0)]
    assert points.get_facecolors()[:, :3] == pytest.approx(
        np.array([to_rgb(c) for c in colours])
    )
    assert crosses.get_offsets().tolist() == centers.tolist()
    assert to_rgb(crosses.get_edgecolors()[0]) == (1, 1, 1)
    assert crosses.get_zorder() > points.get_zorder()
    assert ax.get_aspect() == 1


def test_clusters_without_labels_and_with_a_lost_centre(ax):
    plots.clusters(ax, np.zeros((5, 2)), centers=[[0.0, 0.0], [np.nan, np.nan]])
    assert len(ax.collections[0].get_facecolors()) == 1
    ax.figure.canvas.draw()


@pytest.mark.parametrize(
    ("x", "labels", "centers", "reason"),
    [
        (np.zeros((3, 3)), None, None, "x must have shape"),
        (np.zeros(3), None, None, "x must have shape"),
        (np.zeros((3, 2)), [0, 1], None, "labels must be 3 whole numbers"),
        (np.zeros((3, 2)), [0.0, 1.0, 2.0], None, "labels must be 3 whole numbers"),
        (np.zeros((3, 2)), None, np.zeros((2, 3)), "centers must have shape"),
    ],
)
def test_bad_clusters_are_refused(ax, x, labels, centers, reason):
    with pytest.raises(ValueError, match=reason):
        plots.clusters(ax, x, labels, centers)


def test_confusion_writes_every_number_where_it_belongs(ax):
    matrix = torch.tensor([[5842, 0, 3], [12, 700, 0]])
    rows, columns = ["zero", "one"], [4, 5, 6]
    plots.confusion(ax, matrix, row_labels=rows, column_labels=columns)
    written = {text.get_position(): text.get_text() for text in ax.texts}
    for (i, j), count in np.ndenumerate(matrix.numpy()):
        assert written[j, i] == f"{count:,}"
    assert [label.get_text() for label in ax.get_yticklabels()] == rows
    assert [label.get_text() for label in ax.get_xticklabels()] == ["4", "5", "6"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("cluster", "class")


def test_numbers_fit_their_cells_and_stand_out_from_the_shade():
    figure, ax = plt.subplots(figsize=(7, 5.2))
    shares = np.linspace(0.01, 0.99, 10)
    matrix = np.array(
        [[round(10_000 * s), *[0] * 8, round(1e4 * (1 - s))] for s in shares]
    )
    plots.confusion(ax, matrix, row_labels=range(10), column_labels=range(10))
    figure.canvas.draw()
    cell = ax.bbox.width / 10
    shade = ax.images[0].to_rgba(ax.images[0].get_array())
    for text in ax.texts:
        assert text.get_window_extent().width < 0.95 * cell
        j, i = text.get_position()
        a, b = (
            contrast_with_white(shade[i, j, :3]),
            contrast_with_white(text.get_color()),
        )
        assert max(a, b) / min(a, b) >= 4


def test_confusion_of_shares_and_of_an_empty_row(ax):
    matrix = [[0.25, 0.75], [0.0, 0.0]]
    plots.confusion(ax, matrix, row_labels="ab", column_labels="cd")
    assert [text.get_text() for text in ax.texts] == ["0.25", "0.75", "0.00", "0.00"]


@pytest.mark.parametrize(
    ("matrix", "reason"),
    [
        (np.zeros((2, 3)), "2 x 2 finite numbers"),
        ([[np.nan, 1], [1, 1]], "2 x 2 finite numbers"),
        ([[-1, 1], [1, 1]], "negative"),
    ],
)
def test_bad_matrices_are_refused(ax, matrix, reason):
    with pytest.raises(ValueError, match=reason):
        plots.confusion(ax, matrix, row_labels="ab", column_labels="cd")


def test_histogram_counts_all_groups_over_the_same_bins(ax):
    groups = {"a": torch.tensor([0.0, 0.0, 1.0]), "b": [3.0, 4.0]}
    plots.histogram(ax, groups, xlabel="inertia", bins=4)
    outlines = [patch.get_data() for patch in ax.patches[1::2]]
    assert outlines[0].edges.tolist() == outlines[1].edges.tolist() == [0, 1, 2, 3, 4]
    assert outlines[0].values.tolist() == [2, 1, 0, 0]
    assert outlines[1].values.tolist() == [0, 0, 0, 2]
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["a", "b"]


@pytest.mark.parametrize(
    ("groups", "reason"),
    [
        ({}, "at least one group"),
        ({"a": []}, "The group 'a' must be"),
        ({"a": [np.nan]}, "The group 'a' must be"),
        ({"a": [[1.0]]}, "The group 'a' must be"),
    ],
)
def test_bad_groups_are_refused(ax, groups, reason):
    with pytest.raises(ValueError, match=reason):
        plots.histogram(ax, groups, xlabel="x")


# animation


def moving_clusters(count=25):
    rng = np.random.default_rng(0)
    x, centers = rng.normal(size=(500, 2)), rng.normal(size=(5, 2))
    for step in range(count):
        labels = np.linalg.norm(x[:, None] - centers, axis=-1).argmin(axis=1)
        figure, ax = plt.subplots(figsize=(7, 5))
        plots.clusters(ax, x, labels, centers)
        ax.set_title(f"step {step}")
        centers = centers * 0.9
        yield figure


def test_animation_is_small_plays_and_holds_its_last_frame():
    shown = film.animation(moving_clusters(), fps=5)
    assert len(shown.data) < 400_000
    assert plt.get_fignums() == []
    gif = Image.open(io.BytesIO(shown.data))
    assert (gif.format, gif.n_frames, gif.size) == ("GIF", 25, (700, 500))
    assert gif.info["loop"] == 0
    times = []
    for i in range(gif.n_frames):
        gif.seek(i)
        times.append(gif.info["duration"])
        assert gif.convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert times == [200] * 24 + [2000]
    assert set(shown._repr_mimebundle_()[0]) == {"image/gif"}


def test_animation_frames_look_like_the_figures():
    gif = Image.open(io.BytesIO(film.animation(moving_clusters(2), width=840).data))
    for i, figure in enumerate(moving_clusters(2)):
        gif.seek(i)
        seen = np.asarray(gif.convert("RGB")).astype(int)
        assert np.abs(seen - pixels(figure)).mean() < 2


def test_animation_is_the_same_each_time():
    first, again = (film.animation(moving_clusters(3)).data for _ in range(2))
    assert first == again


@pytest.mark.parametrize("fps", [0, -1, 51, float("nan")])
def test_bad_speeds_are_refused(fps):
    with pytest.raises(ValueError, match="fps must be"):
        film.animation([], fps=fps)


def test_frames_must_exist_and_have_one_size():
    with pytest.raises(ValueError, match="at least one frame"):
        film.animation([])
    sizes = (plt.figure(figsize=size) for size in ((4, 3), (4, 2)))
    with pytest.raises(ValueError, match="all of one size"):
        film.animation(sizes)


# the source in the title


def test_only_a_stand_in_is_named_in_the_title(ax):
    figure = ax.figure
    real = SimpleNamespace(is_stand_in=False, name="MNIST")
    assert figures.caption_source(figure, real).get_suptitle() == ""
    digits = SimpleNamespace(is_stand_in=True, name="digits (stand-in for MNIST)")
    figure.suptitle("Centres")
    for _ in range(2):
        figures.caption_source(figure, digits)
    assert figure.get_suptitle() == "Centres\ndigits (stand-in for MNIST)"


def test_a_photograph_is_a_small_jpeg_of_the_whole_figure_and_closes_it():
    flower = load_sample_image("flower.jpg")[:400, :400].transpose(2, 0, 1)
    figure = grids.image_grid(np.stack([flower] * 4), columns=4).figure
    as_png = io.BytesIO()
    figure.savefig(as_png, format="png", bbox_inches="tight")
    shown = film.photograph(figure)
    assert shown.format == "jpeg"
    assert len(shown.data) < as_png.tell() / 2
    size = Image.open(as_png).size
    assert Image.open(io.BytesIO(shown.data)).size == pytest.approx(size, abs=2)
    assert figure.number not in plt.get_fignums()


def test_a_still_is_a_png_and_closes_its_figure():
    figure = plt.figure(figsize=(3, 2))
    picture = Image.open(io.BytesIO(film.still(figure)))
    assert (picture.format, picture.size) == ("PNG", (360, 240))
    assert not plt.fignum_exists(figure.number)
