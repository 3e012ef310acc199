# %% [markdown]
# # 3. Generative adversarial networks: a game of two
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/03_gan.ipynb)
#
# You will teach a network to make digits and clothes that nobody has ever written or sewn,
# by letting a second network criticise every pixel. You will see the game on one number,
# derive why it has a solution, make it work on images, measure how well it went, and break
# it in the ways in which it usually breaks.
#
# ![A grid of generated digits in many hands, most of them readable](attachment:result.png)
#
# *Every one of these was generated from 128 random numbers. None is a photograph, and none
# was selected.*
#
# **Time to run:** about 50 minutes on two CPU cores (`laptop` profile). **You need:**
# chapter 2, and what a probability density is.

# %% [markdown]
# ## What is missing?
#
# Chapter 2 ended with a decoder that turns codes into digits, and with the trouble of
# finding codes. A **generative model** should do better: it takes random numbers $z$ from a
# known distribution, the **noise**, and turns *every* $z$ into an image that could have come
# from the data. Nobody can say which image belongs to which noise, so there is no target and
# no squared error.
#
# This chapter replaces the missing target by an opponent. The **generator** $G$ makes images
# from noise. The **discriminator** $D$ looks at real images and at generated ones, called
# **fakes**, and says how probable it is that an image is real. $D$ is rewarded for being
# right, $G$ for making $D$ wrong. The two together are a **generative adversarial network**,
# GAN for short (Goodfellow et al., 2014).

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
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torchvision.transforms.functional import gaussian_blur

from genlab_helpers import data, figures, metrics, networks, plots, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images of each data set, a sixth held out
    n_scored: int = 10_000  # generated images behind each Fréchet distance
    n_floor: int = 5  # draws of real images behind the floor
    batch_size: int = 256  # real images a step, and as many fakes
    noise_size: int = 128  # numbers behind an image
    n_seeds: int = 3  # games behind the two ends of the ladder
    line_steps: int = 3_000  # steps of the game on one number
    line_every: int = 100  # steps between the pictures of its film
    line_shown: tuple = (0, 1, 3, 10, 30)  # which of them stand in a row
    ladder_epochs: int = 10  # of each entry but the two ends
    small_epochs: int = 100  # of the source's sizes
    strip_epochs: tuple = (1, 2, 5, 10, 20, 50, 100)  # when their digits are shown
    large_epochs: int = 60  # of the larger pair, on digits and on clothes
    watch_every: int = 5  # epochs between measurements on held-out images
    broken_epochs: int = 10  # of each game that is broken on purpose
    island_steps: int = 2_000
    pattern_steps: int = 8_000  # steps of the game with four numbers


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_scored=100, n_floor=2, batch_size=100, n_seeds=2,
               line_steps=4, line_every=1, line_shown=(0, 1, 2, 3, 4), ladder_epochs=1,
               small_epochs=2, strip_epochs=(1, 2), large_epochs=1, watch_every=1,
               broken_epochs=1, island_steps=4, pattern_steps=20),
    full=dict(),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("03_gan", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% tags=["hide-input"] mystnb={"image": {"alt": "A diagram: noise z goes into the generator G, which makes a fake image; the fake and a real image go into the discriminator D, which says how probable it is that each is real. A dashed arrow leads from D back to G and says: gradient."}}
fig, ax = plt.subplots(figsize=(7, 2.5))
boxes = {"noise z": (0.5, 1.6), "generator\nG": (2.3, 1.6), "fake": (4.1, 1.6),
         "real image": (4.1, 0.3), "discriminator\nD": (6.2, 1.0),
         "real?\n0 to 1": (8.2, 1.0)}
for i, (name, place) in enumerate(boxes.items()):
    colour = figures.PALETTE[{1: 1, 4: 0}.get(i, 9)]
    ax.text(*place, name, ha="center", va="center", color="white", fontsize=11,
            bbox=dict(boxstyle="round,pad=0.5", fc=colour, ec="none"))
arrows = [((1.1, 1.6), (1.5, 1.6)), ((3.1, 1.6), (3.65, 1.6)), ((4.6, 1.5), (5.2, 1.2)),
          ((4.95, 0.4), (5.2, 0.7)), ((7.2, 1), (7.6, 1))]
for start, end in arrows:
    ax.annotate("", end, start, arrowprops=dict(arrowstyle="->", color=figures.QUIET))
bow = dict(arrowstyle="->", ls="--", color=figures.QUIET)
bow["connectionstyle"] = "arc3,rad=0.35"
ax.annotate("", (2.3, 2.1), (6.2, 1.6), arrowprops=bow)
ax.text(4.3, 2.62, "gradient: how each pixel should change", ha="center", fontsize=10.5)
ax.set(xlim=(-0.2, 8.9), ylim=(-0.1, 2.8))
ax.axis("off");

# %% [markdown]
# The generator never sees a real image. All it knows of the data comes back through the
# discriminator, as a gradient. These are the data, digits (LeCun et al., 1998) and clothes
# (Fashion-MNIST; Xiao et al., 2017); a sixth of the training images is held out, on which all
# choices are made.

# %%
sources = {"MNIST": data.mnist, "Fashion-MNIST": data.fashion_mnist}
train, test, x, held = {}, {}, {}, {}  # x: to learn from, held: to choose by
for name, source in sources.items():
    train[name], test[name] = source("train"), source("test")
    record.use(train[name])
    record.use(test[name])
    parts = train[name].images[: cfg.n_images].chunk(6)  # (10000, 1, 28, 28) each
    x[name], held[name] = torch.cat(parts[:5]).to(device), parts[5]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of ten images: handwritten digits, and garments such as shirts, trousers and shoes."}}
ax = figures.before_after({name: images[:10].cpu() for name, images in x.items()})
figures.caption_source(ax.figure, train["MNIST"]);

# %% [markdown]
# ## The game on one number
#
# Before images, one number. The real data are two heaps on a line, at −1 and 1. The two steps
# below are the heart of the chapter; every GAN of this course uses them. $D$ ends in a
# **logit** $a$, and $\sigma(a)$ is its answer; the sigmoid is part of the loss, **binary
# cross-entropy** (BCE), where it can be computed without overflow.
#
# The discriminator's step wants 1 for real and 0 for fake. `detach()` cuts the graph: in this
# step fakes are mere data. The generator's step wants $D$ to say 1 to the fakes. Now the
# gradient *must* pass through $D$, into the fakes and on into $G$; $D$ itself does not move.
# (`extra` waits until later.)

# %% recap=["bce", "discriminator_step", "generator_step"]
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

# %% [markdown]
# Both players have two hidden layers with **LeakyReLU**: slope 1 above zero and 0.2 below, so
# that no unit is ever without a gradient. The game is the two steps in turn.

# %%
def real_line(n, generator):
    """Numbers from two heaps, at -1 and 1, with standard deviation 0.25: (n, 1)."""
    side = torch.randint(2, (n, 1), generator=generator) * 2.0 - 1
    return side + 0.25 * torch.randn(n, 1, generator=generator)


def perceptron(*sizes):  # linear layers with LeakyReLUs between them
    pairs = itertools.pairwise(sizes)
    layers = [part for a, b in pairs for part in (nn.Linear(a, b), nn.LeakyReLU(0.2))]
    return nn.Sequential(*layers[:-1])

# %%
def line_game(steps, every, seed):
    """Play on numbers; return, every so many steps, fakes (4000,) and D on GRID."""
    torch.manual_seed(seed)
    order, kept = torch.Generator().manual_seed(seed), []
    g, d = perceptron(2, 24, 24, 1), perceptron(1, 24, 24, 1)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr=5e-3, betas=(0.5, 0.999))
                    for net in (g, d))
    for step in range(steps + 1):
        if step % every == 0:
            z = torch.randn(4000, 2, generator=order)
            kept.append((step, g(z).detach()[:, 0], d(GRID).sigmoid().detach()[:, 0]))
        real = real_line(64, order)
        discriminator_step(g, d, d_opt, real, torch.randn(64, 2, generator=order))
        generator_step(g, d, g_opt, torch.randn(64, 2, generator=order))
    return kept


