"""The definitions of chapter 5, lifted out of it: labels, games, races, measures."""

import itertools
import math
from functools import partial
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
import torch.nn.functional as F
from game_checks import Case, Clock, Kept, count, rng, weights, widths
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon, pdist
from torch import nn

from genlab_helpers import networks

CH = lift.definitions("05_cgan")
NOISE, CHANNELS, RATE = 8, 4, 2e-4
CPU = torch.device("cpu")
CFG = SimpleNamespace(noise_size=NOISE, channels=CHANNELS, decay=0.5, better_rate=RATE)
LADDER = CH["LADDER"]
one_hot, requests_for = CH["one_hot"], CH["requests_for"]


def labelled(n=20):
    """Random images with the labels 0, 1, 2, ..."""
    x = torch.rand(n, 1, 28, 28, generator=rng(5))
    return CH["Labelled"](x, one_hot(torch.arange(n) % 10))


def plain_game(seed=0):
    return CH["new_game"](CFG, CPU, RATE, seed)


def better_game(seed=0, name="+ resize"):
    return CH["better_game"](CFG, CPU, seed, **LADDER[name])


def play(game, epochs, checkpoint):
    return CH["play"](game, labelled(), epochs, 10, checkpoint)


MAKERS = {"plain": plain_game, **{n: partial(better_game, name=n) for n in LADDER}}
every_game = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


case = partial(
    Case,
    play=play,
    x=labelled(),
    rate=RATE,
    low=0.0,
    decay=CFG.decay,
    images=lambda batch: batch[0],
    ask=lambda game, batch: game.ask(batch[1]),
    verdict=lambda game, batch: partial(game.d, y=batch[1]),
)


@every_game
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(make, check):
    check(case(make))


def test_the_average_follows_the_weights():
    game_checks.the_average_follows_the_weights(case(better_game))


# ------------------------------------------------------------------- labels, requests


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_a_label_row_has_a_single_one_in_its_place(digits):
    rows = one_hot(torch.tensor(digits))
    assert rows.dtype == torch.float32
    assert rows.sum(dim=1).tolist() == [1] * len(digits)
    assert rows.argmax(dim=1).tolist() == digits


NO_LABELS = ([3, 7], 3, *map(torch.tensor, (3, [[3]], [3.0], [True])), torch.arange(0))


@pytest.mark.parametrize(
    ("labels", "complaint"),
    [
        *((labels, "whole numbers") for labels in NO_LABELS),
        (torch.tensor([3, 10]), "from 0 to 9, not 3 to 10"),
        (torch.tensor([-1]), "from 0 to 9"),
    ],
)
def test_bad_labels_are_refused(labels, complaint):
    with pytest.raises(ValueError, match=complaint):
        one_hot(labels)


@pytest.mark.parametrize("label", [10, -1, 2.5, True])
def test_a_wish_for_no_digit_is_refused(label):
    with pytest.raises(ValueError, match="labels must be"):
        CH["plot_images"](plain_game().g, label, NOISE)


def test_a_request_is_noise_that_can_be_wider_and_label_row():
    z, rows = torch.randn(3, NOISE), one_hot(torch.tensor([1, 2, 3]))
    request = requests_for(z, rows)
    assert torch.equal(request[:, :NOISE], z)
    assert torch.equal(request[:, NOISE:], rows)
    assert torch.equal(CH["widened"](request, 1.5), requests_for(1.5 * z, rows))


@pytest.mark.parametrize(
    ("z", "rows"), [((3, 8), (2, 10)), ((3, 8), (3, 9)), ((8,), (1, 10))]
)
def test_noise_and_labels_of_different_length_are_refused(z, rows):
    with pytest.raises(ValueError, match="do not fit"):
        requests_for(torch.zeros(z), torch.zeros(rows))


@given(st.integers(0, 10_000))
def test_the_divergence_is_that_of_scipy(seed):
    p, q = F.normalize(torch.rand(2, 3, 5, generator=rng(seed)).double(), p=1, dim=2)
    wanted = [jensenshannon(a, b) ** 2 for a, b in zip(p, q, strict=True)]
    assert CH["jsd"](p, q).tolist() == pytest.approx(wanted, abs=1e-9)


