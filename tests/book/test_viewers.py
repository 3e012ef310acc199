"""The viewers of chapters 6 to 8: what they show against the exported numbers."""

import base64
import io
import json

import lift
import numpy as np
from fixtures_book import ROOT
from PIL import Image
from playwright.sync_api import expect
from test_widgets import compute, widget

DATA = ROOT / "book" / "_static" / "data"


def packed(name):
    text = (DATA / f"{name}.js").read_text("utf-8")
    return json.loads(text[text.index("= {", text.index("[")) + 2 : text.rindex(";")])


def numbers(entry):
    flat = np.frombuffer(base64.b64decode(entry["float16"]), "<f2")
    return flat.reshape(entry["shape"]).astype(float)


def test_numbers_are_unpacked_as_they_were_exported():
    walk = packed("06/walk")["frames"]
    code = "const {shape, numbers} = GenLab.unpack(walk); return [shape, [...numbers]];"
    shape, found = compute(code, walk=walk)
    assert shape == walk["shape"]
    assert np.array_equal(np.reshape(found, shape), numbers(walk))


def test_places_on_the_walk_are_named():
    code = "return [0, 1, 4, 31].map((k) => GenLab.viewers.placeOnWalk(k, 32));"
    assert compute(code, "viewers") == [
        "Frame 1 of 32: face 1.",
        "Frame 2 of 32: between face 1 and face 2.",
        "Frame 5 of 32: face 2.",
        "Frame 32 of 32: between face 8 and face 1.",
    ]


def test_clusters_are_named_by_their_most_frequent_digit():
    maps = packed("08/map")
    labels, clusters = (numbers(maps[k]).astype(int) for k in ("labels", "clusters"))
    code = """const {names, wrong} = GenLab.viewers.named(labels, clusters);
      return [[...names], wrong];"""
    given = {"labels": labels.tolist(), "clusters": clusters.tolist()}
    names, wrong = compute(code, "viewers", **given)
    for cluster, name in names:
        own = np.bincount(labels[clusters == cluster], minlength=10)
        assert own[name] == own.max()
    wanted = np.array([dict(names)[c] for c in clusters]) != labels
    assert np.array_equal(wanted, wrong)


def test_the_frames_are_pictures_of_one_size_and_bear_the_chapters_names():
    frames = packed("07/frames")
    sizes = set()
    for frame in frames.values():
        with Image.open(io.BytesIO(base64.b64decode(frame["jpeg"]))) as image:
            sizes.add(image.size)
    assert len(sizes) == 1
    stages = lift.definitions("07_style_transfer")["FRAMES"]
    assert len(frames) == len(stages) + 2  # the photograph, the finished picture
    code = "return n.map((k) => GenLab.viewers.stageName(k));"
    found = compute(code, "viewers", n=list(range(len(frames))))
    named = [f"after {k} evaluations" for k in stages]
    assert found == ["the photograph", *named, "the finished picture"]


def test_the_walk_steps_and_keeps_its_frame(open_page):
    page = open_page("book/playground")
    host = widget(page, "facewalk")
    line = host.locator(".readout")
    expect(line).to_contain_text("Frame 1 of 32: face 1")
    host.get_by_role("button", name="Step", exact=True).press("Enter")
    expect(line).to_contain_text("Frame 2 of 32")
    host.get_by_role("button", name="Next face").click()
    expect(line).to_contain_text("face 2.")
    host.get_by_role("button", name="Run").click()
    expect(line).to_contain_text("Frame 6")
    host.get_by_role("button", name="Pause").click()
    frame = page.url.split("frame=")[1]
    page.reload()
    again = widget(page, "facewalk").locator(".readout")
    expect(again).to_contain_text(f"Frame {int(frame) + 1} of 32")


def test_the_line_between_two_pictures_moves_by_keyboard(open_page):
    page = open_page("book/playground")
    host = widget(page, "compare")
    line = host.locator(".readout")
    expect(line).to_contain_text("50 % of the width shows the photograph")
    host.locator("canvas").focus()
    host.locator("canvas").press("Shift+ArrowLeft")
    expect(line).to_contain_text("40 %")
    host.get_by_label("Right").select_option("after 3 evaluations")
    expect(line).to_contain_text("after 3 evaluations")
    assert "cut=0.40" in page.url


def test_the_explorer_tells_of_the_digit_under_the_pointer(open_page):
    page = open_page("book/playground")
    host = widget(page, "explorer")
    line = host.locator(".readout")
    expect(line).to_contain_text("in the cluster of the")
    maps = packed("08/map")
    places, labels = numbers(maps["after"]), numbers(maps["labels"])
    low, high = places.min(axis=0), places.max(axis=0)
    shares = 0.02 + 0.96 * (places - low) / (high - low)
    box = host.locator("canvas").bounding_box()
    for x, y in ((0.25, 0.5), (0.75, 0.25), (0.5, 0.9)):
        place = {"x": x * box["width"], "y": (1 - y) * box["height"]}
        host.locator("canvas").click(position=place)
        near = np.square(shares - (x, y)).sum(axis=1).argmin()
        expect(line).to_contain_text(f"A {labels[near]:.0f}, in the cluster")
    host.get_by_label("Points").select_option("mistakes")
    assert "#explorer?map=after&colour=label&points=mistakes" in page.url