GRID = torch.linspace(-2, 2, 161)[:, None]  # (161, 1)
line = line_game(cfg.line_steps, cfg.line_every, cfg.seed)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five panels over the steps of the game. The density of the real numbers has two humps. That of the fakes starts as one narrow peak, spreads out, and ends as two narrow peaks near the humps. The discriminator's curve ends nearly flat at one half, while the best possible one still swings."}}
def draw_line(ax, step, fakes, answer):
    """Densities of real numbers and fakes, D and the best D, on one axis."""
    p = sum(torch.exp(-((GRID[:, 0] - m) / 0.25) ** 2 / 2) for m in (-1, 1))
    p = p / (2 * 0.25 * math.sqrt(2 * math.pi))
    q = torch.histc(fakes, 161, -2.0125, 2.0125) / len(fakes) / 0.025
    q = F.conv1d(q[None, None], torch.ones(1, 1, 9) / 9, padding=4)[0, 0]  # smoothed
    best = torch.where(p + q > 0.02, p / (p + q), torch.nan)
    for values, style in ((p, "-"), (q, "-"), (answer, "-"), (best, ":")):
        ax.plot(GRID[:, 0], values, style)
    ax.set(title=f"step {step:,}", ylim=(0, 2.2), xticks=(-1, 1))


fig, axes = plt.subplots(1, len(cfg.line_shown), figsize=(7, 2.6), sharey=True)
for ax, i in zip(axes, cfg.line_shown):
    draw_line(ax, *line[i])
fig.legend(axes[0].lines, ["real p", "fake q", "D", "best D"], ncols=4,
           loc="outside lower center");

# %% [markdown]
# The whole game as a film:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Animation of the same four curves over the game: the fakes' density starts as one peak, spreads over both humps of the real density, and becomes two narrow peaks that move about near them."}}
def frames():
    for kept in line:
        fig, ax = plt.subplots(figsize=(7, 3.2))
        draw_line(ax, *kept)
        fig.legend(ax.lines, ["real p", "fake q", "D", "best D"], loc="outside right")
        yield fig


figures.animation(frames(), fps=5)

# %% [markdown]
# At first all fakes lie in one place. $D$ sees it and says "fake" there; the gradient pushes
# the fakes towards places where $D$ says "real", $D$ follows, and so on. In the end there are
# fakes near both heaps, and this $D$ says about one half everywhere. But the fakes' two peaks are
# narrower than the real heaps, the right one stands beside its heap, and the dotted curve, the best
# answer that any discriminator could give, still tells them apart: a $D$ near one half does not prove
# that the fakes are right. We derive that curve next. **Touch it:** on the
# book's page *Playground* this game runs in the browser, with rates to set and data to draw.
#
# ## Why the game has a solution
#
# Real images $x$ have a density $p$. The fakes $G(z)$ have some density $q$, which depends on
# $G$. Both play for one number,
#
# $$V(G, D) = \mathbb{E}_{x \sim p}[\log D(x)] + \mathbb{E}_{z}[\log(1 - D(G(z)))] .$$
#
# Read it term by term. The first is the reward of $D$ for real images: 0 if it is sure that
# they are real, a large penalty if it takes them for fakes. $G$ cannot move this term at all.
# The second is its reward for fakes; *both* can move it, $D$ by looking better, $G$ by making
# better fakes. $D$ wants $V$ large, $G$ wants it small: a **minimax** game. $-V$ is the sum
# of two binary cross-entropies, so $D$ is an ordinary classifier.
#
# People picture a counterfeiter against a police officer, or a hacker against a security
# officer: each gets better because the other does. The picture misleads in two places. This
# counterfeiter never sees real money; and this officer says of every pixel in which direction
# it should change, so it is as much a teacher as an opponent.
#
# **The best discriminator for a fixed generator.** Write the second mean as one over
# $x \sim q$. Then $V = \int p(x) \log D(x) + q(x) \log(1 - D(x)) \, dx$, and each $x$ can be
# treated alone: the derivative in the number $D(x)$,
# $\frac{p(x)}{D(x)} - \frac{q(x)}{1 - D(x)}$, is zero at
#
# $$D^*(x) = \frac{p(x)}{p(x) + q(x)} ,$$
#
# a maximum, since the second derivative, $-\frac{p}{D^2} - \frac{q}{(1 - D)^2}$, is negative.
# $D^*(x)$ is the share of real images among all images like $x$.
#
# **What is left for the generator.** Put $D^*$ into $V$ and divide both fractions by 2, so
# that the mean density $m = (p + q)/2$ appears:
#
# $$V(G, D^*) = \mathbb{E}_{p}\Big[\log \frac{p}{2m}\Big] + \mathbb{E}_{q}\Big[\log \frac{q}{2m}\Big]
# = -\log 4 + \mathrm{KL}(p \,\|\, m) + \mathrm{KL}(q \,\|\, m)
# = -\log 4 + 2\,\mathrm{JSD}(p, q) .$$
#
# $\mathrm{KL}(p \,\|\, m) = \mathbb{E}_p[\log \frac{p}{m}]$ is the Kullback-Leibler
# divergence. It is never negative: $\log t \le t - 1$, so
# $-\mathrm{KL}(p \,\|\, m) = \mathbb{E}_p[\log \frac{m}{p}] \le \mathbb{E}_p[\frac{m}{p} - 1] \le 0$,
# with equality only where $m = p$. Half of the two together is the **Jensen-Shannon
# divergence**, zero only if $p = m = q$. So the game has one solution, if $G$ can express it:
# **the fakes are distributed like the real images**, and $D = 1/2$ where there are images.
# (Elsewhere $D$ is free.) Each cross-entropy is then $-\log\frac12 = \log 2 \approx 0.693$. In
# this course $d\_loss$ is the *mean* of the two, so its reference is $\log 2$.
#
# We check it in a world of four possible images, where $p$ and $q$ are short lists and $D$ is
# a table of four logits, trained by gradient descent:

# %%
p = torch.tensor([0.50, 0.25, 0.20, 0.05])  # how often each image is real
q = torch.tensor([0.25, 0.25, 0.25, 0.25])  # how often it is a fake
board = nn.Parameter(torch.zeros(4))  # logits: D = sigmoid(board)
optimizer = torch.optim.SGD([board], lr=2.0, maximize=True)  # D climbs
for _ in range(2000):
    value = (p * F.logsigmoid(board) + q * F.logsigmoid(-board)).sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