def test_the_least_and_the_largest_divergence():
    p = torch.tensor([0.5, 0.5, 0.0, 0.0])
    assert CH["jsd"](p, p) == 0
    assert CH["jsd"](p, p.flip(0)).item() == pytest.approx(math.log(2))


# ------------------------------------------------------------------------ the networks


def test_the_plain_networks_are_those_of_the_text():
    g, d = CH["plain_generator"](100), CH["PlainDiscriminator"]()
    assert [widths(net) for net in (g, d)] == [[110, 200, 784], [794, 200, 1]]
    for net in (g, d):
        modules = list(net.modules())
        slopes = [m.negative_slope for m in modules if isinstance(m, nn.LeakyReLU)]
        norms = [m.normalized_shape for m in modules if isinstance(m, nn.LayerNorm)]
        assert slopes == [0.02]
        assert norms == [(200,)]


def test_the_fixed_requests_are_for_each_digit_in_turn():
    digits = plain_game().fixed[:, NOISE:].argmax(dim=1)
    assert digits.tolist() == [i % 10 for i in range(64)]


@every_game
def test_both_players_look_at_the_label(make):
    game = make()
    game.g.eval(), game.d.eval()
    z = torch.randn(2, NOISE, generator=rng())
    rows = [one_hot(torch.full((2,), digit)) for digit in (3, 8)]
    images = [game.g(requests_for(z, row)) for row in rows]
    assert not torch.allclose(images[0], images[1])
    told = [game.d(images[0], row) for row in rows]
    assert not torch.allclose(told[0], told[1])


def test_a_label_bias_is_what_constant_planes_add_inside_the_image():
    d = CH["BiasDiscriminator"](CHANNELS, None)
    x, y = torch.rand(2, 1, 28, 28), one_hot(torch.tensor([3, 0]))
    kernels = d.bias.weight[:, :, None, None].expand(-1, -1, 4, 4) / 16
    planes = y[:, :, None, None].expand(-1, -1, 28, 28)
    added = F.conv2d(planes, kernels, stride=2, padding=1)
    seen = []
    d.body.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    d(x, y)
    inside = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    assert torch.allclose(seen[0][inside], (d.first(x) + added)[inside], atol=1e-6)


def test_projection_adds_an_inner_product_with_the_row_of_the_label():
    d = CH["ProjectionDiscriminator"](CHANNELS, None)
    x, digits = torch.rand(3, 1, 28, 28), torch.tensor([4, 4, 9])
    features = d.features(x, one_hot(digits))
    rows = d.embed.weight.T[digits]  # one row a digit
    wanted = d.end(features)[:, 0] + torch.einsum("bf,bf->b", rows, features)
    assert torch.allclose(d(x, one_hot(digits))[:, 0], wanted, atol=1e-6)


def test_an_embedding_exchanges_the_label_row():
    g = CH["Embedded"](CH["in_0_1"](CH["conv_generator"](NOISE + 5, CHANNELS)), 5)
    g.eval()
    z = torch.randn(2, NOISE)
    rows = g.embed.weight.T[torch.tensor([3, 7])]
    wanted = g.net(torch.cat((z, rows), dim=1))
    assert torch.equal(g(requests_for(z, one_hot(torch.tensor([3, 7])))), wanted)


def test_each_entry_keeps_the_changes_before_it():
    entries = list(LADDER.values())
    for before, after in itertools.pairwise(entries):
        assert before.items() <= after.items()
        assert len(after) == len(before) + 1


@pytest.mark.parametrize("name", LADDER)
def test_each_entry_of_the_ladder_is_what_it_says(name):
    game, choices = better_game(name=name), LADDER[name]
    assert count(game.g, nn.BatchNorm2d) == 3 * choices.get("norm", False)
    assert isinstance(game.g, CH["Embedded"]) == ("n_learned" in choices)
    projects = isinstance(game.d, CH["ProjectionDiscriminator"])
    assert projects == choices.get("projection", False)
    assert bool(count(game.g, nn.Upsample)) == choices.get("resize", False)


