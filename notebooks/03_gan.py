# %% [markdown]
# # 3. Generative adversarial networks: a game of two
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/03_gan.ipynb)
#
# You will teach a network to draw clothes that nobody has ever sewn, by letting a
# second network criticise every stroke. You will derive why that game has a solution,
# play it first with four numbers and then with pictures, measure how well it went, and
# break it in the ways in which it usually breaks.
#
# ![A grid of garments drawn by the trained generator from random numbers: shirts, trousers, shoes, bags and dresses, small and grey](attachment:result.png)
#
# *Every one of these was drawn from 128 random numbers. None is a photograph, and none
# was selected.*
#
# **Time to run:** at most 40 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); `full`, for a GPU, trains for longer.

# %% [markdown]
# ## What is missing?
#
# Chapter 2 ended with a decoder that turns codes into digits, and with codes drawn at
# random that it turned into blots. A **generative model** has to do better: it takes
# numbers drawn from a known distribution, the **noise**, and turns *every* draw into an
# image that could have come from the data. Nobody can say which image belongs to which
# noise. So there is no target, and no squared error to minimise.
#
# This chapter replaces the missing target by an opponent. Two networks play a game: the
# **generator** $G$ draws, the **discriminator** $D$ looks at real and at drawn images
# and says which is which. The generator is paid for fooling the discriminator. That is
# a **generative adversarial network**, GAN for short (Goodfellow et al., 2014).

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

import io
import itertools
import math
import statistics
from dataclasses import dataclass
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from genlab_helpers import data, figures, film, grids, judge, metrics, plots
from genlab_helpers import runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.recap import ConvDecoder, ConvEncoder
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# All numbers that you may want to change. What this chapter chooses, and the slow
# generator near its end, was chosen by the distance to *training* images. Rates and
# numbers of epochs come from first tries, some of which looked at the test images too,
# never at a label.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images of each data set: all of them
    n_scored: int = 10_000  # drawn images behind each Fréchet distance
    n_floor: int = 5  # draws of real images behind the floor
    batch_size: int = 128  # real images a step, and as many drawn ones
    noise_size: int = 128  # numbers that an image is drawn from
    rate: float = 2e-4  # Adam's learning rate for both players
    betas: tuple = (0.5, 0.999)  # Adam's averaging, as in the DCGAN paper
    dream_steps: int = 200  # steps in which an image is changed
    pattern_steps: int = 8_000  # steps of the game with four numbers
    pattern_batch: int = 64  # patterns a step
    gradient_steps: int = 200  # steps in which gradients are measured
    n_seeds: int = 2  # games behind each entry of the ladder
    ladder_epochs: int = 5  # epochs of each of them
    digits_epochs: int = 30  # epochs of the repaired network on MNIST
    strip_epochs: tuple = (1, 2, 5, 10, 20, 30)  # when its digits are shown
    clothes_epochs: int = 30  # epochs on Fashion-MNIST
    broken_epochs: int = 4  # epochs of each game that is broken on purpose
    decoder_epochs: int = 2  # epochs of the autoencoder of chapter 2


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_scored=200, n_floor=2, batch_size=100, dream_steps=3,
               pattern_steps=40, gradient_steps=4, n_seeds=1, ladder_epochs=1,
               digits_epochs=1, strip_epochs=(1,), clothes_epochs=2, broken_epochs=1,
               decoder_epochs=1),
    full=dict(n_seeds=3, digits_epochs=100, strip_epochs=(1, 5, 10, 20, 50, 100),
              clothes_epochs=100),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("03_gan", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## The data, and a judge
#
# Two data sets: the digits of the chapters before, and Fashion-MNIST (Xiao et al.,
# 2017), small grey pictures of clothes in ten classes. And two **judges**, one for
# each: small convolutional classifiers, trained once on the training images and kept
# with the course. They never take part in a game. They will say what the drawn images
# show, and their last layer but one, 64 numbers, is the space in which we will compare
# drawn images with real ones. First, how good are they?

# %%
digits, clothes = data.mnist("train"), data.fashion_mnist("train")
digits_test, clothes_test = data.mnist("test"), data.fashion_mnist("test")
judges = {"MNIST": (judge.load("MNIST", device), digits_test),
          "Fashion-MNIST": (judge.load("Fashion-MNIST", device), clothes_test)}
for used in (digits, clothes, digits_test, clothes_test):
    record.use(used)
for name, (its_judge, real) in judges.items():
    right = judge.accuracy(its_judge, real.images, real.labels)
    record.measure(f"judge of {name}, test accuracy", right, floor=0.1, ceiling=1.0)
    print(f"{name}: {right:.4f} of the test images right")

# %% [markdown]
# ## Running a classifier backwards
#
# If a classifier knows what a 3 is, can it draw one? Start from grey noise, ask for the
# gradient of its loss for the label 3 with respect to the *pixels*, and change the
# pixels, not the weights, until it is sure. We try it with the judge and with the
# simplest classifier there is, a single linear layer, trained here for one epoch.

# %% mystnb={"image": {"alt": "Two rows of ten pictures, one for each label: with the single layer patchy stencils in which a few digits can be guessed, with the convolutional judge stripes and noise in which no digit can be seen."}}
def dream(classifier, labels, start, steps):
    """Change images, given as logits (B, 1, 28, 28), until they get labels (B,)."""
    paint = start.clone().requires_grad_()
    optimizer = torch.optim.Adam([paint], lr=0.1)
    for _ in range(steps):
        loss = F.cross_entropy(classifier(paint.sigmoid()), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return paint.sigmoid().detach()


one_layer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10)).to(device)
optimizer = torch.optim.Adam(one_layer.parameters(), lr=1e-3)
for rows in torch.randperm(cfg.n_images, generator=rng).split(cfg.batch_size):
    some = digits.images[rows].to(device)
    loss = F.cross_entropy(one_layer(some), digits.labels[rows].to(device))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()

wanted, start = torch.arange(10), 0.1 * torch.randn(10, 1, 28, 28, generator=rng)
classifiers = {"one layer": one_layer, "judge": judges["MNIST"][0]}
pictures = {name: dream(net, wanted.to(device), start.to(device), cfg.dream_steps)
            for name, net in classifiers.items()}
grids.before_after(pictures);

