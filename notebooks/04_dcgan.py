# %% [markdown]
# # 4. DCGAN: convolutions for both players
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/04_dcgan.ipynb)
#
# You will build both players of a GAN from convolutions and train them on clothes. Then you
# will take a recipe that fails, measure what it lacks, and find out by experiments of one
# change each what makes the difference.
#
# ![A grid of generated garments: shirts, trousers, shoes, bags and dresses with clean edges, and a row of real ones](attachment:result.png)
#
# *Each was generated from 128 random numbers; none was selected. The last row is real.*
#
# **Time to run:** about an hour on two CPU cores (`laptop` profile).
# **You need:** chapter 3; convolutions and batch normalisation from chapter 2.

# %% [markdown]
# ## Pixels that know their neighbours
#
# The generator of chapter 3 computes each of its 784 pixels with weights that no other pixel
# shares. What it has learned about the hem of a sleeve in one corner is of no use in another.
#
# Chapter 2 had a remedy. A convolution looks at a small window and uses the *same* weights
# everywhere. A GAN whose players are made of convolutions is called **DCGAN**, deep
# convolutional GAN (Radford et al., 2016). The game stays what it was: the two steps, the
# penalty, the averaged weights and the measures are those of chapter 3, imported word for
# word. The networks change, and two small things that are named below.

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

import itertools
import math
import statistics
from dataclasses import dataclass

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from scipy.stats import t as student
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

