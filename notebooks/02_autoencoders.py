# %% [markdown]
# # 2. Autoencoders: ten numbers for a picture
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/02_autoencoders.ipynb)
#
# You will build networks that squeeze a picture of 784 pixels into ten numbers and draw
# it again from those ten, learning both from nothing but the pictures. You will see
# what the ten numbers know, what they can clean up, and why decoding random numbers
# rarely gives a digit.
#
# ![Rows of digits: the originals, and the same digits rebuilt from ten numbers by PCA, by a stacked and by a convolutional autoencoder, sharper from row to row](attachment:result.png)
#
# *Ten test digits, and what three methods rebuild from ten numbers each. None of them
# was told which digit is which.*
#
# **Time to run:** at most 25 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); `full`, for a GPU, trains for longer
# and takes more seeds.

# %% [markdown]
# ## Why squeeze a picture?
#
# Chapter 1 ended with a wish. k-means failed on the rings until *we* gave it the
# radius, and it failed on half of the digits because pixels are a poor description of a
# digit: shift a stroke by two pixels and every number changes. Could a machine find a
# better description by itself, and without labels?
#
# Here is the idea. Let one network, the **encoder**, turn the picture $x$ into a short
# list of numbers $z$, the **code**. Let a second network, the **decoder**, turn the
# code back into a picture $\hat x$. Train both together so that $\hat x$ resembles $x$:
#
# $$x \;\xrightarrow{\ \text{encoder}\ }\; z \;\xrightarrow{\ \text{decoder}\ }\; \hat x,
# \qquad L = \frac{1}{N D}\sum_{i=1}^{N} \lVert x_i - \hat x_i \rVert^2 .$$
#
# $N$ is the number of pictures and $D = 784$ the number of pixels of each, so that $L$
# is a **mean squared error** (MSE). The picture is its own label. Were the code as long
# as the picture, the network could copy it and learn nothing. With ten numbers it
# cannot copy. It must find out what digits have in common, leave that to the decoder,
# and keep only what tells this digit from the others. The narrow place is called the
# **bottleneck**, the whole an **autoencoder** (Hinton and Salakhutdinov, 2006).
#
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
import math
from dataclasses import dataclass
from functools import partial

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from PIL import Image
from scipy.ndimage import gaussian_filter, median_filter
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ToTensor

from genlab_helpers import data, figures, film, grids, metrics, plots, runtime, tables
from genlab_helpers.recap import best_of
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# All numbers that you may want to change, with the values for a laptop; `smoke` and
# `full` list what they change. Learning rates and batch sizes were chosen by the
# *training* error; the test images only report.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images of MNIST: all of them
    n_test: int = 10_000  # test images: all of them
    code_size: int = 10  # numbers in the code
    n_seeds: int = 3  # runs behind each mean and spread
    batch_size: int = 256  # images a step: enough to fill two cores
    linear_epochs: int = 8
    linear_rate: float = 6e-3  # Adam's learning rate
    source_epochs: int = 51  # epochs, batch and rate of a published tutorial
    source_batch: int = 50
    source_rate: float = 1e-4
    stacked_epochs: int = 25  # less than a third of the source's time
    stacked_rate: float = 5e-3  # at the peak of its schedule
    conv_epochs: int = 10
    conv_rate: float = 6e-3  # at the peak of its schedule
    noise: float = 0.5  # standard deviation of the noise to be removed
    noise_levels: tuple = (0.1, 0.2, 0.3, 0.5, 0.7, 1.0)  # to be tested on
    n_filtered: int = 1_000  # training images on which the filters' widths are chosen
    denoise_epochs: int = 7
    wide_size: int = 64  # numbers in the wide code
    sweep_sizes: tuple = (2, 5, 10, 20, 50)  # code sizes to compare
    sweep_epochs: int = 7
    n_map: int = 2_000  # test digits on the map of the two-number code


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_test=200, n_seeds=2, batch_size=100, linear_epochs=1,
               source_epochs=1, stacked_epochs=1, conv_epochs=1, denoise_epochs=1,
               noise_levels=(0.5,), n_filtered=20, sweep_sizes=(2, 10),
               sweep_epochs=1, n_map=100),
    full=dict(n_seeds=5, conv_epochs=20, denoise_epochs=20, sweep_epochs=16),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("02_autoencoders", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## The data
#
# The handwritten digits of chapter 1 (MNIST; LeCun et al., 1998), now as pictures with
# their shape: `(N, 1, 28, 28)`, one channel, numbers from 0 (paper) to 1 (ink). They
# fit into memory, so we keep them as *one tensor* and move it to the device once. The
# labels stay aside until we measure.

# %%
train, test = data.mnist("train"), data.mnist("test")
record.use(train)
record.use(test)
x, y = train.images[: cfg.n_images].to(device), train.labels[: cfg.n_images]
test_x, test_y = test.images[: cfg.n_test].to(device), test.labels[: cfg.n_test]
print("train", tuple(x.shape), "test", tuple(test_x.shape))
print(f"values {x.min():.1f} to {x.max():.1f}, mean {x.mean():.3f}")

# %% [markdown]
# Networks fail on wrong input in obscure ways: with a complaint about matrix shapes
# deep inside, or, worse, silently. Two small checks say what is wrong and what to do.

# %% recap=["check_shape"]
def check_shape(x):
    """Raise a ValueError that names the remedy unless x is (B, 1, 28, 28) floats."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise ValueError("images must be a float tensor: divide bytes by 255")
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError(f"images must be (B, 1, 28, 28), not {tuple(x.shape)}: resize")


def check_images(x):
    """Check the shape, and that the values lie in [0, 1]."""
    check_shape(x)
    if len(x) == 0 or not (x.min() >= 0 and x.max() <= 1):
        raise ValueError("images must have values in [0, 1] and at least one image")


for wrong in [train.images[:2, :, ::2], 255 * x[:2], x[:2] / 0]:
    try:
        check_images(wrong)
    except ValueError as error:
        print("refused:", error)

# %% [markdown]
# ## By hand, on four points
#
# The smallest autoencoder: two numbers in, a code of *one* number, two numbers out, and
# nothing but multiplication. The four points lie near the line through the origin with
# the direction $u = (0.8, 0.6)$, whose length is 1. Encode with $z = u^\top x$, decode
# with $\hat x = z\,u$. For the first point: $z = 0.8 \cdot 4 + 0.6 \cdot 3 = 5$ and
# $\hat x = (4, 3)$, which is perfect, because it lies on the line.

# %%
four = torch.tensor([[4.0, 3.0], [-4.0, -2.0], [2.0, 1.0], [-2.0, -2.0]])  # (4, 2)
for name, u in {"u = (0.8, 0.6)": [0.8, 0.6], "u = (1, 0)": [1.0, 0.0]}.items():
    u = torch.tensor(u)
    z = four @ u  # (4,): one number a point
    rebuilt = z[:, None] * u  # (4, 1) * (2,) -> (4, 2)
    error = (four - rebuilt).square().mean()
    codes = [round(code, 2) for code in z.tolist()]
    print(f"{name:>14}: codes {codes}, mean squared error {error:.3f}")

# %% [markdown]
# A code is a point's place along a direction, and the error is what sticks out
# sideways. The second direction ignores the vertical coordinate and loses more. Which
# direction is best? Training can find out. But for networks without non-linearity,
# mathematics can, too.
#
# ## The linear autoencoder is PCA
#
# Let encoder and decoder be single linear layers: $z = Vx + a$ and $\hat x = Wz + b$,
# with $k$ numbers in the code. Four small steps find the least error.
#
# **1. What the decoder can reach.** Whatever the code, $\hat x - b$ lies in the
# $k$-dimensional subspace that the columns of $W$ span. The point of that subspace
# nearest to $x - b$ is its orthogonal projection $P(x - b)$. A projection is linear, so
# the encoder can produce it. Hence only the *subspace* matters, and the least error for
# it is the mean of $\lVert (x-b) - P(x-b)\rVert^2$.
#
# **2. The best $b$.** For each of the directions that $P$ removes this is the mean
# square of a coordinate of $x - b$; it is least when $b$ has the mean of the data
# there. So take $b = m$, the mean picture, and write $\tilde x = x - m$.
#
# **3. Less error is more kept variance.** By Pythagoras
# $\lVert \tilde x - P\tilde x\rVert^2 = \lVert \tilde x\rVert^2 - \lVert P \tilde x\rVert^2$.
# With an orthonormal basis $u_1, \dots, u_k$ of the subspace and the covariance matrix
# $C = \frac1N \sum_i \tilde x_i \tilde x_i^\top$, the kept part is on average
# $\sum_j u_j^\top C u_j$. We want it large.
#
# **4. The best subspace.** Let $e_1, e_2, \dots$ be the eigenvectors of $C$ with
# eigenvalues $\lambda_1 \ge \lambda_2 \ge \dots$ Then
# $\sum_j u_j^\top C u_j = \sum_i w_i \lambda_i$ with $w_i = \sum_j (u_j^\top e_i)^2$.
# Each weight lies between 0 and 1, because it is the squared length of the projection
# of $e_i$, and together they make $k$. So the best that can be done is weight 1 on the
# $k$ largest eigenvalues: **the subspace of the first $k$ eigenvectors of the
# covariance.**
#
# That is **principal component analysis** (PCA). The error left, per pixel, is the sum
# of the other eigenvalues over $D$. One eigenvalue problem solves it exactly:

# %%
def pca(x, code_size):
    """Mean (784,) and the first eigenvectors of the covariance, (784, code_size)."""
    flat = x.flatten(1)  # (N, 1, 28, 28) -> (N, 784)
    mean = flat.mean(dim=0)
    covariance = (flat - mean).T @ (flat - mean) / len(flat)  # (784, 784)
    return mean, torch.linalg.eigh(covariance)[1][:, -code_size:]


def pca_rebuild(x, mean, basis):
    """Project images onto the subspace; same shape as x."""
    codes = (x.flatten(1) - mean) @ basis  # (N, 784) -> (N, code_size)
    return (codes @ basis.T + mean).view_as(x)  # (N, 784) -> (N, 1, 28, 28)


mean, basis = pca(x, cfg.code_size)
pca_error = F.mse_loss(pca_rebuild(test_x, mean, basis), test_x).item()
mean_error = F.mse_loss(mean.expand(len(test_x), -1), test_x.flatten(1)).item()
print(f"test error: mean picture {mean_error:.4f}, PCA with 10 numbers {pca_error:.4f}")

# %% [markdown]
# Those two are the marks to hold any network against: one that always draws the mean
# picture, and the best that straight lines can do.
#
# Does *training* find it? An `Autoencoder` is an encoder followed by a decoder. Both
# are one linear layer here. `nn.Flatten` lays the 28 rows of a picture end to end,
# `(B, 1, 28, 28)` to `(B, 784)`; `nn.Unflatten` undoes that. Neither computes anything.
#
# **One step of training, by hand.** Take a batch, rebuild it, measure the error, ask
# autograd for the gradient of the error with respect to every weight (`backward`), and
# let the optimiser move the weights a little against it. Adam (Kingma and Ba, 2015)
# does that with a step size for each weight. The same batch must then be rebuilt a
# little better:

# %%
class Autoencoder(nn.Module):
    """An encoder, then a decoder: images (B, 1, 28, 28) -> images of that shape."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder

    def forward(self, x):
        check_shape(x)
        return self.decoder(self.encoder(x))


linear = Autoencoder(
    nn.Sequential(nn.Flatten(), nn.Linear(784, cfg.code_size)),
    nn.Sequential(nn.Linear(cfg.code_size, 784), nn.Unflatten(1, (1, 28, 28))),
).to(device)
optimizer = torch.optim.Adam(linear.parameters(), lr=1e-3)
batch = x[:100]
for step in range(3):
    loss = F.mse_loss(linear(batch), batch)  # rebuilt against original
    optimizer.zero_grad()  # gradients add up unless cleared
    loss.backward()
    optimizer.step()
    print(f"error before step {step + 1}: {loss.item():.4f}")

# %% [markdown]
# Down it goes. Training is this, over all images in random order, again and again; one
# pass over all of them is an **epoch**. One refinement pays off so much that we use it
# from the start: a **schedule** for the learning rate. The rate rises from small to its
# peak in the first third of the steps, because the first gradients are wild, and then
# falls to almost nothing, because near the end large steps jump around the minimum.
# PyTorch calls this shape `OneCycleLR` (Smith and Topin, 2019). Here is the whole loop.
# Everything in this chapter is trained by it; the argument `corrupt` will wait until we
# remove noise, and the calls `train()` and `eval()` until a layer needs them.
# (`inference_mode` tells PyTorch that no gradient will be asked for.) `fit` puts the
# epochs in a row and notes two errors after each: that on the images it learns from,
# and that on the test images, which never touch a weight.

# %%
def train_epoch(model, x, batch_size, optimizer, order, schedule=None, corrupt=None):
    """Pass once over images x in random order; return their mean squared error."""
    model.train()
    total = torch.zeros((), device=x.device)
    for rows in torch.randperm(len(x), generator=order).split(batch_size):
        clean = x[rows.to(x.device)]  # (B, 1, 28, 28)
        rebuilt = model(corrupt(clean, order) if corrupt else clean)
        loss = F.mse_loss(rebuilt, clean)  # the target is always the clean image
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if schedule:
            schedule.step()
        total += loss.detach() * len(clean)
    return total.item() / len(x)


@torch.inference_mode()
def rebuild(model, x):
    """Images rebuilt from their codes, in blocks that fit into memory."""
    model.eval()
    return torch.cat([model(block) for block in x.split(1000)])


def fit(model, x, test_x, epochs, batch_size, rate, cycle=True, seed=0, corrupt=None):
    """Train on images x; return the errors on x and test_x of every epoch."""
    check_images(x)
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate, fused=True)  # faster
    steps = epochs * math.ceil(len(x) / batch_size)
    schedule = OneCycleLR(optimizer, rate, steps) if cycle else None
    history = {"train": [], "test": []}
    for _ in range(epochs):
        seen = train_epoch(model, x, batch_size, optimizer, order, schedule, corrupt)
        history["train"].append(seen)
        history["test"].append(F.mse_loss(rebuild(model, test_x), test_x).item())
    return history


