"""The widgets of the playground: their numbers against Python, and a reader's hands."""

import base64
import itertools
import json
import subprocess

import lift
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fixtures_book import ROOT, SCRIPTS
from playwright.sync_api import expect
from torch import nn

WIDGETS = ROOT / "book" / "_static" / "widgets"
CH = lift.definitions("01_kmeans")


def compute(code: str, *names: str, **given):
    """Return what a function's body in JavaScript returns for what is `given`."""
    files = [(WIDGETS / f"{name}.js").read_text("utf-8") for name in ("shared", *names)]
    arguments = ", ".join(given)
    call = f"console.log(JSON.stringify((({arguments}) => {{{code}}})"
    call += f"(...{json.dumps([*given.values()])})))"
    script, pipes = "\n".join([*files, call]), {"capture_output": True, "text": True}
    done = subprocess.run(
        [SCRIPTS / "node", "-"], input=script, encoding="utf-8", **pipes
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


# ------------------------------------------------------------------------- numbers


def test_random_numbers_are_uniform_and_normal_and_repeat():
    code = """const u = GenLab.uniform(7), n = GenLab.normal(u);
      const again = GenLab.uniform(7);
      return [[u(), u()], [again(), again()], Array.from({length: 9999}, n)];"""
    first, second, normal = compute(code)
    assert first == second
    assert np.mean(normal) == pytest.approx(0, abs=0.04)
    assert np.std(normal) == pytest.approx(1, abs=0.03)


@pytest.mark.parametrize("name", ["blobs", "rings", "moons", "no groups"])
@pytest.mark.parametrize("start", ["random points", "k-means++", "one corner"])
def test_kmeans_is_that_of_the_chapter_half_step_by_half_step(name, start):
    code = """const u = GenLab.uniform(3), {SETS, STARTS, assign, update, cost} =
        GenLab.kmeans;
      const points = SETS[name](u, GenLab.normal(u));
      let centers = STARTS[start](points, 6, u);
      centers[5] = [9, 9];  // it will be empty
      const path = [];
      for (let i = 0; i < 8; i++) {
        const labels = assign(points, centers);
        path.push([centers, labels, cost(points, centers, labels)]);
        centers = update(points, centers, labels);
      }
      return [points, path];"""
    points, path = compute(code, "kmeans", name=name, start=start)
    x = torch.tensor(points, dtype=torch.float64)
    centers = torch.tensor(path[0][0], dtype=torch.float64)
    for theirs, labels, cost in path:
        assert torch.allclose(centers, torch.tensor(theirs).to(x), atol=1e-9)
        ours = torch.cdist(x, centers).argmin(dim=1)
        assert torch.equal(ours, CH["assign"](x, centers))
        assert ours.tolist() == labels
        assert cost == pytest.approx((x - centers[ours]).square().sum().item())
        centers = CH["update"](x, centers, ours)


def test_kmeans_plus_plus_prefers_far_points():
    code = """const {STARTS} = GenLab.kmeans, points = [[0, 0], [0.1, 0], [1, 0]];
      return Array.from({length: 3000}, (_, i) =>
        STARTS["k-means++"](points, 2, GenLab.uniform(i))[1][0]);"""
    second = np.array(compute(code, "kmeans"))
    # By hand: 1 follows 0 with 1 in 1.01, 0.1 with 0.81 in 0.82, and itself never.
    wanted = (1 / 1.01 + 0.81 / 0.82) / 3
    assert np.mean(second == 1) == pytest.approx(wanted, abs=0.03)


def plain(net: nn.Sequential) -> list[dict]:
    layers = [layer for layer in net if isinstance(layer, nn.Linear)]
    return [
        {
            "in": layer.in_features,
            "out": layer.out_features,
            "weights": layer.weight.flatten().tolist(),
            "biases": layer.bias.tolist(),
        }
        for layer in layers
    ]


def perceptron(*sizes):
    pairs = itertools.pairwise(sizes)
    layers = [part for a, b in pairs for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1]).double()