# %% [markdown]
# Both classifiers are now all but certain of each picture, and neither picture is a
# digit. The single layer gives a stencil: where ink speaks for a 3 it is white, where
# ink speaks against it black. At best that is something like an average of all threes,
# and for the same label it is always much the same. The judge gives noise that happens
# to have what it looks for. A classifier has learned what *tells digits apart*, not
# what they look like, and nothing punishes pictures that no data set contains.
#
# Two things are missing, then. Something must vary, so that not every 3 is the same:
# the noise. And something must know what real images look like *and keep learning as
# the drawn ones get better*: the discriminator.
# %% [markdown]
# ## The game
#
# The usual picture is this. A counterfeiter prints money. A police officer compares
# notes and says which are false. Both learn: the officer finds ever smaller flaws, the
# counterfeiter removes them. In the end the false notes cannot be told from real ones.
#
# It is a good picture, and it misleads in three places. The counterfeiter *never sees
# real money*: all that the generator knows about the data reaches it through the
# discriminator. The officer is no silent judge: through the gradient it says of every
# single pixel in which direction it should change, so it is as much a teacher as an
# opponent. And neither must win. If the officer recognises everything at once, the
# counterfeiter learns nothing from "all wrong"; if the officer is blind, nothing from
# "all fine".
#
# **In symbols.** Real images $x$ come from a distribution with density $p$. Noise $z$
# is drawn, and the images $G(z)$ have some density $q$, which depends on $G$. The
# discriminator says with $D(x) \in (0, 1)$ how probable it thinks it that $x$ is real.
# Both play for one number,
#
# $$V(G, D) = \mathbb{E}_{x \sim p}[\log D(x)] + \mathbb{E}_{z}[\log(1 - D(G(z)))] ,$$
#
# which $D$ wants large and $G$ wants small. With label 1 for real and 0 for drawn, $-V$
# is the sum of two binary cross-entropies (BCE): the discriminator is an ordinary
# classifier.
#
# **The best discriminator for a fixed generator.** Write the second mean as one over
# $x \sim q$. Then $V = \int p(x) \log D(x) + q(x) \log(1 - D(x)) \, dx$, and each $x$
# can be treated alone: the derivative with respect to the number $D(x)$,
# $\frac{p(x)}{D(x)} - \frac{q(x)}{1 - D(x)}$, is zero at
#
# $$D^*(x) = \frac{p(x)}{p(x) + q(x)} .$$
#
# The second derivative, $-\frac{p}{D^2} - \frac{q}{(1 - D)^2}$, is negative, so that
# this is the maximum. And it says something simple: $D^*(x)$ is the share of real
# images among all images that look like $x$.
#
# **What the generator then minimises.** Put $D^*$ into $V$, and divide both fractions
# by 2, so that the mean density $m = (p + q)/2$ appears:
#
# $$V(G, D^*) = \mathbb{E}_{p}\Big[\log \frac{p}{2m}\Big] + \mathbb{E}_{q}\Big[\log \frac{q}{2m}\Big]
# = -\log 4 + \mathrm{KL}(p \,\|\, m) + \mathrm{KL}(q \,\|\, m)
# = -\log 4 + 2\,\mathrm{JSD}(p, q) .$$
#
# Here $\mathrm{KL}(p \,\|\, m) = \mathbb{E}_p[\log \frac{p}{m}]$ is the
# Kullback-Leibler divergence. It is never negative: $\log t \le t - 1$ for every
# $t > 0$, so that
#
# $$-\mathrm{KL}(p \,\|\, m) = \mathbb{E}_p\Big[\log \frac{m}{p}\Big]
# \le \mathbb{E}_p\Big[\frac{m}{p} - 1\Big] \le 0 ,$$
#
# with equality only where $m = p$. The two of them make up twice the **Jensen-Shannon
# divergence** of $p$ and $q$, which is therefore zero only if $p = m = q$. So the game
# has exactly one solution, provided that $G$ can express it: **the generator's images
# are distributed like the real ones, and $D = 1/2$ everywhere.** Each cross-entropy is
# then $-\log\frac12 = \log 2 \approx 0.693$, their sum $1.386$. In this course
# $d\_loss$ is the *mean* of the two, so its reference is $\log 2$. Train $D$ with the
# squared error against 1 and 0 in place of BCE, that is, let it minimise
# $p\,(1 - D)^2 + q\,D^2$ at each $x$: the derivative $-2p(1 - D) + 2qD$ is zero at the
# same $D^*$, and at $D = 1/2$ the reference is $(1 - \frac12)^2 = 0.25$.
#
# Let us check this on a world of four possible images, where $p$ and $q$ are two short
# lists and $D$ is a table of four numbers, trained by gradient descent:

# %%
p = torch.tensor([0.50, 0.25, 0.20, 0.05])  # how often each image is real
q = torch.tensor([0.25, 0.25, 0.25, 0.25])  # how often it is drawn
table = torch.zeros(4, requires_grad=True)  # logits: D = sigmoid(table)
for _ in range(2000):
    value = (p * F.logsigmoid(table) + q * F.logsigmoid(-table)).sum()
    (gradient,) = torch.autograd.grad(value, table)
    table.data += 2 * gradient  # D climbs
m = (p + q) / 2
jsd = ((p * (p / m).log()).sum() + (q * (q / m).log()).sum()) / 2
for name, values in {"D, trained": table.sigmoid(), "p / (p + q)": p / (p + q)}.items():
    print(f"{name:>12}: {[round(value, 4) for value in values.tolist()]}")
print(f"V {value:.6f}, -log 4 + 2 JSD {2 * jsd - math.log(4):.6f}")

# %% [markdown]
# **Which loss for the generator?** $G$ wants $\log(1 - D(G(z)))$ small. Write
# $D = \sigma(a)$ with the logit $a$, the number that $D$ gives before its sigmoid. Then
#
# $$\frac{d}{da} \log(1 - \sigma(a)) = -\sigma(a) = -D(G(z)), \qquad
# \frac{d}{da} \big(-\log \sigma(a)\big) = -(1 - D(G(z))) .$$
#
# The first is the loss of the game as written. At the beginning the drawn images are
# easy to spot, $D(G(z))$ is nearly 0, and so is the gradient: the worse the generator,
# the less it is told. That loss is called **saturating**. The second, $-\log D(G(z))$,
# has the same solution and its gradient is largest when the images are worst: the
# **non-saturating** loss, which everybody uses.

# %% mystnb={"image": {"alt": "The size of both gradients against D(G(z)): the saturating one rises from 0 to 1 along the diagonal, the non-saturating one falls from 1 to 0; they cross at one half."}}
logits = torch.linspace(-6, 6, 61, requires_grad=True)
losses = {"saturating": F.logsigmoid(-logits).sum(),
          "non-saturating": -F.logsigmoid(logits).sum()}
sizes = {name: torch.autograd.grad(loss, logits)[0].abs()
         for name, loss in losses.items()}
fig, ax = plt.subplots(figsize=(7, 3.2))
plots.curves(ax, sizes, x=logits.sigmoid(), xlabel="D(G(z))",
             ylabel="size of gradient");

# %% [markdown]
# Early in a game one lives at the left end of this picture. There the saturating loss
# pushes with almost nothing and the other with full force.
#
# **What losses tell, and what they do not.** A $d\_loss$ near $\log 2$ says that *this*
# discriminator cannot tell real from drawn. That may be because the images are perfect,
# or because the discriminator is bad. And $g\_loss$ is measured against a discriminator
# that changes all the time, so a lower value later does not mean better images. For
# that we will need a judge from outside the game.
#
# ## The smallest game
#
# Before pictures, four numbers. The "real" data are patterns high, low, high, low, with
# a little noise: `real_sample` draws them. Both players are tiny networks with eight
# hidden units. The discriminator ends in a *logit*; the sigmoid is part of the loss,
# where it can be computed without overflow: $-\log\sigma(a)$ is `softplus(-a)`, and
# $-\log(1 - \sigma(a))$ is `softplus(a)`.
#
# First the discriminator alone: can it tell patterns from uniform noise at all? A
# player that cannot learn its own part will not learn it in a game.

# %%
def real_sample(n, generator):
    """Patterns of about (0.9, 0.1, 0.9, 0.1), each number within 0.1: (n, 4)."""
    low = torch.tensor([0.8, 0.0, 0.8, 0.0])
    return low + 0.2 * torch.rand(n, 4, generator=generator)


def small_discriminator():
    return nn.Sequential(nn.Linear(4, 8), nn.LeakyReLU(0.2), nn.Linear(8, 1))


