# %% [markdown]
# # 7. Style transfer: train the picture, not the network
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/07_style_transfer.ipynb)
#
# In every chapter so far a network learned and the pictures stood still. Here it is the
# other way round: you will take a network that somebody else has trained, never touch
# it, and change a *picture* until the network sees in it the things of a photograph and
# the brush of a painting.
#
# ![Three pictures side by side: a photograph, a painting, and the photograph with the colours and strokes of the painting.](attachment:result.png)
#
# *A photograph, a painting, and the first in the manner of the second.*
#
# **Time to run:** at most 40 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); at most 10 on a GPU (`full`).

# %% [markdown]
# ## What is trained
#
# A network that was trained to name the thing in a photograph turns it, layer by layer,
# into other numbers: first edges and colours, later parts of things. Gatys, Ecker and
# Bethge (2016) found two uses for them. *Which* numbers stand *where* tells what a
# photograph shows. *Which numbers occur together*, no matter where, tells how a picture
# is painted. So they asked for a picture that agrees with a photograph in the first
# respect and with a painting in the second, and found it as one finds the weights of a
# network: by following a gradient. Only this time the gradient goes to the pixels.
#
# The chapter takes that idea apart: what each layer knows, what the two losses measure,
# which optimiser suits pixels, what a popular way to write it down costs, how much
# memory it needs, and whether a network can learn to do it in a single pass.

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

import copy
import math
from dataclasses import dataclass
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import psutil
import torch
import torch.nn.functional as F
from IPython.display import Image, display
from matplotlib_inline.backend_inline import set_matplotlib_formats
from scipy.optimize import minimize
from torch import nn
from torch.utils.checkpoint import checkpoint

from genlab_helpers import figures, film, grids, pictures, pretrained
from genlab_helpers import runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# All numbers that you may want to change. An *evaluation* is one look of the network at
# the picture together with its gradient: what costs time here. What was chosen by
# trying (the weight of style, the history of the optimiser) was chosen by eye and by
# the loss, on the first photograph and the first painting of the lists.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    photo: str = "astronaut"  # a name of pictures.PHOTOGRAPHS, or the path of a file
    painting: str = "starry_night"  # a name of pictures.PAINTINGS, or a path
    side: int = 256  # pixels, of the main result
    evals: int = 300  # evaluations for it
    reach: str = "conv5_1"  # the deepest convolution that we would like to have
    style_weight: float = 100.0  # of the style loss; the content loss has weight 1
    tv_weight: float = 1e-2  # of total variation
    memory: int = 25  # gradient differences that L-BFGS keeps
    spectral: float = 0.5  # how much slow changes over the picture are favoured
    small: int = 128  # pixels, of comparisons
    look_evals: int = 60  # evaluations of a reconstruction or a texture
    compare_evals: int = 150  # of each method, when methods are compared
    strip_evals: int = 100  # of each picture in a strip
    style_weights: tuple = (1.0, 10.0, 100.0, 1_000.0, 10_000.0)  # four decades
    grid_evals: int = 200  # of each picture in the grid ...
    grid_photos: int = 4  # ... of so many photographs
    grid_paintings: int = 5  # ... and paintings
    frames: int = 24  # of the animation
    sides: tuple = (256, 512, 1024)  # pixels, for the cost
    repeats: int = 2  # evaluations behind each measured cost
    large: int = 512  # pixels, for coarse to fine ...
    large_evals: int = 120  # ... with so many evaluations directly
    channels: int = 16  # of the network that paints in one pass
    crop: int = 96  # pixels, of the pieces it learns from
    learn_seconds: float = 240.0  # seconds that it may learn


