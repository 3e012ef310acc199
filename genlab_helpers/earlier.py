"""Definitions that no chapter teaches any more and an unrevised one still imports.

Frozen, word for word: chapter 8 ran with this k-means, chapters 5 and 8 with these
networks of chapter 2, chapters 5 and 6 with this game of chapter 3, and chapter 5 with
these players of chapter 4.
"""

import itertools
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from genlab_helpers import runtime


def check_points(x, n_clusters, max_iter, tol):
    """Raise a ValueError that says what is wrong; x should be (N, D), N >= K."""
    if not torch.is_tensor(x) or x.ndim != 2 or not x.is_floating_point():
        raise ValueError("x must be a float tensor of shape (N, D): one row a point")
    if len(x) == 0 or x.shape[1] == 0:
        raise ValueError(f"x is empty, its shape is {tuple(x.shape)}: give some points")
    if not 1 <= n_clusters <= len(x):
        raise ValueError(f"n_clusters must be from 1 to {len(x)}, the number of points")
    if not torch.stack([x.min(), x.max()]).isfinite().all():  # nan spreads to both
        raise ValueError("x holds nan or inf: remove or fill those entries first")
    if max_iter < 1 or not tol >= 0:
        raise ValueError("max_iter must be at least 1 and tol at least 0")


BLOCK = 2**20  # numbers in one working array: bounds the memory


def block_size(width):
    """Return how many points to handle at a time, with `width` numbers for each."""
    return max(1, BLOCK // width)


def squared_gaps(block, centers):
    """Return the squared distance to each centre, less |x|^2: (B, K)."""
    weight, bias = -2 * centers, centers.square().sum(dim=1)
    if block.device.type != "cpu" or block.dtype != torch.float32:
        return torch.addmm(bias, block, weight.T)
    pixels = block[None, :, None].permute(0, 3, 1, 2)  # (1, D, B, 1)
    kernels = weight[:, None, None].permute(0, 3, 1, 2)  # (K, D, 1, 1)
    return F.conv2d(pixels, kernels, bias)[0, :, :, 0].T  # (B, K)


def assign(x, centers):
    """Find the nearest centre of each point, (N,)."""
    blocks = x.split(block_size(len(centers)))
    return torch.cat([squared_gaps(b, centers).argmin(dim=1) for b in blocks])


def own_gaps(x, centers, labels):
    """Return the squared distance of each point to its own centre, (N,)."""
    n = block_size(x.shape[1])
    blocks = zip(x.split(n), labels.split(n), strict=True)
    return torch.cat([(b - centers[own]).square().sum(dim=1) for b, own in blocks])


def total(x, labels, n_clusters):
    """Add up the points of each cluster, (K, D)."""
    return x.new_zeros(n_clusters, x.shape[1]).index_add_(0, labels, x)


def carry(sums, x, old, new):
    """Return the sums after labels changed from `old` to `new`, (K, D)."""
    moved = (old != new).nonzero()[:, 0]
    if len(moved) > len(x) // 8:  # many: adding up again is cheaper
        return total(x, new, len(sums))
    points = x[moved]
    sums = sums.index_add(0, new[moved], points)
    return sums.index_add(0, old[moved], points, alpha=-1)


def update(x, centers, labels, sums):
    """Return the means, (K, D); a centre without points moves to a far point."""
    counts = torch.bincount(labels, minlength=len(centers))  # (K,)
    means = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty) > 0:
        means[empty] = x[own_gaps(x, centers, labels).topk(len(empty)).indices]
    return means


def random_start(x, n_clusters, generator):
    """Draw K different points at random, (K, D)."""
    return x[torch.randperm(len(x), generator=generator)[:n_clusters].to(x.device)]


def plus_plus_start(x, n_clusters, generator):
    """Draw K points, each with probability ~ squared distance to those before."""
    chosen = torch.randint(len(x), (1,), generator=generator).to(x.device)
    nobody = torch.zeros(len(x), dtype=torch.long, device=x.device)
    gaps = own_gaps(x, x[chosen], nobody)
    while len(chosen) < n_clusters:
        weights = gaps.cpu().clamp(min=1e-30)  # still valid if all points coincide
        new = torch.multinomial(weights, 1, generator=generator).to(x.device)
        chosen = torch.cat([chosen, new])
        gaps = torch.minimum(gaps, own_gaps(x, x[new], nobody))
    return x[chosen]


STARTS = {"random": random_start, "k-means++": plus_plus_start}