m = (p + q) / 2
jsd = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
print("D, trained ", [round(v, 4) for v in board.sigmoid().tolist()])
print("p / (p + q)", [round(v, 4) for v in (p / (p + q)).tolist()])
print(f"V {value:.6f}, -log 4 + 2 JSD {2 * jsd - math.log(4):.6f}")

# %% [markdown]
# **Which loss for the generator?** As written, $G$ wants $\log(1 - D(G(z)))$ small. With the
# logit $a$,
#
# $$\frac{d}{da} \log(1 - \sigma(a)) = -D(G(z)), \qquad
# \frac{d}{da} \big(-\log \sigma(a)\big) = -(1 - D(G(z))) .$$
#
# Early in a game fakes are easy to spot and $D(G(z))$ is nearly 0, and so is the first
# gradient: the worse the generator, the less it is told. That loss is called **saturating**.
# The second, $-\log D(G(z))$, which `generator_step` uses, pushes hardest when fakes are
# worst: the **non-saturating** loss. (Both gradients are bounded by 1 at the logit; what
# reaches the weights goes through $D$'s slopes.) But then $G$ no longer minimises the
# Jensen-Shannon divergence. For the best $D$, the gradient of the non-saturating loss is that of
# $\mathrm{KL}(q \,\|\, p) - 2\,\mathrm{JSD}(p, q)$ (Arjovsky and Bottou, 2017). Write both as means of
# logarithms and collect them: that is $2\,\mathrm{KL}(m \,\|\, p)$, again zero only at $q = p$. The solution is
# the same; the way there is another.
#
# **What losses tell.** A $d\_loss$ near $\log 2$ says that *this* discriminator cannot tell
# real from fake: because the fakes are perfect, or because it is bad. And $g\_loss$ is measured
# against an opponent that changes all the time. For quality we need a judge from outside.
#
# ## A measure from outside
#
# For each data set a **judge** was trained beforehand: a small classifier. Its last hidden
# layer gives 64 numbers for an image, its **features**. Fit a normal distribution to the
# features of the fakes and one to those of real images, with means $m_1, m_2$ and covariances
# $S_1, S_2$. The squared **Fréchet distance** of the two (Dowson and Landau, 1982) is
#
# $$\lVert m_1 - m_2 \rVert^2 + \mathrm{tr}\big(S_1 + S_2 - 2 (S_1 S_2)^{1/2}\big) .$$
#
# With features of the network Inception it is known as **FID** (Heusel et al., 2017). **Coverage**
# (Naeem et al., 2020) asks for variety: draw a ball around each real image that reaches to its
# fifth-nearest real neighbour; what share of the balls holds a fake?

# %%
def frechet_distance(a, b):
    """Squared Fréchet distance of normal distributions fitted to (N, D) and (M, D)."""
    a, b = a.double(), b.double()
    gap = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    s_a, s_b = a.T.cov(correction=0), b.T.cov(correction=0)
    roots = torch.linalg.eigvals(s_a @ s_b).real.clamp(min=0).sqrt()  # of S_a S_b
    return (gap + s_a.trace() + s_b.trace() - 2 * roots.sum()).item()


def coverage(real, fake, n_neighbors=5):
    """Share of real rows (N, D) that have a fake (M, D) in their ball."""
    real, fake = real.double(), fake.double()
    radius = torch.cdist(real, real).kthvalue(n_neighbors + 1).values  # itself is first
    return (torch.cdist(real, fake).min(dim=1).values <= radius).float().mean().item()


judges = {name: networks.judge(name, device) for name in train}
known = {name: judges[name].features(held[name]) for name in train}  # (10000, 64)
some = judges["MNIST"].features(test["MNIST"].images[:500])
ours = frechet_distance(some, known["MNIST"]), coverage(known["MNIST"][:500], some)
theirs = (metrics.frechet_distance(some, known["MNIST"]),
          metrics.coverage(known["MNIST"][:500], some))
assert np.allclose(ours, theirs, atol=1e-4), "they are those of the course's package"

# %% [markdown]
# Both depend on features and on the number of images, so we always take 10,000 (unless the
# profile is `smoke`), and give the **floor**: the distance of real training images from the test
# images. The judge also counts how often each class appears. Choices are made by the distance to held-out
# images; the test images only report. (The judge itself learned from all training images.)

# %%
def score(fakes, name, features):
    """Fréchet distance of fakes (N, 1, 28, 28) to features, and shares of classes."""
    own = judges[name].features(fakes)  # (N, 64)
    classes = judges[name].head(own.to(device)).argmax(dim=1).cpu()
    counts = torch.bincount(classes, minlength=10)
    return metrics.frechet_distance(features, own), counts / len(fakes)

# %% tags=["hide-input"]
tested, floors = {}, {}
for name in train:
    right = networks.accuracy(judges[name], test[name].images, test[name].labels)
    record.measure(f"judge of {name}, test accuracy", right, floor=0.1, ceiling=1.0)
    tested[name] = judges[name].features(test[name].images)
    draws = torch.randperm(len(x[name]), generator=rng).split(cfg.n_scored)
    scores = [score(x[name][rows.to(device)], name, tested[name])[0]
              for rows in draws[: cfg.n_floor]]
    floors[name] = statistics.fmean(scores)
    record.measure_seeds(f"{name}: real against real, Fréchet distance", scores)
    print(f"{name}: judge right on {right:.2%}, floor {floors[name]:.3f}")

# %% [markdown]
# ## Digits: the naive network
#
# Now images. Both players have one hidden layer of 256 units and the noise has 128 numbers:
# sizes and recipe of a common first program. ReLU, weights started with a standard
# deviation of 0.01, noise uniform in $[0, 1]$, Adam as it comes. What we shall want to change
# is an argument.

# %%
def players(hidden=(256,), act=nn.ReLU, norm=None, dropout=0.0, std=None):
    """Generator and discriminator of images (B, 1, 28, 28) in [0, 1].

    hidden: units of the generator's hidden layers; the discriminator's are the reverse.
    norm: of the generator's hidden layers. std: of the first weights, if not PyTorch's.
    """
    pairs = itertools.pairwise((cfg.noise_size, *hidden))
    g = [part for a, b in pairs
         for part in (nn.Linear(a, b), *([norm(b)] if norm else []), act())]
    g += [nn.Linear(hidden[-1], 784), nn.Sigmoid(), nn.Unflatten(1, (1, 28, 28))]
    d = [nn.Flatten(), nn.Dropout(dropout / 2)]
    for a, b in itertools.pairwise((784, *hidden[::-1])):
        d += [nn.Linear(a, b), act(), nn.Dropout(dropout)]
    d.append(nn.Linear(hidden[0], 1))
    for layer in (*g, *d):
        if std and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*g), nn.Sequential(*d)

# %% [markdown]
# The game needs a place for its things: two networks, two optimisers, an **exponential moving
# average** (EMA) of the generator's weights, of which more below, and the state of all random
# numbers, so that a killed training goes on exactly where it was. `penalty` will be explained, too.

# %% recap=["steepness", "recent"]
def steepness(d, real):
    """Mean squared length of the gradient of D's logit at real images."""
    real = real.clone().requires_grad_()
    (slopes,) = torch.autograd.grad(d(real).sum(), real, create_graph=True)
    return slopes.square().sum(dim=(1, 2, 3)).mean()