cfg = Config.for_profile(
    smoke=dict(side=48, evals=6, reach="conv3_4", small=32, look_evals=2,
               compare_evals=4, strip_evals=2, style_weights=(1.0, 100.0),
               grid_evals=2, grid_photos=2, grid_paintings=2, frames=3,
               sides=(32, 64), repeats=1, large=64, large_evals=6, channels=4, crop=32,
               learn_seconds=0.5),
    full=dict(small=256, grid_evals=300, learn_seconds=120.0, channels=32, crop=192),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("07_style_transfer", cfg, device)
figures.use_style()
# As PNG, photographs would be several times as large.
set_matplotlib_formats("jpg", pil_kwargs={"quality": 82})
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## Pictures
#
# A picture is known by its name (the lists are below: paintings in the public domain,
# photographs in the public domain or CC0), by the path of a file of yours, or by the
# bytes of an upload. In Colab the last is two lines:
#
# ```python
# from google.colab import files
# mine = pictures.load(next(iter(files.upload().values())), side=256)
# ```
#
# The longer side gets the length you ask for and the aspect ratio stays; `square=True`
# cuts out the middle instead. Transparent pixels are laid over white, grey pictures get
# three equal colours, and a phone's note that the picture lies on its side is obeyed.

# %% mystnb={"image": {"alt": "Nine pictures with their names: four photographs (an astronaut, a rocket, a cat, a cup of coffee) and five paintings (The Starry Night, The Scream, The Great Wave, Composition VII, The Shipwreck)."}}
def load(name, side=None):
    """A named picture, cut to a square, noted in the record."""
    picture = pictures.load(name, side or cfg.small, square=True)
    record.use(picture)
    return picture


photos = {name: load(name) for name in pictures.PHOTOGRAPHS[: cfg.grid_photos]}
paintings = {name: load(name) for name in pictures.PAINTINGS[: cfg.grid_paintings]}
photo, painting = load(cfg.photo, cfg.side), load(cfg.painting, cfg.side)
shown = photos | paintings
ax = grids.image_grid(torch.cat([picture.x for picture in shown.values()]), columns=5,
                      titles=[name.replace("_", " ")[:14] for name in shown])
figures.caption_source(ax.figure, photo);

# %% [markdown]
# What cannot work is refused, with the reason and the remedy: a file that is no
# picture or is cut off, a side of fewer than 32 pixels, a file of more than 64 million
# pixels (whose need of memory is stated instead of taken), a name that nobody knows.
#
# The photograph and the painting that the settings name are those we will use most.
#
# ## The network that looks
#
# VGG19 (Simonyan and Zisserman, 2015) is a plain stack: 3 x 3 convolutions, each
# followed by a ReLU, and now and then a 2 x 2 maximum that halves the picture. A layer
# is called after its block and its place in it; `conv3_1` is the first convolution
# after the second halving. Torchvision's file of weights has 548 MB, nearly all of it
# for the classifier at the end, which we do not need. So after a download only the part
# up to `conv5_1` is kept on your disk. If the data folder has a part of the weights
# already, that is used, as far as it goes.

# %%
last = min(cfg.reach, pretrained.deepest())  # "conv3_4" comes before "conv5_1"
vgg = pretrained.vgg19("relu5_1" if last == "conv5_1" else last, device)
record.use(vgg)
layers, names = vgg.layers, list(dict(vgg.layers.named_children()))
print(f"{vgg.name}, from: {vgg.origin}")
tables.table(("convolutions up to", "MB of weights, float32"), [
    (name, 4e-6 * sum(w.numel() for w in layers[: k + 1].parameters()))
    for k, name in enumerate(names) if name.startswith("conv")])

# %% [markdown]
# The first five convolutions are the 2 MB that a popular tutorial uses; eight take 9
# MB, and the layers of the original paper, which go up to `conv5_1`, 52 MB. Which sets
# are at hand depends on the weights that were found:

# %%
LAYERS = {  # name -> content layers, style layers
    "first five": (["conv2_2"],
                   ["conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1"]),
    "first eight": (["conv3_2"], ["relu1_1", "relu2_1", "relu3_1", "conv3_4"]),
    "Gatys": (["relu4_2"], ["relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1"])}
at_hand = {k: v for k, v in LAYERS.items() if {*v[0], *v[1]} <= {*names}}
five, deepest = LAYERS["first five"], list(at_hand.values())[-1]
print("at hand:", ", ".join(at_hand))

# %% [markdown]
# Its weights stand still: no gradient is asked for them, which saves a third of the
# work. To look at a picture is to run it through the layers and keep what comes out of
# those that we name. A slice of a loop is enough; no layer has to be changed for it.
# The network was trained on colours with a certain mean and spread, so that *looking*
# begins by bringing ours there.

# %%
def normalised(x):
    """Pictures (B, 3, H, W) in [0, 1] -> colours as the network was trained on."""
    mean, std = (x.new_tensor(v).view(1, 3, 1, 1)
                 for v in (pretrained.MEAN, pretrained.STD))
    return (x - mean) / std


def look(layers, x, names):
    """What comes out of the named layers: name -> (B, C, H, W)."""
    seen, x = {}, normalised(x)
    for name, layer in layers.named_children():
        x = layer(x)
        if name in names:
            seen[name] = x
        if len(seen) == len(set(names)):
            return seen
    raise KeyError(f"no layers {set(names) - set(seen)}; see pretrained.VGG_LAYERS")


shallow = layers[: 1 + names.index("conv3_1")]  # enough for the first five
x_photo, x_painting = photo.x.to(device), painting.x.to(device)
x_small, p_small = (load(name).x.to(device) for name in (cfg.photo, cfg.painting))

# %% [markdown]
# ## What a layer sees
#
# **Filters.** The first convolution looks at 3 x 3 pixels in three colours, so that its
# 64 filters can be looked at as tiny pictures (each is stretched to its own range).

# %% mystnb={"image": {"alt": "64 tiny colour pictures of 3 by 3 pixels: light to dark edges in several directions, and fields of opposite colours."}}
filters = layers.conv1_1.weight.cpu()
low, high = filters.amin(dim=(1, 2, 3), keepdim=True), filters.amax((1, 2, 3), True)
grids.image_grid((filters - low) / (high - low), columns=16);

# %% [markdown]
# Two kinds stand out. Grey ones, dark on one side and light on the other, answer to
# edges in several directions. Coloured ones, a patch of one colour in the middle of
# darkness or of another colour, answer to that colour wherever it is. Nobody drew them:
# they are what helped to tell a thousand kinds of things apart. (With the random
# stand-in there is nothing to see but noise.)
#
# **Feature maps.** Where does each filter answer? Six channels of three layers:

# %% mystnb={"image": {"alt": "Three rows of six grey pictures, channels of the layers relu1_1, relu2_1 and relu3_1 for the photograph: outlines and colour fields first, coarser and sparser patterns later."}}
some = ("relu1_1", "relu2_1", "relu3_1")
rows = {}
for name, f in look(layers, x_small, some).items():
    f = f[0, :6, None].cpu()  # six channels (6, 1, h, w)
    f = f / f.amax(dim=(2, 3), keepdim=True).clamp(min=1e-6)
    rows[name] = F.interpolate(f, size=(cfg.small, cfg.small), mode="nearest")
grids.before_after(rows);

# %% [markdown]
# Near the pixels a channel is a drawing of the photograph: outlines in one direction,
# or all of one colour. After two halvings it is coarse, and answers at fewer places.
#
# **How much is left of the photograph?** To find out, we look for a picture that gives
# a layer the same numbers, starting from grey noise and knowing nothing else. That is
# the whole method of this chapter in its plainest form: a picture, a loss, a gradient.
# Two things about how we write down the picture will be explained when we come to the
# optimiser; here is what they are for. `free_numbers` expresses a picture by numbers
# that may take any value, so that no pixel can leave $[0, 1]$, and `paint` lets L-BFGS
# change them.

# %%
def free_numbers(start, power):
    """Numbers q (zeros), and q -> a picture in [0, 1], which for q = 0 is the start."""
    height, width = start.shape[2:]
    base = torch.acos(1 - 2 * start.clamp(0.01, 0.99))
    down = torch.fft.fftfreq(height, device=start.device)[:, None]
    across = torch.fft.rfftfreq(width, device=start.device)
    cycles = (down**2 + across**2).sqrt()  # a pixel, of each frequency
    scale = (cycles.clamp(min=4 / max(height, width)) / cycles.max()) ** -power

    def to_picture(q):
        change = torch.fft.irfft2(torch.fft.rfft2(q) * scale, s=(height, width))
        return (1 - torch.cos(base + change)) / 2

    return torch.zeros_like(base).contiguous().requires_grad_(), to_picture

# %% [markdown]
# The line search of L-BFGS may look once or twice more than it was allowed to, so that
# `paint` returns the best picture of the first `n` evaluations.

# %%
def paint(loss_of, start, n, power=None, memory=None, rate=None, keep=()):
    """Change the picture start (1, 3, H, W) so that loss_of(picture) becomes small.

    n evaluations of L-BFGS, or of Adam if a rate is given. Returns the best picture,
    in [0, 1], and the loss and seconds of each evaluation; with the pictures in keep.
    """
    q, to_picture = free_numbers(start, cfg.spectral if power is None else power)
    optimizer = torch.optim.Adam([q], rate) if rate else torch.optim.LBFGS(
        [q], max_iter=n, max_eval=n, history_size=memory or cfg.memory,
        tolerance_grad=0, tolerance_change=0, line_search_fn="strong_wolfe")
    history, best = dict(loss=[], seconds=[], frames=[]), [start]

    def closure():
        optimizer.zero_grad()
        loss = loss_of(x := to_picture(q))
        loss.backward()
        note(history, best, x.detach(), loss.item(), watch.seconds, n, keep)
        return loss

    with runtime.Stopwatch(start.device) as watch:
        while len(history["loss"]) < n:
            optimizer.step(closure)
    return best[0], history


def note(history, best, x, loss, seconds, n, keep):
    """Write down one evaluation, if it is one of the first n."""
    if len(history["loss"]) < n:
        if loss <= min(history["loss"], default=math.inf):
            best[0] = x
        history["loss"].append(loss)
        history["seconds"].append(seconds)
        if len(history["loss"]) in keep:
            history["frames"].append(best[0].cpu())

# %% [markdown]
# How far two sets of numbers are apart we measure *relative to the size of the second*:
# mean square of the difference over mean square of what was wanted. Then 1 means "as
# wrong as if all were zero", in any layer and for any network, and weights mean the
# same everywhere.

# %%
def relative_error(seen, wanted):
    return F.mse_loss(seen, wanted.expand_as(seen)) / wanted.square().mean()


def content_loss(seen, wanted):
    """Mean over the layers in wanted (name -> (B, C, H, W)) of the relative error."""
    return sum(relative_error(seen[n], wanted[n]) for n in wanted) / len(wanted)

# %% [markdown]
# Some of what follows takes minutes. `kept` saves what was computed, so that a run that
# was killed can go on from there.

# %%
def kept(name, compute, *inputs, **options):
    """The dictionary compute(...), saved so that a killed run resumes."""
    saved = Checkpoint(name, record)
    state = saved.load()
    if state is None:
        state = compute(*inputs, **options)
        saved.save(**state)
    return state

# %% [markdown]
# One layer at a time, then, from grey noise:

# %% mystnb={"image": {"alt": "The photograph and its reconstructions from one layer at a time: no difference to be seen from the first three; from the last, conv3_4, the same photograph with false fine texture in the face, the hair and the suit."}}
def reconstructed(name):
    wanted = look(layers, x_small, [name])
    return paint(lambda x: content_loss(look(layers, x, [name]), wanted), grey,
                 cfg.look_evals)[0].cpu()


grey = 0.5 + 0.05 * torch.randn(x_small.shape, generator=rng).to(device)
again = kept("layers", lambda: {name: reconstructed(name) for name in deepest[1]})
grids.image_grid(torch.cat([x_small.cpu(), *again.values()]), columns=1 + len(again),
                 titles=["photograph", *again]);

# %% [markdown]
# From the first three layers the photograph comes back as it was, as far as one can see
# at this size. From `conv3_4` everything still stands where it stood, but face, hair
# and suit have got a fine texture that the photograph does not have: the layer no
# longer knows exactly how a surface looks, only what is there. (Gatys and his
# colleagues went further up, and more was lost.) That is what "content" is going to
# mean: numbers of a deep layer, *in their places*.
#
# ## Forgetting where
#
# The style of a painting is the same in its left and its right half. So a description
# of style must not care about places. For each layer Gatys and his colleagues take the
# **Gram matrix**: for each two channels, the mean over all places of their product,
#
# $$G_{ij} = \frac{1}{HW} \sum_{h, w} F_{ihw}\, F_{jhw} .$$
#
# It says how strong each channel is (on the diagonal) and which channels are strong
# *together*, say a yellow one and a round one. By hand, with three channels of 2 x 2
# places:

# %%
def gram(f):
    """Features (B, C, H, W) -> (B, C, C): mean products of every two channels."""
    f = f.flatten(2)  # (B, C, H * W)
    return f @ f.mT / f.shape[2]


f = torch.tensor([[[1.0, 0.0], [0.0, 1.0]],  # one channel answers on the diagonal
                  [[2.0, 0.0], [0.0, 0.0]],  # one in the first corner only
                  [[0.0, 1.0], [1.0, 0.0]]])[None]  # and one off the diagonal
print(gram(f)[0])

# %% [markdown]
# Check one entry: channels 1 and 2 are both on in the first corner only, $1 \cdot 2$,
# and the mean over four places is $0.5$. Channels 1 and 3 are never on together, so
# their entry is $0$. It is the matrix of a sum of squares: symmetric, and
# $v^\top G v = \frac{1}{HW} \sum_{h,w} (\sum_i v_i F_{ihw})^2 \ge 0$ for every $v$.
#
# What does it forget? Every order of the places gives the same sum:

# %%
def shuffled(f):  # (B, C, H, W), the same features at other places
    order = torch.randperm(f[0, 0].numel(), generator=torch.Generator().manual_seed(0))
    return f.flatten(2)[:, :, order.to(f.device)].view_as(f)


f, other = (look(shallow, x, ["conv2_1"])["conv2_1"]
            for x in (x_small, shuffled(x_small)))
for name, g in {"features": shuffled(f), "pixels": other}.items():
    print(f"{name} shuffled: features differ by {relative_error(g, f):.2g},"
          f" Gram matrices by {relative_error(gram(g), gram(f)):.1g}")

# %% [markdown]
# The second line matters just as much. Shuffling the *pixels* does change the Gram
# matrix, because each number of a layer describes a whole neighbourhood of the picture.
# So it keeps what neighbourhoods look like and forgets where they are: exactly what one
# would call a texture. (Li et al. (2017) put it another way: to match Gram matrices is
# to match the distributions of features over places, as far as a certain kernel can
# tell them apart.)
#
# **Textures from Gram matrices alone.** Ask for a picture with the painting's Gram
# matrices up to a given layer, and for nothing else:

# %%
def style_loss(seen, grams):
    """Mean over the layers in grams (name -> (1, C, C)) of the relative error."""
    return sum(relative_error(gram(seen[n]), grams[n]) for n in grams) / len(grams)


def grams_of(layers, x, names):
    """The Gram matrices of a picture: name -> (1, C, C), without gradient."""
    return {name: gram(f).detach() for name, f in look(layers, x, names).items()}

# %% [markdown]
# With one layer more each time:

# %% mystnb={"image": {"alt": "The painting and four textures made from its Gram matrices, with one more layer each time: first blue and black grains with a yellow spot, then short wavy strokes, then curls and lights, at last swirls, stars and dark flame-like forms as in the painting, but at other places."}}
def texture(layers, names):
    wanted = grams_of(layers, p_small, names)
    return paint(lambda x: style_loss(look(layers, x, names), wanted), grey,
                 cfg.look_evals)[0].cpu()


made = kept("textures", lambda: {name: texture(layers, deepest[1][: k + 1])
                                 for k, name in enumerate(deepest[1])})
grids.image_grid(torch.cat([p_small.cpu(), *made.values()]), columns=1 + len(made),
                 titles=["painting", *(f"to {name}" for name in made)]);

# %% [markdown]
# With the first layer alone there are grains of the right colours. The second makes
# short wavy strokes of them, the third bends the strokes into curls, and with the
# fourth there are swirls, lights and dark flames, as in the painting, but not where the
# painting has them. No sky, no village, no tree: the *things* are gone, and the manner
# is there.
#
# **Does the network have to be trained?** The same textures with VGG's architecture and
# *random* filters, orthogonal to each other, which have never seen a picture:

# %%
def random_like(layers):
    """The same architecture with orthogonal random filters and no bias."""
    fresh = copy.deepcopy(layers)
    for layer in fresh:
        if isinstance(layer, nn.Conv2d):
            nn.init.orthogonal_(layer.weight, gain=math.sqrt(2))
            nn.init.zeros_(layer.bias)
    return fresh

# %% [markdown]
# The same layers, the same start, the same number of evaluations:

# %% mystnb={"image": {"alt": "Three pictures: the painting; a texture from the trained network, with curved strokes; and one from random filters, with the same blue, black and yellow in patches of similar size, but no strokes."}}
blind = random_like(shallow)
pair = kept("random filters", lambda: {"trained": texture(shallow, five[1]),
                                       "random": texture(blind, five[1])})
grids.image_grid(torch.cat([p_small.cpu(), *pair.values()]), columns=3,
                 titles=["painting", *pair], ax=plt.subplots(figsize=(6, 2.3))[1]);

# %% [markdown]
# The random filters get the colours right, and how large the patches of each are, which
# is surprisingly much for a network that knows nothing. Strokes and curls they do not
# find. Why do they get so far? One reason can be proved for
# the first layer. Its filters are a matrix $W$ of 64 rows and 27 columns, one column
# for each number in a 3 x 3 neighbourhood $u$ of three colours. Then
# $G = \overline{W u\, u^\top W^\top} = W M W^\top$, where
# $M = \overline{u u^\top}$ says how each two
# numbers of a neighbourhood go together, the mean over all of them. And if the columns
# of $W$ are orthogonal, with $W^\top W = 2\, \mathbb{1}$ for our gain, $M$ can be had
# back: $M = \frac{1}{4} W^\top G W$. No filter has to *mean* anything for that;
# exercise 2 checks it with numbers. So random orthogonal filters lose nothing of these
# pairs, and a trained first layer asks for the same in other words. What training adds
# comes deeper, where the trained layers see more of what *we* look for. Content is
# another matter: what a thing is, random filters cannot tell.
#
# ## The losses
#
# All is there. The picture $x$ that we want makes this small:
#
# $$L(x) = L_\text{content}(x) + \beta\, L_\text{style}(x) + \gamma\, L_\text{TV}(x) .$$
#
# The last term, total variation, is the mean square of the difference between
# neighbours. It is there to quieten single wild pixels and has a small weight.

# %%
def total_variation(x):
    """Mean squared difference of neighbours, down and across; x (B, 3, H, W)."""
    return x.diff(dim=2).square().mean() + x.diff(dim=3).square().mean()


def targets(layers, x_photo, x_painting, names):
    """What a transfer aims at: content features, Gram matrices (name -> tensor)."""
    wanted = {n: f.detach() for n, f in look(layers, x_photo, names[0]).items()}
    return wanted, grams_of(layers, x_painting, names[1])


def goal(layers, wanted, grams, style_weight=None, look=look):
    """The loss of a picture x (1, 3, H, W), as a function of x alone."""
    beta = cfg.style_weight if style_weight is None else style_weight

    def loss_of(x):
        seen = look(layers, x, {*wanted, *grams})
        return (content_loss(seen, wanted) + beta * style_loss(seen, grams)
                + cfg.tv_weight * total_variation(x))

    return loss_of


f, wanted = (look(shallow, x, ["conv2_2"])["conv2_2"] for x in (p_small, x_small))
for loud in (1, 100):
    print(f"{loud} times: squared error {F.mse_loss(loud * f, loud * wanted):.3g},"
          f" relative error {relative_error(loud * f, loud * wanted):.4f}")

# %% [markdown]
# The two published sets of VGG19 weights differ a lot in the size of what they compute:
# one gives numbers of a few units, the other of hundreds. With a plain squared error
# the weight $\beta$ would have to change by orders of magnitude between them. With
# relative errors it cannot matter. The last lines of the cell let a layer speak a
# hundred times as loud.
#
# > **Aside: the transparent loss layer.** A popular tutorial writes the losses as
# > *layers*. A content layer is put into the network behind a convolution; it returns
# > its input unchanged, so that the network does not notice it, and on the way stores
# > in itself how far that input is from its target. After a pass the losses are
# > collected from all those layers. It works, and the picture of a probe clipped to a
# > wire is a good one. But the call `model(x)` is made for its side effects and its
# > result is thrown away. A new photograph or another set of layers needs a new
# > network, a loss belongs to whichever picture was last passed, and nothing can be
# > tested without building all of it. A function from features to a number has none of
# > these troubles, and is shorter.
#
# To measure what it costs we need that design too. It gets the same losses, the same
# layers and the same weights, and it keeps two habits of its many copies: the network's
# weights go on collecting gradients that nobody uses, and pixels are clamped inside the
# closure.

# %%
class Probe(nn.Module):
    """A layer that returns its input, and on the way stores a loss in itself."""

    def __init__(self, measure, target):
        super().__init__()
        self.measure, self.target, self.loss = measure, target, None

    def forward(self, f):
        self.loss = relative_error(self.measure(f), self.target)
        return f


def probed(layers, wanted, grams, frozen=False):
    """The loss of a picture by probes behind the named layers of a copy."""
    net, content, style = nn.Sequential(), [], []
    for name, layer in copy.deepcopy(layers).named_children():
        net.append(layer.requires_grad_(not frozen))
        if name in wanted:
            content.append(Probe(nn.Identity(), wanted[name]))
            net.append(content[-1])
        if name in grams:
            style.append(Probe(gram, grams[name]))
            net.append(style[-1])

    def loss_of(x):
        net(normalised(x))  # for what it leaves in the probes
        parts = [sum(p.loss for p in group) / len(group) for group in (content, style)]
        return (parts[0] + cfg.style_weight * parts[1]
                + cfg.tv_weight * total_variation(x))

    return loss_of

# %% [markdown]
# Do both say the same? They must, and so must the gradient for the pixels:

# %%
aims = targets(shallow, x_small, p_small, five)
ours, theirs = goal(shallow, *aims), probed(shallow, *aims)
test = torch.rand(x_small.shape, generator=rng).to(device).requires_grad_()
slopes = [torch.autograd.grad(loss(test), test)[0] for loss in (ours, theirs)]
print(f"losses {ours(test):.5f} and {theirs(test):.5f},"
      f" gradients differ by {relative_error(*slopes):.0e}")

# %% [markdown]
# ## The optimiser
#
# A picture of 256 x 256 pixels has 196,608 numbers. That is a small network, and there
# is no noise in its loss, since the network looks at all of it each time. For such
# problems there are better methods than those made for mini-batches.
#
# **What L-BFGS does.** Newton's method would divide the gradient by the curvature, and
# for that needs the matrix of second derivatives, the Hessian. L-BFGS (Liu and Nocedal,
# 1989) never forms it. After a step $s$ the gradient has changed by $y$, and a change
# of gradient along a step *is* curvature along it: $y \approx H s$. It keeps the last
# few pairs $(s, y)$ and builds from them, in two loops of inner products, the product
# of an approximate $H^{-1}$ with the gradient.

# %%
def newton_like(gradient, steps, changes):
    """L-BFGS's inverse Hessian times gradient (D,), from pairs (s, y), oldest first."""
    q, alphas = gradient.clone(), []
    for s, y in zip(reversed(steps), reversed(changes)):
        alphas.append((s @ q) / (s @ y))
        q -= alphas[-1] * y
    q *= (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])  # size of the latest
    for s, y, alpha in zip(steps, changes, reversed(alphas)):
        q += s * (alpha - (y @ q) / (s @ y))
    return q