from genlab_helpers import data, figures, metrics, networks, plots, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.recap import GAN, generate, train_gan
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images, a sixth of them held out
    n_scored: int = 10_000  # generated images behind each Fréchet distance
    n_floor: int = 5  # draws of real images behind the floor
    batch_size: int = 64  # real images a step, and as many fakes
    noise_size: int = 128  # numbers behind an image
    widths: tuple = (24, 32)  # channels of G and D where their images are largest
    final_epochs: int = 18  # 900,000 images
    loose_epochs: int = 9  # of the same network without a penalty
    source_epochs: int = 2  # of a recipe that is much wider
    ladder_widths: tuple = (12, 16)  # half of the above, to save time
    ladder_epochs: int = 2
    n_seeds: int = 3  # games behind each row of the ladder
    n_arrows: int = 500  # images of each kind behind the arithmetic
    n_timed: int = 20  # steps behind each time


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_scored=100, n_floor=2, batch_size=50, widths=(4, 4),
               final_epochs=2, loose_epochs=2, source_epochs=1, ladder_widths=(2, 2),
               ladder_epochs=1, n_seeds=2, n_arrows=20, n_timed=2),
    full=dict(widths=(48, 64), final_epochs=40),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("04_dcgan", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# The data are the clothes of chapter 3 (Fashion-MNIST; Xiao et al., 2017), scaled to
# $[-1, 1]$ as in the paper. A sixth of the training images is held out; all choices are made
# by the Fréchet distance to those, in the features of the same judge, with 10,000 images on
# either side. The test images are for what is published.

# %%
clothes, clothes_test = data.fashion_mnist("train"), data.fashion_mnist("test")
parts = clothes.images[: cfg.n_images].chunk(6)
x = 2 * torch.cat(parts[:5]).to(device) - 1  # (50000, 1, 28, 28), to learn from
judge = networks.judge("Fashion-MNIST", device)
held = judge.features(parts[5])  # (10000, 64), to choose by
tested = judge.features(clothes_test.images)  # to publish

# %% tags=["hide-input"]
for used in (clothes, clothes_test):
    record.use(used)
draws = torch.randperm(len(x), generator=rng).split(cfg.n_scored)[: cfg.n_floor]
real = [judge.features((x[rows.to(device)] + 1) / 2) for rows in draws]
floors = [metrics.frechet_distance(tested, features) for features in real]
floor = statistics.fmean(floors)
record.measure_seeds("real against real: Fréchet distance", floors)
print(f"real against real, the floor of the distance: {floor:.3f}")

# %% [markdown]
# ## The two players
#
# The generator turns the noise into a coarse image of 7 x 7 cells with many **channels**,
# numbers a cell. Then, twice, it enlarges and halves the channels: 7 to 14 to 28 pixels a
# side. Enlarging means here to repeat every pixel (**nearest-neighbour resize**) and then to
# convolve. (`enlarge` and `norm` are for the experiments below.)

# %% recap=["enlarging", "make_generator"]
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

# %% [markdown]
# The discriminator goes the other way: three convolutions with stride 2, from 28 to 14 to 7
# to 4 pixels a side, and one linear layer for the logit. (`hold`: the ladder will try what
# holds this player back.)

# %% recap=["make_discriminator"]
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

# %% tags=["hide-input"]
g, d = make_generator(cfg.noise_size, cfg.widths[0]), make_discriminator(cfg.widths[1])
z = torch.randn(2, cfg.noise_size, generator=rng)
display(tables.layers(g, z), tables.layers(d, g(z).detach()))
later = sum(p.numel() for p in g.parameters()) - g[0].weight.numel() - len(g[0].bias)
record.measure("parameters after the first layer", later)

# %% [markdown]
# Read the parameters beside those of chapter 3: its larger generator had 568,000, seven tenths of
# them in the last layer. Here nearly all stand in the first layer, and all that comes after it has
# {{parameters after the first layer | ,.0f}}. Few weights do not mean little work: each is used at
# every place of the image.
#
# ## Train it
#
# Noise, betas, rate, penalty and average are those of chapter 3's larger pair (between −1 and 1
# slopes are half as steep, so the same coefficient of R1 is a milder one). New are batches of 64, and
# a rate that falls to zero over the last 30 % of the steps, so that the two players do not take large
# steps around the solution to the end. Every tenth step keeps its losses. (`channels_last` stores the
# channels of a pixel side by side: the same numbers, sooner; see *Deeper*.)

# %% recap=["ConvGAN"]
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

# %%
def new_game(seed, widths, epochs, enlarge="resize", norm=True, hold=None, penalty=2.0,
             **options):
    """A game from a seed, whose rates fall at the end of so many epochs."""
    torch.manual_seed(seed)
    g = make_generator(cfg.noise_size, widths[0], enlarge, norm).to(device)
    d = make_discriminator(widths[1], hold).to(device)
    n_steps = epochs * math.ceil(len(x) / cfg.batch_size)
    return ConvGAN(g, d, cfg.noise_size, n_steps=n_steps, penalty=penalty, seed=seed,
                   **options)

# %%
def score(net, features):
    """Fréchet distance of a generator's images to features; shares of classes."""
    own_rng = torch.Generator().manual_seed(3)
    z = torch.randn(cfg.n_scored, cfg.noise_size, generator=own_rng)
    own = judge.features((generate(net, z.to(device)) + 1) / 2)
    classes = judge.head(own.to(device)).argmax(dim=1).cpu()
    shares = torch.bincount(classes, minlength=10) / cfg.n_scored
    return metrics.frechet_distance(features, own), shares


def watch(game, epoch):
    """Distances of the averaged generator, and of that as it is, to held-out images."""
    return [score(net, held)[0] for net in (game.average, game.g)]

# %%
CODE = [enlarging, make_generator, make_discriminator, new_game, GAN, ConvGAN]
final = new_game(cfg.seed, cfg.widths, cfg.final_epochs)
saved = Checkpoint("final", record, CODE)
train_gan(final, x, cfg.final_epochs, cfg.batch_size, saved, watch);

# %% tags=["hide-input", "result-picture"] mystnb={"image": {"alt": "A grid of eight by eight generated garments: shirts, pullovers, dresses, coats, trousers, shoes, boots and bags, with clean edges and even surfaces. Below a line a row of eight real ones, which look much the same."}}
averaged = final.average.module
z = torch.randn(64, cfg.noise_size, generator=torch.Generator().manual_seed(4))
images = (generate(averaged, z.to(device)) + 1) / 2
grid = torch.cat([images, clothes_test.images[:8]])
ax = figures.image_grid(grid, columns=8)
ax.axhline(240 - 2, color=figures.PALETTE[1], linewidth=2)
figures.caption_source(ax.figure, clothes)
for kind, net in {"averaged": averaged, "as it is": final.g}.items():
    distance, shares = score(net, tested)
    record.measure(f"final network, {kind}: Fréchet distance", distance, floor=floor)
    record.measure(f"final network, {kind}: smallest share of a class",
                   shares.min().item(), floor=0.0, ceiling=0.1)
    record.measure(f"final network, {kind}: times the floor", distance / floor)

# %% [markdown]
# Eight rows, not selected, and under the line a row of real clothes. After 900,000 images the Fréchet
# distance to the test images is {{final network, averaged: Fréchet distance | .2f}},
# {{final network, averaged: times the floor | .0f}} times the floor, and the smallest class has
# {{final network, averaged: smallest share of a class | .1%}} of the images. Chapter 3's larger pair has
# {{03_gan / Fashion-MNIST: Fréchet distance | .2f}} in the same measure, after 3,000,000 images of the same
# data. (Per image, that is; an image costs these networks several times as much.) Without averaged
# weights it is {{final network, as it is: Fréchet distance | .2f}}.
#
# How did the game go?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the losses of both players over the steps, jagged, close to a dashed line at 0.693. Right: the Fréchet distance to held-out images on a logarithmic scale falls fast, then ever more slowly, and once more at the end; it stays above the dashed floor."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4))
losses = np.array(final.history["steps"]).T
steps = 10 * np.arange(losses.shape[1])
plots.curves(axes[0], {"D": losses[0], "G": losses[1]}, x=steps, xlabel="step",
             ylabel="loss", reference={"log 2": math.log(2)})
epochs = range(1, cfg.final_epochs + 1)
watched = dict(zip(("averaged", "as it is"), zip(*final.history["watched"])))
plots.curves(axes[1], watched, x=epochs, xlabel="epoch", ylabel="Fréchet distance",
             yscale="log", reference={"floor": floor})
late = losses[:, len(steps) // 2 :]
for who, values in zip("DG", late):
    record.measure(f"final network, loss of {who}, later half", values.mean())
    record.measure(f"final network, loss of {who}, deviation from step to step",
                   values.std())

# %% [markdown]
# The losses draw near $\log 2$ over the first thousands of steps, jagged because each point is one
# batch: in the later half $D$'s is {{final network, loss of D, later half | .3f}}, with a deviation of
# {{final network, loss of D, deviation from step to step | .3f}} from point to point, $G$'s
# {{final network, loss of G, later half | .3f}} and {{final network, loss of G, deviation from step to step | .3f}}. Averaged images improve all along; losses just drift. The **averaged** generator (its weights an
# exponential moving average; for GANs studied by Yazıcı et al., 2019) is ahead of the one as it is from
# the third epoch on, and runs smoothly where the other jumps. At the end, where the rate falls, the two come together; small steps may be the reason.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Animation over the epochs: 24 images from the same fixed noise begin as blotches, become garments within a few epochs, and then change less and less."}}
def frames():
    for epoch, samples in enumerate(final.history["samples"], 1):
        ax = figures.image_grid((samples[:24] + 1) / 2, columns=8)
        ax.set_title(f"epoch {epoch}")
        yield ax.figure


figures.animation(frames(), fps=3)

# %% [markdown]
# Kinds of garment can be told apart after the first epoch; outlines become clean next, then surfaces. The
# same noise mostly stays the same kind of garment throughout.
#
# ## A convolution backwards, by hand
#
# The DCGAN of the paper enlarges in another way, which is worth knowing, for its strength and
# for its fault. Take one row of three numbers and a kernel of three weights. A convolution
# with stride 2 would make the row *shorter*. The **transposed convolution** with stride 2
# makes it longer: every input puts a copy of the kernel, multiplied by itself, into the output,
# two places further each time; where copies overlap they are added. Three ways of writing
# it: these stamps; an ordinary convolution of the row with zeros in between; the library.

# %%
row, kernel, stride = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 10.0, 100.0]), 2
stamped = torch.zeros((len(row) - 1) * stride + len(kernel))
for i, value in enumerate(row):
    stamped[stride * i : stride * i + len(kernel)] += value * kernel