def recent(average, current, step, decay):
    """Mean over about the last tenth of all steps, at most the last 1 / (1 - decay)."""
    return average + (10 / (step + 10)).clamp(min=1 - decay) * (current - average)

# %% recap=["GAN"]
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

# %% tags=["hide-input"] recap=["state_of", "restore"]
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

# %% [markdown]
# `train_gan` is the loop: epochs, batches, steps. After each epoch it generates from the same
# **fixed noise**, so that one can compare over time, and saves. (A loss that is not a number
# stops it: saving refuses NaN and says what to suspect.)

# %% recap=["generate", "train_gan"]
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

# %%
NAIVE = dict(act=nn.ReLU, norm=None, std=0.01, dropout=0.0, noise=torch.rand,
             betas=(0.9, 0.999), rates=(2e-4, 2e-4), penalty=0.0, decay=0.0)
NETWORK = ("hidden", "act", "norm", "std", "dropout")  # the rest belongs to the game


def new_game(seed, **options):
    """A game from a seed; options as in `players` and `GAN`."""
    torch.manual_seed(seed)
    network = {name: options.pop(name) for name in NETWORK if name in options}
    g, d = players(**network)
    return GAN(g.to(device), d.to(device), cfg.noise_size, seed=seed, **options)


def played(title, epochs, name="MNIST", seed=0, watch=None, **options):
    """Play a new game on images; its checkpoint has the title's name."""
    game, saved = new_game(seed, **options), Checkpoint(title, record)
    return train_gan(game, x[name], epochs, cfg.batch_size, saved, watch)


def fakes_of(game, seed=2):
    """10,000 images of the averaged generator, from noise of their own."""
    z = game.draw_noise(cfg.n_scored, torch.Generator().manual_seed(seed))
    return generate(game.average, z)

# %% [markdown]
# The naive network, from three seeds:

# %%
def several(title, epochs, **options):
    """Play the same game from several seeds."""
    return [played(f"{title}, seed {seed}", epochs, seed=seed, **options)
            for seed in range(cfg.n_seeds)]


naive = several("naive", cfg.ladder_epochs, **NAIVE)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three rows of twelve images, one row a seed: within a row nearly the same blot twelve times."}}
figures.before_after({f"seed {s}": game.history["samples"][-1][:12]
                      for s, game in enumerate(naive)});

# %% [markdown]
# Twelve different inputs, and nearly the same image. It looks like **mode collapse**: fakes from one or few
# **modes**, the heaps of the data's density. But a look at losses is needed before one says why, and they come
# with the cure.
#
# ## What it takes
#
# Here is what we change, each for a reason:
#
# * **start**: PyTorch's own first weights, here two to five times as large, so that signals shrink less from
#   layer to layer;
# * **LeakyReLU** and **batch norm** (chapter 2) in the generator, against units without gradient;
# * **Gaussian noise**. Uniform noise in $[0, 1]$ has mean ½ in each of 128 numbers: that common part has
#   length 5.7, the difference of two draws about 4.6. Gaussian noise has mean 0;
# * **betas** (0.5, 0.999): Adam steps along a mean of about two old gradients, not ten (Radford
#   et al., 2016). In a game the opponent that gave the old ones has moved on;
# * **rate** 1e-3 in place of 2e-4;
# * **dropout** in $D$, which switches off units at random, and the **R1 penalty** (Mescheder et
#   al., 2018): every fourth step, $D$ pays for the squared length of its gradient at real
#   images (`steepness`). Both hold $D$ back, so that its answers change gently from place to place;
# * the **average** of the generator's weights over about the last tenth of its steps (at most 1,000; the
#   function `recent`) makes the images, since two players
#   circle around the solution rather than walk to it.

# %%
BEST = dict(act=partial(nn.LeakyReLU, 0.2), norm=nn.BatchNorm1d, std=None, dropout=0.3,
            noise=torch.randn, betas=(0.5, 0.999), rates=(1e-3, 1e-3), penalty=0.4,
            decay=0.999)
CHANGES = {"start": ["std"], "LeakyReLU": ["act"], "batch norm": ["norm"],
           "Gaussian noise": ["noise"], "betas": ["betas"], "rate": ["rates"],
           "dropout": ["dropout"], "R1": ["penalty"], "average": ["decay"],
           "noise and betas": ["noise", "betas"]}

# %% [markdown]
# Which of them matter? One run each, equal epochs: the naive network with a single change,
# and the best one without it; noise and betas also together.

# %%
ladder = {}
for title, keys in CHANGES.items():
    gained = NAIVE | {key: BEST[key] for key in keys}
    missing = BEST | {key: NAIVE[key] for key in keys}
    ladder[title] = (played(f"naive with {title}", cfg.ladder_epochs, **gained),
                     played(f"best without {title}", cfg.ladder_epochs, **missing))
best = several("best", cfg.ladder_epochs, **BEST)

# %% tags=["hide-input"]
def entry(game):
    """Distance to held-out images, classes seen, and the last losses of D and G."""
    distance, shares = score(fakes_of(game), "MNIST", known["MNIST"])
    d_loss, g_loss = game.history["d_loss"][-1], game.history["g_loss"][-1]
    return distance, (shares >= 0.01).sum().item(), d_loss, g_loss


rows = []
for title, games in {"naive": naive, "best": best}.items():
    numbers = [entry(game) for game in games]
    record.measure_seeds(f"MNIST, {title}: Fréchet distance", [n[0] for n in numbers])
    record.measure_seeds(f"MNIST, {title}: loss of D", [n[2] for n in numbers])
    record.measure_seeds(f"MNIST, {title}: loss of G", [n[3] for n in numbers])
    rows.append((f"**{title}**, {cfg.n_seeds} seeds", *np.mean(numbers, axis=0)))
for title, (gained, missing) in ladder.items():
    first, second = entry(gained), entry(missing)
    record.measure(f"MNIST, naive with {title}: Fréchet distance", first[0])
    record.measure(f"MNIST, best without {title}: Fréchet distance", second[0])
    rows += [(f"naive with {title}", *first), (f"best without {title}", *second)]
tables.table(("game", "distance", "classes", "loss of D", "loss of G"), rows)

# %% [markdown]
# Read the naive rows first. No single change repairs the network: its distance stays between
# {{MNIST, naive with batch norm: Fréchet distance | .0f}} (batch norm) and
# {{MNIST, naive with dropout: Fréchet distance | .0f}} (dropout), and few classes appear. But changes help each
# other: Gaussian noise alone reaches {{MNIST, naive with Gaussian noise: Fréchet distance | .0f}}, the betas alone
# {{MNIST, naive with betas: Fréchet distance | .0f}}, both together {{MNIST, naive with noise and betas: Fréchet distance | .0f}}. All of
# them reach {{MNIST, best: Fréchet distance | .1f}} ± {{MNIST, best: Fréchet distance | spread .1f}}, with all ten classes.
#
# Now the other half. The best network can lose any *one* change and still makes all ten digits. It misses
# batch norm most ({{MNIST, best without batch norm: Fréchet distance | .1f}}), then dropout
# ({{MNIST, best without dropout: Fréchet distance | .1f}}). Without noise and betas, which helped the naive network so much, it is where
# it was ({{MNIST, best without noise and betas: Fréchet distance | .1f}}); without the larger rate
# ({{MNIST, best without rate: Fréchet distance | .1f}}), the start ({{MNIST, best without start: Fréchet distance | .1f}}) or R1
# ({{MNIST, best without R1: Fréchet distance | .1f}}) it is even ahead. A change is worth what it is worth *beside the others*. These
# are single runs of ten epochs; we keep all changes, though the table supports only some.
#
# And the losses? The naive $D$ ends at {{MNIST, naive: loss of D | .2f}} and $G$ at {{MNIST, naive: loss of G | .1f}}: $D$
# recognises most fakes. In the end that one picture fools nobody; whether it once did, these numbers do not say.
#
# So we let the best game play on, for {{MNIST, source's sizes: epochs | .0f}} epochs.

