"""The definitions of chapter 6, lifted out of it: sides, costs, games, augmentation."""

import ast
import base64
import copy
import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import lift
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torchvision.transforms.functional import center_crop

from genlab_helpers import drawn_faces, exports, pairs

STEM = "06_gan_faces"
ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")
NOISE, CHANNELS, SIDE, BATCH = 6, 4, 16, 4
CFG = SimpleNamespace(
    noise_size=NOISE,
    channels=CHANNELS,
    side=SIDE,
    decay=0.5,
    rate=1e-3,
    n_timed=1,
    n_pairs=1000,
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
every_side = pytest.mark.parametrize("side", [8, 16, 32, 64, 128])


def computed(name, **known):
    """Return what the chapter's own line `name = ...` makes of the known values."""
    (value,) = (
        node.value
        for node in TREE.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name
    )
    return eval(compile(ast.Expression(value), STEM, "eval"), CH | known)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n=10, side=SIDE, seed=5):
    """Random bytes (n, 3, side, side)."""
    size = (n, 3, side, side)
    return torch.randint(256, size, generator=rng(seed)).to(torch.uint8)


def faces(n=8, side=32):
    """Drawn faces (n, 3, side, side) in [-1, 1]."""
    return drawn_faces.draw_faces(n, side=side).images / 127.5 - 1


def weights(net):
    return torch.cat([part.detach().flatten() for part in net.parameters()])


def new_game(seed=0, **options):
    return CH["new_game"](CFG, CPU, seed, **options)


class Kept:
    """A checkpoint in memory."""

    state = None

    def load(self):
        return self.state

    def save(self, **state):
        self.state = copy.deepcopy(state)


class Clock:
    """A stopwatch on which a second passes whenever somebody looks."""

    def __init__(self, device):
        self.read = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    @property
    def seconds(self):
        self.read += 1
        return float(self.read)


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
    if more_rows % 2 == more_columns % 2 == 0:
        assert torch.equal(
            cut.permute(2, 0, 1), center_crop(image.permute(2, 0, 1), side)
        )


@pytest.mark.parametrize("size", [(127, 200), (200, 127)])
def test_a_picture_smaller_than_the_cut_is_refused(size):
    with pytest.raises(
        ValueError, match="no square of 128: use a smaller side, or enl"
    ):
        CH["crop_centre"](places(*size), 128)


# --------------------------------------------------------------------------- the sides


def sides_of(net, side, x):
    """The sides at each convolution of a network, by the formulas and by PyTorch."""
    found = []
    for layer in net:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            side = CH["side_after"](layer, side)
            found.append((side, x.shape[-1]))
    return found, x


def test_the_sides_of_the_network_of_the_book():
    g, d = CH["original_generator"](NOISE, 2), CH["original_discriminator"](2)
    up, images = sides_of(g, 11, torch.randn(2, NOISE, generator=rng()))
    assert up == [(28, 28), (62, 62), (128, 128)]
    assert images.shape == (2, 3, 128, 128)
    assert images.abs().max() <= 1
    down, logits = sides_of(d, 128, images)
    assert down == [(61, 61), (27, 27), (10, 10)]
    assert logits.shape == (2, 1)


@given(st.integers(1, 30), st.integers(1, 8), st.integers(1, 4), st.integers(0, 3))
def test_the_two_formulas_are_those_of_torch(side, k, s, p):
    with torch.device("meta"):
        x = torch.empty(1, 1, side, side)
        for kind in (nn.Conv2d, nn.ConvTranspose2d):
            layer = kind(1, 1, k, s, p)
            wanted = CH["side_after"](layer, side)
            if wanted > 0:
                assert layer(x).shape[-1] == wanted


@pytest.mark.parametrize(
    ("side", "widths"),
    [
        (8, [3]),
        (16, [6, 3]),
        (32, [12, 6, 3]),
        (64, [24, 12, 6, 3]),
        (128, [24, 24, 12, 6, 3]),
    ],
)
def test_the_widths_of_our_networks(side, widths):
    assert CH["face_widths"](side, 3) == widths


