"""The definitions of chapter 2, lifted out of it: shapes, sizes, losses, bad input."""

import math
from functools import partial

import game_checks
import lift
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from game_checks import rng, traced, weights, widths
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from scipy.stats import ttest_rel
from sklearn.decomposition import PCA
from torch import nn

CH = lift.definitions("02_autoencoders")
fit, reconstruct = CH["fit"], CH["reconstruct"]
NETWORKS = {
    "stacked": CH["stacked"],
    "stacked with batch norm": partial(CH["stacked"], norm=nn.BatchNorm1d),
    "convolutional": CH["convolutional"],
}
every_network = pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
RECIPE = {"epochs": 2, "batch_size": 8, "rate": 3e-3, "seed": 0}


def pictures(n, seed=0):
    """Return n random pictures with a few smooth blobs, (n, 1, 28, 28) in [0, 1]."""
    noise = torch.rand(n, 1, 28, 28, generator=rng(seed)).numpy()
    smooth = torch.from_numpy(gaussian_filter(noise, (0, 0, 3, 3)))
    low, high = smooth.amin((2, 3), keepdim=True), smooth.amax((2, 3), keepdim=True)
    return ((smooth - low) / (high - low)).clamp(0, 1)


# ------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("wrong", "remedy"),
    [
        (torch.zeros(2, 1, 32, 32), "resize"),
        (torch.zeros(2, 3, 28, 28), "resize"),
        (torch.zeros(2, 28, 28), "resize"),
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "divide"),
        (np.zeros((2, 1, 28, 28), np.float32), "tensor"),
        (torch.zeros(0, 1, 28, 28), "at least one"),
        *(
            (torch.full((2, 1, 28, 28), bad), r"\[0, 1\]")
            for bad in (-0.01, 1.01, 255.0, math.nan, math.inf)
        ),
    ],
)
def test_training_and_scoring_refuse_other_images_with_the_remedy(wrong, remedy):
    with pytest.raises(ValueError, match=remedy):
        fit(NETWORKS["stacked"](2), wrong, wrong, **RECIPE)
    with pytest.raises(ValueError, match=remedy):
        CH["psnr"](wrong, wrong)


# ------------------------------------------------------------ shapes and sizes


@every_network
@pytest.mark.parametrize("code_size", [1, 10, 64])
@pytest.mark.parametrize("n", [2, 5])
def test_shapes_and_ranges(build, code_size, n):
    model, x = build(code_size), pictures(n)
    z = model.encoder(x)
    found = model.decoder(z)
    assert z.shape == (n, code_size)
    assert found.shape == x.shape
    assert torch.equal(model(x), found)
    assert found.min() >= 0
    assert found.max() <= 1


def test_the_code_is_linear_unless_a_relu_is_asked_for():
    x = pictures(64)
    for build in NETWORKS.values():
        assert (build(10).eval().encoder(x) < 0).any()
    assert (CH["stacked"](10, final_relu=True).encoder(x) >= 0).all()


def test_layers_of_the_stacked_network():
    assert widths(NETWORKS["stacked"](10)) == [784, 128, 32, 10, 32, 128, 784]
    normed = CH["stacked"](10, nn.BatchNorm1d).modules()
    assert sum(isinstance(m, nn.BatchNorm1d) for m in normed) == 4


def test_a_u_net_keeps_the_shape_and_its_range_and_sees_fine_detail():
    torch.manual_seed(0)
    net, x = CH["UNet"](4).eval(), (pictures(2) * 4 - 2).requires_grad_()
    assert net(x).shape == x.shape
    assert net(x).aminmax().min >= 0
    assert net(x).aminmax().max <= 1
    (slope,) = torch.autograd.grad(net(x)[0, 0, 14, 14], x)
    assert slope[0].abs().sum() > 0
    assert slope[1].abs().sum() == 0


def test_layers_of_the_convolutional_network():
    model = NETWORKS["convolutional"](10).eval()
    steps, _ = traced([*model.encoder, *model.decoder], pictures(1))
    assert steps == [(16, 14), (32, 7), (64, 5), (32, 7), (16, 14), (1, 28)]
    kernels = {m.kernel_size for m in model.modules() if hasattr(m, "kernel_size")}
    assert kernels == {(3, 3)}