# %%
small = several("source's sizes", cfg.small_epochs, **BEST)
results = [score(fakes_of(game, 3), "MNIST", tested["MNIST"]) for game in small]
record.measure_seeds("MNIST, source's sizes: Fréchet distance", [d for d, _ in results],
                     floor=floors["MNIST"])
record.measure_seeds("MNIST, source's sizes: smallest share of a class",
                     [s.min().item() for _, s in results], floor=0.0, ceiling=0.1)
record.measure("MNIST, source's sizes: epochs", cfg.small_epochs)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Rows of twelve digits from the same fixed noise at several epochs: rough blots at first, then strokes, then digits that become cleaner from row to row."}}
samples = small[0].history["samples"]
figures.before_after({f"epoch {n}": samples[n - 1][:12] for n in cfg.strip_epochs});

# %% [markdown]
# Each column follows *one* noise. Blots become strokes, and strokes become digits. On the test images
# the distance is {{MNIST, source's sizes: Fréchet distance | .1f}} (± {{MNIST, source's sizes: Fréchet distance | spread .1f}} over
# seeds), which is far from the floor, {{MNIST, source's sizes: Fréchet distance | floor .2f}}; the
# smallest class has a share of {{MNIST, source's sizes: smallest share of a class | .1%}}.
#
# ## A larger pair
#
# One hidden layer of 256 units has to hold everything. Give the generator a second one, 128
# to 256 to 512 to 784, and the discriminator the reverse. The same recipe, with a stronger
# penalty, and every few epochs a look at the held-out images.

# %%
LARGE = BEST | dict(hidden=(256, 512), penalty=2.0)


def watch(name, game, epoch):
    """Every few epochs, the distance of a game's fakes to held-out images."""
    if epoch % cfg.watch_every == 0:
        return score(fakes_of(game), name, known[name])[0]


large = {name: played(f"large, {name}", cfg.large_epochs, name,
                      watch=partial(watch, name), **LARGE) for name in train}

# %%
fakes = {name: fakes_of(game, 3) for name, game in large.items()}
for name, images in fakes.items():
    distance, shares = score(images, name, tested[name])
    record.measure(f"{name}: Fréchet distance", distance, floor=floors[name])
    record.measure(f"{name}: smallest share of a class", shares.min().item(),
                   floor=0.0, ceiling=0.1)

# %% tags=["hide-input", "result-picture"] mystnb={"image": {"alt": "A grid of 60 generated digits in many hands, most of them readable, about fifteen broken or unclear, and below it a row of real digits."}}
grid = torch.cat([fakes["MNIST"][:60], test["MNIST"].images[:12]])
ax = figures.image_grid(grid, columns=12)
ax.axhline(150 - 2, color=figures.PALETTE[1], linewidth=2)
figures.caption_source(ax.figure, train["MNIST"]);

# %% [markdown]
# Sixty fakes, not selected, and under the line a row of real digits. Most can be read at sight; about fifteen
# are broken or between two digits. The distance is
# {{MNIST: Fréchet distance | .2f}}, or {{MNIST, times the floor | .0f}} times the floor, and the smallest class
# has {{MNIST: smallest share of a class | .1%}} of the images (of the real test images, 8.9 %). (Chapter 2's decoder with a mixture of
# Gaussians on its codes has {{02_autoencoders / mixture of Gaussians: Fréchet distance | .2f}} in the same measure: on digits of this
# size the older machine is ahead.) The same pair, trained on clothes:

# %% tags=["hide-input"] mystnb={"image": {"alt": "A grid of 60 generated garments: shirts, pullovers, dresses, coats, trousers, shoes, boots and bags, and below it a row of real ones."}}
grid = torch.cat([fakes["Fashion-MNIST"][:60], test["Fashion-MNIST"].images[:12]])
ax = figures.image_grid(grid, columns=12)
ax.axhline(150 - 2, color=figures.PALETTE[1], linewidth=2)
for name in train:
    distance = score(fakes[name], name, tested[name])[0]
    record.measure(f"{name}, times the floor", distance / floors[name])

# %% [markdown]
# Most are easy to name ({{Fashion-MNIST: Fréchet distance | .2f}}, {{Fashion-MNIST, times the floor | .0f}} times the
# floor). Look at edges and surfaces: each pixel has weights of its own, and nothing tells the network
# which pixels are neighbours. Chapter 4 changes that. And how did the games go?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Left: the losses of D and G over the epochs for digits and clothes, close to a dashed line at 0.693. Right, on a logarithmic scale: the Fréchet distances to held-out images fall fast and then ever more slowly and stay far above their dashed floors."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4))
short = dict(zip(large, ("digits", "clothes")))
curves = {f"{who.upper()} {short[name]}": game.history[f"{who}_loss"]
          for name, game in large.items() for who in "dg"}
plots.curves(axes[0], curves, x=range(1, cfg.large_epochs + 1), xlabel="epoch",
             ylabel="loss", reference={"log 2": math.log(2)})
every = cfg.watch_every
curves = {short[name]: game.history["watched"][every - 1 :: every]
          for name, game in large.items()}
times = range(every, cfg.large_epochs + 1, every)
plots.curves(axes[1], curves, x=times, xlabel="epoch", ylabel="Fréchet distance",
             yscale="log",
             reference={f"floor, {short[n]}": f for n, f in floors.items()})
