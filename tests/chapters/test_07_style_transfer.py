"""The definitions of chapter 7, lifted out of it: losses, closures, L-BFGS, painter."""

import warnings
from types import SimpleNamespace

import lift
import numpy as np
import pytest
import torch
from game_checks import rng, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.profiler import ProfilerActivity, profile

from genlab_helpers import networks

CH = lift.definitions("07_style_transfer")
CPU = torch.device("cpu")
CFG = SimpleNamespace(style_weight=7.0, tv_weight=0.3, crop=32, layers="first five")
CFG.deepest, CFG.painter_steps = "conv3_1", 30
CH["cfg"], CH["device"] = CFG, CPU
CONTENT, STYLE = CH["LAYERS"]["first five"]
gram, look, paint, aim = (
    CH[name] for name in ("gram", "look", "paint", "transfer_loss")
)


def vgg(widths=(4, 4, 4), seed=0):
    """Layers named as those of VGG19, up to conv3_1, frozen; channels of each block."""
    torch.manual_seed(seed)
    net, inputs = nn.Sequential(), 3
    for name in networks.VGG_LAYERS[:11]:
        if name.startswith("conv"):
            outputs = widths[int(name[4]) - 1]
            layer, inputs = nn.Conv2d(inputs, outputs, 3, padding=1), outputs
        else:
            layer = nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2)
        net.add_module(name, layer)
    return net.requires_grad_(False)


def picture(seed, side=32):
    return torch.rand(1, 3, side, side, generator=rng(seed))


NET = CH["layers"] = vgg()
X, P = picture(1), picture(2)
GRAMS = CH["grams_of"](P, STYLE)
shapes = st.tuples(*(st.integers(1, 4) for _ in range(4)))


def features(shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


# ---------------------------------------------------------------------- Gram matrices


@given(shapes)
@settings(max_examples=30)
def test_a_gram_matrix_is_that_of_the_loops_and_forgets_places(shape):
    f = features(shape)
    loops = torch.stack([CH["naive_gram"](each) for each in f]).double()
    assert torch.allclose(gram(f), loops, atol=1e-6)
    shuffled = CH["shuffled"](f)
    assert torch.allclose(gram(shuffled), gram(f))
    order = shuffled.flatten(2).sort(dim=2).values
    assert torch.equal(order, f.flatten(2).sort(dim=2).values)  # the same numbers


def test_the_gram_matrix_by_hand():
    f = torch.tensor([[[[1.0, 0], [0, 1]], [[2, 0], [0, 0]], [[0, 1], [1, 0]]]])
    wanted = torch.tensor([[0.5, 0.5, 0.0], [0.5, 1.0, 0.0], [0.0, 0.0, 0.5]])
    assert torch.equal(gram(f)[0], wanted)
    assert torch.allclose(CH["gram_of_source"](f), wanted / 3)  # by channels as well
    assert not torch.equal(CH["shuffled"](f), f)  # the same numbers elsewhere


# ----------------------------------------------------------------- features and losses


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="conv9_9"):
        look(X, ["conv1_1", "conv9_9"])


def test_the_sets_of_layers_name_layers_of_vgg19():
    for content, style in CH["LAYERS"].values():
        assert {*content, *style} <= {*networks.VGG_LAYERS}


def test_checkpointed_looks_see_the_same():
    seen, again = (see(X, STYLE) for see in (look, CH["look_again"]))
    assert all(torch.allclose(again[name], f, atol=1e-6) for name, f in seen.items())


