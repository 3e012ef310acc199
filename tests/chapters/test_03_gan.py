"""The definitions of chapter 3, lifted out of it: gradients, losses, states, seeds."""

import math
from functools import partial

import game_checks
import lift
import pytest
import torch
import torch.nn.functional as F
from game_checks import Case, rng, weights, widths
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

CH = lift.definitions("03_gan")
bce, squared, Game = CH["bce"], CH["squared"], CH["Game"]
NOISE = 8


def game(seed=0, clothes=False):
    torch.manual_seed(seed)
    g, d = CH["players"](NOISE)
    if clothes:
        g, d = CH["clothes_generator"](NOISE), CH["clothes_discriminator"]()
    return Game(g, d, torch.randn, NOISE, (2e-4, 2e-4), (0.5, 0.999), seed)


def play(game, epochs, checkpoint):
    def watch(g):
        return weights(g).sum().item()

    return CH["play"](game, images(), epochs, 16, checkpoint, watch)


def images(n=40):
    return torch.rand(n, 1, 28, 28, generator=rng(5))


def noise(n=20):
    return torch.randn(n, NOISE, generator=rng())


CASES = {
    "digits": Case(game, play, images(), rate=2e-4, low=0.0),
    "clothes": Case(partial(game, clothes=True), play, images(), rate=2e-4),
}


# ------------------------------------------------------------------- the two steps


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(case, check):
    check(case)


def test_without_detach_gradients_land_in_the_generator():
    played = game()
    CH["forgetful_step"](played.g, played.d, played.d_opt, images(20), noise())
    assert all(part.grad.norm() > 0 for part in played.g.parameters())


