"""The definitions of chapter 6, lifted out of it: images, games, costs, measures."""

import base64
import hashlib
import itertools
import json
from functools import partial
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
from game_checks import Case, count, rng, traced
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from genlab_helpers import cartoons, runtime

STEM = "06_gan_faces"
COUNTED = "6be7fdcd24211916a5f3afa3663fa6cd75a0f0e958e9b629547729455f05b9f7"
NOISE, CHANNELS, SIDE, BATCH = 6, 4, 16, 4
CH = lift.definitions(STEM)
CH["cfg"] = SimpleNamespace(
    noise_size=NOISE, channels=CHANNELS, side=SIDE, rate=1e-3, n_pairs=1000
)
CH["device"] = torch.device("cpu")
shift, hide, augment, group = (CH[n] for n in ("shift", "hide", "augment", "group"))
kept_bytes, cost, gaps_of_pairs = (
    CH[n] for n in ("kept_bytes", "cost", "gaps_of_pairs")
)
NORMS = {"batch": nn.BatchNorm2d, "group": group, "none": nn.Identity}


def pictures(n=10, side=SIDE, seed=5):
    """Random bytes (n, 3, side, side)."""
    size = (n, 3, side, side)
    return torch.randint(256, size, generator=rng(seed)).to(torch.uint8)


def faces(n=8, side=32):
    """Cartoon faces (n, 3, side, side) in [-1, 1]."""
    return cartoons.draw_faces(n, side=side).images / 127.5 - 1


def loader():
    data = CH["Portraits"](pictures(10, SIDE + 4), SIDE)
    return torch.utils.data.DataLoader(data, BATCH, shuffle=True, drop_last=True)


CHANGES = {
    name: {k: v for k, v in change.items() if k != "batch_size"}
    for name, change in CH["CHANGES"].items()
}


def new_game(seed=0, n_steps=1000, **options):
    return CH["new_game"](seed, n_steps, **options)


# ------------------------------------------------------------------------- the images


def places(height, width):
    """An image (3, H, W) whose pixels hold their row, their column and 7."""
    rows, columns = torch.meshgrid(
        torch.arange(height), torch.arange(width), indexing="ij"
    )
    return torch.stack((rows, columns, torch.full_like(rows, 7)))


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9))
def test_the_middle_is_cut_out(side, more_rows, more_columns):
    image = places(side + more_rows, side + more_columns)
    cut = CH["crop_centre"](image, side)
    assert cut.shape == (3, side, side)
    top, left, colour = cut[:, 0, 0].tolist()
    for before, more in ((top, more_rows), (left, more_columns)):
        after = more - before
        assert 0 <= after - before <= 1  # the odd one is left over at the end
    assert colour == 7
    moved = torch.tensor([top, left, 0]).view(3, 1, 1)
    assert torch.equal(cut, places(side, side) + moved)
    assert torch.equal(CH["crop_centre"](image[None], side)[0], cut)


@pytest.mark.parametrize("size", [(127, 200), (200, 127)])
def test_a_picture_smaller_than_the_cut_is_refused(size):
    with pytest.raises(ValueError, match="no square of 128: use a smaller side"):
        CH["crop_centre"](places(*size), 128)


def test_a_portrait_is_the_middle_or_its_mirror_image():
    images = pictures(300, SIDE + 4)
    before, data = images.clone(), CH["Portraits"](images, SIDE)
    torch.manual_seed(0)
    x = torch.stack([data[i] for i in range(len(data))])
    assert torch.equal(images, before)
    plain = images[:, :, 2:-2, 2:-2].float() / 127.5 - 1
    straight = (x == plain).flatten(1).all(dim=1)
    mirrored = (x == plain.flip(-1)).flatten(1).all(dim=1)
    assert (straight ^ mirrored).all()
    assert 110 < mirrored.sum() < 190  # 150 expected, the deviation is below 9


# ------------------------------------------------------------------------- the players


@pytest.mark.parametrize("side", [-8, 0, 1, 4, 7, 12, 96, 100])
def test_another_side_is_refused(side):
    for make in (partial(CH["face_generator"], NOISE), CH["face_discriminator"]):
        with pytest.raises(ValueError, match=f"must be 8, 16, .* not {side}$"):
            make(2, side=side)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("doublings", range(1, 6))
def test_our_players_fit_each_other(doublings, norm):
    side, widths = 4 * 2**doublings, [16, 16, 8, 4, 2][-doublings:]
    g = CH["face_generator"](NOISE, 2, side, norm)
    d = CH["face_discriminator"](2, side, norm)
    up, images = traced(g, torch.randn(2, NOISE))
    steps = [(width, 4 * 2**i) for i, width in enumerate(widths)]
    assert up == [*steps, (3, side)]
    assert images.abs().max() <= 1
    down, logits = traced(d, images)
    assert down == [*steps[::-1], (1, 1)]  # side / 2, ..., 4, and the logit
    assert logits.shape == (2, 1)