@pytest.mark.parametrize("size", [1, 2])
def test_both_steps_of_the_game_are_those_of_torch(size):
    torch.manual_seed(size)
    g, d = perceptron(3, 24, 24, size), perceptron(size, 24, 24, 1)
    given = {"g": plain(g), "d": plain(d)}
    real = torch.randn(10, 16, size).double()
    z = torch.randn(10, 2, 16, 3).double()
    adams = [torch.optim.Adam(net.parameters(), 0.01, (0.5, 0.999)) for net in (d, g)]
    losses = []
    for rows, (first, second) in zip(real, z, strict=True):
        for adam, which in zip(adams, ("d", "g"), strict=True):
            fake = d(g(first).detach() if which == "d" else g(second))
            loss = F.softplus(-fake).mean()
            if which == "d":
                loss = (F.softplus(-d(rows)).mean() + F.softplus(fake).mean()) / 2
            adam.zero_grad()
            loss.backward()
            adam.step()
            losses.append(loss.item())
    code = """const {player, stepD, stepG} = GenLab.game;
      const game = {g: player(g), d: player(d)};
      const losses = real.flatMap((rows, i) =>
        [stepD(game, rows, z[i][0], 0.01), stepG(game, z[i][1], 0.01)]);
      return [losses, game.g.net, game.d.net];"""
    more = {"real": real.tolist(), "z": z.tolist()}
    found, *nets = compute(code, "game", **given, **more)
    assert found == pytest.approx(losses, abs=1e-9)
    for theirs, ours in zip(nets, (plain(g), plain(d)), strict=True):
        for one, other in zip(theirs, ours, strict=True):
            assert one["weights"] == pytest.approx(other["weights"], abs=1e-7)
            assert one["biases"] == pytest.approx(other["biases"], abs=1e-7)


def test_densities_of_the_game_are_those_of_its_samples():
    code = """const {DATA} = GenLab.game, u = GenLab.uniform(1), n = GenLab.normal(u);
      return Object.values(DATA).filter(it => it.density).map(({sample, density}) =>
        [Array.from({length: 4000}, () => sample(u, n)[0]),
         Array.from({length: 81}, (_, i) => density(-2 + i / 20))]);"""
    for values, density in compute(code, "game"):
        grid = np.linspace(-2, 2, 81)
        assert np.trapezoid(density, grid) == pytest.approx(1, abs=0.01)
        found = np.trapezoid(density * grid, grid)
        assert np.mean(values) == pytest.approx(found, abs=0.06)


def test_the_code_map_decodes_like_torch_from_the_same_rounded_weights():
    text = (ROOT / "book/_static/data/02/code_map.js").read_text("utf-8")
    packed = json.loads(text[text.index("] = ") + 4 : text.rindex(";")])
    arrays = {
        name: torch.tensor(
            np.frombuffer(base64.b64decode(it["float16"]), "<f2").reshape(it["shape"])
        ).double()
        for name, it in packed.items()
        if "float16" in it
    }
    shares = [[0.1, 0.9], [0.5, 0.5], [0.731, 0.02], [1, 0]]
    code = """const {load, decode, quantile} = GenLab.codemap, net = load(packed);
      return [net.ranks.slice(0, 9), shares.map(([x, y]) =>
        [...decode(net, [quantile(net.sorted[0], x), quantile(net.sorted[1], y)])])];"""
    ranks, images = compute(code, "codemap", packed=packed, shares=shares)
    codes = arrays["codes"]
    z = [[codes[:, i].quantile(share[i]) for i in (0, 1)] for share in shares]
    z = torch.tensor(z).double()
    for name in ("first", "second", "last"):
        z = z.relu() if name != "first" else z
        z = F.linear(z, arrays[f"{name}_weight"], arrays[f"{name}_bias"])
    assert np.allclose(images, z.sigmoid(), atol=1e-4)
    order = codes.argsort(dim=0, stable=True).argsort(dim=0) / (len(codes) - 1)
    assert np.allclose(ranks, order[:9])


# --------------------------------------------------------------------------- hands


@pytest.fixture
def playground(open_page):
    return open_page("book/playground")


def widget(page, name):
    host = page.locator(f"[data-widget={name}]")
    host.scroll_into_view_if_needed()
    expect(host.locator("canvas").first).to_be_visible()
    return host


