"""Definitions that one chapter teaches and a later one uses again, word for word.

Derived, never edited: `make sync` collects what the chapters' cells name in their
metadata (`recap=["name"]`). Above each group stand its chapter and section.
"""

import itertools
import math
import numpy as np
import torch
import torch.nn.functional as F
from functools import partial
from scipy.stats import t as student
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import TensorDataset
from genlab_helpers.earlier import check_points, BLOCK, block_size, squared_gaps, assign, own_gaps, total, carry, update, random_start, plus_plus_start, STARTS, start, KMeans, kmeans, best_of, check_shape, ConvEncoder, ConvDecoder  # noqa: F401


# ---- 02_autoencoders: Convolutional: look at neighbourhoods


def paired(first, second):
    """Mean of the differences of paired results, and half of its 95 % t-interval."""
    gaps = np.subtract(first, second)
    scale = student.ppf(0.975, len(gaps) - 1) / math.sqrt(len(gaps))
    return gaps.mean(), scale * gaps.std(ddof=1)


# ---- 03_gan: The game on one number


def bce(logits, target):
    """Mean binary cross-entropy of logits (B, 1) against one target, 1.0 or 0.0."""
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, target))


def discriminator_step(g, d, optimizer, real, z, loss=bce, extra=0.0):
    """Let D learn that real images are 1 and fakes 0; return its mean loss."""
    fake = g(z).detach()  # the generator must not learn from this
    d_loss = (loss(d(real), 1.0) + loss(d(fake), 0.0)) / 2
    optimizer.zero_grad()
    (d_loss + extra).backward()
    optimizer.step()
    return d_loss.detach()


def generator_step(g, d, optimizer, z, loss=bce):
    """Let G learn what makes D say 1 to its images; return its loss."""
    g_loss = loss(d(g(z)), 1.0)
    optimizer.zero_grad()
    g_loss.backward()
    optimizer.step()
    return g_loss.detach()


# ---- 03_gan: Digits: the naive network


def steepness(d, real):
    """Mean squared length of the gradient of D's logit at real images."""
    real = real.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
    return slopes.square().sum(dim=(1, 2, 3)).mean()


def recent(average, current, step, decay):
    """Mean over about the last tenth of all steps, at most the last 1 / (1 - decay)."""
    return average + (10 / (step + 10)).clamp(min=1 - decay) * (current - average)


class GAN:
    """Two players and all that the next step depends on."""

    def __init__(self, g, d, noise_size, noise=torch.randn, rates=(1e-3, 1e-3),
                 betas=(0.5, 0.999), penalty=0.0, decay=0.999, seed=0):
        self.g, self.d, self.penalty = g, d, penalty
        self.noise_size, self.noise = noise_size, noise
        self.g_opt, self.d_opt = (
            torch.optim.Adam(net.parameters(), lr=rate, betas=betas, fused=True)
            for net, rate in zip((g, d), rates))
        average = partial(recent, decay=decay)
        self.average = AveragedModel(g, avg_fn=average, use_buffers=True)
        self.rng = torch.Generator().manual_seed(seed)
        self.fixed = self.draw_noise(64, torch.Generator().manual_seed(1))
        self.history = {"d_loss": [], "g_loss": [], "samples": [], "watched": []}

    def draw_noise(self, n, generator):
        z = self.noise(n, self.noise_size, generator=generator)
        return z.to(next(self.g.parameters()).device)

    def step(self, real):
        """Let both players learn once, from real images (B, 1, 28, 28): losses (2,)."""
        z, extra = self.draw_noise(len(real), self.rng), 0.0
        if self.penalty and self.average.n_averaged % 4 == 0:
            extra = self.penalty * steepness(self.d, real)
        d_loss = discriminator_step(self.g, self.d, self.d_opt, real, z, extra=extra)
        z = self.draw_noise(len(real), self.rng)
        g_loss = generator_step(self.g, self.d, self.g_opt, z)
        self.average.update_parameters(self.g)
        return torch.stack((d_loss, g_loss))


def state_of(game):
    """All that the next step of a game depends on, as plain tensors and numbers."""
    parts = ("g", "d", "g_opt", "d_opt", "average")
    cuda = torch.cuda.get_rng_state() if torch.cuda.is_available() else torch.empty(0)
    random = dict(rng=game.rng.get_state(), cpu=torch.get_rng_state(), cuda=cuda)
    states = {name: getattr(game, name).state_dict() for name in parts}
    return states | dict(random=random, history=game.history)