def reference_loss(x):
    """The whole loss, written out layer by layer and number by number."""
    mean, std = torch.tensor([networks.MEAN, networks.STD]).view(2, 1, 3, 1, 1)

    def all_features(x):
        outputs, x = {}, (x - mean) / std
        for name, layer in NET.named_children():
            outputs[name] = x = layer(x)
        return outputs

    of_x, of_photo, of_painting = (all_features(v) for v in (x, X, P))
    content = 0.0
    for name in CONTENT:
        wrong = ((of_x[name] - of_photo[name]) ** 2).sum()
        content += wrong / (of_photo[name] ** 2).sum() / len(CONTENT)
    style = 0.0
    for name in STYLE:
        grams = [
            torch.einsum("ihw,jhw->ij", f[name][0], f[name][0]) / f[name][0, 0].numel()
            for f in (of_x, of_painting)
        ]
        wrong = ((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()
        style += wrong / len(STYLE)
    down, across = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    tv = (down**2).mean() + (across**2).mean()
    return content + CFG.style_weight * style + CFG.tv_weight * tv


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_and_its_gradient_are_those_of_the_reference(seed):
    x = picture(10 + seed).requires_grad_()
    values = [
        loss(x) for loss in (aim(X, P), aim(X, None, grams=GRAMS), reference_loss)
    ]
    slopes = [torch.autograd.grad(value, x)[0] for value in values]
    for value, slope in zip(values[1:], slopes[1:], strict=True):
        assert value.item() == pytest.approx(values[0].item(), rel=1e-5)
        assert CH["relative_error"](slope, slopes[0]) < 1e-8


def test_a_batch_is_compared_with_one_gram_matrix():
    f, wanted = features((4, 3, 5, 5)), gram(features((1, 3, 5, 5), 1))
    each = [CH["style_loss"]({"a": one[None]}, {"a": wanted}).item() for one in f]
    together = CH["style_loss"]({"a": f}, {"a": wanted}).item()
    assert together == pytest.approx(np.mean(each))


def test_the_gradient_goes_to_the_picture_and_to_nothing_else():
    x = picture(3).requires_grad_()
    aim(X.clone().requires_grad_(), P)(x).backward()
    assert x.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in NET.parameters())
    assert not any(g.requires_grad for g in CH["grams_of"](x, STYLE).values())


# -------------------------------------------------------------------------- optimiser


def test_weights_of_frequencies_are_powers_and_the_highest_has_weight_1():
    assert torch.equal(CH["frequency_weights"](6, 8, 0.0), torch.ones(6, 5))
    found = CH["frequency_weights"](32, 32, 0.5)
    assert found.shape == (32, 17)
    assert found[16, 16] == pytest.approx(1)
    assert found[0, 8] == pytest.approx(2**0.5 * found[0, 16])  # half the frequency
    assert found[0, 0] == found[0, 4]  # the lowest are not favoured without end


@pytest.mark.parametrize(
    "options",
    [{}, {"power": 0.0}, {"rate": 0.02}, {"search": None}, {"power": 0.0, "clamp": 1}],
)
def test_painting_lowers_the_loss_and_keeps_count(options):
    loss_of, start = aim(X, P), picture(4)
    best, log = paint(loss_of, start, 12, **options)
    assert len(log["loss"]) == len(log["seconds"]) == 12
    assert min(log["loss"]) < log["loss"][0]
    assert loss_of(best) < loss_of(start)
    assert not best.requires_grad
    assert 0 <= best.min() <= best.max() <= 1


class InPlaceOfLBFGS(torch.optim.SGD):
    """Takes a plain step and notes what the closure has told it."""

    def __init__(self, params, **_):
        super().__init__(params, lr=1e-3)

    def step(self, closure):
        q = self.param_groups[0]["params"][0]
        q.data += 2  # out of bounds
        loss = closure()
        SEEN.append((loss.item(), q.detach().clone()))
        super().step()


SEEN: list[tuple[float, torch.Tensor]] = []


def test_the_closure_returns_and_clamps_what_it_is_told_to(monkeypatch):
    monkeypatch.setattr(torch.optim, "LBFGS", InPlaceOfLBFGS)
    loss_of = aim(X, P)
    for clamp in (False, True):
        for told in (None, lambda x: x.sum()):
            SEEN.clear()
            paint(loss_of, X, 1, power=0.0, bound=3.0, clamp=clamp, told=told)
            returned, q = SEEN[0]
            outside = (X + q - (X + q).clamp(0, 1)).square().mean()
            true = (loss_of(X + q) + 3 * outside).item()
            assert (returned == pytest.approx(true, rel=1e-4)) == (told is None)
            assert ((X + q).max() <= 1 + 1e-6) == clamp


def test_without_line_search_the_returned_number_moves_nothing():
    loss_of = aim(X, P)
    ends = [
        paint(loss_of, X, 8, search=None, told=told)[0]
        for told in (None, lambda x: x.sum())
    ]
    assert torch.equal(*ends)


def test_an_optimiser_that_stops_by_itself_is_asked_again_and_ends():
    x, log = paint(lambda x: (0 * x).sum(), X, 5)
    assert torch.allclose(x, X, atol=1e-6)
    assert len(log["loss"]) == 5


@given(st.integers(1, 6), st.integers(0, 99))
def test_two_loops_equal_the_matrix_of_bfgs(pairs, seed):
    generator = rng(seed)
    square = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    hessian = square @ square.T + torch.eye(4)
    steps = list(torch.randn(pairs, 4, generator=generator, dtype=torch.float64))
    changes = [hessian @ s for s in steps]
    s, y = steps[-1], changes[-1]
    inverse = (s @ y) / (y @ y) * torch.eye(4, dtype=torch.float64)
    for s, y in zip(steps, changes, strict=True):
        rho = 1 / (s @ y)
        left = torch.eye(4) - rho * torch.outer(s, y)
        inverse = left @ inverse @ left.T + rho * torch.outer(s, s)
    gradient = torch.randn(4, generator=generator, dtype=torch.float64)
    found = CH["newton_like"](gradient, steps, changes)
    assert torch.allclose(found, inverse @ gradient, rtol=1e-6)
    last = CH["newton_like"](changes[-1], steps, changes)
    assert torch.allclose(last, steps[-1], rtol=1e-6)  # the secant equation


def test_loss_and_gradient_are_those_of_the_picture():
    x = picture(5).requires_grad_()
    (slope,) = torch.autograd.grad(reference_loss(x), x)
    row = x.detach().double().numpy().ravel()
    value, found = CH["loss_and_gradient"](row, aim(X, P), X)
    assert value == pytest.approx(reference_loss(x).item(), rel=1e-5)
    assert np.allclose(found, slope.numpy().ravel(), atol=1e-6)


# ------------------------------------------------------------------- pictures and scale


def test_scaled_pictures_keep_shape_and_range_and_coarse_to_fine_ends_at_full_side():
    photo, painting = (
        SimpleNamespace(x=torch.rand(1, 3, 40, 60, generator=rng(k))) for k in (0, 1)
    )
    small = CH["scaled"](photo, 48)
    assert small.shape == (1, 3, 32, 48)
    assert 0 <= small.min() <= small.max() <= 1
    x, logs = CH["coarse_to_fine"](photo, painting, (33, 48), (3, 5))
    assert x.shape == (1, 3, 32, 48)
    assert [len(log["loss"]) for log in logs] == [3, 5]


def test_luminance_has_equal_colours_and_keeps_grey():
    x = CH["luminance"](picture(0))
    assert torch.equal(x[:, 0], x[:, 2])
    assert torch.allclose(CH["luminance"](x), x, atol=1e-6)


def test_random_filters_are_orthogonal_and_leave_the_network_alone():
    before = weights(NET)
    fresh = CH["random_like"](vgg((32, 4, 4)))
    w = fresh.conv1_1.weight.flatten(1)  # (32, 27)
    assert torch.allclose(w.T @ w, 2 * torch.eye(27), atol=1e-5)
    assert all((layer.bias == 0).all() for layer in fresh if hasattr(layer, "bias"))
    assert torch.equal(weights(NET), before)


def test_what_autograd_keeps_is_at_most_what_the_allocator_sees():
    x = picture(0, side=128)
    loss_of = aim(x, picture(1, side=128))
    kept = CH["bytes_kept"](loss_of, x)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own, about other devices
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True
        ) as profiled:
            CH["evaluate"](loss_of, x)
    events = profiled.profiler.kineto_results.events()
    changes = [e for e in events if e.name() == "[memory]"]
    changes.sort(key=lambda e: e.start_ns())
    peak = max(np.cumsum([e.nbytes() for e in changes]))
    assert 0.5 * peak < kept <= peak


