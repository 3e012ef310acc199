"""The definitions of chapter 6, lifted out of it: sides, costs, games, augmentation."""

import ast
import itertools
from functools import partial
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
import torch.nn.functional as F
from game_checks import Case, Clock, Kept, count, rng, traced
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genlab_helpers import cartoons

STEM = "06_gan_faces"
CPU = torch.device("cpu")
NOISE, CHANNELS, SIDE, BATCH = 6, 4, 16, 4
CFG = SimpleNamespace(
    noise_size=NOISE, channels=CHANNELS, side=SIDE, decay=0.5, rate=1e-3, n_pairs=1000
)
TREE = ast.parse(lift.source(STEM))


def definitions():
    """As lift.definitions, but heads of functions name the settings and the images."""
    imports = (ast.Import, ast.ImportFrom)
    body = [n for n in TREE.body if isinstance(n, imports) or lift.name_of(n)]
    space = {"__name__": STEM, "cfg": CFG, "images": None}
    exec(compile(ast.Module(body, []), f"{STEM}.py", "exec"), space)
    return space


CH = definitions()
batch, shift, hide, augment = (CH[n] for n in ("batch", "shift", "hide", "augment"))
group, bce, kept_bytes, cost = (CH[n] for n in ("group", "bce", "kept_bytes", "cost"))
NORMS = {"batch": nn.BatchNorm2d, "group": group, "none": nn.Identity}
every_norm = pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)


def computed(name, **known):
    """Return what the chapter's own line `name = ...` makes of the known values."""
    (value,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return eval(compile(ast.Expression(value), STEM, "eval"), CH | known)


def pictures(n=10, side=SIDE, seed=5):
    """Random bytes (n, 3, side, side)."""
    size = (n, 3, side, side)
    return torch.randint(256, size, generator=rng(seed)).to(torch.uint8)


def faces(n=8, side=32):
    """Drawn faces (n, 3, side, side) in [-1, 1]."""
    return cartoons.draw_faces(n, side=side).images / 127.5 - 1


def new_game(seed=0, **options):
    return CH["new_game"](CFG, CPU, seed, **options)


@pytest.fixture
def clock(monkeypatch):
    """Let a step of `epoch` last three seconds, and its end one more."""
    monkeypatch.setattr(CH["runtime"], "Stopwatch", Clock)


# ------------------------------------------------------------------------- the square


def places(height, width):
    """An image (H, W, 3) whose pixels hold their row, their column and 7."""
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack((rows, columns, torch.full_like(rows, 7)), dim=-1)


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_middle_is_cut_out(side, more_rows, more_columns):
    image = places(side + more_rows, side + more_columns)
    cut = CH["crop_centre"](image, side)
    assert cut.shape == (side, side, 3)
    top, left, colour = cut[0, 0].tolist()
    for before, more in ((top, more_rows), (left, more_columns)):
        after = more - before
        assert 0 <= after - before <= 1  # the odd one is left over at the end
    assert colour == 7
    assert torch.equal(cut, places(side, side) + torch.tensor([top, left, 0]))


@pytest.mark.parametrize("size", [(127, 200), (200, 127)])
def test_a_picture_smaller_than_the_cut_is_refused(size):
    with pytest.raises(ValueError, match="no square of 128: use a smaller side"):
        CH["crop_centre"](places(*size), 128)


# --------------------------------------------------------------------------- the sides


def test_the_sides_of_the_network_of_the_book():
    g, d = CH["original_generator"](NOISE, 2), CH["original_discriminator"](2)
    up, images = traced(g, torch.randn(2, NOISE, generator=rng()))
    assert up == [(2, 28), (2, 62), (3, 128)]
    assert images.abs().max() <= 1
    down, logits = traced(d, images)
    assert down == [(2, 61), (2, 27), (3, 10)]
    assert logits.shape == (2, 1)


@given(game_checks.convolutions(nn.Conv2d, nn.ConvTranspose2d), st.integers(1, 30))
def test_the_two_formulas_are_those_of_torch(layer, n):
    game_checks.side_is_that_of_torch(CH["side_after"](layer, n), layer, n)


@pytest.mark.parametrize("side", [-8, 0, 1, 4, 7, 12, 96, 100])
def test_another_side_is_refused(side):
    for make in (partial(CH["face_generator"], NOISE), CH["face_discriminator"]):
        with pytest.raises(ValueError, match=f"must be 8, 16, .* not {side}$"):
            make(2, side=side)


@every_norm
@pytest.mark.parametrize("kernel", [4, 8])
@pytest.mark.parametrize("doublings", range(1, 6))
def test_our_players_fit_each_other(doublings, norm, kernel):
    side, widths = 4 * 2**doublings, [16, 16, 8, 4, 2][-doublings:]
    g = CH["face_generator"](NOISE, 2, side, norm, kernel=kernel)
    d = CH["face_discriminator"](2, side, norm, kernel=kernel)
    up, images = traced(g, torch.randn(2, NOISE))
    steps = [(width, 4 * 2**i) for i, width in enumerate(widths)]
    assert up == [*steps, (3, side)]
    assert images.abs().max() <= 1
    down, logits = traced(d, images)
    assert down == [*steps[::-1], (1, 1)]  # side / 2, ..., 4, and the logit
    assert logits.shape == (2, 1)


# ---------------------------------------------------------------------------- the cost


def test_what_is_kept_for_the_backward_pass():
    x, net = (
        torch.ones(7, 3),
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)),
    )
    own = list(net.parameters())
    inputs_and_tanh = 4 * 7 * (3 + 5)  # the output of Tanh, once, though two need it
    assert kept_bytes(lambda: net(x), own) == inputs_and_tanh
    second_weight = 4 * 5  # the first is not needed: x has no gradient
    assert kept_bytes(lambda: net(x), []) == inputs_and_tanh + second_weight