class Says(nn.Module):
    """A discriminator that says the same to everything."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(logit))

    def forward(self, x):
        return self.logit.expand(len(x), 1)


@pytest.mark.parametrize(("loss", "value"), [(bce, math.log(2)), (squared, 0.25)])
def test_the_value_at_equilibrium(loss, value):
    g, d = CH["players"](NOISE)[0], Says(0.0)
    still = torch.optim.SGD(d.parameters(), lr=0.1)
    found = CH["discriminator_step"](g, d, still, images(7), noise(7), loss)
    assert found.item() == pytest.approx(value, abs=1e-6)
    assert d.logit.item() == pytest.approx(0.0, abs=1e-7)  # both terms pull alike
    found = CH["generator_step"](g, d, still, noise(7), loss)
    assert found.item() == pytest.approx(value, abs=1e-6)


@settings(max_examples=50, deadline=None)
@given(logit=st.floats(-30, 30), target=st.sampled_from([0.0, 1.0]))
def test_losses_are_their_formulas(logit, target):
    a = torch.full((3, 1), logit, dtype=torch.float64)
    p = 1 / (1 + math.exp(-logit))
    wanted = -math.log(p) if target else logit + math.log1p(math.exp(-logit))
    assert bce(a, target).item() == pytest.approx(wanted, abs=1e-9)
    assert squared(a, target).item() == pytest.approx((p - target) ** 2, abs=1e-9)


def test_gradient_sizes_are_those_of_the_two_losses():
    g, d, z = game().g, game().d, noise(50)
    for logit in (-6.0, 0.0, 6.0):
        shift = logit - d(g(z)).mean().item()
        found = CH["gradient_sizes"](g, lambda x, shift=shift: d(x) + shift, z)
        p = 1 / (1 + math.exp(-logit))
        assert found["D(G(z))"] == pytest.approx(p, abs=0.02)
        ratio = found["saturating"] / found["non-saturating"]
        assert ratio == pytest.approx(p / (1 - p), rel=0.3)
    assert all(weight.grad is None for weight in g.parameters())


# ------------------------------------------------------------- the smallest game


def test_real_patterns():
    x = CH["real_sample"](1000, rng())
    assert x.shape == (1000, 4)
    middle = torch.tensor([0.9, 0.1, 0.9, 0.1])
    assert (x - middle).abs().max() <= 0.1 + 1e-6
    assert torch.allclose(x.mean(dim=0), middle, atol=0.01)
    assert torch.equal(x, CH["real_sample"](1000, rng()))


@pytest.mark.parametrize(("loss", "value"), [(bce, math.log(2)), (squared, 0.25)])
def test_the_pattern_game_moves_towards_its_theory_and_repeats(loss, value):
    first, outputs, _ = CH["pattern_game"](CH["uniform"], loss, 2000, 32, 0)
    assert first.shape == (2000, 2)
    assert outputs.shape == (20, 4)
    assert (first[-200:].mean(dim=0) - value).abs().max() < 0.15
    assert ((outputs >= 0) & (outputs <= 1)).all()
    again, *_ = CH["pattern_game"](CH["uniform"], loss, 40, 32, 0)
    assert torch.equal(again, first[:40])
    other, *_ = CH["pattern_game"](CH["uniform"], loss, 40, 32, 1)
    assert not torch.equal(other, again)


def test_a_constant_input_gives_one_pattern_only():
    *_, g = CH["pattern_game"](CH["constant"], bce, 40, 8, 0)
    drawn = g(CH["constant"](50, rng()))
    assert torch.equal(drawn, drawn[:1].expand(50, 4))


# --------------------------------------------------------------------- the players


def test_the_layers_of_the_players_for_clothes():
    g, d = CH["clothes_generator"](128), CH["clothes_discriminator"]()
    assert widths(g) == [128, 256, 512, 1024, 784]
    assert isinstance(g[-2], nn.Tanh)
    assert widths(d) == [784, 1024, 512, 256, 1]
    assert [m.p for m in d.modules() if isinstance(m, nn.Dropout)] == [0.3] * 3
    slopes = [m.negative_slope for m in d.modules() if isinstance(m, nn.LeakyReLU)]
    assert slopes == [0.2] * 3


def test_the_start_of_the_weights():
    torch.manual_seed(0)
    for net in CH["players"](128, std=0.01):
        for layer in net.modules():
            if isinstance(layer, nn.Linear) and layer.weight.numel() > 1000:
                assert layer.weight.std().item() == pytest.approx(0.01, rel=0.1)
                assert layer.bias.abs().max() == 0


def test_every_repair_differs_from_the_naive_network_in_what_it_names():
    changed = [key for change in CH["REPAIRS"].values() for key in change]
    assert sorted(changed) == sorted(CH["NAIVE"])
    for change in CH["REPAIRS"].values():
        for key, value in change.items():
            assert CH["NAIVE"][key] != value
    assert CH["REPAIRED"].keys() == CH["NAIVE"].keys()


def test_drawing_switches_dropout_off_and_back_on():
    g = nn.Sequential(
        nn.Linear(NOISE, 784), nn.Dropout(0.5), nn.Unflatten(1, (1, 28, 28))
    )
    one, two = (CH["draw"](g, noise(1200)) for _ in range(2))
    assert torch.equal(one, two)
    assert one.shape == (1200, 1, 28, 28)
    assert g.training
    assert not one.requires_grad


def test_the_loss_of_an_epoch_counts_every_image_alike():
    played = game()
    for group in (*played.g_opt.param_groups, *played.d_opt.param_groups):
        group["lr"] = 0.0
    x = images(20)
    played.epoch(x, 16)  # a batch of 16 and one of 4
    g, d = played.g, played.d
    z_all, order = [], rng(0)
    rows = torch.randperm(20, generator=order).split(16)
    for part in rows:
        z_all.append(played.draw_noise(len(part), order))
        played.draw_noise(len(part), order)
    drawn = d(g(torch.cat(z_all)))
    wanted = (F.softplus(-d(x)).mean() + F.softplus(drawn).mean()) / 2
    assert played.history["d_loss"][0] == pytest.approx(wanted.item(), abs=1e-5)


# ------------------------------------------------------------------- measurements


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


def test_the_decoder_of_chapter_2_draws_images():
    drawn = CH["decoder_samples"](images(64), 10, 1, 16)
    assert drawn.shape == (10, 1, 28, 28)
    assert drawn.min() >= 0
    assert drawn.max() <= 1


def test_dreaming_changes_images_towards_their_labels():
    torch.manual_seed(0)
    classifier = nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    before = weights(classifier)
    labels = torch.arange(10)
    start = 0.1 * torch.randn(10, 1, 28, 28, generator=rng())
    dreamt = CH["dream"](classifier, labels, start, 100)
    assert (classifier(dreamt).argmax(dim=1) == labels).all()
    assert ((dreamt >= 0) & (dreamt <= 1)).all()
    assert torch.equal(weights(classifier), before)
    assert not dreamt.requires_grad
