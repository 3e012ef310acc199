"""The definitions of chapter 4, lifted out of it: sizes, overlap, states, arcs."""

import contextlib
import functools
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
from game_checks import Case, count, rng, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from publish import chapters, stamps

CH = lift.definitions("04_dcgan")
NOISE, CHANNELS = 8, 4
CFG = SimpleNamespace(noise_size=NOISE, decay=0.5)
RUNGS = CH["RUNGS"]


def noise(n=6):
    return torch.randn(n, NOISE, generator=rng())


def images(n=20):
    return 2 * torch.rand(n, 1, 28, 28, generator=rng(5)) - 1


def new_game(seed=0, **choices):
    choices = CH["PLAIN"] | choices
    return CH["new_game"](CFG, torch.device("cpu"), seed, CHANNELS, **choices)


def play(game, epochs, checkpoint):
    return CH["play"](game, images(), epochs, 10, checkpoint)


def case(rung):
    rules = {name: RUNGS[rung][name] for name in ("rate", "betas", "target")}
    make = functools.partial(new_game, **RUNGS[rung])
    return Case(make, play, images(), decay=CFG.decay, **rules)


@pytest.mark.parametrize("rung", RUNGS)
@pytest.mark.parametrize("check", game_checks.OF_AVERAGED_GAMES)
def test_a_game(rung, check):
    check(case(rung))


# ------------------------------------------------------------------------- sizes


@given(game_checks.convolutions(nn.ConvTranspose2d), st.integers(1, 20))
def test_the_size_formula_is_that_of_torch(layer, n):
    step = (layer.kernel_size[0], layer.stride[0], layer.padding[0])
    game_checks.side_is_that_of_torch(CH["transposed_side"](n, *step), layer, n)


@pytest.mark.parametrize("norm", [False, True])
def test_the_generator_follows_the_plan(norm):
    g = CH["conv_generator"](NOISE, CHANNELS, norm)
    steps, _ = traced(g, noise())
    wide = 2 * CHANNELS
    assert steps == [(wide, 3), (wide, 7), (CHANNELS, 15), (1, 28)]
    assert count(g, nn.BatchNorm2d) == 3 * norm


@pytest.mark.parametrize("norm", [None, "batch", "spectral"])
def test_the_discriminator(norm):
    d = CH["conv_discriminator"](CHANNELS, 0.25, norm)
    steps, logits = traced(d, images(3))
    assert steps == [(CHANNELS, 14), (2 * CHANNELS, 7), (2 * CHANNELS, 4)]
    assert logits.shape == (3, 1)
    assert [m.p for m in d if isinstance(m, nn.Dropout)] == [0.25] * 3
    assert count(d, nn.BatchNorm2d) == 2 * (norm == "batch")
    spectral = sum(hasattr(layer, "parametrizations") for layer in d)
    assert spectral == 3 * (norm == "spectral")


def test_kernel_3_overlaps_unevenly_and_kernel_4_does_not():
    ones = torch.ones(1, 1, 7, 7)
    uneven = CH["with_ones"](nn.ConvTranspose2d(1, 1, 3, 2))(ones)[0, 0, 2:-2, 2:-2]
    assert sorted(uneven.unique().tolist()) == [1, 2, 4]
    even = CH["with_ones"](nn.ConvTranspose2d(1, 1, 4, 2))(ones)[0, 0, 2:-2, 2:-2]
    assert even.unique().tolist() == [4]


# -------------------------------------------------------------------- the ladder


def test_each_rung_adds_its_change_and_keeps_those_below():
    so_far = CH["PLAIN"]
    for name, change in CH["CHANGES"].items():
        so_far = so_far | change
        assert RUNGS[name] == so_far
    assert RUNGS["spectral norm in D instead"] == so_far | {"d_norm": "spectral"}


def test_the_start_of_the_weights():
    torch.manual_seed(0)
    game = new_game(std=0.02)
    big = [p for p in game.g.parameters() if p.ndim == 4 and p.numel() > 500]
    assert big
    for weight in big:
        assert weight.std().item() == pytest.approx(0.02, rel=0.15)


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


@settings(max_examples=30)
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


def test_the_time_of_a_step_leaves_out_the_first_ones_and_uses_the_context(monkeypatch):
    entered, steps, seconds = [], [], iter([9.0, 9.0, 9.0, 1.0, 5.0, 2.0])

    def clock(device):
        return contextlib.nullcontext(SimpleNamespace(seconds=next(seconds)))

    @contextlib.contextmanager
    def context():
        entered.append(True)
        yield

    monkeypatch.setattr(CH["runtime"], "Stopwatch", clock)
    game = SimpleNamespace(step=lambda real: steps.append(len(entered)))
    assert CH["step_time"](game, images(4), 3, context) == 2.0
    assert steps == [1, 2, 3, 4, 5, 6]


def test_the_repaired_network_is_measurably_better_than_the_plain_one():
    root = lift.NOTEBOOKS.parent
    book = chapters.read_notebook(chapters.notebook_path(root, "04_dcgan"))
    measured = {one["name"]: one for one in stamps.cards(book)[0]["measurements"]}
    plain, repaired = (
        measured[f"{name}: Fréchet distance"]
        for name in ("plain recipe", "+ rate 5e-4")
    )
    worst = repaired["value"] + repaired["spread"]
    assert 2 * worst < plain["value"] - plain["spread"]