@pytest.mark.parametrize("side", [-8, 0, 1, 4, 7, 12, 96, 100])
def test_another_side_is_refused(side):
    for make in (CH["face_generator"], CH["face_discriminator"]):
        with pytest.raises(ValueError, match=f"must be 8, 16, .* not {side}$"):
            make(
                3, side=side, **dict(channels=2) if make is CH["face_generator"] else {}
            )


@every_side
@every_norm
@pytest.mark.parametrize("kernel", [4, 8])
def test_our_players_fit_each_other(side, norm, kernel):
    g = CH["face_generator"](NOISE, 2, side, norm, kernel=kernel)
    d = CH["face_discriminator"](2, side, norm, kernel=kernel)
    up, images = sides_of(g, 1, torch.randn(2, NOISE))
    wanted = [2**i for i in range(2, side.bit_length())]  # 4, 8, ..., side
    assert up == list(zip(wanted, wanted, strict=True))
    assert images.shape == (2, 3, side, side)
    assert images.abs().max() <= 1
    down, logits = sides_of(d, side, images)
    wanted = [*wanted[-2::-1], 1]  # side / 2, ..., 4, and the logit
    assert down == list(zip(wanted, wanted, strict=True))
    assert logits.shape == (2, 1)


# ---------------------------------------------------------------------------- the cost


def test_what_is_kept_for_the_backward_pass():
    net, x = (
        nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)),
        torch.ones(7, 3),
    )
    own = list(net.parameters())
    inputs_and_tanh = 4 * 7 * (3 + 5)  # the output of Tanh, once, though two need it
    assert kept_bytes(lambda: net(x), own) == inputs_and_tanh
    second_weight = 4 * 5  # the first is not needed: x has no gradient
    assert kept_bytes(lambda: net(x), []) == inputs_and_tanh + second_weight


def test_nothing_is_kept_without_gradients():
    net, x = nn.Linear(3, 5), torch.ones(7, 3)
    with torch.no_grad():
        assert kept_bytes(lambda: net(x), []) == 0


def conv_pair():
    return (
        lambda: nn.Sequential(nn.Unflatten(1, (9, 1, 1)), nn.ConvTranspose2d(9, 3, 4)),
        lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 1)),
    )


def linear_pair():
    return lambda: nn.Linear(9, 7), lambda: nn.Linear(7, 1)


@pytest.mark.parametrize(
    ("makers", "parameters", "adds", "kept"),
    [
        # Kept: the inputs of all layers, and logit and target of the loss.
        (linear_pair(), 9 * 7 + 7 + 7 + 1, 9 * 7 + 7, 9 + 7 + 1 + 1),
        (
            conv_pair(),
            (9 * 3 * 16 + 3) + (3 * 2 * 9 + 2) + (8 + 1),
            9 * 3 * 16 + (2 * 2) * (3 * 2 * 9) + 8,
            9 + 3 * 16 + 2 * 4 + 1 + 1,
        ),
    ],
    ids=["linear", "convolutions"],
)
def test_the_bill_of_two_small_pairs(makers, parameters, adds, kept):
    assert cost(*makers, noise_size=9) == (parameters, adds, 4 * kept)


@pytest.mark.parametrize("n", [2, 6])
def test_the_bill_does_not_depend_on_the_batch_or_the_device(n):
    makers = (
        lambda: CH["face_generator"](NOISE, 8, 32, nn.Identity),
        lambda: CH["face_discriminator"](8, 32, nn.Identity),
    )
    parameters, adds, kept = cost(*makers, NOISE)
    g, d = (make() for make in makers)
    own = [*g.parameters(), *d.parameters()]
    z = torch.randn(n, NOISE)
    assert kept_bytes(lambda: bce(d(g(z)), 1.0), own) == n * kept
    with CH["FlopCounterMode"](display=False) as counter:
        d(g(z))
    assert counter.get_total_flops() == 2 * n * adds
    assert parameters == sum(part.numel() for part in own)


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


def test_bytes_become_minus_one_to_one():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).view(3, 1, 1, 1)
    x = batch(images.expand(3, 3, 8, 8), torch.arange(3), rng(), CPU, 8)
    assert x[:, 0, 0, 0].tolist() == pytest.approx([-1, -0.6, 1])