kinds = (nn.Conv2d, nn.ConvTranspose2d)


@given(game_checks.convolutions(*kinds, padded=True), st.integers(1, 40))
def test_the_size_formulas_are_those_of_torch(layer, n):
    game_checks.side_is_that_of_torch(CH["side"](layer, n), layer, n)


def test_pca_is_that_of_scikit_learn():
    x, other = pictures(200), pictures(50, seed=1)
    reference = PCA(7, svd_solver="full").fit(x.flatten(1).numpy())
    coded = reference.transform(other.flatten(1).numpy())
    expected = torch.from_numpy(reference.inverse_transform(coded)).float()
    mean, values, vectors = CH["pca"](x)
    ours = CH["project"](other, mean, vectors[:, :7])
    assert ours.shape == other.shape
    assert torch.allclose(ours.flatten(1), expected, atol=1e-4)
    wanted = reference.explained_variance_ * 199 / 200  # ours divides by N
    assert torch.allclose(values[:7], torch.tensor(wanted).float(), rtol=1e-3)


# ------------------------------------------------------------------ the training


@every_network
def test_one_batch_can_be_learned(build):
    torch.manual_seed(0)
    x, model = pictures(8), build(10)
    history = fit(model, x, x, epochs=150, batch_size=8, rate=1e-2, seed=0)
    assert history["training images"][-1] < 0.15 * history["training images"][0]
    assert F.mse_loss(reconstruct(model, x), x) < 0.6 * x.var()


@every_network
def test_gradients_reach_every_weight_and_never_the_data(build):
    model, x = build(10), pictures(8)
    before = x.clone()
    F.mse_loss(model(x), x).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.encoder.parameters())
    fit(model, x, x, **RECIPE)
    assert torch.equal(x, before)


@every_network
def test_the_same_seed_gives_the_same_losses_and_another_gives_others(build):
    x = pictures(40)

    def run(seed):
        torch.manual_seed(seed)
        model = build(3)
        history = fit(model, x, x[:10], **RECIPE | {"seed": seed})
        return weights(model), *history.values()

    (first, *losses), (again, *same), (other, *rest) = map(run, (5, 5, 6))
    assert torch.equal(first, again)
    assert losses == same
    assert not torch.equal(first, other)
    assert losses != rest


def test_the_history_has_both_errors_of_every_epoch():
    x, test = pictures(20), pictures(10, seed=1)
    model = NETWORKS["convolutional"](4)
    history = fit(model, x, test, **RECIPE)
    assert [len(errors) for errors in history.values()] == [2, 2]
    assert (
        history["held-out images"][-1]
        == F.mse_loss(reconstruct(model, test), test).item()
    )


def test_every_image_is_seen_once_an_epoch():
    x, seen = pictures(23), []

    def spy(clean, generator):
        seen.append(clean)
        return clean

    recipe = {"epochs": 1, "batch_size": 5, "rate": 1e-3, "seed": 0}
    fit(NETWORKS["stacked"](2), x, x, **recipe, corrupt=spy)
    assert [len(batch) for batch in seen] == [5, 5, 5, 5, 3]
    order = torch.cat(seen).flatten(1).sum(dim=1).sort().values
    assert torch.equal(order, x.flatten(1).sum(dim=1).sort().values)


def test_rebuilding_and_coding_do_not_depend_on_the_batch():
    x, model = pictures(1003), NETWORKS["convolutional"](4)
    found, codes = reconstruct(model, x), CH["encode"](model, x)
    assert found.shape == x.shape
    assert codes.shape == (1003, 4)
    assert torch.allclose(reconstruct(model, x[:2]), found[:2], atol=1e-5)
    assert torch.allclose(CH["decode"](model, codes[:2]), found[:2], atol=1e-5)
    assert not found.requires_grad


# ----------------------------------------------------------------------- the noise


def test_noise_has_its_strength_and_leaves_the_clean_image_alone():
    x = pictures(50)
    before = x.clone()
    noise = CH["add_noise"](x, 0.5, rng()) - x
    assert torch.equal(x, before)
    assert noise.std() == pytest.approx(0.5, rel=0.02)
    assert abs(noise.mean()) < 0.01
    assert torch.equal(CH["add_noise"](x, 0.5, rng()) - x, noise)