spread_out = torch.zeros((len(row) - 1) * stride + 1)
spread_out[::stride] = row  # zeros in between: 1 0 2 0 3
padded = F.pad(spread_out, (len(kernel) - 1,) * 2)
slid = torch.stack([part @ kernel.flip(0) for part in padded.unfold(0, 3, 1)])

library = F.conv_transpose1d(row[None, None], kernel[None, None], stride=stride)
for way in (stamped, slid, library.flatten()):
    print([round(value) for value in way.tolist()])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of cells. Top: the inputs 1, 2, 3. Middle: the same with a zero between neighbours and two zeros at either end. Bottom: the seven outputs 1, 10, 102, 20, 203, 30, 300, with lines from the first three of them to the windows that they are computed from."}}
def draw_cells(ax, values, y, start):
    for i, value in enumerate(values.tolist()):
        face = "#dbe9f6" if value else "white"
        ax.add_patch(plt.Rectangle((start + i, y), 1, 0.8, fc=face, ec=figures.QUIET))
        ax.text(start + i + 0.5, y + 0.4, round(value), ha="center", va="center")


fig, ax = plt.subplots(figsize=(7, 2.8))
rows = {"output": slid, "with zeros": padded, "input": row}
for y, (name, cells) in enumerate(rows.items()):
    draw_cells(ax, cells, 1.6 * y, -len(cells) / 2)
    ax.text(-5.8, 1.6 * y + 0.4, name, ha="right", va="center")
for i in (0, 1, 2):  # the windows of the first three outputs
    ax.plot([i - 4.5, i - 3, i - 1.5], [1.55, 0.85, 1.55], lw=1.5)
ax.set(xlim=(-7.6, 5.7), ylim=(-0.1, 4.1))
ax.axis("off");

# %% [markdown]
# Put a zero between any two inputs and zeros around them, and slide the *mirrored* kernel over
# the row: a transposed convolution is a convolution of a row with holes. (Why "transposed"?
# Exercise 1.) Look at the windows: the first output sees one input, the second one, the third
# two; then one and two in turn.
#
# **How long is the output?** The last of $n$ stamps begins at $(n - 1)s$ and is $k$ long.
# Padding $p$ cuts $p$ cells off at either end, and *output padding* $r$ adds some at one end:
#
# $$n' = (n - 1)\,s + k - 2p + r .$$
#
# A plan that is often seen grows an image from a single cell in four steps:

# %%
PLAN = ((3, 1, 0), (3, 2, 0), (3, 2, 0), (2, 2, 1))  # kernel, stride, padding


def transposed_side(side, kernel, stride, padding=0, output_padding=0):
    """Width and height after a transposed convolution of a square."""
    return (side - 1) * stride + kernel - 2 * padding + output_padding

# %% tags=["hide-input"]
rows, cells = [], torch.zeros(1, 1, 1, 1)
for kernel_size, stride, padding in PLAN:
    side = transposed_side(cells.shape[-1], kernel_size, stride, padding)
    cells = nn.ConvTranspose2d(1, 1, kernel_size, stride, padding)(cells)
    rows.append((kernel_size, stride, padding, side, str(tuple(cells.shape[2:]))))
tables.table(("kernel", "stride", "padding", "side by the formula", "by PyTorch"), rows)

# %% [markdown]
# ## Checkerboards
#
# Outputs that see one input stand beside outputs that see two. What becomes of an image
# whose pixels are all the same? Above, all weights are 1; below, they are random, as at the
# start of a training.

# %%
def layer_of(how, start):
    """A layer that enlarges one channel, its weights 1 or random, without a bias."""
    layers = nn.Sequential(*enlarging(1, 1, how))
    start(layers[-1].weight)
    nn.init.zeros_(layers[-1].bias)
    return layers


def flat_through(layers):
    """What becomes of a constant image, scaled to [0, 1], without its border."""
    made = layers(torch.ones(1, 1, 8, 8)).detach()[0, :, 2:-2, 2:-2]  # (1, 12, 12)
    low, high = made.min(), made.max()
    return (made - low) / (high - low) if high - low > 1e-5 else made * 0 + 0.5

