# %% [markdown]
# # 6. Faces: a convolutional GAN for colour photographs
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/06_gan_faces.ipynb)
#
# From grey digits to colour photographs of people who do not exist. You will count what
# a network costs before you train it, choose one that fits your machine, and then look
# hard at its faces: are they new, are they varied, and what is wrong with them?
#
# ![A grid of small colour portraits drawn by the network: men and women of different ages, hair and backgrounds, most of them convincing, some distorted](attachment:result.jpg)
#
# *None of these people exists, and none of the pictures was selected.*
#
# **Time to run:** at most 60 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); `full`, for a GPU, trains for longer.

# %% [markdown]
# ## What is new
#
# The game is that of chapter 3, and its players are convolutions as in chapter 4. Three
# things change, and they change everything. A photograph has *colour*, three numbers a
# pixel. It is *larger*: one of 64 x 64 has sixteen times the numbers of a digit. And
# with a face, everybody is an expert: an eye that sits two pixels too low is noticed at
# once.
#
# So this is the chapter in which cost matters. We begin with a network from a book,
# made for pictures of 128 x 128, count what it needs, and let it play for six minutes.
# Then we design one that fits its budget, and give it the same time.

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

import itertools
import logging
import math
import statistics
from dataclasses import dataclass

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import display
from sklearn.linear_model import LogisticRegression
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode

from genlab_helpers import drawn_faces, figures, film, grids, metrics, plots
from genlab_helpers import pretrained, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.faces import faces
from genlab_helpers.recap import Game, arc, bce, discriminator_step, draw
from genlab_helpers.recap import generator_step, leaky
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# All numbers that you may want to change. Times are budgets: each network plays for as
# long as it says, however many images that is on your machine. What was chosen by
# trying was chosen by the distance to *training* faces, so take that distance as a
# little too good. A thousand faces are never trained on.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    folder: str = ""  # of pictures of your own; empty: CelebA in the data folder
    limit: int = 10_000  # pictures read at most
    n_held_out: int = 1_000  # of them that no network is trained on
    n_scored: int = 5_000  # pictures on either side of a Fréchet distance
    side: int = 64  # pixels a side
    noise_size: int = 100  # numbers that a face is drawn from
    channels: int = 32  # of our networks where the picture is largest
    batch_size: int = 32  # real images a step, and as many drawn ones
    rate: float = 5e-4  # Adam's learning rate
    decay: float = 0.995  # of the running average of the generator's weights
    original_width: int = 256  # channels of the network from the book
    original_batch: int = 16  # its real images a step
    race_seconds: float = 360.0  # what it plays, and what ours plays beside it
    final_seconds: float = 900.0  # what ours plays in all
    ladder_seconds: float = 120.0  # each choice of the ladder plays
    n_seeds: int = 2  # games of LeakyReLU and of GELU
    n_few: int = 500  # faces in the trial with few
    few_seconds: float = 100.0  # that it plays, with and without augmentation
    drawn_seconds: float = 100.0  # a network for drawn faces plays
    n_drawn: int = 4_000  # drawn faces, whose attributes are known
    n_pairs: int = 1_000  # faces searched for duplicates
    large_side: int = 128  # the next size
    n_large: int = 10_000  # pictures read at that size
    large_seconds: float = 60.0  # that a network of that size plays
    n_timed: int = 10  # steps behind each time
    try_compile: bool = True  # compiling takes a minute or two, and a C++ compiler