curvature = torch.tensor([1.0, 10.0, 100.0])  # a valley, steep one way
steps = list(torch.eye(3))
changes = [curvature * s for s in steps]
print("L-BFGS:", newton_like(torch.ones(3), steps, changes).tolist())
n = 3 * cfg.side**2
print(f"the Hessian: {4 * n**2 / 1e9:,.0f} GB;"
      f" {cfg.memory} pairs: {8 * cfg.memory * n / 1e6:.0f} MB")

# %% [markdown]
# The gradient was 1 along each axis. The answer is the gradient divided by the
# curvature of its axis, as Newton would have it. With fewer pairs than dimensions it is
# right only in the directions that were visited lately. And from the method follow two
# rules.
#
# *It needs a closure.* One step may look at several points: the line search tries a
# length, and accepts it if the loss has fallen enough and the slope has flattened. So
# the optimiser must be able to ask for loss and gradient itself.
#
# *What the closure says must be true.* $y$ is a difference of two gradients of *one*
# function at two points whose distance is $s$. Whoever moves the pixels inside the
# closure (`x.data.clamp_(0, 1)`) makes $s$ wrong, and whoever returns another number
# than the one that was back-propagated misleads the line search.
#
# **Pixels in [0, 1].** Then how to keep a pixel from becoming 1.3? Two honest ways. A
# method that knows about bounds *projects* each of its own steps: that is L-BFGS-B (in
# SciPy). Or one writes the picture as $x = \frac{1 - \cos p}{2}$ and changes $p$, which
# may be any number. That is what `free_numbers` does. It does one thing more. A change
# $q$ is drawn out over the frequencies $f$ of the picture with weight $f^{-1/2}$, so
# that broad changes of colour, which concern many pixels at once, are as easy to reach
# as fine ones (a *preconditioner*; Mordvintsev et al., 2018, show what such a choice
# can do).
#
# Here are the ways to do it wrong and right, from the same start and with the same
# number of evaluations. The loss is taken at the end, of pixels in $[0, 1]$.