def restore(game, state):
    """Put a game back into a state."""
    for name in ("g", "d", "g_opt", "d_opt", "average"):
        getattr(game, name).load_state_dict(state[name])
    game.rng.set_state(state["random"]["rng"])
    torch.set_rng_state(state["random"]["cpu"])
    if torch.cuda.is_available() and len(state["random"]["cuda"]):
        torch.cuda.set_rng_state(state["random"]["cuda"])
    game.history = state["history"]


@torch.inference_mode()
def generate(net, z):
    """Images (N, 1, 28, 28) from noise z, on the CPU, in blocks and in eval mode."""
    net.eval()
    images = torch.cat([net(part).cpu() for part in z.split(1000)])
    net.train()
    return images


def train_gan(game, x, epochs, batch_size, checkpoint, watch=None):
    """Train on images x until `epochs` are done, from a checkpoint if there is one."""
    if saved := checkpoint.load():
        restore(game, saved)
    for epoch in range(len(game.history["d_loss"]) + 1, epochs + 1):
        batches = torch.randperm(len(x), generator=game.rng).split(batch_size)
        losses = [game.step(x[rows.to(x.device)]) for rows in batches if len(rows) > 1]
        d_loss, g_loss = torch.stack(losses).mean(dim=0).tolist()
        game.history["d_loss"].append(d_loss)
        game.history["g_loss"].append(g_loss)
        game.history["samples"].append(generate(game.average, game.fixed))
        if watch:
            game.history["watched"].append(watch(game, epoch))
        checkpoint.save(epoch=epoch, **state_of(game))
    return game


# ---- 04_dcgan: The two players


def enlarging(inputs, outputs, how):
    """Layers that double the sides: (B, inputs, H, W) -> (B, outputs, 2 H, 2 W)."""
    if how == "resize":
        conv = nn.Conv2d(inputs, outputs, 3, padding=1)
        return [nn.Upsample(scale_factor=2), conv]
    if how == "kernel 4":
        return [nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)]
    return [nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, output_padding=1)]