for name, game in large.items():
    ends = {"a third of the way": cfg.large_epochs // 3, "at the end": cfg.large_epochs}
    for when, epoch in ends.items():
        record.measure(f"{name}, {when}: loss of D", game.history["d_loss"][epoch - 1])
        record.measure(f"{name}, {when}: distance to held-out images",
                       curves[short[name]][epoch // every - 1])

# %% [markdown]
# Both losses are close to $\log 2$ after a third of the game and then hardly move: on digits
# $D$ goes from {{MNIST, a third of the way: loss of D | .3f}} to {{MNIST, at the end: loss of D | .3f}}. In the same time
# the distance to held-out images falls from {{MNIST, a third of the way: distance to held-out images | .1f}} to
# {{MNIST, at the end: distance to held-out images | .1f}} (clothes: from
# {{Fashion-MNIST, a third of the way: distance to held-out images | .1f}} to
# {{Fashion-MNIST, at the end: distance to held-out images | .1f}}) and is still falling. The losses hardly show it; the judge does.
#
# ## What does a measure see?
#
# *What would a cheat look like in each of the measures?* We build four false generators of
# clothes and measure them like ours: one returns training images; one knows a single image of
# each class; one returns blurred training images; one makes every pixel at random. Two more
# columns: **diversity**, how far two images of one class are from each other in features, and
# how far the nearest training image is, in pixels.

# %%
def diversity(features, classes):
    """Mean distance between images that are neighbours in the list of their class."""
    own = [features[classes == label] for label in classes.unique()]
    return torch.cat([some - some.roll(1, dims=0) for some in own]).norm(dim=1).mean()


def nearest(some, training):
    """Distances (n,) and rows (n,) of the training images nearest in pixels."""
    return torch.cdist(some.flatten(1), training.flatten(1)).min(dim=1)

# %% tags=["hide-input"]
name, n = "Fashion-MNIST", cfg.n_scored
judge, real = judges[name], tested[name]
copies = x[name][torch.randperm(len(x[name]), generator=rng)[:n].to(device)].cpu()
labels = train[name].labels
one = torch.stack([train[name].images[labels == k][0] for k in labels.unique()])
candidates = {"GAN": fakes[name], "copies": copies,
              "one image a class": one.repeat(n // len(one), 1, 1, 1),
              "blurred copies": gaussian_blur(copies, 5, 1.0),
              "noisy pixels": torch.rand(n, 1, 28, 28, generator=rng),
              "test images": test[name].images}
rows = []
for title, images in candidates.items():
    features, classes = judge.features(images), judge.classify(images)
    distance, shares = score(images, name, real)
    covered, spread = coverage(real, features), diversity(features, classes).item()
    gap = nearest(images[:500].to(device), x[name])[0].median().item()
    record.measure(f"clothes, {title}: Fréchet distance", distance)
    record.measure(f"clothes, {title}: coverage", covered, floor=0.0, ceiling=1.0)
    record.measure(f"clothes, {title}: diversity", spread)
    record.measure(f"clothes, {title}: nearest training image", gap)
    rows.append((title, distance, f"{shares.min():.1%}", covered, spread, gap))
tables.table(("images", "Fréchet distance", "smallest class", "coverage", "diversity",
              "to nearest training image"), rows)

# %% [markdown]
# Column by column. The **Fréchet distance** refuses three cheats, blur included
# ({{clothes, blurred copies: Fréchet distance | .1f}} against our {{clothes, GAN: Fréchet distance | .1f}}), and is blind to copies:
# {{clothes, copies: Fréchet distance | .3f}}, as good as the floor. Only the **nearest training image** gives them away, at
# distance 0. **Coverage** refuses the single image a class ({{clothes, one image a class: coverage | .1%}} of the real images
# have one nearby) and shows our network's weakness: {{clothes, GAN: coverage | .2f}}, where copies have
# {{clothes, copies: coverage | .2f}}. (The test images stand at 0 and 1 because they are compared with themselves.)
# **Diversity** misleads: our fakes ({{clothes, GAN: diversity | .1f}}) differ from each other *more* than real clothes do
# ({{clothes, test images: diversity | .1f}}), and so do the blurred copies ({{clothes, blurred copies: diversity | .1f}}): more is not
# better. And the **smallest class** is what the judge says: it misreads the one image of some class, so that 0 % stands
# where 10 % is true. So no measure is enough, and each needs its row of real images.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of twelve garments: fakes above, and under each the training image nearest to it in pixels. Each pair is of the same kind, but outlines, sleeves and surfaces differ."}}
rows = nearest(fakes[name][:12].to(device), x[name])[1]
pairs = {"fake": fakes[name][:12], "nearest in training": x[name][rows].cpu()}
figures.before_after(pairs);

# %% [markdown]
# Does it copy? In the median, fakes are {{clothes, GAN: nearest training image | .2f}} from their nearest training image, no nearer
# than test images ({{clothes, test images: nearest training image | .2f}}). (A distance in pixels cannot see a copy that was moved by two
# pixels.)
#
# ## Break it on purpose
#
# A game can be lost in several ways. We take the best game on digits without dropout and penalty, so that
# nothing holds $D$ back, and break it three times:
# uniform noise and Adam's usual betas; a generator a hundred times slower than
# the discriminator; and the opposite. Look at the losses first, and guess what the images are like.

# %%
BROKEN = {"balanced": {},
          "old noise and betas": dict(noise=torch.rand, betas=(0.9, 0.999)),
          "D too fast": dict(rates=(2e-5, 2e-3)),  # the rates of G and of D
          "D too slow": dict(rates=(2e-3, 2e-5))}
plain = BEST | dict(dropout=0.0, penalty=0.0)  # nothing holds D back
broken = {title: played(f"broken, {title}", cfg.broken_epochs, **plain | change)
          for title, change in BROKEN.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four panels of losses over the epochs on a logarithmic axis, one a game: balanced, old noise and betas, D too fast and D too slow, each with curves of D and G and a dashed line at 0.693."}}
fig, axes = plt.subplots(2, 2, figsize=(7, 4.6), sharex=True, sharey=True)
for ax, (title, game) in zip(axes.flat, broken.items()):
    losses = {"D": game.history["d_loss"], "G": game.history["g_loss"]}
    plots.curves(ax, losses, x=range(1, cfg.broken_epochs + 1), yscale="log",
                 xlabel="epoch", ylabel="loss", reference={"log 2": math.log(2)})
    ax.set_title(title)

# %% [markdown]
# Which of the four makes good images? Here they are, from the same noise.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four rows of twelve images, one for each game."}}
for title, game in broken.items():
    distance, classes, d_loss, g_loss = entry(game)
    record.measure(f"{title}: Fréchet distance", distance)
    record.measure(f"{title}: classes", classes, ceiling=10)
    record.measure(f"{title}: loss of D", d_loss)
    record.measure(f"{title}: loss of G", g_loss)
figures.before_after({title: game.history["samples"][-1][:12]
                      for title, game in broken.items()});

# %% [markdown]
# Three failures that one word, "collapse", would throw together; one run each.
#
# * **$D$ has won.** *D too fast*: its loss is {{D too fast: loss of D | .3f}} and $G$'s {{D too fast: loss of G | .1f}}. The fakes are one
#   blot. $D$ is certain and nobody is fooled. (But this $G$ also learns fifty times slower than the balanced one.)
# * **Imbalance.** *Old noise and betas*: {{old noise and betas: loss of D | .3f}} and {{old noise and betas: loss of G | .1f}}, a few kinds of
#   broken digits, {{old noise and betas: classes | .0f}} classes, distance {{old noise and betas: Fréchet distance | .0f}}.
# * **$D$ sees nothing.** *D too slow*: {{D too slow: loss of D | .3f}} and {{D too slow: loss of G | .3f}}, both at $\log 2$, just as in a
#   solved game, and a distance of {{D too slow: Fréchet distance | .0f}} with {{D too slow: classes | .0f}} classes.
#
# The balanced game is at {{balanced: loss of D | .2f}} and {{balanced: loss of G | .2f}}, farther from $\log 2$ than the last one, with
# distance {{balanced: Fréchet distance | .1f}} (less than the best network's above after as many epochs: one more reason not to
# rank single changes by single runs). Print both losses, on a logarithmic axis, and look at images beside them.
#
# ## Eight islands
#
# A collapse can be counted where the modes are known: eight heaps on a circle. A heap
# counts as reached if at least one fake in a hundred lies within 0.3 of its middle.

# %%
MIDDLES = torch.tensor([[math.cos(a), math.sin(a)]
                        for a in torch.arange(8) * math.pi / 4])  # (8, 2)


def islands(n, generator):
    """Points around eight middles on a circle, (n, 2)."""
    middle = MIDDLES[torch.randint(8, (n,), generator=generator)]
    return middle + 0.05 * torch.randn(n, 2, generator=generator)


def reached(points):
    """How many of the eight islands hold a hundredth of the points, (n, 2)."""
    near = torch.cdist(points, MIDDLES) < 0.3  # (n, 8)
    return int((near.float().mean(dim=0) >= 0.01).sum())

# %%
def island_game(steps, betas, rates, seed):
    """Play on the islands; return 2,000 fakes."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    g, d = perceptron(2, 64, 64, 2), perceptron(2, 64, 64, 1)
    g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr=rate, betas=betas)
                    for net, rate in zip((g, d), rates))
    for _ in range(steps):
        real = islands(128, order)
        discriminator_step(g, d, d_opt, real, torch.randn(128, 2, generator=order))
        generator_step(g, d, g_opt, torch.randn(128, 2, generator=order))
    return g(torch.randn(2000, 2, generator=order)).detach()


PLANS = {"balanced": ((0.5, 0.999), (1e-3, 1e-3)),
         "betas 0.9": ((0.9, 0.999), (1e-3, 1e-3)),
         "D ten times slower": ((0.5, 0.999), (1e-3, 1e-4))}
points = {title: [island_game(cfg.island_steps, *plan, seed) for seed in range(5)]
          for title, plan in PLANS.items()}

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three scatter plots, one for each setting, of fakes around eight circles that mark the islands."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 2.8))
for ax, (title, clouds) in zip(axes, points.items()):
    counts = [reached(cloud) for cloud in clouds]
    record.measure_seeds(f"islands reached, {title}", counts, ceiling=8)
    ax.scatter(*clouds[0].T, s=3)
    for middle in MIDDLES.tolist():
        ax.add_patch(plt.Circle(middle, 0.3, fill=False, ec=figures.INK))
    ax.set(title=title, xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[])
    ax.set_aspect("equal")

# %% [markdown]
# Balanced players reach {{islands reached, balanced | .1f}} of eight islands in the mean of five games, and with the usual betas
# {{islands reached, betas 0.9 | .1f}}: this lenient count sees no harm in them. With $D$ ten times slower it is
# {{islands reached, D ten times slower | .1f}} ± {{islands reached, D ten times slower | spread .1f}}: most modes are missing, a
# **mode collapse**, and many fakes lie on no island; why, we did not test. And look at the bridges between the
# islands on the left: fakes where no real point lies, which the count does not see.
#
# ## Summary
#
# * A generator turns noise into images; a discriminator tells it, through the gradient, what to
#   change. For the best discriminator, the game as written minimises the Jensen-Shannon
#   divergence between fakes and data; the non-saturating loss that is used has the same solution.
# * At the solution $D = 1/2$ where there are data, and each cross-entropy is $\log 2$. Losses at
#   $\log 2$ do not prove a solution.
# * Judge from outside: Fréchet distance with its floor and number of images, shares of classes,
#   coverage, nearest neighbours. Each has its blind spot.
# * What this network cannot do: its pixels do not know their neighbours, nobody can tell it
#   *which* digit to make, and losses at $\log 2$ exclude no collapse.
#
# Chapter 4 takes on the neighbours, chapter 5 the wishes.
#
# ## Exercises
#
# **1. Nothing in common.** *(easy)* On paper: in the world of four images, let the real ones be
# only the first two and the fakes only the last two. What are $D^*$, the divergence and $V$?
# What does that mean for a generator that minimises it?

# %% tags=["solution"]
p = torch.tensor([0.5, 0.5, 0.0, 0.0])
for overlap in (0.0, 0.1, 0.5, 1.0):
    q = overlap * p + (1 - overlap) * p.flip(0)
    m = (p + q) / 2
    jsd = sum(torch.special.xlogy(r, r / m).nansum() for r in (p, q)) / 2
    print(f"overlap {overlap:.1f}: JSD {jsd:.3f}, V {2 * jsd - math.log(4):.3f}")
# With nothing in common D* is 1 on real images and 0 on fakes, the divergence is at its
# maximum, log 2, and V = 0. It stays there as long as nothing overlaps, however close
# the fakes come: a flat landscape, without a direction. It is the smoothness of a real
# discriminator between the images that helps.

# %% [markdown]
# **2. The two steps.** *(medium)* Write `my_d_step` and `my_g_step` for logits of shape (B, 1),
# with `F.softplus` in place of BCE. They pass if they give the same losses and the same weights as
# the chapter's steps, from the same start.

# %% tags=["solution"]
def my_d_step(g, d, optimizer, real, z):
    d_loss = (F.softplus(-d(real)).mean() + F.softplus(d(g(z).detach())).mean()) / 2
    optimizer.zero_grad()
    d_loss.backward()
    optimizer.step()
    return d_loss.detach()


def my_g_step(g, d, optimizer, z):
    g_loss = F.softplus(-d(g(z))).mean()
    optimizer.zero_grad()
    g_loss.backward()
    optimizer.step()
    return g_loss.detach()


found = []
for steps in ((discriminator_step, generator_step), (my_d_step, my_g_step)):
    torch.manual_seed(cfg.seed)
    g, d = perceptron(2, 8, 1), perceptron(1, 8, 1)
    g_opt, d_opt = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (g, d))
    real, z = real_line(16, torch.Generator().manual_seed(1)), torch.ones(16, 2)
    losses = torch.stack([steps[0](g, d, d_opt, real, z), steps[1](g, d, g_opt, z)])
    found.append(torch.cat([losses, nn.utils.parameters_to_vector(g.parameters())]))
assert torch.allclose(*found, atol=1e-6)
print("losses", [round(loss, 4) for loss in found[1][:2].tolist()])

# %% [markdown]
# **3. A less certain officer.** *(medium)* In *one-sided label smoothing* (Salimans et al., 2016) the
# target for real images is 0.9 in place of 1. Derive the best $D$, and check it.

# %% tags=["solution"]
p = torch.tensor([0.50, 0.25, 0.20, 0.05])
q = torch.tensor([0.25, 0.25, 0.25, 0.25])
board = nn.Parameter(torch.zeros(4))
optimizer = torch.optim.SGD([board], lr=2.0, maximize=True)
for _ in range(2000):
    value = (p * (0.9 * F.logsigmoid(board) + 0.1 * F.logsigmoid(-board))).sum()
    value = value + (q * F.logsigmoid(-board)).sum()
    optimizer.zero_grad()
    value.backward()
    optimizer.step()
for title, answer in {"trained": board.sigmoid(), "derived": 0.9 * p / (p + q)}.items():
    print(f"{title}: {[round(v, 4) for v in answer.tolist()]}")
# The derivative in D(x) is 0.9 p/D - (0.1 p + q)/(1 - D), zero at D = 0.9 p / (p + q):
# never above 0.9. Smoothing the zero too would add 0.1 q above and reward old fakes.

# %% [markdown]
# **4. How many images?** *(easy)* Measure the Fréchet distance of 100, 300, 1,000, 3,000 and 10,000
# real training images from the test images. What could a published distance owe to a small
# sample?

# %% tags=["solution"]
features = judges["Fashion-MNIST"].features(x["Fashion-MNIST"][: cfg.n_scored])
for n in (100, 300, 1_000, 3_000, 10_000):
    if n <= len(features):
        distance = metrics.frechet_distance(tested["Fashion-MNIST"], features[:n])
        print(f"{n:>6} real images: {distance:.3f}")
# Mean and covariance of few images are noisy, and every deviation adds to the distance:
# distances from different numbers of images must not be compared.

# %% [markdown]
# **5. Only the mean?** *(medium)* Is it the mean of uniform noise that does harm, or its shape?
# Change one thing at a time: noise uniform in $[-½, ½]$ has the same scale and mean 0.

# %% tags=["solution"]
def centred(*size, generator):
    return torch.rand(*size, generator=generator) - 0.5


kinds = {"uniform in [0, 1]": torch.rand, "the same, centred": centred,
         "Gaussian": torch.randn}
for title, noise in kinds.items():
    options = plain | dict(noise=noise, norm=None, betas=(0.9, 0.999))
    distance, classes, *_ = entry(played(title, min(3, cfg.ladder_epochs), **options))
    print(f"{title}: distance {distance:.1f}, classes {classes}")
# One seed and three epochs: a first look. Centring keeps the scale, so what it changes
# is due to the mean; the rest of the way to Gaussian noise is scale and shape.

# %% [markdown]
# **6. The forgotten detach.** *(hard)* Clear both optimisers together at the beginning of a round and leave
# `detach()` out. By which factor does that change the gradient for the generator if $D = 1/2$?
# Where does its sign change? Check on the game with one number.

# %% tags=["solution"]
torch.manual_seed(cfg.seed)
g, d = perceptron(2, 8, 1), perceptron(1, 8, 1)
z, sizes = torch.randn(256, 2), {}
for shift in (-3.0, 0.0, 3.0):
    logits = d(g(z)) - d(g(z)).mean().detach() + shift
    own = torch.autograd.grad(bce(logits, 1.0), g[0].weight, retain_graph=True)[0]
    left = torch.autograd.grad(bce(logits, 0.0) / 2, g[0].weight, retain_graph=True)[0]
    ratio = ((own + left) * own).sum() / own.square().sum()
    about = torch.tensor(shift).sigmoid()
    print(f"D about {about:.2f}: the push is {ratio:.2f} of what it should be")
# In the logit, G's own loss has the gradient -(1 - D); what is left of D's loss adds
# D / 2. At D = 1/2 half of the push is lost; above D = 2/3 it points the other way.
# Nothing crashes, which is why nobody notices.

# %% [markdown]
# **7. Open.** *(hard)* Every measure above can be cheated. Design one that none of the four cheats
# passes and that real test images do, and say what a new cheat would look like.
#
# ## Deeper
#
# ### Four numbers
#
# A classical first program plays on patterns of four numbers, high, low, high, low, with one
# uniform random number as noise and plain gradient descent. At the solution both losses are $\log 2$.
# Does $\log 2$ mean a solution?

# %%
def real_pattern(n, generator):
    """Patterns of about (0.9, 0.1, 0.9, 0.1), each number within 0.1: (n, 4)."""
    low = torch.tensor([0.8, 0.0, 0.8, 0.0])
    return low + 0.2 * torch.rand(n, 4, generator=generator)


def pattern_game(steps, seed):
    """Play on patterns; return both losses of each step, (steps, 2), and G."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    d, g = perceptron(4, 8, 1), nn.Sequential(perceptron(1, 8, 4), nn.Sigmoid())
    g_opt, d_opt = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (g, d))
    losses = []
    for _ in range(steps):
        z, real = torch.rand(64, 1, generator=order), real_pattern(64, order)
        d_loss = discriminator_step(g, d, d_opt, real, z)
        losses.append((d_loss.item(), generator_step(g, d, g_opt, z).item()))
    return torch.tensor(losses), g

# %% tags=["hide-input"] mystnb={"image": {"alt": "The losses of both players over the steps of the game swing at first and then run close to a dashed line at 0.693."}}
losses, g = pattern_game(cfg.pattern_steps, cfg.seed)
smooth = losses.unfold(0, min(50, len(losses)), 1).mean(dim=2)  # mean over 50 steps
fig, ax = plt.subplots(figsize=(7, 3.2))
plots.curves(ax, {"D": smooth[:, 0], "G": smooth[:, 1]}, xlabel="step", ylabel="loss",
             reference={"log 2": math.log(2)})
for who, end in zip("DG", losses[-500:].mean(dim=0)):
    gap = abs(end.item() - math.log(2))
    record.measure(f"1-0-1-0, bce, {who}: distance from theory", gap, floor=0.0)
fake, real = g(torch.rand(1000, 1, generator=rng)).detach(), real_pattern(1000, rng)
record.measure("1-0-1-0: spread, fake / real", fake.std(0).mean() / real.std(0).mean())

# %% [markdown]
# Both losses end there: in the last 500 steps they are {{1-0-1-0, bce, D: distance from theory | .3f}} (D) and
# {{1-0-1-0, bce, G: distance from theory | .3f}} (G) from it. And yet the game is not solved: the fakes
# spread only {{1-0-1-0: spread, fake / real | .2f}} times as much as real patterns. *One* noise number
# can only draw a curve through the space of four, so this generator cannot express the data, and
# the theorem's condition fails. Even a curve could have the full spread; that it is missing, this small
# discriminator does not see.
#
# ## References
#
# * M. Arjovsky, L. Bottou. *Towards principled methods for training generative adversarial
#   networks.* ICLR 2017. <https://doi.org/10.48550/arXiv.1701.04862>
# * D. Dowson, B. Landau. *The Fréchet distance between multivariate normal
#   distributions.* Journal of Multivariate Analysis 12, 1982.
#   <https://doi.org/10.1016/0047-259X(82)90077-X>
# * I. Goodfellow et al. *Generative adversarial nets.* NeurIPS 2014.
#   <https://doi.org/10.48550/arXiv.1406.2661>
# * M. Heusel et al. *GANs trained by a two time-scale update rule converge to a local
#   Nash equilibrium.* NeurIPS 2017. <https://doi.org/10.48550/arXiv.1706.08500>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to
#   document recognition.* Proceedings of the IEEE 86, 1998.
#   <https://doi.org/10.1109/5.726791>
# * L. Mescheder, A. Geiger, S. Nowozin. *Which training methods for GANs do actually
#   converge?* ICML 2018. <https://doi.org/10.48550/arXiv.1801.04406>
# * M. F. Naeem et al. *Reliable fidelity and diversity metrics for generative models.*
#   ICML 2020. <https://doi.org/10.48550/arXiv.2002.09797>
# * A. Radford, L. Metz, S. Chintala. *Unsupervised representation learning with deep
#   convolutional generative adversarial networks.* ICLR 2016.
#   <https://doi.org/10.48550/arXiv.1511.06434>
# * T. Salimans et al. *Improved techniques for training GANs.* NeurIPS 2016.
#   <https://doi.org/10.48550/arXiv.1606.03498>
# * H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a novel image dataset for
#   benchmarking machine learning algorithms.* 2017.
#   <https://doi.org/10.48550/arXiv.1708.07747>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %% tags=["hide-input"]
record.card()