# %%
def paint_pixels(loss_of, start, n, clamp=False, other=None, search=None):
    """L-BFGS on the pixels themselves, with the habits that are in question.

    clamp: move the pixels inside the closure. other: return other(x) in place of the
    loss. Returns the picture, clamped, and the losses of the evaluations.
    """
    x, losses = start.clone().requires_grad_(), []
    optimizer = torch.optim.LBFGS([x], line_search_fn=search)

    def closure():
        if clamp:
            x.data.clamp_(0, 1)
        optimizer.zero_grad()
        loss = loss_of(x)
        loss.backward()
        losses.append(loss.item())
        return loss if other is None else other(x).detach()

    while len(losses) < n:
        optimizer.step(closure)
    return x.detach().clamp(0, 1), dict(loss=losses[:n])

# %% [markdown]
# The number that is returned wrongly is the style loss without its weight, which is
# easily done when a loss has two parts.

# %%
wolfe = dict(search="strong_wolfe")
wrong = dict(other=lambda x: style_loss(look(shallow, x, five[1]), aims[1]))
ways = {
    "pixels, left alone": partial(paint_pixels, **wolfe),
    "clamped in the closure": partial(paint_pixels, clamp=True),
    "clamped, with line search": partial(paint_pixels, clamp=True, **wolfe),
    "another number returned": partial(paint_pixels, **wrong, **wolfe),
    "both": partial(paint_pixels, clamp=True, **wrong, **wolfe),
    "Adam": partial(paint, rate=0.2),
    "cosine": partial(paint, power=0.0),
    "cosine, spectral": paint,
}
trials = {}
for name, way in ways.items():
    trials[name] = kept(f"way {name}", lambda way: dict(zip(("x", "history"), way(
        ours, x_small, cfg.compare_evals))), way)
ends = {name: ours(trial["x"].to(device)).item() for name, trial in trials.items()}
tables.table(("how", "evaluations", "loss at the end", "more than the last, in %"), [
    (name, f"{len(trials[name]['history']['loss'])}", end,
     100 * (end / ends["cosine, spectral"] - 1)) for name, end in ends.items()])

# %% [markdown]
# All ways that use L-BFGS end within a few per cent of each other: the method forgives
# more than its theory promises. Among the first five rows, returning another number
# costs most; that it costs less together with the clamp shows how little such
# differences can be predicted. Pixels that are left alone pay at the end, when they are
# clamped. The clamp in the closure costs little here, which nobody could know
# beforehand. The cosine alone is not better than the wrong ways; with the spectral
# weights it is ahead of all. So the honest way costs nothing, and it has no surprises
# in store. (Projection, the other honest way, is exercise 3.)
#
# **Against Adam**, from the same start and in the same numbers $q$, over evaluations
# and over seconds. Adam takes one step an evaluation, of a length that was set
# beforehand (0.2 was the best of 0.02, 0.05, 0.1, 0.2 and 0.5 for so many evaluations),
# and it knows the curvature of each number only by itself. L-BFGS may spend two or
# three evaluations on a step, but the step is a better one.

# %% mystnb={"image": {"alt": "Loss on a logarithmic scale, left over evaluations and right over seconds, for L-BFGS and Adam: L-BFGS falls faster in both."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.2), sharey=True)
for label, name in (("L-BFGS", "cosine, spectral"), ("Adam", "Adam")):
    run = trials[name]["history"]
    for ax, x in zip(axes, (np.arange(len(run["loss"])) + 1, run["seconds"])):
        ax.semilogy(x, np.minimum.accumulate(run["loss"]), label=label)
axes[0].set(xlabel="evaluations", ylabel="lowest loss so far")
axes[1].set_xlabel("seconds")
axes[1].legend();

# %% [markdown]
# L-BFGS begins with a tiny step, because it knows no curvature yet, and has to feel its
# way. From then on it is no race. What L-BFGS reaches in some forty evaluations takes
# Adam all of them. And an evaluation costs about the same in both: the loops of L-BFGS
# are small beside the network.
#
# ## The picture
#
# Now at full length: 300 evaluations at 256 x 256, from the photograph, with the first
# five convolutions; once our way, and once the way of the tutorial, probes and all.

# %%
def our_run():
    keep = [round(k) for k in np.linspace(1, cfg.evals, cfg.frames)]
    x, history = paint(goal(shallow, *aims), x_photo, cfg.evals, keep=keep)
    return dict(x=x.cpu(), frames=torch.cat(history.pop("frames")), at=keep, **history)


def tutorial_run():
    loss_of = probed(shallow, *aims)
    with runtime.Stopwatch(device) as watch:
        x, history = paint_pixels(loss_of, x_photo, cfg.evals, clamp=True)
    return dict(x=x.cpu(), spent=watch.seconds, **history)


aims = targets(shallow, x_photo, x_painting, five)
result, tutorial = kept("result", our_run), kept("tutorial", tutorial_run)
ours, theirs = (goal(shallow, *aims)(run["x"].to(device)).item()
                for run in (result, tutorial))