def test_one_game_a_seed_is_played(monkeypatch):
    names = []

    def checkpoint(name, record):
        names.append((name, record))
        return Kept()

    monkeypatch.setitem(CH["play_all"].__globals__, "Checkpoint", checkpoint)
    games = CH["play_all"](
        "x", plain_game, 2, "card", labelled(), 1, 10, lambda game: weights(game.g)
    )
    assert names == [("x, seed 0", "card"), ("x, seed 1", "card")]
    for seed, game in enumerate(games):
        wanted = play(plain_game(seed), 1, Kept())
        assert game_checks.differences(game, wanted) == ["history"]
        (end,) = game.history["watched"]  # each was given its own game
        assert torch.equal(end, weights(wanted.g))


# ------------------------------------------------------------------------- the races


@pytest.fixture
def clock(monkeypatch):
    monkeypatch.setattr(CH["runtime"], "Stopwatch", Clock)


def test_a_race_ends_with_its_epochs_or_its_time_and_counts_images(clock):
    points = CH["race"](plain_game(), labelled(600), 20, 2, math.inf, lambda g: (0.5,))
    assert points == [(1.0, 600, 0.5), (2.0, 1200, 0.5)]
    points = CH["race"](plain_game(), labelled(40), 10, 100, 1.5, lambda g: (0,))
    assert points == [(1.0, 40, 0), (2.0, 80, 0)]


@pytest.mark.parametrize("size", [1, 10])
def test_a_race_plays_batches_of_its_size(size, monkeypatch):
    game, sizes = plain_game(), []
    monkeypatch.setattr(game, "step", lambda batch: sizes.append(len(batch[0])))
    CH["race"](game, labelled(40), size, 1, math.inf, lambda g: (0,))
    assert set(sizes) == {size}
    assert sum(sizes) == 40


def test_the_first_time_of_an_accuracy():
    points = [(1.0, 10, 0.2), (2.0, 20, 0.6), (3.0, 30, 0.5), (4.0, 40, 0.7)]
    found = [CH["first_time"](points, goal) for goal in (0.1, 0.5, 0.65, 0.9)]
    assert found == [1, 2, 4, math.inf]


# ----------------------------------------------------------------------- the measures


def test_balanced_takes_as_many_of_each_digit():
    y = torch.randint(10, (500,), generator=rng())
    rows = CH["balanced"](y, 7, rng(1))
    assert y[rows].tolist() == [digit for digit in range(10) for _ in range(7)]
    assert len(set(rows.tolist())) == 70
    assert not torch.equal(rows, CH["balanced"](y, 7, rng(2)))


def test_marks_of_a_generator_that_draws_real_looking_digits():
    """A generator that returns known images must get what the judge says of those."""
    scorer = networks.judge("MNIST", CPU)
    images = torch.rand(40, 1, 28, 28, generator=rng())

    class Shows(nn.Module):
        def forward(self, requests):
            return images[requests[:, 0].long()]

    requests = torch.arange(40.0)[:, None]
    seen = scorer.classify(images)
    wanted = seen.clone()
    wanted[:10] = (wanted[:10] + 1) % 10
    features = scorer.features(images)
    accuracy, distance = CH["marks"](Shows(), requests, wanted, scorer, features)
    assert accuracy == pytest.approx(0.75)
    assert distance == pytest.approx(0, abs=1e-6)


def test_diversity_is_the_mean_distance_of_pairs():
    features = torch.randn(12, 5, generator=rng())
    assert CH["diversity"](features) == pytest.approx(pdist(features.numpy()).mean())
    assert CH["diversity"](features[:1].expand(5, -1)) == 0