# --------------------------------------------------------------------------- one pass


@pytest.mark.parametrize("side", [32, 48])
def test_the_painter_keeps_shape_and_range(side):
    torch.manual_seed(0)
    x = CH["painter"](4)(picture(0, side).repeat(2, 1, 1, 1))
    assert x.shape == (2, 3, side, side)
    assert 0 <= x.min() <= x.max() <= 1


def test_pieces_are_cut_out_of_the_photographs():
    photos = [
        torch.arange(3 * 40 * 50.0).view(1, 3, 40, 50) + 10_000 * k for k in (0, 1)
    ]
    cut = CH["pieces"](photos, 32, 20, rng())
    assert cut.shape == (20, 3, 32, 32)
    for piece in cut:
        row = int(piece[0, 0, 0] // 10_000)
        top, left = divmod(int(piece[0, 0, 0] % 10_000), 50)
        wanted = photos[row][0, :, top : top + 32, left : left + 32]
        assert torch.equal(piece, wanted)


def test_a_painter_learns_and_the_network_that_looks_does_not(monkeypatch):
    monkeypatch.setitem(CH, "rng", rng())
    torch.manual_seed(0)
    before, loss_of = weights(NET), aim(X, None, grams=GRAMS)
    net = CH["painter"](16)
    untrained = loss_of(net(X))
    net.load_state_dict(CH["trained"]([X], GRAMS)["weights"])
    assert loss_of(net(X)) < untrained
    assert torch.equal(weights(NET), before)


def test_moments_are_mean_and_deviation():
    f = features((1, 3, 4, 5))
    found = CH["moments"](f)
    assert torch.allclose(found[0, 0], f[0].mean(dim=(1, 2)))
    assert torch.allclose(found[1, 0], f[0].std(dim=(1, 2)))


def test_the_mask_keeps_the_right_half():
    f = features((1, 2, 3, 6))
    assert torch.equal(CH["right_half"]({"a": f})["a"], f[..., 3:])