def test_the_bill_of_a_small_pair():
    def make_g():
        return nn.Sequential(nn.Unflatten(1, (9, 1, 1)), nn.ConvTranspose2d(9, 3, 4))

    def make_d():
        return nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 1))

    parameters = (9 * 3 * 16 + 3) + (3 * 2 * 9 + 2) + (8 + 1)
    adds = 9 * 3 * 16 + (2 * 2) * (3 * 2 * 9) + 8
    kept = 9 + 3 * 16 + 2 * 4 + 1 + 1  # inputs of all layers, logit and target
    assert cost(make_g, make_d, noise_size=9) == (parameters, adds, 4 * kept)


def test_memory_grows_with_the_batch_only_in_what_is_kept():
    memory = CH["training_memory"]
    assert memory(1000, 50, 1) == 16_050
    assert memory(1000, 50, 64) == 16_000 + 3_200


def test_mixed_precision_keeps_less():
    kept = [CH["step_memory"](new_game(mixed=mixed)) for mixed in (True, False)]
    assert 0.4 * kept[1] < kept[0] < 0.8 * kept[1]


# ---------------------------------------------------------------------------- the data


def test_a_batch_holds_the_rows_or_their_mirror_images():
    images, rows = pictures(300), torch.randperm(300, generator=rng())
    before = images.clone()
    x = batch(images, rows, rng(), CPU, SIDE)
    assert torch.equal(images, before)
    assert x.dtype == torch.float32
    assert x.shape == (300, 3, SIDE, SIDE)
    assert x.is_contiguous(memory_format=torch.channels_last)
    plain = images[rows].float() / 127.5 - 1
    straight = (x == plain).flatten(1).all(dim=1)
    mirrored = (x == plain.flip(-1)).flatten(1).all(dim=1)
    assert (straight ^ mirrored).all()
    assert 110 < mirrored.sum() < 190  # 150 expected, the deviation is below 9


def test_a_batch_is_enlarged():
    images = pictures(5, side=8)
    small, x = (batch(images, torch.arange(5), rng(1), CPU, side) for side in (8, 32))
    assert torch.equal(x, F.interpolate(small, scale_factor=4, mode="bilinear"))


# ---------------------------------------------------------------------------- the game


def bits(n=8, seed=5):
    return batch(pictures(n, seed=seed), torch.arange(n), rng(), CPU, SIDE)


def play_for(game, seconds, kept, n=10):
    return CH["play_for"](game, pictures(n), seconds, BATCH, kept, CPU)


def case(mixed=False, **options):
    return Case(
        lambda seed=0: new_game(seed, mixed=mixed, **options),
        lambda game, epochs, kept: play_for(game, 7 * epochs, kept),  # by the clock
        bits(20),
        rate=CFG.rate,
        decay=CFG.decay,
        verdict=lambda game, batch: lambda x: game.d(game.change(x, game.rng)),
    )