torch.manual_seed(cfg.seed)
critic = small_discriminator()
optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2)
for _ in range(cfg.pattern_steps // 8):
    on_real = critic(real_sample(cfg.pattern_batch, rng))  # (B, 1)
    on_noise = critic(torch.rand(cfg.pattern_batch, 4, generator=rng))
    loss = F.softplus(-on_real).mean() + F.softplus(on_noise).mean()  # both BCE terms
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
tests = {"real": real_sample(1000, rng), "noise": torch.rand(1000, 4, generator=rng)}
for name, some in tests.items():
    print(f"{name}: D says {critic(some).sigmoid().mean():.3f} on average")

# %% [markdown]
# It works. Now the heart of the chapter: **the two steps of the game**. Read them
# slowly; every GAN in this course uses them.
#
# The discriminator's step wants 1 for real and 0 for drawn. The `detach()` cuts the
# graph: for this step the drawn images are mere data, and nothing of the gradient goes
# on into the generator. The generator's step wants the discriminator to say 1 to what
# it has drawn. Here the gradient *must* pass through the discriminator, down to the
# images and into the generator; the discriminator's own gradients are filled on the
# way, but its optimiser is not asked to step, and they are cleared at its next turn.

# %% recap=["bce", "discriminator_step", "generator_step"]
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

# %% [markdown]
# The game is these two in turn. We play it three times: with noise, with noise and the
# squared error in place of BCE, and with a constant 0.5 in place of noise.

# %%
def squared(logits, target):
    """Mean squared error of the probabilities against one target."""
    return (logits.sigmoid() - target).square().mean()


def pattern_game(noise, loss, steps, batch, seed):
    """Play on patterns; return both losses (steps, 2), outputs over time, and G."""
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    d = small_discriminator()
    g = nn.Sequential(nn.Linear(1, 8), nn.LeakyReLU(0.2), nn.Linear(8, 4), nn.Sigmoid())
    d_opt, g_opt = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (d, g))
    losses, outputs, fixed = [], [], noise(1, order)
    for step in range(steps):
        z = noise(batch, order)
        d_loss = discriminator_step(g, d, d_opt, real_sample(batch, order), z, loss)
        g_loss = generator_step(g, d, g_opt, z, loss)
        losses.append((d_loss.item(), g_loss.item()))
        if step % (steps // 20) == 0:
            outputs.append(g(fixed).detach()[0])
    return torch.tensor(losses), torch.stack(outputs), g.requires_grad_(False)


def uniform(n, generator):
    return torch.rand(n, 1, generator=generator)

# %% [markdown]
# What should the losses do? If the theory is right, both end near $\log 2 = 0.693$ with
# BCE and near 0.25 with the squared error: $D = 1/2$ everywhere.

# %% mystnb={"image": {"alt": "Two panels, BCE and squared error: the losses of both players over the steps of the game swing at first and then run close to a dashed line, at 0.693 on the left and at 0.25 on the right."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
pattern_size = dict(steps=cfg.pattern_steps, batch=cfg.pattern_batch, seed=cfg.seed)
played = {}
for ax, loss, height in zip(axes, (bce, squared), (math.log(2), 0.25)):
    losses, *played[loss.__name__] = pattern_game(uniform, loss, **pattern_size)
    smooth = losses.unfold(0, min(50, len(losses)), 1).mean(dim=2)  # mean over 50 steps
    both, name = {"D": smooth[:, 0], "G": smooth[:, 1]}, f"loss: {loss.__name__}"
    plots.curves(ax, both, xlabel="step", ylabel=name, reference={"theory": height},
                 legend=True)
    for player, end in zip("DG", losses[-500:].mean(dim=0)):
        who, gap = f"{loss.__name__}, {player}", abs(end.item() - height)
        record.measure(f"1-0-1-0, {who}: distance from theory", gap, floor=0.0)
        print(f"{who}: last 500 steps {gap:.4f} from {height:.4f}")

# %% [markdown]
# The losses swing while both players learn, and end at the dashed line: the
# discriminator can no longer tell patterns from drawings. Here that is good news, for
# we can look at the patterns. What does the generator draw, and what if its noise is a
# constant?

# %% mystnb={"image": {"alt": "Two tall tables of grey cells, four columns wide and one row for each twentieth of the game: from even grey at the top to light, dark, light, dark at the bottom, with constant input and with noise."}}
def constant(n, generator):
    return torch.full((n, 1), 0.5)


_, *played["constant"] = pattern_game(constant, bce, **pattern_size)
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4))
for ax, name in zip(axes, ("bce", "constant")):
    ax.imshow(played[name][0], cmap="gray", vmin=0, vmax=1, aspect="auto")
    ax.set(title="constant input" if name == "constant" else "noise as input",
           xticks=range(4), xlabel="number", ylabel="time (downwards)", yticks=[])

# %% [markdown]
# The first row is the untrained generator; soon after it is light, dark, light, dark.
# Look closely, and the greys still wander from row to row, together with the waves in
# the losses: the two players circle around the solution rather than walking straight to
# it. And how different are the patterns of one generator?

# %%
print(f"real patterns: standard deviation {real_sample(1000, rng).std(0).mean():.3f}")
for name, noise in {"bce": uniform, "constant": constant}.items():
    spread = played[name][1](noise(1000, rng)).std(dim=0).mean()
    print(f"drawn from {noise.__name__} input: {spread:.3f}")

# %% [markdown]
# Fed with a constant, the generator can only ever draw *one* pattern. With noise it
# could draw as many as there are, but it uses that freedom less than it should: its
# patterns vary less than the real ones. That is a first taste of a problem that we will
# meet again.
#
# ## Digits
#
# Now pictures. Both players are networks with one hidden layer of 256 units; the
# generator ends in a sigmoid because MNIST lies in $[0, 1]$. What we want to try out
# later is an argument.

# %% recap=["leaky"]
def players(noise_size, act=nn.ReLU, norm=False, std=None):
    """Generator and discriminator of images (B, 1, 28, 28) in [0, 1].

    act: makes an activation. norm: normalise hidden layers. std: of the weights at the
    start, None for the library's choice.
    """
    def hidden(inputs):
        normalise = nn.LayerNorm(256) if norm else nn.Identity()
        return [nn.Linear(inputs, 256), normalise, act()]

    generator = nn.Sequential(*hidden(noise_size), nn.Linear(256, 784), nn.Sigmoid(),
                              nn.Unflatten(1, (1, 28, 28)))  # (B, 784) -> images
    discriminator = nn.Sequential(nn.Flatten(), *hidden(784), nn.Linear(256, 1))
    for layer in [*generator, *discriminator]:
        if std and isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    return generator, discriminator


def leaky():
    """Return the activation of most networks here: slope 0.2 below zero."""
    return nn.LeakyReLU(0.2)

# %% [markdown]
# **What if `detach()` is forgotten?** Nothing fails, which makes it dangerous. The
# backward pass then runs on through the generator for nothing, and its gradients end up
# in the generator's `.grad`. There a loop that does not clear them in time would step
# along them, *towards being recognised*. We time both steps on the same images and look
# at what they leave behind.

# %%
def forgetful_step(generator, discriminator, optimizer, real, z):
    """The discriminator's step without detach()."""
    drawn = generator(z)
    d_loss = (bce(discriminator(real), 1.0) + bce(discriminator(drawn), 0.0)) / 2
    optimizer.zero_grad()
    d_loss.backward()
    optimizer.step()


real = digits.images[: cfg.batch_size].to(device)
z = torch.randn(len(real), cfg.noise_size, generator=rng).to(device)
for step in (discriminator_step, forgetful_step):
    g, d = (net.to(device) for net in players(cfg.noise_size))
    optimizer, times = torch.optim.Adam(d.parameters(), lr=cfg.rate), []
    for _ in range(50):
        with runtime.Stopwatch(device) as watch:
            step(g, d, optimizer, real, z)
        times.append(1000 * watch.seconds)
    left = [w.grad.norm() for w in g.parameters() if w.grad is not None]
    record.measure(f"{step.__name__}, median time", statistics.median(times), unit="ms")
    print(f"{step.__name__}: {statistics.median(times):.2f} ms, gradients left in"
          f" {len(left)} of the generator's tensors, length {sum(left):.3f}")

# %% [markdown]
# Without `detach()` the step takes longer, and every tensor of the generator holds a
# gradient that nobody asked for. In our loop the generator's own step clears them
# first; exercise 6 lets them through.
#
# **The two losses in a real game.** Now the promise of the figure with the two
# gradients can be tested. In the first half of the steps below, the discriminator
# learns alone; then the game begins, with the non-saturating loss. Before every step we
# measure the gradient that either loss would give to the generator's weights.

# %%
def gradient_sizes(generator, discriminator, z):
    """D(G(z)), and how long a gradient each loss gives the generator's weights."""
    logits = discriminator(generator(z))
    losses = {"saturating": F.logsigmoid(-logits).mean(),
              "non-saturating": -F.logsigmoid(logits).mean()}
    sizes = {"D(G(z))": logits.sigmoid().mean().item()}
    for name, loss in losses.items():
        gradients = torch.autograd.grad(loss, generator.parameters(), retain_graph=True)
        sizes[name] = nn.utils.get_total_norm(gradients).item()
    return sizes

# %% [markdown]
# We use LeakyReLU and normalisation, of which the next section will say more.

# %% mystnb={"image": {"alt": "Left: D(G(z)) falls from one half to nearly zero within a few steps and stays there. Right, on a logarithmic scale: while D learns alone, the gradient of the saturating loss falls by three orders of magnitude and that of the non-saturating loss by less than one; after the dashed upright, where the game begins, both rise, and the first stays about a hundred times smaller."}}
torch.manual_seed(cfg.seed)
g, d = (net.to(device) for net in players(cfg.noise_size, leaky, norm=True))
g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr=cfg.rate) for net in (g, d))
sizes = []
for step in range(cfg.gradient_steps):
    rows = torch.randperm(len(digits.images), generator=rng)[: cfg.batch_size]
    z = torch.randn(cfg.batch_size, cfg.noise_size, generator=rng).to(device)
    sizes.append(gradient_sizes(g, d, z))
    discriminator_step(g, d, d_opt, digits.images[rows].to(device), z)
    if step >= cfg.gradient_steps // 2:  # until then, D learns alone
        generator_step(g, d, g_opt, z)
