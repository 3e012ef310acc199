# %% [markdown]
# # 5. Conditional GAN: say which digit
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/05_cgan.ipynb)
#
# The generators of chapters 3 and 4 made whatever the noise happened to mean. Here you will
# say *what* to make: a seven, and each time another seven. You will derive what a label does
# to the game, see how it enters a network, and measure how often you get what you asked for.
#
# ![A grid of ten rows and ten columns of handwritten digits. Each column shows one digit from 0 to 9, each row one style of writing.](attachment:result.png)
#
# *One row is one noise, one column is one label. None was selected.*
#
# **Time to run:** about 35 minutes on two CPU cores (`laptop` profile), a few seconds to try that everything works
# (`smoke`); `full`, for a GPU, trains for longer.
# **You need:** chapters 3 and 4.

# %% [markdown]
# ## A label for both players
#
# A generator of chapter 4 knows what a shoe is and what a shirt is, but nobody decided which noise
# gives which. To get a shoe, one has to generate, look and throw away.
#
# The data could help: every image of MNIST (LeCun et al., 1998) comes with a **label**, the digit that
# it shows. A **conditional GAN** (Mirza and Osindero, 2014) shows the label to *both* players, as a
# **condition**. The generator gets it beside the noise. The discriminator gets it beside the image, and
# must say whether this could be a real image *with this label*. A beautiful 3 does not pass as a 7 any
# more. That is all that changes.

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

import copy
import itertools
import math
import statistics
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn
from torch.utils.data import TensorDataset