spent = result["seconds"][-1]
record.measure("300 evaluations at 256 x 256, first five", spent, unit="s")
record.measure("seconds, tutorial / ours", tutorial["spent"] / spent)
record.measure("final loss, ours / tutorial", ours / theirs)
early = [min(run["loss"][:50]) for run in (result, tutorial)]
record.measure("loss after 50 evaluations, ours / tutorial", early[0] / early[1])
tables.table(("version", "seconds", "loss after 50 evaluations", "final loss"), [
    ("ours", spent, early[0], ours),
    ("tutorial", tutorial["spent"], early[1], theirs)])

# %% [markdown]
# The probes are slower by nearly a third. It is not the probes' fault: what takes the
# time are gradients for weights that nobody wants (the table of variants, further
# below, has the same network with frozen weights). And the loss? After 50 evaluations
# ours is well ahead; after all 300 the two have nearly met. Both have all but stopped
# falling by then, and a better way downhill does not lead below the bottom. What it
# buys is the time on the way there.

# %% tags=["result-picture"] mystnb={"image": {"alt": "Three pictures side by side: the photograph of an astronaut, The Starry Night, and the astronaut painted in short blue and yellow strokes."}}
fig, ax = plt.subplots(figsize=(5.4, 1.9))
grids.image_grid(torch.cat([photo.x, painting.x, result["x"]]), columns=3, ax=ax)
figures.caption_source(fig, photo)
display(Image(film.still(fig)))
lowest = np.minimum.accumulate(result["loss"])
shrink = partial(F.interpolate, size=(96, 96), mode="area")
record.export("frames", {"frames": shrink(result["frames"]), "photo": shrink(photo.x),
                         "loss": lowest})

# %% [markdown]
# Face, suit, rocket and flag keep their outlines, and everything between the outlines
# is given over to strokes. They follow the edges, turn around the head, and cross the
# sky where the photograph has hardly anything of its own. Blue and yellow have replaced
# the orange of the suit. The black helmet stays nearly empty.
#
# ## See it happen
#
# The picture of that run after more and more evaluations, with its loss. (The same
# frames are kept beside the page, as numbers.)

# %% mystnb={"image": {"alt": "Animation: the photograph turns within the first frames into a painted picture and then changes less and less, while beside it a point runs down the curve of the loss."}}
def frame(k):
    fig, (left, ax) = plt.subplots(1, 2, figsize=(6, 2.8), width_ratios=(1, 1.3))
    grids.image_grid(result["frames"][k][None], columns=1, ax=left)
    ax.semilogy(range(1, cfg.evals + 1), lowest)
    ax.semilogy(at := result["at"][k], lowest[at - 1], "o", color=figures.INK)
    ax.set(xlabel="evaluations", ylabel="loss")
    return fig


film.animation((frame(k) for k in range(0, cfg.frames, 2)), fps=4, width=480)

# %% [markdown]
# Nearly all happens in the first tenth of the evaluations: colours first, then strokes.
# After that the loss falls slowly, and the strokes only become crisper.
#
# ## Choices
#
# Every choice below is shown on the same photograph and painting. One function makes a
# picture, one row is one choice.

# %%
def luminance(x):
    """(B, 3, H, W) -> the same with three equal colours, as bright as x."""
    weights = x.new_tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)
    return (x * weights).sum(dim=1, keepdim=True).expand_as(x)


def transferred(x=None, grams=None, start=None, names=None, net=None, n=None,
                keep_colours=False, **weights):
    """A transfer from the photograph x, or from another start; (1, 3, H, W)."""
    x = x_small if x is None else x
    seen = luminance(x) if keep_colours else x
    wanted, usual = targets(net or layers, seen, p_small, names or deepest)
    loss_of = goal(net or layers, wanted, usual if grams is None else grams, **weights)
    painted = paint(loss_of, seen if start is None else start, n or cfg.strip_evals)[0]
    if keep_colours:  # what the luminance has changed, to all three colours alike
        painted = (x + luminance(painted) - seen).clamp(0, 1)
    return painted.cpu()


def strip(name, choices, columns=None):
    """Draw transfers: label -> options of `transferred`."""
    made = kept(name, lambda: {k: transferred(**v) for k, v in choices.items()})
    return grids.image_grid(torch.cat(list(made.values())), titles=list(made),
                            columns=columns or len(made))

# %% [markdown]
# **Which layers.** The common first five, and deeper sets as far as the weights reach:

# %% mystnb={"image": {"alt": "The same transfer with two sets of layers: fine strokes and a clear face with the first five convolutions; broader curls, yellow lights in the sky and a paler face with the first eight."}}
strip("layer sets", {name: dict(names=both) for name, both in at_hand.items()}, 3);

# %% [markdown]
# A number of `conv3_1` sees 24 pixels of a row, so that with the first five the strokes
# stay fine. Deeper style layers see more and bring larger forms: curls, and yellow
# lights like those of the painting's sky. (Where the weights reach `conv5_1`, the third
# picture has the layers of the paper; here it is missing, the weights at hand end at
# `conv3_4`.)
#
# **How much style**, over four decades:

# %% mystnb={"image": {"alt": "A row of five transfers with a growing style weight: a bluish photograph on the left; on the right swirls and lights, in which helmet and collar can still be made out but the face is gone."}}
strip("style weights", {f"{w:g}": dict(style_weight=w) for w in cfg.style_weights});

# %% [markdown]
# From a photograph in other colours to a painting in which only collar and helmet tell
# of the photograph. There is no right value: $\beta$ is a matter of taste. But thanks
# to relative errors it is the *same* matter for each network.
#
# **Where to start, and how to halve.** From the photograph, from noise, from the
# painting; and with the mean in place of the maximum where the network halves the
# picture, which Gatys and his colleagues preferred:

# %% mystnb={"image": {"alt": "Four transfers. From the photograph: clear. From noise: the same figure under coarse coloured grains. From the painting: the figure, with the painting's dark tree on the left. With mean pooling: much like the first, a little brighter."}}
mean_pooling = copy.deepcopy(layers)
for name in names:
    if name.startswith("pool"):
        setattr(mean_pooling, name, nn.AvgPool2d(2))
noise = torch.rand(x_small.shape, generator=rng).to(device)
strip("starts", {"from the photo": dict(), "from noise": dict(start=noise),
                 "from the painting": dict(start=p_small),
                 "mean pooling": dict(net=mean_pooling)});

# %% [markdown]
# A descent ends near where it began. From noise a third of the evaluations of the main
# picture is not enough: grains are left. From the painting, its dark tree is still
# there, since the style loss, which knows no places, has nothing against it. Mean
# pooling makes hardly a difference here.
#
# **Keeping the photograph's colours.** The eye takes strokes mostly from light and
# dark. So let the transfer have only the luminance, grey photograph and grey painting,
# and give the result the colours of the photograph (Gatys et al., 2016b): to each pixel
# we add what its luminance has changed, to all three colours alike. **Blending** two
# styles is a mean of their Gram matrices. And a **style scale** is chosen by the size
# at which the painting is shown to the network.