@pytest.mark.parametrize("options", [{}, {"change": augment}], ids=["plain", "changed"])
@pytest.mark.parametrize("check", game_checks.OF_AVERAGED_GAMES)
def test_a_game(clock, options, check):
    check(case(**options))


@pytest.mark.parametrize("check", game_checks.OF_AVERAGED_GAMES[1:])
def test_a_game_in_mixed_precision(clock, check):
    check(case(mixed=True))


@pytest.mark.parametrize("mixed", [True, False])
def test_mixed_precision_is_inside_the_networks_only(mixed):
    game, inside = new_game(mixed=mixed), []
    for net in (game.g, game.d):
        net.register_forward_hook(lambda module, args, out: inside.append(out.dtype))
    losses = game.step(bits())
    assert set(inside) == {torch.bfloat16 if mixed else torch.float32}
    assert losses.shape == (2,)
    assert losses.dtype == game.verdict(bits()).dtype == torch.float32
    assert losses.isfinite().all()
    assert {part.dtype for part in game.g.parameters()} == {torch.float32}


def test_an_epoch_skips_the_last_small_batch_and_keeps_what_was(monkeypatch):
    game, sizes = new_game(), []
    step = game.step
    monkeypatch.setattr(game, "step", lambda x: sizes.append(len(x)) or step(x))
    for _ in range(3):
        CH["epoch"](game, pictures(10), BATCH, 1000, CPU)
    assert sizes == [4] * 6
    kinds = {kind for kind, values in game.history.items() if values}
    assert kinds == {"d_loss", "g_loss", "seconds", "images", "fetching", "samples"}
    assert {len(game.history[kind]) for kind in kinds} == {3}
    assert game.history["images"] == [8] * 3
    samples = game.history["samples"][-1]
    assert samples.shape == (16, 3, SIDE, SIDE)
    assert torch.equal(samples, CH["draw"](game.average.module, game.fixed[:16]))


def test_an_epoch_shows_every_picture_once():
    game, seen = new_game(mixed=False), []
    game.step = lambda x: seen.append(x) or torch.zeros(2)
    levels = torch.arange(0, 240, 20, dtype=torch.uint8).view(12, 1, 1, 1)
    CH["epoch"](game, levels.expand(12, 3, SIDE, SIDE), BATCH, 1000, CPU)
    shown = (torch.cat(seen)[:, 0, 0, 0] + 1) * 127.5
    assert sorted(shown.round().int().tolist()) == list(range(0, 240, 20))
    assert shown.round().int().tolist() != list(range(0, 240, 20))


def test_a_game_ends_with_its_time_and_goes_on_from_there(clock):
    kept = Kept()
    game = play_for(new_game(), 5, kept, n=20)
    assert game.history["images"] == [2 * BATCH]  # of five batches
    assert game.history["seconds"] == [7]
    assert game.history["fetching"] == [2]
    play_for(new_game(seed=9), 7, kept, n=20)  # nothing is left
    assert kept.state["history"]["images"] == [2 * BATCH]
    game = play_for(new_game(seed=9), 8, kept, n=20)  # a second: at least a step
    assert game.history["images"] == [2 * BATCH, BATCH]
    assert game.history["seconds"] == [7, 4]


# ------------------------------------------------------------------------ the variants


@pytest.mark.parametrize("name", CH["CHANGES"])
def test_each_change_is_what_it_says_and_plays(name):
    game = new_game(**CH["CHANGES"][name])
    assert game.step(bits()).isfinite().all()
    for net in (game.g, game.d):
        assert bool(count(net, nn.GELU)) == (name == "GELU")
        assert bool(count(net, nn.LeakyReLU)) == (name != "GELU")
    assert game.mixed == (name != "32-bit numbers")
    assert count(game.g, nn.BatchNorm2d) == 2
    assert count(game.d, nn.BatchNorm2d) == (name == "batch norm in D")
    assert count(game.d, nn.GroupNorm) == (name == "group norm in D")
    layers = [layer for layer in (*game.g, *game.d) if hasattr(layer, "kernel_size")]
    kernels = {layer.kernel_size for layer in layers}
    assert kernels == ({(4, 4), (8, 8)} if name == "kernels of 8" else {(4, 4)})
    plain = name in ("plain", "GELU", "kernels of 8", "32-bit numbers")
    assert sum(hasattr(m, "parametrizations") for m in game.d) == 3 * plain