from genlab_helpers import data, figures, metrics, networks, plots, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.recap import ConvGAN, arc, bce, generate, make_discriminator
from genlab_helpers.recap import make_generator, paired, steepness, train_gan
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images, a sixth of them held out
    n_each: int = 1_000  # generated images of each digit behind a measurement
    n_floor: int = 5  # draws of real images behind the floor
    noise_size: int = 100  # random numbers behind an image
    batch_size: int = 64  # real images a step, and as many fakes
    widths: tuple = (16, 24)  # channels of G and D, as in chapter 4
    best_epochs: int = 8
    n_seeds: int = 3  # games behind each claim
    plain_epochs: int = 12  # of the plain network
    race_sizes: tuple = (1, 64, 256, 512)  # mini-batches that are compared
    race_rates: tuple = (1e-3, 1e-3, 4e-3, 4e-3)  # and the rate for each
    race_epochs: int = 6  # epochs of a race ...
    race_seconds: float = 60.0  # ... that is stopped after this time
    ladder_epochs: int = 1  # of each way in which the label can enter
    lesson_epochs: int = 4  # of the classifier that learns from generated digits
    n_draws: int = 20  # of 2,000 digits, for a number that readers can check


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_each=20, n_floor=2, batch_size=50, widths=(4, 4),
               best_epochs=1, n_seeds=2, plain_epochs=2, race_sizes=(1, 50),
               race_rates=(1e-3, 1e-3), race_epochs=1, race_seconds=0.2,
               lesson_epochs=1, n_draws=2),
    full=dict(best_epochs=40, race_epochs=12, race_seconds=7200.0, n_seeds=5),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("05_cgan", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# A network wants numbers that mean amounts, and a 9 is not nine times a 1. So a label becomes a row
# of ten numbers, 1 in its own place and 0 elsewhere (**one-hot**): any two labels are equally far apart.
# Images and labels are indexed together. A sixth of the training images is held out.

# %% recap=["Labelled"]
class Labelled(TensorDataset):
    """Images (N, 1, 28, 28) and one-hot labels (N, 10); [rows] gives both."""

    @property
    def device(self):
        return self.tensors[0].device


def one_hot(y):
    """Digits y (N,), whole numbers from 0 to 9 -> rows (N, 10)."""
    return F.one_hot(torch.as_tensor(y), 10).float()

# %%
digits, digits_test = data.mnist("train"), data.mnist("test")
images, labels = digits.images[: cfg.n_images], digits.labels[: cfg.n_images]
n_learn = 5 * len(images) // 6  # the rest is held out, to choose by
x, y = images[:n_learn].to(device), labels[:n_learn].to(device)
train = Labelled(x, one_hot(y))

# %% tags=["hide-input"]
def balanced(y, n_each, generator):
    """Rows of n_each random images of each digit, digit after digit."""
    order = torch.randperm(len(y), generator=generator)
    return torch.cat([order[y[order] == digit][:n_each] for digit in range(10)])

# %% tags=["hide-input"]
for used in (digits, digits_test):
    record.use(used)
judge = networks.judge("MNIST", device)
ceiling = networks.accuracy(judge, digits_test.images, digits_test.labels)
rows = balanced(digits_test.labels, digits_test.labels.bincount().min(), rng)
test_y, tested = digits_test.labels[rows], judge.features(digits_test.images[rows])
rows = balanced(labels[n_learn:], labels[n_learn:].bincount().min(), rng)
held = judge.features(images[n_learn:][rows])  # (9000 or so, 64)
draws = [balanced(y.cpu(), cfg.n_each, rng) for _ in range(cfg.n_floor)]
floors = [metrics.frechet_distance(judge.features(x[rows.to(device)]), tested)
          for rows in draws]
floor = statistics.fmean(floors)
record.measure_seeds("real against real: Fréchet distance", floors)
record.measure("judge, accuracy on real test images", ceiling, floor=0.1, ceiling=1.0)
print(f"judge right on {ceiling:.2%} of the test images; floor {floor:.3f}")

# %% [markdown]
# ## The players
#
# The generator is that of chapter 4. It gets the label as ten more inputs:

# %% recap=["with_label"]
def with_label(z, labels):
    """Noise (N, noise_size) and one-hot labels (N, 10) -> (N, noise_size + 10)."""
    if z.ndim != 2 or labels.shape != (len(z), 10):
        raise ValueError(f"noise {tuple(z.shape)} and labels {tuple(labels.shape)} do"
                         " not fit: use (N, noise_size) and (N, 10)")
    return torch.cat((z, labels.to(z.device)), dim=1)

# %% [markdown]
# The discriminator has to be told the label in some other way, since it begins with a convolution over pixels. Ours is
# told twice: each label adds a learned number to every channel after the first convolution (**label
# bias**), and has a learned row that is multiplied with the last features (**projection**). Where both come
# from is told below.

# %%
class LabelDiscriminator(nn.Module):
    """Images (B, 1, 28, 28) and one-hot labels (B, 10) -> logits (B, 1)."""

    def __init__(self, channels, bias=True, projection=True):
        super().__init__()
        net = make_discriminator(channels)
        self.first, self.body, self.last = net[0], net[1:-1], net[-1]
        self.bias = nn.Linear(10, channels, bias=False) if bias else None
        n = self.last.in_features
        self.row = nn.Linear(10, n, bias=False) if projection else None

    def forward(self, x, labels):
        h = self.first(x)  # (B, channels, 14, 14)
        if self.bias is not None:
            h = h + self.bias(labels)[:, :, None, None]
        features = self.body(h)  # (B, 16 * 4 * channels)
        logits = self.last(features)
        if self.row is not None:
            logits = logits + (self.row(labels) * features).sum(dim=1, keepdim=True)
        return logits

# %% [markdown]
# ## The step
#
# One step, in full. Compare it with chapter 3: the only news is `labels`, which stand in every call of
# a player. A fake is judged with the label that it was made for; that is what makes the label a
# condition. (The rates that fall, the penalty and the averaged weights are those of chapters 3 and 4.
# Some programs give the fakes labels of their own, at random; we test that below.)

# %% recap=["ConditionalGAN"]
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

# %%
def conditional_game(g, d, seed, kind=ConditionalGAN, **options):
    """A game of two players, with the ten digits in turn as its fixed labels."""
    game = kind(g.to(device), d.to(device), cfg.noise_size, seed=seed, **options)
    fixed = one_hot(torch.arange(len(game.fixed)) % 10)
    game.fixed = with_label(game.fixed, fixed)
    return game

# %%
def best_game(seed, epochs, penalty=0.5, **ways):
    """The convolutional players; ways: how D is told the label."""
    torch.manual_seed(seed)
    g = make_generator(cfg.noise_size + 10, cfg.widths[0])
    g = g[:-1].append(nn.Sigmoid())  # images in [0, 1]
    d = LabelDiscriminator(cfg.widths[1], **ways)
    n_steps = epochs * math.ceil(len(x) / cfg.batch_size)
    return conditional_game(g, d, seed, n_steps=n_steps, penalty=penalty)

# %%
def several(name, epochs, **ways):
    """Train the convolutional players from each seed."""
    return [train_gan(best_game(seed, epochs, **ways), train, epochs, cfg.batch_size,
                      Checkpoint(f"{name}, seed {seed}", record))
            for seed in range(cfg.n_seeds)]


best = several("best", cfg.best_epochs)

# %% [markdown]
# ## Did it do what we asked?
#
# The judge of chapter 3, a classifier of digits, can answer that. Ask for 1,000 images of each digit and
# count how often it sees the digit that was asked for: the **conditional accuracy**. Compare it with what the judge
# gets on real test images. Beside it stands the Fréchet distance with its floor, to as many
# real images of each digit.

# %%
wanted = torch.arange(10).repeat_interleave(cfg.n_each)
z = torch.randn(len(wanted), cfg.noise_size, generator=rng)
asked = with_label(z, one_hot(wanted)).to(device)


def seen_by_judge(fakes):
    """Features (N, 64) of images, and the digits that the judge sees (N,)."""
    features = judge.features(fakes)
    return features, judge.head(features.to(device)).argmax(dim=1).cpu()

# %%
def marks(net, features, every=1):
    """Conditional accuracy, and Fréchet distance to features of real images."""
    own, seen = seen_by_judge(generate(net, asked[::every]))
    accuracy = (seen == wanted[::every]).float().mean().item()
    return accuracy, metrics.frechet_distance(features, own)

# %% tags=["hide-input"]
results = [marks(game.average, tested) for game in best]
record.measure_seeds("best network: conditional accuracy", [a for a, _ in results],
                     floor=0.1, ceiling=ceiling)
record.measure_seeds("best network: Fréchet distance", [d for _, d in results],
                     floor=floor)
record.measure_seeds("best network: Fréchet distance / floor",
                     [d / floor for _, d in results], floor=1.0)
tables.table(("seed", "accuracy", "Fréchet distance", "times the floor"),
             [(f"{seed}", a, d, f"{d / floor:.1f}")
              for seed, (a, d) in enumerate(results)])

# %% tags=["hide-input", "result-picture"] mystnb={"image": {"alt": "Ten rows and ten columns of generated digits, one digit a column from 0 to 9, nearly all in clean strokes; within a row the digits share slant and thickness."}}
z = torch.randn(10, cfg.noise_size, generator=torch.Generator().manual_seed(7))
grid = with_label(z.repeat_interleave(10, dim=0), one_hot(torch.arange(10).repeat(10)))
grid, net = grid.to(device), best[0].average.module
fig, ax = plt.subplots(figsize=(6.6, 7))
figures.image_grid(generate(net, grid), columns=10, ax=ax,
                   titles=[*map(str, range(10)), *[""] * 90])
figures.caption_source(fig, digits);

# %% [markdown]
# Ten hands, ten digits each. Within a row the slant, the thickness and the size are much alike, although nobody
# asked for that: the label says *which* digit, and the noise is left to say *how*. On average over three games the judge
# sees the digit that was asked for in {{best network: conditional accuracy | .3f}} of the images; of real test images it
# recognises {{judge, accuracy on real test images | .3f}}. The distance is
# {{best network: Fréchet distance / floor | .1f}} times that of real images from other real ones.
#
# ## Ten games at once
#
# Real pairs $(x, y)$ of image and label have a density $p(x, y) = p(y)\, p(x \mid y)$. The generator gets
# labels from the same $p(y)$, so that its pairs have $q(x, y) = p(y)\, q(x \mid y)$. The value of the game is
# that of chapter 3 with pairs in place of images:
#
# $$V(G, D) = \mathbb{E}_{(x, y) \sim p}[\log D(x, y)]
# + \mathbb{E}_{y, z}[\log(1 - D(G(z, y), y))] .$$
#
# Nothing in the derivation of chapter 3 cared what an $x$ is, so it holds for pairs. The best
# discriminator is $\frac{p(x, y)}{p(x, y) + q(x, y)}$, where $p(y)$ cancels,
#
# $$D^*(x, y) = \frac{p(x \mid y)}{p(x \mid y) + q(x \mid y)} ,$$
#
# and the mean over pairs is a mean over labels:
#
# $$V(G, D^*) = -\log 4 + 2 \sum_y p(y)\, \mathrm{JSD}\big(p(\cdot \mid y), q(\cdot \mid y)\big) .$$
#
# Ten games of chapter 3, one for each digit, played by the same two networks. The sum is smallest only if
# *every* term is zero: $q(x \mid y) = p(x \mid y)$ for every label that occurs. Each cross-entropy is again
# $\log 2$ there.
#
# **It asks for more, not for less.** A generator of perfect digits that ignores the label would have
# won in chapter 3. Here it has not. We check it in a world of two labels and four images, with a
# table for $D$, and fakes with the right frequencies *overall*:

# %%
def jsd(p, q):
    """Jensen-Shannon divergence of two rows of probabilities (..., K)."""
    m = (p + q) / 2
    parts = torch.special.xlogy(p, p / m) + torch.special.xlogy(q, q / m)
    return parts.nansum(dim=-1) / 2  # 0 / 0, where neither ever is, counts as nothing

# %%
p = torch.tensor([[0.6, 0.4, 0.0, 0.0], [0.0, 0.1, 0.2, 0.7]])  # a row a label
q = p.mean(dim=0).expand(2, 4)  # the label is ignored; both labels are as frequent
board = nn.Parameter(torch.zeros(2, 4))  # logits of D
optimizer = torch.optim.SGD([board], lr=2.0, maximize=True)
for _ in range(2000):
    value = (p * F.logsigmoid(board) + q * F.logsigmoid(-board)).sum(dim=1).mean()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
print(f"V {value:.4f}, -log 4 + 2 JSD {2 * jsd(p, q).mean() - math.log(4):.4f}")
print(f"JSD: no labels {jsd(p.mean(0), q.mean(0)):.4f}, labels {jsd(p, q).mean():.4f}")

# %% [markdown]
# Without labels the divergence is 0 and there is nothing left to improve; with them it is 0.17. ($V$ lies a little below its
# formula, since some logits are still on their way to infinity.) (The divergence with labels is never
# the smaller one: exercise 1.) So theory does not promise *better* images. It is often claimed, and we shall
# measure it.
#
# ## How a label enters a network
#
# **In the generator**, a one-hot label times the first layer's weights picks one column of them: each digit
# *adds its own learned vector* (exercise 2). A table of such vectors is an **embedding**, `nn.Embedding`
# in PyTorch. An embedding *before* the first layer is two matrices in a row, which are one: the same
# functions (if the vectors have at least ten numbers), so nothing is gained but another way of learning them.
#
# **In the discriminator**, the oldest way is to make the label part of the image: ten more channels, each a
# **plane** of ones or zeros. A convolution makes of a constant plane the sum of its kernel, the same
# number everywhere (but for the border). So ten planes add one number for each label and channel, our
# **label bias**, at eleven times the work in that layer.
#
# **Projection.** Which logit is best? From $D^* = p/(p + q)$ it is $\log \frac{p(x, y)}{q(x, y)}$, and with
# $p(x, y) = p(x)\, p(y \mid x)$ it splits into two questions:
#
# $$\log \frac{p(x, y)}{q(x, y)} = \underbrace{\log \frac{p(x)}{q(x)}}_{\text{is it a real image?}}
# + \underbrace{\log p(y \mid x) - \log q(y \mid x)}_{\text{does the label fit real images better than fakes?}} .$$
#
# The second part is about classification. Suppose that features $\phi(x)$ make it easy, as in an ordinary
# classifier: $\log p(y \mid x)$ is linear in $\phi(x)$, with one row of weights a label, less a normaliser
# that does not depend on $y$; the same for $q$. Then the difference is an inner product of $\phi(x)$
# with one learned row a label, plus something that depends on $x$ alone and joins the first part:
#
# $$a(x, y) = \psi(\phi(x)) + \langle v_y, \phi(x) \rangle ,$$
#
# the **projection discriminator** (Miyato and Koyama, 2018). Which way is worth what? The same
# generator, seeds and epochs, one change:

# %% tags=["hide-input"]
def compare(groups, kind="Fréchet distance"):
    """A table of groups of (accuracy, distance), one pair a seed, against the first."""
    rows, (base, *_) = [], groups.values()
    for name, results in groups.items():
        row = [name]
        for i, what in enumerate(("accuracy", "Fréchet distance")):
            values = [result[i] for result in results]
            record.measure_seeds(f"{name}: {what}", values)
            gap, half = paired(values, [result[i] for result in base])
            row += [np.mean(values), f"{gap:+.3g} ± {half:.2g}"]
            if results is not base:
                record.measure(f"{name}: difference in {what}", gap)
                record.measure(f"{name}: half of the interval, {what}", half)
        rows.append(row)
    columns = ("games", "accuracy", "difference", "distance", "difference")
    return tables.table(columns, rows)

# %%
WAYS = {"bias and projection": {}, "bias alone": dict(projection=False),
        "projection alone": dict(bias=False)}
ladder = {name: several(name, cfg.ladder_epochs, **ways) for name, ways in WAYS.items()}
compare({name: [marks(game.average, held) for game in games]
         for name, games in ladder.items()})

# %% [markdown]
# After one epoch the **projection** is what counts. Without it the accuracy differs by
# {{bias alone: difference in accuracy | .2f}} ± {{bias alone: half of the interval, accuracy | .2f}} and the
# distance is larger by {{bias alone: difference in Fréchet distance | .1f}} ± {{bias alone: half of the interval, Fréchet distance | .1f}}.
# With the projection there, no difference is seen between having the bias and not having it (the interval, ±
# {{projection alone: half of the interval, Fréchet distance | .1f}}, would hide all but a large one). One epoch is little, and we have not
# tried which way is ahead after eight.
#
# ## A plain network, one image at a time
#
# A common first program plays with *one* image a step and small dense players: a hidden layer of 200,
# LeakyReLU with slope 0.02, and **layer normalisation** (Ba et al., 2016), which brings the 200 numbers of
# each image to mean 0 and standard deviation 1 and needs no other images beside it. The label stands at the
# end of the noise and of the pixels. We shall use these players where quick answers are wanted.

# %%
class PlainDiscriminator(nn.Module):
    """Images (B, 1, 28, 28) and one-hot labels (B, 10) -> logits (B, 1)."""

    def __init__(self, hidden=200):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(784 + 10, hidden), nn.LeakyReLU(0.02),
                                 nn.LayerNorm(hidden), nn.Linear(hidden, 1))

    def forward(self, x, labels):
        return self.net(torch.cat((x.flatten(1), labels), dim=1))  # (B, 784 + 10)