# %% mystnb={"image": {"alt": "Six transfers: two paintings, a blend of the two, one with the colours of the photograph, and the first painting at half and at double size, which gives finer and broader strokes."}}
manner = partial(grams_of, layers, names=deepest[1])
first, second = manner(p_small), manner(list(paintings.values())[1].x.to(device))
small, large = (manner(load(cfg.painting, side).x.to(device))
                for side in (max(32, cfg.small // 2), 2 * cfg.small))
strip("more choices", {name: dict(grams=grams) for name, grams in {
    "first": first, "second": second, "style at 1/2": small, "style at 2": large,
    "half of each": {n: (first[n] + second[n]) / 2 for n in first}}.items()} | {
        "own colours": dict(grams=manner(luminance(p_small)), keep_colours=True)}, 3);

# %% [markdown]
# The second painting brings its sweeping orange bands. The first one at half the size
# gives smaller and denser strokes, at double the size broad ones. In the blend, orange
# and blue share the picture. And with its own colours the suit stays orange while
# strokes cross it: it is luminance that carries the manner.
#
# **Not hand-picked.** Every photograph with every painting of the lists, with the same
# settings and the first five convolutions:

# %% mystnb={"image": {"alt": "A grid: the paintings in the first row, and below them every photograph in the manner of every painting."}}
def painted_by_all(x):
    return dict(x=torch.cat([
        transferred(x, grams_of(shallow, p.x.to(device), five[1]), names=five,
                    net=shallow, n=cfg.grid_evals) for p in paintings.values()]))


rows = {name: kept(f"grid {name}", painted_by_all, picture.x.to(device))["x"]
        for name, picture in photos.items()}
ax = grids.before_after({"": torch.cat([p.x for p in paintings.values()])} | rows)
figures.caption_source(ax.figure, photo);

# %% [markdown]
# Down a column the manner is the same, along a row the photograph can always be told.
# Paintings with large, plain forms (the second and the third) change a photograph most.
# The last one mostly darkens: its manner is light and haze, and those are no matter of
# small neighbourhoods. The rocket, with an empty sky, takes anything; the face suffers,
# because we know how a face should look.
#
# ## Faster and larger
#
# **What should it cost?** Each evaluation is convolutions over all places, so the time
# should grow with the number of pixels: four times for twice the side. So should the
# memory, and we can count it. Autograd keeps what it needs on the way back. For the
# first five convolutions that is, as numbers for each pixel of the picture: 3 of the
# normalised picture; in the first block two convolutions and two ReLUs of 64 channels,
# 256; after the first pool a quarter of 64, and as many positions of the maxima at two
# numbers each, 48; in the second block four times 128 at a quarter of the places, 128;
# after its pool 128 / 16 and its positions, 24; and at last 256 / 16, 16. The sum is
# 475. To these come numbers that live only for a moment. The way back begins with what
# was computed last, the losses, while all of the above is still there: a Gram matrix of
# the first block sends back a gradient in two halves of 64 numbers each, which are then
# added, and the content loss one of 128 at a quarter of the places, 32.
#
# The need is stated before the memory is taken, and too much is refused:

# %%
def check_room(needed):
    free = (torch.cuda.mem_get_info(device)[0] if device.type == "cuda"
            else psutil.virtual_memory().available)
    if needed > free:
        raise MemoryError(f"this needs about {needed / 1e9:.1f} GB, and"
                          f" {free / 1e9:.1f} GB are free; choose a smaller side")


def cost(loss_of, x):
    """Peak bytes above those held before, and seconds, of an evaluation at x."""
    x = x.clone().requires_grad_()

    def evaluate():
        loss_of(x).backward()

    evaluate()  # the first is slower
    peak = runtime.memory_above(evaluate)
    if device.type == "cuda":
        held = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        evaluate()
        peak = torch.cuda.max_memory_allocated(device) - held
    with runtime.Stopwatch(device) as watch:
        for _ in range(cfg.repeats):
            evaluate()
    return dict(peak=peak, seconds=watch.seconds / cfg.repeats)

# %% [markdown]
# On paper with logarithmic axes, "four times for twice the side" is a line of slope
# two. The line of the memory is the formula; that of the seconds starts at the first
# point.

# %% mystnb={"image": {"alt": "Seconds and gigabytes of an evaluation over the side of the picture, both axes logarithmic, with dashed lines of slope two; the measured points lie close to them."}}
def bytes_needed(height, width):
    """Bytes of one evaluation with the first five convolutions, at the worst moment."""
    numbers = (3 + 256 + 48 + 128 + 24 + 16) + (2 * 64 + 32)  # a pixel
    return 4 * numbers * height * width


costs = {}
for side in cfg.sides:
    check_room(needed := bytes_needed(side, side))
    both = [F.interpolate(x, size=(side, side), mode="bilinear")
            for x in (x_photo, x_painting)]
    loss_of = goal(shallow, *targets(shallow, *both, five))
    costs[side] = kept(f"cost {side}", cost, loss_of, both[0])
    share = costs[side]["peak"] / needed
    print(f"{side} pixels: needs {needed / 1e9:.2f} GB; measured, {share:.2f} of that")
record.measure("memory at the largest side, measured / formula", share)
fig, axes = plt.subplots(1, 2, figsize=(7, 3))
lines = costs[cfg.sides[0]]["seconds"] / cfg.sides[0] ** 2, bytes_needed(1, 1)
for ax, what, line in zip(axes, ("seconds", "peak"), lines):
    ax.loglog(cfg.sides, [c[what] for c in costs.values()], "o", base=2)
    ax.loglog(cfg.sides, [line * side**2 for side in cfg.sides], "--", base=2)
    ax.set(xlabel="side in pixels", xticks=cfg.sides, xticklabels=cfg.sides,
           ylabel={"seconds": "seconds an evaluation", "peak": "peak in bytes"}[what])

# %% [markdown]
# At the largest side the memory is what was counted, within a few per cent. At the
# smallest there is a good deal on top, probably workspace of the library: in bytes it
# grows far less than the picture. The seconds grow faster than the line: an evaluation
# of four times the pixels takes more than four times as long. Arithmetic does not
# explain that; memory does, in part. Tensors of this size are taken from the operating
# system, page by page, and given back in every evaluation. (On Linux, telling the C
# library to keep what was freed, with `mallopt`, makes 512 pixels faster.)
#
# **Three ways to make an evaluation cheaper.** *Checkpointed activations*: keep only
# the input of a block and compute the rest again on the way back, more time for less
# memory. *channels_last*: the channels of a place lie side by side in memory.
# *bfloat16*: convolutions with 16-bit numbers, losses in 32. Each is the same loss with
# another way of looking.

# %%
def look_again(layers, x, names):
    """As `look`, but each block is computed again on the way back."""
    def run(block, x):
        outputs = {name: (x := layer(x)) for name, layer in block.items()}
        return x, {name: f for name, f in outputs.items() if name in names}

    seen, x, block = {}, normalised(x), {}
    for name, layer in layers.named_children():
        block[name] = layer
        if name.startswith("pool") or layer is layers[-1]:
            x, found = checkpoint(run, block, x, use_reentrant=False)
            seen, block = seen | found, {}
    return seen


def look_half(layers, x, names):
    """As `look`, with convolutions in bfloat16."""
    with torch.autocast(x.device.type, torch.bfloat16):
        return {name: f.float() for name, f in look(layers, x, names).items()}

# %% [markdown]
# At the middle one of the sides. The last column is the relative error of the gradient,
# compared with the first row.

# %%
side = cfg.sides[len(cfg.sides) // 2]
x, p = (F.interpolate(v, size=(side, side)) for v in (x_photo, x_painting))
beside = copy.deepcopy(shallow).to(memory_format=torch.channels_last)
both = targets(shallow, x, p, five)
variants = {
    "as it is": goal(shallow, *both), "probes": probed(shallow, *both),
    "probes, weights frozen": probed(shallow, *both, frozen=True),
    "checkpointed": goal(shallow, *both, look=look_again),
    "channels_last": goal(beside, *both),
    "bfloat16": goal(shallow, *both, look=look_half),
    "bfloat16, channels_last": goal(beside, *both, look=look_half)}
point, rows = (0.9 * x + 0.05).requires_grad_(), []
slope = torch.autograd.grad(variants["as it is"](point), point)[0]
for name, loss_of in variants.items():
    found = kept(f"variant {name}", cost, loss_of, x)
    error = relative_error(torch.autograd.grad(loss_of(point), point)[0], slope).item()
    rows.append((name, found["seconds"], found["peak"] / 1e9, error))
tables.table(("variant", "seconds", "peak GB", "error of the gradient"), rows)

# %% [markdown]
# Frozen weights make the probes as fast as our functions, so it was the gradients of
# the weights that cost. Checkpointing does what it promises, and both sides of the
# bargain can be read off: less memory, more time. channels_last gains nothing here.
# bfloat16 gains most, and changes the gradient by a few thousandths. That is harmless
# for a first sketch; near a minimum, where the loss changes by less than that, it would
# mislead the line search.
#
# **Coarse to fine.** Large forms can be found in a small picture at a quarter of the
# price. So: paint at half the side, enlarge, and go on at the full side. What is
# enlarged is the *change*, and it is added to the large photograph, whose fine detail
# would otherwise be lost and have to be found again. The race is
# against the full side from the beginning; both start from the photograph, and the
# clock stops when coarse to fine has reached the loss at which the direct way ended
# (the dotted line). In the grey part of the figure coarse to fine works at half the
# side.

# %% mystnb={"image": {"alt": "Lowest loss so far over seconds, for both ways. A narrow grey strip on the left is the time at the small side. The curve of coarse to fine falls a little after the direct one, meets it, and runs with it down to the dotted line."}}
x, p = (load(name, cfg.large).x.to(device) for name in (cfg.photo, cfg.painting))
half, p_half = (F.interpolate(v, scale_factor=0.5, mode="area") for v in (x, p))
loss_of = goal(shallow, *targets(shallow, x, p, five))
direct = kept("direct", lambda: paint(loss_of, x, cfg.large_evals)[1])
coarse = kept("coarse", lambda: dict(zip(("x", "history"), paint(
    goal(shallow, *targets(shallow, half, p_half, five)), half, cfg.large_evals // 2))))
change = F.interpolate(coarse["x"].to(device) - half, scale_factor=2, mode="bicubic")
start, began = (x + change).clamp(0, 1), coarse["history"]["seconds"][-1]
fine = kept("fine", lambda: paint(loss_of, start, cfg.large_evals)[1])
times, aim = [began + t for t in fine["seconds"]], min(direct["loss"])
fig, ax = plt.subplots(figsize=(6, 3))
for label, t, run in (("directly", direct["seconds"], direct),
                      ("coarse to fine", times, fine)):
    ax.plot(t, np.minimum.accumulate(run["loss"]), label=label)
ax.axvspan(0, began, color="#eeeeee")
ax.axhline(aim, color=figures.INK, linestyle=":")
ax.set(xlabel="seconds", ylabel="loss", ylim=(0.8 * aim, 3 * aim))
ax.legend()
ends = [t for t, loss in zip(times, fine["loss"]) if loss <= aim]
share = min(ends, default=times[-1]) / direct["seconds"][-1]
record.measure("coarse to fine, share of the direct time", share,
               note="" if ends else "the direct loss was not reached by then")

# %% [markdown]
# The time at the small side puts coarse to fine behind at first. It catches up, then
# the two curves run together, and in the end it arrives a little earlier. We had hoped
# for half the time. Why so little? Large forms are indeed found cheaply at the small
# side; only, they were not what took the time. The spectral weights make them easy at
# any side. What is left at the end are fine strokes, and those exist at the full side
# only. (We also enlarged the picture in place of the change, which was slower than the
# direct way, and started both from noise, at a smaller side, which made no great
# difference.)
#
# ## One pass
#
# Minutes a picture is a lot. Johnson, Alahi and Fei-Fei (2016) train a *network* to do
# it: photograph in, painted picture out, in one pass, one network a style. The loss is
# the very same; only what is trained changes back, from the pixels to weights. Here is
# a small one: halve twice, two blocks, double twice (repeat pixels and convolve, which
# leaves no checkerboard: chapter 4). Each channel is brought to mean 0 and deviation 1
# within each picture (instance normalisation, Ulyanov et al., 2016), so that contrast
# is not carried over.

# %%
def block(inputs, outputs, stride=1):
    return nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(inputs, outputs, 3, stride),
                         nn.InstanceNorm2d(outputs, affine=True), nn.ReLU())


def painter(c):
    """Photographs (B, 3, H, W) in [0, 1], sides divisible by 4 -> the same, painted."""
    return nn.Sequential(
        block(3, c), block(c, 2 * c, 2), block(2 * c, 4 * c, 2),
        block(4 * c, 4 * c), block(4 * c, 4 * c),
        nn.Upsample(scale_factor=2), block(4 * c, 2 * c),
        nn.Upsample(scale_factor=2), block(2 * c, c),
        nn.ReflectionPad2d(1), nn.Conv2d(c, 3, 3), nn.Sigmoid())

# %% [markdown]
# It learns from random pieces of all photographs but the one it will be tested on. That
# is very little to learn from; the paper used 80,000 photographs.

# %%
def pieces(photos, side, n, rng):
    """n random square pieces (n, 3, side, side) of pictures (1, 3, H, W)."""
    cut = []
    for row in torch.randint(len(photos), (n,), generator=rng):
        top, left = (torch.randint(size - side + 1, (), generator=rng)
                     for size in photos[row].shape[2:])
        cut.append(photos[row][:, :, top : top + side, left : left + side])
    return torch.cat(cut)


def learn(net, photos, grams, seconds, rng):
    """Train a painter for a time; the loss of each step."""
    optimizer, losses = torch.optim.Adam(net.parameters(), lr=2e-3), []
    with runtime.Stopwatch(device) as watch:
        while not losses or watch.seconds < seconds:
            x = pieces(photos, cfg.crop, 4, rng).to(device)
            with torch.no_grad():
                wanted = look(shallow, x, five[0])
            loss = goal(shallow, wanted, grams)(net(x))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses

# %% [markdown]
# It gets a fixed time, not a fixed number of steps. The test is the photograph that it
# has not seen. How long does a pass take, how good is it in the loss that both
# minimise, and after how many seconds is our descent as good?

# %% mystnb={"image": {"alt": "Three versions of the test photograph: as it is, painted by the small network in one pass, and painted by 300 evaluations of descent, which has cleaner strokes."}}
others = [load(name, cfg.side).x for name in photos if name != cfg.photo]
net = painter(cfg.channels).to(device)
saved = kept("painter", lambda: dict(losses=learn(
    net, others, aims[1], cfg.learn_seconds, rng), weights=net.state_dict()))
net.load_state_dict(saved["weights"])
print(f"{sum(p.numel() for p in net.parameters()):,} weights,"
      f" {len(saved['losses']):,} steps")
with torch.inference_mode():
    net(x_photo)  # the first call is slower
    with runtime.Stopwatch(device) as watch:
        quick = net(x_photo)
    pass_loss = goal(shallow, *aims)(quick).item()
same = min(int((lowest > pass_loss).sum()), cfg.evals - 1)  # evaluations before
record.measure("one pass, seconds", watch.seconds, unit="s")
record.measure("one pass, loss / loss of the descent", pass_loss / ours)
print(f"loss: one pass {pass_loss:.3f} in {watch.seconds:.3f} s; descent {ours:.3f} in"
      f" {spent:.0f} s, and as good as the pass after {result['seconds'][same]:.1f} s")
grids.image_grid(torch.cat([photo.x, quick.cpu(), result["x"]]), columns=3,
                 titles=["photograph", "one pass", "descent"]);

# %% [markdown]
# Be honest in both directions. A pass takes hundredths of a second, and the descent
# needs seconds to become as good as it: for many pictures in one style, or for video,
# nothing else comes near. But the descent does not stop there, and ends at a small
# fraction of the pass's loss; and one sees it: the pass is dark, has hardly any yellow,
# and draws the same short strokes along every edge. With three photographs to learn
# from, and a few minutes, that is what it could learn. Training took as long as dozens
# of descents to the same loss, so it pays from dozens of pictures on.
#
# ## Touch it
#
# With a live kernel: choose a photograph, a painting and how much style, and let it
# paint a little. (On a page that does not compute, you see the picture as it was at the
# start.) A picture of your own goes into `photos`, under any name, before this cell.

# %%
controls = dict(
    photo=widgets.Dropdown(options=list(photos), description="photograph"),
    painting=widgets.Dropdown(options=list(paintings), description="painting"),
    weight=widgets.FloatLogSlider(cfg.style_weight, min=0, max=4, description="style"),
    evals=widgets.IntSlider(2, min=1, max=60, description="evaluations"),
)
picture = widgets.Image(width=300)


def redraw(change=None):
    name, style, weight, n = (control.value for control in controls.values())
    grams = grams_of(shallow, paintings[style].x.to(device), five[1])
    x = transferred(photos[name].x.to(device), grams, names=five, net=shallow, n=n,
                    style_weight=weight)
    picture.value = film.still(grids.image_grid(x, columns=1).figure)


for control in controls.values():
    control.observe(redraw, "value")
redraw()
widgets.VBox([*controls.values(), picture])

# %% [markdown]
# ## Summary
#
# * The network stands still and the picture is trained. Content is what a deep layer
#   sees, in its places; style is the Gram matrices, which know neighbourhoods and
#   forget places.
# * Relative errors make weights mean the same in each layer and for each network.
# * Losses are functions of features. Nothing has to be built into the network.
# * L-BFGS keeps a few pairs of steps and gradient differences. Its closure must return
#   the loss it back-propagated, and must not move the pixels; bounds belong into the
#   parametrisation or into the method.
# * Memory grows with the number of pixels and is known beforehand; time grows at least
#   as fast.
# * What it cannot do: it has no idea of *things*. A sky gets the strokes of a face if
#   their features fit, fine print and faces suffer, and each picture is a new descent,
#   unless a network learns one style for all.
#
# ## Exercises
#
# Try each before you open the solution. All run in seconds.
#
# **1. A Gram matrix with a loop.** Write the Gram matrix with loops over channels and
# places, and compare. How many multiplications does one of `conv3_1` take at 256 x 256?

# %% tags=["solution"]
def naive_gram(f):
    channels, height, width = f.shape
    g = torch.zeros(channels, channels)
    for i in range(channels):
        for j in range(channels):
            g[i, j] = sum(f[i, h, w] * f[j, h, w]
                          for h in range(height) for w in range(width))
    return g / (height * width)


f = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0))
print(f"largest difference {(naive_gram(f) - gram(f[None])[0]).abs().max():.1e}")
print(f"conv3_1: {256**2 * 64**2 / 1e6:.0f} million multiplications")
# The convolution before it takes 64 x 64 places x 256 channels x 128 x 9, or 1,208
# million.

# %% [markdown]
# **2. What random filters keep.** Check the formula $M = \frac{1}{4} W^\top G W$ for
# the random first layer: compute $M$ from all 3 x 3 neighbourhoods of the painting, and
# from the Gram matrix alone.

# %% tags=["solution"]
w = blind.conv1_1.weight.flatten(1)  # (64, 27)
around = F.unfold(normalised(p_small), 3, padding=1)  # (1, 27, H * W): neighbourhoods
m = around @ around.mT / around.shape[2]
found = w.T @ grams_of(blind, p_small, ["conv1_1"])["conv1_1"] @ w / 4
print(f"W^T W / 2 - identity: {(w.T @ w / 2 - torch.eye(27).to(w)).abs().max():.0e}")
print(f"M from the Gram matrix, relative error {relative_error(found, m):.0e}")
# 27 orthogonal columns fit into 64 rows, so that nothing is lost.

# %% [markdown]
# **3. Projection.** SciPy's L-BFGS-B knows about bounds and projects its own steps onto
# them. Its `minimize` takes a function from a row of numbers to loss and gradient.
# Write it, and compare with the cosine.

# %% tags=["solution"]
def paint_projected(loss_of, start, n):
    """L-BFGS-B: its own steps are projected onto [0, 1]; picture and losses."""
    losses = []

    def as_picture(row):
        return torch.from_numpy(row.astype(np.float32)).view(start.shape).to(start)

    def loss_and_gradient(row):
        x = as_picture(row).requires_grad_()
        loss = loss_of(x)
        loss.backward()
        losses.append(loss.item())
        return loss.item(), x.grad.cpu().double().numpy().ravel()

    found = minimize(loss_and_gradient, start.cpu().double().numpy().ravel(), jac=True,
                     method="L-BFGS-B", bounds=[(0, 1)] * start.numel(), options=dict(
                         maxfun=n, maxiter=n, maxcor=cfg.memory, ftol=0, gtol=0))
    return as_picture(found.x).clamp(0, 1), dict(loss=losses[:n])


small_loss = goal(shallow, *targets(shallow, x_small, p_small, five))
for name, way in {"projected": paint_projected, "cosine": partial(paint, power=0.0),
                  "cosine, spectral": paint}.items():
    x, _ = way(small_loss, x_small, cfg.look_evals)
    print(f"{name}: loss {small_loss(x).item():.4f}")
# Projection is honest too: it never tells the optimiser a gradient of one place and the
# loss of another. After so few evaluations it is behind, and the spectral weights are
# what makes the difference.

# %% [markdown]
# **4. Moments in place of Gram matrices.** Li et al. (2017) also match only the mean
# and the variance of each channel. Make a texture that way. How many numbers describe
# the painting then, and how many with Gram matrices?

# %% tags=["solution"] mystnb={"image": {"alt": "Two textures of the painting: from Gram matrices, and from means and variances only, which look alike."}}
def moments(f):
    f = f.flatten(2)
    return torch.stack((f.mean(dim=2), f.std(dim=2)))


def moment_loss(seen, wanted):
    return sum(relative_error(moments(seen[n]), wanted[n]) for n in wanted)


with torch.no_grad():
    wanted = {n: moments(f) for n, f in look(layers, p_small, five[1]).items()}
x, _ = paint(lambda x: moment_loss(look(layers, x, five[1]), wanted), grey,
             cfg.look_evals)
sizes = [f.shape[2] for f in wanted.values()]
print(f"moments: {2 * sum(sizes):,} numbers,"
      f" Gram matrices: {sum(c * (c + 1) // 2 for c in sizes):,}")
grids.image_grid(torch.cat([pair["trained"], x.cpu()]), columns=2,
                 titles=["Gram", "moments"], ax=plt.subplots(figsize=(4.4, 2.4))[1]);
# Most of what makes the manner is in how strong each channel is, and how it varies.

# %% [markdown]
# **5. Wrong steps.** Show with numbers that clamping inside the closure breaks
# $y \approx H s$. Take $L(x) = \frac{1}{2} \lVert x - t \rVert^2$, whose Hessian is the
# identity, so that $y = s$ for every step.

# %% tags=["solution"]
target, x = torch.tensor([1.5, 0.2]), torch.tensor([0.9, 0.9])
step = torch.tensor([0.5, -0.5])  # what the optimiser believes it has done
for clamp in (False, True):
    moved = (x + step).clamp(0, 1) if clamp else x + step
    y = (moved - target) - (x - target)
    print("clamped:" if clamp else "free:   ", "s", step.tolist(), "y", y.tolist())
# The first pixel met the wall. The optimiser concludes that the curvature there is a
# fifth of what it is, and takes too long a step next time.

# %% [markdown]
# **6. The memory of L-BFGS.** Paint with 1, 10 and 40 pairs. What do more pairs buy?

# %% tags=["solution"]
for pairs in (1, 10, 40):
    _, history = paint(small_loss, x_small, cfg.look_evals, memory=pairs)
    print(f"{pairs} pairs: loss {min(history['loss']):.4f},"
          f" {history['seconds'][-1]:.1f} s")
# The function changes its curvature on the way, so that old pairs tell less and less.

# %% [markdown]
# **7. A photograph as style.** Exchange the roles: the painting gives the content, the
# photograph the style. What comes out, and why is it less convincing?

# %% tags=["solution"] mystnb={"image": {"alt": "The painting with the colours and surfaces of the photograph: its forms remain, its strokes do not turn into smooth surfaces everywhere."}}
swapped = transferred(p_small, grams_of(layers, x_small, five[1]), names=five,
                      n=cfg.look_evals)
grids.image_grid(torch.cat([p_small.cpu(), x_small.cpu(), swapped]), columns=3,
                 titles=["content", "style", "result"],
                 ax=plt.subplots(figsize=(6, 2.3))[1]);
# The manner of a photograph is that every thing has the surface of that thing. Gram
# matrices over the whole picture cannot say that skin belongs on the face.

# %% [markdown]
# **8. Only half a style.** Add a mask: the style loss looks at the right half of the
# picture only, the content loss at all of it.

# %% tags=["solution"] mystnb={"image": {"alt": "The photograph whose left half is nearly unchanged and whose right half is painted."}}
def right_half(seen):
    return {n: f[..., f.shape[3] // 2 :] for n, f in seen.items()}


wanted, grams = targets(shallow, x_small, p_small, five)


def half_loss(x):
    seen = look(layers, x, {*five[0], *five[1]})
    style = style_loss(right_half(seen), grams)
    return content_loss(seen, wanted) + cfg.style_weight * style


x, _ = paint(half_loss, x_small, cfg.look_evals)
grids.image_grid(x.cpu(), columns=1, ax=plt.subplots(figsize=(2.4, 2.4))[1]);
# The mask acts on features. Near the border a feature of the right half still sees a
# few pixels of the left one, which are painted a little.

# %% [markdown]
# **9. A fair rival?** Adam's rate was chosen for 150 evaluations. Which one would you
# choose for fewer?

# %% tags=["solution"]
for rate in (0.05, 0.1, 0.2):
    _, history = paint(small_loss, x_small, cfg.look_evals, rate=rate)
    print(f"Adam, rate {rate}: loss {min(history['loss']):.3f}")
# The best rate depends on how long one intends to go on. L-BFGS has no rate to choose.

# %% [markdown]
# ## References
#
# * L. A. Gatys, A. S. Ecker, M. Bethge. *Image style transfer using convolutional
#   neural networks.* CVPR 2016. <https://doi.org/10.1109/CVPR.2016.265>
# * L. A. Gatys, M. Bethge, A. Hertzmann, E. Shechtman. *Preserving color in neural
#   artistic style transfer.* 2016 (2016b above).
#   <https://doi.org/10.48550/arXiv.1606.05897>
# * J. Johnson, A. Alahi, L. Fei-Fei. *Perceptual losses for real-time style transfer
#   and super-resolution.* ECCV 2016. <https://doi.org/10.48550/arXiv.1603.08155>
# * Y. Li, N. Wang, J. Liu, X. Hou. *Demystifying neural style transfer.* IJCAI 2017.
#   <https://doi.org/10.48550/arXiv.1701.01036>
# * D. C. Liu, J. Nocedal. *On the limited memory BFGS method for large scale
#   optimization.* Mathematical Programming 45, 1989.
#   <https://doi.org/10.1007/BF01589116>
# * A. Mordvintsev, N. Pezzotti, L. Schubert, C. Olah. *Differentiable image
#   parameterizations.* Distill, 2018. <https://doi.org/10.23915/distill.00012>
# * K. Simonyan, A. Zisserman. *Very deep convolutional networks for large-scale image
#   recognition.* ICLR 2015. <https://doi.org/10.48550/arXiv.1409.1556>
# * D. Ulyanov, A. Vedaldi, V. Lempitsky. *Instance normalization: the missing
#   ingredient for fast stylization.* 2016. <https://doi.org/10.48550/arXiv.1607.08022>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %%
record.card()