class Spy(nn.Module):
    """A network that remembers what it was given."""

    def forward(self, x):
        self.given = x
        return x


@pytest.mark.parametrize(
    ("name", "noisy"), [("denoising", True), ("forgotten_input", False)]
)
def test_noise_reaches_the_network_but_for_the_mistake(name, noisy):
    spy, x = Spy(), pictures(4)
    loss = CH[name](spy, x, 0.5, rng())
    assert torch.equal(spy.given, x) != noisy
    assert loss == F.mse_loss(spy.given, x), "the target is the clean image"


def test_corruption_reaches_the_network_in_training_and_not_the_target():
    x, model = pictures(16), NETWORKS["stacked"](2)
    still = torch.optim.SGD(model.parameters(), lr=0.0)
    wanted = F.mse_loss(model(torch.zeros_like(x)), x).item()

    def blacken(clean, order):
        return torch.zeros_like(clean)

    steady = torch.optim.lr_scheduler.ConstantLR(still, 1.0)
    found = CH["train_epoch"](model, x, 16, still, steady, rng(), corrupt=blacken)
    assert found == pytest.approx(wanted, rel=1e-5)


def test_dropout_drops_half_and_leaves_the_rest():
    x = pictures(50) * 0.9 + 0.1  # nothing is zero before
    dropped = CH["drop_pixels"](x, rng())
    kept = dropped != 0
    assert torch.equal(dropped[kept], x[kept])
    assert kept.float().mean() == pytest.approx(0.5, abs=0.01)


def test_psnr_of_known_cases():
    black = torch.zeros(3, 1, 28, 28)
    assert CH["psnr"](black, black + 0.1) == pytest.approx(20, abs=1e-4)
    assert CH["psnr"](black, black + 0.5) == pytest.approx(6.0206, abs=1e-3)
    assert CH["psnr"](black, black) == math.inf


@pytest.mark.parametrize("name", ["gaussian", "median"])
def test_filters_work_on_each_image_alone(name):
    x = pictures(3)
    smooth = CH[name]
    assert torch.allclose(smooth(x, 3)[1:2], smooth(x[1:2], 3))
    assert smooth(torch.rand(3, 1, 28, 28), 3).std() < 0.2
    assert torch.equal(CH["median"](x, 1), x)


@given(st.floats(0.1, 2.0), st.integers(0, 1000))
def test_no_other_linear_weights_beat_the_wiener_filter(level, seed):
    x = pictures(120, seed)
    mean, values, vectors = CH["pca"](x)
    CH.update(mean=mean, values=values, vectors=vectors)
    z = (x.flatten(1) - mean) @ vectors

    def expected(w):  # error of shrinking by w, over all noise
        return ((1 - w).square() * z.square()).sum(
            1
        ).mean() + level**2 * w.square().sum()

    best = values / (values + level**2)
    for other in (best * 0.9, (best * 1.1).clamp(max=1), torch.ones_like(best)):
        assert expected(best) <= expected(other) * (1 + 1e-5)
    shrunk = (CH["wiener"](x, level).flatten(1) - mean) @ vectors
    assert torch.allclose(shrunk, z * best, atol=1e-3)


def test_noise_for_training_has_every_strength_in_the_range():
    x = torch.zeros(300, 1, 28, 28)
    level = CH["spoil"](x, rng()).std(dim=(1, 2, 3))
    assert 0.08 < level.min() < 0.15
    assert 0.95 < level.max() < 1.1


def test_paired_interval_is_that_of_scipy():
    first, second = np.random.default_rng(0).random((2, 5))
    middle, half = CH["paired"](first, second)
    low, high = ttest_rel(first, second).confidence_interval(0.95)
    assert (middle - half, middle + half) == pytest.approx((low, high))


def test_a_tied_network_shares_its_matrices():
    tied, plain = CH["TiedAutoencoder"](10), NETWORKS["stacked"](10)
    assert tied(pictures(2)).shape == (2, 1, 28, 28)
    count = [sum(p.numel() for p in m.parameters()) for m in (tied, plain)]
    matrices = 784 * 128 + 128 * 32 + 32 * 10
    assert count[1] - count[0] == matrices