recipe = dict(epochs=cfg.linear_epochs, batch_size=cfg.batch_size, rate=cfg.linear_rate)
linear_error = fit(linear, x, test_x, **recipe)["test"][-1]

# %% [markdown]
# Now compare with PCA: the error, and the subspace. An orthonormal basis $Q$ of what
# the trained decoder can reach comes from a QR decomposition of its weights. The
# singular values of $U^\top Q$, with $U$ the eigenvectors, are the cosines of the
# angles between the two subspaces. If all are 1, they are the same.

# %%
weight = linear.decoder[0].weight.detach()  # (784, code_size)
cosines = torch.linalg.svdvals(basis.T @ torch.linalg.qr(weight).Q)
ratio = linear_error / pca_error
record.measure("PCA, test MSE", pca_error, floor=mean_error, ceiling=0.0)
record.measure("linear autoencoder / PCA, test MSE", ratio, ceiling=1.0)
display(Markdown(
    f"Test error: trained **{linear_error:.4f}**, PCA **{pca_error:.4f}**,"
    f" ratio {ratio:.3f}. Cosines from {cosines.min():.3f} to {cosines.max():.3f}."))

# %% [markdown]
# The same error, and very nearly the same subspace, from two entirely different
# computations. (There are no other valleys to get stuck in: every point where the
# gradient vanishes is either the optimum or a saddle; Baldi and Hornik, 1989.) One
# thing differs. PCA orders its directions by variance; the network's ten numbers are an
# arbitrary mixture of them, since $\hat x = Wz$ does not change if $W$ becomes $WA$ and
# $z$ becomes $A^{-1}z$ for any invertible $A$. **The axes of a learned code have no
# meaning of their own.**
#
# So depth buys nothing while all layers are linear: two linear layers in a row are one
# linear layer. What does non-linearity buy?
#
# ## Stacked: layers with kinks
#
# A subspace is flat. The digits are not: turn a 1 slowly and its picture moves along a
# curve. A network that follows curves needs a function that bends, and the cheapest is
# the **ReLU**, $\max(0, a)$, after each linear layer. We narrow in three steps, 784 to
# 128 to 32 to 10, and mirror them on the way back. Our target lies in $[0, 1]$, so the
# last layer ends in the **sigmoid**, $1 / (1 + e^{-a})$, which never leaves it.

# %%
def stacked_encoder(code_size, final_relu=False):
    """Images (B, 1, 28, 28) -> codes (B, code_size)."""
    return nn.Sequential(
        nn.Flatten(),  # (B, 1, 28, 28) -> (B, 784)
        nn.Linear(784, 128), nn.ReLU(),
        nn.Linear(128, 32), nn.ReLU(),
        nn.Linear(32, code_size),
        nn.ReLU() if final_relu else nn.Identity(),
    )


def stacked_decoder(code_size):
    """Codes (B, code_size) -> images (B, 1, 28, 28) in [0, 1]."""
    return nn.Sequential(
        nn.Linear(code_size, 32), nn.ReLU(),
        nn.Linear(32, 128), nn.ReLU(),
        nn.Linear(128, 784), nn.Sigmoid(),
        nn.Unflatten(1, (1, 28, 28)),  # (B, 784) -> (B, 1, 28, 28)
    )


def stacked(code_size, final_relu=False):
    encoder = stacked_encoder(code_size, final_relu)
    return Autoencoder(encoder, stacked_decoder(code_size))