# %%
def plain_game(seed, rate=1e-3, hidden=200, kind=ConditionalGAN):
    """The plain players: no penalty, no average, the rate as it is."""
    torch.manual_seed(seed)
    g = nn.Sequential(nn.Linear(cfg.noise_size + 10, hidden), nn.LeakyReLU(0.02),
                      nn.LayerNorm(hidden), nn.Linear(hidden, 784), nn.Sigmoid(),
                      nn.Unflatten(1, (1, 28, 28)))
    return conditional_game(g, PlainDiscriminator(), seed, kind, n_steps=math.inf,
                            rate=rate, penalty=0.0, decay=0.0)

# %% [markdown]
# Mini-batches look at many images before they take a step. The computer works better on many images at
# once: more *images a second*. But there are fewer *steps* in an epoch. Which effect wins has two answers:
# after the same images, and after the same seconds. Each size gets the best of three or four rates, tried
# beforehand. The race of single images is stopped after a minute.

# %%
def race(game, batch_size):
    """Train until either limit; (seconds, images seen, accuracy) along the way."""
    clock, seen, points = 0.0, 0, []
    part = min(max(500, 100 * batch_size), 10_000, len(x))  # images between checks
    part -= part % batch_size
    while seen < cfg.race_epochs * len(x) and clock < cfg.race_seconds:
        order = torch.randperm(len(x), generator=game.rng)[:part]
        with runtime.Stopwatch(device) as watch:
            for rows in order.split(batch_size):
                game.step(train[rows.to(device)])
        clock, seen = clock + watch.seconds, seen + part
        points.append((clock, seen, marks(game.g, held, every=10)[0]))
    return points


