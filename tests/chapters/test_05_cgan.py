"""The definitions of chapter 5, lifted out of it: labels, players, games, measures."""

import math
from functools import partial
from types import SimpleNamespace

import game_checks
import lift
import pytest
import torch
from game_checks import Case, rng, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import nn

from genlab_helpers import networks

CH = lift.definitions("05_cgan")
NOISE = 8
CPU = torch.device("cpu")
CH["cfg"] = SimpleNamespace(noise_size=NOISE, batch_size=10, widths=(2, 4), n_seeds=1)
CH["device"] = CPU
one_hot, with_label = CH["one_hot"], CH["with_label"]


def labelled(n=20):
    """Random images with the labels 0, 1, 2, ..."""
    x = torch.rand(n, 1, 28, 28, generator=rng(5))
    return CH["Labelled"](x, one_hot(torch.arange(n) % 10))


CH["x"], CH["y"] = labelled().tensors[0], torch.arange(20) % 10


def play(game, epochs, checkpoint):
    return CH["train_gan"](game, labelled(), epochs, 10, checkpoint)


def best_game(seed=0, **options):
    return CH["best_game"](seed, 100, **{"penalty": 0.0} | options)


def plain_game(seed=0, **options):
    return CH["plain_game"](seed, **options)


case = partial(
    Case,
    play=play,
    x=labelled(),
    rate=1e-3,
    low=0.0,
    images=lambda batch: batch[0],
    ask=lambda game, batch: game.noise_for(batch[1]),
    verdict=lambda game, batch: lambda images: game.d(images, batch[1]),
)
MAKERS = {
    "plain": plain_game,
    **{name: partial(best_game, **ways) for name, ways in CH["WAYS"].items()},
}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
@pytest.mark.parametrize("check", game_checks.OF_EVERY_GAME)
def test_a_game(make, check):
    check(case(make))


def test_a_killed_game_goes_on_with_its_penalty_and_labels_of_its_own():
    for make in (
        partial(best_game, penalty=0.5),
        partial(plain_game, kind=CH["OwnLabels"]),
    ):
        game_checks.a_killed_training_ends_like_an_unbroken_one(case(make))


# ------------------------------------------------------------------- labels, inputs


@given(st.lists(st.integers(0, 9), min_size=1, max_size=30))
def test_a_label_is_a_row_with_a_single_one_in_its_place(digits):
    rows = one_hot(digits)
    assert rows.dtype == torch.float32
    assert rows.sum(dim=1).tolist() == [1] * len(digits)
    assert rows.argmax(dim=1).tolist() == digits


@pytest.mark.parametrize("label", [[10], [-1], [2.5]])
def test_no_digit_is_refused(label):
    with pytest.raises(RuntimeError):
        one_hot(label)


def test_the_input_is_noise_and_label():
    z, rows = torch.randn(3, NOISE), one_hot([1, 2, 3])
    both = with_label(z, rows)
    assert torch.equal(both[:, :NOISE], z)
    assert torch.equal(both[:, NOISE:], rows)


@pytest.mark.parametrize(
    ("z", "rows"), [((3, 8), (2, 10)), ((3, 8), (3, 9)), ((8,), (1, 10))]
)
def test_noise_and_labels_of_different_length_are_refused(z, rows):
    with pytest.raises(ValueError, match="do not fit"):
        with_label(torch.zeros(z), torch.zeros(rows))


@given(st.lists(st.integers(0, 9), min_size=60, max_size=90))
def test_balanced_rows_have_every_digit_equally_often(digits):
    y = torch.tensor([*range(10), *range(10), *digits])
    rows = CH["balanced"](y, 2, rng())
    assert y[rows].tolist() == [d for d in range(10) for _ in range(2)]
    assert len(rows.unique()) == 20


# ------------------------------------------------------------------------- players


def test_the_label_enters_the_discriminator_where_it_should():
    x, labels = labelled(6).tensors
    other = labels.roll(1, dims=1)
    for ways in CH["WAYS"].values():
        d = CH["LabelDiscriminator"](4, **ways)
        assert d(x, labels).shape == (6, 1)
        assert not torch.allclose(d(x, labels), d(x, other))
    silent = CH["LabelDiscriminator"](4, bias=False, projection=False)
    assert torch.equal(silent(x, labels), silent(x, other))


def test_a_label_bias_is_a_stack_of_constant_planes_but_for_the_border():
    x, labels = labelled(6).tensors
    d = CH["LabelDiscriminator"](4, projection=False)
    kernel = torch.randn(4, 10, 4, 4, generator=rng())
    d.bias.weight.data = kernel.sum(dim=(2, 3))
    planes = labels[:, :, None, None].expand(-1, -1, 28, 28)
    both = torch.cat((d.first.weight, kernel), dim=1)
    wanted = nn.functional.conv2d(
        torch.cat((x, planes), 1), both, d.first.bias, stride=2, padding=1
    )
    found = d.first(x) + d.bias(labels)[:, :, None, None]
    assert torch.allclose(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-4)


