"""The definitions of chapter 7, lifted out of it: losses, closures, bounds, memory."""

import inspect
import warnings
from types import SimpleNamespace

import lift
import numpy as np
import pytest
import torch
from game_checks import Clock, rng, weights
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.profiler import ProfilerActivity, profile

from genlab_helpers import networks

CH = lift.definitions("07_style_transfer")
CPU = torch.device("cpu")
CFG = SimpleNamespace(style_weight=7.0, tv_weight=0.3, memory=5, spectral=0.5, crop=32)
CH["cfg"], CH["device"] = CFG, CPU
FIVE = CH["LAYERS"]["first five"]
gram, look, paint, goal = (CH[name] for name in ("gram", "look", "paint", "goal"))


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


NET = vgg()
X, P = picture(1), picture(2)
AIMS = CH["targets"](NET, X, P, FIVE)
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
    assert not torch.equal(CH["shuffled"](f), f)  # the same numbers elsewhere


# --------------------------------------------------------------------------- features


def test_a_layer_that_is_not_there_is_named():
    with pytest.raises(KeyError, match="conv9_9"):
        look(NET, X, ["conv1_1", "conv9_9"])


def test_the_sets_of_layers_name_layers_of_vgg19():
    for content, style in CH["LAYERS"].values():
        assert {*content, *style} <= {*networks.VGG_LAYERS}


def test_checkpointed_and_half_precision_looks_see_the_same():
    wanted = look(NET, X, FIVE[0] + FIVE[1])
    again = CH["look_again"](NET, X.clone().requires_grad_(), FIVE[0] + FIVE[1])
    half = CH["look_half"](NET, X, FIVE[0] + FIVE[1])
    assert {*again} == {*half} == {*wanted}
    for name, f in wanted.items():
        assert torch.allclose(again[name], f, atol=1e-6)
        assert half[name].dtype == torch.float32
        assert CH["relative_error"](half[name], f) < 1e-3
    slopes = []
    for way in (look, CH["look_again"]):
        x = picture(3).requires_grad_()
        slopes.append(torch.autograd.grad(goal(NET, *AIMS, look=way)(x), x)[0])
    assert torch.allclose(*slopes, atol=1e-6)


# ----------------------------------------------------------------------------- losses


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
    for name in FIVE[0]:
        wrong = ((of_x[name] - of_photo[name]) ** 2).sum()
        content += wrong / (of_photo[name] ** 2).sum() / len(FIVE[0])
    style = 0.0
    for name in FIVE[1]:
        grams = [
            torch.einsum("ihw,jhw->ij", f[name][0], f[name][0]) / f[name][0, 0].numel()
            for f in (of_x, of_painting)
        ]
        wrong = ((grams[0] - grams[1]) ** 2).sum() / (grams[1] ** 2).sum()
        style += wrong / len(FIVE[1])
    down, across = x[:, :, 1:] - x[:, :, :-1], x[..., 1:] - x[..., :-1]
    tv = (down**2).mean() + (across**2).mean()
    return content + CFG.style_weight * style + CFG.tv_weight * tv


@pytest.mark.parametrize("seed", range(3))
def test_the_loss_is_that_of_the_reference_and_of_the_probes(seed):
    x = picture(10 + seed).requires_grad_()
    losses = [goal(NET, *AIMS), CH["probed"](NET, *AIMS), reference_loss]
    values = [loss(x) for loss in losses]
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
    goal(NET, *AIMS)(x).backward()
    assert x.grad.abs().sum() > 0
    assert all(weight.grad is None for weight in NET.parameters())
    aims = CH["targets"](NET, x, x, FIVE)
    assert not any(v.requires_grad for part in aims for v in part.values())


def test_only_unfrozen_probes_collect_gradients_for_weights():
    for frozen in (False, True):
        loss_of = CH["probed"](NET, *AIMS, frozen=frozen)
        loss_of(picture(3).requires_grad_()).backward()
        net = inspect.getclosurevars(loss_of).nonlocals["net"]
        found = [weight.grad is not None for weight in net.parameters()]
        assert found == [not frozen] * len(found)


# -------------------------------------------------------------------------- optimiser