def test_a_larger_game_has_a_level_more_in_both_players():
    game = new_game(side=2 * SIDE)
    assert game.side == 2 * SIDE
    play_for(game, 1e-9, Kept())
    assert game.history["samples"][0].shape == (16, 3, 2 * SIDE, 2 * SIDE)


# ------------------------------------------------------------------------ augmentation


CHANGES = {"shift": shift, "hide": hide, "augment": augment}
every_kind = pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)


@every_kind
def test_a_change_is_drawn_from_the_rng_and_keeps_the_shape(change):
    x = faces()
    before, state = x.clone(), torch.get_rng_state()
    once, again, other = (change(x, rng(seed)) for seed in (0, 0, 1))
    assert once.shape == x.shape
    assert once.dtype == x.dtype
    assert torch.equal(once, again)
    assert not torch.equal(once, other)
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)


@every_kind
def test_each_image_is_changed_in_its_own_way(change):
    x = faces(1).expand(6, -1, -1, -1)
    made = change(x, rng())
    assert len(made.flatten(1).unique(dim=0)) >= 5  # two may move alike by chance


@every_kind
def test_the_gradient_comes_back_through_a_change(change):
    x = faces().requires_grad_()
    made = change(x, rng())
    made.sum().backward()
    # A pixel counts as often as it is shown: once, or not at all.
    assert set(x.grad.unique().tolist()) == {0.0, 1.0}
    assert 0.3 < x.grad.mean() < 0.99


def test_mixed_precision_moves_whole_pixels_too():
    x = torch.randint(0, 9, (8, 3, 64, 64), generator=rng()).float()
    plain = shift(x, rng())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(shift(x, rng()), plain)
        assert torch.equal(shift(x.bfloat16(), rng()).float(), plain)


@pytest.mark.parametrize("side", [16, 64])
def test_a_shift_is_by_whole_pixels_up_to_an_eighth_and_grey_comes_in(side):
    image = places(side, side).permute(2, 0, 1).float() + 1  # 0 is no place
    steps = []
    for made in shift(image.expand(300, -1, -1, -1), rng()):
        inside = (made != 0).all(dim=0)
        ways = (made - image)[:2, inside]
        assert (ways == ways[:, :1]).all()  # all pixels go the same way
        assert inside.sum() == (side - ways[:, 0].abs()).prod()
        assert (made[:, ~inside] == 0).all()
        steps.append(ways[:, 0])
    low, high = torch.stack(steps).aminmax(dim=0)
    assert high.tolist() == [side // 8] * 2
    assert low.tolist() == [-side // 8] * 2


@given(st.integers(0, 10_000))
def test_the_hidden_part_is_a_square_of_half_the_side(seed):
    side = 32
    made = hide(torch.ones(1, 3, side, side), rng(seed))[0]
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])
    hidden = made[0] == 0
    assert (made[0][~hidden] == 1).all()
    spans = []
    for places_hidden in (hidden.any(dim=1), hidden.any(dim=0)):
        found = places_hidden.nonzero()[:, 0]
        length = int(found[-1] - found[0]) + 1
        at_the_border = found[0] == 0 or found[-1] == side - 1
        assert side // 4 <= length <= side // 2
        assert length >= side // 2 - 1 or at_the_border
        spans.append(length)
    assert hidden.sum() == spans[0] * spans[1]  # and nothing else


def test_light_is_added_before_grey_comes_in(monkeypatch):
    made = augment(torch.zeros(200, 3, 16, 16), rng())
    kinds = [set(image.unique().tolist()) for image in made]
    assert all(0.0 in kind and len(kind) == 2 for kind in kinds)  # grey and one light
    lights = torch.tensor([sum(kind) for kind in kinds])
    assert lights.abs().max() <= 0.5
    assert lights.min() < -0.4
    assert lights.max() > 0.4
    monkeypatch.setitem(CH, "hide", lambda x, rng: x)
    moved_only = augment(torch.zeros(200, 3, 16, 16), rng())
    assert (moved_only == 0).flatten(1).any(dim=1).sum() > 150  # at a border


# ------------------------------------------------------------ what normalisation shares