races = {size: race(plain_game(cfg.seed, rate), size)
         for size, rate in zip(cfg.race_sizes, cfg.race_rates)}

# %% tags=["hide-input"]
def first_time(points, accuracy):
    """Seconds until an accuracy was first reached; infinite if it never was."""
    return min((p[0] for p in points if p[2] >= accuracy), default=math.inf)


alone, *batches = cfg.race_sizes
speed = {size: points[-1][1] / points[-1][0] for size, points in races.items()}
goal = max(point[2] for point in races[alone])
until = {size: first_time(points, goal) for size, points in races.items()}
record.measure("accuracy that single images reached", goal)
record.measure("images a second, smallest mini-batch / one by one",
               speed[batches[0]] / speed[alone])
record.measure("time to equal accuracy, one by one / smallest mini-batch",
               until[alone] / until[batches[0]])  # 0: it never came
rows = [(f"{size}", f"{speed[size]:,.0f}", f"{points[-1][1] / len(x):.2f}",
         points[-1][2], f"{until[size]:.1f} s") for size, points in races.items()]
columns = ("batch", "images a second", "epochs", "accuracy then", f"until {goal:.3f}")
tables.table(columns, rows)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Conditional accuracy, on the left over seconds and on the right over images seen, both logarithmic. Over seconds the mini-batches rise first and single images much later; over images seen the order is reversed."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
for i, (ax, label) in enumerate(zip(axes, ("seconds", "images seen"))):
    for size, points in races.items():
        ax.plot([p[i] for p in points], [p[2] for p in points], label=f"batch {size}")
    ax.axhline(ceiling, color=figures.QUIET, linestyle="--")
    ax.set(xlabel=label, xscale="log")
axes[0].set_ylabel("conditional accuracy")
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper left", ncols=4);

# %% [markdown]
# Per image seen (right), the smaller mini-batch is ahead: single images are at 0.6 when batch 64 has not begun to move. Per second (left) the
# order is another. Batch 64 passes {{images a second, smallest mini-batch / one by one | .0f}} times as many images a second as single images, yet reaches their best accuracy,
# {{accuracy that single images reached | .2f}}, only {{time to equal accuracy, one by one / smallest mini-batch | .0f}} times sooner: it needs more images for it. And larger is not better for ever: from 64 to 512 the
# images a second at most about double on these two cores, while an epoch has an eighth of the steps; batch 512 does not get there in six epochs. This is one seed; the rates were chosen among three or four, by one short trial
# each, and on a GPU the speeds are others.
#
# ## Three claims, tested
#
# The plain players, mini-batches of 64, three seeds a row, equal epochs.
#
# **"Knowing the label also makes better images."** The control plays with labels that are all zero and say
# nothing. **"The fakes' labels must be those of the batch."** Some programs give each fake a label of its
# own, at random.

# %%
class OwnLabels(ConditionalGAN):
    """Fakes get labels of their own, drawn from all training labels."""

    def labels_of_fakes(self, labels):
        rows = torch.randint(len(y), (len(labels),), generator=self.rng)
        return one_hot(y[rows.to(y.device)])

# %%
def every_label(d, images):
    """Logits (N, 10) of images (N, 1, 28, 28) with each of the ten labels."""
    rows = torch.eye(10, device=images.device)[:, None].expand(-1, len(images), -1)
    return torch.cat([d(images, labels).detach() for labels in rows], dim=1)


def favourite(game):
    """How often D likes the right label of a real image best."""
    liked = every_label(game.d, x[:1000]).argmax(dim=1)
    return (liked == y[:1000]).float().mean().item()

# %%
def look_at(game, labels=True, every=1):
    """Features of the images that G makes, labels all zero if False; digits seen."""
    rows = asked[::every].clone()
    rows[:, -10:] *= labels
    return seen_by_judge(generate(game.g, rows))


def look(game, epoch, labels=True):
    """After an epoch: D's favourite, and the distance of a tenth of the images."""
    found = look_at(game, labels, every=10)[0]
    return favourite(game), metrics.frechet_distance(held, found)

# %%
unlabelled = Labelled(x, torch.zeros(len(x), 10, device=device))
kinds = {"with labels": (train, ConditionalGAN),
         "without labels": (unlabelled, ConditionalGAN),
         "labels of their own": (train, OwnLabels)}
plain = {name: [train_gan(plain_game(seed, kind=kind), images, cfg.plain_epochs,
                          cfg.batch_size, Checkpoint(f"{name}, seed {seed}", record),
                          partial(look, labels=images is train))
                for seed in range(cfg.n_seeds)]
         for name, (images, kind) in kinds.items()}

# %% tags=["hide-input"]
def results_of(game, labels):
    """Distance to held-out images, smallest share of a digit, conditional accuracy."""
    own, seen = look_at(game, labels)
    smallest = torch.bincount(seen, minlength=10).min().item() / len(seen)
    right = (seen == wanted).float().mean().item()
    return metrics.frechet_distance(held, own), smallest, right


rows, base = [], None
for name, games in plain.items():
    found = [results_of(game, name != "without labels") for game in games]
    distances, shares, right = np.transpose(found).tolist()
    base, change = base or distances, ""
    record.measure_seeds(f"plain, {name}: Fréchet distance", distances, floor=floor)
    record.measure_seeds(f"plain, {name}: smallest share of a digit", shares,
                         ceiling=0.1)
    record.measure_seeds(f"plain, {name}: conditional accuracy", right, ceiling=ceiling)
    if name != "with labels":
        gap, half = paired(distances, base)
        record.measure(f"plain, {name}: distance above that with labels", gap)
        record.measure(f"plain, {name}: half of that interval", half)
        change = f"{gap:+.2f} ± {half:.2f}"
    rows.append((name, np.mean(distances), change, f"{np.mean(shares):.1%}",
                 np.mean(right)))
