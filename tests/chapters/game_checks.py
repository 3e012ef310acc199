"""What the tests of several chapters share; most of all, what every game must do."""

import base64
import copy
import json
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any

import lift
import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def weights(net):
    return torch.cat([part.detach().flatten() for part in net.parameters()])


def equal(one, other) -> bool:
    """Tell whether two nested states are the same, bit for bit."""
    if torch.is_tensor(one):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    return one == other


class Kept:
    """A checkpoint in memory that can break the training off after some saves."""

    def __init__(self, breaks_after=None):
        self.state, self.left = None, breaks_after

    def load(self):
        return copy.deepcopy(self.state)

    def save(self, **state):
        self.state = copy.deepcopy(state)
        if self.left is not None:
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt


class Clock:
    """A stopwatch on which a second passes whenever somebody looks."""

    def __init__(self, device):
        self.read = 0

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    @property
    def seconds(self):
        self.read += 1
        return float(self.read)


# ---------------------------------------------------------------------------- networks


def traced(layers, x):
    """Channels and side after each convolution of a chain of layers; its output."""
    found = []
    for layer in layers:
        x = layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            found.append((x.shape[1], x.shape[-1]))
    return found, x


def count(net, kind):
    return sum(isinstance(module, kind) for module in net.modules())


def widths(net):
    """Inputs of the first linear layer, and outputs of each."""
    layers = [module for module in net.modules() if type(module) is nn.Linear]
    return [layers[0].in_features, *(layer.out_features for layer in layers)]


def convolutions(*kinds, padded=False):
    """Layers of one channel; the transposed ones, if wanted, with output padding."""

    def make(kind, k, s, p, extra):
        more = {"output_padding": extra % s} if padded and "T" in kind.__name__ else {}
        return kind(1, 1, k, s, p, device="meta", **more)

    numbers = (st.integers(1, 8), st.integers(1, 4), st.integers(0, 3))
    return st.builds(make, st.sampled_from(kinds), *numbers, st.integers(0, 3))


def side_is_that_of_torch(wanted, layer, n):
    """Compare what a formula says; 0 and less: there is no such image."""
    if wanted > 0:
        x = torch.empty(1, 1, n, n, device="meta")
        assert layer(x).shape[-2:] == (wanted, wanted)


def exported(stem, name):
    """Read an export of the published run back: name -> float32 tensor."""
    place = lift.NOTEBOOKS.parent / "book" / "_static" / "data" / stem[:2]
    text = (place / f"{name}.js").read_text("utf-8")
    packed = json.loads(text[text.index("= {", text.index("[")) + 2 : -2])
    return {
        key: torch.tensor(
            np.frombuffer(base64.b64decode(part["float16"]), "<f2").astype(np.float32)
        ).view(part["shape"])
        for key, part in packed.items()
    }


def card(stem):
    """Read the measurements of the published run: name -> value."""
    notebook = json.loads((lift.NOTEBOOKS / f"{stem}.ipynb").read_text("utf-8"))
    (found,) = (
        value
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
        for kind, value in output.get("data", {}).items()
        if "genlab" in kind
    )
    return {part["name"]: part["value"] for part in found["measurements"]}


# ------------------------------------------------------------------------------- games


@dataclass(frozen=True)
class Case:
    """A kind of game, and how it is played."""

    make: Callable  # seed -> a new game
    play: Callable  # (game, epochs, checkpoint) -> the game after so many epochs
    x: Any  # x[rows] is what a step gets
    _: KW_ONLY
    rate: float  # of both players
    betas: tuple = (0.5, 0.999)
    low: float = -1.0  # the least value of an image; the largest is 1
    target: float = 1.0  # of real images
    decay: float | None = None  # of the running average of the generator's weights
    images: Callable = lambda batch: batch  # those of a batch
    ask: Callable = lambda game, batch: game.draw_noise(len(batch), game.rng)
    verdict: Callable = lambda game, batch: game.d  # images -> logits