def start(x, n_clusters, init, generator):
    """Return the first centres, (K, D), by name or from a tensor of that shape."""
    if torch.is_tensor(init):
        if init.shape != (n_clusters, x.shape[1]) or not torch.isfinite(init).all():
            raise ValueError(f"init must be {n_clusters} x {x.shape[1]} finite numbers")
        return init.to(x)
    if init not in STARTS:
        raise ValueError(f"init must be a tensor or one of {', '.join(STARTS)}")
    return STARTS[init](x, n_clusters, generator)


class KMeans(NamedTuple):
    """What one run of k-means found."""

    centers: torch.Tensor  # (K, D)
    labels: torch.Tensor  # (N,)
    inertia: float  # sum of squared distances to the own centre
    n_iter: int  # rounds until it stopped


def kmeans(x, n_clusters, max_iter=300, tol=1e-4, init="k-means++", generator=None):
    """Run Lloyd's algorithm on x (N, D); init: a name or (K, D) centres."""
    check_points(x, n_clusters, max_iter, tol)
    centers = start(x, n_clusters, init, generator)
    middle = x.mean(dim=0)  # near the origin float32 keeps more digits
    x, centers = x - middle, centers - middle
    still = tol * x.norm() ** 2 / x.numel()  # tol times the mean variance
    labels = assign(x, centers)
    sums = total(x, labels, n_clusters)
    for n_iter in range(1, max_iter + 1):
        old_centers, old_labels = centers, labels
        centers = update(x, centers, labels, sums)
        labels = assign(x, centers)
        sums = carry(sums, x, old_labels, labels)
        shift = (centers - old_centers).square().sum()
        if shift <= still or torch.equal(labels, old_labels):
            break
    inertia = own_gaps(x, centers, labels).cpu().double().sum().item()
    return KMeans(centers + middle, labels, inertia, n_iter)


def best_of(n_starts, x, n_clusters, **options):
    """Return the run with the least inertia of several."""
    runs = [kmeans(x, n_clusters, **options) for _ in range(n_starts)]
    return min(runs, key=lambda run: run.inertia)


