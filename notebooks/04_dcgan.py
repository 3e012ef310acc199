# %% [markdown]
# # 4. DCGAN: convolutions for both players
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/04_dcgan.ipynb)
#
# You will build the two players of a GAN from convolutions. The first attempt will be
# disappointing, worse than the plain network of chapter 3, and that is the point: you
# will measure it, find out what is wrong with it, and repair it one step at a time.
#
# ![A grid of garments drawn by the repaired generator: shirts, trousers, shoes, bags and dresses with clean edges](attachment:result.png)
#
# *Drawn from 128 random numbers each by the repaired network. None was selected.*
#
# **Time to run:** at most 60 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); `full`, for a GPU, trains for longer.

# %% [markdown]
# ## Pixels that know their neighbours
#
# A generator like that of chapter 3 computes each of its 784 pixels from the units of one
# layer, with weights that no other pixel shares. (What is called "chapter 3" here is a plain
# form of it: layers of 256, 512 and 1,024 units, LeakyReLU, no batch normalisation, no
# penalty and no averaged weights.) What it has learned about the hem of a
# sleeve in one corner is of no use in another, and nothing tells it that neighbouring
# pixels belong together. The result is grain, and ragged edges.
#
# Chapter 2 had a remedy for this. A convolution looks at a small window and uses the
# *same* weights everywhere; a transposed convolution does the same on the way up, from
# few coarse cells to many fine ones. A GAN with convolutions in both players is called
# **DCGAN**, deep convolutional GAN (Radford et al., 2016). The game, its two steps, its
# losses and its measurements stay exactly as they were: this chapter takes them from
# chapter 3 (`genlab_helpers.recap` holds them word for word).

# %% [markdown]
# ## Setup
#
# This cell installs the small helper package of the course if it is missing (in Colab,
# say) and imports what we need. It never touches an installed PyTorch.

# %% tags=["setup", "hide-input"]
import importlib.util

if importlib.util.find_spec("genlab_helpers") is None:
    print("Installing the helpers of this course (PyTorch stays as it is) ...")
    # %pip install -q "genlab-helpers @ git+https://github.com/{{repository}}@main"
    importlib.invalidate_caches()
if importlib.util.find_spec("genlab_helpers") is None:
    raise ModuleNotFoundError(
        "genlab_helpers could not be installed. With a network, run this cell again."
        " Without one, put the folder genlab_helpers of the course's repository"
        " beside this notebook, restart the kernel and run this cell again."
    )

import contextlib
import itertools
import logging
import operator
import statistics
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from genlab_helpers import data, figures, film, grids, judge, metrics, plots
from genlab_helpers import runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.recap import Game, bce, clothes_discriminator, clothes_generator
from genlab_helpers.recap import discriminator_step, draw, generator_step, leaky
from genlab_helpers.recap import play, score
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# All numbers that you may want to change. What was chosen by trying was chosen by the
# distance to *training* images; the test images only report.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images: all of them
    n_scored: int = 10_000  # drawn images behind each Fréchet distance
    batch_size: int = 128  # real images a step, and as many drawn ones
    noise_size: int = 128  # numbers that an image is drawn from
    channels: int = 32  # where images are large; twice as many where they are small
    source_channels: int = 128  # the width for which the plain recipe was written
    source_epochs: int = 1  # epochs of the plain recipe at that width
    n_seeds: int = 2  # games behind each entry of the ladder
    ladder_epochs: int = 2  # epochs of each of them
    final_epochs: int = 14  # epochs of the repaired network
    mlp_epochs: int = 18  # epochs of the network of chapter 3, beside it
    decay: float = 0.998  # of the running average of the generator's weights
    n_timed: int = 20  # steps behind each time
    try_compile: bool = True  # compiling takes a minute or two, and a C++ compiler
    n_arrows: int = 500  # draws of each kind behind the arithmetic


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_scored=300, batch_size=100, channels=4, n_seeds=1,
               source_channels=4, ladder_epochs=1, final_epochs=1, mlp_epochs=1,
               n_timed=2, try_compile=False, n_arrows=20),
    full=dict(channels=64, n_seeds=3, ladder_epochs=4, final_epochs=60, mlp_epochs=100),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("04_dcgan", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# The data are the clothes of chapter 3, scaled to $[-1, 1]$ for the players, and the
# judge is the same as well: a small classifier whose last layer but one is the space in
# which we compare drawn images with real ones.

# %%
clothes, clothes_test = data.fashion_mnist("train"), data.fashion_mnist("test")
for used in (clothes, clothes_test):
    record.use(used)
x = 2 * clothes.images[: cfg.n_images].to(device) - 1  # [0, 1] -> [-1, 1]
print(f"{len(x):,} images of shape {tuple(x.shape[1:])}")

# %% [markdown]
# The **floor** of the Fréchet distance is what training images get, compared with test
# images.

# %%
fashion_judge = judge.load("Fashion-MNIST", device)
held = torch.randperm(len(x), generator=rng)[: cfg.n_scored]
train_features = fashion_judge.features(clothes.images[held])
test_features = fashion_judge.features(clothes_test.images)
floor = metrics.frechet_distance(train_features, test_features)
print(f"real against real: {floor:.3f}")

# %% [markdown]
# ## A convolution backwards, by hand
#
# Take one row of three numbers and a kernel of three weights. A convolution with stride
# 2 would make the row *shorter*. The **transposed convolution** with stride 2 makes it
# longer: every input number puts a copy of the kernel, multiplied by itself, into the
# output, two places further each time; where copies overlap they are added. Three ways
# of writing it, one result. First the stamps; then the same as an ordinary convolution;
# then the library:

# %%
row, kernel, stride = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0]), 2
stamped = torch.zeros((len(row) - 1) * stride + len(kernel))
for i, value in enumerate(row):
    stamped[stride * i : stride * i + len(kernel)] += value * kernel


# %%
spread_out = torch.zeros((len(row) - 1) * stride + 1)
spread_out[::stride] = row  # zeros in between: 1 0 2 0 3
padded = F.pad(spread_out, (len(kernel) - 1,) * 2)
slid = torch.stack([part @ kernel.flip(0) for part in padded.unfold(0, 3, 1)])

library = F.conv_transpose1d(row[None, None], kernel[None, None], stride=stride)
for way in (stamped, slid, library.flatten()):
    print([round(value) for value in way.tolist()])