# %% [markdown]
# What does each layer do to the shape, and how many numbers does it have to learn? A
# linear layer from $n$ to $m$ has $nm$ weights and $m$ biases: the first one
# $784 \cdot 128 + 128 = 100{,}480$.
#
# **Before training**, ask what the error should be, and see whether it is. Small random
# weights make all inputs of the sigmoid nearly 0, so the network paints every pixel in
# middle grey, $1 / (1 + e^0) = 0.5$. Its error must then be close to the mean of
# $(0.5 - x)^2$. A program whose first loss is far from its expected value has a bug,
# and this is the cheapest moment to find it.

# %%
torch.manual_seed(cfg.seed)
model = stacked(cfg.code_size).to(device)
display(tables.layers([*model.encoder, *model.decoder], test_x[:2]))
print(f"before training {F.mse_loss(rebuild(model, test_x), test_x):.4f}")
print(f"all grey        {(0.5 - test_x).square().mean():.4f}")
print(f"all black       {test_x.square().mean():.4f}")
print(f"mean picture    {mean_error:.4f}")

# %% [markdown]
# Most of the weights sit next to the pixels, where the network is widest. And the first
# error is as expected: all grey.
#
# Now train it, three times. **First** the recipe of a published tutorial, to the
# letter: a ReLU on the code as well, Adam with the constant rate 1e-4, batches of 50,
# 51 epochs. Its log begins with 0.083, 0.060, 0.051 and 0.044; if our program does the
# same thing, it must begin alike. **Second** the same network with the schedule, a
# fifty times higher peak, batches of 256 and half the epochs.
# **Third** the same again without the ReLU on the code. (`partial` fills in the first
# arguments of a function, so that `train_model` can build the network after it has set
# the seed.)

# %%
def train_model(build, x, test_x, seed=0, **recipe):
    """Build a model with seeded weights and fit it; return it with its history."""
    torch.manual_seed(seed)
    model = build().to(x.device)
    with runtime.Stopwatch(x.device) as watch:
        history = fit(model, x, test_x, seed=seed, **recipe)
    return model, history | {"seconds": watch.seconds}


source_recipe = dict(epochs=cfg.source_epochs, batch_size=cfg.source_batch,
                     rate=cfg.source_rate, cycle=False)
recipe = dict(epochs=cfg.stacked_epochs, batch_size=cfg.batch_size,
              rate=cfg.stacked_rate)
with_relu = partial(stacked, cfg.code_size, final_relu=True)
without = partial(stacked, cfg.code_size)
source_model, source_run = train_model(with_relu, x, test_x, **source_recipe)
quick_model, quick_run = train_model(with_relu, x, test_x, **recipe)
stacked_model, stacked_run = train_model(without, x, test_x, **recipe)
print("first losses:", [round(loss, 3) for loss in source_run["train"][:4]])

# %% [markdown]
# The curves show the error on the test images; the dashed line is PCA with as many
# numbers. The table has both errors and the clock.

# %% mystnb={"image": {"alt": "Test error against epochs, logarithmic: the tutorial's recipe falls slowly over 51 epochs; with a schedule the curve falls faster at first and then stays above it; without the ReLU on the code 25 epochs go far below both. A dashed line marks PCA."}}
runs = {"tutorial": source_run, "schedule": quick_run, "linear code": stacked_run}
fig, ax = plt.subplots(figsize=(7, 3.8))
plots.curves(ax, {name: run["test"] for name, run in runs.items()}, yscale="log",
             xlabel="epoch (from 0)", ylabel="test error", reference={"PCA": pca_error})
figures.caption_source(fig, test)
rows = [(name, len(run["test"]), run["seconds"], run["train"][-1], run["test"][-1])
        for name, run in runs.items()]
display(tables.table(("recipe", "epochs", "seconds", "train", "test"), rows))

# %% [markdown]
# All three pass PCA's line within a few epochs; then they part. The tutorial's curve
# falls slowly and is still falling at the end. The same network with the schedule
# starts faster and then gets *stuck*, at a worse error. And with nothing but the ReLU
# on the code taken away, the same recipe leaves both far behind, in a fraction of the
# tutorial's time. So a faster recipe alone is no gift. Something happens to the numbers
# behind that ReLU, and further down we will look at them one by one.
#
# Training and test error stay close together. With sixty thousand images and a
# bottleneck, the network has little room to learn images by heart.
#
# **What does the error look like?** The same ten digits, rebuilt by both:

# %% mystnb={"image": {"alt": "Three rows of ten digits: the originals, the blurrier versions that PCA rebuilds from ten numbers, and the clearer ones of the stacked autoencoder."}}
first = [int((test_y == digit).nonzero()[0]) for digit in range(10)]
ten = test_x[first]  # (10, 1, 28, 28): the first test image of each digit
grids.before_after({
    "original": ten,
    "PCA": pca_rebuild(ten, mean, basis),
    "stacked": rebuild(stacked_model, ten),
});

# %% [markdown]
# PCA adds and subtracts ten fixed patterns; where they do not cancel, it leaves grey
# ghosts around the stroke. The network draws a clean stroke on a black ground, but not
# always the same stroke: details that it could not afford to keep have become those of
# a more average digit.
#
# **Why one tensor?** The usual way to feed PyTorch is a `DataLoader` that fetches one
# image at a time from a `Dataset` and turns it into a tensor. That is the right tool
# when images must be read from disk or changed one by one. Ours fit into memory, so a
# batch is a single indexing operation. The same model, one epoch in each way; the
# `Dataset` does for an image what torchvision's `MNIST` does with the transform
# `ToTensor`.

# %%
class OneByOne(Dataset):
    """Images that are fetched and converted singly; images (N, 1, 28, 28), uint8."""

    def __init__(self, images):
        self.images, self.to_tensor = images[:, 0].numpy(), ToTensor()

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        return self.to_tensor(Image.fromarray(self.images[i]))  # (1, 28, 28)


pictures = OneByOne(data.mnist("train", dtype=torch.uint8).images[: cfg.n_images])
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
with runtime.Stopwatch(device) as one_by_one:
    for clean in DataLoader(pictures, batch_size=cfg.batch_size, shuffle=True):
        clean = clean.to(device)
        loss = F.mse_loss(model(clean), clean)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with runtime.Stopwatch(device) as one_tensor:
    train_epoch(model, x, cfg.batch_size, optimizer, rng)
speedup = one_by_one.seconds / one_tensor.seconds
record.measure("time an epoch, one by one / one tensor", speedup)
print(f"one by one {one_by_one.seconds:.1f} s, one tensor {one_tensor.seconds:.1f} s")

# %% [markdown]
# ## Convolutional: look at neighbourhoods
#
# The stacked network does not know that pixel 100 lies beside pixel 101. Shuffle all
# pixels in the same way and it learns exactly as well. A **convolution** does know: it
# slides one small table of weights, the **kernel**, over the picture. At each place it
# multiplies the weights with the pixels under them and writes down the sum. The same
# few weights are used everywhere, so a stroke learned in one corner is known in all.
# One kernel gives one new picture, a **channel**; a layer has many. If its input has
# several channels, too, a kernel has a table for each: from 16 to 32 channels with
# $3 \times 3$ tables, that makes $32 \cdot 16 \cdot 9$ weights and 32 biases.
#
# **How large is the result?** Let the input have $n$ pixels along one side, the kernel
# $k$. With a **padding** of $p$ zeros on both ends the kernel slides over $n + 2p$
# places. Its first position starts at 0, its last at $n + 2p - k$. With a **stride** of
# $s$ it stops at every $s$-th place, so the number of stops is
#
# $$n' = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 .$$
#
# With $k = 3$, $p = 1$ and $s = 2$, 28 becomes $\lfloor 27/2 \rfloor + 1 = 14$ and 14
# becomes 7; with $p = 0$, $s = 1$, 7 becomes 5.
#
# **And back?** The decoder needs a layer that makes pictures larger. Turn the
# convolution around: where it *gathers* a neighbourhood into one number, let each
# number *stamp* a copy of the kernel, multiplied by itself, onto the result; where
# stamps overlap, they add. This is the **transposed convolution**.
#
# **Why is it called transposed?** A convolution is linear: $v = Kx$ with some large,
# mostly empty matrix $K$. The gradient of $z^\top v = z^\top K x$ with respect to $x$
# is $K^\top z$. So the transposed convolution of $z$ is nothing new to PyTorch; it is
# what `backward` of an ordinary convolution has always computed. The picture shows the
# stamps for a $2 \times 2$ input and a $2 \times 2$ kernel, which give a $3 \times 3$
# result, and the cell checks that all three agree: the stamps, `conv_transpose2d`, and
# the gradient.