def test_a_batch_is_enlarged():
    images = pictures(5, side=8)
    small = batch(images, torch.arange(5), rng(1), CPU, 8)
    x = batch(images, torch.arange(5), rng(1), CPU, 32)
    assert x.shape == (5, 3, 32, 32)
    assert x.abs().max() <= 1
    assert torch.allclose(
        F.avg_pool2d(x, 4)[..., 1:-1, 1:-1], smoothed(small), atol=1e-6
    )
    again = batch(images, torch.arange(5), rng(1), CPU, 32)
    assert torch.equal(x, again)


def smoothed(x):
    """What enlarging by 4, bilinear, and averaging 4 x 4 again makes of the inside."""
    row = torch.tensor([1.0, 6.0, 1.0]) / 8  # a neighbour counts 1/8, on average
    kernel = (row[:, None] * row).expand(3, 1, 3, 3)
    return F.conv2d(x, kernel, groups=3)


# ---------------------------------------------------------------------------- the game


def bits(n=8, seed=5):
    return batch(pictures(n, seed=seed), torch.arange(n), rng(), CPU, SIDE)


every_change = pytest.mark.parametrize("change", [lambda x, rng: x, augment])


@every_change
def test_a_step_of_d_leaves_the_generator_alone(change):
    game, real = new_game(change=change), bits()
    before, old_d = weights(game.g), weights(game.d)
    z = game.draw_noise(8, game.rng)
    loss = CH["discriminator_step"](game.g, game.verdict, game.d_opt, real, z)
    assert loss.isfinite()
    assert torch.equal(weights(game.g), before)
    assert all(p.grad is None for p in game.g.parameters())
    assert not torch.equal(weights(game.d), old_d)


@every_change
def test_a_step_of_g_leaves_the_discriminator_alone(change):
    game = new_game(change=change)
    before, old_g = weights(game.d), weights(game.g)
    CH["generator_step"](game.g, game.verdict, game.g_opt, game.fixed[:8])
    assert torch.equal(weights(game.d), before)
    assert all(p.grad.abs().sum() > 0 for p in game.g[-2:].parameters())
    assert not torch.equal(weights(game.g), old_g)


def test_real_and_drawn_images_are_changed_before_d_sees_them():
    given, made, seen = [], [], []

    def change(x, rng):
        given.append(x)
        made.append(augment(x, rng))
        return made[-1]

    game, real = new_game(change=change), bits()
    game.d.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    game.step(real)
    assert len(given) == 3  # real, drawn, and drawn again for the generator
    assert torch.equal(given[0], real)
    assert all((a != b).any() for a, b in zip(given, made, strict=True))
    assert all(a is b for a, b in zip(made, seen, strict=True))
    assert made[2].requires_grad


def test_the_average_moves_towards_the_weights():
    game, wanted = new_game(), None
    for seed in range(3):
        game.step(bits(seed=seed))
        now = weights(game.g)
        wanted = now if wanted is None else 0.5 * wanted + 0.5 * now
    assert torch.allclose(weights(game.average.module), wanted, atol=1e-6)
    running = [b for b in game.average.module.buffers() if b.is_floating_point()]
    assert running
    assert all(b.isfinite().all() for b in running)


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
    assert weights(game.g).dtype == weights(game.d).dtype == torch.float32


def test_a_state_gives_the_same_next_step():
    game, other = new_game(change=augment), new_game(seed=9, change=augment)
    game.step(bits())
    kept = Kept()
    kept.save(**game.state_dict())
    torch.manual_seed(123)
    other.load_state_dict(kept.load())
    losses = [player.step(bits(seed=6)) for player in (game, other)]
    assert torch.equal(*losses)
    for part in ("g", "d", "average"):
        states = [getattr(p, part).state_dict().values() for p in (game, other)]
        assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))


def play_for(game, seconds, kept, n=10):
    return CH["play_for"](game, pictures(n), seconds, BATCH, kept, CPU)


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
    for waited, seconds in zip(
        game.history["fetching"], game.history["seconds"], strict=True
    ):
        assert 0 < waited < seconds
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
    game = play_for(new_game(seed=9), 8, kept, n=20)
    assert game.history["images"] == [2 * BATCH, BATCH]
    assert game.history["seconds"] == [7, 4]