# %% [markdown]
# The second way is worth a picture. Put a zero between any two inputs, put zeros
# around, and slide the *mirrored* kernel over it as in an ordinary convolution. So a
# transposed convolution with stride 2 is a convolution of a row with holes. (And why
# "transposed"? Write the convolution that shortens seven numbers to three as a matrix
# with three rows and seven columns. Its transpose takes three numbers to seven, with
# exactly this result; exercise 1.)

# %% mystnb={"image": {"alt": "Three rows of cells. Top: the inputs 1, 2, 3. Middle: the same with a zero between neighbours and two zeros at either end. Bottom: the seven outputs 1, 10, 102, 20, 203, 30, 300, each below the window of three cells that it is computed from; outputs alternate between windows with two inputs and windows with one."}}
def draw_cells(ax, values, y, start):
    for i, value in enumerate(values.tolist()):
        face = "#dbe9f6" if value else "white"
        ax.add_patch(plt.Rectangle((start + i, y), 1, 0.8, fc=face, ec=figures.QUIET))
        ax.text(start + i + 0.5, y + 0.4, round(value), ha="center", va="center")


fig, ax = plt.subplots(figsize=(7, 2.8))
for y, (name, cells) in enumerate({"output": slid, "with zeros": padded,
                                   "input": row}.items()):
    draw_cells(ax, cells, 1.6 * y, -len(cells) / 2)
    ax.text(-5.8, 1.6 * y + 0.4, name, ha="right", va="center")
for i in (0, 1, 2):  # the windows of the first three outputs
    ax.plot([i - 4.5, i - 3, i - 1.5], [1.55, 0.85, 1.55], lw=1.5)
ax.set(xlim=(-7.6, 5.7), ylim=(-0.1, 4.1))
ax.axis("off");

# %% [markdown]
# **How long is the output?** From the stamping picture: the last of $n$ stamps begins
# at $(n - 1)s$ and is $k$ long. Padding $p$ cuts $p$ cells off at either end:
#
# $$n' = (n - 1)\,s + k - 2p .$$
#
# The networks of this chapter grow an image from a single cell to 28 x 28. Here is a
# plan that does it in four steps, computed with the formula and checked by PyTorch.

# %% recap=["STEPS"]
STEPS = ((3, 1, 0), (3, 2, 0), (3, 2, 0), (2, 2, 1))  # kernel, stride, padding


def transposed_side(side, kernel, stride, padding):
    """Width and height after a transposed convolution of a square."""
    return (side - 1) * stride + kernel - 2 * padding



# %%
rows, cells = [], torch.zeros(1, 1, 1, 1)
for kernel_size, stride, padding in STEPS:
    side = transposed_side(cells.shape[-1], kernel_size, stride, padding)
    cells = nn.ConvTranspose2d(1, 1, kernel_size, stride, padding)(cells)
    rows.append((kernel_size, stride, padding, side, str(tuple(cells.shape[2:]))))
tables.table(("kernel", "stride", "padding", "side by the formula", "by PyTorch"), rows)

# %% [markdown]
# ## Checkerboards
#
# Look at the picture with the windows again. The first, third, fifth output sees *two*
# inputs, the others see *one*. That happens whenever the kernel size is not a multiple
# of the stride: the stamps overlap unevenly. What if all inputs and all weights are 1?

# %%
def with_ones(layer):
    nn.init.ones_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


enlarge = nn.Upsample(scale_factor=2)
ways = {"kernel 3, stride 2": with_ones(nn.ConvTranspose2d(1, 1, 3, 2)),
        "kernel 4, stride 2": with_ones(nn.ConvTranspose2d(1, 1, 4, 2)),
        "resize, convolve": nn.Sequential(
            enlarge, with_ones(nn.Conv2d(1, 1, 3, padding=1)))}

# %% mystnb={"image": {"alt": "Three pictures of what becomes of a constant input. Kernel 3, stride 2: a checkerboard of four shades. Kernel 4, stride 2: even grey inside a darker frame. Nearest-neighbour resize and convolution: even grey inside a darker frame."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 2.6))
for ax, (name, layer) in zip(axes, ways.items()):
    made = layer(torch.ones(1, 1, 7, 7)).detach()[0, 0]
    ax.imshow(made / made.max(), vmin=0, vmax=1)
    ax.set(title=name, xticks=[], yticks=[])

# %% [markdown]
# A constant input becomes a **checkerboard** with kernel 3 and stride 2 (Odena et al.,
# 2016): cells see four, two or one input. With kernel 4 every cell inside sees equally
# many. So it does if one first enlarges the image and then convolves with stride 1. A
# trained network can learn weights that even the pattern out, but it must learn it, and
# later we will look in the spectrum of drawn images whether it did.
#
# ## The plain recipe
#
# Now both players, as they stand in more than one tutorial: transposed convolutions in
# the generator, following the plan above, and in the discriminator three convolutions
# with stride 2 and **dropout** of one half after each of them. Everything that we will
# want to change is an argument.