# %% mystnb={"image": {"alt": "Four 3 by 3 tables, each with the 2 by 2 kernel stamped at another corner and multiplied by 1, 2, 0 and 3, and a fifth table that is their sum."}}
kernel = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
z = torch.tensor([[1.0, 2.0], [0.0, 3.0]])
stamps = torch.zeros(4, 3, 3)
for n, (i, j) in enumerate(itertools.product(range(2), range(2))):
    stamps[n, i : i + 2, j : j + 2] = z[i, j] * kernel
by_hand = stamps.sum(dim=0)  # (3, 3)

picture = torch.zeros(1, 1, 3, 3, requires_grad=True)
shaped_z, shaped_kernel = z.view(1, 1, 2, 2), kernel.view(1, 1, 2, 2)
(F.conv2d(picture, shaped_kernel) * shaped_z).sum().backward()  # the sum is z'Kx
by_torch = F.conv_transpose2d(shaped_z, shaped_kernel)[0, 0]  # (3, 3)
assert torch.equal(by_torch, by_hand)
assert torch.equal(picture.grad[0, 0], by_hand)

fig, axes = plt.subplots(1, 5, figsize=(7, 1.9))
names = [f"{number:.0f} x kernel" for number in z.flatten()] + ["sum"]
for ax, table, name in zip(axes, [*stamps, by_hand], names):
    ax.imshow(table, cmap="Blues", vmin=0, vmax=20)
    for i, j in itertools.product(range(3), range(3)):
        ax.text(j, i, f"{table[i, j]:.0f}", ha="center", va="center")
    ax.set_title(name, fontsize=12)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# Read the middle of the sum: 4 from the first stamp, 6 from the second, 0 and 3 from
# the others, 13 in all.
#
# **Its size**: $n$ stamps at a distance of $s$; the last begins at $(n-1)s$ and ends
# $k$ later. The padding of the convolution it mirrors is cut off again at both ends,
# and $q$ rows and columns, the **output padding**, may be added at the end:
#
# $$n' = (n - 1)\,s + k - 2p + q .$$
#
# For 14 numbers, $k = 3$, $s = 2$, $p = 1$ and $q = 0$ that is $26 + 3 - 2 = 27$. But we
# came from 28! The floor in the first formula is to blame: it sends *both* 27 and 28 to
# 14, so the way back is ambiguous, and PyTorch takes the smaller unless
# `output_padding=1` asks for the larger.

# %%
def side(layer, n):
    """Side of what a (transposed) convolution makes of an input of side n."""
    k, s, p = layer.kernel_size[0], layer.stride[0], layer.padding[0]
    if isinstance(layer, nn.ConvTranspose2d):
        return (n - 1) * s + k - 2 * p + layer.output_padding[0]
    return (n + 2 * p - k) // s + 1


down = nn.Conv2d(1, 1, 3, stride=2, padding=1)
print("down:", {n: side(down, n) for n in range(25, 30)})
for extra in (0, 1):
    up = nn.ConvTranspose2d(1, 1, 3, stride=2, padding=1, output_padding=extra)
    print(f"up, output_padding={extra}:", {n: side(up, n) for n in (5, 7, 14)})

# %% [markdown]
# **One more part: batch normalisation.** When the numbers inside a network are too
# small, gradients fade; when they are too large, the sigmoid at the end saturates.
# Batch normalisation (Ioffe and Szegedy, 2015) rescales each channel. (That it helps is
# well tested; why is disputed. Its authors thought that it stops the inputs of a layer
# from drifting; Santurkar et al., 2018, found that it helps even where they drift.)
# The layer does this:
# subtract its mean over the batch and all places, divide by its standard deviation,
# then let two learned numbers choose scale and shift. For a single image there is no
# batch, so while training the layer keeps a running average of both, and uses that
# after `model.eval()`. Forget the `eval()`, and what an image gives depends on its
# neighbours in the batch:

# %%
normalise, maps = nn.BatchNorm2d(1).to(device), x[:64]  # one channel: the pictures
by_hand = (maps - maps.mean()) / (maps.var(correction=0) + 1e-5).sqrt()
print("by hand equals the layer:", torch.allclose(normalise(maps), by_hand, atol=1e-4))
for mode in (True, False):
    normalise.train(mode)
    same = torch.allclose(normalise(maps[:1])[0], normalise(maps)[0], atol=1e-4)
    print(f"training is {mode}: alone and in a batch the same: {same}")

# %% [markdown]
# Now the encoder: three convolutions with $3 \times 3$ kernels, 16, 32 and 64 channels,
# strides 2, 2 and 1, then a linear layer to the code. The shape stands behind each
# line; check them with the formula. `final_relu` is there to study what we saw in the
# stacked network.

# %% recap=["ConvEncoder"]
class ConvEncoder(nn.Module):
    """Images (B, 1, 28, 28) in [0, 1] -> codes (B, code_size)."""

    def __init__(self, code_size, final_relu=False):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1),  # (B, 16, 14, 14)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, stride=2, padding=1),  # (B, 32, 7, 7)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 3),  # (B, 64, 5, 5)
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.Flatten(),  # (B, 1600)
            nn.Linear(64 * 5 * 5, code_size),
            nn.ReLU() if final_relu else nn.Identity(),
        )

    def forward(self, x):
        check_shape(x)
        return self.layers(x)

# %% [markdown]
# The decoder is its mirror image: `nn.Unflatten` turns the 1,600 numbers back into 64
# small maps, and three transposed convolutions enlarge them.

# %% recap=["ConvDecoder"]
class ConvDecoder(nn.Module):
    """Codes (B, code_size) -> images (B, 1, 28, 28) in [0, 1]."""

    def __init__(self, code_size):
        super().__init__()
        enlarge = dict(stride=2, padding=1, output_padding=1)
        self.layers = nn.Sequential(
            nn.Linear(code_size, 64 * 5 * 5),
            nn.ReLU(),
            nn.Unflatten(1, (64, 5, 5)),
            nn.ConvTranspose2d(64, 32, 3),  # (B, 32, 7, 7)
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 16, 3, **enlarge),  # (B, 16, 14, 14)
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 3, **enlarge),  # (B, 1, 28, 28)
            nn.Sigmoid(),
        )

    def forward(self, z):
        return self.layers(z)


def convolutional(code_size, final_relu=False):
    return Autoencoder(ConvEncoder(code_size, final_relu), ConvDecoder(code_size))

# %% [markdown]
# The two formulas against PyTorch, layer by layer:

# %%
model = convolutional(cfg.code_size).to(device).eval()
every = [*model.encoder.layers, *model.decoder.layers]
shown = test_x[:1]
for layer in every:
    before, shown = shown.shape[-1], layer(shown)
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        print(f"{before} to {shown.shape[-1]}, formula: {side(layer, before)}")
tables.layers(every, test_x[:1])

# %% [markdown]
# The largest layers are the two between 32 and 64 channels and the two linear ones
# beside the code. In all there are far fewer weights than in the stacked network. Train
# it from several seeds, and the stacked one as often, to know how much is luck:

# %%
conv_recipe = recipe | dict(epochs=cfg.conv_epochs, rate=cfg.conv_rate)
how = {"stacked": (stacked, recipe), "convolutional": (convolutional, conv_recipe)}
seeds, models, errors = range(cfg.seed, cfg.seed + cfg.n_seeds), {}, {}
for name, (build, its_recipe) in how.items():
    build = partial(build, cfg.code_size)
    runs = [train_model(build, x, test_x, seed, **its_recipe) for seed in seeds]
    models[name] = [model for model, _ in runs]
    errors[name] = [run["test"][-1] for _, run in runs]

# %% [markdown]
# Ten digits, from ten numbers each:

# %% tags=["result-picture"] mystnb={"image": {"alt": "Four rows of ten digits: the originals, and the same digits rebuilt from ten numbers by PCA, by the stacked and by the convolutional autoencoder; each row is sharper and closer to the originals than the one above it."}}
conv_model = models["convolutional"][0]
fig, ax = plt.subplots(figsize=(7, 2.7))
rows = {"original": ten, "PCA": pca_rebuild(ten, mean, basis)}
rows |= {name: rebuild(several[0], ten) for name, several in models.items()}
grids.before_after(rows, ax=ax)
figures.caption_source(fig, test);

# %% [markdown]
# From row to row strokes get sharper and stay truer to the writer: look at the loops,
# hooks and slants. The last row comes from the same ten numbers' worth of space as the
# second.
#
# To put the quality into one number people often use the **peak signal-to-noise ratio**
# (PSNR). With a largest possible value of 1 it is $10 \log_{10}(1 / \mathrm{MSE})$, in
# decibels (dB): an MSE of 0.01 is 20 dB, and halving the error adds 3 dB.

# %%
def psnr(x, rebuilt):
    """Peak signal-to-noise ratio of images against the clean x in [0, 1], in dB."""
    check_images(x)
    return -10 * F.mse_loss(rebuilt, x).log10().item()