@pytest.mark.parametrize(
    ("norm", "parts", "agrees"),
    [
        (group, (16, 16), True),
        (group, (8, 24), False),
        (nn.BatchNorm2d, (16, 16), False),
    ],
)
def test_the_gradient_of_halves(norm, parts, agrees):
    torch.manual_seed(0)
    d, x = CH["face_discriminator"](8, SIDE, norm), bits(32)
    whole = CH["gradient"](d, x)
    mean = torch.stack([CH["gradient"](d, part) for part in x.split(parts)]).mean(dim=0)
    gap = ((mean - whole).norm() / whole.norm()).item()
    assert gap < 1e-5 if agrees else gap > 1e-3


def test_groups_are_of_8_channels():
    assert [group(n).num_groups for n in (4, 8, 32)] == [1, 1, 4]


def test_the_discriminator_of_the_book_cannot_see_the_brightness_of_one_image():
    torch.manual_seed(0)
    d, company = CH["original_discriminator"](4), faces(8, side=128)
    face = faces(1, side=128)
    prints = (face, 0.4 * face - 0.5)  # the second is darker and paler
    alone = [d(x).item() for x in prints]
    assert alone[0] == pytest.approx(alone[1], abs=1e-2)
    together = [d(torch.cat((x, company)))[0].item() for x in prints]
    assert abs(together[0] - together[1]) > 10 * abs(alone[0] - alone[1])


# ------------------------------------------------------------------------ the measures


def test_drawn_pictures_are_those_of_the_generator():
    torch.manual_seed(0)
    g = CH["face_generator"](NOISE, 2, 8)
    z = torch.randn(230, NOISE, generator=rng())
    made = CH["drawn_by"](g, z)
    assert made.shape == (230, 3, 8, 8)
    g.eval()
    with torch.no_grad():
        assert torch.allclose(2 * made - 1, g(z), atol=1e-5)


def test_a_score_compares_pictures_of_one_size(monkeypatch):
    def look(x):
        assert x.shape[1:] == (3, SIDE, SIDE)
        return x.flatten(1)[:, ::97]

    real = torch.rand(40, 3, SIDE, SIDE, generator=rng())
    monkeypatch.setitem(CH, "eye", SimpleNamespace(features=look))
    monkeypatch.setitem(CH, "reference", look(real))
    for x in (real, F.interpolate(real, scale_factor=2)):
        distance, features = CH["score"](x)
        assert distance == pytest.approx(0, abs=1e-6)
        assert torch.allclose(features, look(real))
    assert CH["score"](1 - real / 2)[0] > 0.1


def test_the_distances_of_all_pairs(monkeypatch):
    monkeypatch.setattr(CFG, "n_pairs", 9)
    features = torch.randn(20, 5, generator=rng())
    pairs_of_rows = itertools.combinations(features[:9], 2)
    wanted = [(a - b).square().sum().sqrt().item() for a, b in pairs_of_rows]
    found = CH["pair_distances"](features)
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    pictures = features.reshape(20, 1, 5, 1)
    assert torch.equal(CH["pair_distances"](pictures), found)


def test_duplicates_are_the_pairs_closer_than_any_two_real_faces():
    real, drawn = torch.randn(2, 30, 5, generator=rng()).double()
    drawn += 100 * torch.arange(30)[:, None]  # all far from each other
    drawn[7], drawn[8], drawn[20] = drawn[3], drawn[3] + 1e-4, drawn[19]
    both = [CH["pair_distances"](features) for features in (real, drawn)]
    close, apart = (dict(among_real=both[0], among_drawn=x) for x in (both[1], both[0]))
    same = dict(coarse=both[1], coarse_real=both[0])
    other = dict(coarse=both[0], coarse_real=both[0])
    name = "(near, alike)"
    near, alike = computed(name, **close, **same)
    assert (near & alike).sum() == 4  # three among 3, 7 and 8, and one more
    near, alike = computed(name, **close, **other)
    assert near.sum() == 4
    assert not (near & alike).any()  # other pixels: no duplicate
    assert not computed(name, **apart, **same)[0].any()


def test_the_exported_walk_goes_from_face_to_face_in_small_steps():
    frames = game_checks.exported(STEM, "walk")["frames"]
    assert frames.shape == (32, 3, 64, 64)
    assert frames.min() >= 0
    assert frames.max() <= 1
    gaps = torch.cdist(frames.flatten(1), frames.flatten(1))
    usual = gaps.median(dim=1).values
    # The next frame of the last one is the first.
    near = torch.stack(
        [(gaps[i, i - 1] + gaps[i, (i + 1) % 32]) / 2 for i in range(32)]
    )
    assert (near < usual).all()
    assert near.mean() < 0.6 * usual.mean()