# %% recap=["conv_generator"]
def conv_generator(noise_size, channels, norm=False):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1], in four steps."""
    widths = (noise_size, 2 * channels, 2 * channels, channels)
    layers = [nn.Unflatten(1, (noise_size, 1, 1))]
    for step, (inputs, outputs) in zip(STEPS[:3], itertools.pairwise(widths)):
        layers += [nn.ConvTranspose2d(inputs, outputs, *step)]
        layers += [nn.BatchNorm2d(outputs)] if norm else []
        layers += [leaky()]
    return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 1, *STEPS[3]), nn.Tanh())

# %% [markdown]
# The discriminator goes the other way. A kernel of 4 with stride 2 looks at every place
# equally often.

# %% recap=["conv_discriminator"]
def conv_discriminator(channels, dropout=0.0, norm=None):
    """Images (B, 1, 28, 28) -> logits (B, 1), by way of 14, 7 and 4 pixels a side."""
    layers, widths = [], (1, channels, 2 * channels, 2 * channels)
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        conv = nn.Conv2d(inputs, outputs, 3 if i == 2 else 4, stride=2, padding=1)
        layers += [spectral_norm(conv) if norm == "spectral" else conv]
        layers += [nn.BatchNorm2d(outputs)] if norm == "batch" and i > 0 else []
        layers += [leaky(), nn.Dropout(dropout)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(2 * channels * 16, 1))

# %% [markdown]
# The layers of both, at the width that we use on this machine:

# %%
g = conv_generator(cfg.noise_size, cfg.channels)
d = conv_discriminator(cfg.channels, dropout=0.5)
z = torch.randn(2, cfg.noise_size, generator=rng)
display(tables.layers(g, z), tables.layers(d, g(z).detach()))

# %% [markdown]
# Compare the numbers of parameters with chapter 3: each player now has a small fraction
# of what the plain network had. It does not compute less, though. A weight that is used
# at every place of the image is *computed with* at every place. That is why the two
# tables must be read together with a clock: parameters tell what has to be stored and
# learned, seconds tell what has to be paid.
#
# The game is that of chapter 3. We only add to its step what this chapter is going to
# try: targets other than 1 for real images, and a running average of the generator's
# weights, of which more later. The images and weights are stored with channels last,
# which the last section explains.

# %%
class ConvGame(Game):
    """The game of chapter 3, with a target for real images and averaged weights."""

    parts = (*Game.parts, "average")

    def __init__(self, g, d, noise_size, rate, betas, seed, target=1.0, decay=0.998):
        g, d = (net.to(memory_format=torch.channels_last) for net in (g, d))
        super().__init__(g, d, torch.randn, noise_size, (rate, rate), betas, seed)
        averaging = get_ema_multi_avg_fn(decay)
        self.average = AveragedModel(g, multi_avg_fn=averaging, use_buffers=True)
        self.target = target

    def loss(self, logits, target):
        return bce(logits, target * self.target)

    def step(self, real):
        z = self.draw_noise(len(real), self.rng)
        d_loss = discriminator_step(self.g, self.d, self.d_opt, real, z, self.loss)
        z = self.draw_noise(len(real), self.rng)
        g_loss = generator_step(self.g, self.d, self.g_opt, z)
        self.average.update_parameters(self.g)
        return torch.stack((d_loss, g_loss))

# %% [markdown]
# `new_game` builds a game from a list of choices, `judged` scores its generator. The
# plain recipe comes without normalisation, with the library's start and with Adam as it
# comes.

# %%
PLAIN = dict(g_norm=False, dropout=0.5, d_norm=None, std=None, betas=(0.9, 0.999),
             target=1.0, rate=2e-4)


def new_game(cfg, device, seed, channels, g_norm, dropout, d_norm, std, **rules):
    torch.manual_seed(seed)
    g = conv_generator(cfg.noise_size, channels, g_norm).to(device)
    d = conv_discriminator(channels, dropout, d_norm).to(device)
    for layer in [*g, *d]:
        if std and isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.normal_(layer.weight, std=std)
    return ConvGame(g, d, cfg.noise_size, seed=seed, decay=cfg.decay, **rules)


def judged(generator, z, judged_by, features):
    """Fréchet distance of what is drawn from z to real features; shares of classes."""
    return score((draw(generator, z) + 1) / 2, judged_by, features)

# %% [markdown]
# First the recipe as it was meant, with 128 and 256 channels. On a laptop one epoch of
# it takes minutes, so one must do. It is a fair chance all the same: with 60,000 images
# and 128 of them a step, one epoch is nearly 470 steps of either player.

# %%
scored_z = torch.randn(cfg.n_scored, cfg.noise_size, generator=rng).to(device)
source = new_game(cfg, device, cfg.seed, cfg.source_channels, **PLAIN)
play(source, x, cfg.source_epochs, cfg.batch_size, Checkpoint("source width", record))
seconds = source.history["seconds"][-1]
record.measure("plain recipe, full width, one epoch", seconds, unit="s")

# %% [markdown]
# And what has it learned?

# %% mystnb={"image": {"alt": "Two rows of twelve pictures by the plain recipe at full width after one epoch: white dots at regular places on black, with blotches over some of them. No garment can be made out."}}
distance, shares = judged(source.g, scored_z, fashion_judge, train_features)
record.measure("plain recipe, full width: Fréchet distance", distance, floor=floor)
print(f"{seconds:.0f} s an epoch; distance {distance:.1f};"
      f" smallest class {shares.min():.3f}")
grids.image_grid(source.history["samples"][-1][:24], columns=12, value_range=(-1, 1));

# %% [markdown]
# Not what was promised. Dots at regular places, with blotches over them: the generator
# has learned more about its own grid than about clothes. The network of chapter 3 drew
# recognisable garments after the same time, as we shall see below. Before turning
# knobs, let us find out what is wrong.
#
# ## Diagnosis
#
# There are two ways of repairing a GAN. One is to try every piece of advice that can be
# found, all at once, and to be glad if it works. The other is to ask what each player
# needs, and to measure whether it gets it. A generator needs a signal that reaches its
# output, and a teacher whose advice can be followed.
#
# **Suspect one: the signal in the generator.** Noise goes in at the bottom, an image
# must come out at the top. What is left of the noise on the way? At the start of
# training we measure, after each of the four steps, how much the numbers vary with the
# noise: the standard deviation over the batch, averaged over all places.

# %%
@torch.inference_mode()
def signal_sizes(generator, z):
    """How much the numbers after each of the four steps vary over the batch."""
    found = []
    for layer in generator:
        z = layer(z)
        if isinstance(layer, nn.LeakyReLU | nn.Tanh):
            found.append(z.std(dim=0).mean().item())
    return found

# %% [markdown]
# We look at the generator as the library starts it, with a start at a standard
# deviation of 0.02, and with **batch normalisation** after each transposed convolution.
# (The layer gives each channel mean 0 and standard deviation 1 over the batch and all
# places, then a learned scale and shift; chapter 2 used it without saying much.)

# %% mystnb={"image": {"alt": "Curves over the four steps of the generator: with batch normalisation the size of the signal stays near one until the last layer; without it the signal falls by orders of magnitude, most with the small start."}}
z = torch.randn(256, cfg.noise_size, generator=rng).to(device)
starts = {"library": {}, "std 0.02": dict(std=0.02), "batch norm": dict(g_norm=True)}
games = {name: new_game(cfg, device, 0, cfg.channels, **PLAIN | start)
         for name, start in starts.items()}
sizes = {name: signal_sizes(game.g, z) for name, game in games.items()}
fig, ax = plt.subplots(figsize=(7, 3.2))
plots.curves(ax, sizes, x=range(1, 5), xlabel="after step", yscale="log",
             ylabel="spread over the batch")
ax.set_xticks(range(1, 5));

# %% [markdown]
# There is the first finding. Without normalisation each of the first three steps makes
# the signal several times weaker, and what arrives at the top hardly depends on the
# noise: at the start, all images are nearly the same grey. (A start at 0.02, which
# others recommend, makes that worse still, unless something restores the signal.)
# Normalisation restores it at every step, whatever the weights are.
#
# **Suspect two: the dropout in the discriminator.** The generator learns from the
# gradient that the discriminator sends to its images. Dropout makes that gradient
# random: another mask, another gradient. How random? For the same images we compute it
# under two masks and take the cosine of the angle between both: 1 means that they
# agree, 0 that they have nothing to do with each other.

# %%
def agreement(game, images):
    """Cosine between the gradients of G's loss at images, under two dropout masks."""
    images, gradients = images.clone().requires_grad_(), []
    for _ in range(2):
        g_loss = bce(game.d(images), 1.0)
        gradients.append(torch.autograd.grad(g_loss, images)[0].flatten(1))
    return F.cosine_similarity(*gradients).mean().item()