# %%
torch.manual_seed(cfg.seed)
WAYS = ("kernel 3", "kernel 4", "resize")
flat = {start: torch.stack([flat_through(layer_of(how, fill)) for how in WAYS])
        for start, fill in {"ones": nn.init.ones_, "random": nn.init.normal_}.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of three squares. With weights of one: kernel 3 gives a checkerboard, kernel 4 and resize even grey. With random weights: kernel 3 and kernel 4 both give a pattern that repeats every two pixels; resize stays even grey."}}
ax = figures.image_grid(torch.cat(list(flat.values())), columns=3,
                        titles=[f"{how}, {start}" for start in flat for how in WAYS])
ax.figure.set_size_inches(5, 3.8)

# %% [markdown]
# With weights of 1, kernel 3 and stride 2 turn the constant image into a **checkerboard**
# (Odena et al., 2016): cells see one, two or four inputs, since 3 is not a multiple of 2.
# Kernel 4 gives every cell inside four inputs, and an even grey. But even overlap is no
# guarantee. In one dimension with kernel $w_0 \dots w_3$, outputs at even places are
# $w_1 + w_3$ times the input and those at odd places $w_0 + w_2$: two different sums, unless
# training makes them equal. In the image there are four such sums, one for each parity of row
# and column. *Resize and convolve* has the same sum at every place, and keeps even what is even. This is a statement about a layer before training. Whether a trained generator
# shows it we shall measure.
#
# ## A recipe that falls short
#
# Not every DCGAN works. Here is one as it circulates in courses: the plan above with 256,
# 128 and 64 channels, ReLU, no bias and no normalisation; against it three convolutions of
# kernel 3 and stride 2 with 128, 256 and 256 channels, each with dropout ½, and a convolution
# that makes the logit; Adam as it comes, rate 2e-4. Padding 1 in $D$ and batches of 64 are our
# choice, since it leaves them open. It is meant for about 150 epochs, a day's work here; it
# gets two, 100,000 images, as every row of the ladder below.

# %%
def source_players():
    """The generator and discriminator of that recipe."""
    widths = (cfg.noise_size, 256, 128, 64)
    g = [nn.Unflatten(1, (cfg.noise_size, 1, 1))]
    for (inputs, outputs), step in zip(itertools.pairwise(widths), PLAN):
        g += [nn.ConvTranspose2d(inputs, outputs, *step, bias=False), nn.ReLU()]
    g += [nn.ConvTranspose2d(64, 1, *PLAN[3], bias=False), nn.Tanh()]
    d = []
    for inputs, outputs in itertools.pairwise((1, 128, 256, 256)):
        conv = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        d += [conv, nn.LeakyReLU(0.2), nn.Dropout(0.5)]
    d += [nn.Conv2d(256, 1, 4), nn.Flatten()]  # of 4 x 4 cells
    return nn.Sequential(*g), nn.Sequential(*d)


torch.manual_seed(cfg.seed)
g, d = (net.to(device, memory_format=torch.channels_last) for net in source_players())
source = GAN(g, d, cfg.noise_size, rates=(2e-4, 2e-4), betas=(0.9, 0.999), decay=0.0)
saved = Checkpoint("source", record, [source_players, GAN, train_gan])
train_gan(source, x, cfg.source_epochs, cfg.batch_size, saved);

# %% tags=["hide-input"]
distance, shares = score(source.g, held)
record.measure("recipe as it circulates: Fréchet distance", distance, floor=floor)
for who in "dg":
    record.measure(f"recipe as it circulates: loss of {who.upper()}",
                   source.history[f"{who}_loss"][-1])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of twelve images. The recipe after two epochs: dots at regular places, with bright blotches over some of them; no garment can be made out. Ours after two epochs: garments with clear outlines."}}
figures.before_after({"the recipe": (source.history["samples"][-1][:12] + 1) / 2,
                      "ours": (final.history["samples"][cfg.source_epochs - 1][:12] + 1)
                      / 2});

# %% [markdown]
# Dots at regular places, with blotches over them, at distance {{recipe as it circulates: Fréchet distance | .0f}}; ours, after as
# many images, are clothes. The losses say who won: $D$ {{recipe as it circulates: loss of D | .2f}}, $G$
# {{recipe as it circulates: loss of G | .1f}}. This is one run, and the beginning of a long training; what it becomes after
# 150 epochs we have not seen.
#
# One thing can be measured before any training: how much of the noise arrives. After each
# layer with an activation we take the standard deviation over a batch of noise, averaged over
# all places.

# %%
@torch.inference_mode()
def signal_sizes(generator, z):
    """How much the numbers after each activation vary over the batch."""
    found = []
    for layer in generator:
        z = layer(z)
        if isinstance(layer, nn.ReLU | nn.LeakyReLU | nn.Tanh):
            found.append(z.std(dim=0).mean().item())
    return found


torch.manual_seed(cfg.seed)
z = torch.randn(256, cfg.noise_size, generator=rng)
fresh = {"the recipe": source_players()[0]}
for name, norm in {"ours": True, "ours, no norm": False}.items():
    fresh[name] = make_generator(cfg.noise_size, cfg.widths[0], norm=norm)
sizes = {name: signal_sizes(g, z) for name, g in fresh.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Curves over the four activations of untrained generators, on a logarithmic axis: with batch normalisation the signal stays near one and falls at the last layer; without it, and in the recipe, it falls from layer to layer by orders of magnitude."}}
fig, ax = plt.subplots(figsize=(7, 3.2))
plots.curves(ax, sizes, x=range(1, 5), xlabel="activation", yscale="log",
             ylabel="spread over the batch")
ax.set_xticks(range(1, 5))
for name, values in sizes.items():
    record.measure(f"signal at the output, {name}", values[-1])

# %% [markdown]
# In the recipe little of the noise arrives: a spread of {{signal at the output, the recipe | .3f}} is left at the output, so that at the
# start all its images are nearly the same grey. Our generator without normalisation loses most of it, too
# ({{signal at the output, ours, no norm | .3f}}); batch normalisation restores the signal after each layer
# ({{signal at the output, ours | .2f}}). Whether that matters for the images is another question; the next table gives a hint.
#
# ## What makes the difference?
#
# Our network differs from the recipe in many ways at once. To tell them apart, we take *ours*
# at half the width, and change **one** thing: how it enlarges, normalisation in $G$, Adam's
# betas, the rate, and what holds $D$ back. Dropout is the recipe's; **batch normalisation** in
# both players is the paper's; **spectral normalisation** (Miyato et al., 2018) divides each
# weight matrix by its largest singular value, so that $D$ cannot be steep. Every row has two
# epochs, the same three seeds and averaged weights.

# %%
ROWS = {"ours": {},
        "kernel 4, stride 2": dict(enlarge="kernel 4"),
        "kernel 3, stride 2": dict(enlarge="kernel 3"),
        "no norm in G": dict(norm=False),
        "betas (0.9, 0.999)": dict(betas=(0.9, 0.999)),
        "rate 2e-4": dict(rate=2e-4),
        "D held by nothing": dict(penalty=0.0),
        "D held by dropout": dict(penalty=0.0, hold="dropout"),
        "D held by batch norm": dict(penalty=0.0, hold="batch"),
        "D held by spectral norm": dict(penalty=0.0, hold="spectral")}

# %%
def play_row(name, change, seed):
    """Play one game of the ladder, from its checkpoint if there is one."""
    game = new_game(seed, cfg.ladder_widths, cfg.ladder_epochs, **change)
    saved = Checkpoint(f"{name}, seed {seed}", record, CODE)
    return train_gan(game, x, cfg.ladder_epochs, cfg.batch_size, saved)


ladder = {name: [play_row(name, change, seed) for seed in range(cfg.n_seeds)]
          for name, change in ROWS.items()}

# %% tags=["hide-input"]
def paired(first, second):
    """Mean of the differences of paired results, and half of its 95 % t-interval."""
    gaps = np.subtract(first, second)
    scale = student.ppf(0.975, len(gaps) - 1) / math.sqrt(len(gaps))
    return gaps.mean(), scale * gaps.std(ddof=1)

# %% tags=["hide-input"]
rows, base = [], None
for name, games in ladder.items():
    scores = [score(game.average, held) for game in games]
    distances = [distance for distance, _ in scores]
    base = base or distances
    record.measure_seeds(f"{name}: Fréchet distance", distances, floor=floor)
    worse, half = paired(distances, base)
    if name != "ours":
        record.measure(f"{name}: worse by", worse)
        record.measure(f"{name}: half of the interval", half)
    smallest = np.mean([shares.min().item() for _, shares in scores])
    ends = [np.mean([game.history[f"{who}_loss"][-1] for game in games])
            for who in "dg"]
    change = "" if name == "ours" else f"{worse:+.1f} ± {half:.1f}"
    rows.append((name, np.mean(distances), change, f"{smallest:.1%}", *ends))
tables.table(("one change", "distance", "worse by", "smallest class", "loss of D",
              "loss of G"), rows)

# %% [markdown]
# The interval after each difference is a 95 % t-interval over three pairs of games: wide, and honest. Two changes cost
# most: Adam's usual betas ({{betas (0.9, 0.999): worse by | +.1f}} ± {{betas (0.9, 0.999): half of the interval | .1f}}) and the
# small rate ({{rate 2e-4: worse by | +.1f}} ± {{rate 2e-4: half of the interval | .1f}}), both of the recipe. Then
# kernel 3 ({{kernel 3, stride 2: worse by | +.1f}} ± {{kernel 3, stride 2: half of the interval | .1f}}), dropout in place of R1
# ({{D held by dropout: worse by | +.1f}} ± {{D held by dropout: half of the interval | .1f}}), nothing in its place
# ({{D held by nothing: worse by | +.1f}} ± {{D held by nothing: half of the interval | .1f}}) and no normalisation in $G$
# ({{no norm in G: worse by | +.1f}} ± {{no norm in G: half of the interval | .1f}}): which may be the fading signal, or the norm's other effects. For kernel 4 ({{kernel 4, stride 2: worse by | +.1f}} ± {{kernel 4, stride 2: half of the interval | .1f}}),
# batch norm ({{D held by batch norm: worse by | +.1f}} ± {{D held by batch norm: half of the interval | .1f}}) and spectral norm
# ({{D held by spectral norm: worse by | +.1f}} ± {{D held by spectral norm: half of the interval | .1f}}) in $D$ the interval holds zero:
# no difference seen. Look at the losses: with batch norm in $D$ they are as far apart as anywhere in the table, and
# the images are among the best.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Rows of twelve images from the same noise, one row for each of five entries of the ladder: all show garments; with kernel 3 a fine grid lies over some of them, and without a penalty edges are ragged."}}
shown = ["ours", "kernel 3, stride 2", "no norm in G", "D held by nothing",
         "D held by dropout"]
figures.before_after({name: (ladder[name][0].history["samples"][-1][:12] + 1) / 2
                      for name in shown});

# %% [markdown]
# By eye the rows are closer than by number; with kernel 3 a fine grid lies over some garments.
#
# **Two epochs are not a training.** A short race shows who starts fast. So the full network plays
# once more, with nothing to hold $D$ back, beside the game that we know:

# %%
loose = new_game(cfg.seed, cfg.widths, cfg.final_epochs, penalty=0.0)
saved = Checkpoint("loose", record, CODE)
train_gan(loose, x, cfg.loose_epochs, cfg.batch_size, saved, watch);

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fréchet distance over the epochs on a logarithmic scale: with the penalty it keeps falling; without, it falls at first as fast and then stays where it is or rises."}}
fig, ax = plt.subplots(figsize=(7, 3.2))
both, n = {"with R1": final, "without": loose}, cfg.loose_epochs
averages = {name: [pair[0] for pair in game.history["watched"][:n]]
            for name, game in both.items()}
plots.curves(ax, averages, x=range(1, n + 1), xlabel="epoch", ylabel="Fréchet distance",
             yscale="log", reference={"floor": floor})
for name, game in both.items():
    first, *_, last = averages[name]
    record.measure(f"{name}, first epoch: Fréchet distance", first, floor=floor)
    record.measure(f"{name}, last common epoch: Fréchet distance", last, floor=floor)
    record.measure(f"{name}, last common epoch: loss of D",
                   game.history["d_loss"][n - 1])

# %% [markdown]
# In the first epoch the two are close ({{with R1, first epoch: Fréchet distance | .1f}} and
# {{without, first epoch: Fréchet distance | .1f}}). After that the game with R1 goes on improving, to
# {{with R1, last common epoch: Fréchet distance | .1f}}; the one without turns after a few epochs and ends at
# {{without, last common epoch: Fréchet distance | .1f}}, while its $D$ becomes more and more certain
# (loss {{without, last common epoch: loss of D | .2f}} against {{with R1, last common epoch: loss of D | .2f}}). One game of each kind,
# and one change: here it is the penalty that makes a long training worth its time.
#
# ## What the spectrum shows
#
# A checkerboard is a wave that goes up and down every two pixels: 14 waves in a row of 28, the
# highest frequency there is. So we take the **power spectrum**, the mean square of the Fourier
# coefficients along rows, and divide by that of real images: 1 is right.

# %%
def row_spectrum(images):
    """Mean power of each frequency along the rows of images (N, 1, 28, 28): (15,)."""
    return torch.fft.rfft(images, dim=3).abs().square().mean(dim=(0, 1, 2))

# %%
z = torch.randn(2000, cfg.noise_size, generator=rng).to(device)
usual = row_spectrum(x[:2000].cpu())
ratios = {name: row_spectrum(generate(ladder[name][0].average, z)) / usual
          for name in ("ours", "kernel 4, stride 2", "kernel 3, stride 2")}
ratios["final"] = row_spectrum(generate(averaged, z)) / usual
ratios["the recipe"] = row_spectrum(generate(source.g, z)) / usual

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the ratio of power to that of real images over the frequency, on a logarithmic scale with a dashed line at 1, for five generators: the recipe lies far below 1 in between and has peaks at 7 and 14 waves, the highest nearly 6; all others stay close to 1, the final network closest. Right: a zoomed crop of an image by the recipe."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.6), width_ratios=(2, 1))
plots.curves(axes[0], ratios, xlabel="waves a row", ylabel="power, fake / real",
             yscale="log", reference={"real": 1.0}, legend=True)
crop = source.history["samples"][-1][0, 0, 6:22, 6:22]
axes[1].imshow(crop, vmin=-1, vmax=1)
axes[1].set(title="the recipe, enlarged", xticks=[], yticks=[])
for name, ratio in ratios.items():
    record.measure(f"power at 14 waves, {name} / real", ratio[14].item())
    record.measure(f"power at 12 waves, {name} / real", ratio[12].item())

# %% [markdown]
# The recipe has {{power at 14 waves, the recipe / real | .1f}} times the power of real images at 14 waves, and a second peak at 7,
# the pattern of the layer before, enlarged once more; on the right it can be seen. The trained generators of the
# ladder are close to real images there, kernel 3 ({{power at 14 waves, kernel 3, stride 2 / real | .2f}}) and kernel 4
# ({{power at 14 waves, kernel 4, stride 2 / real | .2f}}) included, one generator each; ours is farther off, at
# {{power at 14 waves, ours / real | .2f}}. No such peak is left: the pattern of the start (exercise 4) is largely gone. Our final network has {{power at 14 waves, final / real | .2f}}.
#
# ## Walking through the noise
#
# What lies between two noises? Not on the straight line: in 128 dimensions nearly all have a
# length near $\sqrt{128} \approx 11.3$, and the middle between two is only about
# $11.3/\sqrt 2 = 8$ long, which the generator never met. **Spherical interpolation** walks along the
# arc, with
# $z(t) = \frac{\sin((1-t)\omega)}{\sin\omega} z_0 + \frac{\sin(t\omega)}{\sin\omega} z_1$ and the
# angle $\omega$ between the two (Shoemake, 1985).

# %% recap=["arc"]
def arc(z0, z1, t):
    """Points on the arc from z0 (N,) to z1 (N,) at shares t (T,) of the way: (T, N)."""
    cosine = F.cosine_similarity(z0, z1, dim=0).clamp(-1, 1)
    angle, t = cosine.acos(), t[:, None]
    return (((1 - t) * angle).sin() * z0 + (t * angle).sin() * z1) / angle.sin()


t = torch.linspace(0, 1, 10, device=device)
ends = torch.randn(8, cfg.noise_size, generator=rng).to(device)
middle = [(z0 + z1).norm().item() / 2 for z0, z1 in ends.split(2)]
print("length of the middle: line", round(statistics.fmean(middle), 1),
      "arc", round(arc(*ends[:2], t)[5].norm().item(), 1))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four rows of ten images, each row a walk in small steps: a pullover becomes a T-shirt and something like a bag, trousers dissolve into fragments, a plain jacket gets stripes, a boot becomes a bag and a shirt."}}
walks = torch.cat([arc(z0, z1, t) for z0, z1 in ends.split(2)])
figures.image_grid((generate(averaged, walks) + 1) / 2, columns=10);

# %% [markdown]
# Most steps change little; in the last row one step turns a boot into a bag. Where the kind changes, what lies
# between is passed quickly. The second row ends in a fragment: not every noise gives
# a garment.
#
# **Arithmetic.** The DCGAN paper found that directions in the noise have meanings. We test it
# with a control. From many noises take the 500 whose images the judge finds most like a
# *sneaker*, and the 500 most like a *boot*. The difference of their means is a direction, the
# arrow. Add it to the noise of *other* sneakers: do they become boots? A random direction of the
# same length is the control.

# %%
SNEAKER, BOOT = 7, 9  # labels of Fashion-MNIST


def most_like(label, z, n):
    """The n noises of z whose images the judge finds most likely to be of the class."""
    features = judge.features((generate(averaged, z) + 1) / 2).to(device)
    return z[judge.head(features).log_softmax(dim=1)[:, label].topk(n).indices]


def share_of(label, z):
    """Which share of the images from z the judge takes for the class."""
    return (judge.classify((generate(averaged, z) + 1) / 2) == label).float().mean()

# %%
z, others = torch.randn(2, 20 * cfg.n_arrows, cfg.noise_size, generator=rng).to(device)
sneakers, boots = (most_like(label, z, cfg.n_arrows) for label in (SNEAKER, BOOT))
arrow = boots.mean(dim=0) - sneakers.mean(dim=0)
chance = torch.randn(cfg.noise_size, generator=rng).to(device)
chance *= arrow.norm() / chance.norm()
sneakers = most_like(SNEAKER, others, cfg.n_arrows)

# %% tags=["hide-input"]
rows, TIMES = [], (0, 0.5, 1, 2, 3)
for times in TIMES:
    shares = [share_of(BOOT, sneakers + times * way).item() for way in (arrow, chance)]
    record.measure(f"sneakers that {times} arrows turn into boots", shares[0],
                   floor=shares[1])
    rows.append((f"{times}", *(f"{share:.0%}" for share in shares)))
record.measure("length of the arrow", arrow.norm().item())
tables.table(("times", "boots, along the arrow", "along a random arrow"), rows)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five rows of ten shoes: sneakers above, and the same noise moved by half an arrow, one, two and three; from row to row a shaft grows, and the last rows look more and more alike."}}
moved = {f"{times} arrows": sneakers[:10] + times * arrow for times in TIMES}
figures.before_after({name: (generate(averaged, z) + 1) / 2
                      for name, z in moved.items()});

# %% [markdown]
# One arrow turns {{sneakers that 1 arrows turn into boots | .0%}} of the sneakers into boots, three
# {{sneakers that 3 arrows turn into boots | .0%}}; a random one of the same length {{sneakers that 1 arrows turn into boots | floor .0%}} and
# {{sneakers that 3 arrows turn into boots | floor .0%}}. So the direction is real, and nothing in the training asked for it. The
# pictures add two things. The way is not always short: the first sneaker is a pullover before it is a boot. And at
# three arrows the boots are nearly the *same* boot, white and with a heel: the arrow carries whatever boots have more
# often than sneakers, and far from where noise usually lies there is less variety.
#
# ## Summary
#
# * Convolutions share weights over all places; with batches of 64 and a falling rate they came much closer to
#   real clothes in a third of the images.
# * A transposed convolution is a convolution of a row with holes. The weights of even and odd places differ in sum, so that a pattern of two pixels is there at the start, with even overlap too. Resize and convolve has none.
# * Of nine single changes at two epochs, betas and rate cost most; for kernel 4, batch or spectral norm
#   in $D$ no difference was seen. A short race is not a training: without a penalty the same network got worse after the
#   third epoch.
# * With a falling rate, averaged weights lead midway, but at the end hardly.
# * What it cannot do: nobody can tell it *what* to make (chapter 5), and 28 x 28 is small (chapter 6).
#
# ## Exercises
#
# **1. Why "transposed"?** *(easy)* On paper: write the convolution with stride 2 that takes seven
# numbers to three as a 3 x 7 matrix. What does its transpose do to the row of the example?

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
# **2. A transposed convolution of your own.** *(medium)* Write `my_transposed(x, weight, stride)` for
# `x` (B, C, H, W) and `weight` (C, D, K, K) with `F.conv2d` alone. It passes if it agrees with
# `F.conv_transpose2d`.

# %% tags=["solution"]
def my_transposed(x, weight, stride):
    b, c, h, w = x.shape
    k = weight.shape[-1]
    holes = x.new_zeros(b, c, (h - 1) * stride + 1, (w - 1) * stride + 1)
    holes[:, :, ::stride, ::stride] = x
    mirrored = weight.flip(2, 3).transpose(0, 1)  # (D, C, K, K)
    return F.conv2d(holes, mirrored, padding=k - 1)


some, weight = torch.randn(2, 3, 5, 4), torch.randn(3, 6, 4, 4)
for stride in (1, 2, 3):
    theirs = F.conv_transpose2d(some, weight, stride=stride)
    assert torch.allclose(my_transposed(some, weight, stride), theirs, atol=1e-4)
print("agrees for strides 1, 2 and 3")

# %% [markdown]
# **3. Alone or in company.** *(easy)* In `train()`, generate one image alone, and then from the same
# noise together with 63 others. Are they the same? And in `eval()`?

# %% tags=["solution"]
probe = make_generator(cfg.noise_size, 4)
z = torch.randn(64, cfg.noise_size, generator=rng)
with torch.inference_mode():
    for mode in (True, False):
        probe.train(mode)
        gap = (probe(z[:1]) - probe(z)[:1]).abs().max()
        print(f"training mode {mode}: largest difference {gap:.4f}")
# In training mode, batch normalisation uses the mean of whatever is in the batch: an
# image depends on its company. eval() takes the running averages; `generate` does that.

# %% [markdown]
# **4. A pattern from the start.** *(medium)* Compare the spectra of *untrained* generators that enlarge
# with kernel 3, kernel 4 and resize. Which peaks are there before anything was learned?

# %% tags=["solution"]
torch.manual_seed(cfg.seed)
z = torch.randn(500, cfg.noise_size, generator=rng)
for how in WAYS:
    power = row_spectrum(generate(make_generator(cfg.noise_size, 12, how), z))
    around = (power[11] + power[12]) / 2
    print(f"{how}: power at 14 waves {power[14] / around:.2f}, at 7 waves"
          f" {power[7] / around:.2f} of that at 11 and 12")
# Both transposed layers have peaks, the one with even overlap too: four independent
# sets of weights, one a parity. With resize there is none to unlearn.

# %% [markdown]
# **5. Why averaging helps.** *(medium)* Two players with one number each: $x$ wants $xy$ small, $y$ wants
# it large. Let both follow their gradient in small steps, at once. Where do they go, and where is
# the average of their path?

# %% tags=["solution"]
point, path = torch.tensor([1.0, 0.0]), []
for _ in range(2000):
    a, b = point
    point = point + 0.01 * torch.stack((-b, a))
    path.append(point)
path = torch.stack(path)
print(f"distance from the solution: start 1.00, end {path[-1].norm():.2f}")
print(f"distance of the average: {path.mean(dim=0).norm():.2f}")
# They circle around (0, 0), slowly outwards, and never arrive; the middle of the circle
# is the solution.

# %% [markdown]
# **6. What spectral normalisation does.** *(medium)* Wrap a linear layer in `spectral_norm`, call it often
# in training mode, and compute its largest singular value. By how much can its output change at most
# if its input changes by a vector of length 1?

# %% tags=["solution"]
layer = nn.Linear(50, 30)
print(f"before: {torch.linalg.svdvals(layer.weight)[0]:.4f}")
layer = spectral_norm(layer)
for _ in range(50):
    layer(torch.randn(1, 50))  # each call in training mode improves the estimate
print(f"after 50 calls: {torch.linalg.svdvals(layer.weight)[0]:.4f}")
# The largest singular value becomes 1, so that the output changes by at most 1.

# %% [markdown]
# **7. Open.** *(hard)* Every row of the ladder was judged after two epochs at half width. Choose two rows
# whose order you doubt, and design the cheapest experiment that would convince you.
#
# ## Deeper
#
# ### What makes a step faster?
#
# **Channels last** stores the numbers of all channels of a pixel side by side, as fast convolution
# kernels want them. **Mixed precision** computes forward passes in bfloat16, numbers of half the length;
# `autocast` surrounds the forward pass and the loss and nothing else. Each way gets a game of its own,
# of $D$'s step without the penalty and $G$'s, three steps to warm up and the median of the next.

# %%
def step_time(net, real, z, layout, precision):
    """Median seconds of forward and backward of both players, in a layout."""
    g, d = (player.to(memory_format=layout) for player in net)
    times = []
    for _ in range(cfg.n_timed + 3):
        with runtime.Stopwatch(device) as clock:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision):
                loss = F.softplus(-d(real)).mean() + F.softplus(d(g(z))).mean()
            loss.backward()
        times.append(clock.seconds)
    return statistics.median(times[3:])

# %% tags=["hide-input"]
real = x[: cfg.batch_size]
z = torch.randn(len(real), cfg.noise_size, generator=rng).to(device)
rows = []
for name, layout, precision in (
        ("as they come", torch.contiguous_format, False),
        ("channels last", torch.channels_last, False),
        ("channels last, bfloat16", torch.channels_last, True)):
    game = new_game(cfg.seed, cfg.widths, 1)
    seconds = step_time((game.g, game.d), real, z, layout, precision)
    rows.append((name, f"{1000 * seconds:.1f}"))
tables.table(("way", "milliseconds, forward and backward"), rows)

# %% [markdown]
# On these two cores, which compute fast in bfloat16, each way helps, the second more than the first; on another machine
# it may be otherwise. The trainings above use channels last only: whether bfloat16 leaves the images as good was not
# tested. The lesson is the procedure: change one line, warm up, take the median of many steps.
#
# ## References
#
# * V. Dumoulin, F. Visin. *A guide to convolution arithmetic for deep learning.* 2016.
#   <https://doi.org/10.48550/arXiv.1603.07285>
# * L. Mescheder, A. Geiger, S. Nowozin. *Which training methods for GANs do actually
#   converge?* ICML 2018. <https://doi.org/10.48550/arXiv.1801.04406>
# * T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida. *Spectral normalization for generative
#   adversarial networks.* ICLR 2018. <https://doi.org/10.48550/arXiv.1802.05957>
# * A. Odena, V. Dumoulin, C. Olah. *Deconvolution and checkerboard artifacts.* Distill,
#   2016. <https://doi.org/10.23915/distill.00003>
# * A. Radford, L. Metz, S. Chintala. *Unsupervised representation learning with deep
#   convolutional generative adversarial networks.* ICLR 2016.
#   <https://doi.org/10.48550/arXiv.1511.06434>
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

# %% tags=["hide-input"]
record.card()