cfg = Config.for_profile(
    smoke=dict(limit=100, n_held_out=30, n_scored=30, channels=2, batch_size=10,
               original_width=8, original_batch=2, race_seconds=0.1, n_seeds=1,
               final_seconds=0.2, ladder_seconds=0.1, n_few=20, few_seconds=0.1,
               drawn_seconds=0.1, n_drawn=60, n_pairs=20, n_large=30,
               large_seconds=0.1, n_timed=1, try_compile=False),
    full=dict(limit=202_599, channels=64, race_seconds=240.0, final_seconds=420.0,
              ladder_seconds=20.0, few_seconds=30.0, drawn_seconds=30.0,
              n_large=50_000, large_seconds=150.0),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("06_gan_faces", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## The pictures
#
# **CelebA** (Liu et al., 2015) is a collection of 202,599 photographs of 10,177
# celebrities, found on the web, cut and turned so that the eyes are at the same place
# in all of them. The first ten thousand are enough for us. You can also give a folder
# of your own pictures. They are read once, in parallel, made square, and kept in one
# file of bytes that later runs open in an instant; a broken picture is named and left
# out.

# %%
people = faces(cfg.folder or None, side=cfg.side, limit=cfg.limit)
record.use(people)
speed = len(people.images) / people.seconds
record.measure("pictures read and prepared", speed, unit="1/s")
print(f"{people.name}: {len(people.images):,} x {tuple(people.images[0].shape)},"
      f" {len(people.broken)} broken; read and prepared at {speed:,.0f} a second")
for name, values in (people.attributes or {}).items():
    print(f"{name}: {values.float().mean():.3f}", end="; ")

# %% [markdown]
# A few of them, in the size that we are going to use:

# %% mystnb={"image": {"alt": "Sixteen small photographs of celebrities' faces in two rows, cut so that the face fills most of the square."}}
n_held_out = min(cfg.n_held_out, len(people.images) // 10)
images, held_out = people.images[n_held_out:], people.images[:n_held_out]
if len(images) < cfg.batch_size:
    raise ValueError(f"{len(images)} pictures are too few to train on: give more of"
                     f" them, or a smaller batch_size than {cfg.batch_size}")
grids.image_grid(images[:16], columns=8);

# %% [markdown]
# **Whose faces are these?** Famous people, as they were photographed for the press in
# the years before 2015: made up, lit, and often smiling at a camera. The set comes with
# forty attributes for each picture, given by annotators, in a file of its own. If it
# lies beside your pictures, the cell above has printed how frequent each is. Some of
# them, such as *attractive*, say more about who was asked than about who is shown.
#
# Three things follow, and they belong to the method as much as the loss does.
#
# * *The licence.* CelebA may be used for research that is not commercial, and its
#   pictures must not be passed on. This page shows a few of them beside drawn ones, to
#   explain a method, and the cache of pictures stays on your machine.
# * *Nobody was asked.* The people in the photographs did not agree to become training
#   data. We draw faces of nobody in particular, we check that they are no copies, and
#   we make no statement about any person.
# * *What is rare comes out badly.* A network draws often what it saw often. Whoever is
#   rare in the set (few of these people wear glasses, are old, or look sideways) is
#   drawn rarely and worse, and nothing in a Fréchet distance will complain.
#
# If you have no CelebA, the chapter runs on **drawn faces**: a small program draws
# them, so their attributes (skin, hair, eyes, mouth, glasses) are known exactly, and
# they belong to nobody. We will need them in any case, later on.
#
# ## Cutting a square, by hand
#
# CelebA's pictures are 178 wide and 218 high. The book that our first network is taken
# from cuts the middle 128 x 128 out of each. Cutting is nothing but indexing, with two
# things to get right: which axis is which, and a picture smaller than the cut.

# %%
def crop_centre(image, side):
    """Cut the middle out of an image (H, W, 3): (side, side, 3)."""
    height, width = image.shape[:2]
    if min(height, width) < side:
        raise ValueError(f"an image of {width} x {height} pixels has no square of"
                         f" {side}: use a smaller side, or enlarge the image first")
    top, left = (height - side) // 2, (width - side) // 2
    return image[top : top + side, left : left + side]

# %% [markdown]
# **Two orders of the axes.** Files and plots have the three colours of a pixel side by
# side, $(H, W, C)$: a picture is a sheet of pixels. PyTorch's convolutions want $(C, H,
# W)$: three grey sheets, one a colour. `permute` changes the order; `reshape` would
# keep the order of the numbers and scramble the picture. We try both on a drawn face.

# %% mystnb={"image": {"alt": "Six panels. A drawn face in a high picture; the square cut out of its middle; three grey pictures, its red, green and blue sheet; and a scrambled picture of small repeated stripes, the result of reshape."}}
sheet = drawn_faces.draw_faces(1, side=256, seed=4).images[0].permute(1, 2, 0)
sheet = sheet[19:237, 39:217]  # (218, 178, 3), as the pictures of CelebA
square = crop_centre(sheet, 128)
shown = {"given": sheet, "cut": square, "red": square[..., 0],
         "green": square[..., 1], "blue": square[..., 2],
         "reshape": square.reshape(3, 128, 128).permute(1, 2, 0)}
for ax, (title, picture) in zip(plt.subplots(1, 6, figsize=(7, 1.7))[1], shown.items()):
    ax.imshow(picture, cmap="grey", vmin=0, vmax=255)
    ax.set(title=title, xticks=[], yticks=[])

# %% [markdown]
# The second picture is the middle of the first. The three grey sheets are the channels:
# the skin is bright in the red one and darker in the blue one. The last picture is the
# mistake: `reshape` has dealt the numbers out in the wrong order. It raises no error,
# and a network will train on it without complaint.
#
# Our own pictures were cut to the largest square in the middle and reduced to 64 pixels
# a side when they were read. (The run that you see on the page read an edition of
# CelebA of half the size, 89 x 109.)

# %% [markdown]
# ## A network from a book
#
# Our starting point is a network that has been in circulation with a book on neural
# networks (Rashid, 2020). It is made of large kernels, 8 x 8 with stride 2, and 256
# channels. The generator turns 100 numbers into a coarse picture of 3 x 11 x 11 and
# enlarges it three times; the discriminator goes the same way back and ends in 300
# numbers and one logit.

# %%
def original_generator(noise_size, width=256):
    """Noise (B, noise_size) -> images (B, 3, 128, 128) in [-1, 1]."""
    return nn.Sequential(
        nn.Linear(noise_size, 3 * 11 * 11), leaky(), nn.Unflatten(1, (3, 11, 11)),
        nn.ConvTranspose2d(3, width, 8, 2), nn.BatchNorm2d(width), leaky(),
        nn.ConvTranspose2d(width, width, 8, 2), nn.BatchNorm2d(width), leaky(),
        nn.ConvTranspose2d(width, 3, 8, 2, padding=1), nn.BatchNorm2d(3), nn.Tanh())


def original_discriminator(width=256):
    """Images (B, 3, 128, 128) in [-1, 1] -> logits (B, 1)."""
    return nn.Sequential(
        nn.Conv2d(3, width, 8, 2), nn.BatchNorm2d(width), leaky(),
        nn.Conv2d(width, width, 8, 2), nn.BatchNorm2d(width), leaky(),
        nn.Conv2d(width, 3, 8, 2), leaky(), nn.Flatten(), nn.Linear(3 * 10 * 10, 1))

# %% [markdown]
# Where do 11, 28, 62 and 128 come from? Chapter 4 derived the side after a transposed
# convolution: $n$ stamps of size $k$, each $s$ further than the one before, less the
# padding $p$ at either end,
#
# $$n' = (n - 1)\,s + k - 2p .$$
#
# An ordinary convolution is asked the opposite question: how many windows of size $k$
# fit into a row of $n + 2p$, if each begins $s$ further than the one before? The last
# one may begin at $n + 2p - k$ at most, so
#
# $$n' = \Big\lfloor \frac{n + 2p - k}{s} \Big\rfloor + 1 .$$

# By the formulas, and by PyTorch, which only has to work out the shapes if we put the
# networks on the device called `meta`: it has shapes but no numbers.

# %%
def side_after(layer, side):
    """Width and height after a layer of a network, by the two formulas."""
    k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    if isinstance(layer, nn.ConvTranspose2d):
        return (side - 1) * s + k - 2 * p
    return (side + 2 * p - k) // s + 1


with torch.device("meta"):  # shapes without numbers
    original = original_generator(100), original_discriminator()
    x, rows = torch.empty(1, 100), []
    for layer in itertools.chain(*original):
        before, x = x, layer(x)
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            rows.append((type(layer).__name__, before.shape[-1],
                         side_after(layer, before.shape[-1]), x.shape[-1]))
tables.table(("layer", "side before", "after, by the formula", "by PyTorch"), rows)

# %% [markdown]
# The formulas are right. (And the 128 explains the `padding=1` of the last enlargement:
# without it the picture would have 130 pixels a side.)
#
# **Why not a fully connected end?** A layer that connects 49,152 numbers of a picture
# with 300 units has 15 million weights, each for one pixel only. The book says that the
# convolutional network needs five times less memory than a fully connected one. That
# can be counted. What is there to count?
#
# * **Parameters**: numbers to be learned. Training stores each of them four times: the
#   weight, its gradient, and the two running averages of Adam.
# * **Multiply-adds**: what is paid in time. A weight of a convolution is used at every
#   place.
# * **Activations**: the outputs of layers that have to be kept until the backward pass
#   has used them. Each further image in the batch adds as many.
#
# PyTorch can tell us what it keeps: inside `saved_tensors_hooks` it hands every tensor
# that it puts aside to a function of ours. Some are kept several times (a layer's
# output is the next one's input), so each piece of memory, known by its address, is
# counted once, and weights, which are there in any case, are left out.

# %%
def kept_bytes(run, weights):
    """Bytes that autograd keeps for the backward pass of run(), weights not counted."""
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        kept[storage._cdata] = storage  # one entry however often it is kept
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        run()
    own = {weight.untyped_storage()._cdata for weight in weights}
    return sum(s.nbytes() for key, s in kept.items() if key not in own)



def cost(make_g, make_d, noise_size=100):
    """Parameters, and for an image the multiply-adds and the bytes that are kept."""
    with torch.device("meta"):
        g, d = make_g(), make_d()
        z = torch.empty(2, noise_size)
    weights = [*g.parameters(), *d.parameters()]
    with FlopCounterMode(display=False) as counter:
        d(g(z))
    kept = kept_bytes(lambda: bce(d(g(z)), 1.0), weights)
    n = sum(weight.numel() for weight in weights)
    return n, counter.get_total_flops() / 2 / len(z), kept / len(z)

# %% [markdown]
# Beside it stands a fully connected pair for pictures of the same size, with one hidden
# layer each. The last two columns are the memory for a batch of 1 and of 64: four
# numbers of 4 bytes a parameter, and what the images of the batch keep.

# %%
def training_memory(parameters, kept, batch_size):
    return 16 * parameters + batch_size * kept


def cost_table(costs):
    rows = [(name, f"{n / 1e6:.1f} M", f"{adds / 1e6:,.0f} M", f"{kept / 1e6:.1f} MB",
             *(f"{training_memory(n, kept, b) / 1e6:,.0f} MB" for b in (1, 64)))
            for name, (n, adds, kept) in costs.items()]
    return tables.table(("network", "parameters", "multiply-adds an image",
                         "kept an image", "to train with 1", "with 64"), rows)


pixels = 3 * 128 * 128
dense = (lambda: nn.Sequential(nn.Linear(100, 300), leaky(), nn.LayerNorm(300),
                               nn.Linear(300, pixels), nn.Tanh()),
         lambda: nn.Sequential(nn.Linear(pixels, 100), leaky(), nn.LayerNorm(100),
                               nn.Linear(100, 1)))
costs = {"of the book": cost(lambda: original_generator(100), original_discriminator),
         "fully connected": cost(*dense)}
with_one = [training_memory(n, kept, 1) for n, _, kept in costs.values()]
record.measure("memory to train with one image, fully connected / of the book",
               with_one[1] / with_one[0])
print(f"fully connected / of the book: {with_one[1] / with_one[0]:.1f}")
cost_table(costs)

# %% [markdown]
# Look at the columns one after the other. The convolutional pair has less than half of
# the parameters. (It could have far fewer, but one kernel of 8 x 8 between 256 and 256
# channels alone has four million.) In exchange, each image costs it hundreds of times
# as many multiply-adds, and each further image in the batch needs memory of its own.
# With one image at a time it needs less memory than the fully connected pair, by the
# factor printed above the table, which is not five. With 64 it needs far more. A
# convolution saves what has to be *learned*, not what has to be *computed* and *kept*.
#
# ## Grid and border
#
# Before training, what does this generator draw?

# %% mystnb={"image": {"alt": "Eight pictures by the untrained network of the book: regular grids of small coloured dots, with a frame of even grey along the border."}}
torch.manual_seed(cfg.seed)
untrained = original_generator(cfg.noise_size, cfg.original_width)
drawn = untrained(torch.randn(8, cfg.noise_size, generator=rng)).detach()
grids.image_grid(drawn, columns=8, value_range=(-1, 1));

# %% [markdown]
# To see where the border comes from we count, for each pixel, the ways that lead to it
# from the 11 x 11 cells: three enlargements with kernels full of ones.

# %% mystnb={"image": {"alt": "A map of the number of ways from the input to each of the 128 by 128 pixels, even in the middle and falling off in steps towards all four borders, darkest in the corners."}}
ways = torch.ones(1, 1, 11, 11)
for padding in (0, 0, 1):
    ways = F.conv_transpose2d(ways, torch.ones(1, 1, 8, 8), stride=2, padding=padding)
fig, ax = plt.subplots(figsize=(7, 3))
fig.colorbar(ax.imshow(ways[0, 0], cmap="grey", vmin=0), label="ways to a pixel")
ax.set(xticks=[0, 64, 127], yticks=[0, 64, 127]);

# %% [markdown]
# Two things can be seen before anything was learned. A **grid** with a period of a few
# pixels, which chapter 4 explained: stamps that overlap. (The kernel of 8 is a multiple
# of the stride of 2, so every pixel inside gets equally many stamps. But along a row,
# the four weights that meet in an even pixel are not those that meet in an odd one, and
# untrained weights differ.) And a **border**: the map counts. In the middle many stamps
# overlap, at the border few. Fewer random numbers are added up there, so the picture is
# closer to grey. Training must even that out, and a network with few steps behind it
# still shows the frame.
#
# ## Batch normalisation, alone
#
# The book trains with one image at a time, and with batch normalisation in both
# networks. What does normalisation over a batch do, if the batch is one image? It gives
# each channel of *this* image mean 0 and standard deviation 1. How bright an image is,
# and how strong its contrast, is then gone. We take one drawn face and the same in a
# darker, paler print, and normalise: each alone, and each in the company of others.

# %% mystnb={"image": {"alt": "Six pictures of one drawn face: as given, and in a darker, paler print; both normalised alone, which look the same; both normalised in the company of others, one bright and one dark."}}
company = drawn_faces.draw_faces(32, side=64, seed=1).images / 127.5 - 1
prints = torch.stack((company[0], 0.4 * company[0] - 0.5))
norm = nn.BatchNorm2d(3)  # in training mode: statistics of the batch
alone = torch.cat([norm(x[None]) for x in prints]).detach()
others = torch.stack([norm(torch.cat((x[None], company[1:])))[0] for x in prints])
grids.image_grid(torch.cat((prints, alone / 2.5, others.detach() / 2.5)), columns=6,
                 titles=["given", "dark, pale", *["alone"] * 2, *["in company"] * 2],
                 value_range=(-1, 1));

# %% [markdown]
# Alone, both prints become the same picture. A discriminator that sees one image at a
# time *cannot know* how bright it is, and no generator can learn it from such a
# teacher. In company the difference survives. So we
# train with mini-batches: the network of the book with small ones, since each image
# costs it so much, ours with larger ones.
#
# ## The game
#
# The loader gives bytes. Each batch is taken out of them, scaled to $[-1, 1]$, and
# every second face is mirrored: a face and its mirror image are equally likely, so the
# data have doubled.

# %%
def batch(images, rows, rng, device, side):
    """These rows of bytes (N, 3, H, W), half of them mirrored: (B, 3, side, side)."""
    x = images[rows].to(device, torch.float32) / 127.5 - 1  # 0..255 -> [-1, 1]
    mirrored = torch.rand(len(x), 1, 1, 1, generator=rng).to(device) < 0.5
    x = torch.where(mirrored, x.flip(-1), x)
    if side != x.shape[-1]:
        x = F.interpolate(x, size=(side, side), mode="bilinear")
    return x.contiguous(memory_format=torch.channels_last)

# %% [markdown]
# The game is that of chapter 3, with the two steps of chapter 3 and the averaged
# weights of chapter 4. Two things are added. Both networks compute in **mixed
# precision**: inside `autocast`, convolutions use bfloat16, numbers of half the length,
# while weights and losses keep their 32 bits. And the discriminator looks at images
# through a function `change`, which does nothing until the section on few faces.

# %%
class FaceGame(Game):
    """The game of chapter 3 in mixed precision, with averaged weights of G."""

    parts = (*Game.parts, "average")
    mixed = True

    def __init__(self, g, d, cfg, seed, change=lambda x, rng: x, side=None):
        g, d = (net.to(memory_format=torch.channels_last) for net in (g, d))
        super().__init__(g, d, torch.randn, cfg.noise_size, (cfg.rate, cfg.rate),
                         (0.5, 0.999), seed)
        averaging = get_ema_multi_avg_fn(cfg.decay)
        self.average = AveragedModel(g, multi_avg_fn=averaging, use_buffers=True)
        self.history |= dict(images=[], fetching=[])
        self.change, self.side = change, side or cfg.side

    def verdict(self, x):
        return self.d(self.change(x, self.rng)).float()

    def step(self, real):
        """Let both players learn once from real (B, 3, H, W): losses (2,)."""
        with torch.autocast(real.device.type, torch.bfloat16, enabled=self.mixed):
            z = self.draw_noise(len(real), self.rng)
            d_loss = discriminator_step(self.g, self.verdict, self.d_opt, real, z)
            z = self.draw_noise(len(real), self.rng)
            g_loss = generator_step(self.g, self.verdict, self.g_opt, z)
        self.average.update_parameters(self.g)
        return torch.stack((d_loss, g_loss))

# %% [markdown]
# An epoch is one pass through the pictures, or less if the time is over. We keep the
# losses, pictures from the same sixteen draws of noise, how many images were used, and
# how long the step had to wait for its data.

# %%
def epoch(game, images, batch_size, seconds, device):
    """Play through images (N, 3, H, W) once, or for so many seconds; keep what was."""
    losses, used, fetching = [], 0, 0.0
    with runtime.Stopwatch(device) as watch:
        for rows in torch.randperm(len(images), generator=game.rng).split(batch_size):
            if len(rows) < batch_size:
                break  # a small last batch would have its own statistics
            begun = watch.seconds
            real = batch(images, rows, game.rng, device, game.side)
            fetching += watch.seconds - begun
            losses.append(game.step(real))
            used += len(rows)
            if watch.seconds > seconds:
                break
    d_loss, g_loss = torch.stack(losses).mean(dim=0).tolist()
    samples = draw(game.average.module, game.fixed[:16]).cpu()
    now = dict(d_loss=d_loss, g_loss=g_loss, seconds=watch.seconds, images=used,
               fetching=fetching, samples=samples)
    for kind, value in now.items():
        game.history[kind].append(value)


def play_for(game, images, seconds, batch_size, checkpoint, device):
    """Play until the game has had so many seconds, from the checkpoint on."""
    if saved := checkpoint.load():
        game.load_state_dict(saved)
    while (left := seconds - sum(game.history["seconds"])) > 0:
        epoch(game, images, batch_size, left, device)
        checkpoint.save(**game.state_dict())
    return game

# %% [markdown]
# What is a good face? We compare features of drawn and real pictures with the **Fréchet
# distance** of chapter 3. The judges of the earlier chapters know digits and clothes
# only, so for photographs we take a network that was trained on a million photographs
# of a thousand kinds of things, **SqueezeNet** (Iandola et al., 2016), and read 512
# numbers off its last feature maps. The scale is its own: these distances cannot be
# compared with published ones, which use another network. They are compared with the
# **floor**, the distance between real faces and as many other real faces.

# %%
eye = pretrained.eye(device)
record.use(eye)
n = min(cfg.n_scored, len(people.images) // 2)
known, others = people.images[-n:], people.images[:n]
reference, others = (eye.features(part.float() / 255) for part in (known, others))
floor = metrics.frechet_distance(reference, others)
scored_z = torch.randn(n, cfg.noise_size, generator=rng).to(device)
print(f"{len(reference):,} against {len(others):,} real faces: {floor:.1f}")


def drawn_by(generator, z):
    """Pictures (N, 3, H, W) in [0, 1], on the CPU, a hundred at a time."""
    return (torch.cat([draw(generator, part).cpu() for part in z.split(100)]) + 1) / 2


def score(pictures, side=cfg.side):
    """Fréchet distance of pictures in [0, 1] to real faces, and their features."""
    if pictures.shape[-1] != side:  # real faces have this size as well
        pictures = F.interpolate(pictures, size=(side, side), mode="area")
    features = eye.features(pictures)
    return metrics.frechet_distance(reference, features), features

# %% [markdown]
# Now the network of the book plays. Our faces are enlarged to 128 x 128 for it, and
# what it draws is reduced again before it is scored, so that both sides are equally
# sharp.

# %% mystnb={"image": {"alt": "Two rows of eight pictures by the network of the book after its time: sixteen equal grey-blue squares."}}
torch.manual_seed(cfg.seed)
of_book = FaceGame(original_generator(cfg.noise_size, cfg.original_width).to(device),
                   original_discriminator(cfg.original_width).to(device), cfg, cfg.seed,
                   side=128)
play_for(of_book, images, cfg.race_seconds, cfg.original_batch,
         Checkpoint("of the book", record), device)
book_distance, _ = score(drawn_by(of_book.average.module, scored_z))
record.measure("network of the book: Fréchet distance", book_distance, floor=floor)
record.measure("network of the book: images used", sum(of_book.history["images"]))
print(f"{sum(of_book.history['images']):,} images in"
      f" {sum(of_book.history['seconds']):.0f} s; distance {book_distance:.0f},"
      f" real faces {floor:.1f}")
grids.image_grid(of_book.history["samples"][-1], columns=8, value_range=(-1, 1));

# %% [markdown]
# So few images, because each of them costs so much, and nothing yet that could be
# called a picture. In part this is the fault of the averaged weights, to which we shall
# come back. On a GPU this network gets further. But a network that cannot be trained on
# the machine at hand is no use there, however good it might become.
#
# ## A network that fits
#
# What can be saved? Three decisions make the difference.
#
# * *Half the side.* 64 x 64 pixels are a quarter of the places.
# * *Small kernels.* 4 x 4 with stride 2 is the smallest kernel that is a multiple of
#   its stride and overlaps: a quarter of the weights of 8 x 8.
# * *Channels where they are cheap.* Few where the picture is large, twice as many at
#   each halving. Every level then costs about the same.
#
# The normalisation and the activation are arguments, since we want to compare some. One
# candidate normalises each image *by itself*, in groups of channels, and so needs no
# company at all: `group`. The generator begins with one cell, makes 4 x 4 of it, and
# doubles the side until it is large enough; the last step makes colours. The kernel $k$
# is an argument too: with stride 2 and padding $\frac{k}{2} - 1$ the formula gives
# $n' = 2(n - 1) + k - (k - 2) = 2n$ for every even $k$.

# %% recap=["group", "face_widths", "face_generator"]
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

# %% [markdown]
# The discriminator is its mirror image. Below are the layers of both, and the bill
# beside the other two, each for pictures of the size that it draws.

# %% recap=["face_discriminator"]
def face_discriminator(channels, side=64, norm=nn.BatchNorm2d, act=leaky, kernel=4):
    """Images (B, 3, side, side) in [-1, 1] -> logits (B, 1)."""
    widths, step = face_widths(side, channels)[::-1], (kernel, 2, kernel // 2 - 1)
    layers = [nn.Conv2d(3, channels, *step), act()]  # (B, channels, side / 2, ...)
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, *step), norm(outputs), act()]
    return nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4), nn.Flatten())


g, d = face_generator(cfg.noise_size, cfg.channels), face_discriminator(cfg.channels)
z = torch.randn(2, cfg.noise_size, generator=rng)
display(tables.layers(g, z), tables.layers(d, g(z).detach()))

costs["ours, 64 pixels"] = cost(lambda: face_generator(100, cfg.channels),
                                lambda: face_discriminator(cfg.channels))
costs["ours, 128 pixels"] = cost(lambda: face_generator(100, cfg.channels, 128),
                                 lambda: face_discriminator(cfg.channels, 128))
n, adds, _ = costs["ours, 64 pixels"]
record.measure("multiply-adds an image, of the book / ours",
               costs["of the book"][1] / adds)
cost_table(costs)

# %% [markdown]
# Compare the first row with the third: a hundredth of the multiply-adds, a fifth of the
# parameters, a sixteenth of the memory for a batch. (The network of the book draws four
# times as many pixels, so a part of this is simply size; the fourth row is ours at the
# same size.) If you want to go from 64 to 128 pixels, the most asked question about
# such networks, the fourth row is half of the answer: one more level on either side,
# and every image costs more than four times as much. The other half comes later.
#
# ## What helps?
#
# Our plain network has batch normalisation in the generator and **spectral
# normalisation** in the discriminator, which chapter 4 introduced: each weight matrix
# is divided by its largest singular value, so that the discriminator cannot become
# arbitrarily steep, and no image depends on its company (Miyato et al., 2018). Around
# it we try changes one at a time: GELU in place of LeakyReLU in both players (a smooth
# relative of ReLU that multiplies $x$ by the probability that a normal number is below
# $x$; Hendrycks and Gimpel, 2016), kernels of 8 as in the book, other normalisations of
# the discriminator (groups: Wu and He, 2018), and 32-bit numbers. Each plays for the
# same short time, since time is what we have, and is scored with its averaged weights.
# What the averaging itself does costs no game: the plain network is scored a second
# time with the weights of its last step.

# %%
CHANGES = {"plain": {}, "GELU": dict(act=nn.GELU), "kernels of 8": dict(kernel=8),
           "batch norm in D": dict(d_norm=nn.BatchNorm2d),
           "group norm in D": dict(d_norm=group), "no norm in D": dict(d_norm=None),
           "32-bit numbers": dict(mixed=False)}


def new_game(cfg, device, seed, act=leaky, d_norm="spectral", mixed=True, kernel=4,
             **options):
    torch.manual_seed(seed)
    norm = d_norm if callable(d_norm) else nn.Identity
    side = options.get("side", cfg.side)
    g = face_generator(cfg.noise_size, cfg.channels, side, act=act, kernel=kernel)
    d = face_discriminator(cfg.channels, side, norm, act, kernel)
    for layer in d:
        if d_norm == "spectral" and isinstance(layer, nn.Conv2d):
            spectral_norm(layer)
    game = FaceGame(g.to(device), d.to(device), cfg, seed, **options)
    game.mixed = mixed
    return game

# %% [markdown]
# One number on the way deserves attention, the memory for a step, counted as above for
# 64 images: weights with their gradients and averages, and what is kept for the
# backward pass.

# %%
def step_memory(game):
    """Megabytes to train with 64 images: weights, and what both players keep."""
    def forward():
        with torch.autocast(game.fixed.device.type, torch.bfloat16, enabled=game.mixed):
            return game.verdict(game.g(game.fixed)).mean()

    weights = [*game.g.parameters(), *game.d.parameters()]
    kept = kept_bytes(forward, weights)
    return training_memory(sum(w.numel() for w in weights), kept, 1) / 1e6

# %% [markdown]
# LeakyReLU and GELU get more than one seed, the others one. How far two seeds of the
# *same* network lie apart tells how much a row may be trusted.

# %%
ladder, sizes = {}, {}
for name, choices in CHANGES.items():
    for seed in range(cfg.n_seeds if name in ("plain", "GELU") else 1):
        game = new_game(cfg, device, seed, **choices)
        play_for(game, images, cfg.ladder_seconds, cfg.batch_size,
                 Checkpoint(f"{name} {seed}", record), device)
        used, seconds = (sum(game.history[kind]) for kind in ("images", "seconds"))
        scored = {name: game.average.module}
        if name == "plain":
            scored["plain, last weights"] = game.g
        for label, generator in scored.items():
            distance, _ = score(drawn_by(generator, scored_z))
            ladder.setdefault(label, []).append(distance)
        sizes |= dict.fromkeys(scored, (used / seconds, step_memory(game)))
for label, distances in ladder.items():
    record.measure_seeds(f"{label}: Fréchet distance", distances, floor=floor)

rows = [(name, " and ".join(f"{value:.0f}" for value in distances),
         *(f"{value:,.0f}" for value in sizes[name]))
        for name, distances in ladder.items()]
tables.table(("change", "Fréchet distance", "images a second", "memory, MB"), rows)

# %% [markdown]
# After so short a time all are far from the floor, and the differences are large all
# the same. Read the first row first: its two seeds differ by a quarter, so no smaller
# difference means anything. **GELU does not help**: both its seeds lie about twice as
# far from the real faces as those of LeakyReLU, and it is slower. **Large kernels** are
# the worst: with fewer than half of the images a second they get nowhere in this time.
# 32-bit numbers need half as much memory again, see fewer images, and fall behind.
# Batch normalisation in the discriminator is as good as the plain network; groups, and
# no normalisation at all, are a little behind at best. Among those that lie close
# together we choose the discriminator that cannot become steep.
#
# And look at the second row. It is the *same games* as the first, drawn with the
# weights of the last step: twice as far. The last step went wherever the last batch
# pulled; the average forgets such pulls, and costs one multiplication a weight.
#
# ## Few faces
#
# Most readers who bring pictures of their own have hundreds, not thousands. Then the
# discriminator can learn them by heart: it recognises *those* faces as real, whatever a
# face is. The remedy is to never show it a picture twice the same. **Differentiable
# augmentation** (Zhao et al., 2020) changes every picture at random, the real ones
# *and* the drawn ones, right in front of the discriminator. If only the real ones were
# changed, the generator would learn to draw the changes. And the gradient must come
# back through the change to the generator, which is why it has to be differentiable.
#
# We use three changes. One moves the picture, by a random 2 x 3 matrix that says where
# each pixel comes from; what comes in at the border is 0, the middle grey of $[-1, 1]$.
# One hides a square, and one makes the picture brighter or darker:

# %% recap=["shift", "hide", "augment"]
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

# %% [markdown]
# On drawn faces:

# %% mystnb={"image": {"alt": "Two rows of eight drawn faces. Above as they are; below the same ones, brighter or darker, moved by a few pixels, each with a grey square over a part of it."}}
grids.before_after({"given": company[:8], "changed": augment(company[:8], rng)},
                   value_range=(-1, 1));

# %% [markdown]
# Now both ways with few faces. To see what the discriminator has learned, we ask it
# about the faces that it was trained on and about faces that it has never seen. For an
# expert in faces, both are faces.

# %% mystnb={"image": {"alt": "Two rows of eight drawn faces by the two networks that were trained with few photographs: blurred faces above; below darker ones under a coarse grid of dots."}}
few = images[: cfg.n_few].repeat(max(1, len(images) // cfg.n_few), 1, 1, 1)
ways = {"as they are": lambda x, rng: x, "augmented": augment}
rows, samples = [], {}
for name, change in ways.items():
    game = new_game(cfg, device, cfg.seed, change=change)
    play_for(game, few, cfg.few_seconds, cfg.batch_size, Checkpoint(name, record),
             device)
    distance, _ = score(drawn_by(game.average.module, scored_z))
    game.d.eval()
    with torch.inference_mode():
        logits = [game.d(x.to(device)).median().item() for x in (
            few[: cfg.n_few].float() / 127.5 - 1, held_out[:500].float() / 127.5 - 1,
            draw(game.g, scored_z[:500]))]
    record.measure(f"few faces, {name}: Fréchet distance", distance, floor=floor)
    rows.append((name, distance, *logits))
    samples[name] = game.history["samples"][-1][:8]
display(tables.table(("faces", "Fréchet distance", "D's logit: trained on",
                      "never seen", "drawn"), rows))
grids.before_after(samples, value_range=(-1, 1));

# %% [markdown]
# Read the logits first. The discriminator that saw the faces as they are gives a little
# more to those it was trained on than to new ones: it has begun to learn them by heart,
# and not got far in this short time. With augmentation the gap is smaller, as promised.
# But the distance is *worse*, by far: where there is little to cure, the cure costs.
# The discriminator sees a harder problem, and the generator gets its lessons later. So
# do not switch augmentation on because it is recommended. Watch the gap between known
# and unknown faces, and switch it on when the gap opens. (The logits are for pictures
# as they are, also of the discriminator that was trained on changed ones.)
#
# ## The long game
#
# Now the plain network plays as long as the budget allows. After the time that the
# network of the book has had, we stop for a moment and compare the two: same machine,
# same seconds, same pictures.

# %%
final = new_game(cfg, device, cfg.seed)
saved = Checkpoint("final", record)
play_for(final, images, min(cfg.race_seconds, cfg.final_seconds), cfg.batch_size, saved,
         device)
raced = Checkpoint("raced", record)
if (found := raced.load()) is None:
    found = dict(distance=score(drawn_by(final.average.module, scored_z))[0],
                 images=sum(final.history["images"]))
    raced.save(**found)
record.measure("after the same time: Fréchet distance, of the book / ours",
               book_distance / found["distance"])
print(f"ours, after as many seconds: {found['images']:,} images,"
      f" distance {found['distance']:.0f}")

# %% [markdown]
# And then it plays on. Meanwhile, justice for the network of the book: after so few
# steps its running average is still mostly the untrained network (exercise 5). So we
# draw with its plain weights as well, and let the better of the two count.

# %% mystnb={"image": {"alt": "Two rows of eight pictures. Above, by the network of the book with its plain weights: a regular grid with a few dark blotches, the same border around each. Below, by ours: eight different faces."}}
play_for(final, images, cfg.final_seconds, cfg.batch_size, saved, device)
history = final.history
pictures = drawn_by(final.average.module, scored_z)
distance, drawn_features = score(pictures)
record.measure("our network: Fréchet distance", distance, floor=floor)
record.measure("our network: images used", sum(history["images"]))
print(f"{sum(history['images']):,} images, {sum(history['seconds']):.0f} s;"
      f" distance {distance:,.0f}, real faces {floor:,.0f}")
with torch.autocast(device.type, torch.bfloat16):
    unaveraged = drawn_by(of_book.g, scored_z).float()
last, _ = score(drawn_by(final.g, scored_z))
record.measure("our network, last weights: Fréchet distance", last, floor=floor)
print(f"ours, with the weights of its last step: {last:,.0f}")
better = min(book_distance, score(unaveraged)[0])
record.measure("network of the book, better weights: Fréchet distance", better)
record.measure("after the same time: better of the book / ours",
               better / found["distance"])
print(f"of the book, the better weights: {better:,.0f}, after the same time"
      f" {better / found['distance']:.1f} times ours")
pair = {"of the book": F.avg_pool2d(unaveraged[:8], 2), "ours": pictures[:8]}
film.photograph(grids.before_after(pair).figure)

# %% [markdown]
# The book's network without averaging draws its own grid, with a border and dark
# blotches: nothing yet that could be called a face. Ours draws faces. With time on a
# GPU the first row would change; the bill above would not. (Averaging still helps after
# the long game: with the weights of the last step our own distance is clearly larger,
# as printed above.) How did our network get there?

# %% mystnb={"image": {"alt": "Sixteen faces drawn from the same noise after each epoch: from coloured blotches to faces, which keep changing to the end."}}
def frame(samples, number):
    ax = grids.image_grid(samples, columns=8, value_range=(-1, 1))
    ax.set_xlabel(f"epoch {number}")
    return ax.figure


kept = range(0, len(history["samples"]), -(-len(history["samples"]) // 12))
film.animation(frame(history["samples"][i], i + 1) for i in kept)

# %% [markdown]
# The same sixteen draws of noise as time goes by. First come colours, then a face that
# is everybody's, then differences: hair, background, direction of light. To the end a
# draw does not settle on one person.

# %% mystnb={"image": {"alt": "Loss of both players over the epochs, with a dashed line at 0.693. The discriminator stays a little below the line throughout; the generator falls from 1.5 to about 1 in the first epochs and slowly on towards the line."}}
waited = sum(history["fetching"]) / sum(history["seconds"])
record.measure("share of time that a step waits for data", waited)
print(f"waiting for data: {100 * waited:.2f} % of the time")
fig, ax = plt.subplots(figsize=(7, 3.2))
plots.curves(ax, {"discriminator": history["d_loss"], "generator": history["g_loss"]},
             x=range(1, len(history["d_loss"]) + 1), xlabel="epoch", ylabel="loss",
             reference={"log 2": math.log(2)});

# %% [markdown]
# At the solution of the game both losses are $\log 2 = 0.693$: the discriminator can
# only guess (chapter 3). Here it does better than guessing from the first epoch to the
# last, and its lead becomes smaller: both curves creep towards the line. But the
# generator's loss is nearly the same after ten epochs as after four, while the faces
# improved all the time. So the curves tell who is winning, and that nobody collapses,
# not how good the faces are: for that we have eyes and a distance.
#
# ## Look
#
# Sixty-four faces from the first sixty-four draws of noise. None was selected.

# %% tags=["result-picture"] mystnb={"image": {"alt": "Sixty-four small colour portraits drawn by the network, most of them convincing at a glance: women and men, dark and fair hair, many backgrounds. Some have smeared hair, uneven eyes or patches of wrong colour."}}
film.photograph(grids.image_grid(pictures[:64], columns=8).figure)

# %% [markdown]
# We have gone through the 64 one by one and asked: is this a face? With a generous eye
# for smears, all but five are, at the first glance: more than nine in ten. At the
# second glance few of them would pass for photographs.
#
# **What goes wrong?** To see the failures, we order a thousand draws by how far their
# features lie from those of the nearest real face, and look at the far end.

# %% mystnb={"image": {"alt": "Sixteen failures: faces against black, with orange and blue patches over hair and cheeks, eyes of different size or hidden in dark bands, hair that is dark on one side and missing on the other."}}
def pair_distances(rows):  # of all pairs of rows, each pair once
    return F.pdist(rows[: cfg.n_pairs].flatten(1))


training = torch.cat([eye.features(part / 255) for part in images.split(1000)])
gaps = torch.cdist(drawn_features[: cfg.n_pairs], training)
nearest_gap, nearest = gaps.min(dim=1)
worst = nearest_gap.argsort(descending=True)
film.photograph(grids.image_grid(pictures[worst[:16]], columns=8).figure)

# %% [markdown]
# In these one eye is larger than the other, hair is dark on one side and missing on the
# other, patches of colour lie over half of a face. Dark pictures are the hardest.
#
# Why do such things happen to a network that draws a convincing cheek? Follow one of
# the first 4 x 4 cells on its way up: each step passes it on to its neighbourhood only.
# A pixel in a corner is computed from one of the sixteen cells, one between two cells
# from several, and none from all (exercise 8 counts them). Both eyes agree only as far
# as their cells were told by the noise to agree: nothing that comes later compares the
# left side of the picture with the right one. Later architectures let distant places
# talk to each other by attention (Zhang et al., 2019), or begin with one code for the
# whole picture that is fed into every level (Karras et al., 2019).
#
# **Copies?** A generator that had learned a few photographs by heart would draw very
# good faces. So we look for the nearest training face of each drawn one, in the space
# of features. What distance is suspicious? That of a *held-out* real face to its
# nearest training face is a fair comparison: it cannot be a copy. (Though the same
# person may appear in both.)

# %% mystnb={"image": {"alt": "Two rows of eight. Above drawn faces, below the nearest photograph of each: similar in pose, hair and background, but other people."}}
of_held_out = torch.cdist(eye.features(held_out / 255), training).min(dim=1).values
record.measure("distance to the nearest training face, drawn / held out (medians)",
               (nearest_gap.median() / of_held_out.median()).item())
print(f"drawn {nearest_gap.median():.1f}, held out {of_held_out.median():.1f}")
closest = nearest_gap.argsort()[:8]
pair = {"drawn": pictures[closest], "nearest real": images[nearest[closest]] / 255}
film.photograph(grids.before_after(pair).figure)

# %% [markdown]
# These are the eight of a thousand that come *closest* to a photograph. They share
# pose, light, hair and background with it, and they are other people. The medians say
# the same: drawn faces lie as far from the training faces as new photographs do. With
# so few epochs there was little chance to learn anybody by heart. The picture to fear
# would be a row of pairs that are equal.
#
# **Always the same?** Mode collapse would show as pairs of draws that are nearly equal.
# We measure all pairs among a thousand draws and, beside them, among a thousand real
# faces. Features alone can mislead: they say little of colour and place. So a pair
# counts as *close* if its features are closer than those of any two real faces, and as
# a *duplicate* if its pixels, averaged over 8 x 8, are as well.

# %%
among_real, among_drawn = pair_distances(others), pair_distances(drawn_features)
coarse, coarse_real = (pair_distances(F.avg_pool2d(x, 8)) for x in (
    pictures, people.images[: cfg.n_pairs] / 255))
near, alike = among_drawn < among_real.min(), coarse < coarse_real.min()
record.measure("close pairs among drawn faces", int(near.sum()))
record.measure("duplicate pairs among drawn faces", int((near & alike).sum()))
print(f"{near.sum()} close pairs of {len(near):,}, {(near & alike).sum()} duplicates")

# %% [markdown]
# Several pairs are close in their features; none of them is close in its pixels as
# well, so there is no duplicate. The eight closest pairs are shown in the solution of
# exercise 7: decide for yourself.
#
# ## Walks in the noise
#
# As in chapter 4 we walk along an arc from one draw to the next, now through eight
# faces and back to the first. The frames are kept for the page, so that the walk can be
# taken without Python.

# %% mystnb={"image": {"alt": "Thirty-two faces in four rows of eight; from each to the next the face changes a little, in hair, age, background and direction of view, and every fourth is one of the drawn faces above."}}
stops = [*scored_z[:8], scored_z[0]]
t = torch.linspace(0, 1, 5, device=device)[:-1]
walk = torch.cat([arc(z0, z1, t) for z0, z1 in itertools.pairwise(stops)])  # (32, 100)
walked = drawn_by(final.average.module, walk)
record.export("walk", {"frames": walked})
film.photograph(grids.image_grid(walked, columns=8).figure)

# %% [markdown]
# Every fourth picture is one of the first row above; in between the generator has to
# invent people, and it does. Hair grows, light changes sides, a smile opens, and hardly
# any picture on the way is worse than its neighbours. (What if the noise is made
# shorter than the generator has practised? Exercise 9.)
#
# ## A direction with a name
#
# In chapter 4 an arrow in the noise turned sneakers into boots. For faces we would like
# an arrow for *glasses*. To find one, somebody has to tell us which faces wear them.
# CelebA's attribute file could; but drawn faces know it exactly, and we may do with
# them what we like. So a small network learns to draw *drawn* faces.

# %%
toys = drawn_faces.draw_faces(cfg.n_drawn, side=cfg.side)
toy_game = new_game(cfg, device, cfg.seed)
play_for(toy_game, toys.images, cfg.drawn_seconds, cfg.batch_size,
         Checkpoint("drawn", record), device)
toy_z, fresh = torch.randn(2, cfg.n_pairs, cfg.noise_size, generator=rng).to(device)

# %% [markdown]
# To read the attribute off a drawn picture we need a judge: logistic regression on the
# features, fitted to half of the drawn faces and tested on the other half.

# %%
wears, seen = toys.attributes["glasses"].long(), eye.features(toys.images.float() / 255)
half = len(wears) // 2
probe = LogisticRegression(C=1e-3, max_iter=3000).fit(seen[:half], wears[:half])
record.measure("glasses read off drawn faces: accuracy",
               probe.score(seen[half:], wears[half:]))


def toys_from(z):
    return drawn_by(toy_game.average.module, z)

# %% [markdown]
# The arrow leads from the mean noise of the tenth of faces that look least like glasses
# to the judge, to that of the tenth that look most like them. As in chapter 4, a random
# arrow of the same length is the control, and the faces it is tried on are new ones.

# %%
order = torch.as_tensor(probe.decision_function(eye.features(toys_from(toy_z))))
tenths = order.argsort().to(device).chunk(10)
arrow = toy_z[tenths[-1]].mean(dim=0) - toy_z[tenths[0]].mean(dim=0)
chance = torch.randn(cfg.noise_size, generator=rng).to(device)
chance *= arrow.norm() / chance.norm()
rows = [(times, *(probe.predict(eye.features(toys_from(fresh + times * way))).mean()
                  for way in (arrow, chance))) for times in (0, 1, 2, 3)]
tables.table(("arrows", "with glasses", "along a random arrow"), rows)

# %% mystnb={"image": {"alt": "Three rows of eight drawn faces. Above real drawn faces, then what the network draws, then the same noise with three arrows added: blurred faces, in the last row all with dark rings around the eyes, paler skin and fuller hair."}}
record.measure("with glasses after 3 arrows", rows[-1][1], floor=rows[-1][2])
shown = {"the program's": toys.images[:8] / 255, "the network's": toys_from(fresh[:8]),
         "with 3 arrows": toys_from(fresh[:8] + 3 * arrow)}
film.photograph(grids.before_after(shown).figure)

# %% [markdown]
# Nearly all get glasses: blurred ones, since this network has played for little more
# than a minute, but the judge and the eye agree. Look at what else has changed: the
# skin is paler and the hair fuller. In the program's faces glasses and hair are drawn
# independently, but an arrow in the noise carries along whatever lies in the same
# direction. And note the control: along a random arrow of this length, too, more faces
# get glasses than before, just fewer. Without the control one would have praised the
# arrow too much.
#
# ## What makes it faster?
#
# Chapter 4 measured three tricks on small grey pictures. With faces the layers are
# larger, and the answer may be another one. Each alone, and together:

# %%
def timed(mixed, channels_last, compiled=False, side=cfg.side, source=images):
    """Images a second; the loss of D in the first and the last step."""
    game = new_game(cfg, device, cfg.seed, mixed=mixed, side=side)
    times, losses = [], []
    layout = torch.channels_last if channels_last else torch.contiguous_format
    for net in (game.g, game.d):
        net.to(memory_format=layout)
        if compiled:
            net.compile()
    for _ in range(cfg.n_timed + 2):  # two to warm up
        rows = torch.randint(len(source), (cfg.batch_size,), generator=rng)
        with runtime.Stopwatch(device) as watch:
            real = batch(source, rows, rng, device, side)
            losses.append(game.step(real.contiguous(memory_format=layout))[0].item())
        times.append(watch.seconds)
    return cfg.batch_size / statistics.median(times[2:]), losses[0], losses[-1]

# %% [markdown]
# Compilation needs a C++ compiler on a CPU, and its first step takes long; it is not
# counted. On a GPU one more thing is tried: all pictures are kept on the device, so
# that no batch travels.

# %%
ways = {"as they come": (False, False), "channels last": (False, True),
        "bfloat16": (True, False), "both": (True, True)}
speeds = {name: timed(*way)[0] for name, way in ways.items()}
if device.type != "cpu":
    speeds["both, data on the device"] = timed(True, True, source=images.to(device))[0]
logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # "no GPU"
if cfg.try_compile:
    try:
        speeds["compiled"] = timed(False, False, compiled=True)[0]
        speeds["all three"] = timed(True, True, compiled=True)[0]
    except torch._dynamo.exc.TorchDynamoException as error:
        print("cannot compile on this machine:", type(error).__name__)
rows = [(name, f"{speed:,.0f}", f"{speed / speeds['as they come']:.2f}")
        for name, speed in speeds.items()]
record.measure("speed with channels last and bfloat16, times as they come",
               speeds["both"] / speeds["as they come"])
tables.table(("way", "images a second", "times as fast"), rows)

# %% [markdown]
# Here *bfloat16* pays most and channels last a little; both together, which is what the
# chapter uses, are fastest. That is not what chapter 4 found with its small grey
# pictures. Compilation makes things slower here. On another machine the order may be
# another one again: measure.
#
# ## From 64 to 128 pixels
#
# The question asked most often about these networks is why a working one breaks when
# its side is doubled. Three mistakes are common. The pictures were enlarged but the
# networks were not: then the last layer of the discriminator, which expects 4 x 4,
# gives several logits in place of one. A level was added to one player only. Or the
# levels are right, but the discriminator has become so good that its advice vanishes.
# So: **one more level in both players**, with half of the channels where the picture is
# largest, which is what `face_widths` computes for both; and a look at the losses.

# %%
rows = [(f"{side}", *timed(True, True, side=side),
         step_memory(new_game(cfg, device, cfg.seed, side=side)))
        for side in (cfg.side, cfg.large_side)]
tables.table(("side", "images a second", "D's loss, first step", "after a few steps",
              "memory, MB"), rows)

# %% [markdown]
# At either side the discriminator begins at $\log 2$, as it should, and then is quick to
# tell real faces from coloured noise: a low loss after a dozen steps is no illness. The
# curve above shows how it comes back within the first epoch.
#
# A few steps prove little, so let the larger network play, with the pictures read again
# at the larger side. On a CPU it gets a minute only, too little for good faces but long
# enough to see whether anything breaks; on a GPU (`full`) it gets two and a half.

# %% mystnb={"image": {"alt": "Eight equal pictures of an even grey-pink with a fine grid: the averaged network of 128 pixels after one minute has drawn nothing yet."}}
large = faces(cfg.folder or None, side=cfg.large_side, limit=cfg.n_large)
record.use(large)
game = new_game(cfg, device, cfg.seed, side=cfg.large_side)
played = play_for(game, large.images[n_held_out:], cfg.large_seconds, cfg.batch_size,
                  Checkpoint("large", record), device).history
print(f"{sum(played['images']):,} images; losses at the end:"
      f" D {played['d_loss'][-1]:.2f}, G {played['g_loss'][-1]:.2f}")
grids.image_grid(played["samples"][-1][:8], columns=4, value_range=(-1, 1));

# %% [markdown]
# Even grey: little more than a hundred steps are nothing, and the samples come from the
# averaged weights, half of which are still the untrained network (exercise 5). The
# losses say more. The minute is less than one epoch, so they are means over all of it,
# and that of the discriminator lies well above its value after a few steps in the
# table: it must have come back since. So the larger network is sound, and what it lacks
# is images. Be patient: a quarter of the speed means that six minutes at 64 are
# twenty-four at 128, and the book's network has shown where impatience leads.
#
# If the loss of D does *not* come back, and the loss of G keeps climbing, help the
# generator: a smaller rate for D, augmentation, or fewer channels in D.
#
# ## More than one device
#
# With two processors one can give each half of every batch. Both hold the same weights;
# each computes the gradient of its half; the mean of both gradients is the gradient of
# the whole batch, and both take the same step. That is **distributed data-parallel**
# training. But is the mean of the gradients of two halves the gradient of the whole?
# Exercise 6 tries it. With groups it is, up to rounding. With batch normalisation it is
# not: half a batch has another mean, so each image is normalised differently, and the
# loss is another function. `SyncBatchNorm` repairs that by exchanging the statistics in
# every layer of every step; PyTorch has it for GPUs only, and it costs time. So the
# training script of this chapter uses groups in both players. It is the same game, with
# PyTorch's `DistributedDataParallel` around the networks:
#
# ```
# torchrun --nproc-per-node=2 notebooks/scripts/train_faces.py --epochs 10
# ```
#
# `torchrun` starts the processes; they talk through `gloo` on CPUs and `nccl` on GPUs.
# Each step, every process takes its share of the same global batch; the first one
# writes the checkpoints. Training can be resumed with another number of processes. If
# one of them dies, the whole job ends with a message, and the last checkpoint is whole.
# The tests of this course hold two processes to the losses of a single one.
#
# ## Touch it
#
# With a live kernel: choose two draws, how far to walk, and how much noise. (On a page
# that does not compute, you see the picture as it was at the start.)

# %%
controls = dict(
    start=widgets.IntSlider(0, min=0, max=99, description="from"),
    end=widgets.IntSlider(1, min=0, max=99, description="to"),
    share=widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.05, description="share"),
    strength=widgets.FloatSlider(1.0, min=0.0, max=1.5, step=0.1, description="noise"),
)
picture = widgets.Image(width=500)
choices = torch.randn(100, cfg.noise_size, generator=rng).to(device)


def redraw(change=None):
    start, end, share, strength = (control.value for control in controls.values())
    shares = torch.tensor([0, share, 1], device=device)
    z = choices[start].expand(3, -1) if start == end else (
        arc(choices[start], choices[end], shares))
    ax = grids.image_grid(drawn_by(final.average.module, strength * z), columns=3)
    picture.value = film.still(ax.figure)


for control in controls.values():
    control.observe(redraw, "value")
redraw()
widgets.VBox([*controls.values(), picture])

# %% [markdown]
# ## Summary
#
# * Count before you train: parameters are what is learned, multiply-adds what is paid
#   in time, activations what a batch costs in memory. A network can be cheap in one and
#   ruinous in another.
# * Batch normalisation over one image erases its brightness and contrast. Normalise
#   over a batch, or over groups of channels.
# * A network that fits its machine sees more images, and images are what it learns
#   from.
# * With few faces a discriminator can learn them by heart, given time. The remedy is to
#   change every picture at random before it is seen, the drawn ones too, and to let the
#   gradient come back through the change. Look first whether there is anything to cure.
# * A small distance is not enough. Look for copies, for duplicates, and at the worst
#   draws; compare the distances among drawn faces with those among real ones.
# * What it cannot do: nothing compares parts of a face that lie far apart; 64 x 64 is
#   small; and whoever is rare in the pictures comes out
#   badly.
#
# ## Exercises
#
# Try each before you open the solution. All run in seconds.
#
# **1. Another plan.** With a kernel of 8 and stride 2 at each of three enlargements,
# which coarse side leads to 64 pixels, if only the last may be padded? Is there a plan
# with kernels of 4 that goes from 4 to 128?

# %% tags=["solution"]
for start in range(1, 12):
    for padding in range(4):
        side = start
        for p in (0, 0, padding):
            side = (side - 1) * 2 + 8 - 2 * p
        if side == 64:
            print(f"from {start}, with padding {padding} at the end")
side, plan = 4, [4]
while side < 128:
    side = (side - 1) * 2 + 4 - 2 * 1  # kernel 4, stride 2, padding 1: twice the side
    plan.append(side)
print(plan)

# %% [markdown]
# **2. How large a batch?** A GPU has 8 GB. How many images a step fit, by our count,
# for the network of the book, and for ours with 128 pixels?

# %% tags=["solution"]
for name in ("of the book", "ours, 128 pixels"):
    n, _, kept = costs[name]
    print(f"{name}: {int((8e9 - 16 * n) / kept):,} images")
# It is an upper limit: libraries need workspace, and the loss, the images and the
# gradients of activations need memory as well.

# %% [markdown]
# **3. Only the real ones?** Suppose that only real faces are moved before the
# discriminator sees them. Find a simple rule that tells moved faces from others,
# without any network. What would the generator learn?

# %% tags=["solution"]
x = company.clone()
moved = shift(x, torch.Generator().manual_seed(0))
for name, faces_now in {"as they are": x, "moved": moved}.items():
    edge = (faces_now[:, :, :, 0] == 0).all(dim=1).float().mean()
    print(f"{name}: {100 * edge:.0f} % of the left edge is exactly grey")
# "A grey edge means real" is right for more than half of the moved faces. The
# discriminator would learn it at once, and the generator would draw grey edges.

# %% [markdown]
# **4. The floor.** Compute the Fréchet distance between two sets of $n$ *real* faces
# for several $n$. What does that say about comparing distances from different papers?

# %% tags=["solution"]
for n in (100, 300, 1000, 2500):
    a, b = reference[:n], others[:n]
    if len(a) == n:
        print(f"{n:5,} faces: {metrics.frechet_distance(a, b):,.0f}")
# The same distribution on both sides, and yet the distance is far from zero and falls
# with n: 512 means and 131,328 covariances are estimated from n faces. Compare only
# distances for equal n, in the same features.

# %% [markdown]
# **5. How long is the memory of an average?** With our decay, what share of the
# averaged weights comes from the last 100, 300, 1,000 steps? What if a game lasts only
# 100 steps?

# %% tags=["solution"]
for steps in (100, 300, 1000):
    print(f"last {steps:5,} steps: {100 * (1 - cfg.decay**steps):.0f} %")
# What is missing to 100 % comes from before. After 100 steps that is mostly the
# untrained network. For a short game choose a smaller decay, or average later.

# %% [markdown]
# **6. Two halves of a batch.** Compare the gradient of one discriminator for a batch of
# 32 with the mean of the gradients for its halves: once with `group`, once with batch
# normalisation. And is the mean right if one process gets 8 images and the other 24?

# %% tags=["solution"]
x = batch(images, torch.arange(32), rng, device, cfg.side)


def gradient(d, x):
    return torch.cat([part.flatten() for part in
                      torch.autograd.grad(bce(d(x), 1.0), list(d.parameters()))])


for norm in (group, nn.BatchNorm2d):
    torch.manual_seed(cfg.seed)
    d = face_discriminator(8, cfg.side, norm).to(device)
    whole = gradient(d, x)
    for sizes_of_parts in ((16, 16), (8, 24)):
        parts = torch.stack([gradient(d, part) for part in x.split(sizes_of_parts)])
        gap = (parts.mean(dim=0) - whole).norm() / whole.norm()
        print(f"{norm.__name__}, {sizes_of_parts}: relative difference {gap:.1e}")
# With groups equal halves agree up to rounding. Half a batch has another mean and
# deviation, so with batch normalisation it is another function. And the plain mean,
# which DistributedDataParallel takes, is right only if all get equally many images.

# %% [markdown]
# **7. Half of the variety.** Suppose that a generator draws only the 500 first of the
# real faces, perfectly. Would the Fréchet distance notice? Would our search for
# duplicates?

# %% tags=["solution"]
n = min(500, len(others) // 2)
again = others[:n].repeat(len(others) // n, 1)
for name, those in {"500 faces": again, "all": others[: len(again)]}.items():
    print(f"{name}: {metrics.frechet_distance(reference[: len(again)], those):,.0f}")
same = pair_distances(again[torch.randperm(len(again), generator=rng)])
print(f"duplicate pairs: {(same < among_real.min()).sum()} of {len(same):,}")
# The distance grows, but one needs the floor to notice. The search finds the copies at
# once. One number is never enough. And these are the closest pairs of our network:

# %% tags=["solution"] mystnb={"image": {"alt": "Two rows of eight drawn faces, each above the one that is nearest to it in features: similar light and pose, but different faces, hair and backgrounds."}}
first, second = torch.triu_indices(len(gaps), len(gaps), 1)  # in the order of pdist
closest = among_drawn.topk(8, largest=False).indices
pair = {"one": pictures[first[closest]], "the other": pictures[second[closest]]}
film.photograph(grids.before_after(pair).figure)

# %% [markdown]
# **8. How local is it?** On how many of the sixteen first cells does a pixel in the
# corner depend, and on how many one nearer to the middle? (Normalisation over the batch
# is not counted: leave it out.)

# %% tags=["solution"]
plain = face_generator(cfg.noise_size, 4, cfg.side, norm=nn.Identity)
cells = torch.randn(1, plain[1].out_channels, 4, 4, requires_grad=True)
drawn = plain[2:](cells)
for row in (0, 2, 3 * cfg.side // 8):
    pixel = drawn[0, :, row, row].sum()
    (slope,) = torch.autograd.grad(pixel, cells, retain_graph=True)
    print(f"pixel ({row}, {row}): {(slope.abs().sum(dim=1) > 0).sum()} of 16 cells")
# A corner knows next to nothing of the rest of the picture. What makes the two halves
# of a face fit is the noise alone, which all cells have in common.

# %% [markdown]
# **9. Truncation.** Noise of great length is rare, and the generator has had little
# practice with it. Multiply all noise by a factor below 1. What does that buy, and what
# does it cost? Look at the Fréchet distance, at the mean distance of two faces, and at
# the faces.

# %% tags=["solution"] mystnb={"image": {"alt": "Three rows of eight faces from the same noise, multiplied by 1, 0.7 and 0.4: the second row is paler and softer, the third nearly even brown."}}
truncated = {}
for factor in (1.0, 0.7, 0.4):
    shrunk = drawn_by(final.average.module, factor * scored_z)
    distance, features = score(shrunk)
    spread = (pair_distances(features).mean() / among_real.mean()).item()
    print(f"times {factor}: distance {distance:,.0f}; pairs, drawn / real {spread:.2f}")
    truncated[f"times {factor}"] = shrunk[:8]
film.photograph(grids.before_after(truncated).figure)

# %% [markdown]
# In other networks truncation buys better faces for less variety. Here it buys nothing:
# the faces lose their contrast and move away from the real ones, and they become more
# alike. Whether it pays is a property of the network, to be measured.
#
# ## References
#
# * D. Hendrycks, K. Gimpel. *Gaussian error linear units (GELUs).* 2016.
#   <https://doi.org/10.48550/arXiv.1606.08415>
# * F. Iandola et al. *SqueezeNet: AlexNet-level accuracy with 50x fewer parameters and
#   <0.5MB model size.* 2016. <https://doi.org/10.48550/arXiv.1602.07360>
# * T. Karras, S. Laine, T. Aila. *A style-based generator architecture for generative
#   adversarial networks.* CVPR 2019. <https://doi.org/10.48550/arXiv.1812.04948>
# * Z. Liu, P. Luo, X. Wang, X. Tang. *Deep learning face attributes in the wild.* ICCV
#   2015. <https://doi.org/10.48550/arXiv.1411.7766>
# * T. Miyato, T. Kataoka, M. Koyama, Y. Yoshida. *Spectral normalization for generative
#   adversarial networks.* ICLR 2018. <https://doi.org/10.48550/arXiv.1802.05957>
# * A. Radford, L. Metz, S. Chintala. *Unsupervised representation learning with deep
#   convolutional generative adversarial networks.* ICLR 2016.
#   <https://doi.org/10.48550/arXiv.1511.06434>
# * T. Rashid. *Make your first GAN with PyTorch.* 2020.
# * Y. Wu, K. He. *Group normalization.* ECCV 2018.
#   <https://doi.org/10.48550/arXiv.1803.08494>
# * H. Zhang, I. Goodfellow, D. Metaxas, A. Odena. *Self-attention generative
#   adversarial networks.* ICML 2019. <https://doi.org/10.48550/arXiv.1805.08318>
# * S. Zhao, Z. Liu, J. Lin, J.-Y. Zhu, S. Han. *Differentiable augmentation for
#   data-efficient GAN training.* NeurIPS 2020.
#   <https://doi.org/10.48550/arXiv.2006.10738>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %%
record.card()
