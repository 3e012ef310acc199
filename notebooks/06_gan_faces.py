# %% [markdown]
# # 6. Faces: a convolutional GAN for colour photographs
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/06_gan_faces.ipynb)
#
# From grey digits to colour photographs of people who do not exist. You will train the network, and then look
# hard at its faces: are they new, are they varied, what is wrong with them, and whom do they leave out? You will
# also count what a network costs *before* you train it.
#
# ![A grid of small generated colour portraits, most of them convincing at a glance, some distorted](attachment:result.jpg)
#
# *None of these people exists, and none of the pictures was selected.*
#
# **Time to run:** 46 minutes on two CPU cores with AVX-512 (`laptop` profile; without it, where the networks compute in 32 bits, about twice as long),
# and half a minute to try that everything works (`smoke`); `full`, for a GPU, uses more pictures and a larger network.
# **You need:** chapters 3 and 4; chapter 5 for the section on conditions.

# %% [markdown]
# ## Photographs
#
# The game is that of chapter 3 and its players are convolutional as in chapter 4. A photograph adds *colour*, three
# numbers a pixel, and it is *larger*: one of 64 x 64 has sixteen times the numbers of a digit. And with a face
# everybody is an expert: an eye that sits two pixels too low is noticed at once.
#
# **CelebA** (Liu et al., 2015) is a collection of 202,599 photographs of 10,177 celebrities, cut and turned so that
# the eyes are at the same place in all of them. Ten thousand are enough for us.

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
from IPython.display import display
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.parametrizations import spectral_norm
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from genlab_helpers import cartoons, figures, metrics, networks, plots, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.faces import faces
from genlab_helpers.recap import ConditionalGAN, ConvGAN, Labelled, arc, bce, generate
from genlab_helpers.recap import paired, restore, state_of, train_gan, with_label
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    folder: str = ""  # of pictures of your own; empty: CelebA in the data folder
    limit: int = 10_000  # pictures read at most
    n_held_out: int = 1_000  # of them that no network is trained on
    n_scored: int = 4_500  # pictures on either side of a Fréchet distance
    side: int = 64  # pixels a side
    noise_size: int = 100  # random numbers behind a face
    channels: int = 32  # of both networks where the picture is largest
    batch_size: int = 8  # real images a step, and as many fakes
    rate: float = 5e-4  # Adam's learning rate
    epochs: int = 32  # of the final network
    ladder_epochs: int = 2  # of each network of the ladder
    n_seeds: int = 3  # of them
    n_cartoons: int = 4_000  # cartoon faces, whose attributes are known
    cartoon_channels: int = 24  # of the network for them
    cartoon_epochs: int = 20
    n_pairs: int = 1_000  # faces searched for duplicates
    book_width: int = 256  # channels of the network from a book
    book_epochs: int = 0  # that it is trained: none on a laptop
    book_batch: int = 1  # its real images a step
    n_timed: int = 10  # steps behind each time


