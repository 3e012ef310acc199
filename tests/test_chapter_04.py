"""The definitions of chapter 4, lifted out of it: sizes, overlap, states, arcs."""

import contextlib
import copy
import itertools
import math
from pathlib import Path
from types import SimpleNamespace

import lift
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from genlab_helpers import pairs

CH = lift.definitions("04_dcgan")
ROOT = Path(__file__).parents[1]
NOISE, CHANNELS = 8, 4
RUNGS = CH["RUNGS"]


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def noise(n=6, seed=0):
    return torch.randn(n, NOISE, generator=rng(seed))


def images(n=20, seed=5):
    return 2 * torch.rand(n, 1, 28, 28, generator=rng(seed)) - 1


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.parameters()])


CFG = SimpleNamespace(noise_size=NOISE, decay=0.5)


def new_game(seed=0, **choices):
    return CH["new_game"](
        CFG, torch.device("cpu"), seed, CHANNELS, **CH["PLAIN"] | choices
    )


class Kept:
    """A checkpoint in memory."""

    state = None

    def load(self):
        return self.state

    def save(self, **state):
        self.state = copy.deepcopy(state)


# ------------------------------------------------------------------------- sizes


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 20), k=st.integers(1, 5), s=st.integers(1, 4), p=st.integers(0, 2)
)
def test_the_size_formula_is_that_of_torch(n, k, s, p):
    side = CH["transposed_side"](n, k, s, p)
    if side > 0:
        made = nn.ConvTranspose2d(1, 1, k, s, p)(torch.zeros(1, 1, n, n))
        assert made.shape[-1] == side


def test_the_plan_grows_one_cell_to_28():
    sides = list(
        itertools.accumulate(
            CH["STEPS"], lambda n, step: CH["transposed_side"](n, *step), initial=1
        )
    )
    assert sides == [1, 3, 7, 15, 28]


@pytest.mark.parametrize("norm", [False, True])
def test_the_generator_follows_the_plan(norm):
    g = CH["conv_generator"](NOISE, CHANNELS, norm)
    z, sides, channels = noise(), [], []
    for layer in g:
        z = layer(z)
        if isinstance(layer, nn.ConvTranspose2d):
            sides.append(z.shape[-1])
            channels.append(z.shape[1])
    assert sides == [3, 7, 15, 28]
    assert channels == [2 * CHANNELS, 2 * CHANNELS, CHANNELS, 1]
    assert z.min() >= -1
    assert z.max() <= 1
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in g) == 3 * norm


@pytest.mark.parametrize("norm", [None, "batch", "spectral"])
def test_the_discriminator(norm):
    d = CH["conv_discriminator"](CHANNELS, 0.25, norm)
    x, sides = images(3), []
    for layer in d:
        x = layer(x)
        if isinstance(layer, nn.Conv2d):
            sides.append(x.shape[-1])
    assert sides == [14, 7, 4]
    assert x.shape == (3, 1)
    assert [m.p for m in d if isinstance(m, nn.Dropout)] == [0.25] * 3
    assert sum(isinstance(m, nn.BatchNorm2d) for m in d) == 2 * (norm == "batch")
    spectral = sum(hasattr(m, "parametrizations") for m in d)
    assert spectral == 3 * (norm == "spectral")


def test_the_resize_generator_has_the_shape_of_the_other_one():
    g = CH["resize_generator"](NOISE, CHANNELS)
    assert CH["draw"](g, noise()).shape == (6, 1, 28, 28)


def test_kernel_3_overlaps_unevenly_and_kernel_4_does_not():
    ones = torch.ones(1, 1, 7, 7)
    uneven = CH["with_ones"](nn.ConvTranspose2d(1, 1, 3, 2))(ones)[0, 0, 2:-2, 2:-2]
    assert sorted(uneven.unique().tolist()) == [1, 2, 4]
    even = CH["with_ones"](nn.ConvTranspose2d(1, 1, 4, 2))(ones)[0, 0, 2:-2, 2:-2]
    assert even.unique().tolist() == [4]


# -------------------------------------------------------------------- the ladder


def test_each_rung_adds_its_change_and_keeps_those_below():
    changes = list(CH["CHANGES"].items())
    assert RUNGS["plain recipe"] == CH["PLAIN"]
    so_far = {}
    for name, change in changes:
        so_far |= change
        assert RUNGS[name] == so_far
    last = RUNGS[changes[-1][0]]
    instead = RUNGS["spectral norm in D instead"]
    assert {key for key in last if last[key] != instead[key]} == {"d_norm"}


@pytest.mark.parametrize("name", RUNGS)
def test_every_rung_plays_and_a_step_of_d_leaves_the_generator_alone(name):
    game = CH["new_game"](CFG, torch.device("cpu"), 0, CHANNELS, **RUNGS[name])
    before = weights(game.g)
    loss = CH["discriminator_step"](
        game.g, game.d, game.d_opt, images(), noise(20), game.loss
    )
    assert torch.equal(weights(game.g), before)
    assert all(p.grad is None for p in game.g.parameters())
    assert loss.isfinite()
    game.epoch(images(), 10)
    assert not torch.equal(weights(game.g), before)
    rates = {group["lr"] for group in game.g_opt.param_groups}
    assert rates == {RUNGS[name]["rate"]}
    assert game.d_opt.param_groups[0]["betas"] == RUNGS[name]["betas"]


def test_the_start_of_the_weights():
    torch.manual_seed(0)
    game = new_game(std=0.02)
    big = [p for p in game.g.parameters() if p.ndim == 4 and p.numel() > 500]
    assert big
    for weight in big:
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)