def check_shape(x):
    """Raise a ValueError that names the remedy unless x is (B, 1, 28, 28) floats."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise ValueError("images must be a float tensor: divide bytes by 255")
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError(f"images must be (B, 1, 28, 28), not {tuple(x.shape)}: resize")


class ConvEncoder(nn.Module):
    """Images (B, 1, 28, 28) in [0, 1] -> codes (B, code_size)."""

    def __init__(self, code_size, final_relu=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),  # (B, 16, 14, 14)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),  # (B, 32, 7, 7)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),  # (B, 64, 5, 5)
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),  # (B, 1600)
            nn.Linear(64 * 5 * 5, code_size),
            nn.ReLU() if final_relu else nn.Identity(),
        )

    def forward(self, x):
        check_shape(x)
        return self.layers(x)


class ConvDecoder(nn.Module):
    """Codes (B, code_size) -> images (B, 1, 28, 28) in [0, 1]."""

    def __init__(self, code_size):
        super().__init__()
        enlarge = dict(stride=2, padding=1, output_padding=1)
        self.layers = nn.Sequential(
            nn.Linear(code_size, 64 * 5 * 5),
            nn.ReLU(),
            nn.Unflatten(1, (64, 5, 5)),
            nn.ConvTranspose2d(64, 32, 3),  # (B, 32, 7, 7)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, **enlarge),  # (B, 16, 14, 14)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, **enlarge),  # (B, 1, 28, 28)
            nn.Sigmoid(),
        )

    def forward(self, z):
        return self.layers(z)


def leaky():
    """Return the activation of most networks here: slope 0.2 below zero."""
    return nn.LeakyReLU(0.2)


class Game:
    """Two players and all that the next step depends on."""

    parts = ("g", "d", "g_opt", "d_opt")

    def __init__(self, g, d, noise, noise_size, rates, betas, seed=0):
        self.g, self.d, self.noise, self.noise_size = g, d, noise, noise_size
        adam = partial(torch.optim.Adam, betas=betas, fused=True)
        self.g_opt = adam(g.parameters(), lr=rates[0])
        self.d_opt = adam(d.parameters(), lr=rates[1])
        self.rng = torch.Generator().manual_seed(seed)
        self.fixed = self.draw_noise(64, torch.Generator().manual_seed(1))
        kinds = ("d_loss", "g_loss", "seconds", "samples", "watched")
        self.history = {kind: [] for kind in kinds}

    def draw_noise(self, n, generator):
        z = self.noise(n, self.noise_size, generator=generator)
        return z.to(next(self.g.parameters()).device)

    def step(self, real):
        """Let both players learn once, from real images (B, 1, 28, 28): losses (2,)."""
        from genlab_helpers.recap import discriminator_step, generator_step

        z = self.draw_noise(len(real), self.rng)
        d_loss = discriminator_step(self.g, self.d, self.d_opt, real, z)
        z = self.draw_noise(len(real), self.rng)
        return torch.stack((d_loss, generator_step(self.g, self.d, self.g_opt, z)))

    def epoch(self, x, batch_size):
        """Play through images x (N, 1, 28, 28) once, in a new order."""
        total = torch.zeros(2, device=x.device)
        for rows in torch.randperm(len(x), generator=self.rng).split(batch_size):
            total += len(rows) * self.step(x[rows.to(x.device)])
        d_loss, g_loss = (total / len(x)).tolist()
        self.history["d_loss"].append(d_loss)
        self.history["g_loss"].append(g_loss)
        self.history["samples"].append(draw(self.g, self.fixed).cpu())

    def state_dict(self):
        parts = {name: getattr(self, name).state_dict() for name in self.parts}
        random = dict(rng=self.rng.get_state(), dropout=torch.get_rng_state())
        return parts | random | dict(history=self.history)

    def load_state_dict(self, state):
        for name in self.parts:
            getattr(self, name).load_state_dict(state[name])
        self.rng.set_state(state["rng"])
        torch.set_rng_state(state["dropout"])
        self.history = state["history"]


@torch.inference_mode()
def draw(generator, z):
    """Images from noise z (N, noise_size), with dropout and the like switched off."""
    generator.eval()
    images = torch.cat([generator(part) for part in z.split(1000)])
    generator.train()
    return images


def play(game, x, epochs, batch_size, checkpoint, watch=None):
    """Play until `epochs` are done, from the checkpoint on if there is one.

    watch: is given the generator after each epoch; what it returns is kept.
    """
    if saved := checkpoint.load():
        game.load_state_dict(saved)
    while len(game.history["seconds"]) < epochs:
        with runtime.Stopwatch(x.device) as stopwatch:
            game.epoch(x, batch_size)
        game.history["seconds"].append(stopwatch.seconds)
        if watch:
            game.history["watched"].append(watch(game.g))
        checkpoint.save(**game.state_dict())
    return game


STEPS = ((3, 1, 0), (3, 2, 0), (3, 2, 0), (2, 2, 1))  # kernel, stride, padding


def conv_generator(noise_size, channels, norm=False):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1], in four steps."""
    widths = (noise_size, 2 * channels, 2 * channels, channels)
    layers = [nn.Unflatten(1, (noise_size, 1, 1))]
    for step, (inputs, outputs) in zip(STEPS[:3], itertools.pairwise(widths)):  # noqa: B905
        layers += [nn.ConvTranspose2d(inputs, outputs, *step)]
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers += [leaky()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 1, *STEPS[3]), nn.Tanh())


def conv_discriminator(channels, dropout=0.0, norm=None):
    """Images (B, 1, 28, 28) -> logits (B, 1), by way of 14, 7 and 4 pixels a side."""
    layers, widths = [], (1, channels, 2 * channels, 2 * channels)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        conv = nn.Conv2d(inputs, outputs, 3 if i == 2 else 4, stride=2, padding=1)
        layers += [spectral_norm(conv) if norm == "spectral" else conv]
        layers += [nn.BatchNorm2d(outputs)] if norm == "batch" and i > 0 else []
        layers += [leaky(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * channels * 16, 1))


def resize_generator(noise_size, channels):
    """As conv_generator, but each enlargement is a resize before a convolution."""
    layers = [
        nn.Unflatten(1, (noise_size, 1, 1)),
        nn.ConvTranspose2d(noise_size, 2 * channels, 3),
    ]  # (B, 2 channels, 3, 3)
    widths = (2 * channels, 2 * channels, channels, 1)
    for side, (inputs, outputs) in zip((7, 14, 28), itertools.pairwise(widths)):  # noqa: B905
        layers += [
            nn.BatchNorm2d(inputs),
            leaky(),
            nn.Upsample(size=side),
            nn.Conv2d(inputs, outputs, 3, padding=1),
        ]
    return nn.Sequential(*layers, nn.Tanh())