def test_the_condition_enters_the_discriminator_in_both_ways():
    torch.manual_seed(0)
    d = CH["ConditionDiscriminator"](CHANNELS, SIDE).eval()
    x, conditions = torch.randn(6, 3, SIDE, SIDE), torch.eye(10)[:6]
    assert d(x, conditions).shape == (6, 1)
    for part in (d.bias, d.row):
        other = d(x, conditions.roll(1, dims=1))
        assert not torch.allclose(d(x, conditions), other)
        part.weight.data.zero_()
    assert torch.equal(d(x, conditions), d(x, conditions.roll(1, dims=1)))


def test_a_multi_hot_row_has_a_one_for_each_attribute():
    attributes = cartoons.draw_faces(20, side=32).attributes
    rows = CH["multi_hot"](attributes)
    assert rows.shape == (20, 10)
    assert rows.sum(dim=1).tolist() == [3] * 20
    assert rows[:, :5].argmax(dim=1).tolist() == attributes["hair"].tolist()
    assert rows[:, 5:8].argmax(dim=1).tolist() == attributes["mouth"].tolist()
    assert rows[:, 9].bool().tolist() == attributes["glasses"].tolist()
    assert len(CH["HAIR"]) == CH["KINDS"]["hair"]


# ---------------------------------------------------------------------------- the game


def case(**options):
    return Case(
        lambda seed=0: new_game(seed, **options),
        lambda game, epochs, kept: CH["train"](game, loader(), epochs, kept),
        pictures(20).float() / 127.5 - 1,
        rate=1e-3,
    )


@pytest.fixture
def in_full(monkeypatch):
    """Compute in 32 bits on every processor."""
    monkeypatch.setattr(runtime, "fast_bfloat16", lambda device: False)


@pytest.mark.parametrize("name", CHANGES)
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(in_full, name, check):
    check(case(**CHANGES[name]))


def test_the_generator_is_judged_by_the_new_discriminator(monkeypatch):
    """Not by 16-bit copies of its weights, kept by an `autocast` that never ended."""
    monkeypatch.setattr(runtime, "fast_bfloat16", lambda device: True)
    game, seen = new_game(hold=nn.Sequential), []
    game.rate, x = 1.0, pictures(8).float() / 127.5 - 1

    def judge(module, images, logits):
        seen.append((images[0].detach(), logits.detach(), weights_of(module)))

    def weights_of(module):
        return [part.detach().clone() for part in module.parameters()]

    game.d.register_forward_hook(judge)
    game.step(x)
    images, logits, weights = seen[2]  # the third call: G's own step
    moved = zip(seen[0][2], weights, strict=True)
    assert any(not torch.equal(old, new) for old, new in moved)
    fresh = new_game(hold=nn.Sequential).d
    for part, value in zip(fresh.parameters(), weights, strict=True):
        part.data.copy_(value)
    with torch.autocast("cpu", torch.bfloat16):
        wanted = fresh(images)
    assert torch.equal(logits, wanted)
    assert logits.dtype == torch.bfloat16
    assert {part.dtype for part in game.g.parameters()} == {torch.float32}


def test_an_epoch_shows_every_picture_once_and_keeps_what_was():
    game, seen = new_game(), []
    game.step = lambda x: seen.append(x) or torch.zeros(2)
    levels = torch.arange(0, 240, 20, dtype=torch.uint8).view(12, 1, 1, 1)
    data = CH["Portraits"](levels.expand(12, 3, SIDE, SIDE), SIDE)
    batches = torch.utils.data.DataLoader(data, BATCH, shuffle=True)
    CH["train"](game, batches, 1, game_checks.Kept())
    shown = (torch.cat(seen)[:, 0, 0, 0] + 1) * 127.5
    assert sorted(shown.round().int().tolist()) == list(range(0, 240, 20))
    assert shown.round().int().tolist() != list(range(0, 240, 20))
    assert game.history["samples"][0].shape == (8, 3, SIDE, SIDE)


@pytest.mark.parametrize("name", CHANGES)
def test_each_change_is_what_it_says(name):
    game = new_game(**CHANGES[name])
    for net in (game.g, game.d):
        assert bool(count(net, nn.GELU)) == ("GELU" in name)
        assert bool(count(net, nn.LeakyReLU)) == ("GELU" not in name)
    assert count(game.g, nn.BatchNorm2d) == 2
    held = sum(hasattr(layer, "parametrizations") for layer in game.d)
    assert held == (0 if "holds D" in name else 3)


# ---------------------------------------------------------------------------- the cost