@given(st.floats(0, 1), st.integers(0, 99))
@settings(max_examples=30)
def test_free_numbers_never_leave_0_1_and_begin_at_the_start(power, seed):
    start = picture(seed)
    q, to_picture = CH["free_numbers"](start, power)
    assert torch.allclose(to_picture(q), start.clamp(0.01, 0.99), atol=1e-5)
    wild = to_picture(100 * torch.randn(q.shape, generator=rng(seed)))
    assert wild.min() >= 0
    assert wild.max() <= 1


def test_free_numbers_without_weights_of_frequencies_are_the_cosine():
    start = picture(0)
    q, to_picture = CH["free_numbers"](start, 0.0)
    change = torch.randn(q.shape, generator=rng())
    angle = torch.acos(1 - 2 * start.clamp(0.01, 0.99)) + change
    assert torch.allclose(to_picture(change), (1 - torch.cos(angle)) / 2, atol=1e-5)


def test_broad_changes_are_favoured():
    q, to_picture = CH["free_numbers"](torch.full((1, 3, 32, 32), 0.5), 0.5)
    fine = torch.ones_like(q)
    fine[..., ::2] = -1  # as many cycles a pixel as there can be
    broad = torch.ones_like(q)
    small = 1e-3
    moved = [(to_picture(small * v) - 0.5).abs().mean() for v in (broad, fine)]
    assert moved[0] > 1.5 * moved[1]


@pytest.mark.parametrize("options", [{}, {"power": 0.0}, {"rate": 0.05}])
def test_painting_lowers_the_loss_and_keeps_count(options):
    loss_of, seen = goal(NET, *AIMS), []

    def counted(x):
        seen.append(x.detach())
        return loss_of(x)

    start = picture(4)
    best, history = paint(counted, start, 12, keep=(1, 12), **options)
    assert len(history["loss"]) == len(history["seconds"]) == 12
    assert len(history["frames"]) == 2
    assert min(history["loss"]) < history["loss"][0]
    assert loss_of(best).item() == pytest.approx(min(history["loss"]), rel=1e-5)
    assert not best.requires_grad
    assert all(x.min() >= 0 and x.max() <= 1 for x in seen)


class InPlaceOfLBFGS(torch.optim.SGD):
    def __init__(self, params, **_):
        super().__init__(params, lr=1e-3)


def test_the_closure_returns_the_loss_that_it_back_propagated(monkeypatch):
    told = []

    class Spy(InPlaceOfLBFGS):
        def step(self, closure):
            loss = closure()
            q = self.param_groups[0]["params"][0]
            told.append((loss.item(), q.detach().clone(), q.grad.clone()))
            super().step()

    monkeypatch.setattr(torch.optim, "LBFGS", Spy)
    start, loss_of = picture(4), goal(NET, *AIMS)
    _, history = paint(loss_of, start, 4)
    for loss, at, slope in told:
        q, to_picture = CH["free_numbers"](start, CFG.spectral)
        q.data.copy_(at)
        again = loss_of(to_picture(q))
        again.backward()
        assert loss == pytest.approx(again.item(), rel=1e-6)
        assert torch.allclose(slope, q.grad, atol=1e-6)
    assert [loss for loss, *_ in told] == history["loss"]


def test_the_habits_do_what_they_are_called(monkeypatch):
    told, loss_of = [], goal(NET, *AIMS)

    class Spy(InPlaceOfLBFGS):
        def step(self, closure):
            x = self.param_groups[0]["params"][0]
            x.data += 2  # out of bounds
            loss = closure()
            told.append((loss.item(), loss_of(x.detach()).item(), x.max().item()))

    monkeypatch.setattr(torch.optim, "LBFGS", Spy)
    for clamp in (False, True):
        for other in (None, lambda x: x.sum()):
            told.clear()
            CH["paint_pixels"](loss_of, X, 1, clamp=clamp, other=other)
            returned, true, largest = told[0]
            assert (returned == pytest.approx(true, rel=1e-5)) == (other is None)
            assert (largest <= 1) == clamp


def test_pixels_are_in_bounds_at_the_end_and_evaluations_are_counted():
    for options in ({}, {"clamp": True}, {"search": "strong_wolfe"}):
        x, history = CH["paint_pixels"](goal(NET, *AIMS), X, 10, **options)
        assert x.min() >= 0
        assert x.max() <= 1
        assert len(history["loss"]) == 10


def test_an_optimiser_that_stops_by_itself_is_asked_again_and_ends():
    x, history = CH["paint_pixels"](lambda x: (0 * x).sum(), X, 5)
    assert torch.equal(x, X)
    assert len(history["loss"]) == 5