def test_the_rows_of_digits():
    labels = torch.arange(10).repeat_interleave(20)
    real, fake = torch.randn(2, 200, 6, generator=rng())
    seen = labels.clone()
    seen[:5] = 9  # five zeros are taken for nines
    rows = CH["by_digit"](fake, seen, labels, real, real, labels)
    assert [row[0] for row in rows] == [str(digit) for digit in range(10)]
    assert [row[1] for row in rows] == pytest.approx([0.75] + [1.0] * 9)
    assert all(row[2] > row[3] == pytest.approx(0, abs=1e-9) for row in rows)
    assert rows[3][4] == pytest.approx(CH["diversity"](fake[60:80]))
    assert rows[3][5] == pytest.approx(CH["diversity"](real[60:80]))


def test_the_distance_within_digits_does_not_see_how_often_each_is_drawn():
    labels = torch.arange(10).repeat_interleave(30)
    test = torch.randn(300, 4, generator=rng()) + labels[:, None]
    once = CH["within_digits"](test, labels, test, labels)
    assert once == pytest.approx(0, abs=1e-9)
    more_zeros = torch.cat((test[:30].repeat(5, 1), test[30:]))
    seen = torch.cat((labels[:30].repeat(5), labels[30:]))
    uneven = CH["within_digits"](more_zeros, seen, test, labels)
    assert uneven == pytest.approx(0, abs=1e-6)
    assert CH["metrics"].frechet_distance(test, more_zeros) > 0.5


def test_the_favourite_label_is_the_one_with_the_largest_logit():
    def d(x, y):  # likes label k as much as the k-th pixel is bright
        return (x.flatten(1)[:, :10] * y).sum(dim=1, keepdim=True)

    x = torch.zeros(4, 1, 28, 28)
    x.view(4, -1)[range(4), [3, 1, 9, 0]] = 1
    assert CH["favourite"](d, x, torch.tensor([3, 1, 9, 5])) == 0.75


def test_a_lesson_is_learned_from_images_that_can_be_told_apart():
    def bars(n, seed):
        y = torch.randint(10, (n,), generator=rng(seed))
        x = 0.1 * torch.rand(n, 1, 28, 28, generator=rng(seed))
        for i, digit in enumerate(y.tolist()):
            x[i, 0, 2 * digit : 2 * digit + 3] = 1
        return x, y

    x, y = bars(600, 0)
    x_test, y_test = bars(100, 1)
    test = SimpleNamespace(images=x_test, labels=y_test)
    assert CH["lesson"](x, y, test, epochs=5) > 0.9
    shuffled = y[torch.randperm(len(y), generator=rng())]
    assert CH["lesson"](x, shuffled, test, epochs=2) < 0.5


def test_rows_between_two_digits():
    rows = CH["between"](3, 8, 5)
    assert torch.equal(rows[0], one_hot(torch.tensor([3]))[0])
    assert torch.equal(rows[-1], one_hot(torch.tensor([8]))[0])
    assert rows[2][3] == rows[2][8] == 0.5
    assert torch.allclose(rows.sum(dim=1), torch.ones(5))


def test_the_exported_weights_draw_the_same_pictures_and_are_small():
    state = game_checks.exported("05_cgan", "generator")
    check = game_checks.exported("05_cgan", "check")
    assert sum(2 * part.numel() for part in state.values()) <= 800_000
    n_learned = len(state["embed_weight"])
    inputs, outputs = state["net_1_weight"].shape[:2]
    assert inputs == check["requests"].shape[1] - 10 + n_learned
    made = CH["in_0_1"](CH["resize_generator"](inputs, outputs // 2))
    g = CH["Embedded"](made, n_learned)
    names = {name.replace(".", "_"): name for name in g.state_dict()}
    g.load_state_dict({names[key]: v for key, v in state.items()}, strict=False)
    assert {key for key, v in g.state_dict().items() if v.ndim} == {
        names[key] for key in state
    }
    images = CH["draw"](g, check["requests"])
    assert (images - check["images"]).abs().max() < 0.02
    assert (images - check["images"]).abs().mean() < 1e-3
    assert F.mse_loss(images, images.roll(1, 0)) > 0.01  # not all the same picture