measured = {name: torch.tensor([size[name] for size in sizes]) for name in sizes[0]}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), width_ratios=(2, 3))
plots.curves(axes[0], {"": measured.pop("D(G(z))")}, xlabel="step", ylabel="D(G(z))")
plots.curves(axes[1], measured, xlabel="step", ylabel="size of gradient", yscale="log")
for ax in axes:
    ax.axvline(cfg.gradient_steps // 2, color=figures.QUIET, linestyle="--")
for name, values in measured.items():
    alone = values[cfg.gradient_steps // 2]
    print(f"{name}: gradient {values[0]:.3g} at the start, {alone:.3g} when D had"
          " learned alone")

# %% [markdown]
# It keeps the promise. While the discriminator learns alone, $D(G(z))$ sinks to almost
# nothing and the saturating gradient sinks with it: the generator would be told less
# and less, just when it needs most to be told. The non-saturating gradient stays within
# one order of magnitude. When the game begins (at the dashed upright), it is this one
# that moves the generator; the other would still be about a hundred times weaker.
#
# **The loop.** The game needs a place to keep its things: two networks, two optimisers,
# the generator of random numbers, and what happened so far. `step` is the two steps in
# turn; `epoch` does it over all images once. After every epoch it draws from the same
# **fixed noise**: only so can one compare over time.
#
# Everything that the next step depends on stands in `state_dict`: not only the weights,
# but also both optimisers (Adam keeps averages of past gradients) and the state of both
# sources of random numbers, ours for images and noise and PyTorch's own, which dropout
# uses. Leave one out, and a training that was interrupted goes on differently.

# %% recap=["Game"]
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

# %% [markdown]
# `play` repeats this and saves after every epoch. If the training is killed, by a flat
# battery or a Colab session that ends, the same call goes on from the last epoch that
# was finished. `Checkpoint` does no more than write such a dictionary to a file and
# read it again, so that there is never half a file.

# %% recap=["draw", "play"]
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

# %% [markdown]
# **How good is a generator?** We ask the judge. It gives 64 numbers for each image. Fit
# one normal distribution to these numbers for the drawn images and one for the real
# test images. The **Fréchet distance** between the two (Dowson and Landau, 1982) is
#
# $$\lVert m_1 - m_2 \rVert^2 + \mathrm{tr}\big(S_1 + S_2 - 2 (S_1 S_2)^{1/2}\big)$$
#
# with their means $m$ and covariances $S$. It is zero if both agree in mean and
# covariance. With the features of a large network, Inception, it is known as FID
# (Heusel et al., 2017). Another feature network is another scale: compare our numbers
# only with each other. It also depends on the number of images, so we always take
# 10,000 (unless the profile is `smoke`), and give its **floor**: the distance of as
# many *training* images from the same test images. No generator that learned from the
# training images can be expected below it. And since the judge can classify, we count
# how often each class is drawn. (The second function below only puts a game for digits
# together, with all that we want to vary as an argument.)

# %% recap=["score"]
def score(images, judged_by, features):
    """Fréchet distance of images (N, 1, 28, 28) to features; shares of classes."""
    distance = metrics.frechet_distance(features, judged_by.features(images))
    counts = torch.bincount(judged_by.classify(images), minlength=10)
    return distance, counts / len(images)


def new_digit_game(cfg, device, seed, noise, betas, rates=(2e-4, 2e-4), **build):
    torch.manual_seed(seed)
    g, d = (net.to(device) for net in players(cfg.noise_size, **build))
    return Game(g, d, noise, cfg.noise_size, rates, betas, seed)


test_features, train_features, floors = {}, {}, {}
for name, real in {"MNIST": digits, "Fashion-MNIST": clothes}.items():
    its_judge, test = judges[name]
    test_features[name] = its_judge.features(test.images)
    draws = torch.randperm(len(real.images), generator=rng).split(cfg.n_scored)
    floors[name] = [score(real.images[rows], its_judge, test_features[name])[0]
                    for rows in draws[: cfg.n_floor]]
    train_features[name] = its_judge.features(real.images[draws[0]])
    record.measure_seeds(f"{name}: real against real, Fréchet distance", floors[name])
    print(f"{name}: floor {statistics.fmean(floors[name]):.3f}")

# %% [markdown]
# ## From naive to working, one change at a time
#
# Here is a GAN as one might write it the first time: ReLU, weights started at a
# standard deviation of 0.01, noise drawn evenly from $[0, 1]$, Adam as it comes. And
# here are five changes that are commonly recommended. Which of them matter?
#
# Trying them on top of each other would not tell: the order would matter. So we change
# the naive network in *one* place at a time, and then the repaired one, with all five
# changes, back in one place at a time. A change that helps on its own but is not missed
# when the others are there did not matter much; one that is missed did.

# %%
NAIVE = dict(std=0.01, act=nn.ReLU, norm=False, noise=torch.rand, betas=(0.9, 0.999))
REPAIRS = {
    "library's start": dict(std=None),
    "LeakyReLU": dict(act=leaky),
    "normalisation": dict(norm=True),
    "Gaussian noise": dict(noise=torch.randn),
    "betas (0.5, 0.999)": dict(betas=(0.5, 0.999)),
}

# %% [markdown]
# Each entry is the mean over the seeds that the card names. We choose by what we see
# here, so the distance is to training images, not to test images. A class counts as
# drawn if at least one image in a hundred shows it.

# %%
REPAIRED = {key: value for change in REPAIRS.values() for key, value in change.items()}
ENTRIES = {"naive": NAIVE, "repaired": NAIVE | REPAIRED}
for name, change in REPAIRS.items():
    back = {key: NAIVE[key] for key in change}
    ENTRIES[f"naive with {name}"] = NAIVE | change
    ENTRIES[f"repaired without {name}"] = NAIVE | REPAIRED | back

x_digits = digits.images[: cfg.n_images].to(device)
distances, classes, samples = {}, {}, {}
for name, options in ENTRIES.items():
    distances[name], classes[name] = [], []
    for seed in range(cfg.n_seeds):
        game = new_digit_game(cfg, device, seed, **options)
        saved = Checkpoint(f"{name}, seed {seed}", record)
        play(game, x_digits, cfg.ladder_epochs, cfg.batch_size, saved)
        images = draw(game.g, game.draw_noise(cfg.n_scored, rng))
        distance, shares = score(images, judges["MNIST"][0], train_features["MNIST"])
        distances[name].append(distance)
        classes[name].append((shares >= 0.01).sum().item())
    samples[name] = game.history["samples"][-1]
    record.measure_seeds(f"MNIST, {name}: Fréchet distance", distances[name])

# %% [markdown]
# The table puts the two experiments side by side; below it are twelve images of the
# naive and of the repaired network.

# %% mystnb={"image": {"alt": "Two rows of twelve pictures: the naive network draws the same blot twelve times, the repaired one twelve different shapes, some of them like digits."}}
def entry(name):
    return f"{statistics.fmean(distances[name]):.1f}", statistics.fmean(classes[name])


rows = [("no change, or all five", *entry("naive"), *entry("repaired"))]
rows += [(name, *entry(f"naive with {name}"), *entry(f"repaired without {name}"))
         for name in REPAIRS]
display(tables.table(("change", "naive with it: distance", "classes",
                      "repaired without it: distance", "classes"), rows))
grids.before_after({name: samples[name][:12] for name in ("naive", "repaired")});

# %% [markdown]
# Read it column by column. The naive network draws a single class, and no single change
# saves it. In the right half, nearly everything can be spared, and LeakyReLU even seems
# to do no good here. Two things cannot be spared: take away the Gaussian noise or the
# betas, and the repaired network collapses again, at least for as long as it was
# trained here. Each of the two looks all but useless as long as the other one is
# missing, so that trying changes one at a time on the naive network would not have
# found them.
#
# Why these two? Noise from $[0, 1]$ has a mean of one half in *every* one of its 128
# numbers. That common part is larger than what distinguishes one draw from another (5.7
# against 3.3, as lengths): the generator sees almost the same input every time, and the
# quickest way to lower its loss is to draw one image that works. With Gaussian noise
# the mean is zero, and two draws have nothing in common; exercise 7 shows that it is
# the mean that matters. The betas say over how many steps Adam averages gradients. With
# 0.9 the generator steps in a direction that is the mean of about ten old ones, judged
# by discriminators that have since moved on; with 0.5 it averages over about two
# (Radford et al., 2016). In a game, old advice is bad advice.
#
# Do not take the table as a law. It says what mattered *here*: for small networks with
# one hidden layer, and for a short game.
#
# Now look at the images: twelve different draws of noise, and from the naive network
# twelve times the same picture. This is **mode collapse**, the most common disease of
# GANs. The rules of the game do not forbid it. If one picture fools the discriminator
# *now*, the best answer of the generator is to draw nothing else. The discriminator
# then learns that this picture is false, and the generator moves on to another one. The
# repaired network does better, and it has hardly begun. We let it play on.

# %% mystnb={"image": {"alt": "Rows of twelve digits from the same fixed noise at several epochs: rough blots at first, then digits that become cleaner from row to row, while more and more of them turn into ones."}}
game = new_digit_game(cfg, device, cfg.seed, **REPAIRED)
play(game, x_digits, cfg.digits_epochs, cfg.batch_size, Checkpoint("digits", record))
over_time = game.history["samples"]
grids.before_after({f"epoch {n}": over_time[n - 1][:12] for n in cfg.strip_epochs});

# %% [markdown]
# Each column follows *one* draw of noise. Blots become strokes, and strokes become
# digits, ever cleaner from row to row. But read the rows as a whole: from about the
# tenth epoch on, one column after the other turns into a *one*. A one is a single
# stroke and easy to draw well, so that the generator gets away with it. The network
# improves each image and loses variety: a slow mode collapse that our repairs have only
# put off. Eyes that look for clean digits will not notice it; a measurement will. On
# the test images, once:

# %%
z = game.draw_noise(cfg.n_scored, torch.Generator().manual_seed(3))
distance, shares = score(draw(game.g, z), judges["MNIST"][0], test_features["MNIST"])
record.measure("MNIST: Fréchet distance", distance)
record.measure("MNIST: smallest share of a class", shares.min().item(), ceiling=0.1)
print(f"distance {distance:.2f}, smallest share of a class {shares.min():.3f}")
record.export("digit_generator", {f"{i}_{name}": weight for i, part in enumerate(game.g)
                                  for name, weight in part.named_parameters()})

# %% [markdown]
# Compare that with the first line of the table above, on the right: after a few epochs
# the same network had been *closer* to real digits than it is now. More training is not
# always better, and only a measurement from outside the game can tell when to stop.
#
# ## Clothes
#
# A single hidden layer of 256 units is not much, and its discriminator had the upper
# hand all along: its loss lay far below $\log 2$. Clothes have outlines *and* surfaces,
# and need more: a generator that widens in four steps, and a discriminator that narrows
# in four and is held back. The images are scaled to $[-1, 1]$, so that grey is 0 and
# the generator can end in a tanh.

# %% recap=["clothes_generator"]
def clothes_generator(noise_size):
    """Noise (B, noise_size) -> images (B, 1, 28, 28) in [-1, 1]."""
    layers = []
    for inputs, outputs in itertools.pairwise((noise_size, 256, 512, 1024)):
        layers += [nn.Linear(inputs, outputs), leaky()]
    image = [nn.Linear(1024, 784), nn.Tanh(), nn.Unflatten(1, (1, 28, 28))]
    return nn.Sequential(*layers, *image)

# %% [markdown]
# **Dropout** in the discriminator switches off 30 % of the units, different ones in
# every step: it slows the discriminator down, keeps it from learning the training
# images by heart, and so evens the odds.

# %% recap=["clothes_discriminator"]
def clothes_discriminator():
    """Images (B, 1, 28, 28) -> logits (B, 1)."""
    layers = [nn.Flatten()]  # (B, 1, 28, 28) -> (B, 784)
    for inputs, outputs in itertools.pairwise((784, 1024, 512, 256)):
        layers += [nn.Linear(inputs, outputs), leaky(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(256, 1))

# %% [markdown]
# Both in numbers:

# %%
def new_clothes_game(cfg, device, seed):
    torch.manual_seed(seed)
    g = clothes_generator(cfg.noise_size).to(device)
    d, rates = clothes_discriminator().to(device), (cfg.rate, cfg.rate)
    return Game(g, d, torch.randn, cfg.noise_size, rates, cfg.betas, seed)


clothes_game = new_clothes_game(cfg, device, cfg.seed)
display(tables.layers(clothes_game.g, clothes_game.draw_noise(2, rng)),
        tables.layers(clothes_game.d, clothes.images[:2].to(device)))

# %% [markdown]
# About as many parameters on both sides. Before training, the discriminator knows
# nothing and should say one half to everything: a loss of $\log 2$. A first number that
# is far from it would point to a mistake.

# %%
x_clothes = 2 * clothes.images[: cfg.n_images].to(device) - 1  # [0, 1] -> [-1, 1]
with torch.inference_mode():
    drawn = clothes_game.g(clothes_game.draw_noise(1000, rng))
    on_real, on_drawn = clothes_game.d(x_clothes[:1000]), clothes_game.d(drawn)
    before = (bce(on_real, 1.0) + bce(on_drawn, 0.0)) / 2
print(f"before training: {before:.4f}, log 2 = {math.log(2):.4f}")

# %% [markdown]
# **Does it really go on exactly?** Before a long training one should know. We play two
# epochs on a few images without a break. Then the same again, but after the first epoch
# everything is written away, thrown away, and loaded into new networks that started
# elsewhere.

# %%
few = x_clothes[:1000]
unbroken = new_clothes_game(cfg, device, seed=7)
for _ in range(2):
    unbroken.epoch(few, cfg.batch_size)

killed, file = new_clothes_game(cfg, device, seed=7), io.BytesIO()
killed.epoch(few, cfg.batch_size)
torch.save(killed.state_dict(), file)
file.seek(0)
resumed = new_clothes_game(cfg, device, seed=8)
resumed.load_state_dict(torch.load(file, weights_only=True))
resumed.epoch(few, cfg.batch_size)

pairs = zip(unbroken.g.parameters(), resumed.g.parameters())
equal = all(torch.equal(ours, theirs) for ours, theirs in pairs)
print("generators equal, bit by bit:", equal)
print("losses equal:", unbroken.history["d_loss"] == resumed.history["d_loss"])

# %% [markdown]
# On a CPU they are equal to the last bit. (On a GPU dropout draws from a generator of
# its own, which we leave alone: the training then goes on just as well, but not on the
# same path.)
#
# Now the real training. After every epoch we also measure the Fréchet distance to
# training images, to have something that the losses can be compared with.

# %%
fashion_judge, fashion_test = judges["Fashion-MNIST"]
watched_z = clothes_game.draw_noise(cfg.n_scored, torch.Generator().manual_seed(2))


def clothes_distance(g):
    """Fréchet distance of what g draws, in [-1, 1], to training images in [0, 1]."""
    features = fashion_judge.features((draw(g, watched_z) + 1) / 2)
    return metrics.frechet_distance(train_features["Fashion-MNIST"], features)

# %%
play(clothes_game, x_clothes, cfg.clothes_epochs, cfg.batch_size,
     Checkpoint("clothes", record), clothes_distance)
history = clothes_game.history
for name in ("d_loss", "g_loss", "watched"):
    record.series(f"Fashion-MNIST, {name}", history[name])
an_epoch = statistics.median(history["seconds"])
record.measure("Fashion-MNIST: an epoch", an_epoch, unit="s")
print(f"{len(history['seconds'])} epochs in {sum(history['seconds']):.0f} s of play")

# %% [markdown]
# **A slow generator at the end.** The derivation assumed a discriminator that is at its
# best for the current generator. With equal rates it never is: the generator has moved
# on before the discriminator has understood it. So for some more epochs we let the
# generator take steps of a tenth, while the discriminator keeps its pace. (Two rates
# for two players are an idea of Heusel et al., 2017, the same paper that made the
# Fréchet distance popular. From the *start*, a generator that is much too slow does not
# work, as we will see when we break things: it knows nothing yet and needs large
# steps.)

# %%
floor = statistics.fmean(floors["Fashion-MNIST"])
slow_epochs = max(1, cfg.clothes_epochs // 5)
clothes_game.g_opt.param_groups[0]["lr"] = cfg.rate / 10
play(clothes_game, x_clothes, cfg.clothes_epochs + slow_epochs, cfg.batch_size,
     Checkpoint("clothes, slow generator", record), clothes_distance)
history = clothes_game.history
record.series("Fashion-MNIST, slow generator", history["watched"][cfg.clothes_epochs:])
print([round(distance, 1) for distance in history["watched"]])

# %% [markdown]
# Here are the curves of both parts; the dashed upright marks where the generator was
# slowed down.

# %% mystnb={"image": {"alt": "Left: over the epochs the loss of G falls from above and that of D rises from below towards the dashed line at 0.693; at the dashed upright both move apart again. Right, on a logarithmic scale: the Fréchet distance falls fast and then ever more slowly, drops by half at the upright, and stays far above the dashed floor."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2))
style = dict(x=range(1, len(history["seconds"]) + 1), xlabel="epoch")
plots.curves(axes[0], {"D": history["d_loss"], "G": history["g_loss"]}, ylabel="loss",
             reference={"log 2": math.log(2)}, **style)
plots.curves(axes[1], {"drawn": history["watched"]}, ylabel="Fréchet distance",
             reference={"real": floor}, yscale="log", **style)
for ax in axes:
    ax.axvline(cfg.clothes_epochs + 0.5, color=figures.QUIET, linestyle="--")

# %% [markdown]
# On the left the two losses creep towards $\log 2$ from both sides, and from their
# distance alone one would say that the game is nearly over. On the right the images are
# still far from the floor. Then the generator is slowed down, and the two pictures
# part: the losses move *away* from $\log 2$, because the discriminator catches up, and
# the distance is nearly halved within one epoch. (After that it does not improve any
# more, and even grows a little: also a strong teacher can be listened to for too long.)
# A loss near $\log 2$ had said more about the discriminator than about the images.
#
# And the training as a film: 64 fixed draws of noise, about twenty frames in all. If
# you prefer it still, the next figure shows some of its frames.

# %% mystnb={"image": {"alt": "Animation: a grid of 64 pictures from fixed noise over the epochs: grey clouds turn into coarse outlines of clothes and then into shirts, trousers, shoes and bags with some detail."}}
def frames(samples):
    step = math.ceil(len(samples) / 20)  # about 20 frames, to keep the file small
    for epoch in range(step, len(samples) + 1, step):
        ax = grids.image_grid(samples[epoch - 1], columns=16, value_range=(-1, 1))
        ax.set_title(f"epoch {epoch}")
        yield ax.figure


film.animation(frames(history["samples"]), fps=4)

# %% [markdown]
# Shirts and shoes are there after some epochs. What comes later is detail: sleeves come
# off the body, trousers get two legs. With the slow generator, at the end, the grain
# becomes finer and few garments change their kind any more.

# %% mystnb={"image": {"alt": "Rows of twelve garments from the same fixed noise at the first, the second, the fifth and later epochs: from blurred shapes to recognisable clothes with edges and shading."}}
shown = [n for n in (1, 2, 5, 10, 20, 30, 100) if n <= cfg.clothes_epochs]
shown.append(len(history["seconds"]))
grids.before_after({f"epoch {n}": history["samples"][n - 1][:12] for n in shown},
                   value_range=(-1, 1));

# %% [markdown]
# And this is the promise of the beginning of the chapter: the final generator, and
# noise that it has never seen. Nothing is selected.

# %% tags=["result-picture"] mystnb={"image": {"alt": "A grid of 64 drawn garments: shirts, pullovers, dresses, coats, trousers, shoes, boots and bags in grey; most are easy to name, some have ragged edges."}}
z = clothes_game.draw_noise(cfg.n_scored, torch.Generator().manual_seed(3))
drawn = ((draw(clothes_game.g, z) + 1) / 2).cpu()  # [-1, 1] -> [0, 1]
distance, shares = score(drawn, fashion_judge, test_features["Fashion-MNIST"])
record.measure("Fashion-MNIST: Fréchet distance", distance, floor=floor)
record.measure("Fashion-MNIST: smallest share of a class", shares.min().item(),
               floor=0.0, ceiling=0.1)
print(f"distance {distance:.2f}, smallest share of a class {shares.min():.3f}")
grids.image_grid(drawn[:64], columns=16);

# %% [markdown]
# Most are easy to name. Look at the edges, which are often ragged, and at the surfaces,
# which are grainy: every pixel is computed on its own, from 1,024 units that know
# nothing of neighbours. Chapter 4 will change that.
#
# ## How good is it?
#
# "Most are easy to name" is an impression. Five measurements, each of which sees
# something that the others do not:
#
# * the **Fréchet distance** of 10,000 drawn images from the 10,000 test images, in the
#   judge's 64 numbers;
# * the **shares of the classes**, as the judge sees them: has a class been forgotten?
# * **coverage** (Naeem et al., 2020): around every real image, draw a ball that reaches
#   to its fifth-nearest real neighbour. Coverage is the share of the balls with at
#   least one drawn image inside;
# * **diversity**: how far two images of the same class are from each other on average;
# * and how far the **nearest training image** is, in pixels: does the generator copy?
#
# First the classes.

# %% mystnb={"image": {"alt": "Ten pairs of bars, one for each class of clothes: the share of the test images, always one tenth, and the share of the drawn images, which lies above it for some classes and below it for others but never at zero."}}
fig, ax = plt.subplots(figsize=(7, 3.4))
labels = [fashion_test.labels, fashion_judge.classify(drawn)]
ax.hist(labels, bins=torch.arange(11) - 0.5, density=True,
        label=["test images", "drawn images"])
ax.set_xticks(range(10), fashion_test.classes, rotation=35)
ax.set_ylabel("share of the images")
fig.legend(loc="outside upper left", ncols=2);

# %% [markdown]
# All ten are there, though not in equal parts. The judge sees more shirts than there
# should be. Perhaps it sorts what is too grainy for a clean pullover or T-shirt among
# the shirts, the vaguest of the ten classes; the histogram alone cannot say. And a
# share tells nothing about quality; ten pictures, one for each class and each drawn a
# thousand times, would give a perfect histogram.
#
# That is a useful thought. *What would a cheat look like in each of the measurements?*
# We build four false generators and one honest rival, and measure them like the GAN:
# one that returns training images; one that knows one image of each class; one that
# returns blurred training images; one that draws each pixel independently; and the
# convolutional decoder of chapter 2, trained on the clothes for a short time and fed
# with codes from a normal distribution fitted to its own codes.

# %%
def diversity(features, classes):
    """Mean distance between images that are neighbours in the list of their class."""
    own = [features[classes == label] for label in classes.unique()]
    return torch.cat([some - some.roll(1, dims=0) for some in own]).norm(dim=1).mean()


def nearest(some, training):
    """Distances (n,) and rows (n,) of the training images nearest in pixels."""
    return torch.cdist(some.flatten(1), training.flatten(1)).min(dim=1)


def decoder_samples(x, n, epochs, batch_size):
    """Images decoded from random codes by the autoencoder of chapter 2."""
    model = nn.Sequential(ConvEncoder(10), ConvDecoder(10)).to(x.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for rows in torch.randperm(epochs * len(x)).split(batch_size):
        some = x[rows % len(x)]
        loss = F.mse_loss(model(some), some)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    encoder, decoder = model.eval()
    with torch.inference_mode():
        codes = encoder(x[:10_000])  # (10000, 10)
        known = torch.distributions.MultivariateNormal(codes.mean(0), codes.T.cov())
        return torch.cat([decoder(z) for z in known.sample((n,)).split(1000)]).cpu()

# %% [markdown]
# All candidates are compared with the same test images. The last row is the test images
# themselves: their distance is zero for want of others, but it shows how diverse real
# images are, and how near to a training image a real image is that is *not* a copy.

# %%
n, x = len(drawn), clothes.images[: cfg.n_images].to(device)
copies = x[torch.randperm(len(x), generator=rng)[:n].to(device)].cpu()
ten = torch.stack([clothes.images[clothes.labels == k][0] for k in range(10)])
candidates = {
    "GAN": drawn,
    "decoder of chapter 2": decoder_samples(x, n, cfg.decoder_epochs, cfg.batch_size),
    "copies": copies,
    "one image a class": ten.repeat(n // 10, 1, 1, 1),
    "blurred copies": gaussian_blur(copies, 5, 1.0),
    "noisy pixels": torch.rand(n, 1, 28, 28, generator=rng),
    "test images": fashion_test.images,
}
rows, real_features = [], test_features["Fashion-MNIST"]
for name, images in candidates.items():
    features, classes = fashion_judge.features(images), fashion_judge.classify(images)
    distance, shares = score(images, fashion_judge, real_features)
    covered = metrics.coverage(real_features, features)
    gap = nearest(images[:500].to(device), x)[0].median().item()
    rows.append((name, f"{distance:.2f}", f"{100 * shares.min():.1f} %",
                 f"{covered:.2f}", diversity(features, classes).item(), gap))
tables.table(("images", "Fréchet distance", "smallest class", "coverage", "diversity",
              "to nearest training image"), rows)

# %% [markdown]
# Every measurement has a cheat that it falls for, and one that it catches:
#
# * the *copies* get the floor of the Fréchet distance and nearly full coverage. Only
#   the distance to the nearest training image gives them away: it is zero;
# * *one image a class* looks fine, image by image. The Fréchet distance, the coverage
#   and the diversity find it out. (The judge even takes one of the ten for another
#   class, which is why a share is zero);
# * *blurred copies* are still of the right kind, and the Fréchet distance is mild about
#   them: the judge pays attention to shapes more than to sharpness. A judge sees what
#   it was trained to see;
# * *noisy pixels* fail everywhere. But the judge has to choose a class even for them,
#   because it knows no "none of these": shares alone mean little;
# * the *decoder of chapter 2* comes closer in Fréchet distance than one might expect.
#   The other columns are less kind: its images vary more than real ones do, and lie
#   further from every training image than real ones, as images do that are no garments
#   at all.
#
# A score is worth as much as you know about what it cannot see. Use several, and look
# at images.
#
# **Is it copying?** Nearest neighbours answer best as pictures:

# %% mystnb={"image": {"alt": "Two rows of twelve garments: drawn ones above, and under each the training image nearest to it in pixels. Each pair is of the same kind, but outlines, sleeves and surfaces differ."}}
found = nearest(drawn[:12].to(device), x)[1]
grids.before_after({"drawn": drawn[:12], "nearest in training": x[found].cpu()});

# %% [markdown]
# The kind is the same, the garment is another one. And in the table, drawn images are
# no closer to training images than real test images are. So it does not copy, at least
# not as a copying machine would; a distance in pixels cannot see a copy that was moved
# by two pixels to the side.
#
# ## Break it on purpose
#
# A game can be lost in several ways. We take the repaired network for the digits and
# break it three times: we give it its noise from $[0, 1]$ again; we make the generator
# a hundred times slower than the discriminator; and we do the opposite. Look at the
# losses first, and guess what the images are like.

# %% mystnb={"image": {"alt": "Four pairs of panels. Above, the losses over the epochs; below, the share of each digit. Balanced: D far below the dashed line at 0.693, G far above it, and all ten digits. Even noise: much the same losses, but one digit only. D too strong: the same, and one digit only. D too weak: both losses close to the dashed line, and yet one digit only."}}
BROKEN = {"balanced": {}, "even noise": dict(noise=torch.rand),
          "D too strong": dict(rates=(2e-5, 2e-3)),  # the rates of G and of D
          "D too weak": dict(rates=(2e-3, 2e-5))}
broken, results = {}, []
for name, change in BROKEN.items():
    broken[name] = new_digit_game(cfg, device, cfg.seed, **REPAIRED | change)
    play(broken[name], x_digits, cfg.broken_epochs, cfg.batch_size,
         Checkpoint(f"broken {name}", record))

fig, axes = plt.subplots(2, len(broken), figsize=(7, 4), sharey="row")
for (above, below), (name, game) in zip(axes.T, broken.items()):
    losses = {"D": game.history["d_loss"], "G": game.history["g_loss"]}
    plots.curves(above, losses, x=range(1, cfg.broken_epochs + 1), xlabel="epoch",
                 ylabel="loss", reference={"log 2": math.log(2)}, legend=True)
    images = draw(game.g, game.draw_noise(cfg.n_scored, rng))
    distance, shares = score(images, judges["MNIST"][0], test_features["MNIST"])
    below.bar(range(10), 100 * shares)
    above.set_title(name)
    below.set(xlabel="digit", ylabel="share in %", xticks=range(0, 10, 3))
    ends = (values[-1] for values in losses.values())
    results.append((name, *ends, distance, f"{100 * shares.max():.0f} %"))
plt.setp(axes[:, 1:], ylabel="")
tables.table(("game", "last loss of D", "of G", "distance", "largest share"), results)

# %% [markdown]
# * *Even noise* is the **mode collapse** of the ladder. In the curves it looks much
#   like the balanced game; the histogram shows it at once. (In all three broken games
#   the digit is an eight because that is what the judge takes a white blot for.)
# * *D too strong*: its loss is practically zero and that of the generator large. The
#   generator is told that everything is wrong, and moves too slowly to find out what
#   would be right.
# * *D too weak* has the best-looking curves of all: both losses close to $\log 2$, just
#   what the theory promised for the perfect generator. And the images are as bad as in
#   the other two. A slow discriminator is easily confused, and a confused discriminator
#   says one half to everything.
#
# This is what losses cannot tell: **whether the game is settled because the generator
# is good, or because the discriminator is bad.** Here are the images.

# %% mystnb={"image": {"alt": "Four rows of twelve pictures: digits for the balanced game; for each of the three broken games nearly the same blot twelve times."}}
grids.before_after({name: game.history["samples"][-1][:12]
                    for name, game in broken.items()});

# %% [markdown]
# ## Touch it
#
# What happens if the noise is made shorter or longer than the generator has ever seen?
# The same eight draws at four lengths:

# %% mystnb={"image": {"alt": "Four rows of eight pictures. Length 0: eight times the same garment. Length 0.5: smooth, similar garments. Length 1: the variety of the chapter. Length 2: overdrawn garments with hard edges."}}
def wardrobe(game, draw_number, lengths):
    """Rows of eight garments from the same noise, multiplied by each length."""
    z = game.draw_noise(8, torch.Generator().manual_seed(draw_number))
    rows = {f"length {k:g}": draw(game.g, k * z).cpu() for k in lengths}
    return grids.before_after(rows, value_range=(-1, 1)).figure


wardrobe(clothes_game, 5, (0, 0.5, 1, 2));

# %% [markdown]
# At length 0 there is no noise left, and so there is one image. In between, variety is
# traded for smoothness: garments from short noise are safer and more alike. Beyond what
# the generator was trained on, they are overdrawn. With a live kernel the sliders show
# other draws and other lengths. (On a page that does not compute, you see the picture
# as it was at the start.)

# %%
sliders = dict(
    draw_number=widgets.IntSlider(0, min=0, max=100, description="draw"),
    length=widgets.FloatSlider(1.0, min=0.0, max=3.0, step=0.1, description="length"),
)
picture = widgets.Image(width=700)


def redraw(change=None):
    number, length = (slider.value for slider in sliders.values())
    picture.value = film.still(wardrobe(clothes_game, number, (length,)))


for slider in sliders.values():
    slider.observe(redraw, "value")
redraw()
widgets.VBox([*sliders.values(), picture])

# %% [markdown]
# ## Summary
#
# * A generator turns noise into images; a discriminator tells it, through the gradient,
#   what to change. For the best discriminator the generator minimises the
#   Jensen-Shannon divergence between its images and the data.
# * At the solution $D = 1/2$: each cross-entropy is $\log 2$. But losses at $\log 2$ do
#   not prove a solution.
# * Use the non-saturating loss, `detach()` in the discriminator's step, Gaussian noise,
#   and Adam with a small first beta.
# * Judge from outside: a Fréchet distance with its floor and sample size, the histogram
#   of classes, coverage, diversity, nearest neighbours. Each has its blind spot.
# * What this network cannot do: its pixels do not know their neighbours, so that edges
#   are ragged; nobody can tell it *which* garment to draw; and it can collapse, without
#   a warning in its losses.
#
# Chapter 4 takes on the ragged edges, chapter 5 the missing orders.
#
# ## Exercises
#
# Try each before you open the solution. All run in seconds.
#
# **1. Nothing in common.** In the world of four images, let the real ones be only the
# first two and the drawn ones only the last two. What are $D^*$, the Jensen-Shannon
# divergence and $V$? What does that mean for a generator that minimises it directly?

# %% tags=["solution"]
p = torch.tensor([0.5, 0.5, 0.0, 0.0])
for overlap in (0.0, 0.1, 0.5, 1.0):
    q = overlap * p + (1 - overlap) * p.flip(0)
    m = (p + q) / 2
    jsd = sum(torch.special.xlogy(r, r / m).nansum() for r in (p, q)) / 2
    print(f"overlap {overlap:.1f}: JSD {jsd:.3f}, V {2 * jsd - math.log(4):.3f}")
# With nothing in common D* is 1 on real and 0 on drawn images, the divergence is at its
# maximum, log 2, and V = 0. It stays there as long as nothing overlaps, however close
# the drawn images come: a flat landscape, without a direction for the generator. It is
# the discriminator's imperfection, its smoothness between the images, that helps.

# %% [markdown]
# **2. A less certain officer.** In *one-sided label smoothing* (Salimans et al., 2016)
# the target for real images is 0.9 in place of 1. Derive the best $D$, and check it
# with the table of four numbers.

# %% tags=["solution"]
p = torch.tensor([0.50, 0.25, 0.20, 0.05])
q = torch.tensor([0.25, 0.25, 0.25, 0.25])
table = torch.zeros(4, requires_grad=True)
for _ in range(2000):
    value = (p * (0.9 * F.logsigmoid(table) + 0.1 * F.logsigmoid(-table))).sum()
    value = value + (q * F.logsigmoid(-table)).sum()
    table.data += 2 * torch.autograd.grad(value, table)[0]
for name, values in {"trained": table.sigmoid(), "derived": 0.9 * p / (p + q)}.items():
    print(f"{name}: {[round(value, 4) for value in values.tolist()]}")
# The derivative with respect to D(x) is 0.9 p/D - (0.1 p + q)/(1 - D), zero at
# D = 0.9 p / (p + q): never above 0.9, so that the gradient for G never dies entirely.
# Smoothing the zero as well would add 0.1 q above and reward old mistakes of G.

# %% [markdown]
# **3. The loss as written.** Play the balanced game with the saturating loss for as
# many epochs. What does it cost? (A new `step` is all that is needed.)

# %% tags=["solution"]
class SaturatingGame(Game):
    def step(self, real):
        z = self.draw_noise(len(real), self.rng)
        d_loss = discriminator_step(self.g, self.d, self.d_opt, real, z)
        z = self.draw_noise(len(real), self.rng)
        g_loss = F.logsigmoid(-self.d(self.g(z))).mean()
        self.g_opt.zero_grad()
        g_loss.backward()
        self.g_opt.step()
        return torch.stack((d_loss, g_loss.detach()))


torch.manual_seed(cfg.seed)
g, d = (net.to(device) for net in players(cfg.noise_size, leaky, norm=True))
as_written = SaturatingGame(g, d, torch.randn, cfg.noise_size, (2e-4, 2e-4), cfg.betas)
for _ in range(cfg.broken_epochs):
    as_written.epoch(x_digits, cfg.batch_size)
for name, game in {"as written": as_written, "usual": broken["balanced"]}.items():
    images = draw(game.g, game.draw_noise(cfg.n_scored, rng))
    distance, _ = score(images, judges["MNIST"][0], train_features["MNIST"])
    print(f"{name}: distance {distance:.1f}")
# At the start the discriminator is sure of everything, and the loss as written gives
# the generator next to no gradient. It loses the first epochs, if it ever gets going.

# %% [markdown]
# **4. How many images?** Measure the Fréchet distance of 100, 300, 1,000, 3,000 and
# 10,000 real training images from the test images. Which part of a published distance
# could be nothing but a small sample?

# %% tags=["solution"]
features = fashion_judge.features(clothes.images[: cfg.n_scored])
for n in (100, 300, 1_000, 3_000, 10_000):
    if n <= len(features):
        distance = metrics.frechet_distance(real_features, features[:n])
        print(f"{n:>6} real images: {distance:.3f}")
# Mean and covariance of few images are noisy, and every deviation adds to the distance:
# it can only be too large, the more the fewer images there are. Distances from
# different numbers of images must not be compared.

# %% [markdown]
# **5. Eight islands.** Let the real data be points in the plane, in eight small heaps
# on a circle. Write a GAN for them with the two steps of this chapter. How many heaps
# does it find?

# %% tags=["solution"] mystnb={"image": {"alt": "Four scatter plots over the course of the game: the drawn points form a ring through the eight places on a circle, with clusters at most of them and points in between."}}
def islands(n, generator):
    angle = torch.randint(8, (n,), generator=generator) * math.pi / 4
    middle = torch.stack((angle.cos(), angle.sin()), dim=1)  # (n, 2)
    return middle + 0.05 * torch.randn(n, 2, generator=generator)


def small_net(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 64), leaky(), nn.Linear(64, 64), leaky(),
                         nn.Linear(64, n_out))


torch.manual_seed(cfg.seed)
order = torch.Generator().manual_seed(cfg.seed)
g, d = small_net(8, 2), small_net(2, 1)
g_opt, d_opt = (torch.optim.Adam(net.parameters(), lr=1e-3, betas=cfg.betas)
                for net in (g, d))
fig, axes = plt.subplots(1, 4, figsize=(7, 2))
for ax in axes:
    for _ in range(cfg.pattern_steps // 8):
        z = torch.randn(128, 8, generator=order)
        discriminator_step(g, d, d_opt, islands(128, order), z)
        generator_step(g, d, g_opt, z)
    ax.scatter(*g(torch.randn(500, 8, generator=order)).detach().T, s=3)
    ax.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal")
# It finds most heaps, more or less, and never stops drawing bridges between them: a
# continuous function of noise without gaps cannot have gaps.

# %% [markdown]
# **6. The forgotten detach, let through.** Write the loop of the pattern so that both
# optimisers are cleared together at the beginning of a round, as one may well do, with
# and without `detach()`. By which factor does the missing `detach()` change the
# gradient for the generator, if $D = 1/2$? Where does it change its sign?

# %% tags=["solution"]
def careless_game(detach, steps, seed):
    torch.manual_seed(seed)
    order = torch.Generator().manual_seed(seed)
    d = small_discriminator()
    g = nn.Sequential(nn.Linear(1, 8), leaky(), nn.Linear(8, 4), nn.Sigmoid())
    d_opt, g_opt = (torch.optim.SGD(net.parameters(), lr=0.1) for net in (d, g))
    for _ in range(steps):
        d_opt.zero_grad(), g_opt.zero_grad()
        z = uniform(64, order)
        drawn = g(z).detach() if detach else g(z)
        d_loss = (bce(d(real_sample(64, order)), 1.0) + bce(d(drawn), 0.0)) / 2
        d_loss.backward()
        d_opt.step()
        bce(d(g(z)), 1.0).backward()  # on top of what is left in the generator
        g_opt.step()
    gap = g(uniform(1000, order)).mean(dim=0) - torch.tensor([0.9, 0.1, 0.9, 0.1])
    return gap.abs().max().item()


for detach in (True, False):
    gaps = [careless_game(detach, 100, seed) for seed in range(5)]
    print(f"detach {detach}: after 100 steps off by {statistics.fmean(gaps):.2f}")
# With respect to the logit, G's own loss has the gradient -(1 - D); what is left over
# from the discriminator's loss adds D / 2. At D = 1/2 the sum is -1/4 in place of -1/2:
# half of the push is lost. Above D = 2/3 it even points the other way, away from what
# has just fooled the discriminator. Nothing crashes, and this simple game is still
# solved in the end. It only learns more slowly, which is why nobody notices.

# %% [markdown]
# **7. Only the mean?** Is it the mean of the even noise that does the harm, or its
# shape? Play the repaired game with noise drawn evenly from $[-\sqrt3, \sqrt3]$, which
# has mean 0 and standard deviation 1 like Gaussian noise, and compare it with the games
# above.

# %% tags=["solution"]
def centred(*size, generator):
    return math.sqrt(12) * (torch.rand(*size, generator=generator) - 0.5)


again = new_digit_game(cfg, device, cfg.seed, **REPAIRED | dict(noise=centred))
for _ in range(cfg.broken_epochs):
    again.epoch(x_digits, cfg.batch_size)
three = {"even noise": broken["even noise"], "even noise, centred": again,
         "Gaussian noise": broken["balanced"]}
for name, game in three.items():
    images = draw(game.g, game.draw_noise(cfg.n_scored, rng))
    shares = score(images, judges["MNIST"][0], train_features["MNIST"])[1]
    print(f"{name}: largest share of a class {100 * shares.max():.0f} %")
# The centred noise does as well as the Gaussian one. It is the mean that does the harm.

# %% [markdown]
# ## References
#
# * D. Dowson, B. Landau. *The Fréchet distance between multivariate normal
#   distributions.* Journal of Multivariate Analysis 12, 1982.
#   <https://doi.org/10.1016/0047-259X(82)90077-X>
# * I. Goodfellow et al. *Generative adversarial nets.* NeurIPS 2014.
#   <https://doi.org/10.48550/arXiv.1406.2661>
# * M. Heusel et al. *GANs trained by a two time-scale update rule converge to a local
#   Nash equilibrium.* NeurIPS 2017. <https://doi.org/10.48550/arXiv.1706.08500>
# * D. Kingma, J. Ba. *Adam: a method for stochastic optimization.* ICLR 2015.
#   <https://doi.org/10.48550/arXiv.1412.6980>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to
#   document recognition.* Proceedings of the IEEE 86, 1998.
#   <https://doi.org/10.1109/5.726791>
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

# %%
record.card()