def test_fakes_of_their_own_labels_get_those_of_other_training_images():
    game = plain_game(kind=CH["OwnLabels"])
    rows = one_hot([3] * 400)
    own = game.labels_of_fakes(rows)
    assert own.shape == rows.shape
    assert own.sum(dim=1).tolist() == [1] * 400
    assert (own.sum(dim=0) > 20).all()  # each of ten labels, 40 times on average


@pytest.mark.parametrize(("kind", "right"), [("OneMore", True), ("Refusing", False)])
def test_the_further_step_refuses_fakes_with_the_labels_it_says(kind, right):
    game, seen = plain_game(kind=CH[kind]), []
    game.d.register_forward_hook(lambda net, inputs, logits: seen.append(inputs))
    batch = labelled()[torch.arange(20)]
    game.step(batch)
    (images, labels), (real, its_labels) = seen[:2]  # then comes the usual step
    assert torch.equal(real, batch[0])
    assert torch.equal(its_labels, batch[1])
    assert not torch.equal(images, real)
    assert (labels.argmax(1) == batch[1].argmax(1)).tolist() == [right] * 20


def test_the_plain_players_keep_their_rate_and_have_no_average():
    game = plain_game()
    for _ in range(3):
        game.step(labelled()[torch.arange(20)])
    assert game.d_opt.param_groups[0]["lr"] == 1e-3
    assert torch.equal(weights(game.average.module), weights(game.g))


# ------------------------------------------------------------------------ measures


@given(st.integers(0, 999))
def test_the_divergence_is_that_of_scipy(seed):
    p, q = torch.rand(2, 3, 5, generator=rng(seed), dtype=torch.float64).unbind()
    p, q = p / p.sum(1, keepdim=True), q / q.sum(1, keepdim=True)
    p[0] = torch.tensor([1.0, 0, 0, 0, 0])
    wanted = jensenshannon(p.numpy(), q.numpy(), axis=1) ** 2
    assert CH["jsd"](p, q).numpy() == pytest.approx(wanted, abs=1e-9)


class Reads(nn.Module):
    """A discriminator that likes the label that the first pixels spell."""

    def forward(self, x, labels):
        return (x.flatten(1)[:, :10] * labels).sum(dim=1, keepdim=True)


def test_the_favourite_label():
    x = torch.zeros(20, 1, 28, 28)
    x.view(20, -1)[torch.arange(20), CH["y"]] = 1.0
    logits = CH["every_label"](Reads(), x)
    assert logits.shape == (20, 10)
    assert torch.equal(logits.argmax(dim=1), CH["y"])


def test_the_first_time_an_accuracy_was_reached():
    points = [(1.0, 10, 0.2), (2.0, 20, 0.5), (3.0, 30, 0.4)]
    assert CH["first_time"](points, 0.3) == 2.0
    assert CH["first_time"](points, 0.9) == math.inf


@settings(max_examples=20)
@given(st.floats(0, 1), st.integers(0, 9), st.integers(0, 9))
def test_label_rows_between_two_digits(share, start, end):
    rows = CH["between"](start, end, torch.tensor([0.0, share, 1.0]))
    assert rows[0].argmax() == start
    assert rows[2].argmax() == end
    assert rows.sum(dim=1).tolist() == pytest.approx([1.0] * 3)


# ------------------------------------------------------------------------- exports


def exported(name, net):
    """Read a network's export of the published run back into a network."""
    state = game_checks.exported("05_cgan", name)
    wanted = net.state_dict()
    assert state.keys() == wanted.keys()
    net.load_state_dict(
        {key: value.to(wanted[key].dtype) for key, value in state.items()}
    )
    return net.eval()


def test_the_exports_reproduce_the_number_that_readers_can_check():
    found = game_checks.exported("05_cgan", "check")
    g = CH["make_generator"](found["inputs"].shape[1], 16)
    g = exported("generator", g[:-1].append(nn.Sigmoid()))
    with torch.inference_mode():
        made = g(found["inputs"])
    assert (made - found["images"]).abs().max() < 0.02  # the inputs have 16 bits, too
    judge = exported("judge", networks.Judge())
    z, wanted = torch.randn(2000, 100, generator=rng(3)), torch.arange(2000) % 10
    images = CH["generate"](g, with_label(z, one_hot(wanted)))
    features = judge.features(images)
    right = (judge.classify(images) == wanted).float().mean().item()
    moments = game_checks.exported("05_cgan", "moments")
    mean, covariance = (
        moments[k] + moments[f"{k}_rest"] for k in ("mean", "covariance")
    )
    distance = frechet(
        mean, covariance, features.mean(dim=0), features.T.cov(correction=0)
    )
    card = game_checks.card("05_cgan")
    for name, value in (
        ("conditional accuracy", right),
        ("Fréchet distance", distance),
    ):
        least, most = (
            card[f"2,000 digits: {end} {name}"] for end in ("least", "largest")
        )
        room = most - least  # a draw of one's own may lie a little outside
        assert least - room < value < most + room


def frechet(mean_a, cov_a, mean_b, cov_b):
    values = torch.linalg.eigvals(cov_a.double() @ cov_b.double()).real.clamp(min=0)
    common = 2 * values.sqrt().sum()
    return (mean_a - mean_b).square().sum() + cov_a.trace() + cov_b.trace() - common
