"""The definitions of chapter 3, lifted out of it: gradients, losses, states, seeds."""

import io
import math

import lift
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

CH = lift.definitions("03_gan")
bce, squared, Game, play = CH["bce"], CH["squared"], CH["Game"], CH["play"]
NOISE = 8


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(net):
    return nn.utils.parameters_to_vector(net.parameters()).detach().clone()


def digit_players(**build):
    torch.manual_seed(0)
    return CH["players"](NOISE, **build)


def clothes_players():
    torch.manual_seed(0)
    return CH["clothes_generator"](NOISE), CH["clothes_discriminator"]()


PLAYERS = {"digits": digit_players, "clothes": clothes_players}
every_pair = pytest.mark.parametrize("make", PLAYERS.values(), ids=PLAYERS)


def adam(net):
    return torch.optim.Adam(net.parameters(), lr=2e-4, betas=(0.5, 0.999))


def game(seed=0, make=clothes_players, noise=torch.randn):
    torch.manual_seed(seed)
    g, d = make()
    return Game(g, d, noise, NOISE, (2e-4, 2e-4), (0.5, 0.999), seed)


def images(n=20, seed=5):
    return torch.rand(n, 1, 28, 28, generator=rng(seed))


class NoFile:
    """What a Checkpoint is in smoke: nothing is kept."""

    def load(self):
        return None

    def save(self, **state):
        pass


class Kept(NoFile):
    """A checkpoint in memory, through torch's own safe loading."""

    def __init__(self):
        self.content = None

    def load(self):
        if self.content is None:
            return None
        return torch.load(io.BytesIO(self.content), weights_only=True)

    def save(self, **state):
        file = io.BytesIO()
        torch.save(state, file)
        self.content = file.getvalue()


# ------------------------------------------------------------------- the two steps


@every_pair
def test_after_a_step_of_d_the_generator_is_untouched_and_has_no_gradient(make):
    g, d = make()
    before_g, before_d = weights(g), weights(d)
    loss = CH["discriminator_step"](
        g, d, adam(d), images(), torch.randn(20, NOISE, generator=rng())
    )
    assert torch.equal(weights(g), before_g)
    assert all(p.grad is None for p in g.parameters())
    assert not torch.equal(weights(d), before_d)
    assert not loss.requires_grad


def test_without_detach_gradients_land_in_the_generator():
    g, d = digit_players()
    CH["forgetful_step"](
        g, d, adam(d), images(), torch.randn(20, NOISE, generator=rng())
    )
    assert all(p.grad is not None and p.grad.norm() > 0 for p in g.parameters())


@every_pair
def test_a_step_of_g_changes_only_the_generator(make):
    g, d = make()
    before_g, before_d = weights(g), weights(d)
    CH["generator_step"](g, d, adam(g), torch.randn(20, NOISE, generator=rng()))
    assert torch.equal(weights(d), before_d)
    assert not torch.equal(weights(g), before_g)


def test_gradients_that_g_leaves_in_d_do_not_count_in_the_next_step_of_d():
    z = torch.randn(20, NOISE, generator=rng())
    after = []
    for first in (False, True):
        g, d = digit_players()
        d_opt = adam(d)
        if first:  # leaves gradients in d, and the generator is put back
            start = {k: v.clone() for k, v in g.state_dict().items()}
            CH["generator_step"](g, d, adam(g), z)
            assert any(p.grad is not None for p in d.parameters())
            g.load_state_dict(start)
        CH["discriminator_step"](g, d, d_opt, images(), z)
        after.append(weights(d))
    assert torch.equal(*after)


@every_pair
def test_a_step_lowers_its_own_loss(make):
    g, d = (net.eval() for net in make())  # without dropout, so that losses compare
    z, real = torch.randn(20, NOISE, generator=rng()), images()
    d_opt, g_opt = adam(d), adam(g)
    d_losses = [CH["discriminator_step"](g, d, d_opt, real, z) for _ in range(5)]
    assert d_losses[-1] < d_losses[0]
    g_losses = [CH["generator_step"](g, d, g_opt, z) for _ in range(5)]
    assert g_losses[-1] < g_losses[0]


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
    z = torch.randn(7, NOISE, generator=rng())
    found = CH["discriminator_step"](g, d, still, images(7), z, loss)
    assert found.item() == pytest.approx(value, abs=1e-6)
    assert d.logit.item() == pytest.approx(0.0, abs=1e-7)  # both terms pull alike
    found = loss(d(g(z)), 1.0)
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
    g, d = digit_players()
    z = torch.randn(50, NOISE, generator=rng())
    for logit in (-6.0, 0.0, 6.0):
        constant = nn.Sequential(d, ShiftTo(d, g, z, logit))
        found = CH["gradient_sizes"](g, constant, z)
        p = 1 / (1 + math.exp(-logit))
        assert found["D(G(z))"] == pytest.approx(p, abs=0.02)
        ratio = found["saturating"] / found["non-saturating"]
        assert ratio == pytest.approx(p / (1 - p), rel=0.3)
    assert all(weight.grad is None for weight in g.parameters())