@pytest.mark.parametrize("options", [{}, dict(change=augment)])
def test_a_killed_training_ends_like_an_unbroken_one(clock, options):
    unbroken = play_for(new_game(**options), 21, Kept())  # three epochs of 7 seconds
    kept = Kept()
    play_for(new_game(**options), 7, kept)
    torch.manual_seed(123)
    resumed = play_for(new_game(seed=9, **options), 21, kept)
    for part in ("g", "d", "average"):
        pair = [weights(getattr(game, part)) for game in (unbroken, resumed)]
        assert torch.equal(*pair)
    assert unbroken.history["images"] == resumed.history["images"] == [8] * 3
    assert unbroken.history["d_loss"] == resumed.history["d_loss"]


def test_a_game_by_the_clock_plays_at_least_a_step():
    game = play_for(new_game(), 1e-9, Kept())
    assert game.history["images"] == [BATCH]
    assert game.history["seconds"][0] > 1e-9


# ------------------------------------------------------------------------ the variants


@pytest.mark.parametrize(
    ("d_norm", "norms", "spectral"),
    [
        ("spectral", [], 3),
        (None, [], 0),
        (group, [nn.GroupNorm], 0),
        (nn.BatchNorm2d, [nn.BatchNorm2d], 0),
    ],
)
def test_each_discriminator_has_the_layers_it_claims(d_norm, norms, spectral):
    game = new_game(d_norm=d_norm)
    kinds = (nn.BatchNorm2d, nn.GroupNorm)
    assert [type(m) for m in game.d.modules() if isinstance(m, kinds)] == norms
    assert sum(hasattr(m, "parametrizations") for m in game.d) == spectral
    assert [type(m) for m in game.g.modules() if isinstance(m, kinds)] == [
        nn.BatchNorm2d
    ] * 2


def test_spectral_normalisation_bounds_each_layer_of_the_plain_discriminator():
    game = new_game()
    for _ in range(30):
        game.verdict(bits())  # each forward pass improves the estimate
    for layer in game.d:
        if isinstance(layer, nn.Conv2d):
            largest = torch.linalg.matrix_norm(layer.weight.flatten(1), 2)
            assert largest.item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("name", CH["CHANGES"])
def test_each_change_is_what_it_says_and_plays(name):
    game = new_game(**CH["CHANGES"][name])
    assert game.step(bits()).isfinite().all()
    acts = [{type(m) for m in net.modules()} for net in (game.g, game.d)]
    for kinds in acts:
        assert (nn.GELU in kinds) == (name == "GELU")
        assert (nn.LeakyReLU in kinds) == (name != "GELU")
    assert game.mixed == (name != "32-bit numbers")
    assert (nn.BatchNorm2d in acts[1]) == (name == "batch norm in D")
    assert (nn.GroupNorm in acts[1]) == (name == "group norm in D")
    kernels = {
        m.kernel_size
        for net in (game.g, game.d)
        for m in net
        if hasattr(m, "kernel_size")
    }
    assert kernels == ({(4, 4), (8, 8)} if name == "kernels of 8" else {(4, 4)})
    plain = name in ("plain", "GELU", "kernels of 8", "32-bit numbers")
    assert any(hasattr(m, "parametrizations") for m in game.d) == plain


def test_a_seed_gives_the_same_start_and_another_seed_another():
    games = [new_game(seed) for seed in (0, 0, 1)]
    for part in ("g", "d"):
        same, again, other = (weights(getattr(game, part)) for game in games)
        assert torch.equal(same, again)
        assert not torch.equal(same, other)
    losses = [game.step(bits()) for game in games]
    assert torch.equal(losses[0], losses[1])
    assert torch.equal(games[0].fixed, games[2].fixed)  # all show the same draws


def test_a_larger_game_has_a_level_more_in_both_players():
    game = new_game(side=2 * SIDE)
    assert game.side == 2 * SIDE
    assert CH["draw"](game.g, game.fixed[:2]).shape == (2, 3, 2 * SIDE, 2 * SIDE)
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