# %% [markdown]
# We ask the discriminator that has just been trained, and then the same one with less
# dropout.

# %%
images = draw(source.g, scored_z[:500])
print(f"plain recipe: two gradients agree by {agreement(source, images):.2f}")
dropouts = [layer for layer in source.d if isinstance(layer, nn.Dropout)]
for p in (0.3, 0.1, 0.0):
    for dropout in dropouts:
        dropout.p = p
    print(f"same weights with dropout {p}: {agreement(source, images):.2f}")

# %% [markdown]
# This suspect has to be let go. Three dropouts of one half in a row sound like a lot of
# noise, but under two different masks the generator is told nearly the same about the
# same image. It was a good story, and it was wrong, which is the reason for measuring.
# (It is still possible that dropout does harm in another way. The ladder will tell.)
#
# ## Repair, one step at a time
#
# So we have one fault with a remedy, one suspicion that found no support, and much
# advice from others. All of it can be tested in the same way, on a ladder. Each rung
# keeps the changes below it and adds one: first normalisation in the generator and no
# dropout in the discriminator, then what the DCGAN paper recommends (batch
# normalisation in the discriminator as well, weights started at 0.02, a smaller first
# beta), then the one-sided label smoothing of chapter 3's exercises, and a larger rate.
# Beside it stands **spectral normalisation** (Miyato et al., 2018), which divides each
# weight matrix by its largest singular value, in place of batch normalisation in the
# discriminator.

# %%
CHANGES = {
    "plain recipe": PLAIN,
    "+ batch norm in G": dict(g_norm=True),
    "+ no dropout in D": dict(dropout=0.0),
    "+ batch norm in D": dict(d_norm="batch"),
    "+ betas (0.5, 0.999)": dict(betas=(0.5, 0.999)),
    "+ start at 0.02": dict(std=0.02),
    "+ target 0.9": dict(target=0.9),
    "+ rate 5e-4": dict(rate=5e-4),
}
LADDER = dict(zip(CHANGES, itertools.accumulate(CHANGES.values(), operator.or_)))
FINAL = LADDER["+ rate 5e-4"]
RUNGS = LADDER | {"spectral norm in D instead": FINAL | dict(d_norm="spectral")}

# %% [markdown]
# Every rung is played for the same short number of epochs with each seed, and compared
# with training images, since we choose by the result.

# %%
ladder, samples = {}, {}
for name, choices in RUNGS.items():
    ladder[name] = []
    for seed in range(cfg.n_seeds):
        game = new_game(cfg, device, seed, cfg.channels, **choices)
        saved = Checkpoint(f"{name}, seed {seed}", record)
        play(game, x, cfg.ladder_epochs, cfg.batch_size, saved)
        distance, shares = judged(game.g, scored_z, fashion_judge, train_features)
        seconds = statistics.fmean(game.history["seconds"])
        ends = [game.history[loss][-1] for loss in ("d_loss", "g_loss")]
        ladder[name].append((distance, shares.min().item(), seconds, *ends))
    samples[name] = game.history["samples"][-1]
    distances = [result[0] for result in ladder[name]]
    record.measure_seeds(f"{name}: Fréchet distance", distances, floor=floor)

# %% [markdown]
# The table names each seed's distance, and means over the seeds for the rest.

# %%
rows = []
for name, results in ladder.items():
    distances, *others = zip(*results)
    smallest, seconds, d_loss, g_loss = (statistics.fmean(part) for part in others)
    each = " and ".join(f"{distance:.1f}" for distance in distances)
    smallest, seconds = f"{100 * smallest:.1f} %", f"{seconds:.0f} s"
    rows.append((name, each, smallest, d_loss, g_loss, seconds))
tables.table(("rung", "distance, each seed", "smallest class", "loss of D", "of G",
              "an epoch"), rows)

# %% [markdown]
# Read it from top to bottom, and never trust a difference that is smaller than that
# between two seeds.
#
# * *Batch norm in G* helps, as the first finding promised.
# * *No dropout in D* does not make the images better, if anything worse. So the second
#   measurement was right. It does make the epochs much shorter, because dropout costs
#   time.
# * *Batch norm in D* and a smaller first *beta* each take away about a third of the
#   distance. The beta is worth a thought. Adam's default averages gradients over about
#   ten steps, 0.5 over about two. In a game, a gradient of ten steps ago speaks about
#   an opponent who has moved on.
# * The *start at 0.02* and the *target of 0.9* change nothing that two seeds could
#   show. They belong to many a recipe, and here they are decoration.
# * The *larger rate* halves the distance. Would it have done so for the plain recipe?
#   This ladder cannot say: each change was tried on top of those before it, and in
#   another order some would be worth more or less.
# * *Spectral normalisation* in place of batch normalisation in D has the loss closest
#   to $\log 2$ of all, and twice the distance.
#
# Look at the losses as well. In the plain recipe the discriminator is nearly always
# right and the generator's loss is far above $\log 2$: one player has won, and the
# other learns from "all wrong". Further up the two are closer together. But neither is
# a measure of quality: batch norm in D improved the images and moved the losses apart,
# and the last row has the most balanced losses.
#
# And what the numbers look like:

