# %% [markdown]
# # 8. Deep k-means: learn the space and the groups together
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/08_deep_kmeans.ipynb)
#
# Chapter 1 looked for groups in a space that was given, chapter 2 learned a space without thinking of groups. Here you learn both at once,
# see what the obvious recipe does, and improve it one change at a time, until a network puts most handwritten digits into the right
# company, though nobody has labelled a single one for it.
#
# ![Ten columns of digits. On top what the network draws for the middle of each cluster, below it the images it is most and least certain of.](attachment:result.png)
#
# *One column is one cluster: its centre, decoded, then three images that the network is most certain of, and three that it is least
# certain of.*
#
# **Time to run:** RUNTIME minutes on two CPU cores (`laptop` profile) and half a minute to try that everything works (`smoke`); `full`, for a
# GPU, trains for longer and with more seeds. A run that was stopped goes on where it was. **You need:** chapters 1 and 2.

# %% [markdown]
# ## Two chapters, one cost
#
# k-means sorted about half of the digits into the right company, because near in pixels is not near in meaning. On the codes of an
# autoencoder it did much better, although nothing had asked the codes to form groups. What if we ask?
#
# Let the encoder $f$ turn image $x_i$ into a code $z_i = f(x_i)$ of $J = 10$ numbers, let the decoder $g$ draw $\hat x_i = g(z_i)$, and let there be
# $K$ centres $c_1, \dots, c_K$ among the codes. Two costs want two things:
#
# $$L_r = \frac{1}{N D} \sum_{i=1}^{N} \sum_{d=1}^{D} \big(x_{id} - g(f(x_i))_d\big)^2 ,
# \qquad
# L_c = \frac{1}{N J} \sum_{i=1}^{N} \min_{k} \sum_{j=1}^{J} \big(f(x_i)_j - c_{kj}\big)^2 ,
# \qquad L = L_r + \lambda\, L_c .$$
#
# The first, with $D = 784$ pixels, is that of chapter 2, the second that of chapter 1 with codes in place of points. $L_r$ moves the weights of
# encoder and decoder and knows nothing of the centres. $L_c$ moves the encoder and the centres and knows nothing of the decoder. Only the
# encoder serves two masters.
#
# Why both? $L_c$ alone has useless optima: send every image to one code and put a centre there. Or multiply all codes and centres by 0.01:
# the groups are as before, and $L_c$ has fallen by a factor of ten thousand. $L_r$ forbids the first, since nobody can draw different images
# from one code. It hardly forbids the second, because the decoder can multiply by 100. So a small $L_c$ is no sign of good groups.

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
import statistics
from dataclasses import dataclass
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

from genlab_helpers import data, figures, metrics, plots, runtime, tables
from genlab_helpers.checkpoint import Checkpoint
from genlab_helpers.recap import autoencoder, best_of, convolutional, paired
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_images: int = 60_000  # training images: all of them
    n_clusters: int = 10  # because we know that there are ten digits
    n_seeds: int = 5  # networks behind a row of the table ...
    n_best: int = 3  # ... and behind the last one
    n_starts: int = 5  # starts of k-means, of which the best is kept
    batch_size: int = 256  # images a step
    space_epochs: int = 15  # of the autoencoder before any clustering
    space_rate: float = 3e-3  # Adam's learning rate for it
    rate: float = 1e-3  # Adam's learning rate when clusters are learned
    row_epochs: int = 6  # of a row of the table
    source_epochs: int = 60  # of the source's recipe, of its 300 ...
    n_source: int = 2  # ... with so many seeds
    heavy: tuple = (0.01, 1.0, 100.0)  # lambda, turned up
    heavy_epochs: int = 3
    hard_weight: float = 1e-3  # lambda of the hard cluster cost
    soft_weight: float = 0.1  # lambda of the soft one
    shift: float = 2.0  # pixels, at most, across and down
    turn: float = 10.0  # degrees, at most, either way
    slant: float = 0.2  # pixels across a pixel down, at most
    n_map: int = 8_000  # codes on a t-SNE map
    n_tries: int = 2  # maps of which the clearest is used
    wide_epochs: int = 10  # of the autoencoder on moved images
    lead_epochs: int = 3  # of learning from the map
    best_epochs: int = 30  # of self-training, for the last row
    n_shown: int = 5_000  # test images on the maps that are shown