def make_generator(noise_size, channels, enlarge="resize", norm=True):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1]."""
    def finish(width):
        return [*([nn.BatchNorm2d(width)] if norm else []), nn.LeakyReLU(0.2)]

    coarse, middle = 4 * channels, 2 * channels
    return nn.Sequential(
        nn.Linear(noise_size, coarse * 49), nn.Unflatten(1, (coarse, 7, 7)),
        *finish(coarse), *enlarging(coarse, middle, enlarge),  # (B, middle, 14, 14)
        *finish(middle), *enlarging(middle, channels, enlarge),  # (B, channels, 28, 28)
        *finish(channels), nn.Conv2d(channels, 1, 3, padding=1), nn.Tanh())


def make_discriminator(channels, hold=None):
    """Images (B, 1, 28, 28) -> logits (B, 1). hold: dropout, batch or spectral norm."""
    layers, widths = [], (1, channels, 2 * channels, 4 * channels)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        conv = nn.Conv2d(inputs, outputs, 3 if i == 2 else 4, stride=2, padding=1)
        layers.append(spectral_norm(conv) if hold == "spectral" else conv)
        if hold == "batch" and i > 0:
            layers.append(nn.BatchNorm2d(outputs))
        layers.append(nn.LeakyReLU(0.2))
        if hold == "dropout":
            layers.append(nn.Dropout(0.5))
    last = nn.Linear(4 * channels * 16, 1)  # of 4 x 4 cells
    last = spectral_norm(last) if hold == "spectral" else last
    return nn.Sequential(*layers, nn.Flatten(), last)


# ---- 04_dcgan: Train it


class ConvGAN(GAN):
    """The game of chapter 3 with rates that fall at the end of `n_steps`."""

    def __init__(self, g, d, *sizes, n_steps, rate=1e-3, **options):
        g, d = (net.to(memory_format=torch.channels_last) for net in (g, d))
        super().__init__(g, d, *sizes, rates=(rate, rate), **options)
        self.n_steps, self.rate = n_steps, rate
        self.history["steps"] = []

    def set_rates(self):
        """Give both players the rate of this step."""
        left = 1 - self.average.n_averaged.item() / self.n_steps  # of the whole game
        for optimizer in (self.g_opt, self.d_opt):
            optimizer.param_groups[0]["lr"] = self.rate * min(1.0, left / 0.3)

    def keep(self, losses):
        """Write the losses of every tenth step into the history."""
        if self.average.n_averaged.item() % 10 == 1:
            self.history["steps"].append(losses.tolist())
        return losses

    def step(self, real):
        self.set_rates()
        return self.keep(super().step(real))


# ---- 04_dcgan: Walking through the noise


def arc(z0, z1, t):
    """Points on the arc from z0 (N,) to z1 (N,) at shares t (T,) of the way: (T, N)."""
    cosine = F.cosine_similarity(z0, z1, dim=0).clamp(-1, 1)
    angle, t = cosine.acos(), t[:, None]
    return (((1 - t) * angle).sin() * z0 + (t * angle).sin() * z1) / angle.sin()


# ---- 05_cgan: A label for both players


class Labelled(TensorDataset):
    """Images (N, 1, 28, 28) and one-hot labels (N, 10); [rows] gives both."""

    @property
    def device(self):
        return self.tensors[0].device


# ---- 05_cgan: The players


def with_label(z, labels):
    """Noise (N, noise_size) and one-hot labels (N, 10) -> (N, noise_size + 10)."""
    if z.ndim != 2 or labels.shape != (len(z), 10):
        raise ValueError(f"noise {tuple(z.shape)} and labels {tuple(labels.shape)} do"
                         " not fit: use (N, noise_size) and (N, 10)")
    return torch.cat((z, labels.to(z.device)), dim=1)


# ---- 05_cgan: The step


class ConditionalGAN(ConvGAN):
    """The game of chapter 4 in which every image, real or fake, has a label."""

    def noise_for(self, labels):
        return with_label(self.draw_noise(len(labels), self.rng), labels)

    def labels_of_fakes(self, labels):
        return labels  # those of the real images

    def step(self, batch):
        """Let both players learn once, from images and one-hot labels: losses (2,)."""
        real, labels = batch
        asked = self.labels_of_fakes(labels)
        self.set_rates()
        fake = self.g(self.noise_for(asked)).detach()
        d_loss = (bce(self.d(real, labels), 1.0) + bce(self.d(fake, asked), 0.0)) / 2
        extra = 0.0
        if self.penalty and self.average.n_averaged % 4 == 0:
            extra = self.penalty * steepness(lambda x: self.d(x, labels), real)
        self.d_opt.zero_grad()
        (d_loss + extra).backward()
        self.d_opt.step()

        g_loss = bce(self.d(self.g(self.noise_for(asked)), asked), 1.0)
        self.g_opt.zero_grad()
        g_loss.backward()
        self.g_opt.step()
        self.average.update_parameters(self.g)
        return self.keep(torch.stack((d_loss, g_loss)).detach())


# ---- 06_gan_faces: Two players


LEAKY = partial(nn.LeakyReLU, 0.2)


def group(channels):
    """Normalise each image by itself, in groups of 8 channels."""
    return nn.GroupNorm(max(1, channels // 8), channels)


def face_widths(side, channels):
    """Channels at 4, 8, 16, ..., side / 2 pixels; fewer where the picture is larger."""
    if side < 8 or side & (side - 1):
        raise ValueError(f"side must be 8, 16, 32, 64, 128, ..., not {side}")
    doublings = int(math.log2(side / 4))
    return [channels * min(8, 2**i) for i in reversed(range(doublings))]


def face_generator(noise_size, channels, side=64, norm=nn.BatchNorm2d, act=LEAKY):
    """Noise (B, noise_size) -> images (B, 3, side, side) in [-1, 1]."""
    widths = face_widths(side, channels)
    layers = [nn.Unflatten(1, (noise_size, 1, 1)),
              nn.ConvTranspose2d(noise_size, widths[0], 4)]  # (B, widths[0], 4, 4)
    for inputs, outputs in itertools.pairwise([*widths, 3]):  # each doubles the side
        layers += [norm(inputs), act(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
    return nn.Sequential(*layers, nn.Tanh())


def face_discriminator(channels, side=64, norm=nn.Identity, act=LEAKY):
    """Images (B, 3, side, side) in [-1, 1] -> logits (B, 1)."""
    widths = face_widths(side, channels)[::-1]
    layers = [nn.Conv2d(3, channels, 4, 2, 1), act()]  # (B, channels, side / 2, ...)
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), norm(outputs), act()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())


# ---- 06_gan_faces: Deeper


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