marks = dict(floor=mean_error, ceiling=0.0, note="floor: the mean picture")
for name, values in errors.items():
    record.measure_seeds(f"{name}, test MSE", values, **marks)
    decibels = [10 * math.log10(1 / value) for value in values]
    record.measure_seeds(f"{name}, test PSNR", decibels, unit="dB")
share = [value / pca_error for value in errors["convolutional"]]
record.measure_seeds("convolutional / PCA, test MSE", share)
rows = [(f"{name}, seed {seed}", value, value / pca_error, 10 * math.log10(1 / value))
        for name, values in errors.items() for seed, value in zip(seeds, values)]
tables.table(("model", "test MSE", "of PCA's", "PSNR (dB)"), rows)

# %% [markdown]
# ## Numbers that died
#
# Back to the ReLU on the code. Let us train the convolutional network once more, with
# `final_relu=True` and nothing else changed, and ask of each of the ten numbers: for
# how many of the training images is it above zero?

# %%
@torch.inference_mode()
def encode(model, x):
    """Codes of images x, (N, code_size)."""
    model.eval()
    return torch.cat([model.encoder(block) for block in x.split(1000)])


build = partial(convolutional, cfg.code_size, final_relu=True)
relu_model, relu_run = train_model(build, x, test_x, **conv_recipe)

# %% [markdown]
# For each of the ten numbers, the share of the training images for which it is above
# zero, from the most to the least used:

# %%
models_with_relu = [source_model, quick_model, relu_model]
for name, model in zip(["tutorial", "schedule", "convolutional"], models_with_relu):
    used = (encode(model, x) > 0).float().mean(dim=0).sort(descending=True).values
    print(f"{name:>13}:", " ".join(f"{share:.2f}" for share in used.tolist()))
dead = int((used == 0).sum())
record.measure("ReLU code, dead numbers", dead, ceiling=0.0, note="of ten")
print(f"with {relu_run['test'][-1]:.4f}, without {errors['convolutional'][0]:.4f}")

# %% [markdown]
# A number that is zero for *every* image is **dead**. Each of the three networks has
# some, and the one with the schedule most. While a number's input is below zero for all
# images, the ReLU passes no gradient back through it. (It may revive: the layers before
# it still learn through the living numbers, and can move its input.) In the bottleneck
# each dead number is a tenth of all the space there is, and the network with the most
# of them has the curve that got stuck. One seed of each, with rate, batch and schedule
# changed together, does not show which of the three made the difference.
#
# Look at the living ones, too: they are above zero for nearly all images, where the
# ReLU is the identity. It bends nothing there, so removing it takes little away, and
# gives the dead ones back. Hence **no ReLU on a code**: all our other models have a
# linear one.
#
# ## Denoising: a harder task teaches more
#
# A **denoising autoencoder** (Vincent et al., 2008) gets a spoiled picture and has to
# give back the clean one. Copying is now useless even with a wide code, because what is
# to be copied is wrong. To remove noise, the network has to know how digits look.
#
# We add to each pixel an independent normal number with standard deviation 0.5, half of
# the distance from paper to ink. (The result may leave $[0, 1]$; we do not clip it.)
# Its mean square is 0.25, so the noisy picture has a PSNR of $10 \log_{10} 4 = 6.0$ dB.
#
# Before the right way, a mistake so common that it deserves a name: **the forgotten
# input**. The noisy tensor is made, and then the *clean* one is passed to the network.
# No error appears, the loss even falls faster. Can you see it at a glance?
#
# The first function makes `noisy` and never uses it. (A linter would have told: ruff
# calls it F841, "assigned to but never used".) What does it learn about noise? Train
# with each of the two for a few steps, once with noise and once with noise of strength
# 0, from the same seed on the same batches, and compare all weights, bit by bit.

# %%
def add_noise(x, level, generator):
    """Images plus normal noise with standard deviation `level`."""
    return x + level * torch.randn(x.shape, generator=generator).to(x.device)


def forgotten_input(model, clean, level, generator):
    noisy = add_noise(clean, level, generator)  # noqa: F841
    return F.mse_loss(model(clean), clean)


def denoising(model, clean, level, generator):
    noisy = add_noise(clean, level, generator)
    return F.mse_loss(model(noisy), clean)