def test_the_sides_of_the_network_of_the_book():
    g, d = CH["book_generator"](NOISE, 2), CH["book_discriminator"](2)
    up, images = traced(g, torch.randn(2, NOISE, generator=rng()))
    assert up == [(2, 28), (2, 62), (3, 128)]
    assert images.abs().max() <= 1
    down, logits = traced(d, images)
    assert down == [(2, 61), (2, 27), (3, 10)]
    assert logits.shape == (2, 1)


@given(game_checks.convolutions(nn.Conv2d, nn.ConvTranspose2d), st.integers(1, 30))
def test_the_two_formulas_are_those_of_torch(layer, n):
    game_checks.side_is_that_of_torch(CH["side_after"](layer, n), layer, n)


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
    def players():
        g = nn.Sequential(nn.Unflatten(1, (9, 1, 1)), nn.ConvTranspose2d(9, 3, 4))
        return g, nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 1))

    parameters = (9 * 3 * 16 + 3) + (3 * 2 * 9 + 2) + (8 + 1)
    adds = 9 * 3 * 16 + (2 * 2) * (3 * 2 * 9) + 8
    kept = 9 + 3 * 16 + 2 * 4 + 1 + 1  # inputs of all layers, logit and target
    assert cost(players, noise_size=9) == (parameters, adds, 4 * kept)


def test_the_fully_connected_pair_is_that_of_the_book():
    with torch.device("meta"):
        pair = CH["dense_players"]()
    sizes = [
        (m.in_features, m.out_features)
        for n in pair
        for m in n
        if hasattr(m, "bias") and hasattr(m, "in_features")
    ]
    assert sizes == [(100, 300), (300, 116_412), (116_412, 100), (100, 1)]


# ------------------------------------------------------------------------ augmentation


KINDS = {"shift": shift, "hide": hide, "augment": augment}
every_kind = pytest.mark.parametrize("change", KINDS.values(), ids=KINDS)


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
    image = places(side, side).float() + 1  # 0 is no place
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
    d = CH["face_discriminator"](8, SIDE, norm)
    x = pictures(32).float() / 127.5 - 1
    whole = CH["gradient"](d, x)
    mean = torch.stack([CH["gradient"](d, part) for part in x.split(parts)]).mean(dim=0)
    gap = ((mean - whole).norm() / whole.norm()).item()
    assert gap < 1e-5 if agrees else gap > 1e-3


def test_groups_are_of_8_channels():
    assert [group(n).num_groups for n in (4, 8, 32)] == [1, 1, 4]


# ------------------------------------------------------------------------ the measures


def test_the_gaps_of_all_pairs(monkeypatch):
    monkeypatch.setattr(CH["cfg"], "n_pairs", 9)
    features = torch.randn(20, 5, generator=rng())
    pairs_of_rows = itertools.combinations(features[:9], 2)
    wanted = [(a - b).square().sum().sqrt().item() for a, b in pairs_of_rows]
    found = gaps_of_pairs(features)
    assert found.tolist() == pytest.approx(wanted, abs=1e-5)
    assert torch.equal(gaps_of_pairs(features.reshape(20, 1, 5, 1)), found)


def test_traits_say_what_their_names_say():
    grey = torch.full((1, 3, 16, 16), 0.5)
    plain = CH["traits"](grey)
    assert plain["brightness of the face"].item() == pytest.approx(0.5)
    assert plain["light from one side"].item() == plain["warmth"].item() == 0

    def moved(rows, columns, channels=slice(None)):
        image = grey.clone()
        image[:, channels, rows, columns] += 0.2
        now = CH["traits"](image)
        return {k for k in now if not torch.allclose(now[k], plain[k], atol=1e-4)}

    middle = slice(4, 12)
    assert moved(middle, middle) == {"brightness of the face"}
    assert moved(slice(0, 2), slice(None)) == {"brightness of the background"}
    assert moved(middle, slice(4, 8)) == {
        "brightness of the face",
        "light from one side",
    }
    assert moved(middle, middle, 0) == {"brightness of the face", "warmth"}


@given(st.integers(1, 30))
def test_what_is_rare_lies_outside_of_the_limits(n):
    values = torch.arange(100.0)
    share, half = CH["rare"](values, (n - 0.5, 99.5 - n))
    assert share == pytest.approx(2 * n / 100)
    assert 0 < half < 0.1


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


def test_the_faces_that_were_counted_are_those_on_the_page():
    """The counts in the chapter are people's, of this very picture."""
    notebook = json.loads((lift.NOTEBOOKS / f"{STEM}.ipynb").read_text("utf-8"))
    (cell,) = (
        cell
        for cell in notebook["cells"]
        if "result-picture" in cell["metadata"].get("tags", [])
    )
    data = "".join(cell["outputs"][0]["data"]["image/jpeg"])
    assert hashlib.sha256(base64.b64decode(data)).hexdigest() == COUNTED