# %% mystnb={"image": {"alt": "Five rows of ten pictures. Plain recipe: mostly black, with some dotted blotches. Batch norm in G, then no dropout in D: white blots. Batch norm in D: grey shapes, a few like shirts. Rate 5e-4, with all changes: shirts and trousers with clear outlines."}}
chosen = ["plain recipe", "+ batch norm in G", "+ no dropout in D", "+ batch norm in D",
          "+ rate 5e-4"]
grids.before_after({name: samples[name][:10] for name in chosen}, value_range=(-1, 1));

# %% [markdown]
# ## The repaired network against chapter 3
#
# Now the whole ladder in one network, and beside it the network of chapter 3, on the
# same images and the same device. These two games choose nothing any more, so that we
# may watch them on the *test* images all along. The plain network gets more epochs,
# because its epochs are shorter.

# %%
final = new_game(cfg, device, cfg.seed, cfg.channels, **FINAL)
torch.manual_seed(cfg.seed)
mlp_players = clothes_generator(cfg.noise_size), clothes_discriminator()
mlp = Game(*(net.to(device) for net in mlp_players), torch.randn, cfg.noise_size,
           (2e-4, 2e-4), (0.5, 0.999), cfg.seed)
games = {"chapter 3": (mlp, cfg.mlp_epochs), "DCGAN": (final, cfg.final_epochs)}

# %% [markdown]
# The two trainings are the longest part of this chapter.

# %%
def distance_to_test(g):
    """Fréchet distance of what g draws, in [-1, 1], to the test images."""
    images = (draw(g, scored_z) + 1) / 2
    return metrics.frechet_distance(test_features, fashion_judge.features(images))


for name, (game, epochs) in games.items():
    saved = Checkpoint(f"final {name}", record)
    play(game, x, epochs, cfg.batch_size, saved, distance_to_test)
    record.series(f"{name}, Fréchet distance", game.history["watched"])
    print(f"{name}: {epochs} epochs in {sum(game.history['seconds']):.0f} s of play")

# %% [markdown]
# The fair question has two answers: who is better after the same *time*, and who after
# the same number of *images*?

# %% mystnb={"image": {"alt": "Fréchet distance on a logarithmic scale, on the left over seconds, on the right over epochs: in both panels the curve of the DCGAN lies well below that of the network of chapter 3, and both stay above the dashed floor."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
for name, (game, _) in games.items():
    times = list(itertools.accumulate(game.history["seconds"]))
    curve = dict(marker="o", ms=4, label=name)
    axes[0].plot(times, game.history["watched"], **curve)
    axes[1].plot(range(1, len(times) + 1), game.history["watched"], **curve)
for ax, label in zip(axes, ("seconds", "epochs")):
    ax.axhline(floor, color=figures.QUIET, linestyle="--", label="floor")
    ax.set(xlabel=label, yscale="log")
axes[0].set_ylabel("Fréchet distance, test")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=3);

# %% [markdown]
# In numbers, at the last moment that both have reached:

# %%
def at(game, seconds):
    """The distance after the last epoch that was finished by then."""
    times = itertools.accumulate(game.history["seconds"])
    done = sum(time <= seconds for time in times)
    return game.history["watched"][max(done, 1) - 1]

# %%
together = min(sum(game.history["seconds"]) for game in (mlp, final))
n = min(cfg.mlp_epochs, cfg.final_epochs)
ratios = {"the same seconds": at(final, together) / at(mlp, together),
          "the same images": operator.truediv(
              *(game.history["watched"][n - 1] for game in (final, mlp)))}
for name, ratio in ratios.items():
    record.measure(f"Fréchet distance, DCGAN / chapter 3, after {name}", ratio)
    print(f"after {name}: {ratio:.2f} of the distance of chapter 3")

# %% [markdown]
# Both answers agree: the repaired network is ahead from its first epoch on, and the gap
# does not close. It is far larger than what two seeds differ by in the ladder. Both
# curves still fall at the end, and both are far above the floor.
#
# ## Averaging the weights
#
# In a game the weights never come to rest: they circle around the solution, as the four
# numbers of chapter 3 did. The middle of a circle is a better guess than any point on
# it. So we have kept a running average of the generator's weights,
# $\bar\theta \leftarrow \beta \bar\theta + (1 - \beta)\theta$ after every step, an
# **exponential moving average** (EMA; for GANs studied by Yazıcı et al., 2019). It
# costs one weighted sum of the weights a step and changes nothing in the game. Only
# drawing uses it.

# %% tags=["result-picture"] mystnb={"image": {"alt": "Four rows of sixteen drawn garments: shirts, pullovers, dresses, trousers, sneakers, boots, sandals and bags with clear outlines; a few bags and prints dissolve into stripes and specks."}}
averaged = final.average.module
for name, generator in {"as it is": final.g, "averaged": averaged}.items():
    distance, shares = judged(generator, scored_z, fashion_judge, test_features)
    record.measure(f"DCGAN, {name}: Fréchet distance", distance, floor=floor)
    record.measure(f"DCGAN, {name}: smallest share of a class", shares.min().item(),
                   ceiling=0.1)
    print(f"{name}: distance {distance:.2f}, smallest class {shares.min():.3f}")
grids.image_grid(draw(averaged, scored_z[:64]).cpu(), columns=16, value_range=(-1, 1));

# %% [markdown]
# Not a single step of the game was different, and the average draws clearly better
# images and neglects its rarest class less. Most garments can be named at sight; busy
# prints and some bags fall apart into stripes and specks. Now chapter 3 and chapter 4
# side by side, from the *same* noise. The same noise does not mean the same garment, of
# course: each generator has invented its own use of it.

# %% mystnb={"image": {"alt": "Two rows of twelve garments. Chapter 3: grainy, ragged, some hard to name. DCGAN: even surfaces and clear outlines, one or two with holes."}}
both = {"chapter 3": mlp.g, "DCGAN": averaged}
grids.before_after({name: draw(generator, scored_z[100:112]).cpu()
                    for name, generator in both.items()}, value_range=(-1, 1))
record.export("generator", {name.replace(".", "_"): value for name, value
                            in averaged.state_dict().items() if value.ndim})

# %% [markdown]
# ## Are the checkerboards gone?
#
# Our plan uses kernels of 3 with stride 2. A checkerboard is a wave that goes up and
# down every two pixels: the highest frequency that an image of pixels can hold. So we
# look at the **power spectrum** of drawn and real images, the mean square of their
# Fourier coefficients along the rows. And we train a rival for as long as a rung of the
# ladder: a generator that enlarges by repeating pixels and then convolves, and so
# cannot overlap unevenly.