def moved(x, monkeypatch, share):
    """Shift x by a share of the largest shift, -1 to 1, for both axes."""
    drawn = 0.5 + share / 2
    monkeypatch.setattr(torch, "rand", lambda *size, generator: torch.full(size, drawn))
    return shift(x, rng())


def test_a_shift_by_nothing_is_the_identity(monkeypatch):
    x = faces()
    assert torch.equal(moved(x, monkeypatch, 0), x)


def test_mixed_precision_moves_whole_pixels_too():
    x = torch.randint(0, 9, (8, 3, 64, 64), generator=rng()).float()
    plain = shift(x, rng())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(shift(x, rng()), plain)
        assert torch.equal(shift(x.bfloat16(), rng()).float(), plain)


@pytest.mark.parametrize("side", [16, 64])
def test_the_largest_shift_is_an_eighth_and_grey_comes_in(monkeypatch, side):
    x = torch.rand(2, 3, side, side, generator=rng()) + 1
    step = side // 8
    left = moved(x, monkeypatch, 1)
    assert torch.equal(left[..., :-step, :-step], x[..., step:, step:])
    assert (left[..., -step:, :] == 0).all()
    assert (left[..., -step:] == 0).all()
    right = moved(x, monkeypatch, -1)
    assert torch.equal(right[..., step:, step:], x[..., :-step, :-step])


@given(st.integers(0, 10_000))
def test_a_shift_is_a_move_by_whole_pixels_of_at_most_an_eighth(seed):
    image = places(32, 32).permute(2, 0, 1)[None].float() + 1  # 0 is no place
    made = shift(image, rng(seed))[0]
    inside = (made != 0).all(dim=0)
    assert inside.sum() >= 28 * 28
    steps = (made - image[0])[:2, inside]
    assert (steps == steps[:, :1]).all()  # all pixels go the same way
    assert steps.abs().max() <= 4


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


def prints():
    """A drawn face, and the same in a darker, paler print."""
    face = faces(1, side=128)
    return face, 0.4 * face - 0.5


def test_batch_normalisation_of_one_image_erases_brightness_and_contrast():
    norm = nn.BatchNorm2d(3)
    one, other = (norm(x) for x in prints())
    assert torch.allclose(one, other, atol=1e-2)
    company = faces(8, side=128)
    one, other = (norm(torch.cat((x, company)))[0] for x in prints())
    assert (one - other).abs().mean() > 0.3


def test_the_discriminator_of_the_book_cannot_see_the_brightness_of_one_image():
    torch.manual_seed(0)
    d, company = CH["original_discriminator"](4), faces(8, side=128)
    alone = [d(x).item() for x in prints()]
    assert alone[0] == pytest.approx(alone[1], abs=1e-2)
    together = [d(torch.cat((x, company)))[0].item() for x in prints()]
    assert abs(together[0] - together[1]) > 10 * abs(alone[0] - alone[1])


# ------------------------------------------------------------------------ the measures


def test_drawn_pictures_are_those_of_the_generator():
    torch.manual_seed(0)
    g = CH["face_generator"](NOISE, 2, 8)
    z = torch.randn(230, NOISE, generator=rng())
    made = CH["drawn_by"](g, z)
    assert made.shape == (230, 3, 8, 8)
    assert made.min() >= 0
    assert made.max() <= 1
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
    monkeypatch.setitem(CH, "cfg", SimpleNamespace(n_pairs=9))
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


# ------------------------------------------------------------------ what the page shows


def test_the_exported_walk_goes_from_face_to_face_in_small_steps():
    path = pairs.notebook_path(ROOT, STEM)
    if not path.is_file():
        pytest.fail(f"{path.name} does not exist: run the chapter first")
    listed = pairs.read_notebook(path).metadata.genlab.record["exports"]
    assert [entry["file"] for entry in listed] == ["walk.js"]
    assert list(exports.reasons(ROOT, STEM, listed)) == []
    text = (exports.folder(ROOT, STEM) / "walk.js").read_text("utf-8")
    packed = json.loads(text[text.index("= {", text.index("[")) + 2 : -2])["frames"]
    numbers = np.frombuffer(base64.b64decode(packed["float16"]), "<f2")
    frames = torch.from_numpy(numbers.astype(np.float32).reshape(packed["shape"]))
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