cfg = Config.for_profile(
    smoke=dict(n_images=300, n_seeds=2, n_best=2, n_starts=2, batch_size=100,
               space_epochs=1, row_epochs=1, source_epochs=2, heavy=(1.0, 100.0),
               heavy_epochs=1, n_map=100, wide_epochs=1, lead_epochs=1, best_epochs=2,
               n_shown=100),
    full=dict(source_epochs=300, space_epochs=60, row_epochs=40, wide_epochs=60,
              n_best=5, best_epochs=120),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("08_deep_kmeans", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# The digits of chapters 1 and 2. The labels are loaded for one purpose: to grade what comes out. No cost sees them.

# %%
train, test = data.mnist("train"), data.mnist("test")
record.use(train)
record.use(test)
x, y = train.images[: cfg.n_images].to(device), train.labels[: cfg.n_images]
test_x, test_y = test.images.to(device), test.labels

# %% [markdown]
# ## First a space
#
# The convolutional autoencoder of chapter 2, trained to rebuild and nothing else. `fit` is the one loop of this chapter. `cost`, if there is one,
# is asked once an epoch for what is to be added to $L_r$; `moves` will wait until we move images about.

# %% tags=["hide-input"]
def resume(saved, parts, order):
    """Load the state that a stopped training left; the number of its epochs."""
    state = saved.load() or {"epoch": 0}
    if state["epoch"]:
        order.set_state(state["order"])
        for name, part in parts.items():
            part.load_state_dict(state[name])
    return state["epoch"]


def keep(saved, parts, order, epoch):
    states = {name: part.state_dict() for name, part in parts.items()}
    saved.save(epoch=epoch, order=order.get_state(), **states)

# %%
def fit(name, model, x, epochs, rate, seed, cost=None, moves=None):
    """Train a model on images x (N, 1, 28, 28); a stopped training goes on."""
    order = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), rate, fused=True)
    schedule = CosineAnnealingLR(optimizer, epochs * math.ceil(len(x) / cfg.batch_size))
    parts = dict(model=model, optimizer=optimizer, schedule=schedule)
    saved = Checkpoint(name, record)
    for epoch in range(resume(saved, parts, order), epochs):
        extra = cost(model, epoch) if cost else None
        model.train()
        for rows in torch.randperm(len(x), generator=order).split(cfg.batch_size):
            seen = moves(x[rows], order) if moves else x[rows]
            z = model.encoder(seen)  # (B, J)
            loss = F.mse_loss(model.decoder(z), seen)
            loss = loss + extra(z, rows) if extra else loss
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        keep(saved, parts, order, epoch + 1)
    return model


@torch.no_grad()
def encode(model, x):
    """Codes (N, J) of images x (N, 1, 28, 28), each by itself."""
    model.eval()
    return torch.cat([model.encoder(part) for part in x.split(2000)])

# %%
seeds = range(cfg.seed, cfg.seed + cfg.n_seeds)
spaces = []
for seed in seeds:
    torch.manual_seed(seed)
    model = convolutional(J).to(device)
    spaces.append(fit(f"space, seed {seed}", model, x, cfg.space_epochs,
                      cfg.space_rate, seed))

# %% [markdown]
# ## The first rows: k-means as it is
#
# On pixels (chapter 1), on the ten numbers of PCA and on the codes (chapter 2), each the best of several starts by the inertia, which needs
# no label. Clusters have no names, so they are matched to digits one to one in the way that makes most images agree: the **Hungarian
# method** (Kuhn, 1955), as in chapter 1. Two more grades need no match: **NMI**, the mutual information of clusters and digits divided by the
# mean of their two entropies, and the adjusted Rand index (ARI), which counts pairs.

# %%
def assign(z, centers):
    """Nearest centre (N,) of codes z (N, J)."""
    far = "donot_use_mm_for_euclid_dist"  # keeps its digits far from the origin
    return torch.cdist(z, centers, compute_mode=far).argmin(dim=1)


def kmeans_row(points, test_points, seed):
    """Clusters of test points by k-means on points (N, D), and its centres."""
    generator = torch.Generator().manual_seed(seed)
    run = best_of(cfg.n_starts, points, cfg.n_clusters, generator=generator)
    return assign(test_points, run.centers).cpu(), run.centers

# %% tags=["hide-input"]
GRADES = {"accuracy": metrics.clustering_accuracy, "NMI": metrics.nmi,
          "ARI": metrics.ari}
found = {}  # row -> clusters of the test images, one a seed


def show_row(name, several, against=None):
    """Grade the clusters of a row on the test images, and show them."""
    found[name] = several
    texts = [name]
    for grade, f in GRADES.items():
        values = [f(test_y, labels) for labels in several]
        record.measure_seeds(f"{name}: test {grade}", values, ceiling=1.0)
        texts.append(f"{statistics.fmean(values):.3f}")
    scores = accuracies(name)
    texts.append(", ".join(f"{score:.3f}" for score in scores))
    if against:
        gain, half = paired(scores, accuracies(against)[: len(scores)])
        record.measure(f"{name}: gain over {against}", gain)
        record.measure(f"{name}: half of the interval", half)
        texts.append(f"{gain:+.3f} ± {half:.3f} over {against}")
    heads = ("row", *GRADES, "accuracy of each seed", "paired gain")
    return tables.table(heads[: len(texts)], [texts])