tables.table(("plain players", "distance", "difference", "smallest digit", "accuracy"),
             rows)

# %% [markdown]
# **Labels help, here by far**: without them the distance of the set of images is larger by {{plain, without labels: distance above that with labels | .1f}} ±
# {{plain, without labels: half of that interval | .1f}}. The column of the smallest digit says how: without labels the rarest digit makes up
# {{plain, without labels: smallest share of a digit | .1%}} of the images, where a tenth would be right: the game has collapsed. With labels a tenth of the requests ask for each digit, and
# {{plain, with labels: conditional accuracy | .0%}} of them are met. A collapse *within* a digit stays possible, single images need not be better, and a network that does not collapse (chapter 3 had some) may gain less.
#
# **Own labels for the fakes: no difference seen** ({{plain, labels of their own: distance above that with labels | .2f}} ± {{plain, labels of their own: half of that interval | .2f}}).
#
# **"A loss of D that falls and then gently rises is a good sign."** So it is often said.
# Here are the losses of one game of each kind (every tenth step is kept, and the mean of five is drawn; on
# the logarithmic axis the first steps can be seen).

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of losses over the steps on a logarithmic axis, D and G, for the game with labels and the one without. D falls from 0.64 to almost 0, jumps, and rises to 0.4; G rises to five and falls to two."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4), sharey=True)
for ax, name in zip(axes, ("with labels", "without labels")):
    losses = torch.tensor(plain[name][0].history["steps"]).T  # (2, T)
    smooth = losses.unfold(1, min(5, losses.shape[1]), 1).mean(dim=2)
    smooth = torch.cat((losses[:, :1], smooth), dim=1)  # the first step as it is
    steps = [1, *(21 + 10 * np.arange(smooth.shape[1] - 1))]
    plots.curves(ax, {"D": smooth[0], "G": smooth[1]}, x=steps, xlabel="step",
                 ylabel="loss", xscale="log", reference={"log 2": math.log(2)})
    ax.set_title(name)
    record.measure(f"plain, {name}: first loss of D", losses[0, 0].item())
    record.measure(f"plain, {name}: least loss of D", smooth[0].min().item())
    record.measure(f"plain, {name}: last loss of D", smooth[0][-10:].mean().item())

# %% [markdown]
# In both games the loss of $D$ starts at {{plain, with labels: first loss of D | .2f}} (with logits of exactly zero it would be $\log 2$), falls to
# {{plain, with labels: least loss of D | .3f}} within some fifty steps, jumps up and falls back once, and then rises for some thousand steps before it levels off, at
# {{plain, with labels: last loss of D | .2f}} with labels and {{plain, without labels: last loss of D | .2f}} without. So what is said about the shape is roughly right. (A curve of
# one mean an epoch would show only the rise.) The loss of $G$ does the opposite: up to five, and down.
#
# And what were the images worth meanwhile? Each arrow leads from one epoch to the next. Horizontally stands the mean
# loss of $D$, vertically the distance: lower is better.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Fréchet distance on a logarithmic axis against the mean loss of D in an epoch, with arrows from each epoch to the next, in two colours. With labels the path leads down and right, from 22 to 0.9; without labels it leads right and hardly down."}}
fig, ax = plt.subplots(figsize=(6, 3.8))
for colour, name in zip(figures.PALETTE, ("with labels", "without labels")):
    history = plain[name][0].history
    points = [*zip(history["d_loss"], (seen[1] for seen in history["watched"]))]
    ax.plot(*np.transpose(points), "o", markersize=4, color=colour, label=name)
    for start, end in itertools.pairwise(points):
        ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=colour))
    ax.annotate("1", points[0], (4, 4), textcoords="offset points", color=colour)
ax.set(xlabel="mean loss of D", ylabel="Fréchet distance", yscale="log")
ax.legend();

# %% [markdown]
# With labels the images get better as the loss rises, from epoch to epoch, until it reaches 0.40; after that the loss *falls* a little and the images still get better. Without labels
# it rises from 0.20 to 0.34, and the distance falls only from 22 to 17. (These distances are for 1,000 images, and larger than those of the table.) So the shape is no sign of good
# images: both games have it, and one of them has collapsed. A rising loss says that this $D$ finds the images of this $G$ harder to tell from real ones, not whether they show all ten digits.
#
# ## What does the discriminator know about labels?
#
# After each epoch the plain discriminators were shown a thousand training images with each of the ten labels.
# How often did they like the right one best? Chance is one in ten.
#
# After one epoch they liked it best in {{D's favourite label is right, first epoch, with labels | .0%}} of the images, after twelve in
# {{D's favourite label is right, last epoch, with labels | .0%}}: less than by chance. Why? In this game $D$ meets a 3 with the label 3 as a real image and as a fake, and a 3
# with the label 5 hardly ever: whatever it says there, nobody corrects it. If that is the reason, then a $D$ that must also refuse *fakes* with a
# label that they were not made for should not forget. This gives it one more step for each of $G$, so the control takes the same step with the right labels.

# %%
class OneMore(ConditionalGAN):
    """D takes one more step: it refuses fakes with labels `shift` places away."""

    def shift(self):
        return 0

    def step(self, batch):
        _, labels = batch
        fake = self.g(self.noise_for(labels)).detach()
        self.d_opt.zero_grad()
        (bce(self.d(fake, labels.roll(self.shift(), dims=1)), 0.0) / 4).backward()
        self.d_opt.step()
        return super().step(batch)


class Refusing(OneMore):
    """The fakes of that step have labels that they were not made for."""

    def shift(self):
        return 1 + torch.randint(9, (), generator=self.rng).item()


for name, kind in {"one more step": OneMore, "wrong labels refused": Refusing}.items():
    plain[name] = [train_gan(plain_game(seed, kind=kind), train, cfg.plain_epochs,
                             cfg.batch_size, Checkpoint(f"{name}, seed {seed}", record),
                             look) for seed in range(cfg.n_seeds)]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Lines over the epochs, three a panel: the share of real images whose right label D likes best, in three kinds of game, and a dashed line at one tenth. With labels, and with one more step, it falls from about 0.65 to below the line; with wrong labels refused it rises to 0.88."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 3), sharey=True)
for ax, name in zip(axes, ("with labels", "one more step", "wrong labels refused")):
    liked = [[share for share, _ in game.history["watched"]] for game in plain[name]]
    ax.plot(range(1, cfg.plain_epochs + 1), np.transpose(liked))
    ax.axhline(0.1, color=figures.QUIET, linestyle="--")
    ax.set(xlabel="epoch", title=name, ylim=(0, 1), xticks=range(0, 13, 4))
    for when, i in {"first": 0, "last": -1}.items():
        record.measure_seeds(f"D's favourite label is right, {when} epoch, {name}",
                             [shares[i] for shares in liked], floor=0.1)