def test_kmeans_runs_to_its_end_and_its_address_brings_it_back(playground):
    host = widget(playground, "kmeans")
    host.get_by_label("Start").select_option("one corner")
    host.get_by_label("Clusters K").fill("4")
    host.get_by_label("Clusters K").press("Tab")
    host.get_by_role("button", name="Run").click()
    line = host.locator(".readout")
    expect(line).to_contain_text("this is the end", timeout=30_000)
    said = line.inner_text()
    playground.reload()
    again = widget(playground, "kmeans").locator(".readout")
    assert again.inner_text().split("cost")[1] == said.split("cost")[1]
    host.get_by_role("button", name="Reset").click()
    expect(again).to_contain_text("Start")


def test_points_are_placed_and_removed_by_pointer_and_keyboard(playground):
    host = widget(playground, "kmeans")
    host.get_by_role("combobox", name="Points").select_option("my own")
    line, plane = host.locator(".readout"), host.locator("canvas").first
    expect(line).to_contain_text("Place at least 5 points")
    for x in (40, 90, 140):
        plane.click(position={"x": x, "y": 60 + x})
    plane.focus()
    for key in ("Enter", "Shift+ArrowRight", "Enter", "Shift+ArrowUp", "Enter"):
        plane.press(key)
    expect(line).to_contain_text("6 points")
    plane.press("Delete")
    expect(line).to_contain_text("5 points")
    host.get_by_role("button", name="Half-step").press("Enter")
    expect(line).to_contain_text("Assigned: cost 0.0000")


def test_the_map_answers_to_pointer_and_arrow_keys(playground):
    host = widget(playground, "codemap")
    plane, line = host.locator("canvas").first, host.locator(".readout")
    expect(line).to_contain_text("Place 0.50 across, 0.50 up")
    plane.focus()
    plane.press("ArrowLeft")
    expect(line).to_contain_text("0.48 across")
    box = plane.bounding_box()
    plane.click(position={"x": box["width"] / 4, "y": box["height"] / 4})
    expect(line).to_contain_text("0.25 across, 0.75 up")
    assert "#codemap?x=0.250&y=0.750" in playground.url


def test_the_game_steps_runs_draws_and_says_when_it_breaks(playground):
    host = widget(playground, "game")
    line = host.locator(".readout")
    host.get_by_role("button", name="Step D").click()
    expect(line).to_contain_text("Step 1. loss of D 0.")
    assert "loss of G" not in line.inner_text()
    host.get_by_role("button", name="Step both").click()
    expect(line).to_contain_text("loss of G")
    host.get_by_role("combobox").select_option("eight islands")
    host.get_by_role("button", name="Run").click()
    expect(line).to_contain_text("of 8 islands")
    host.get_by_role("button", name="Pause").click()
    host.locator("canvas").first.click(position={"x": 50, "y": 50})
    assert host.get_by_role("combobox").input_value() == "my own"
    host.get_by_role("button", name="Step both").click()
    expect(line).to_contain_text("Step 1.")
    assert "points=" in playground.url
    playground.evaluate("GenLab.game.DATA['my own'].sample = () => [NaN, NaN]")
    host.get_by_role("button", name="Step both").click()
    expect(line).to_contain_text("no number any more")


def test_a_link_sets_up_an_experiment_and_stops_what_ran_before(playground):
    host = widget(playground, "kmeans")
    host.get_by_label("slow").check()
    host.get_by_role("button", name="Run").click()
    playground.get_by_role("link", name="Two rings, two centres").click()
    expect(host.get_by_role("combobox", name="Points")).to_have_value("rings")
    expect(host.get_by_label("Clusters K")).to_have_value("2")
    playground.wait_for_timeout(1200)  # longer than a slow step
    expect(host.locator(".readout")).to_contain_text("Start.")


def test_widgets_need_no_server(browser, site):
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda it: problems.append(str(it)))
    page.goto((site / "book" / "playground.html").as_uri())
    for name in ("kmeans", "codemap", "game"):
        expect(widget(page, name).locator(".readout")).not_to_be_empty()
    page.close()
    assert problems == []