def own_step(case, game, batch, optimizers):
    """Let both players of `game` learn once, written out again; losses (2,)."""

    def learn(net, optimizer, logits_and_targets):
        loss = sum(
            F.binary_cross_entropy_with_logits(a, torch.full_like(a, target))
            for a, target in logits_and_targets
        ) / len(logits_and_targets)
        parts = list(net.parameters())
        for part, slope in zip(parts, torch.autograd.grad(loss, parts), strict=True):
            part.grad = slope  # nothing that was left before counts
        optimizer.step()
        return loss.detach()

    d = case.verdict(game, batch)
    drawn = game.g(case.ask(game, batch)).detach()
    pairs = [(d(case.images(batch)), case.target), (d(drawn), 0.0)]
    d_loss = learn(game.d, optimizers[1], pairs)
    pairs = [(d(game.g(case.ask(game, batch))), 1.0)]
    return torch.stack((d_loss, learn(game.g, optimizers[0], pairs)))


def steps_are_those_written_out_again(case):
    game, own = case.make(), case.make()
    optimizers = [
        torch.optim.Adam(net.parameters(), lr=case.rate, betas=case.betas)
        for net in (own.g, own.d)
    ]
    for optimizer in (game.g_opt, game.d_opt, *optimizers):
        optimizer.param_groups[0]["eps"] = 1e-6  # more than a rounded gradient of 0
    start = {"g": weights(game.g), "d": weights(game.d)}
    for rows in torch.arange(16).split(8):
        state = torch.get_rng_state()
        losses = game.step(case.x[rows])
        torch.set_rng_state(state)
        wanted = own_step(case, own, case.x[rows], optimizers)
        assert torch.allclose(losses, wanted, atol=1e-5)
        assert not losses.requires_grad
        for name in ("g", "d"):
            found, right = (weights(getattr(who, name)) for who in (game, own))
            moved, gap = ((x - right).norm() for x in (start[name], found))
            assert gap < 0.01 * moved, name


def a_step_of_d_leaves_no_gradient_in_g(case):
    game, found = case.make(), []
    clear = game.g_opt.zero_grad

    def look():  # the generator's own step begins with this, after that of D
        found.extend(part.grad for part in game.g.parameters())
        clear()

    game.g_opt.zero_grad = look
    game.step(case.x[torch.arange(8)])
    assert found
    assert all(grad is None for grad in found)


def players_fit_each_other(case):
    game, batch = case.make(), case.x[torch.arange(16)]
    images = game.g(case.ask(game, batch))
    assert images.shape == case.images(batch).shape
    assert case.low <= images.min() < case.low + 1
    assert images.max() <= 1
    assert case.verdict(game, batch)(images).shape == (16, 1)


def the_average_follows_the_weights(case):
    game, wanted = case.make(), None
    for rows in torch.arange(18).split(6):
        game.step(case.x[rows])
        now = weights(game.g)
        part = case.decay if wanted is not None else 0  # it starts at the first
        wanted = now if wanted is None else part * wanted + (1 - part) * now
    assert torch.allclose(weights(game.average.module), wanted, atol=1e-6)
    numbers = [b for b in game.average.module.buffers() if b.is_floating_point()]
    assert all(b.isfinite().all() for b in numbers)


def state(game):
    """All that a game is and has shown, but for the time that it took."""
    parts = {
        k: v.state_dict() for k, v in vars(game).items() if hasattr(v, "state_dict")
    }
    times = ("seconds", "fetching")
    history = {k: v for k, v in game.history.items() if k not in times}
    return parts | {"history": history, "rng": game.rng.get_state()}


def differences(game, other):
    """Name the parts in which two games differ, if only in a bit."""
    one, two = state(game), state(other)
    return [name for name in one if not equal(one[name], two[name])]


def seeds_decide(case):
    same, again, other = (case.play(case.make(s), 1, Kept()) for s in (0, 0, 1))
    assert differences(same, again) == []
    assert {"g", "d", "rng"} <= {*differences(same, other)}
    assert torch.equal(same.fixed, other.fixed)  # all games show the same draws


def a_killed_training_ends_like_an_unbroken_one(case):
    unbroken, kept = case.play(case.make(), 3, Kept()), Kept()
    case.play(case.make(), 1, kept)
    torch.manual_seed(123)  # another session: other random numbers, other weights
    resumed = case.play(case.make(9), 3, kept)
    assert differences(unbroken, resumed) == []
    kept.left = 1  # any further save would raise
    assert differences(case.play(case.make(9), 3, kept), resumed) == []


OF_EVERY_GAME = (
    steps_are_those_written_out_again,
    a_step_of_d_leaves_no_gradient_in_g,
    players_fit_each_other,
    seeds_decide,
    a_killed_training_ends_like_an_unbroken_one,
)
OF_AVERAGED_GAMES = (*OF_EVERY_GAME, the_average_follows_the_weights)