class ShiftTo(nn.Module):
    """Add what brings the mean logit on drawn images to a wanted one."""

    def __init__(self, d, g, z, logit):
        super().__init__()
        self.shift = logit - d(g(z)).mean().item()

    def forward(self, a):
        return a + self.shift


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


@every_pair
@pytest.mark.parametrize("n", [1, 5])
def test_shapes_and_ranges(make, n):
    g, d = make()
    drawn = g(torch.randn(n, NOISE, generator=rng()))
    assert drawn.shape == (n, 1, 28, 28)
    low = 0 if make is digit_players else -1
    assert drawn.min() >= low
    assert drawn.max() <= 1
    assert d(drawn).shape == (n, 1)


def test_the_layers_of_the_players_for_clothes():
    def widths(net):
        layers = [m for m in net.modules() if isinstance(m, nn.Linear)]
        return [layers[0].in_features, *(layer.out_features for layer in layers)]

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
    z = torch.randn(1200, NOISE, generator=rng())
    one, two = CH["draw"](g, z), CH["draw"](g, z)
    assert torch.equal(one, two)
    assert one.shape == (1200, 1, 28, 28)
    assert g.training
    assert not one.requires_grad


# ---------------------------------------------------------------- seeds and states


def test_a_seed_gives_the_same_game_and_another_seed_another():
    x, ends = images(40), []
    for seed in (0, 0, 1):
        played = play(game(seed), x, 2, 16, NoFile())
        ends.append(weights(played.g))
    assert torch.equal(ends[0], ends[1])
    assert not torch.equal(ends[0], ends[2])


@pytest.mark.parametrize("killed_after", [1, 2, 3])
def test_a_killed_training_ends_like_an_unbroken_one(killed_after):
    x, watch = images(40), lambda g: weights(g).sum().item()
    unbroken = play(game(), x, 4, 16, NoFile(), watch)
    kept = Kept()
    play(game(), x, killed_after, 16, kept, watch)
    torch.manual_seed(123)  # another session: other random numbers, other weights
    resumed = play(game(seed=9), x, 4, 16, kept, watch)
    for name in ("g", "d"):
        assert torch.equal(
            weights(getattr(unbroken, name)), weights(getattr(resumed, name))
        )
    for name in ("d_loss", "g_loss", "watched"):
        assert unbroken.history[name] == resumed.history[name]
    for ours, theirs in zip(
        unbroken.history["samples"], resumed.history["samples"], strict=True
    ):
        assert torch.equal(ours, theirs)


def test_a_training_that_is_done_is_not_played_again():
    kept, x = Kept(), images(40)
    done = play(game(), x, 2, 16, kept)
    again = play(game(), x, 2, 16, kept)
    assert torch.equal(weights(done.g), weights(again.g))
    assert len(again.history["d_loss"]) == 2


def test_each_part_of_the_state_matters():
    x = images(40)
    unbroken = play(game(), x, 2, 16, NoFile())
    for part in ("g", "d", "g_opt", "d_opt", "rng", "dropout"):
        kept = Kept()
        play(game(), x, 1, 16, kept)
        state, other = kept.load(), game(seed=9).state_dict()
        resumed = game(seed=9)
        resumed.load_state_dict(state | {part: other[part]})
        resumed.epoch(x, 16)
        assert not torch.equal(weights(unbroken.g), weights(resumed.g)), part


def test_the_loss_of_an_epoch_counts_every_image_alike():
    played = game(make=digit_players)
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


def test_fixed_noise_stays_the_same_through_all_games():
    assert torch.equal(game(0).fixed, game(3).fixed)
    assert game(0).fixed.shape == (64, NOISE)


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
    before = [w.clone() for w in classifier.parameters()]
    labels = torch.arange(10)
    start = 0.1 * torch.randn(10, 1, 28, 28, generator=rng())
    dreamt = CH["dream"](classifier, labels, start, 100)
    assert (classifier(dreamt).argmax(dim=1) == labels).all()
    assert ((dreamt >= 0) & (dreamt <= 1)).all()
    assert all(
        torch.equal(a, b) for a, b in zip(before, classifier.parameters(), strict=True)
    )
    assert not dreamt.requires_grad