def test_only_the_target_of_real_images_is_smoothed():
    game = new_game(target=0.9)
    logits = torch.tensor([[0.3]])
    p = 1 / (1 + math.exp(-0.3))
    real = -0.9 * math.log(p) - 0.1 * math.log(1 - p)
    assert game.loss(logits, 1.0).item() == pytest.approx(real, abs=1e-6)
    assert game.loss(logits, 0.0).item() == pytest.approx(-math.log(1 - p), abs=1e-6)


# --------------------------------------------------------------- averaging, states


def test_the_average_follows_the_weights_as_said():
    game = new_game(g_norm=True)
    wanted = weights(game.g)
    for i, part in enumerate(images(30).split(10)):
        game.step(part)
        now = weights(game.g)
        wanted = now if i == 0 else 0.5 * wanted + 0.5 * now  # starts at the first
    assert torch.allclose(weights(game.average.module), wanted, atol=1e-6)
    running = [b for b in game.average.module.buffers() if b.is_floating_point()]
    assert running
    assert all(b.isfinite().all() for b in running)


def test_a_seed_gives_the_same_game_and_another_seed_another():
    ends = []
    for seed in (0, 0, 1):
        game = new_game(seed, g_norm=True)
        game.epoch(images(), 10)
        ends.append(weights(game.g))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


def test_a_killed_training_ends_like_an_unbroken_one():
    x = images()
    unbroken = CH["play"](new_game(), x, 3, 10, Kept())
    kept = Kept()
    CH["play"](new_game(), x, 1, 10, kept)
    torch.manual_seed(123)
    resumed = CH["play"](new_game(seed=9), x, 3, 10, kept)
    for part in ("g", "d", "average"):
        assert torch.equal(
            weights(getattr(unbroken, part)), weights(getattr(resumed, part))
        )
    drawn = [CH["draw"](game.average.module, noise()) for game in (unbroken, resumed)]
    assert torch.equal(*drawn)
    assert unbroken.history["d_loss"] == resumed.history["d_loss"]


# -------------------------------------------------------------------- measurements


def test_the_signal_fades_without_normalisation_and_not_with_it():
    z = torch.randn(64, NOISE, generator=rng())
    plain = CH["signal_sizes"](new_game().g, z)
    small = CH["signal_sizes"](new_game(std=0.02).g, z)
    normed = CH["signal_sizes"](new_game(g_norm=True).g, z)
    assert len(plain) == len(normed) == 4
    assert plain == sorted(plain, reverse=True)
    assert small[2] < plain[2] < 0.3 < normed[2]


def test_agreement_is_one_without_dropout_and_less_with_it():
    x = images(10)
    assert CH["agreement"](new_game(dropout=0.0), x) == pytest.approx(1, abs=1e-4)
    assert CH["agreement"](new_game(dropout=0.5), x) < 0.95


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), share=st.floats(0, 1))
def test_an_arc_starts_and_ends_where_it_should_and_keeps_the_length(seed, share):
    z0, z1 = torch.randn(2, 20, generator=rng(seed), dtype=torch.float64)
    z1 = z1 * z0.norm() / z1.norm()
    t = torch.tensor([0.0, share, 1.0], dtype=torch.float64)
    found = CH["arc"](z0, z1, t)
    assert torch.allclose(found[0], z0)
    assert torch.allclose(found[2], z1)
    assert found[1].norm().item() == pytest.approx(z0.norm().item(), rel=1e-5)


def test_the_spectrum_of_a_checkerboard_is_at_the_highest_frequency():
    x = torch.ones(2, 1, 28, 28)
    x[..., ::2] = -1
    power = CH["row_spectrum"](x)
    assert power.shape == (15,)
    assert power.argmax() == 14
    assert CH["row_spectrum"](torch.ones(2, 1, 28, 28)).argmax() == 0


def test_at_takes_the_last_epoch_that_was_finished():
    history = {"seconds": [10.0, 10.0, 10.0], "watched": [3.0, 2.0, 1.0]}
    played = SimpleNamespace(history=history)
    assert [CH["at"](played, t) for t in (5, 10, 29, 30, 99)] == [3, 3, 2, 1, 1]


def test_the_time_of_a_step_leaves_out_the_first_ones_and_uses_the_context():
    entered, seconds = [], iter([9.0, 9.0, 9.0, 1.0, 5.0, 2.0])

    class Clock:
        def __init__(self, device):
            self.seconds = next(seconds)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

    @contextlib.contextmanager
    def context():
        entered.append(True)
        yield

    steps = []
    game = SimpleNamespace(step=lambda real: steps.append(len(entered)))
    space = CH["step_time"].__globals__["runtime"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space, "Stopwatch", Clock)
        assert CH["step_time"](game, images(4), 3, context) == 2.0
    assert steps == [1, 2, 3, 4, 5, 6]


def test_the_repaired_network_is_measurably_better_than_the_plain_one():
    book = pairs.read_notebook(pairs.notebook_path(ROOT, "04_dcgan"))
    measured = {
        entry["name"]: entry for entry in book.metadata.genlab.record["measurements"]
    }
    plain, repaired = (
        measured[f"{name}: Fréchet distance"]
        for name in ("plain recipe", "+ rate 5e-4")
    )
    worst, best = (
        repaired["value"] + repaired["spread"],
        plain["value"] - plain["spread"],
    )
    assert 2 * worst < best