# %% recap=["resize_generator"]
def resize_generator(noise_size, channels):
    """As conv_generator, but each enlargement is a resize before a convolution."""
    layers = [nn.Unflatten(1, (noise_size, 1, 1)),
              nn.ConvTranspose2d(noise_size, 2 * channels, 3)]  # (B, 2 channels, 3, 3)
    widths = (2 * channels, 2 * channels, channels, 1)
    for side, (inputs, outputs) in zip((7, 14, 28), itertools.pairwise(widths)):
        layers += [nn.BatchNorm2d(inputs), leaky(), nn.Upsample(size=side),
                   nn.Conv2d(inputs, outputs, 3, padding=1)]
    return nn.Sequential(*layers, nn.Tanh())


def row_spectrum(images):
    """Mean power of each frequency along the rows of images (N, 1, 28, 28): (15,)."""
    return torch.fft.rfft(images, dim=3).abs().square().mean(dim=(0, 1, 2))

# %% mystnb={"image": {"alt": "Power over frequency on a logarithmic scale, from 0 to 14 waves a row. Real images fall steadily, and both trained generators lie on the same curve. The untrained generator is flat and far lower, with a small peak at 7 waves and a large one at 14."}}
torch.manual_seed(cfg.seed)
untrained = new_game(cfg, device, 0, cfg.channels, **FINAL | dict(std=None))
d = conv_discriminator(cfg.channels, norm="batch").to(device)
resize = ConvGame(resize_generator(cfg.noise_size, cfg.channels).to(device), d,
                  cfg.noise_size, 5e-4, (0.5, 0.999), cfg.seed, 0.9, cfg.decay)
play(resize, x, cfg.ladder_epochs, cfg.batch_size, Checkpoint("resize", record))
some = {name: draw(net, scored_z[:2000]).cpu() for name, net in
        {"untrained": untrained.g, "transposed": averaged, "resize": resize.g}.items()}
some["real"] = 2 * clothes.images[:2000] - 1
fig, ax = plt.subplots(figsize=(7, 3.6))
spectra = {name: row_spectrum(images) for name, images in some.items()}
plots.curves(ax, spectra, xlabel="waves a row", ylabel="mean power", yscale="log")
distance, _ = judged(resize.g, scored_z, fashion_judge, train_features)
record.measure("resize and convolve: Fréchet distance", distance, floor=floor)
print(f"resize and convolve, {cfg.ladder_epochs} epochs: distance {distance:.2f}")

# %% [markdown]
# Two peaks stand out in the *untrained* generator: at 14 waves a row, the checkerboard
# of the layer with stride 2 that is nearest to the image, and at 7 waves, the one of
# the layer before it, enlarged once more. After training they are gone. The generator
# with uneven overlap lies on the curve of real images just as well as the rival that
# never had a checkerboard. So it did learn to even the pattern out.
#
# But learning that costs something, perhaps. Compare the rival's distance with that of
# the rung *+ rate 5e-4* in the ladder, which had the same discriminator, rules and
# number of epochs: the rival is much better. It computes more, since its convolutions
# run on the enlarged pictures, and this is a single seed. Still, whoever starts anew
# should start with it.
#
# ## Walking through the noise
#
# What lies between two draws of noise? Not on the straight line: in 128 dimensions
# nearly all draws have a length near $\sqrt{128} \approx 11.3$, and the middle between
# two of them is only about $11.3/\sqrt 2 = 8$ long, which the generator never met.
# Better stay on the sphere and walk along the arc, with
# $z(t) = \frac{\sin((1-t)\omega)}{\sin\omega} z_0 + \frac{\sin(t\omega)}{\sin\omega} z_1$,
# where $\omega$ is the angle between the two (Shoemake, 1985).

# %% recap=["arc"]
def arc(z0, z1, t):
    """Points on the arc from z0 (N,) to z1 (N,) at shares t (T,) of the way: (T, N)."""
    cosine = F.cosine_similarity(z0, z1, dim=0).clamp(-1, 1)
    angle, t = cosine.acos(), t[:, None]
    return (((1 - t) * angle).sin() * z0 + (t * angle).sin() * z1) / angle.sin()


t = torch.linspace(0, 1, 10, device=device)
z0, z1 = scored_z[200], scored_z[201]
line = (1 - t[:, None]) * z0 + t[:, None] * z1
print("length of the middle: line", round(line[5].norm().item(), 1),
      "arc", round(arc(z0, z1, t)[5].norm().item(), 1))

# %% [markdown]
# Four walks, each along an arc:

# %% mystnb={"image": {"alt": "Four rows of ten pictures. A light pullover turns into a dark T-shirt; trousers widen into something like a skirt and become a bag; a flat shoe stays a shoe for half the way, then becomes a bag and trousers; torn trousers become whole ones."}}
walks = [arc(scored_z[i], scored_z[i + 1], t) for i in (200, 210, 220, 230)]
pictures = [draw(averaged, walk).cpu() for walk in walks]
grids.image_grid(torch.cat(pictures), columns=10, value_range=(-1, 1));

# %% [markdown]
# Each step changes a little, and most of what lies on the way could be worn. The
# generator has not stored garments; it has a continuous family of them. Where the kind
# changes, as in the second and third row, it passes quickly through pictures that are
# neither one thing nor the other.
#
# **Arithmetic.** The DCGAN paper found that directions in the noise have meanings. Let
# us test it with numbers in place of a hand-picked example. From many draws we take
# those that the judge finds most like a *sneaker* and those most like a *boot*. The
# difference of their mean noises is a direction, the arrow. We add it to the noise of
# other sneakers: do they become boots? A random direction of the same length is the
# control.

# %%
SNEAKER, BOOT = 7, 9  # labels of Fashion-MNIST


def most_like(label, z, generator, judged_by, n):
    """The n draws of z whose images the judge finds most likely to be of the class."""
    features = judged_by.features((draw(generator, z) + 1) / 2).to(z.device)
    return z[judged_by.head(features).log_softmax(dim=1)[:, label].topk(n).indices]


z, others = torch.randn(2, 20 * cfg.n_arrows, cfg.noise_size, generator=rng).to(device)
boots, sneakers = (most_like(label, z, averaged, fashion_judge, cfg.n_arrows)
                   for label in (BOOT, SNEAKER))
