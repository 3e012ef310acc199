"""Definitions that one chapter teaches and a later one uses again, word for word.

Derived, never edited: `make sync` collects what the chapters' cells name in their
metadata (`recap=["name"]`). Above each group stand its chapter and section.
"""

import itertools
import math
import torch
import torch.nn.functional as F
from functools import partial
from genlab_helpers import metrics
from genlab_helpers import runtime
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm


# ---- 03_gan: The smallest game


def bce(logits, target):
    """Mean binary cross-entropy of logits (B, 1) against one target, 1.0 or 0.0."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def discriminator_step(generator, discriminator, optimizer, real, z, loss=bce):
    """Let D learn that real images are 1 and drawn ones 0; return its mean loss."""
    drawn = generator(z).detach()  # the generator must not learn from this
    d_loss = (loss(discriminator(real), 1.0) + loss(discriminator(drawn), 0.0)) / 2
    optimizer.zero_grad()
    d_loss.backward()
    optimizer.step()
    return d_loss.detach()


def generator_step(generator, discriminator, optimizer, z, loss=bce):
    """Let G learn what makes D say 1 to its images; return its loss."""
    g_loss = loss(discriminator(generator(z)), 1.0)
    optimizer.zero_grad()
    g_loss.backward()
    optimizer.step()
    return g_loss.detach()


# ---- 03_gan: Digits


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


def score(images, judged_by, features):
    """Fréchet distance of images (N, 1, 28, 28) to features; shares of classes."""
    distance = metrics.frechet_distance(features, judged_by.features(images))
    counts = torch.bincount(judged_by.classify(images), minlength=10)
    return distance, counts / len(images)


# ---- 03_gan: Clothes


def clothes_generator(noise_size):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1]."""
    layers = []
    for inputs, outputs in itertools.pairwise((noise_size, 256, 512, 1024)):
        layers += [nn.Linear(inputs, outputs), leaky()]
    image = [nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
    return nn.Sequential(*layers, *image)


def clothes_discriminator():
    """Images (B, 1, 28, 28) -> logits (B, 1)."""
    layers = [nn.Flatten()]  # (B, 1, 28, 28) -> (B, 784)
    for inputs, outputs in itertools.pairwise((784, 1024, 512, 256)):
        layers += [nn.Linear(inputs, outputs), leaky(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(256, 1))


# ---- 04_dcgan: A convolution backwards, by hand


STEPS = ((3, 1, 0), (3, 2, 0), (3, 2, 0), (2, 2, 1))  # kernel, stride, padding


# ---- 04_dcgan: The plain recipe


def conv_generator(noise_size, channels, norm=False):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1], in four steps."""
    widths = (noise_size, 2 * channels, 2 * channels, channels)
    layers = [nn.Unflatten(1, (noise_size, 1, 1))]
    for step, (inputs, outputs) in zip(STEPS[:3], itertools.pairwise(widths)):
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


# ---- 04_dcgan: Are the checkerboards gone?


def resize_generator(noise_size, channels):
    """As conv_generator, but each enlargement is a resize before a convolution."""
    layers = [nn.Unflatten(1, (noise_size, 1, 1)),
              nn.ConvTranspose2d(noise_size, 2 * channels, 3)]  # (B, 2 channels, 3, 3)
    widths = (2 * channels, 2 * channels, channels, 1)
    for side, (inputs, outputs) in zip((7, 14, 28), itertools.pairwise(widths)):
        layers += [nn.BatchNorm2d(inputs), leaky(), nn.Upsample(size=side),
                   nn.Conv2d(inputs, outputs, 3, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


# ---- 04_dcgan: Walking through the noise


def arc(z0, z1, t):
    """Points on the arc from z0 (N,) to z1 (N,) at shares t (T,) of the way: (T, N)."""
    cosine = F.cosine_similarity(z0, z1, dim=0).clamp(-1, 1)
    angle, t = cosine.acos(), t[:, None]
    return (((1 - t) * angle).sin() * z0 + (t * angle).sin() * z1) / angle.sin()


# ---- 06_gan_faces: A network that fits


def group(channels):
    """Normalise each image by itself, in groups of 8 channels."""
    return nn.GroupNorm(max(1, channels // 8), channels)


def face_widths(side, channels):
    """Channels at 4, 8, 16, ..., side / 2 pixels; fewer where the picture is larger."""
    if side < 8 or side & (side - 1):
        raise ValueError(f"side must be 8, 16, 32, 64, 128, ..., not {side}")
    doublings = int(math.log2(side / 4))
    return [channels * min(8, 2**i) for i in reversed(range(doublings))]


def face_generator(noise_size, channels, side=64, norm=nn.BatchNorm2d, act=leaky,
                   kernel=4):
    """Noise (B, noise_size) -> images (B, 3, side, side) in [-1, 1]."""
    widths, step = face_widths(side, channels), (kernel, 2, kernel // 2 - 1)
    layers = [nn.Unflatten(1, (noise_size, 1, 1)),
              nn.ConvTranspose2d(noise_size, widths[0], 4)]  # (B, widths[0], 4, 4)
    for inputs, outputs in itertools.pairwise([*widths, 3]):  # each doubles the side
        layers += [norm(inputs), act(), nn.ConvTranspose2d(inputs, outputs, *step)]
    return nn.Sequential(*layers, nn.Tanh())


def face_discriminator(channels, side=64, norm=nn.BatchNorm2d, act=leaky, kernel=4):
    """Images (B, 3, side, side) in [-1, 1] -> logits (B, 1)."""
    widths, step = face_widths(side, channels)[::-1], (kernel, 2, kernel // 2 - 1)
    layers = [nn.Conv2d(3, channels, *step), act()]  # (B, channels, side / 2, ...)
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, *step), norm(outputs), act()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())


# ---- 06_gan_faces: Few faces


def shift(x, rng):
    """Move each image of x (B, C, H, W) by up to an eighth of its side; 0 comes in."""
    way = torch.eye(2, 3).repeat(len(x), 1, 1)  # one 2 x 3 matrix an image
    way[:, :, 2] = (torch.rand(len(x), 2, generator=rng) - 0.5) / 2  # of a width of 2
    with torch.autocast(x.device.type, enabled=False):  # 16 bits would miss pixels
        grid = F.affine_grid(way.to(x.device), x.shape, align_corners=False)
        return F.grid_sample(x.float(), grid, mode="nearest", align_corners=False)


def hide(x, rng):
    """Hide a square of half the side, somewhere in each image of x (B, C, H, W)."""
    side = x.shape[-1]
    middle = side * torch.rand(len(x), 2, 1, generator=rng)
    near = (torch.arange(side) - middle).abs() < side / 4  # (B, 2, side)
    square = near[:, 0, :, None] & near[:, 1, None, :]  # (B, side, side)
    return x * ~square[:, None].to(x.device)


def augment(x, rng):
    """Brighten, move and hide parts of each image x (B, C, H, W), differentiably."""
    light = torch.rand(len(x), 1, 1, 1, generator=rng).to(x) - 0.5
    return hide(shift(x + light, rng), rng)


from genlab_helpers.earlier import check_points, BLOCK, block_size, squared_gaps, assign, own_gaps, total, carry, update, random_start, plus_plus_start, STARTS, start, KMeans, kmeans, best_of, check_shape, ConvEncoder, ConvDecoder  # noqa: E402, F401
