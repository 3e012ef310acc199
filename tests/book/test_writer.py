"""The number writer and the audit: their numbers against PyTorch, and hands on them."""

import base64
import json

import lift
import numpy as np
import pytest
import torch
from fixtures_book import ROOT
from playwright.sync_api import expect
from test_widgets import compute, widget
from torch import nn

from _ext.genlab_parts import results
from genlab_helpers import metrics, networks

DATA = ROOT / "book" / "_static" / "data" / "05"
CH = lift.definitions("05_cgan")


def packed(name):
    text = (DATA / f"{name}.js").read_text("utf-8")
    return json.loads(text[text.index("] = ") + 4 : text.rindex(";")])


def numbers(name):
    """Read an export back: name -> float32 tensor."""
    return {
        key: torch.tensor(
            np.frombuffer(base64.b64decode(part["float16"]), "<f2").astype(np.float32)
        ).view(part["shape"])
        for key, part in packed(name).items()
    }


def loaded(name, net):
    state = numbers(name)
    net.load_state_dict({k: v.to(net.state_dict()[k].dtype) for k, v in state.items()})
    return net.double().eval()


@pytest.fixture(scope="module")
def nets():
    g = CH["make_generator"](110, 16)
    g = loaded("generator", g[:-1].append(nn.Sigmoid()))
    return g, loaded("judge", networks.Judge())


def test_images_and_scores_are_those_of_torch_with_the_same_weights(nets):
    z = torch.randn(12, 110, generator=torch.Generator().manual_seed(1)).double()
    code = """const {load, generate, judged} = GenLab.digits;
      const [g, j] = [load(generator), load(judge)];
      return inputs.map((z) => {
        const image = generate(g, z), {features, scores} = judged(j, image);
        return [[...image], [...features], [...scores]];
      });"""
    given = {"generator": packed("generator"), "judge": packed("judge")}
    found = compute(code, "digits", inputs=z.tolist(), **given)
    with torch.inference_mode():
        images = nets[0](z)
        features = nets[1].body(images)
        scores = nets[1].head(features)
    for place, wanted in enumerate((images, features, scores)):
        theirs = torch.tensor([row[place] for row in found]).double()
        assert torch.allclose(theirs, wanted.flatten(1), atol=1e-4)


def test_at_least_98_of_100_digits_are_read_as_asked(nets):
    code = """const {load, generate, judged, verdict, noise, asked} = GenLab.digits;
      const [g, j] = [load(generator), load(judge)];
      return Array.from({length: 200}, (_, i) => verdict(judged(j,
        generate(g, asked(noise(100, i), i % 10))).scores).digit === i % 10);"""
    given = {"generator": packed("generator"), "judge": packed("judge")}
    assert np.mean(compute(code, "digits", **given)) >= 0.98
    z = torch.randn(1000, 100, generator=torch.Generator().manual_seed(2)).double()
    wanted = torch.arange(1000) % 10
    inputs = torch.cat((z, nn.functional.one_hot(wanted, 10)), dim=1)
    with torch.inference_mode():  # in parts, which need little memory
        seen = [nets[1](nets[0](part)).argmax(dim=1) for part in inputs.split(100)]
    assert (torch.cat(seen) == wanted).double().mean() >= 0.98


def test_the_distance_is_that_of_the_package():
    rng = np.random.default_rng(0)
    a, b = (rng.normal(m, 1, (300, 64)) @ rng.normal(0, 1, (64, 64)) for m in (0, 1))
    code = """const {momentsOf, frechet} = GenLab.digits;
      return frechet(momentsOf(a), momentsOf(b));"""
    found = compute(code, "digits", a=a.tolist(), b=b.tolist())
    assert found == pytest.approx(metrics.frechet_distance(a, b), rel=1e-6)


def test_the_moments_of_the_test_images_are_put_together_again():
    code = """const {mean, covariance} = GenLab.digits.momentsFrom(moments);
      return [[...mean], covariance.map((row) => [...row])];"""
    mean, covariance = compute(code, "digits", moments=packed("moments"))
    wanted = numbers("moments")
    for name, found in {"mean": mean, "covariance": covariance}.items():
        whole = wanted[name] + wanted[f"{name}_rest"]
        assert np.allclose(found, whole, atol=1e-6)


def test_a_number_is_written_read_and_kept_in_the_address(open_page):
    page = open_page("book/playground")
    host = widget(page, "writer")
    line, text = host.locator(".readout"), host.get_by_role("textbox", name="Number")
    expect(line).to_contain_text("Asked for 20261, hand 0; the judge reads 20261")
    text.fill("47")
    expect(line).to_contain_text("the judge reads 47")
    host.get_by_role("button", name="Another hand").press("Enter")
    expect(line).to_contain_text("hand 1")
    host.get_by_label("From this hand to the next").press("ArrowRight")
    assert "#writer?number=47&seed=1&style=0.05" in page.url
    text.fill("4x")
    expect(line).to_contain_text("one to eight digits")
    page.reload()
    expect(widget(page, "writer").locator(".readout")).to_contain_text("47, hand 1")


def test_the_audit_compares_2000_digits_or_nothing(open_page, root):
    page = open_page("book/playground")
    host = page.locator("[data-widget=audit]")
    host.scroll_into_view_if_needed()
    host.get_by_role("button", name="Draw 2,000").click()
    line = host.locator(".readout")
    expect(line).to_contain_text("0 of 2,000 digits drawn", timeout=30_000)
    host.get_by_role("button", name="Stop").click()
    expect(line).to_contain_text("nothing to compare")
    found = page.evaluate("GenLab.writer.published(genlabResults)")
    card = {it["name"]: it["value"] for it in results(root)["05_cgan"]["measurements"]}
    wanted = card["2,000 digits: least conditional accuracy"]
    assert found["conditional accuracy"][1] == wanted


def test_the_introduction_writes_a_number(open_page):
    host = widget(open_page("book/intro"), "writer")
    expect(host.locator(".readout")).to_contain_text("the judge reads")