axes[0].set_ylabel("favourite label is right")
last = [favourite(game) for game in best]
record.measure_seeds("D's favourite label is right, best network", last, floor=0.1)

# %% [markdown]
# That is the reason. With wrong labels refused, the right label is the favourite in {{D's favourite label is right, last epoch, wrong labels refused | .0%}} of the images after twelve epochs, and the
# share rises; with the same further step and right labels it falls to {{D's favourite label is right, last epoch, one more step | .0%}}. Why below chance, and not *at* chance? Perhaps because the right label is the one for which $D$ has
# met fakes as well. The best network, with its projection, knows no more: {{D's favourite label is right, best network | .0%}}. A conditional discriminator is no classifier.
#
# Here is what the last of these discriminators say: the mean logit of real images of each digit with each label,
# less the mean of the row. If $D$ preferred the right labels, the diagonal would be red.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two tables of ten rows, the digits, and ten columns, the labels, coloured from blue over white to red by the mean logit of D less that of the row. With labels: whole columns in one colour, no diagonal. With wrong labels refused: a red diagonal."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4))
for ax, name in zip(axes, ("with labels", "wrong labels refused")):
    logits = every_label(plain[name][0].d, x[:5000])
    means = torch.stack([logits[y[:5000] == digit].mean(dim=0) for digit in range(10)])
    gaps = (means - means.mean(dim=1, keepdim=True)).cpu()
    widest = gaps.abs().max()
    image = ax.imshow(gaps, cmap="RdBu_r", vmin=-widest, vmax=widest)
    fig.colorbar(image, ax=ax, shrink=0.7)
    ax.set(title=name, xlabel="label", ylabel="digit", xticks=range(10),
           yticks=range(10))
    own_gap = gaps.diagonal().mean().item()
    record.measure(f"logit of the right label above the mean, {name}", own_gap)

# %% [markdown]
# On the left there is no diagonal: the right label lies {{logit of the right label above the mean, with labels | .1f}} from the mean of its row, and some columns, such as the 4, are disliked whatever the digit is. On the right the
# right label stands {{logit of the right label above the mean, wrong labels refused | .1f}} above.
#
# ## Digit by digit
#
# Accuracy says whether a seven is a seven, not whether it is always the *same* seven. So for each digit
# of the best network we also take the distance to real test images of that digit, as a multiple of its own floor.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Generated digits that the judge read as another digit than the one that was asked for, with both above each, such as 5 as 6 and 7 as 9."}}
own, seen = seen_by_judge(generate(best[0].average, asked))
real_features = judge.features(x[draws[0].to(device)])
rows = []
for digit in range(10):
    mine, its = own[wanted == digit], tested[test_y == digit]
    its_floor = metrics.frechet_distance(its, real_features[wanted == digit])
    distance = metrics.frechet_distance(its, mine)
    right = (seen[wanted == digit] == digit).float().mean().item()
    rows.append((f"{digit}", right, distance, its_floor, f"{distance / its_floor:.1f}"))
display(tables.table(("digit", "accuracy", "distance", "its floor", "times"), rows))
wrong = (seen != wanted).nonzero().flatten()
wrong = wrong[torch.linspace(0, len(wrong) - 1, min(20, len(wrong))).long()]
if len(wrong):
    figures.image_grid(generate(net, asked[wrong]), columns=10,
                       titles=[f"{wanted[i]} as {seen[i]}" for i in wrong])

# %% [markdown]
# The judge sees the digit asked for in 98.4 to 99.9 % of the images, and yet the distances differ: the 1 and the 4 lie at their floors, the 3 at three times its own. So digits that are read right may still vary in another
# way than real ones. (One game, one draw for each floor: small gaps mean little.) The failures below the table fail as handwriting does: a 5 that closes to a 6, a 7 that bends to a 9, a 2 without its foot; and some are no digit at all.
#
# **Can one learn from them?** Another test: a classifier is trained on *generated* digits alone, with the
# labels that were asked for, and tested on real ones. Beside it the same classifier trained on as many real
# digits, and on those of the plain network.