cfg = Config.for_profile(
    smoke=dict(limit=100, n_held_out=40, n_scored=40, channels=2, batch_size=10,
               epochs=2, ladder_epochs=1, n_seeds=2, n_cartoons=60, cartoon_channels=2,
               cartoon_epochs=1, n_pairs=20, book_width=8, book_epochs=1, book_batch=10,
               n_timed=1),
    full=dict(limit=60_000, channels=64, batch_size=16, epochs=10, ladder_epochs=1,
              book_epochs=1),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("06_gan_faces", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %%
people = faces(cfg.folder or None, side=89 * cfg.side // 64, limit=cfg.limit)
print(f"{people.name}: {len(people.images):,} pictures, {len(people.broken)} broken")

# %% [markdown]
# They were read as squares, which still hold much background. A common remedy is to cut out the middle. That is
# nothing but indexing, with two things to get right: which axis is which, and a picture smaller than the cut.

# %%
def crop_centre(image, side):
    """Cut the middle out of an image (C, H, W): (C, side, side)."""
    height, width = image.shape[-2:]
    if min(height, width) < side:
        raise ValueError(f"an image of {width} x {height} pixels has no square of"
                         f" {side}: use a smaller side, or enlarge the image first")
    top, left = (height - side) // 2, (width - side) // 2
    return image[..., top : top + side, left : left + side]

# %% [markdown]
# A **`Dataset`** says how many images there are and what one of them is; a **`DataLoader`** mixes them and makes
# batches. Ours cuts the middle out, scales bytes to $[-1, 1]$ and mirrors every second picture: a face and its mirror
# image are about equally likely, so this doubles the data.

# %%
class Portraits(Dataset):
    """Pictures (N, 3, H, W) of bytes -> images (3, side, side) in [-1, 1]."""

    def __init__(self, pictures, side):
        self.pictures, self.side = pictures, side

    def __len__(self):
        return len(self.pictures)

    def __getitem__(self, i):
        x = crop_centre(self.pictures[i], self.side) / 127.5 - 1
        return x.flip(-1) if torch.rand(()) < 0.5 else x

# %%
n_held_out = min(cfg.n_held_out, len(people.images) // 10)
training = Portraits(people.images[n_held_out:], cfg.side)
if len(training) < cfg.batch_size:
    raise ValueError(f"{len(training)} pictures do not fill one batch: give more of"
                     f" them, or a smaller batch_size than {cfg.batch_size}")

# %% tags=["hide-input"] mystnb={"image": {"alt": "Sixteen small photographs of celebrities' faces in two rows, cut so that the face fills most of the square."}}
record.use(people)
real = crop_centre(people.images, cfg.side)  # (N, 3, side, side), bytes
held_out, known = real[:n_held_out], real[n_held_out:]
fig = figures.image_grid(known[:16], columns=8).figure
figures.photograph(figures.caption_source(fig, people))

# %% [markdown]
# **Whose faces are these?** Famous people, as they were photographed for the press before 2015: made up, lit, and
# often smiling. CelebA may be used for research that is not commercial, and must not be passed on; this page
# shows a few pictures to explain a method. Nobody in them was asked. We generate faces of nobody in particular, check
# that they are no copies, and come back below to what a network does with people who are rare in its data. Without
# CelebA the chapter runs on **cartoon faces**, made by a small seeded program, whose attributes are known.
#
# ## Two players
#
# Both are built from one rule: 4 x 4 kernels with stride 2, the smallest kernel that is a multiple of its stride and
# overlaps, and half as many channels wherever the side doubles, so that each level costs about the same.

# %% recap=["LEAKY", "group", "face_widths", "face_generator"]
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

# %% [markdown]
# The discriminator goes the same way back:

# %% recap=["face_discriminator"]
def face_discriminator(channels, side=64, norm=nn.Identity, act=LEAKY):
    """Images (B, 3, side, side) in [-1, 1] -> logits (B, 1)."""
    widths = face_widths(side, channels)[::-1]
    layers = [nn.Conv2d(3, channels, 4, 2, 1), act()]  # (B, channels, side / 2, ...)
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 4, 2, 1), norm(outputs), act()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())

# %% tags=["hide-input"]
g, d = face_generator(cfg.noise_size, cfg.channels), face_discriminator(cfg.channels)
z = torch.randn(2, cfg.noise_size, generator=rng)
display(tables.layers(g, z), tables.layers(d, g(z).detach()))

# %% [markdown]
# ## One step
#
# The step is that of chapter 3, with the falling rates of chapter 4. New is `autocast`: on a processor or GPU that is fast
# at it, the networks compute in **bfloat16**, numbers of half the length, while weights keep their 32 bits.

# %%
class FaceGAN(ConvGAN):
    """The game of chapter 4, in 16 bits where the device is fast at it."""

    def step(self, real):
        """Let both players learn once from real images (B, 3, H, W): losses (2,)."""
        self.set_rates()
        z = self.draw_noise(len(real), self.rng)
        with runtime.autocast(real.device):
            fake = self.g(z).detach()
            d_loss = (bce(self.d(real), 1.0) + bce(self.d(fake), 0.0)) / 2
        self.d_opt.zero_grad()
        d_loss.backward()
        self.d_opt.step()

        z = self.draw_noise(len(real), self.rng)
        with runtime.autocast(real.device):
            g_loss = bce(self.d(self.g(z)), 1.0)
        self.g_opt.zero_grad()
        g_loss.backward()
        self.g_opt.step()
        self.average.update_parameters(self.g)
        return self.keep(torch.stack((d_loss, g_loss)).detach().float())

# %% [markdown]
# ```{admonition} A trap that many programs have
# :class: warning
# It is tempting to put the whole step into one `autocast` block. But `autocast` keeps the 16-bit copies of the weights that it
# has made until its block ends. After a plain $D$ has learned, the generator would still be judged by the *old* $D$. (Under spectral
# normalisation, which comes next, weights are computed anew each time and only the biases would be old; do not rely on that.) So:
# around the forward pass and the loss, and around nothing else.
# ```
#
# Here is the trap in five lines. The layer's weights change in the block, and its answer does not:

# %%
layer, x = nn.Linear(4, 1), torch.ones(1, 4)
with torch.autocast("cpu", torch.bfloat16):
    before = layer(x)
    with torch.no_grad():
        layer.weight += 1.0  # as an optimiser does; four more in the answer
    print(f"in the block: {(layer(x) - before).item():+.2f}", end="; ")
with torch.autocast("cpu", torch.bfloat16):
    print(f"in a new block: {(layer(x) - before).item():+.2f}")

# %%
def train(game, loader, epochs, checkpoint):
    """Train on a loader's batches until `epochs` are done, or from a checkpoint on."""
    if saved := checkpoint.load():
        restore(game, saved)
    for epoch in range(len(game.history["d_loss"]) + 1, epochs + 1):
        losses = []
        for real in loader:
            real = real.to(device, memory_format=torch.channels_last)
            losses.append(game.step(real))
        d_loss, g_loss = torch.stack(losses).mean(dim=0).tolist()
        game.history["d_loss"].append(d_loss)
        game.history["g_loss"].append(g_loss)
        game.history["samples"].append(generate(game.average, game.fixed[:8]))
        checkpoint.save(epoch=epoch, **state_of(game))
    return game

# %%
def held(d):
    """Put spectral normalisation around the convolutions of a discriminator."""
    for layer in d:
        if isinstance(layer, nn.Conv2d):
            spectral_norm(layer)
    return d


def new_game(seed, n_steps, act=LEAKY, hold=held):
    """Both players before their first step."""
    torch.manual_seed(seed)
    g = face_generator(cfg.noise_size, cfg.channels, cfg.side, act=act).to(device)
    d = hold(face_discriminator(cfg.channels, cfg.side, act=act)).to(device)
    return FaceGAN(g, d, cfg.noise_size, rate=cfg.rate, seed=seed, n_steps=n_steps)

# %% [markdown]
# $D$ is held by **spectral normalisation** (chapter 4): each weight matrix is divided by its largest singular value, so that $D$ cannot become arbitrarily steep (Miyato et
# al., 2018). The mini-batches are small, for a reason that we shall measure.

# %%
def play(name, seed, epochs, batch_size=None, **change):
    """Train players from a seed; name: of the checkpoint."""
    size = batch_size or cfg.batch_size
    loader = DataLoader(training, size, shuffle=True, drop_last=True)
    game = new_game(seed, epochs * len(loader), **change)
    return train(game, loader, epochs, Checkpoint(name, record))


final = play("final", cfg.seed, cfg.epochs)

# %% tags=["hide-input", "result-picture"] mystnb={"image": {"alt": "Sixty-four generated colour portraits in eight rows: women and men, dark and fair hair, smiles, many backgrounds. Most are convincing at a glance; in some an eye is dark or smeared, or colours run."}}
noise = torch.randn(cfg.n_scored, cfg.noise_size, generator=rng).to(device)
net = final.average.module
pictures = (generate(net, noise) + 1) / 2  # (N, 3, side, side) in [0, 1]
figures.photograph(figures.image_grid(pictures[:64], columns=8).figure)

# %% [markdown]
# Sixty-four faces from the first sixty-four draws of noise; none was selected.
# Looked at one by one, about a second each, with the question whether eyes, nose and mouth are where they belong, 56 of the 64 pass; not (row.column) 1.6, 1.8, 2.7, 4.2, 5.7, 7.2, 8.1 and 8.4.
# Hair, light, pose and background differ from face to face.
#
# ## What happened?

# %% tags=["hide-input"] mystnb={"image": {"alt": "Eight generated faces, from the same noise throughout the training: from coloured blotches to faces that keep changing."}}
def frame(number):
    ax = figures.image_grid(final.history["samples"][number], columns=4,
                            value_range=(-1, 1))
    ax.set_xlabel(f"after epoch {number + 1}")
    return ax.figure


stops = np.linspace(0, cfg.epochs - 1, min(20, cfg.epochs)).round().astype(int)
figures.animation((frame(number) for number in stops), fps=4, width=460)

# %% [markdown]
# The same eight draws of noise as time goes by (the film runs once; load the page again to see it again). After one epoch there are brown blurs with eyes; after three, faces. Later, single features change, and a face can still turn
# into another one, until the rate falls near the end and every draw settles.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Loss of both players over the epochs, with a dashed line at log 2. D stays a little below it, near 0.63; G falls from 1.12 to 0.85 in five epochs and slowly on to 0.78."}}
fig, ax = plt.subplots(figsize=(7, 3.2))
losses = {"D": final.history["d_loss"], "G": final.history["g_loss"]}
plots.curves(ax, losses, x=range(1, cfg.epochs + 1), xlabel="epoch", ylabel="loss",
             reference={"log 2": math.log(2)})
for name, values in losses.items():
    record.measure(f"final network: first loss of {name}", values[0])
    record.measure(f"final network: last loss of {name}", values[-1])
record.measure("final network: images used", cfg.epochs * len(training))

# %% [markdown]
# If $D$ could only guess, both losses would be $\log 2 = 0.693$ (chapter 3). Here $D$ stays a little better than that: its loss rises from
# {{final network: first loss of D | .2f}} in the first epoch to 0.64 and ends at {{final network: last loss of D | .2f}}. That of $G$ falls from {{final network: first loss of G | .2f}} to
# {{final network: last loss of G | .2f}}. After the fifth epoch neither moves much, while the faces still improve: the curves show that nobody has won. How good the faces are must be measured.
#
# ## How good are they?
#
# The Fréchet distance of chapter 3 needs features, and the judges of the earlier chapters know digits and clothes only. So we
# take two networks that were trained on a million photographs of a thousand kinds of things, and never saw our training:
# **SqueezeNet** (Iandola et al., 2016), the means of its 512 last feature maps, and **VGG19** (Simonyan and Zisserman,
# 2015), the means of the 256 maps of its layer relu3_4, which react to finer patterns. Each has its own scale. Both are
# given as multiples of the **floor**, the distance between real faces and as many other real faces.

# %% tags=["hide-input"]
feature_network = networks.feature_network(device)
vgg = networks.vgg19("relu3_4", device)
for used in (feature_network, vgg):
    record.use(used)
MEAN, STD = (torch.tensor(values).view(1, 3, 1, 1)
             for values in (networks.MEAN, networks.STD))

# %% tags=["hide-input"]
@torch.inference_mode()
def vgg_means(x):
    """Means of VGG19's feature maps for images (N, 3, H, W) in [0, 1]: (N, 256)."""
    parts = (((part - MEAN) / STD).to(device) for part in x.split(100))
    return torch.cat([vgg.layers(part).mean(dim=(2, 3)).cpu() for part in parts])

# %%
n = min(cfg.n_scored, len(real) // 2)
features_of = {"SqueezeNet": feature_network.features, "VGG19": vgg_means}
reference = {name: look(real[-n:] / 255) for name, look in features_of.items()}
others = {name: look(real[:n] / 255) for name, look in features_of.items()}

# %%
def distance(images, look="SqueezeNet"):
    """Fréchet distance of images (N, 3, H, W) in [0, 1] to real faces."""
    return metrics.frechet_distance(reference[look], features_of[look](images))


floors = {name: metrics.frechet_distance(reference[name], others[name])
          for name in features_of}

# %% tags=["hide-input"]
def images_by(generator, z):
    """Images in [0, 1] of a generator, in the order of the noise."""
    return (generate(generator, z) + 1) / 2


untrained = new_game(cfg.seed, 1).g
scored = {"untrained": images_by(untrained, noise),
          "weights of the last step": images_by(final.g, noise),
          "averaged weights": pictures, "real faces (floor)": None}
rows = []
for name, images in scored.items():
    row = [name]
    for look, floor in floors.items():
        found = floor if images is None else distance(images, look)
        record.measure(f"{name}: Fréchet distance / floor, {look}", found / floor)
        row += [f"{found:,.4g}", f"{found / floor:,.1f}"]
    rows.append(row)
record.measure("our network: Fréchet distance / floor",
               distance(pictures) / floors["SqueezeNet"], floor=1.0)
tables.table(("faces", "SqueezeNet", "/ floor", "VGG19", "/ floor"), rows)

# %% [markdown]
# On SqueezeNet's scale the faces lie at {{our network: Fréchet distance / floor | .1f}} times the floor, the untrained network at
# {{untrained: Fréchet distance / floor, SqueezeNet | .0f}} times. On VGG19's scale it is {{averaged weights: Fréchet distance / floor, VGG19 | .0f}} times the floor. The two multiples do not compare with each other: a floor depends on the features
# and on the number of faces (exercise 4). Which number is *the* number? Neither; who is judged in one space only may be far away in another, so give both. In this one training the average of the weights is a little ahead of those of the last step, which
# had a falling rate as well. (These real faces were trained on, and we chose the recipe by SqueezeNet's distance on short trials with this network; take it as a little too good.)
#
# **The failures.** We order a thousand faces by how far their features lie from those of the nearest training face, and
# look at the far end.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Sixteen generated faces that lie far from every real one: many with sunglasses or hats, some in red, blue and yellow light, some with an eye missing or a face that melts into its background."}}
own = feature_network.features(pictures)
known_features = torch.cat([feature_network.features(part / 255)
                            for part in known.split(1000)])
nearest_gap, nearest = torch.cdist(own[: cfg.n_pairs], known_features).min(dim=1)
worst = nearest_gap.argsort(descending=True)[:16]
figures.photograph(figures.image_grid(pictures[worst], columns=8).figure)

# %% [markdown]
# Sunglasses and hats lead. They are rare in the data, and this order puts the unusual first, well made or not; most of these are half right. Others have colours that no light makes, an eye that is missing or a face that melts into its background. Why does a network that
# draws a convincing cheek fail at eyes that match? Perhaps since in the generator distant places share little: a pixel in a corner is computed from one of the first 4 x 4 cells, one nearer to the middle from nine
# (exercise 7), and far corners have only the noise in common. We have not tested it.
#
# **Copies?** A generator that had learned a few photographs by heart would make very good faces. Which distance to the
# nearest training face is suspicious? That of a *held-out* face to its nearest training face is a fair comparison: it
# cannot be a copy. (Though the same person may appear in both.) Here are the faces that come closest:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of eight: above generated faces, below the nearest photograph of each, similar in pose, hair and background."}}
of_held_out = torch.cdist(feature_network.features(held_out / 255), known_features)
record.measure("distance to the nearest training face, generated / held out (medians)",
               (nearest_gap.median() / of_held_out.min(dim=1).values.median()).item())
closest = nearest_gap.argsort()[:8]
pair = {"generated": pictures[closest], "nearest real": known[nearest[closest]] / 255}
figures.photograph(figures.before_after(pair).figure)

# %% [markdown]
# They share pose, light and hair with the photograph, and are other people. The medians agree: a generated face lies {{distance to the nearest training face, generated / held out (medians) | .2f}} times as far from its
# nearest training face as a new photograph does. A copy would show as a pair that is equal, unless it is a copy of a mirrored photograph, which this search does not hold, or not among the thousand.
#
# **Always the same?** Mode collapse would show as pairs that are nearly equal. A pair counts as a *duplicate* if it is
# closer than any two of as many real faces, in its features *and* in its pixels, averaged over 8 x 8 (features say little of
# colour and place).

# %% tags=["hide-input"]
def gaps_of_pairs(x):
    """Distances of all pairs of the first rows, each pair once."""
    return F.pdist(x[: cfg.n_pairs].flatten(1))


features, coarse = gaps_of_pairs(own), gaps_of_pairs(F.avg_pool2d(pictures, 8))
limits = [gaps_of_pairs(x).min() for x in (
    others["SqueezeNet"], F.avg_pool2d(real[:n] / 255, 8))]
near, alike = features < limits[0], coarse < limits[1]
record.measure("close pairs among generated faces", int(near.sum()))
record.measure("duplicate pairs among generated faces", int((near & alike).sum()))
print(f"{near.sum()} close pairs of {len(near):,}, {(near & alike).sum()} duplicates")

# %% [markdown]
# There is no duplicate among a thousand faces.
#
# ## Whom does it leave out?
#
# A network generates often what it saw often. Does it narrow the distribution? Some things can be computed from any picture,
# without deciding who anybody is: how bright the middle of the face is (skin and light together), from which side the light
# comes (left less right), how warm the colours are (red less blue), and how bright the background is. For each, a *rare* face is one that
# lies in the lowest or highest twentieth of the training faces. A generator that kept the distribution would have a tenth of rare faces.
# The control is held-out faces.

# %% tags=["hide-input"]
def traits(x):
    """What can be computed from images (N, 3, S, S) in [0, 1]: name -> (N,)."""
    s = x.shape[-1]
    light = x.mean(dim=1)
    middle = slice(s // 4, 3 * s // 4)
    centre, colours = light[:, middle, middle], x[:, :, middle, middle].mean(dim=(2, 3))
    left, right = centre.chunk(2, dim=2)
    edge = torch.cat([light[:, : s // 8], light[:, :, : s // 8].mT], dim=2)
    return {"brightness of the face": centre.mean(dim=(1, 2)),
            "light from one side": left.mean(dim=(1, 2)) - right.mean(dim=(1, 2)),
            "warmth": colours[:, 0] - colours[:, 2],
            "brightness of the background": edge.mean(dim=(1, 2))}


def rare(values, limits):
    """Share of values outside of limits, and half of its 95 % interval."""
    share = ((values < limits[0]) | (values > limits[1])).float().mean().item()
    return share, 1.96 * math.sqrt(share * (1 - share) / len(values))


groups = {"training": known[:10_000] / 255, "held out": held_out / 255,
          "generated": pictures}
found, rows = {name: traits(images) for name, images in groups.items()}, []
for trait, values in found["training"].items():
    limits, row = torch.quantile(values, torch.tensor([0.05, 0.95])), [trait]
    for group_name in ("held out", "generated"):
        share, half = rare(found[group_name][trait], limits)
        record.measure(f"rare by {trait}, {group_name}", share, floor=0.1)
        row.append(f"{share:.1%} ± {half:.1%}")
    ratio = (found["generated"][trait].std() / values.std()).item()
    record.measure(f"spread of {trait}, generated / training", ratio)
    rows.append((*row, ratio))
tables.table(("trait", "rare, held out", "rare, generated", "spread, generated / real"),
             rows)

# %% [markdown]
# Three of four say a little: faces lit from one side and bright or dark backgrounds are made less often than they occur ({{rare by light from one side, generated | .1%}} and
# {{rare by brightness of the background, generated | .1%}} where the training faces have a tenth), and their spread is smaller, {{spread of light from one side, generated / training | .2f}} and
# {{spread of brightness of the background, generated / training | .2f}} of the real one. The intervals are those of the draw of faces from this one network; the held-out faces, which are fewer, have wider ones, and against them the difference is less certain. (Two more
# limits: the network saw every second face mirrored, the training faces here are not; and the background is the upper and the left edge.) For the brightness of the face no difference is seen. Very warm and very cold colours are made *more* often ({{rare by warmth, generated | .1%}}), perhaps by the coloured
# patches among the failures. So this network hardly narrows what we measured. That says nothing about what we did not measure, such as age or glasses, nor about *how well* a rare face is made; the failures above are a hint.
#
# ## What helped?
#
# Each row changes one thing in our network, is trained on the same number of images from the same three seeds, and is scored with averaged weights. The
# last row is no training of its own: it is the first network with the weights of its last step. **GELU** (Hendrycks and Gimpel, 2016) is a smooth relative of ReLU, which a book on the subject
# recommends for faces. The differences are paired by seed, with their 95 % t-intervals.

# %%
CHANGES = {"our network": {}, "mini-batches of 32": dict(batch_size=32),
           "GELU for LeakyReLU": dict(act=nn.GELU),
           "nothing holds D": dict(hold=nn.Sequential)}
ladder = {name: [play(f"{name}, seed {seed}", seed, cfg.ladder_epochs, **change)
                 for seed in range(cfg.n_seeds)]
          for name, change in CHANGES.items()}

# %% tags=["hide-input"]
floor, base, rows = floors["SqueezeNet"], None, []
results = {name: [distance(images_by(game.average, noise)) / floor for game in games]
           for name, games in ladder.items()}
results["last weights"] = [distance(images_by(game.g, noise)) / floor
                           for game in ladder["our network"]]
for name, values in results.items():
    record.measure_seeds(f"ladder, {name}: Fréchet distance / floor", values,
                         floor=1.0)
    base = base or values
    gap, half = paired(values, base)
    if name != "our network":
        record.measure(f"ladder, {name}: difference", gap)
        record.measure(f"ladder, {name}: half of the interval", half)
    rows.append((name, f"{np.mean(values):.1f}",
                 "" if name == "our network" else f"{gap:+.1f} ± {half:.1f}"))
tables.table(("network", "Fréchet distance / floor", "difference"), rows)

# %% [markdown]
# **Small mini-batches** matter much here: with 32 images a step, and a quarter of the steps, the faces are {{ladder, mini-batches of 32: difference | .0f}} ± {{ladder, mini-batches of 32: half of the interval | .0f}} floors farther away after the same images. Whether the size of the batch, the number of steps or the rate, which stayed, makes the difference, this does not tell. (The images
# are equal here, not the seconds.) **GELU** costs {{ladder, GELU for LeakyReLU: difference | .0f}} ± {{ladder, GELU for LeakyReLU: half of the interval | .0f}} at this rate and after this time; what it does in a longer training, or with a
# rate of its own, is not tested. Whether **spectral normalisation** holds $D$ makes no difference that we can see so early, nor does averaging. Two epochs are a sixteenth of our training, so this ranks beginnings, not ends.
#
# ## Count before you train
#
# Why this network, and not a larger one? A network that circulates with a book on GANs (Rashid, 2020) draws 128 x 128 pixels, with kernels of 8 x 8 and 256
# channels. Before you train such a network, count:
#
# * **Parameters**: numbers to be learned. Training stores each four times: weight, gradient, and the two running averages of Adam.
# * **Multiply-adds**: what is paid in time. A weight of a convolution is used at every place.
# * **Activations**: outputs of layers that are kept until the backward pass has used them. Each further image in the batch adds as many.

# %%
def book_generator(noise_size, width=256, act=LEAKY):
    """Noise (B, noise_size) -> images (B, 3, 128, 128) in [-1, 1]."""
    return nn.Sequential(
        nn.Linear(noise_size, 3 * 11 * 11), act(), nn.Unflatten(1, (3, 11, 11)),
        nn.ConvTranspose2d(3, width, 8, 2), nn.BatchNorm2d(width), act(),
        nn.ConvTranspose2d(width, width, 8, 2), nn.BatchNorm2d(width), act(),
        nn.ConvTranspose2d(width, 3, 8, 2, padding=1), nn.BatchNorm2d(3), nn.Tanh())


def book_discriminator(width=256, act=LEAKY):
    """Images (B, 3, 128, 128) in [-1, 1] -> logits (B, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, width, 8, 2), nn.BatchNorm2d(width), act(),
        nn.Conv2d(width, width, 8, 2), nn.BatchNorm2d(width), act(),
        nn.Conv2d(width, 3, 8, 2), act(), nn.Flatten(), nn.Linear(3 * 10 * 10, 1))

# %% [markdown]
# The sides follow from two formulas. Chapter 4 derived that of a transposed convolution: $n$ stamps of size $k$, each $s$ further than the one before, less the
# padding $p$ at either end: $n' = (n - 1)\,s + k - 2p$. A convolution asks the opposite: how many windows of size $k$ fit into a row of $n + 2p$, if each
# begins $s$ further? The last may begin at $n + 2p - k$ at most, so $n' = \lfloor (n + 2p - k) / s \rfloor + 1$. Put on the device `meta`, PyTorch works out shapes without computing a number:

# %%
def side_after(layer, side):
    """Width and height after a layer of a network, by the two formulas."""
    k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    if isinstance(layer, nn.ConvTranspose2d):
        return (side - 1) * s + k - 2 * p
    return (side + 2 * p - k) // s + 1


with torch.device("meta"):  # shapes without numbers
    x = torch.empty(2, 100)
    for layer in itertools.chain(book_generator(100), book_discriminator()):
        before, x = x.shape[-1], layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            print(f"{before} -> {side_after(layer, before)}", end="; ")
            assert x.shape[-1] == side_after(layer, before)

# %% [markdown]
# Inside `saved_tensors_hooks` PyTorch hands every tensor that it keeps for the backward pass to a function of ours. Some are kept several times (one
# layer's output is the next one's input), so each piece of memory is counted once, and weights are left out.

# %%
def kept_bytes(run, weights):
    """Bytes that autograd keeps for the backward pass of run(), weights not counted."""
    kept = set()

    def keep(tensor):
        kept.add(tensor.untyped_storage())  # once, however often it is kept
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    own = {weight.untyped_storage() for weight in weights}
    return sum(storage.nbytes() for storage in kept - own)


def cost(make_players, noise_size=100):
    """Parameters, and for an image the multiply-adds and the bytes that are kept."""
    with torch.device("meta"):
        g, d = make_players()
        z = torch.empty(2, noise_size)
    weights = [*g.parameters(), *d.parameters()]
    with FlopCounterMode(display=False) as counter:
        d(g(z))
    kept = kept_bytes(lambda: bce(d(g(z)), 1.0), weights)
    n = sum(weight.numel() for weight in weights)
    return n, counter.get_total_flops() / 2 / len(z), kept / len(z)

# %% [markdown]
# The book compares its network with a fully connected pair of its own, for pictures of 218 x 178, and reports that the convolutional one needs five times
# less memory with one image at a time (as `torch.cuda.max_memory_allocated` says it). We count that very pair:

# %%
def book_players():
    return book_generator(100), book_discriminator()


def dense_players(pixels=3 * 218 * 178):
    g = nn.Sequential(nn.Linear(100, 300), nn.LeakyReLU(0.02), nn.LayerNorm(300),
                      nn.Linear(300, pixels), nn.Sigmoid())
    return g, nn.Sequential(nn.Linear(pixels, 100), nn.LeakyReLU(0.02),
                            nn.LayerNorm(100), nn.Linear(100, 1))


def our_players(side=64):
    return face_generator(100, 32, side), face_discriminator(32, side)

# %% tags=["hide-input"]
players = {"fully connected, 218 x 178": dense_players,
           "of the book, 128 x 128": book_players, "ours, 64 x 64": our_players,
           "ours, 128 x 128": partial(our_players, 128)}
costs = {name: cost(make_players) for name, make_players in players.items()}
rows = []
for name, (parameters, adds, kept) in costs.items():
    memory = [16 * parameters + batch * kept for batch in (1, 64)]
    record.measure(f"{name}: memory to train with one image", memory[0] / 1e6,
                   unit="MB")
    rows.append((name, f"{parameters / 1e6:.1f} M", f"{adds / 1e6:,.0f} M",
                 f"{kept / 1e6:.1f} MB", *(f"{m / 1e6:,.0f} MB" for m in memory)))
dense, book, ours, larger = costs.values()
record.measure("memory to train with one image, fully connected / of the book",
               (16 * dense[0] + dense[2]) / (16 * book[0] + book[2]))
record.measure("multiply-adds an image, of the book / ours", book[1] / ours[1])
record.measure("multiply-adds an image, 128 / 64 pixels", larger[1] / ours[1])
tables.table(("network", "parameters", "multiply-adds an image", "kept an image",
              "to train with 1", "with 64"), rows)

# %% [markdown]
# Read it column by column. With one image at a time the fully connected pair needs
# {{memory to train with one image, fully connected / of the book | .1f}} times the memory of the convolutional one, not far from the five that the book measured (a GPU's allocator
# counts more than we do). Nearly all of it is parameters, and part of them is due to its larger pictures: for 128 x 128 it would have 19.7 million and need 1.9 times the convolutional pair's memory. In exchange each image costs the convolutional pair far more
# multiply-adds and memory of its own, so with 64 images it needs *more*. A convolution saves what has to be *learned*, not what has to be *computed* and *kept*.
#
# Ours needs {{multiply-adds an image, of the book / ours | .0f}} times fewer multiply-adds an image than the book's. The size of the picture is a factor of {{multiply-adds an image, 128 / 64 pixels | .1f}} of that (the last row is ours at the book's size).
# The factor that remains comes from small kernels, and from channels where they are cheap.
#
# **One image at a time, and `BatchNorm2d(3)` at the end.** The book trains with single images, and its generator ends in a batch normalisation of the three
# colours. Normalisation over one image gives each colour the mean $\beta$ and the deviation $\gamma$ of that layer, whatever the noise was:

# %%
torch.manual_seed(cfg.seed)
book = book_generator(cfg.noise_size, cfg.book_width)[:-1].train()  # without Tanh
with torch.inference_mode():
    for _ in range(3):
        image = book(torch.randn(1, cfg.noise_size, generator=rng))
        print("means", [f"{v:+.3f}" for v in image.mean(dim=(0, 2, 3)).tolist()],
              "deviations", [f"{v:.3f}" for v in image.std(dim=(0, 2, 3)).tolist()])

# %% [markdown]
# All images of this generator have the same average colour and the same contrast (before Tanh), as long as it is trained so. Normalise over a
# batch of several images, or leave the last layer alone as ours does. (`group` would not help here: it, too, normalises every image by itself.)
#
# With `book_epochs`, as in the `full` profile, the book's network is trained as well, with LeakyReLU and with GELU, on pictures enlarged to 128 pixels. On this page
# it is not, so we say nothing about its faces.

# %% tags=["hide-input"]
if cfg.book_epochs:
    large = faces(cfg.folder or None, side=178, limit=min(cfg.limit, 10_000))
    large = DataLoader(Portraits(large.images, 128), cfg.book_batch, shuffle=True)
    for name, act in {"LeakyReLU": LEAKY, "GELU": nn.GELU}.items():
        torch.manual_seed(cfg.seed)
        g = book_generator(cfg.noise_size, cfg.book_width, act).to(device)
        d = book_discriminator(cfg.book_width, act).to(device)
        game = FaceGAN(g, d, cfg.noise_size, rate=1e-4, seed=cfg.seed,
                       n_steps=cfg.book_epochs * len(large))
        train(game, large, cfg.book_epochs, Checkpoint(f"book, {name}", record))
        small = F.avg_pool2d(images_by(game.average, noise), 2)
        print(f"{name}: {distance(small) / floors['SqueezeNet']:.1f} floors")

# %% [markdown]
# ## Say which face
#
# Chapter 5 gave both players a label, one 1 among ten numbers. Faces have several properties at once, so their **condition** has several ones, a
# *multi-hot* row. To know the truth we use cartoon faces, which a program draws with known attributes: five kinds of hair, three mouths, glasses or none.

# %%
KINDS = {"hair": 5, "mouth": 3, "glasses": 2}  # how many values each attribute has
HAIR = ("bald", "short", "long", "curly", "bun")


def multi_hot(attributes):
    """Attributes, name -> (N,) whole numbers -> rows (N, 10) with three ones each."""
    return torch.cat([F.one_hot(attributes[name].long(), kinds)
                      for name, kinds in KINDS.items()], dim=1).float()

# %%
toys = cartoons.draw_faces(cfg.n_cartoons, side=cfg.side)
fresh = cartoons.draw_faces(max(64, cfg.n_cartoons // 4), side=cfg.side, seed=1)
toy_data = Labelled((toys.images / 127.5 - 1).to(device),
                    multi_hot(toys.attributes).to(device))
asked = multi_hot(fresh.attributes)

# %% [markdown]
# The discriminator is told the condition in the two ways of chapter 5: a learned number for every channel after the first layer, and a learned row that is multiplied
# with the last features, here averaged over the places.

# %%
class ConditionDiscriminator(nn.Module):
    """Images (B, 3, side, side) and conditions (B, 10) -> logits (B, 1)."""

    def __init__(self, channels, side):
        super().__init__()
        net = held(face_discriminator(channels, side))
        self.first, self.body, self.last = net[0], net[1:-2], net[-2:]
        self.bias = nn.Linear(10, channels, bias=False)
        self.row = nn.Linear(10, face_widths(side, channels)[0], bias=False)

    def forward(self, x, conditions):
        h = self.first(x) + self.bias(conditions)[:, :, None, None]
        h = self.body(h)  # (B, 8 * channels, 4, 4)
        fits = (self.row(conditions) * h.mean(dim=(2, 3))).sum(dim=1, keepdim=True)
        return self.last(h) + fits

# %%
torch.manual_seed(cfg.seed)
g = face_generator(cfg.noise_size + 10, cfg.cartoon_channels, cfg.side).to(device)
d = ConditionDiscriminator(cfg.cartoon_channels, cfg.side).to(device)
n_steps = cfg.cartoon_epochs * math.ceil(len(toy_data) / cfg.batch_size)
toy_game = ConditionalGAN(g, d, cfg.noise_size, n_steps=n_steps, rate=cfg.rate)
toy_game.fixed = with_label(toy_game.fixed, asked[: len(toy_game.fixed)])
train_gan(toy_game, toy_data, cfg.cartoon_epochs, cfg.batch_size,
          Checkpoint("cartoons", record))

# %% [markdown]
# Does it make what was asked for? A small classifier, trained on the program's cartoons, reads the attributes off. Its accuracy on
# new ones is the ceiling.

# %% tags=["hide-input"] mystnb={"image": {"alt": "A table of accuracies, and three rows of ten generated cartoon faces, all from one noise: in columns five kinds of hair without glasses, then the same five with glasses; in rows a closed mouth, a smile, an open mouth."}}
def parts_of(rows):
    """Rows (N, 10) -> one tensor an attribute."""
    return rows.split([*KINDS.values()], dim=1)


torch.manual_seed(cfg.seed)
body = face_discriminator(16, cfg.side)[:-2]
last = nn.Linear(16 * face_widths(cfg.side, 16)[0], 10)
reader = nn.Sequential(*body, nn.Flatten(), last).to(device)
optimizer = torch.optim.Adam(reader.parameters(), lr=1e-3)
for _ in range(6):  # epochs
    for rows in torch.randperm(len(toy_data), generator=rng).split(50):
        x, truth = toy_data[rows.to(device)]
        loss = sum(map(F.cross_entropy, parts_of(reader(x)), parts_of(truth)))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

z = torch.randn(len(asked), cfg.noise_size, generator=rng)
made = generate(toy_game.average, with_label(z, asked).to(device))
readings = [parts_of(generate(reader, x.to(device)))
            for x in (fresh.images / 127.5 - 1, made)]
rows = []
for name, truth, real_scores, scores in zip(KINDS, parts_of(asked), *readings):
    truth = truth.argmax(dim=1)
    best, right = ((read.argmax(dim=1) == truth).float().mean().item()
                   for read in (real_scores, scores))
    chance = truth.bincount().max().item() / len(truth)
    record.measure(f"cartoons, {name}: as asked for", right, floor=chance, ceiling=best)
    rows.append((name, chance, right, best))
display(tables.table(("attribute", "always the same", "generated",
                      "program's (ceiling)"), rows))
wishes = [dict(hair=hair, mouth=mouth, glasses=glasses)
          for mouth in (0, 1, 2) for glasses in (0, 1) for hair in range(5)]
wishes = {name: torch.tensor([wish[name] for wish in wishes]) for name in KINDS}
z = torch.randn(1, cfg.noise_size, generator=torch.Generator().manual_seed(3))
z = with_label(z.expand(30, -1), multi_hot(wishes)).to(device)
figures.photograph(figures.image_grid(
    images_by(toy_game.average, z), columns=10,
    titles=[*HAIR, *HAIR, *[""] * 20]).figure)

# %% [markdown]
# By the reading of our small classifier the hair is what was asked for in {{cartoons, hair: as asked for | .0%}} of the images, the mouth in {{cartoons, mouth: as asked for | .0%}}, the glasses in {{cartoons, glasses: as asked for | .0%}}. Another judge reads far less
# (exercise 9), and nobody has counted by eye which of the two is right. In the thirty pictures above, of one noise, the hair is what it should be, the glasses come and go, and the mouth changes from row to row, while the colours of skin, hair and background stay.
#
# ## Walks
#
# As in chapter 4 we walk along the arc from one noise to the next, through eight faces and back to the first. The frames are kept, so that the page can show
# the walk without Python.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Thirty-two faces in four rows of eight; from each to the next the face changes a little, in hair, age, background and direction of view."}}
ends = torch.randn(8, cfg.noise_size, generator=torch.Generator().manual_seed(8))
t = torch.linspace(0, 1, 5)[:-1]
walk = torch.cat([arc(z0, z1, t) for z0, z1 in zip(ends, ends.roll(-1, dims=0))])
frames = images_by(net, walk.to(device))  # (32, 3, side, side)
record.export("walk", {"frames": frames})
figures.photograph(figures.image_grid(frames, columns=8).figure)

# %% [markdown]
# Every fourth picture is one of eight draws; in between the generator has to invent people, and it does. Hair grows, the light changes sides, a smile opens.
#
# ## Summary
#
# * The game for faces is that of chapter 3. `autocast` goes around the forward pass and the loss, and nothing else.
# * Small mini-batches and many steps gave {{our network: Fréchet distance / floor | .1f}} times the floor in SqueezeNet's features, and {{averaged weights: Fréchet distance / floor, VGG19 | .0f}} times in VGG19's. A distance needs both of its ends, and a second opinion.
# * Look for copies, duplicates and the worst images, and at what is made less often than it occurs. A small distance settles none of them.
# * Count before you train: parameters are what is learned, multiply-adds what is paid in time, activations what a batch costs in memory.
# * A condition may have several ones. In the example shown, the same noise with another condition is the same cartoon with other hair.
# * What it cannot do: 64 x 64 is small, two eyes do not always match, and what is rare in the pictures may come out worse (we saw hints, and did not measure it).
#
# ## Exercises
#
# **1. Another plan.** *(easy)* With kernels of 8 and stride 2 at each of three enlargements, which coarse side leads to 64 pixels, if only the last may be padded? On paper first.

# %% tags=["solution"]
for start, padding in itertools.product(range(1, 12), range(4)):
    side = start
    for p in (0, 0, padding):
        side = (side - 1) * 2 + 8 - 2 * p
    if side == 64:
        print(f"from {start}, with padding {padding} at the end")

# %% [markdown]
# **2. How large a batch?** *(easy)* A GPU has 8 GB. How many images a step fit, by our count, for the network of the book, and for ours with 128 pixels?

# %% tags=["solution"]
for name in ("of the book, 128 x 128", "ours, 128 x 128"):
    parameters, _, kept = costs[name]
    print(f"{name}: {int((8e9 - 16 * parameters) / kept):,} images")
# It is an upper limit: libraries need workspace, and the loss, the images and the
# gradients of activations need memory as well.

# %% [markdown]
# **3. The step.** *(medium)* Write `my_losses(g, d, real, z)`, both losses before anybody has learned, in full precision. It passes if it agrees with `FaceGAN` where nobody learns, up to
# the roundings of 16 bits.

# %% tags=["solution"]
def my_losses(g, d, real, z):
    fake = g(z)
    d_loss = F.softplus(-d(real)).mean() + F.softplus(d(fake)).mean()
    return d_loss / 2, F.softplus(-d(fake)).mean()


game = new_game(cfg.seed, 1)
batch = torch.stack([training[i] for i in range(cfg.batch_size)]).to(device)
game.rate = 0.0  # nobody learns
state = game.rng.get_state()
theirs = game.step(batch)
game.rng.set_state(state)
mine = my_losses(game.g, game.d, batch, game.draw_noise(len(batch), game.rng))
assert abs(mine[0] - theirs[0]) < 0.02
print("losses", [f"{loss.item():.3f}" for loss in mine])

# %% [markdown]
# **4. The floor.** *(medium)* Compute the Fréchet distance of two sets of $n$ *real* faces for several $n$. What does that say about distances from different papers?

# %% tags=["solution"]
for n_few in (100, 300, 1000, n):
    pair = [looks[:n_few] for looks in (reference["SqueezeNet"], others["SqueezeNet"])]
    print(f"{len(pair[0]):5,} faces: {metrics.frechet_distance(*pair):,.0f}")
# The same distribution on both sides, and yet the distance is far from zero and falls
# with n: 512 means and 131,328 covariances are estimated from n faces. Compare only
# distances for equal n, in the same features.

# %% [markdown]
# **5. Two halves of a batch.** *(medium)* Compare the gradient of one discriminator for a batch with the mean of the gradients of its halves: with `group`, and with batch
# normalisation. And if one half has 8 images and the other 24?

# %% tags=["solution"]
def gradient(d, x):
    slopes = torch.autograd.grad(bce(d(x), 1.0), list(d.parameters()))
    return torch.cat([slope.flatten() for slope in slopes])


x = torch.stack([training[i] for i in range(32)]).to(device)
for norm in (group, nn.BatchNorm2d):
    torch.manual_seed(cfg.seed)
    d = face_discriminator(8, cfg.side, norm).to(device)
    whole = gradient(d, x)
    for sizes in ((16, 16), (8, 24)):
        parts = torch.stack([gradient(d, part) for part in x.split(sizes)])
        gap = (parts.mean(dim=0) - whole).norm() / whole.norm()
        print(f"{norm.__name__}, {sizes}: relative difference {gap:.1e}")
# With groups equal halves agree up to rounding. Half a batch has another mean and
# deviation, so with batch normalisation it is another function. And the plain mean,
# which DistributedDataParallel takes, is right only if all get equally many images.

# %% [markdown]
# **6. Half of the variety.** *(medium)* Suppose that a generator made only 500 of the real faces, perfectly. Would the Fréchet distance notice? Would the search for duplicates?

# %% tags=["solution"]
some = others["SqueezeNet"]
again = some[:500].repeat(-(-len(some) // 500), 1)[: len(some)]
for name, those in {"500 faces": again, "all": some}.items():
    print(f"{name}: {metrics.frechet_distance(reference['SqueezeNet'], those):,.0f}")
same = gaps_of_pairs(again[torch.randperm(len(again), generator=rng)])
print(f"closer than any two real faces: {(same < limits[0]).sum()} of {len(same):,}")
# The distance grows, but one needs the floor to notice. The search finds the copies at
# once. One number is never enough.

# %% [markdown]
# **7. How local is it?** *(medium)* On how many of the sixteen first cells does a pixel in the corner depend, and on how many one nearer to the middle? (Leave the normalisation over the
# batch out.)

# %% tags=["solution"]
plain = face_generator(cfg.noise_size, 4, cfg.side, norm=nn.Identity)
cells = torch.randn(1, plain[1].out_channels, 4, 4, requires_grad=True)
drawn = plain[2:](cells)
for place in (0, 2, 3 * cfg.side // 8):
    pixel = drawn[0, :, place, place].sum()
    (slope,) = torch.autograd.grad(pixel, cells, retain_graph=True)
    print(f"pixel ({place}, {place}): {(slope.abs().sum(dim=1) > 0).sum()} of 16 cells")
# A corner knows next to nothing of the rest of the picture. What makes the two halves
# of a face fit is the noise, which all cells have in common.

# %% [markdown]
# **8. Truncation.** *(easy)* Multiply all noise by a factor below 1. What does it buy here, and what does it cost? Look at the distance, at the mean gap of two faces, and at the faces.

# %% tags=["solution"] mystnb={"image": {"alt": "Three rows of eight faces from the same noise, multiplied by 1, 0.7 and 0.4."}}
truncated = {}
for factor in (1.0, 0.7, 0.4):
    images = images_by(net, factor * noise)
    spread = gaps_of_pairs(feature_network.features(images[: cfg.n_pairs])).mean()
    print(f"times {factor}: {distance(images) / floors['SqueezeNet']:.1f} floors;"
          f" mean gap {spread:.1f}")
    truncated[f"times {factor}"] = images[:8]
figures.photograph(figures.before_after(truncated).figure)

# %% [markdown]
# **9. Another judge.** *(medium)* Read the attributes of the cartoons with a logistic regression on SqueezeNet's features in place of the small classifier. On the program's cartoons it is nearly as good. What does
# it say about generated ones? Which of the two would you believe?

# %% tags=["solution"]
looks = [feature_network.features(x)
         for x in (toys.images / 255, fresh.images / 255, (made + 1) / 2)]
for name in KINDS:
    judge = make_pipeline(StandardScaler(), LogisticRegression(C=1e-2, max_iter=1000))
    judge.fit(looks[0], toys.attributes[name])
    scores = [judge.score(look, fresh.attributes[name]) for look in looks[1:]]
    print(f"{name}: program's {scores[0]:.3f}, generated {scores[1]:.3f}")
# It finds far fewer of the attributes that the eye sees. Generated cartoons have faint
# textures that the program's never have; perhaps those move its features. A judge's
# accuracy on real images does not say how good it is on generated ones.

# %% [markdown]
# **10. Open.** *(hard)* If CelebA's attribute file lies beside your pictures, `people.attributes` holds forty attributes of each. Choose a few, make multi-hot rows of them, and train the
# conditional network on photographs. Are rare attributes made as often as they are asked for, and as well?
#
# ## Deeper
#
# ### More than one device
#
# With two processors each can take half of every batch. Both hold the same weights, each computes the gradient of its half, and both take the same step with the mean. That is
# **distributed data-parallel** training; exercise 5 says when the mean is right. The core of it, as a script that `torchrun` starts once for each device:
#
# ```python
# distributed.init_process_group("gloo")  # "nccl" on GPUs; torchrun has said who we are
# rank, world = distributed.get_rank(), distributed.get_world_size()
# g, d = face_generator(100, 32, norm=group), face_discriminator(32, norm=group)
# shared_g, shared_d = DistributedDataParallel(g), DistributedDataParallel(d)
# sampler = DistributedSampler(training, drop_last=True)  # another share for each rank
# loader = DataLoader(training, 64 // world, sampler=sampler, drop_last=True)
#
# for epoch in range(epochs):
#     sampler.set_epoch(epoch)  # or every epoch has the same order
#     for real in loader:
#         fake = g(torch.randn(len(real), 100)).detach()
#         d_loss = (bce(shared_d(real), 1.0) + bce(shared_d(fake), 0.0)) / 2
#         d_opt.zero_grad()
#         d_loss.backward()  # here the gradients are averaged over all ranks
#         d_opt.step()
#         g_loss = bce(d(shared_g(torch.randn(len(real), 100))), 1.0)
#         g_opt.zero_grad()
#         g_loss.backward()
#         g_opt.step()
#     if rank == 0:
#         torch.save(g.state_dict(), "generator.pt")
# ```
#
# Only the player that learns is shared. The whole script, with resumable checkpoints, is
# `torchrun --nproc-per-node=2 notebooks/scripts/train_faces.py --epochs 10`. The tests of this course hold two processes to the losses of a single one.
#
# ### Speed
#
# What do the 16 bits buy on this machine, and `channels_last`, the order of the axes in which the channels of a pixel lie side by side? Forward and backward passes of both players:

# %% tags=["hide-input"]
def images_a_second(short, layout):
    """Images a second for a forward and a backward pass through both players."""
    torch.manual_seed(cfg.seed)
    g, d = (net.to(device, memory_format=layout) for net in our_players(cfg.side))
    x, times = training[0].expand(cfg.batch_size, -1, -1, -1).to(device), []
    x = x.contiguous(memory_format=layout)
    z = torch.randn(cfg.batch_size, 100).to(device)
    for _ in range(cfg.n_timed + 2):  # two to warm up
        with runtime.Stopwatch(device) as watch:
            with torch.autocast(device.type, torch.bfloat16, enabled=short):
                loss = bce(d(x), 1.0) + bce(d(g(z)), 0.0)
            loss.backward()
        times.append(watch.seconds)
    return cfg.batch_size / statistics.median(times[2:])


layouts = {"as they come": torch.contiguous_format,
           "channels last": torch.channels_last}
speeds = {f"{name}, {bits} bits": images_a_second(bits == 16, layout)
          for bits in (32, 16) for name, layout in layouts.items()}
first, *_, last = speeds.values()
record.measure("speed with channels last and 16 bits, times as they come", last / first)
tables.table(("way", "images a second", "times as fast"),
             [(name, f"{speed:,.0f}", speed / first) for name, speed in speeds.items()])

# %% [markdown]
# Both together are {{speed with channels last and 16 bits, times as they come | .1f}} times as fast as neither, on this processor. On another the order may be another: measure.
#
# ### Few faces
#
# Who brings pictures of their own has hundreds, not thousands, and then a discriminator can learn them by heart. **Differentiable augmentation** (Zhao et al., 2020) never shows it a
# picture twice the same: every picture is changed at random right in front of $D$, the real ones *and* the fakes (or the generator would learn to make the changes), and by functions through which the gradient comes
# back to the generator. The script has it as `--augment`; we have not measured its effect here.

# %% recap=["shift", "hide", "augment"] mystnb={"image": {"alt": "Two rows of eight cartoon faces. Above as they are; below the same ones, brighter or darker, moved by a few pixels, each with a grey square over a part of it."}}
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


x = toys.images[:8] / 127.5 - 1
shown = {"given": x, "changed": augment(x, rng)}
figures.photograph(figures.before_after(shown, value_range=(-1, 1)).figure)

# %% [markdown]
# Each cartoon is brighter or darker than it was, moved, and partly hidden, each in its own way.
#
# ### From 64 to 128 pixels
#
# The question asked most often about these networks is why a working one breaks when its side is doubled. Often the pictures were enlarged but the networks were not: then the last layer of $D$, which expects
# 4 x 4, gives several logits in place of one. Or a level was added to one player only. The rule is **one more level in both players**. `face_widths` keeps the
# channels where the picture is largest and adds the level at the coarse end, so all earlier levels work at twice the side and cost four times as much. The last row of the table above is its bill: each image costs {{multiply-adds an image, 128 / 64 pixels | .1f}} times the multiply-adds, and roughly as many times the training time. Half of `channels` would be far cheaper.
#
# ## References
#
# * D. Hendrycks, K. Gimpel. *Gaussian error linear units (GELUs).* 2016.
#   <https://doi.org/10.48550/arXiv.1606.08415>
# * F. Iandola et al. *SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
#   <0.5MB model size.* 2016. <https://doi.org/10.48550/arXiv.1602.07360>
# * Z. Liu, P. Luo, X. Wang, X. Tang. *Deep learning face attributes in the wild.* ICCV
#   2015. <https://doi.org/10.48550/arXiv.1411.7766>
# * T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida. *Spectral normalization for generative
#   adversarial networks.* ICLR 2018. <https://doi.org/10.48550/arXiv.1802.05957>
# * T. Rashid. *Make your first GAN with PyTorch.* 2020.
# * K. Simonyan, A. Zisserman. *Very deep convolutional networks for large-scale image
#   recognition.* ICLR 2015. <https://doi.org/10.48550/arXiv.1409.1556>
# * S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han. *Differentiable augmentation for
#   data-efficient GAN training.* NeurIPS 2020.
#   <https://doi.org/10.48550/arXiv.2006.10738>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %% tags=["hide-input"]
record.card()