arrow = boots.mean(dim=0) - sneakers.mean(dim=0)
chance = torch.randn(cfg.noise_size, generator=rng).to(device)
chance *= arrow.norm() / chance.norm()
sneakers = most_like(SNEAKER, others, averaged, fashion_judge, cfg.n_arrows)

# %% [markdown]
# How many of the sneakers become boots, as the arrow is added once, twice and so on?

# %%
rows = []
for times in (0, 1, 2, 3):
    shares = [judged(averaged, sneakers + times * way, fashion_judge,
                     test_features)[1][BOOT].item() for way in (arrow, chance)]
    rows.append((f"{times}", *(f"{100 * share:.0f} %" for share in shares)))
record.measure("sneakers that 3 arrows turn into boots", shares[0], floor=shares[1])
tables.table(("times", "boots, along the arrow", "along a random arrow"), rows)

# %% [markdown]
# Ten sneakers, and the same noise moved along the arrow:

# %% mystnb={"image": {"alt": "Two rows of ten shoes. Above: grey sneakers of different shapes. Below: the same noise moved by three arrows, now white boots with a shaft and a heel that look much alike."}}
moved = {"sneakers": sneakers[:10], "moved": sneakers[:10] + 3 * arrow}
grids.before_after({name: draw(averaged, z).cpu() for name, z in moved.items()},
                   value_range=(-1, 1));

# %% [markdown]
# One arrow turns nearly all sneakers into boots, and a random one of the same length
# hardly any. So the direction is real, and nothing in the training asked for it. More
# arrows add little. The pictures show three of them: every sneaker has become a boot,
# and nearly the *same* boot, white and with a heel. Three arrows lead far away from
# where noise usually lies, and there the generator has less variety. And the arrow
# carries whatever else boots have more often than sneakers, colour and heel included.
# It means "boot", not "add a shaft".
#
# ## What makes it faster?
#
# Three tricks are often recommended, and each is one line. **Channels last** stores the
# numbers of all channels of a pixel side by side, as the fast convolution kernels want
# them. **Mixed precision** computes convolutions in bfloat16, numbers of half the
# length. **Compilation** looks at the whole network and fuses small operations. What
# they buy depends on the machine. On this one:

# %%
def step_time(game, real, n_timed, context=contextlib.nullcontext):
    """Median seconds of one step of the game, after three steps to warm up."""
    times = []
    for _ in range(n_timed + 3):
        with runtime.Stopwatch(real.device) as watch, context():
            game.step(real)
        times.append(watch.seconds)
    return statistics.median(times[3:])

# %% [markdown]
# Each way in turn, with the repaired network and one batch:

# %%
half_precision = partial(torch.autocast, device.type, torch.bfloat16)
real, times = x[: cfg.batch_size], {}
game = new_game(cfg, device, 0, cfg.channels, **FINAL)  # made with channels last
times["channels last"] = step_time(game, real, cfg.n_timed)
times["and bfloat16"] = step_time(game, real, cfg.n_timed, half_precision)
for net in (game.g, game.d):
    net.to(memory_format=torch.contiguous_format)
times["as they come"] = step_time(game, real, cfg.n_timed)

# %% [markdown]
# Compilation needs a C++ compiler on a CPU, and the first step takes long.

# %%
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no GPU"
if cfg.try_compile:
    game = new_game(cfg, device, 0, cfg.channels, **FINAL)
    game.g.compile(), game.d.compile()
    try:
        with runtime.Stopwatch(device) as first:
            game.step(real)
        times["channels last, compiled"] = step_time(game, real, cfg.n_timed)
        print(f"the first compiled step took {first.seconds:.0f} s")
    except torch._dynamo.exc.TorchDynamoException as error:
        print("cannot compile on this machine:", type(error).__name__)
rows = [(name, f"{1000 * seconds:.1f}", f"{times['as they come'] / seconds:.2f}")
        for name, seconds in times.items()]
tables.table(("way", "milliseconds a step", "times as fast"), rows)

# %% [markdown]
# On these two cores only *channels last* pays. *bfloat16* is no faster than the way
# things come, whatever it may win in single layers. Compilation adds nothing to
# channels last, and its first step takes seconds if an earlier run has left its result
# on the disk, as here, and much longer if not. None of this carries over to another
# machine, least of all to a GPU, where the first two are usually worth most. The lesson
# is the procedure: change one line, warm up, take the median of many steps, and keep
# only what pays.
#
# ## Touch it
#
# With a live kernel, the sliders walk from one garment to another one. (On a page that
# does not compute, you see the picture as it was at the start.)

# %%
sliders = dict(
    start=widgets.IntSlider(0, min=0, max=99, description="from"),
    end=widgets.IntSlider(0, min=0, max=99, description="to"),
    share=widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="share"),
)
picture = widgets.Image(width=300)


def redraw(change=None):
    start, end, share = (slider.value for slider in sliders.values())
    shares = torch.tensor([0, share, 1], device=device)
    images = draw(averaged, arc(scored_z[start], scored_z[100 + end], shares)).cpu()
    ax = grids.image_grid(images, columns=3, value_range=(-1, 1))
    picture.value = film.still(ax.figure)


for slider in sliders.values():
    slider.observe(redraw, "value")
redraw()
widgets.VBox([*sliders.values(), picture])

# %% [markdown]
# ## Summary
#
# * A transposed convolution is a convolution of a row with holes. Where the kernel is
#   not a multiple of the stride it sees unevenly many inputs: checkerboards.
# * Convolutions alone are no gain. The plain recipe lost its signal on the way up, and
#   its discriminator won nearly every round.
# * One suspect was convicted by a measurement and one acquitted. What each repair is
#   worth was found by changing one thing at a time, with more than one seed; two
#   popular ones were worth nothing here.
# * Average the weights of the generator: it costs one weighted sum a step and nothing
#   in the game changes.
# * The repaired network beats that of chapter 3 after the same time and after the same
#   images.
# * What it cannot do: nobody can tell it *what* to draw. That is the next chapter. And
#   28 x 28 is small; larger images are the subject of the chapter on faces.
#
# ## Exercises
#
# Try each before you open the solution. All run in seconds.
#
# **1. Why "transposed"?** Write the convolution with stride 2 that takes seven numbers
# to three as a 3 x 7 matrix, and apply its transpose to the row of the example.