def accuracies(name):
    return [metrics.clustering_accuracy(test_y, labels) for labels in found[name]]

# %%
flat, test_flat = x.flatten(1), test_x.flatten(1)  # (N, 784)
found["pixels"] = [kmeans_row(flat, test_flat, seed)[0] for seed in seeds]
pca = PCA(J, svd_solver="covariance_eigh").fit(flat.cpu().numpy())
projected = [torch.from_numpy(pca.transform(part.cpu().numpy())).to(device)
             for part in (flat, test_flat)]
found["PCA"] = [kmeans_row(*projected, seed)[0] for seed in seeds]
starts = [kmeans_row(encode(model, x), encode(model, test_x), seed)
          for model, seed in zip(spaces, seeds)]
found["codes"] = [labels for labels, _ in starts]

# %% tags=["hide-input"]
display(show_row("pixels", found["pixels"]), show_row("PCA", found["PCA"], "pixels"),
        show_row("codes", found["codes"], "pixels"))

# %% [markdown]
# READ_FIRST
#
# ## By hand, on three codes
#
# Three codes in the plane and three centres. The first two codes, $(0, 0)$ and $(2, 0)$, are nearest to $c_1 = (1, 0)$, at distance 1 each. The
# third, $(0, 4)$, is nearest to $c_2 = (0, 3)$, at distance 1 too. Nobody is near $c_3 = (9, 9)$. So $L_c = (1 + 1 + 1) / (3 \cdot 2) = 0.5$. Derive
# by the codes and by the centres, with $a_i$ for the number of the nearest centre:
#
# $$\frac{\partial L_c}{\partial z_i} = \frac{2}{N J} (z_i - c_{a_i}) , \qquad
# \frac{\partial L_c}{\partial c_k} = \frac{2}{N J} \sum_{i:\, a_i = k} (c_k - z_i) .$$

# %%
def cluster_cost(z, centers):
    """Mean squared difference of codes z (B, J) and the nearest of centers (K, J)."""
    return F.mse_loss(z, centers[assign(z, centers)])


z = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 4.0]], requires_grad=True)
centers = torch.tensor([[1.0, 0.0], [0.0, 3.0], [9.0, 9.0]], requires_grad=True)
to_codes, to_centers = torch.autograd.grad(cluster_cost(z, centers), (z, centers))
print(f"by the codes:\n{to_codes}\nby the centres:\n{to_centers}")

# %% [markdown]
# Two of the three centres have no gradient, for opposite reasons. $c_1$ is the mean of its two codes: what they ask for cancels. $c_3$ owns no
# code, the sum is empty, and no step will ever move it: it is **dead**. Chapter 1 put such centres on far points. Gradient descent does not.
#
# ## The recipe as it is published
#
# A widely copied program (Kim, 2021, after Moradi Fard et al., 2020) trains it all from scratch. We rebuild it line by line: its network (three
# convolutions without padding and batch normalisation, a ReLU on the code), centres at random in $[0, 1]$, batches of 128, Adam with a constant
# rate of 0.001, and a $\lambda$ that is $10^{-3}/150$ until epoch $T_1 = 50$ and rises linearly to $10^{-3}$ at $T_2 = 200$. It reports 0.89 after 300 epochs.
# We give it 60, so that the ramp has begun, and two seeds.

# %%
def source_network():
    """The source's encoder and decoder, and its centres."""
    half = dict(stride=2)
    encoder = [nn.Conv2d(1, 16, 3, **half), nn.ReLU(),  # (B, 16, 13, 13)
               nn.Conv2d(16, 32, 3, **half), nn.ReLU(),  # (B, 32, 6, 6)
               nn.Conv2d(32, 64, 3), nn.ReLU(),  # (B, 64, 4, 4)
               nn.Flatten(), nn.Linear(1024, J), nn.ReLU()]
    decoder = [nn.Linear(J, 1024), nn.ReLU(), nn.Unflatten(1, (64, 4, 4)),
               nn.ConvTranspose2d(64, 32, 3), nn.ReLU(),
               nn.ConvTranspose2d(32, 16, 3, **half), nn.ReLU(),
               nn.ConvTranspose2d(16, 1, 3, **half, output_padding=1), nn.Sigmoid()]
    model = autoencoder(encoder, decoder)
    model.centers = nn.Parameter(torch.rand(cfg.n_clusters, J))
    return model