# %%
def lesson(images, labels, seed=0):
    """Train a small classifier; return its accuracy on the real test images."""
    torch.manual_seed(seed)
    net = make_discriminator(16)
    net = net[:-1].append(nn.Linear(net[-1].in_features, 10)).to(device)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    n_steps = cfg.lesson_epochs * math.ceil(len(images) / cfg.batch_size)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, n_steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(cfg.lesson_epochs):
        for rows in torch.randperm(len(images), generator=order).split(cfg.batch_size):
            rows = rows.to(device)
            loss = F.cross_entropy(net(images[rows]), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            falling.step()
    seen = generate(net, digits_test.images.to(device)).argmax(dim=1)
    return (seen == digits_test.labels).float().mean().item()


z = torch.randn(len(x), cfg.noise_size, generator=rng)
all_asked = with_label(z, one_hot(y.cpu())).to(device)
lessons = {"real digits": x,
           "generated digits": generate(best[0].average, all_asked).to(device),
           "digits of the plain network":
           generate(plain["with labels"][0].g, all_asked).to(device)}
rows = []
for name, images in lessons.items():
    right = [lesson(images, y, seed) for seed in range(cfg.n_seeds)]
    record.measure_seeds(f"classifier trained on {name}, real test images", right,
                         floor=0.1, ceiling=1.0)
    rows.append((name, np.mean(right), f"{np.ptp(right):.4f}"))
tables.table(("trained on", "right on real test images", "range over seeds"), rows)

# %% [markdown]
# The classifier that learned from generated digits is right in {{classifier trained on generated digits, real test images | .1%}} of the real test images, the one that learned from as many real ones in
# {{classifier trained on real digits, real test images | .1%}}, that of the plain network's digits in {{classifier trained on digits of the plain network, real test images | .1%}}. We had hoped for 97 %.
# So the generated digits, nearly all of which the judge reads right, lack something that real ones teach: perhaps the rarer hands.
#
# **A number you can check.** This page carries the generator and the judge, their weights rounded to 16 bits. A Fréchet
# distance depends on how many images are scored, so here is what to expect of exactly 2,000:

# %% tags=["hide-input"]
def shipped(net):
    """A copy of a network whose numbers are rounded to 16 bits."""
    net = copy.deepcopy(net).cpu().eval()
    for value in net.state_dict().values():
        value.copy_(value.half())
    return net

# %% tags=["hide-input"]
small, examiner = shipped(net), shipped(judge)
moments = {"mean": tested.mean(dim=0), "covariance": tested.T.cov(correction=0)}
rest = {f"{name}_rest": values - values.half() for name, values in moments.items()}
record.export("generator", small.state_dict())
record.export("check", {"inputs": grid, "images": generate(small, grid.cpu())})
record.export("judge", examiner.state_dict())
record.export("moments", moments | rest)

# %% tags=["hide-input"]
labels_of_2000 = torch.arange(2000) % 10
found = []
for _ in range(cfg.n_draws):
    z = torch.randn(2000, cfg.noise_size, generator=rng)
    own = examiner.features(generate(small, with_label(z, one_hot(labels_of_2000))))
    right = (examiner.head(own).argmax(dim=1) == labels_of_2000).float().mean().item()
    found.append((right, metrics.frechet_distance(tested, own)))
rows = []
for name, values in zip(("conditional accuracy", "Fréchet distance"), zip(*found)):
    record.measure_seeds(f"2,000 digits: {name}", values)
    record.measure(f"2,000 digits: least {name}", min(values))
    record.measure(f"2,000 digits: largest {name}", max(values))
    rows.append((name, np.mean(values), min(values), max(values)))
tables.table(("2,000 digits", "mean", "least", "largest"), rows)

# %% [markdown]
# The accuracy is that of the larger sample, up to chance. The distance is larger than {{best network: Fréchet distance | .2f}}, since 64 means and 2,080 covariances are estimated from
# fewer images: compare distances only for equal numbers.
#
# ## Between and beyond the labels
#
# The input has two parts, and each can be changed by itself: the *noise*, on the arc of chapter 4, with
# the label held; and the *label*, in equal steps from one digit to another, with the noise held.

# %%
def between(start, end, t):
    """Label rows at shares t (T,) of the way from one digit to another: (T, 10)."""
    rows = one_hot(torch.tensor([start, end]))
    return (1 - t[:, None]) * rows[0] + t[:, None] * rows[1]

# %% mystnb={"image": {"alt": "Four rows of nine digits: a seven and a four that change their hand, a three that becomes an eight, a four that becomes a nine."}}
t = torch.linspace(0, 1, 9)
z0, z1 = torch.randn(2, cfg.noise_size, generator=torch.Generator().manual_seed(2))
walk, stay = arc(z0, z1, t), z0.expand(9, -1)
journeys = {"7, other noise": (walk, between(7, 7, t)),
            "4, other noise": (walk, between(4, 4, t)),
            "3 to 8": (stay, between(3, 8, t)), "4 to 9": (stay, between(4, 9, t))}
figures.before_after({name: generate(net, with_label(*both).to(device))
                      for name, both in journeys.items()});

# %% [markdown]
# In the upper rows the digit stays and the hand changes, until at the far ends the digit is hard to read: there is noise that this
# network serves badly. In the lower rows the hand stays, and the digit turns somewhere near the middle: the left side of the 3
# closes to an 8, the top of the 4 to a 9.
#
#
# In training the label was always a corner: a single 1 among zeros. What does the generator make of rows it
# never met?

# %%
eye = torch.eye(10)
odd_rows = {"3": eye[3], "half 3, half 8": (eye[3] + eye[8]) / 2,
            "no label": 0 * eye[3], "a tenth of each": torch.full((10,), 0.1),
            "2 times 3": 2 * eye[3], "-1 times 3": -eye[3]}
z = torch.randn(cfg.n_each, cfg.noise_size, generator=rng)
odd = {name: generate(net, with_label(z, row.expand(len(z), 10)).to(device))
       for name, row in odd_rows.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six rows of ten images: a 3 as usual; half 3 and half 8; no label; a tenth of every label; twice the 3; the negative of 3."}}
rows = []
for name, images in odd.items():
    features, seen = seen_by_judge(images)
    shares = torch.bincount(seen, minlength=10) / len(seen)
    sure = judge.head(features.to(device)).softmax(dim=1).max(dim=1).values.mean()
    spread = F.pdist(features[:500]).mean().item()
    record.measure(f"{name}: share of the digit seen most", shares.max().item())
    record.measure(f"{name}: diversity", spread)
    rows.append((name, f"{shares.argmax()} ({shares.max():.0%})", sure.item(), spread))
display(tables.table(("label row", "seen most often", "certainty", "diversity"), rows))
figures.before_after({name: images[:10] for name, images in odd.items()});

# %% [markdown]
# Half 3 and half 8 gives either, the 8 in {{half 3, half 8: share of the digit seen most | .0%}} of the images, and
# with a larger diversity (the mean gap of two images in the judge's features) than a 3 alone. *No label* and *a tenth of each* give all
# kinds of digits, the 8 about half of the time. *2 times 3* gives a 3 every time, and nearly always the same one: its
# diversity is {{2 times 3: diversity | .2f}}, that of the plain 3 {{3: diversity | .1f}}. The negative of 3 is no digit in
# particular. None of this was trained; another seed may do otherwise.
#
# **From labels to prompts.** Programs that make images from a sentence are conditional generators too: they
# sample from $q(x \mid y)$ with a text in place of a digit, turned into learned numbers by a language network,
# and the same text with other noise gives another image. A prompt such as "portrait, oil, smiling" asks for a point in a space of
# conditions, most of which never occurred in training; you have just seen what a small network does there. To
# push a condition harder than it was in training is common practice in both families: **classifier-free
# guidance** (Ho and Salimans, 2022) takes the network's *output* without a label, which it was trained on as well, and goes from there past its output with the label, in the diffusion
# models behind most of those programs; **truncation** (Brock et al., 2019) shrinks the noise of a GAN. Both give
# more typical images and less variety, as "2 times 3" did here in a way of its own.
#
# ## Summary
#
# * A conditional GAN shows the label to both players. The value of the game becomes a sum over labels: one game for each, played by the
#   same networks, and lost as long as one label is ignored.
# * The generator gets the label as more inputs. After one epoch, discriminators with a **projection** on their last features were ahead.
# * {{best network: conditional accuracy | .1%}} of what was asked for is what the judge sees, at {{best network: Fréchet distance / floor | .1f}} times the floor; a classifier that
#   learned from generated digits alone is right in {{classifier trained on generated digits, real test images | .1%}} of the real test images, one that learned from real ones in
#   {{classifier trained on real digits, real test images | .1%}}.
# * Labels kept the plain network from collapsing. A loss that falls and then rises did not tell whether it had.
# * What it cannot do: the discriminator is no judge of labels; a label says what kind, not how; and for label rows it never met, such as halves and doubles, nothing is promised.
#
# ## Exercises
#
# **1. Never the smaller one.** *(medium)* On paper, then with random worlds of labels and images: why is the
# divergence with labels never smaller than that without?

# %% tags=["solution"]
order, gaps = torch.Generator().manual_seed(0), []
for _ in range(2000):
    p, q = (torch.rand(2, 3, 5, generator=order) ** 4).unbind()  # 3 labels, 5 images
    p, q = p / p.sum(dim=1, keepdim=True), q / q.sum(dim=1, keepdim=True)
    weight = torch.rand(3, 1, generator=order)
    weight /= weight.sum()  # p(y), the same for both
    with_labels = (weight[:, 0] * jsd(p, q)).sum()
    gaps.append((with_labels - jsd((weight * p).sum(0), (weight * q).sum(0))).item())
print(f"smallest difference in {len(gaps)} worlds: {min(gaps):.5f}")
# The best discriminator of pairs may ignore the label and be as good as that of images.
# With the label it can only be better, and the divergence is what the best one reaches.

# %% [markdown]
# **2. One vector a digit.** *(easy)* Show with the best generator that its first layer gives the same as a layer
# for the noise alone plus one vector for each digit, looked up in an `nn.Embedding`.

# %% tags=["solution"]
first = net[0].cpu()
some = asked[:: max(1, len(asked) // 50)].cpu()
table = nn.Embedding.from_pretrained(first.weight[:, -10:].T.detach().clone())
by_hand = some[:, :-10] @ first.weight[:, :-10].T + first.bias
by_hand = by_hand + table(some[:, -10:].argmax(dim=1))
print("largest difference:", f"{(first(some) - by_hand).abs().max():.1e}")
first.to(device);

# %% [markdown]
# **3. The step.** *(medium)* Write `my_losses(g, d, real, labels, z)` that returns both losses of a step before anything
# is learned. It passes if it agrees with `ConditionalGAN` and is near log 2.

# %% tags=["solution"]
def my_losses(g, d, real, labels, z):
    fake = g(with_label(z, labels))
    d_loss = F.softplus(-d(real, labels)).mean() + F.softplus(d(fake, labels)).mean()
    return d_loss / 2, F.softplus(-d(fake, labels)).mean()


game = plain_game(cfg.seed, rate=0.0)  # nobody learns
state, (real, labels) = game.rng.get_state(), train[torch.arange(50)]
theirs = game.step((real, labels))
game.rng.set_state(state)
mine = [my_losses(game.g, game.d, real, labels, game.draw_noise(50, game.rng))[i]
        for i in (0, 1)]  # G's loss is for noise of its own
assert all(abs(a - b) < 1e-5 for a, b in zip(mine, theirs))
print("losses", [round(loss.item(), 3) for loss in mine])

# %% [markdown]
# **4. Scrambled planes.** *(easy)* Label planes are often built with
# `y.repeat(1, 784).reshape(-1, 10, 28, 28)`. Look at the planes of the label 3. What is wrong, and why does
# training not fail?

# %% tags=["solution"] mystnb={"image": {"alt": "Two rows of ten planes for the label 3. Correct: the fourth plane is all white, the others black. Scrambled: every plane has the same thin diagonal stripes."}}
label = one_hot(torch.tensor([3]))
planes = {"expand": label[:, :, None, None].expand(-1, -1, 28, 28)[0],
          "repeat, reshape": label.repeat(1, 784).reshape(-1, 10, 28, 28)[0]}
figures.before_after(planes);
# Repeating gives 0001000000 0001000000 ..., and the reshape cuts that row into planes
# of 784 numbers: every plane gets stripes, shifted by the label. Nothing fails, because
# the stripes still differ from label to label.

# %% [markdown]
# **5. Wrong labels in the data.** *(medium)* Exchange the labels of every fifth training image for random ones and
# train the plain network for four epochs with mini-batches of 256. How often would a generator that solves the game make
# what was asked for?

# %% tags=["solution"]
liar = torch.rand(len(y), generator=rng) < 0.2
lies = torch.where(liar, torch.randint(10, (len(y),), generator=rng), y.cpu())
game, wrong = plain_game(cfg.seed, rate=4e-3), Labelled(x, one_hot(lies).to(device))
for _ in range(4):
    for rows in torch.randperm(len(x), generator=game.rng).split(256):
        game.step(wrong[rows.to(device)])
print(f"labels that are right: {(lies == y.cpu()).float().mean():.3f}")
print(f"accuracy: {marks(game.g, held, every=10)[0]:.3f}")
# A generator that solves the game has p(x | y) of the data it was given, errors
# included: it is right as often as the labels are.

# %% [markdown]
# **6. A third kind of pair.** *(hard)* Reed et al. (2016) also show the discriminator real images with *wrong*
# labels, as pairs to be refused. Add that to the step. Does the discriminator's favourite label become a
# better one?

# %% tags=["solution"]
class Matching(ConditionalGAN):
    def step(self, batch):
        real, labels = batch
        wrong = labels.roll(1 + torch.randint(9, (), generator=self.rng).item(), dims=1)
        refused = bce(self.d(real, wrong), 0.0) / 4
        self.d_opt.zero_grad()
        refused.backward()
        self.d_opt.step()
        return super().step(batch)


for kind in (ConditionalGAN, Matching):
    game = plain_game(cfg.seed, rate=4e-3, kind=kind)
    for rows in torch.randperm(len(x), generator=game.rng).split(256):
        game.step(train[rows.to(device)])
    print(f"{kind.__name__}: favourite label right {favourite(game):.3f},"
          f" accuracy {marks(game.g, held, every=10)[0]:.3f}")

# %% [markdown]
# **7. Open.** *(hard)* Generate all ten digits from the same noise, many times. Is the style really held? Find a
# number that says so, and a control that says how large it is by chance.
#
# ## References
#
# * J. L. Ba, J. R. Kiros, G. E. Hinton. *Layer normalization.* 2016.
#   <https://doi.org/10.48550/arXiv.1607.06450>
# * A. Brock, J. Donahue, K. Simonyan. *Large scale GAN training for high fidelity natural
#   image synthesis.* ICLR 2019. <https://doi.org/10.48550/arXiv.1809.11096>
# * J. Ho, T. Salimans. *Classifier-free diffusion guidance.* 2022.
#   <https://doi.org/10.48550/arXiv.2207.12598>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to
#   document recognition.* Proceedings of the IEEE 86, 1998.
#   <https://doi.org/10.1109/5.726791>
# * M. Mirza, S. Osindero. *Conditional generative adversarial nets.* 2014.
#   <https://doi.org/10.48550/arXiv.1411.1784>
# * T. Miyato, M. Koyama. *cGANs with projection discriminator.* ICLR 2018.
#   <https://doi.org/10.48550/arXiv.1802.05637>
# * S. Reed et al. *Generative adversarial text to image synthesis.* ICML 2016.
#   <https://doi.org/10.48550/arXiv.1605.05396>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %% tags=["hide-input"]
record.card()