def test_projection_stays_in_bounds_and_lowers_the_loss():
    loss_of = goal(NET, *AIMS)
    x, history = CH["paint_projected"](loss_of, X, 15)
    assert x.min() >= 0
    assert x.max() <= 1
    assert len(history["loss"]) <= 15
    assert loss_of(x) < loss_of(X)


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


# ----------------------------------------------------------------------------- choices


def test_luminance_has_equal_colours_and_keeps_grey():
    x = CH["luminance"](picture(0))
    assert x.shape == (1, 3, 32, 32)
    assert torch.equal(x[:, 0], x[:, 2])
    assert torch.allclose(CH["luminance"](x), x, atol=1e-6)


def test_kept_colours_are_those_of_the_photograph(monkeypatch):
    monkeypatch.setitem(CH, "p_small", P)
    muted = 0.4 + 0.2 * X  # far from 0 and 1, so that little is clamped
    painted = CH["transferred"](
        muted, names=FIVE, net=NET, n=3, keep_colours=True, style_weight=0.01
    )
    inside = ((painted > 0) & (painted < 1)).all(dim=1)[0]
    assert inside.float().mean() > 0.5

    def tint(x):  # differences between the colours
        return (x - CH["luminance"](x))[0][:, inside]

    assert torch.allclose(tint(painted), tint(muted), atol=1e-5)


def test_random_filters_are_orthogonal_and_leave_the_network_alone():
    before = weights(NET)
    fresh = CH["random_like"](vgg((32, 4, 4)))
    w = fresh.conv1_1.weight.flatten(1)  # (32, 27)
    assert torch.allclose(w.T @ w, 2 * torch.eye(27), atol=1e-5)
    assert all((layer.bias == 0).all() for layer in fresh if hasattr(layer, "bias"))
    assert torch.equal(weights(NET), before)


# -------------------------------------------------------------------- memory and time


def peak_of_allocator(task):
    """The most bytes that the allocator held above those at the start of task()."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the profiler's own, about other devices
        with profile(
            activities=[ProfilerActivity.CPU], profile_memory=True
        ) as profiled:
            task()
    events = profiled.profiler.kineto_results.events()
    changes = [e for e in events if e.name() == "[memory]"]
    changes.sort(key=lambda e: e.start_ns())
    return max(np.cumsum([e.nbytes() for e in changes]))


def test_the_memory_formula_is_what_the_allocator_sees():
    layers = vgg((64, 128, 256))  # VGG19's own
    x = picture(0, side=128)
    loss_of = goal(layers, *CH["targets"](layers, x, picture(1, side=128), FIVE))
    point = x.clone().requires_grad_()
    loss_of(point).backward()
    peak = peak_of_allocator(lambda: loss_of(point).backward())
    assert CH["bytes_needed"](128, 128) == pytest.approx(peak, rel=0.05)


def test_too_much_memory_is_refused_before_it_is_taken():
    CH["check_room"](1000)
    with pytest.raises(MemoryError, match="choose a smaller side"):
        CH["check_room"](10**15)


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
    monkeypatch.setitem(CH, "shallow", NET)
    monkeypatch.setitem(CH, "five", FIVE)
    monkeypatch.setattr(CH["runtime"], "Stopwatch", Clock)
    torch.manual_seed(0)
    net, before = CH["painter"](4), weights(NET)
    losses = CH["learn"](net, [picture(0, 40)], AIMS[1], 30, rng())
    assert len(losses) == 30
    assert np.mean(losses[-5:]) < np.mean(losses[:5])
    assert torch.equal(weights(NET), before)


def test_moments_are_mean_and_deviation():
    f = features((1, 3, 4, 5))
    found = CH["moments"](f)
    assert torch.allclose(found[0, 0], f[0].mean(dim=(1, 2)))
    assert torch.allclose(found[1, 0], f[0].std(dim=(1, 2)))
    wanted = {"a": found}
    assert CH["moment_loss"]({"a": f}, wanted) == 0
    assert CH["moment_loss"]({"a": 2 * f}, wanted) > 0


def test_the_mask_keeps_the_right_half():
    f = features((1, 2, 3, 6))
    assert torch.equal(CH["right_half"]({"a": f})["a"], f[..., 3:])