def weights_after(loss_of, level, n_steps=30):
    torch.manual_seed(cfg.seed)
    model = stacked(cfg.code_size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    generator = torch.Generator().manual_seed(cfg.seed)
    for clean in x[: 100 * n_steps].split(100):
        optimizer.zero_grad()
        loss_of(model, clean, level, generator).backward()
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


for loss_of in (forgotten_input, denoising):
    quiet, loud = (weights_after(loss_of, level) for level in (0, cfg.noise))
    same = torch.equal(quiet, loud)
    print(f"{loss_of.__name__:>15}: same weights with and without noise: {same}")

# %% [markdown]
# Bit for bit the plain autoencoder: it has learned *nothing* about noise. The loss
# cannot reveal this, since it is measured on the same clean input. Only trying it on
# noisy pictures does. So the plain convolutional network from above *is* the result of
# the mistake, and we can put it beside the right version at no cost. In `train_epoch`
# the right version is already written: `model(corrupt(clean, order))` against `clean`.
# We train two, one with ten numbers and one with 64. Then the same noisy digits are
# given to each:

# %% mystnb={"image": {"alt": "Five rows of ten digits: clean, with strong grey noise, what the network with the forgotten input makes of the noisy ones (faint and partly wrong digits), and clean-looking results of the two denoising networks, the wider code closest to the originals."}}
def spoil(clean, generator):
    return add_noise(clean, cfg.noise, generator)


denoise_recipe = conv_recipe | dict(epochs=cfg.denoise_epochs, corrupt=spoil)
denoisers = {}
for size in (cfg.code_size, cfg.wide_size):
    build = partial(convolutional, size)
    denoisers[size], _ = train_model(build, x, test_x, **denoise_recipe)

noisy_ten = spoil(ten, torch.Generator().manual_seed(cfg.seed))
rows = {"clean": ten, "noisy": noisy_ten}
rows["forgotten input"] = rebuild(conv_model, noisy_ten)
for size, model in denoisers.items():
    rows[f"denoising, {size}"] = rebuild(model, noisy_ten)
fig, ax = plt.subplots(figsize=(7, 3.4))
grids.before_after(rows, ax=ax)
figures.caption_source(fig, test);

# %% [markdown]
# Compare the last three rows with the first. The network that never saw noise draws
# faint strokes, and some of its digits are other ones. With ten numbers the right
# network draws clean digits, sometimes a more average one than the original; with 64 it
# also keeps the writer's hand.
#
# How good is that? We compare with two classical opponents. A **Gaussian filter**
# replaces each pixel by a weighted mean of its neighbourhood, a **median filter** by
# the median. Both have a width; we choose the best one for each level of noise on
# training images, so that they know the noise level and our networks do not.

# %%
def gauss(noisy, width):  # the standard deviation, in pixels
    return torch.from_numpy(gaussian_filter(noisy.numpy(), (0, 0, width, width)))


def median(noisy, width):  # the side of the square, in pixels
    return torch.from_numpy(median_filter(noisy.numpy(), (1, 1, width, width)))


FILTERS = {"Gaussian filter": (gauss, [0.4, 0.6, 0.8, 1.0, 1.2, 1.5]),
           "median filter": (median, [1, 3, 5])}

# %% [markdown]
# All of them on the test images, at every level of noise. The denoising networks were
# trained at 0.5 only. Higher is better.

# %% mystnb={"image": {"alt": "PSNR against the noise level for six methods. Nothing and the filters fall steadily; the plain autoencoder starts high and drops fast; the two denoising networks stay high up to about 0.5 and lie far above the filters there."}}
levels, clean, sample = cfg.noise_levels, test_x.cpu(), x[: cfg.n_filtered].cpu()
judged = {f"{size} numbers": model for size, model in denoisers.items()}
judged["plain"] = conv_model
scores = {name: [] for name in ["nothing", *FILTERS, *judged]}
for level in levels:
    noisy, noisy_sample = (add_noise(images, level, rng) for images in (clean, sample))
    scores["nothing"].append(psnr(clean, noisy))
    for name, (smooth, widths) in FILTERS.items():
        tried = {width: psnr(sample, smooth(noisy_sample, width)) for width in widths}
        scores[name].append(psnr(clean, smooth(noisy, max(tried, key=tried.get))))
    for name, model in judged.items():
        scores[name].append(psnr(test_x, rebuild(model, noisy.to(device))))
at = {name: values[levels.index(cfg.noise)] for name, values in scores.items()}
best_filter = max(at[name] for name in FILTERS)
for name in [f"{size} numbers" for size in denoisers]:
    record.measure(f"denoising, {name}, PSNR", at[name], unit="dB", floor=at["nothing"])
    gain = at[name] - best_filter
    record.measure(f"denoising, {name}, above the best filter", gain, unit="dB")
fig, ax = plt.subplots(figsize=(7, 4.2))
plots.curves(ax, scores, x=levels, xlabel="strength of noise", ylabel="PSNR (dB)")
figures.caption_source(fig, test)
tables.table(["noise", *scores], [[cfg.noise, *at.values()]])

# %% [markdown]
# The filters know nothing about digits; they can only trade noise for blur. They are
# weak opponents: their results may leave $[0, 1]$, while our networks end in a
# sigmoid, and a filter that knows the covariance of the digits (Wiener's, in the
# basis of PCA) does better than both, and comes close to the network with ten
# numbers. The denoising networks stay nearly level up to the noise they were trained
# with, and lose beyond it. Note the left end: where there is hardly any noise, doing
# nothing beats the network with ten numbers, because that can never be better than
# its bottleneck allows.
#
# Noise is only one way to spoil a picture. Another is **dropout**: set each pixel to
# zero with probability one half. (`nn.Dropout` also doubles the others, to keep the
# mean; here a lost pixel shall simply be lost.) The network then has to guess the
# missing half from the rest, which is the same game that language models play with
# missing words.

# %% mystnb={"image": {"alt": "Four rows of ten digits: clean, with half of the pixels removed at random, rebuilt badly by the plain stacked autoencoder, and rebuilt well by one trained with dropout."}}
def drop_pixels(x, generator):
    """Images with half of the pixels, drawn at random, set to zero."""
    return x * (torch.rand(x.shape, generator=generator) < 0.5).to(x.device)


build = partial(stacked, cfg.code_size)
repairer, _ = train_model(build, x, test_x, **recipe, corrupt=drop_pixels)
dropped = drop_pixels(ten, torch.Generator().manual_seed(cfg.seed))
rows = {"plain": rebuild(stacked_model, dropped), "trained": rebuild(repairer, dropped)}
grids.before_after({"clean": ten, "half dropped": dropped} | rows);

# %% [markdown]
# The third row shows what the stacked network makes of a kind of picture that it has
# never seen: faint strokes, and often another digit. The last row is the same network,
# trained in the same way but with such pictures.
#
# ## How many numbers?
#
# Ten was our choice. Let us vary it, for PCA and both networks (one seed, fewer epochs
# than above, so the values at ten are a little higher). Both axes are logarithmic.

# %% mystnb={"image": {"alt": "Test error against the size of the code from 2 to 50. PCA is highest and falls steadily; the stacked network is well below it for small codes and flattens for large ones; the convolutional one is lowest everywhere."}}
sweep = {"PCA": [], "stacked": [], "convolutional": []}
for size in cfg.sweep_sizes:
    rebuilt = pca_rebuild(test_x, *pca(x, size))
    sweep["PCA"].append(F.mse_loss(rebuilt, test_x).item())
    for name, (build, its_recipe) in how.items():
        its_recipe = its_recipe | dict(epochs=cfg.sweep_epochs)
        _, run = train_model(partial(build, size), x, test_x, **its_recipe)
        sweep[name].append(run["test"][-1])

fig, ax = plt.subplots(figsize=(7, 3.8))
plots.curves(ax, sweep, x=cfg.sweep_sizes, xscale="log", yscale="log",
             xlabel="numbers in the code", ylabel="test MSE")
ax.set_xticks(cfg.sweep_sizes, cfg.sweep_sizes)
ax.set_yticks([0.005, 0.01, 0.02, 0.05], ["0.005", "0.01", "0.02", "0.05"])
ax.minorticks_off()
figures.caption_source(fig, test);

# %% [markdown]
# For small codes the networks are far ahead of PCA. With 50 numbers PCA has overtaken
# the stacked network, and the convolutional one is the best at every size. Two things
# may hold the stacked network back, and this figure does not separate them: its layer
# of 32 units, narrower than a code of 50, and the short training, which leaves it with
# 20 numbers worse than the fully trained one with ten.
#
# ## A map of two numbers
#
# With a code of two numbers we can *see* the code space. We train a stacked network
# with two numbers for as long as the one with ten.

# %%
map_model, map_run = train_model(partial(stacked, 2), x, test_x, **recipe)
map_codes = encode(map_model, test_x[: cfg.n_map])  # (n_map, 2)
ranks = map_codes.argsort(dim=0).argsort(dim=0) / len(map_codes)  # in [0, 1)


@torch.inference_mode()
def decode(model, z):
    """Images (N, 1, 28, 28) of codes z (N, code_size)."""
    model.eval()
    return model.decoder(z)

# %% [markdown]
# On the left the codes of test digits, coloured by the label that the network never
# saw. Some codes lie far out, so both axes show *ranks*: 0.5 is the median, and equally
# many codes lie in every strip. On the right the same area, decoded on a grid. The last
# lines keep the decoder and the codes for the interactive version of this page.

# %% mystnb={"image": {"alt": "Left: a scatter plot of 2,000 codes in which most digits form coloured fans or patches of their own, some overlapping. Right: the same area as a grid of decoded thumbnails that change smoothly from digit to digit."}}
fig, axes = plt.subplots(1, 2, figsize=(7, 3.8))
map_labels = test_y[: cfg.n_map]
plots.clusters(axes[0], ranks, map_labels)
axes[0].set(xlim=(0, 1), ylim=(0, 1), title="codes", xlabel="rank of the first number",
            ylabel="rank of the second")
box = dict(boxstyle="circle,pad=0.15", facecolor="white", alpha=0.85, linewidth=0)
for digit in range(10):
    middle = ranks[map_labels == digit].median(dim=0).values.tolist()
    axes[0].text(*middle, digit, ha="center", va="center", weight="bold", bbox=box)
steps = torch.linspace(0.02, 0.98, 12, device=device)
across = map_codes[:, 0].quantile(steps)
upward = map_codes[:, 1].quantile(steps.flip(0))  # pictures are drawn from the top
places = torch.cartesian_prod(upward, across).flip(1)  # (144, 2)
grids.image_grid(decode(map_model, places), columns=12, ax=axes[1])
axes[1].set_title("decoded")
figures.caption_source(fig, test)

arrays = {"codes": map_codes, "labels": map_labels}
for name, layer in zip(("first", "second", "last"), map_model.decoder[::2]):
    arrays |= {f"{name}_weight": layer.weight, f"{name}_bias": layer.bias}
record.export("code_map", arrays)
record.measure("two numbers, test MSE", map_run["test"][-1], **marks)

# %% [markdown]
# Without labels, the digits have sorted themselves: those that look alike lie near each
# other, and the decoder changes one into the next without a jump. There are also places
# where digits overlap (the label of the 4 lies under that of the 9), and patches that
# decode to something between digits. Two numbers are not enough for ten kinds of digits
# in all handwritings.
#
# ## Between two digits
#
# Half-way between two pictures, pixel by pixel, is a double exposure. Half-way between
# their codes is whatever the decoder makes of that place. The first two test digits:

# %% mystnb={"image": {"alt": "Two rows that lead from a 7 to a 2 in nine steps. In pixel space the 7 fades out while the 2 fades in; in code space one stroke bends into the other digit."}}
shares = torch.linspace(0, 1, 9, device=device)[:, None]  # (9, 1)
start, end = encode(conv_model, test_x[:2])  # two codes, (code_size,)
pixels = torch.lerp(test_x[0].view(1, -1), test_x[1].view(1, -1), shares)
grids.before_after({
    "in pixels": pixels.view(-1, 1, 28, 28),
    "in code": decode(conv_model, torch.lerp(start, end, shares)),
});

# %% [markdown]
# Upper row: two ghosts, one fading out and one fading in. Lower row: mostly single
# strokes that bend from one digit into the other, since the decoder has learned to draw
# strokes. Some of the steps in the middle are no digit at all. Nothing has told the
# network that every place *between* codes should be one.
#
# ## Things it has never seen
#
# What does a network trained on digits make of something else? We give it digits upside
# down, pieces of clothing (Fashion-MNIST; Xiao et al., 2017) and pure noise.

# %% mystnb={"image": {"alt": "Two rows of twelve pictures: three digits, three upside-down digits, three garments and three squares of noise, and below them what the network rebuilds: good digits, then digit-like strokes and blots."}}
fashion = data.fashion_mnist("test")
record.use(fashion)
strange = {"digits": test_x}
strange["upside down"] = test_x.flip(2, 3)  # turned by 180 degrees
strange["clothes"] = fashion.images[: cfg.n_test].to(device)
strange["noise"] = torch.rand(test_x.shape, generator=rng).to(device)
inputs = torch.cat([images[:3] for images in strange.values()])  # (12, 1, 28, 28)
grids.before_after({"input": inputs, "rebuilt": rebuild(conv_model, inputs)});

# %% [markdown]
# It can only say what it has words for. The clothes become blots made of strokes, the
# noise becomes the same curl every time. Upside-down digits are the interesting case:
# many are made of strokes it knows, and some *are* digits (a 6 turned round is a 9).
# The error of each image tells the kinds apart to some degree (the bars of the noise
# are cut off at the top):

# %% mystnb={"image": {"alt": "Histogram of the error per image for the four kinds on a logarithmic axis: digits lowest, upside-down digits slightly higher and overlapping them, clothes and noise far to the right."}}
groups = {}
for name, images in strange.items():
    each = (rebuild(conv_model, images) - images).square().mean(dim=(1, 2, 3))  # (N,)
    groups[name] = each.log10().cpu()
fig, ax = plt.subplots(figsize=(7, 3.4))
plots.histogram(ax, groups, xlabel="error of an image (power of ten)",
                ylabel="images", bins=60).set_ylim(0, cfg.n_test // 8)
figures.caption_source(fig, test);

# %% [markdown]
# Clothes and noise lie to the right, though their tails touch the digits' own; this
# is a simple **anomaly detector**. But upside-down digits overlap with digits, so a
# small error does *not* prove that an image is of the right kind.
#
# ## Neighbours
#
# Which training image is nearest to a test image? In pixel space that is the one whose
# ink overlaps most; in code space the one with the most similar description.

# %% mystnb={"image": {"alt": "Three rows of ten digits: the test images, their nearest training images in code space and their nearest in pixel space; nearly all show the same digit in a similar hand."}}
codes, test_codes = encode(conv_model, x), encode(conv_model, test_x)
pools = {"code": (test_codes, codes), "pixels": (test_x.flatten(1), x.flatten(1))}
rows = {"test": test_x[:10]}
for name, (points, pool) in pools.items():
    near = torch.cdist(points[:1000], pool).argmin(dim=1).cpu()  # (1000,)
    rows[f"nearest by {name}"] = x[near[:10].to(device)]
    print(f"same digit, by {name}: {(y[near] == test_y[:1000]).float().mean():.3f}")
grids.before_after(rows);

# %% [markdown]
# Ten numbers do this almost as well as 784, and a search among them takes a small
# fraction of the time and memory. That is how large collections of pictures are
# searched.
#
# ## Codes drawn at random
#
# Now the question on which the next chapters rest. The decoder turns codes into digits.
# Can we *make up* a code? We take for each of the ten numbers its mean and standard
# deviation over all training images, draw ten independent normal numbers with these,
# and decode. Twenty draws, not selected:

# %% mystnb={"image": {"alt": "Twenty decoded random codes in two rows of ten: mostly strokes and blots that are not digits, with a few that could pass as one."}}
draws = torch.randn(1000, cfg.code_size, generator=rng).to(device)
random_codes = codes.mean(dim=0) + codes.std(dim=0) * draws  # (1000, code_size)
fig, ax = plt.subplots(figsize=(7, 1.6))
grids.image_grid(decode(conv_model, random_codes[:20]), columns=10, ax=ax);

# %% [markdown]
# **Mostly not digits.** A few would pass; the others are blots, faint scribbles and
# halves of digits. Why? The training only ever asked the decoder about codes *of
# digits*. These do not fill the space evenly: they lie in clumps and sheets with gaps
# between them, bent so that no ten independent numbers describe them. A random code
# usually falls into a gap, and there the decoder was never told what to do. We can
# measure the gap: how far is it to the nearest code of a training image?

# %%
to_codes = {
    name: torch.cdist(some, codes).min(dim=1).values.median().item()
    for name, some in {"test": test_codes[:1000], "random": random_codes}.items()
}
times = to_codes["random"] / to_codes["test"]
record.measure("distance to the nearest code, random / test", times, floor=1.0)
display(Markdown(f"A random code lies **{times:.1f}** times as far from the nearest"
                 " training code as the code of a test digit does (medians)."))

# %% [markdown]
# So an autoencoder compresses, cleans and compares, but alone it does **not generate**:
# nothing in its loss cares about *how codes are distributed*. Three ways out: learn
# that distribution afterwards (exercise 4 does, with a mixture of Gaussians, and most
# of its samples are readable digits), bend the codes until they fill a known shape
# (the variational autoencoder; Kingma and Welling, 2014), or learn to turn known noise
# directly into pictures. The third way opens with the next chapter.
#
# ## What do the codes know?
#
# Last, the measurements with labels. A **linear probe** asks how much of the label can
# be read off a code by the simplest classifier, logistic regression: it is trained on
# codes of the training images and their labels, and scored on the test images, while
# the encoder stays as it is. And k-means of chapter 1 gets codes in place of pixels,
# $K = 10$, the best of five starts.

# %%
def probe(codes, y, test_codes, test_y):
    """Test accuracy of logistic regression trained on codes (N, k), labels y (N,)."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(tol=1e-3))
    classifier.fit(codes.cpu().numpy(), y.numpy())
    return classifier.score(test_codes.cpu().numpy(), test_y.numpy())


def cluster(codes, test_codes, test_y, seed):
    """Accuracy on test codes of k-means on the training codes."""
    generator = torch.Generator().manual_seed(seed)
    centers = best_of(5, codes, 10, generator=generator).centers
    labels = torch.cdist(test_codes, centers).argmin(dim=1)
    return metrics.clustering_accuracy(test_y, labels)

# %% [markdown]
# For PCA and pixels there is only one description; over seeds, only the starts of
# k-means differ there.

# %%
described = {"pixels": [(x.flatten(1), test_x.flatten(1))],
             "PCA": [tuple((a.flatten(1) - mean) @ basis for a in (x, test_x))]}
for name, several in models.items():
    described[name] = [(encode(model, x), encode(model, test_x)) for model in several]
rows, ends = [], dict(floor=0.1, ceiling=1.0)
for name, pairs in described.items():
    probes = [probe(codes, y, test_codes, test_y) for codes, test_codes in pairs]
    groups = [cluster(*pairs[seed % len(pairs)], test_y, seed) for seed in seeds]
    record.measure_seeds(f"{name}, linear probe", probes, **ends)
    record.measure_seeds(f"{name}, k-means accuracy", groups, **ends)
    rows.append((name, *(np.mean(v) for v in (probes, groups)), np.std(groups, ddof=1)))
tables.table(("description", "linear probe", "k-means", "its spread"), rows)

# %% [markdown]
# Compare the rows. From the ten numbers of the convolutional code, found without a
# label, the probe reads the digit about as well as from all 784 pixels, and much better
# than from the ten numbers of PCA. The k-means column answers chapter 1: the *same*
# k-means, with the same $K$, gets far more digits right when it looks at the
# convolutional code in place of pixels. That is what one change bought, although
# nothing in the cost speaks of groups. But do not conclude that every short code helps:
# PCA's is no better for k-means than the pixels, and that of the stacked network only a
# little. A code is trained to rebuild, not to separate; that its groups come out round
# is a gift. Chapter 8 will put groups into the cost.
#
# ## Touch it
#
# The map once more, as a place to walk in: this function decodes any place on it, given
# by two ranks. With a live kernel the sliders move the point.

# %% mystnb={"image": {"alt": "Left: the map of codes in grey with one marked point. Right: the digit that the decoder draws for that point."}}
def walk(across, upward):
    fig, axes = plt.subplots(1, 2, figsize=(5.6, 2.9))
    plots.clusters(axes[0], ranks).set_title("codes")
    axes[0].plot(across, upward, "o", ms=11, color=figures.PALETTE[1])
    z = [map_codes[:, i].quantile(rank) for i, rank in enumerate((across, upward))]
    grids.image_grid(decode(map_model, torch.stack(z)[None]), columns=1, ax=axes[1])
    return fig


walk(0.5, 0.5);

# %% [markdown]
# You stand in the middle of all codes. In a live notebook, look for a straight way that
# passes three digits, and for the least readable place on the map.

# %%
sliders = {name: widgets.FloatSlider(0.5, min=0.0, max=1.0, step=0.01, description=name)
           for name in ("across", "upward")}
picture = widgets.Image()


def redraw(change=None):
    chosen = {name: slider.value for name, slider in sliders.items()}
    picture.value = film.still(walk(**chosen))


for slider in sliders.values():
    slider.observe(redraw, "value")
redraw()
widgets.VBox([*sliders.values(), picture])

# %% [markdown]
# ## Summary
#
# * An autoencoder learns a short code by having to rebuild its input from it. No labels
#   are involved.
# * A linear one is PCA. Kinks let the network follow curved families of pictures, and
#   convolutions let it use each stroke everywhere: the error falls far below PCA's for
#   the same ten numbers. (The convolutional network also has batch normalisation, which
#   the stacked one lacks; which part of its lead is due to which was not tested.)
# * A recipe matters, too: the learning rate's schedule, the batch, no ReLU on the code.
# * Trained on spoiled input with the clean target, it removes noise better than simple
#   filters; check that the spoiled input really reaches the network.
# * Its codes are good for search, grouping and classification with few labels.
# * Alone it does not generate: independent normal numbers mostly decode to no digit.
#   With a model of how its codes are distributed it does (exercise 4). And a small
#   error does not prove that an image is of the kind it learned.
#
# ## Exercises
#
# Try each before you open the solution. All run on a part of the data, in seconds.
#
# **1. Tied weights.** In PCA the decoder is the transpose of the encoder. Build a
# stacked autoencoder whose decoder uses the encoder's weight matrices, transposed, and
# only has biases of its own. How many parameters does that save, and what does it cost?

# %% tags=["solution"]
class TiedAutoencoder(nn.Module):
    def __init__(self, code_size):
        super().__init__()
        sizes = (784, 128, 32, code_size)
        self.down = nn.ModuleList(
            nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.biases = nn.ParameterList(torch.zeros(size) for size in sizes[:-1])

    def forward(self, x):
        z = x.flatten(1)  # (B, 1, 28, 28) -> (B, 784)
        for layer in self.down:
            z = layer(z) if layer is self.down[-1] else layer(z).relu()
        for layer, bias in reversed(list(zip(self.down, self.biases))):
            z = F.linear(z, layer.weight.T, bias)
            z = z.sigmoid() if layer is self.down[0] else z.relu()
        return z.view_as(x)  # (B, 784) -> (B, 1, 28, 28)


part, brief = x[:20_000], recipe | dict(epochs=cfg.sweep_epochs)
for build in (TiedAutoencoder, stacked):
    torch.manual_seed(cfg.seed)
    model = build(cfg.code_size).to(device)
    last = fit(model, part, test_x, **brief)["test"][-1]
    n = sum(p.numel() for p in model.parameters())
    print(f"{type(model).__name__:>16}: {n:,} parameters, test MSE {last:.4f}")
# Half of the parameters are gone, and the error is about the same.

# %% [markdown]
# **2. A sparse code.** Take 64 numbers with a ReLU, and add to the error a penalty
# $\lambda$ times the mean of the code. How many numbers are above zero for an image,
# and what does the error do, for $\lambda = 0$, 0.001 and 0.01?

# %% tags=["solution"]
for penalty in (0, 0.001, 0.01):
    torch.manual_seed(cfg.seed)
    model = stacked(64, final_relu=True).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for epoch in range(cfg.sweep_epochs):
        for batch in part.split(cfg.batch_size):
            z = model.encoder(batch)
            loss = F.mse_loss(model.decoder(z), batch) + penalty * z.mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    active = (encode(model, test_x) > 0).float()
    last = F.mse_loss(rebuild(model, test_x), test_x)
    print(f"penalty {penalty}: MSE {last:.4f}, {active.sum(dim=1).mean():.1f} numbers"
          f" above zero on average, {int((active.sum(dim=0) == 0).sum())} dead")
# The penalty presses numbers to zero, where they cost nothing. Each image then uses a
# few of many numbers: a bottleneck in how many are in use, not in how many there are.

# %% [markdown]
# **3. A skip connection.** Add the input to the decoder's result before the sigmoid (as
# a logit, so that it comes out unchanged), as many good networks do. Watch the error,
# then look at what the code is still good for: shuffle the codes among the images of a
# batch.

# %% tags=["solution"]
class Skip(Autoencoder):
    def forward(self, x, shuffle=False):
        z = self.encoder(x)
        z = z.roll(1, dims=0) if shuffle else z  # each image gets another's code
        hidden = self.decoder[:-2](z).view_as(x)  # without the sigmoid
        return (hidden + x.logit(eps=0.01)).sigmoid()


torch.manual_seed(cfg.seed)
base = stacked(cfg.code_size)
model = Skip(base.encoder, base.decoder).to(device)
last = fit(model, part, test_x, **brief)["test"][-1]
with torch.inference_mode():
    shuffled = F.mse_loss(model(test_x, shuffle=True), test_x).item()
print(f"error {last:.5f}, with the codes of other images {shuffled:.5f}")
# The error is tiny. Even with the codes of *other* images it is far below that of any
# bottleneck: the picture goes round the code. A low error proves nothing about a code.

# %% [markdown]
# **4. Better random codes.** Codes lie in clumps. Fit a mixture of 50 normal
# distributions to the training codes (`GaussianMixture`), draw from that, and decode.

# %% tags=["solution"] mystnb={"image": {"alt": "Twenty decoded draws from a mixture of 50 normal distributions: most of them are readable digits."}}
mixture = GaussianMixture(min(50, len(codes) // 5), random_state=cfg.seed, tol=1e-2)
mixture.fit(codes[:20_000].cpu().double().numpy())
drawn = torch.tensor(mixture.sample(20)[0][:20], dtype=torch.float32)
drawn = drawn[torch.randperm(20, generator=rng)]  # they come sorted by component
fig, ax = plt.subplots(figsize=(7, 1.6))
grids.image_grid(decode(conv_model, drawn.to(device)), columns=10, ax=ax);
# Far better: the decoder was fine, the place it was asked about was wrong. Knowing how
# codes are distributed turns an autoencoder into a generator.

# %% [markdown]
# **5. Few labels.** Suppose that you have only 100 labelled training images. Compare a
# linear probe on their pixels with one on their codes.

# %% tags=["solution"]
for n_labels in (100, 1000):
    for name in ("pixels", "convolutional"):
        train_part, test_part = described[name][0]
        classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
        classifier.fit(train_part[:n_labels].cpu().numpy(), y[:n_labels].numpy())
        score = classifier.score(test_part.cpu().numpy(), test_y.numpy())
        print(f"{n_labels:>5} labels, {name:>13}: {score:.3f}")
# The code was learned from all images, with or without labels. That is worth most when
# labels are few.

# %% [markdown]
# **6. Without normalisation.** Remove the batch normalisation from the convolutional
# network and train both for two epochs on a part of the data. What do you see in the
# first epochs, and why is the error of an all-black picture a trap?

# %% tags=["solution"]
def bare(code_size):
    model = convolutional(code_size)
    for coder in (model.encoder, model.decoder):
        kept = [m for m in coder.layers if not isinstance(m, nn.BatchNorm2d)]
        coder.layers = nn.Sequential(*kept)
    return model


brief_conv = conv_recipe | dict(epochs=2)
for build in (convolutional, bare):
    torch.manual_seed(cfg.seed)
    run = fit(build(cfg.code_size).to(device), part, test_x, **brief_conv)
    print(f"{build.__name__:>13}: test MSE", [round(e, 4) for e in run["test"]])
print(f"{'all black':>13}: test MSE {test_x.square().mean():.4f}")
# Most pixels are black, so the first thing to learn is to paint all of them black. With
# a large step the sigmoid's inputs all become very negative; its slope there is nearly
# zero, no gradient comes back, and the network stays black. Normalised inputs keep
# away from that place.

# %% [markdown]
# ## References
#
# * P. Baldi, K. Hornik. *Neural networks and principal component analysis: learning
#   from examples without local minima.* Neural Networks 2, 1989.
#   <https://doi.org/10.1016/0893-6080(89)90014-2>
# * V. Dumoulin, F. Visin. *A guide to convolution arithmetic for deep learning.* 2016.
#   <https://doi.org/10.48550/arXiv.1603.07285>
# * G. Hinton, R. Salakhutdinov. *Reducing the dimensionality of data with neural
#   networks.* Science 313, 2006. <https://doi.org/10.1126/science.1127647>
# * S. Ioffe, C. Szegedy. *Batch normalization: accelerating deep network training by
#   reducing internal covariate shift.* ICML 2015.
#   <https://doi.org/10.48550/arXiv.1502.03167>
# * D. Kingma, J. Ba. *Adam: a method for stochastic optimization.* ICLR 2015.
#   <https://doi.org/10.48550/arXiv.1412.6980>
# * D. Kingma, M. Welling. *Auto-encoding variational Bayes.* ICLR 2014.
#   <https://doi.org/10.48550/arXiv.1312.6114>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to
#   document recognition.* Proceedings of the IEEE 86, 1998.
#   <https://doi.org/10.1109/5.726791>
# * L. Smith, N. Topin. *Super-convergence: very fast training of neural networks using
#   large learning rates.* 2019. <https://doi.org/10.48550/arXiv.1708.07120>
# * S. Santurkar, D. Tsipras, A. Ilyas, A. Madry. *How does batch normalization help
#   optimization?* NeurIPS 2018. <https://doi.org/10.48550/arXiv.1805.11604>
# * P. Vincent, H. Larochelle, Y. Bengio, P.-A. Manzagol. *Extracting and composing
#   robust features with denoising autoencoders.* ICML 2008.
#   <https://doi.org/10.1145/1390156.1390294>
# * H. Xiao, K. Rasul, R. Vollgraf. *Fashion-MNIST: a novel image dataset for
#   benchmarking machine learning algorithms.* 2017.
#   <https://doi.org/10.48550/arXiv.1708.07747>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %%
record.card()