# %% tags=["solution"]
kernel = torch.tensor([1.0, 10.0, 100.0])
matrix = torch.zeros(3, 7)
for i in range(3):
    matrix[i, 2 * i : 2 * i + 3] = kernel
seven = torch.arange(7.0)
by_library = F.conv1d(seven[None, None], kernel[None, None], stride=2).flatten()
print("the matrix is the convolution:", torch.equal(matrix @ seven, by_library))
print("its transpose:", (matrix.T @ torch.tensor([1.0, 2.0, 3.0])).tolist())

# %% [markdown]
# **2. Another plan.** Find kernel, stride and padding that take 7 to 14 and 14 to 28
# without uneven overlap, and count how many inputs each output of a row sees.

# %% tags=["solution"]
for n in (7, 14):
    print(n, "to", transposed_side(n, 4, 2, 1))
for kernel_size, padding in ((4, 1), (3, 0)):
    ones = torch.ones(1, 1, kernel_size)
    seen = F.conv_transpose1d(torch.ones(1, 1, 7), ones, stride=2, padding=padding)
    print(f"kernel {kernel_size}:", [round(value) for value in seen.flatten().tolist()])
# (7 - 1) 2 + 4 - 2 = 14: kernel 4, stride 2, padding 1. Each output sees two inputs,
# but for the two ends. With kernel 3 it is one, two, one, two.

# %% [markdown]
# **3. Alone or in company.** In `train()`, draw one image alone, and then the same
# noise together with 63 others. Are they the same? And in `eval()`? What follows for
# drawing?

# %% tags=["solution"]
probe = deepcopy(final.g)
z = scored_z[:64]
with torch.inference_mode():
    for mode in (True, False):
        probe.train(mode)
        alone, together = probe(z[:1]), probe(z)[:1]
        gap = (alone - together).abs().max()
        print(f"training mode {mode}: largest difference {gap:.3f}")
# In training mode, batch normalisation uses the mean of whatever is in the batch: an
# image depends on its company. (After the first layer there are 9 numbers a channel
# even for one image, or PyTorch would refuse a batch of one.) To draw, use eval(),
# which takes the running averages; `draw` does.

# %% [markdown]
# **4. A pattern from the start.** Compare the spectra of *untrained* generators: kernel
# 3 with stride 2, and resize with convolution. What does that say about where a
# checkerboard comes from?

# %% tags=["solution"]
torch.manual_seed(0)
fresh = {"transposed": conv_generator(cfg.noise_size, cfg.channels, norm=True),
         "resize": resize_generator(cfg.noise_size, cfg.channels)}
for name, generator in fresh.items():
    power = row_spectrum(draw(generator, scored_z[:500].cpu()))
    print(f"{name}: power at 14 waves / at 10 waves = {power[14] / power[10]:.2f}")
# It is there before anything was learned, in the architecture. Training has to remove
# it.

# %% [markdown]
# **5. Why averaging helps.** Two players with one number each: $x$ wants $xy$ small,
# $y$ wants it large. Let both follow their gradient in small steps, at once. Where do
# they go, and where is the average of their path?

# %% tags=["solution"]
point, path = torch.tensor([1.0, 0.0]), []
for _ in range(2000):
    a, b = point
    point = point + 0.01 * torch.stack((-b, a))
    path.append(point)
path = torch.stack(path)
print(f"distance from the solution: start 1.00, end {path[-1].norm():.2f}")
print(f"distance of the average: {path.mean(dim=0).norm():.2f}")
# They circle around (0, 0), slowly outwards, and never arrive. The middle of the circle
# is the solution. The path of a GAN's weights is no such clean circle, but it circles
# too.

# %% [markdown]
# **6. What spectral normalisation does.** Take a linear layer, wrap it in
# `spectral_norm`, call it often in training mode, and compute its largest singular
# value. By how much can its output change at most, if its input changes by a vector of
# length 1?

# %% tags=["solution"]
layer = nn.Linear(50, 30)
print(f"before: {torch.linalg.svdvals(layer.weight)[0]:.4f}")
layer = spectral_norm(layer)
print(f"wrapped: {torch.linalg.svdvals(layer.weight)[0]:.4f}")
for _ in range(50):
    layer(torch.randn(1, 50))  # each call in training mode improves the estimate
print(f"after 50 calls: {torch.linalg.svdvals(layer.weight)[0]:.4f}")
# The largest singular value becomes 1, so that the output changes by at most 1. A
# discriminator made of such layers and LeakyReLUs cannot be arbitrarily steep.

# %% [markdown]
# ## References
#
# * V. Dumoulin, F. Visin. *A guide to convolution arithmetic for deep learning.* 2016.
#   <https://doi.org/10.48550/arXiv.1603.07285>
# * I. Goodfellow et al. *Generative adversarial nets.* NeurIPS 2014.
#   <https://doi.org/10.48550/arXiv.1406.2661>
# * S. Ioffe, C. Szegedy. *Batch normalization: accelerating deep network training by
#   reducing internal covariate shift.* ICML 2015.
#   <https://doi.org/10.48550/arXiv.1502.03167>
# * T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida. *Spectral normalization for generative
#   adversarial networks.* ICLR 2018. <https://doi.org/10.48550/arXiv.1802.05957>
# * A. Odena, V. Dumoulin, C. Olah. *Deconvolution and checkerboard artifacts.* Distill,
#   2016. <https://doi.org/10.23915/distill.00003>
# * A. Radford, L. Metz, S. Chintala. *Unsupervised representation learning with deep
#   convolutional generative adversarial networks.* ICLR 2016.
#   <https://doi.org/10.48550/arXiv.1511.06434>
# * T. Salimans et al. *Improved techniques for training GANs.* NeurIPS 2016.
#   <https://doi.org/10.48550/arXiv.1606.03498>
# * K. Shoemake. *Animating rotation with quaternion curves.* SIGGRAPH 1985.
#   <https://doi.org/10.1145/325165.325242>
# * H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a novel image dataset for
#   benchmarking machine learning algorithms.* 2017.
#   <https://doi.org/10.48550/arXiv.1708.07747>
# * Y. Yazıcı et al. *The unusual effectiveness of averaging in GAN training.* ICLR
#   2019. <https://doi.org/10.48550/arXiv.1806.04498>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %%
record.card()
