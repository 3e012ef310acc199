"""The definitions of chapter 3, lifted out of it: steps, games, states, measures."""

import math
from functools import partial
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
from game_checks import Case, rng, weights, widths
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from genlab_helpers import metrics
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

CH = lift.definitions("03_gan")
CH["cfg"] = SimpleNamespace(noise_size=8)
CH["device"] = torch.device("cpu")
SMOKE = Settings(profile="smoke")


def game(seed=0, **options):
    return CH["new_game"](seed, **options)


def play(played, epochs, checkpoint, x=None):
    def watch(played, epoch):
        return weights(played.average).sum().item()

    x = images() if x is None else x
    return CH["train_gan"](played, x, epochs, 16, checkpoint, watch)


def images(n=40):
    return torch.rand(n, 1, 28, 28, generator=rng(5))


def noise(n=20):
    return torch.randn(n, 8, generator=rng())


NAIVE = {**CH["NAIVE"], "decay": 0.9}
BEST = {**CH["BEST"], "decay": 0.9, "penalty": 0.0}  # what a step is made of
CASES = {
    "naive": Case(
        partial(game, **NAIVE),
        play,
        images(),
        rate=2e-4,
        betas=(0.9, 0.999),
        low=0.0,
        decay=0.9,
    ),
    "best": Case(partial(game, **BEST), play, images(), rate=1e-3, low=0.0, decay=0.9),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(case, check):
    check(case)


def test_a_killed_game_with_a_penalty_ends_like_an_unbroken_one():
    make = partial(game, **BEST | {"penalty": 0.4})
    case = Case(make, play, images(200), rate=1e-3, low=0.0)
    game_checks.a_killed_training_ends_like_an_unbroken_one(case)


def test_the_average_covers_the_last_tenth_of_the_steps_at_most_a_thousand():
    average = torch.tensor(0.0, dtype=torch.float64)
    path = torch.arange(1, 30_001, dtype=torch.float64)
    for step, now in enumerate(path[:2_000], 1):
        average = CH["recent"](average, now, torch.tensor(step), 0.999)
    assert 2_000 - average.item() == pytest.approx(2_000 / 11, rel=0.05)
    for step, now in enumerate(path[2_000:], 2_001):
        average = CH["recent"](average, now, torch.tensor(step), 0.999)
    assert 30_000 - average.item() == pytest.approx(1_000, rel=0.05)
    alone = CH["recent"](average, path[7], torch.tensor(5), 0.0)  # no average at all
    assert alone.item() == path[7]


def test_nan_in_images_or_losses_stops_the_game_and_says_what_to_suspect():
    x = images()
    x[3, 0, 2, 2] = math.nan
    record = RunRecord("03_gan", SMOKE, torch.device("cpu"))
    with pytest.raises(ValueError, match=r"epoch 1.*learning rate"):
        play(game(**BEST), 3, Checkpoint("broken", record), x)


# ------------------------------------------------------------------- the two steps


class Says(nn.Module):
    """A discriminator that says the same to everything."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x):
        return self.logit.expand(len(x), 1)


def test_the_value_at_equilibrium_and_an_extra_that_is_paid_but_not_reported():
    g, d = game().g, Says(0.0)
    step = partial(CH["discriminator_step"], g, d)
    still = torch.optim.SGD(d.parameters(), lr=0.1)
    assert step(still, images(7), noise(7)).item() == pytest.approx(math.log(2))
    assert d.logit.item() == pytest.approx(0.0, abs=1e-7)  # both terms pull alike
    found = CH["generator_step"](g, d, still, noise(7))
    assert found.item() == pytest.approx(math.log(2))
    d.logit.data.fill_(0.0)
    found = step(still, images(7), noise(7), extra=3 * d.logit)
    assert found.item() == pytest.approx(math.log(2))
    assert d.logit.item() == pytest.approx(-0.3, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(logit=st.floats(-30, 30), target=st.sampled_from([0.0, 1.0]))
def test_bce_is_its_formula(logit, target):
    a = torch.full((3, 1), logit, dtype=torch.float64)
    p = 1 / (1 + math.exp(-logit))
    wanted = -math.log(p) if target else logit + math.log1p(math.exp(-logit))
    assert CH["bce"](a, target).item() == pytest.approx(wanted, abs=1e-9)


def test_the_steepness_of_a_linear_discriminator_is_that_of_its_weights():
    d, x = nn.Sequential(nn.Flatten(), nn.Linear(784, 1)), images(5)
    found = CH["steepness"](d, x)
    assert found.item() == pytest.approx(d[1].weight.square().sum().item(), rel=1e-5)
    assert not x.requires_grad
    found.backward()
    assert d[1].weight.grad.norm() > 0  # it can be paid for


# ------------------------------------------------------------------------ measures


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 6), st.integers(12, 40))
def test_measures_on_the_page_are_those_of_the_package(seed, size, n):
    a = torch.randn(n, size, generator=rng(seed))
    b = 0.3 + 1.5 * torch.randn(n + 5, size, generator=rng(seed + 1))
    for name in ("frechet_distance", "coverage"):
        wanted = getattr(metrics, name)(a, b)
        assert CH[name](a, b) == pytest.approx(wanted, rel=1e-4, abs=1e-4)


def test_diversity():
    same = torch.ones(6, 3)
    classes = torch.tensor([0, 0, 0, 1, 1, 1])
    assert CH["diversity"](same, classes).item() == 0.0
    spread = torch.tensor([[0.0], [2.0], [7.0], [9.0]])
    found = CH["diversity"](spread, torch.tensor([0, 0, 1, 1]))
    assert found.item() == pytest.approx(2.0)


def test_the_nearest_training_image_of_a_training_image_is_itself():
    training = images(30)
    gaps, rows = CH["nearest"](training[[4, 9]], training)
    assert rows.tolist() == [4, 9]
    assert gaps.max() < 1e-2


def test_islands_reached():
    points = CH["islands"](4000, rng())
    assert CH["reached"](points) == 8
    assert CH["reached"](points[points[:, 0] > 0.5]) == 3
    assert CH["reached"](torch.zeros(50, 2)) == 0
    few = torch.cat([points[points[:, 0] > 0.9][:400], -points[points[:, 0] > 0.9][:1]])
    assert CH["reached"](few) == 1  # a single one is no mode


# --------------------------------------------------------------------- the players


def test_the_layers_of_the_players():
    g, d = CH["players"]((256, 512), norm=nn.BatchNorm1d, dropout=0.3)
    assert widths(g) == [8, 256, 512, 784]
    assert widths(d) == [784, 512, 256, 1]
    assert [m.p for m in d.modules() if isinstance(m, nn.Dropout)] == [0.15, 0.3, 0.3]
    assert sum(isinstance(m, nn.BatchNorm1d) for m in g.modules()) == 2
    made = g(noise())
    assert made.shape == (20, 1, 28, 28)
    assert d(made).shape == (20, 1)
    for net in CH["players"](std=0.01):
        for layer in net.modules():
            if isinstance(layer, nn.Linear) and layer.weight.numel() > 1000:
                assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
                assert layer.bias.abs().max() == 0


def test_every_change_is_one_and_together_they_lead_from_naive_to_best():
    keys = [key for keys in list(CH["CHANGES"].values())[:-1] for key in keys]
    assert sorted(keys) == sorted(CH["NAIVE"]) == sorted(CH["BEST"])
    assert all(CH["NAIVE"][key] != CH["BEST"][key] for key in keys)


def test_generating_switches_dropout_off_and_back_on():
    g = nn.Sequential(nn.Linear(8, 784), nn.Dropout(0.5), nn.Unflatten(1, (1, 28, 28)))
    one, two = (CH["generate"](g, noise(1200)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (1200, 1, 28, 28)
    assert g.training
    assert not one.requires_grad


# ---------------------------------------------------------------- the small games


def test_real_data_of_the_small_games():
    line, pattern = CH["real_line"](4000, rng()), CH["real_pattern"](1000, rng())
    assert line.abs().mean().item() == pytest.approx(1, abs=0.02)
    assert (line > 0).float().mean().item() == pytest.approx(0.5, abs=0.03)
    middle = torch.tensor([0.9, 0.1, 0.9, 0.1])
    assert (pattern - middle).abs().max() <= 0.1 + 1e-6


def test_the_game_on_one_number_learns_both_heaps_and_repeats():
    kept = CH["line_game"](800, 400, 0)
    assert [step for step, *_ in kept] == [0, 400, 800]
    assert all((answer >= 0).all() and (answer <= 1).all() for *_, answer in kept)
    fakes = kept[-1][1]
    assert min((fakes > 0.5).float().mean(), (fakes < -0.5).float().mean()) > 0.15
    again = CH["line_game"](400, 400, 0)
    assert torch.equal(again[1][1], kept[1][1])


def test_the_game_on_patterns_moves_towards_its_theory():
    losses, g = CH["pattern_game"](2000, 0)
    assert losses.shape == (2000, 2)
    assert (losses[-200:].mean(dim=0) - math.log(2)).abs().max() < 0.15
    fake = g(torch.rand(9, 1, generator=rng()))
    assert fake.shape == (9, 4)
    assert ((fake >= 0) & (fake <= 1)).all()


def test_islands_are_found_by_a_short_game():
    options = CH["PLANS"]["balanced"]
    fakes = CH["island_game"](300, *options, 0)
    assert fakes.shape == (2000, 2)
    assert fakes.isfinite().all()
