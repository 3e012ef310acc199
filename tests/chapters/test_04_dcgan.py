"""The definitions of chapter 4, lifted out of it: players, games, sizes, arcs."""

import functools
from types import SimpleNamespace

import game_checks
import lift
import numpy as np
import pytest
import torch
from game_checks import Case, count, rng, traced
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

CH = lift.definitions("04_dcgan")
NOISE = 8
CH["cfg"] = SimpleNamespace(noise_size=NOISE, batch_size=10)
CH["device"] = torch.device("cpu")
ROWS = CH["ROWS"]


def noise(n=6):
    return torch.randn(n, NOISE, generator=rng())


def images(n=20):
    return 2 * torch.rand(n, 1, 28, 28, generator=rng(5)) - 1


CH["x"] = images()


def new_game(seed=0, epochs=100, **choices):
    return CH["new_game"](seed, (2, 4), epochs, **choices)


def play(game, epochs, checkpoint):
    return CH["train_gan"](game, images(), epochs, 10, checkpoint)


def case(row):
    change = ROWS[row]
    rules = {name: change[name] for name in ("rate", "betas") if name in change}
    make = functools.partial(new_game, **change | {"penalty": 0.0})
    return Case(make, play, images(), **{"rate": 1e-3} | rules)


# Without normalisation images are too faint, before training, to have a range.
@pytest.mark.parametrize("row", sorted(ROWS.keys() - {"no norm in G"}))
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(row, check):
    check(case(row))


def test_a_killed_game_goes_on_with_its_penalty_and_its_falling_rate():
    make = functools.partial(new_game, epochs=4)
    game_checks.a_killed_training_ends_like_an_unbroken_one(
        Case(make, play, images(), rate=1e-3)
    )


def test_the_rate_is_whole_for_seven_tenths_and_then_falls_to_zero():
    game = new_game(epochs=50)  # 100 steps
    rates = []
    for _ in range(100):
        game.step(images(4))
        rates.append([opt.param_groups[0]["lr"] for opt in (game.g_opt, game.d_opt)])
    rates = np.array(rates)
    assert (rates[:, 0] == rates[:, 1]).all()
    assert rates[:71] == pytest.approx(1e-3)
    assert (np.diff(rates[70:, 0]) < 0).all()
    assert 0 < rates[-1, 0] < 5e-5
    assert np.shape(game.history["steps"]) == (10, 2)


# ------------------------------------------------------------------------- players


@pytest.mark.parametrize("how", CH["WAYS"])
@pytest.mark.parametrize("norm", [False, True])
def test_the_generator(how, norm):
    g = CH["make_generator"](NOISE, 3, how, norm)
    steps, made = traced(g, noise())
    assert made.shape == (6, 1, 28, 28)
    assert made.abs().max() <= 1
    assert (12, 7) not in steps  # the first one is linear
    assert (6, 14) in steps
    assert (3, 28) in steps
    assert count(g, nn.BatchNorm2d) == 3 * norm
    assert count(g, nn.ConvTranspose2d) == 2 * (how != "resize")


@pytest.mark.parametrize("hold", [None, "dropout", "batch", "spectral"])
def test_the_discriminator(hold):
    d = CH["make_discriminator"](4, hold)
    steps, logits = traced(d, images(3))
    assert steps == [(4, 14), (8, 7), (16, 4)]
    assert logits.shape == (3, 1)
    assert count(d, nn.Dropout) == 3 * (hold == "dropout")
    assert count(d, nn.BatchNorm2d) == 2 * (hold == "batch")
    spectral = sum(hasattr(layer, "parametrizations") for layer in d)
    assert spectral == 4 * (hold == "spectral")  # the last layer is one of them


def test_the_recipe_as_it_circulates():
    g, d = CH["source_players"]()
    steps, made = traced(g, noise())
    assert steps == [(256, 3), (128, 7), (64, 15), (1, 28)]
    steps, logits = traced(d, made)
    assert steps == [(128, 14), (256, 7), (256, 4), (1, 1)]
    assert logits.shape == (6, 1)
    enlarging = [layer for layer in g if isinstance(layer, nn.ConvTranspose2d)]
    assert all(layer.bias is None for layer in enlarging)


def test_each_row_of_the_ladder_changes_one_thing():
    for name, change in ROWS.items():
        held = {"penalty", "hold"}  # what holds D back is one thing
        changed = len(change.keys() - held) + bool(change.keys() & held)
        assert changed == (name != "ours")


# ------------------------------------------------------------- sizes and patterns


@given(game_checks.convolutions(nn.ConvTranspose2d), st.integers(1, 20))
def test_the_size_formula_is_that_of_torch(layer, n):
    step = (layer.kernel_size[0], layer.stride[0], layer.padding[0])
    added = layer.output_padding[0]
    game_checks.side_is_that_of_torch(CH["transposed_side"](n, *step, added), layer, n)


def test_patterns_in_a_constant_image():
    flat = {
        (how, start.__name__): CH["flat_through"](CH["layer_of"](how, start))
        for how in CH["WAYS"]
        for start in (nn.init.ones_, nn.init.normal_)
    }
    kinds = {key: len(image.unique()) for key, image in flat.items()}
    assert kinds["kernel 3", "ones_"] == 3  # one, two or four inputs
    assert kinds["kernel 4", "ones_"] == kinds["resize", "ones_"] == 1
    assert kinds["kernel 4", "normal_"] > 1
    assert kinds["resize", "normal_"] == 1
    for image in flat.values():  # it repeats every two pixels
        assert torch.allclose(image[:, :-2, :-2], image[:, 2:, 2:], atol=1e-4)


def test_the_signal_fades_without_normalisation_and_not_with_it():
    z = torch.randn(64, NOISE, generator=rng())
    normed, plain = (
        CH["signal_sizes"](CH["make_generator"](NOISE, 8, norm=norm), z)
        for norm in (True, False)
    )
    assert len(plain) == len(normed) == 4
    assert plain[2] < 0.3 < normed[2]


def test_paired():
    gain, half = CH["paired"]([3.0, 4.0, 5.0], [1.0, 1.0, 3.0])
    assert gain == pytest.approx(7 / 3)
    assert half == pytest.approx(4.303 * 0.57735 / 3**0.5, rel=1e-3)


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
