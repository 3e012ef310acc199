# %% [markdown]
# # 1. k-means: groups without labels
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/01_kmeans.ipynb)
#
# You will derive one of the oldest clustering methods, still in daily use, check it by
# hand on six points, and sort sixty thousand handwritten digits with it. Then you will
# see where it fails, prove why, and learn what the rest of this course does about it.
#
# ![Ten blurred digits, the cluster centres that k-means found in MNIST, each above six of its own images](attachment:result.png)
#
# *Top row: ten averages that k-means found among handwritten digits without being told
# a single label. Below each: images that it put into that group.*
#
# **Time to run:** about two minutes on two CPU cores (`laptop` profile). **You need:**
# Python with NumPy or PyTorch arrays, vectors, and what a derivative is.

# %% [markdown]
# ## Why learn without labels?
#
# Most of machine learning is **supervised**: here is an image, here is its label. That
# has three troubles. Labels cost money: for an X-ray the one who labels is a doctor.
# Labels are wrong more often than one thinks: in ten widely used test sets an estimated
# 3.3 per cent are (Northcutt et al., 2021). And sometimes nobody can define them: what
# are the "right" groups of all customers, or of all galaxies?
#
# **Unsupervised** learning uses the data alone. Its families differ in the question:
#
# | family | question it answers | in this course |
# |---|---|---|
# | clustering | which items belong together? | chapters 1 and 8 |
# | representation learning | which few numbers describe an item? | chapter 2 |
# | generative models | how could a new item look? | chapters 3 to 6 |
# | self-supervision | what can one part of the data say about another? | chapters 2, 7 |
#
# We start with the simplest method of all, and the last chapter returns to it.

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
from dataclasses import dataclass
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from IPython.display import display
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans as ScikitKMeans
from sklearn.datasets import load_sample_image, make_blobs, make_circles
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from genlab_helpers import data, figures, metrics, plots, runtime
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_points: int = 500  # points in each flat data set: few enough to see each one
    n_clusters: int = 10  # for MNIST, because there are ten digits
    n_images: int = 60_000  # training images of MNIST: all of them
    n_seeds: int = 10  # runs behind each mean and spread on MNIST
    n_starts: int = 100  # starts that are compared
    n_restarts: int = 10  # starts of which the best is kept, in the plane
    max_iter: int = 300  # rounds before a run gives up
    tol: float = 1e-4  # stop when the centres move less, relative to the variance
    n_soft: int = 200  # rounds of soft k-means
    n_moved: int = 1_000  # test images that are moved by two pixels
    n_timed: int = 40  # rounds that are timed, after two that are not
    n_tries: int = 5  # tries of which the fastest counts
    base_points: int = 30_000  # smallest N when the time of a round is measured
    n_memory: int = 1_000_000  # points in the test of memory


cfg = Config.for_profile(
    smoke=dict(n_images=1_000, n_seeds=2, n_starts=3, n_restarts=2, n_soft=20,
               n_moved=50, n_timed=2, n_tries=2, base_points=250, n_memory=20_000),
    full=dict(n_seeds=20),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("01_kmeans", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## Ten groups in four lines
#
# MNIST (LeCun et al., 1998) holds 70,000 handwritten digits, grey images of 28 × 28
# pixels. For us an image is a list of 784 numbers between 0 and 1: a point in a space
# with 784 axes. The labels are loaded too, but only to grade the result at the end.

# %%
train, test = data.mnist("train"), data.mnist("test")
record.use(train)
record.use(test)
x = train.images[: cfg.n_images].flatten(1).to(device)  # (60000, 784)
y = train.labels[: cfg.n_images]  # (60000,)
test_x, test_y = test.images.flatten(1).to(device), test.labels  # (10000, 784)

# %% [markdown]
# Take ten images as first **centres**. Then, twenty times: send every image to its
# nearest centre, and move every centre to the mean of its images.

# %%
ten = x[torch.randperm(len(x), generator=rng)[:10].to(device)]  # (10, 784)
for _ in range(20):
    nearest = torch.cdist(x, ten).argmin(dim=1)  # (60000,)
    ten = torch.stack([x[nearest == k].mean(dim=0) for k in range(10)])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Ten blurred grey pictures in two rows, most of them readable as digits, each with the number of its images above it."}}
sizes = [f"{n:,}" for n in torch.bincount(nearest, minlength=10).tolist()]
ax = figures.image_grid(ten.view(-1, 28, 28), columns=5, titles=sizes)
figures.caption_source(ax.figure, train);

# %% [markdown]
# Those are the ten centres, with the number of images of each. Nobody told the program
# what a digit is, and yet most of its averages can be read. Some digits are missing,
# others are there twice. This chapter explains why it works, why it stops, and why it
# is only half right.
#
# ## The idea, in words and in symbols
#
# To have $K$ groups, describe each by one point, its centre. Every data point belongs
# to the centre nearest to it. Good centres are those to which the points are close.
#
# In symbols: the data are $x_1, \dots, x_N$, each a vector of $D$ numbers; the centres
# are $c_1, \dots, c_K$; and $a_i$ is the number of the centre that point $i$ is
# assigned to. The cost is the sum of squared distances, called **inertia**:
#
# $$J(a, c) = \sum_{i=1}^{N} \lVert x_i - c_{a_i} \rVert^2,
# \qquad \lVert x - c \rVert^2 = \sum_{d=1}^{D} (x_d - c_d)^2 .$$
#
# To find the best assignments *and* the best centres at once is hard: no fast way is
# known even for two clusters, if the dimension is free (the problem is NP-hard; Aloise
# et al., 2009). But each half alone is easy.
#
# * **Assignment.** Centres fixed: send every point to its nearest centre.
# * **Update.** Assignments fixed: put each centre where its own sum of squares is
#   least. Set the derivative to zero, $\sum_{i: a_i = k} 2\,(c_k - x_i) = 0$, and read
#   off that $c_k$ is the **mean** of its $n_k$ points.
#
# Doing the two in turn until nothing changes is **Lloyd's algorithm** (Lloyd, 1982,
# written down in 1957), better known as **k-means** (MacQueen, 1967).
#
# ## By hand, on six points
#
# Six points and, as a deliberately poor start, two of them as centres. First the table
# of squared distances. The first entry of the last row is $(6-1)^2 + (6-1)^2 = 50$:
# check one or two more with pencil and paper.

# %%
six = torch.tensor([[1, 1], [2, 1], [1, 2], [6, 5], [7, 5], [6, 6]]).float()  # (6, 2)
two = six[[0, 1]]  # (2, 2): the first two points
gaps = torch.zeros(6, 2)
for i in range(6):
    for k in range(2):
        gaps[i, k] = ((six[i] - two[k]) ** 2).sum()
print(gaps)

# %% [markdown]
# Row $i$ belongs to point $i$, column $k$ to centre $k$; the smaller number of each row
# names the nearest centre. Now both half-steps, with the cost after each.

# %%
two = six[[0, 1]]
for step in range(1, 4):
    near = torch.stack([((p - two) ** 2).sum(dim=1).argmin() for p in six])
    print(f"round {step}: {near.tolist()}, cost {((six - two[near]) ** 2).sum():.2f}")
    two = torch.stack([six[near == k].mean(dim=0) for k in range(2)])
    places = [[round(v, 2) for v in place] for place in two.tolist()]
    print(f"   centres {places}, cost {((six - two[near]) ** 2).sum():.2f}")

# %% [markdown]
# In round 1 the second centre takes four points. Its mean moves into the middle of
# them, and in round 2 it lets one go. From then on the left three points are one group,
# the right three the other, and round 3 changes nothing. No half-step raised the cost.
#
# ## The two half-steps as array operations
#
# Multiply out the square:
#
# $$\lVert x - c \rVert^2 = \lVert x \rVert^2 - 2\,x^\top c + \lVert c \rVert^2 .$$
#
# The first term is the same for every centre and cannot change which one is nearest:
# drop it. The middle term, for all points and centres at once, is one **matrix
# product** $X C^\top$, the operation that computers do best.
#
# For the update, write the assignments as a **one-hot** table: row $i$ holds a single 1,
# in the column of its centre. A column of it, used as weights, adds up the points of
# one cluster; divided by the column's sum, that is their mean.

# %%
def assign(x, centers):
    """Return the nearest centre of each point, (N,)."""
    scores = centers.square().sum(dim=1) - 2 * (x @ centers.T)  # (N, K)
    return scores.argmin(dim=1)


def means(x, labels, n_clusters):
    """Return the mean of each cluster, (K, D)."""
    one_hot = F.one_hot(labels, n_clusters).to(x.dtype)  # (N, K)
    return one_hot.T @ x / one_hot.sum(dim=0)[:, None]

# %% tags=["hide-input"] mystnb={"image": {"alt": "Five small tables of numbers side by side: six points with two coordinates, two centres, the 6 by 2 table of squared distances with the smaller entry of each row framed, the 6 by 2 one-hot table, and the 2 by 2 table of new centres."}}
begin = six[[0, 1]]
chosen = assign(six, begin)
boards = {"points\n(N, D)": six, "centres\n(K, D)": begin,
          "squared\ndistances": gaps, "one-hot\n(N, K)": F.one_hot(chosen, 2),
          "new centres\n(K, D)": means(six, chosen, 2)}
fig, axes = plt.subplots(1, 5, figsize=(7, 3.4))
for ax, (name, board) in zip(axes, boards.items()):
    ax.imshow(board, cmap="Blues", vmin=0, vmax=1.6 * board.max())
    for i, j in itertools.product(*map(range, board.shape)):
        ax.text(j, i, f"{board[i, j]:.3g}", ha="center", va="center")
    ax.set_title(name, fontsize=11.5)
    ax.set(xticks=[], yticks=[])
for i, k in enumerate(chosen):
    axes[2].add_patch(plt.Rectangle((k - 0.45, i - 0.45), 0.9, 0.9, fill=False, lw=2))

# %% [markdown]
# Round 1 of the six points, from left to right, each table with its own scale of blue.
# Points and centres give the squared distances; the framed, smaller one of each row
# becomes a 1 in the one-hot table; and its columns give the new centres, the first
# of which is the point (1, 1.5), the mean of two points.
#
# ## Why the cost can only fall
#
# **The assignment cannot raise it.** Each point contributes
# $\lVert x_i - c_{a_i}\rVert^2$ and moves to the centre where this is smallest. Every
# term falls or stays. (At a tie the first centre is taken, always the same.)
#
# **The update cannot raise it.** Take one cluster with $n$ points and mean $m$, and any
# other place $c$ for its centre. Write $x_i - c = (x_i - m) + (m - c)$ and multiply
# out:
#
# $$\sum_i \lVert x_i - c\rVert^2 = \sum_i \lVert x_i - m\rVert^2
# + 2\,(m - c)^\top \underbrace{\sum_i (x_i - m)}_{=\,0} + n\,\lVert m - c\rVert^2 .$$
#
# The middle sum is zero because that is what "mean" means. So any place other than the
# mean costs $n \lVert m - c \rVert^2$ more.
#
# **So it must stop.** There are finitely many ways to assign $N$ points to $K$ centres.
# While the cost falls, no assignment can come back; and when it no longer falls, the
# means are where they were, so the next assignment is the same. What the proof does
# *not* say is that the end is the best one. Watch one run on five round heaps of points
# (**blobs**) from a start that is poor on purpose: all five centres in one corner.

# %%
heaps = [(-5, 3), (0, 4.5), (5, 2.5), (-3, -3.5), (3.5, -3.5)]
blobs, blobs_y = make_blobs(
    cfg.n_points, centers=heaps, cluster_std=0.7, random_state=cfg.seed
)
blobs = torch.tensor(blobs, dtype=torch.float32)  # (500, 2)
corner = blobs[blobs.sum(dim=1).argsort()[:5]]  # (5, 2)
costs, path = [], [corner]
while len(path) < 2 or not torch.equal(path[-1], path[-2]):
    own = assign(blobs, path[-1])
    costs.append((blobs - path[-1][own]).square().sum().item())
    path.append(means(blobs, own, 5))
    costs.append((blobs - path[-1][own]).square().sum().item())
assert all(late <= early * (1 + 1e-6) for early, late in itertools.pairwise(costs))
print(f"{len(path) - 1} rounds, costs:", ", ".join(f"{cost:,.0f}" for cost in costs))

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two rows of four panels with five heaps of points and five crosses. The upper row shows the points coloured by their nearest centre in rounds 1, 2, 3 and the last, the lower row the centres moved to the means. The crosses spread from one corner; in the end two of them share the points of one heap."}}
def draw_cells(ax, points, centers, labels=None):
    """Points and centres over the cells of the centres; labels: (N,), else nearest."""
    margin = 0.08 * (points.max() - points.min())
    low, high = points.amin(dim=0) - margin, points.amax(dim=0) + margin
    columns, rows = (torch.linspace(a, b, 200) for a, b in zip(low, high))
    cells = assign(torch.cartesian_prod(columns, rows), centers).view(200, 200).T
    palette = plt.matplotlib.colors.ListedColormap(figures.PALETTE[: len(centers)])
    limits = dict(vmin=-0.5, vmax=len(centers) - 0.5, shading="nearest")
    ax.pcolormesh(columns, rows, cells, cmap=palette, alpha=0.22, **limits)
    labels = assign(points, centers) if labels is None else labels
    plots.clusters(ax, points, labels, centers)
    ax.collections[-1].set(sizes=[80 + 160 * ax.get_position().width], linewidth=1.2)
    ax.set(xticks=[], yticks=[])


shown = [0, 1, 2, len(path) - 2]
fig, axes = plt.subplots(2, 4, figsize=(7, 3.7))
for column, step in enumerate(shown):
    draw_cells(axes[0, column], blobs, path[step])
    draw_cells(axes[1, column], blobs, path[step + 1], assign(blobs, path[step]))
    axes[0, column].set_title(f"round {step + 1}")
axes[0, 0].set_ylabel("assignment")
axes[1, 0].set_ylabel("update");

# %% [markdown]
# Above, each point has the colour of its nearest centre; below, the centres have moved
# to the means while the points keep their colours. The areas are the **Voronoi cells**:
# all places nearer to one centre than to any other. Between two centres the border is
# where $\lVert x - c_1\rVert^2 = \lVert x - c_2\rVert^2$. The $\lVert x\rVert^2$ cancels,
# and what remains is linear in $x$: every border is **straight** (in $D$ dimensions, a
# flat hyperplane). Remember that. And look at the end: one centre serves two heaps while
# two share one. Neither half-step can repair it. Such an end is a **local optimum**, and
# the start alone decides on it. The film shows every round.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Animation: five crosses start in one corner heap and move outwards round by round; at the end one centre serves two heaps and two centres share one."}}
def round_frames(points, path):
    for step, centers in enumerate(path):
        fig, ax = plt.subplots(figsize=(5, 4.4))
        draw_cells(ax, points, centers)
        ax.set_title(f"after {step} rounds")
        yield fig


figures.animation(round_frames(blobs, path), fps=2)

# %% [markdown]
# It holds the last frame, in which nothing moves any more.
#
# ## The centre that owns nothing
#
# Many programs take random numbers from 0 to 1 as first centres. If the data reach from
# −1 to 1, a centre may begin far from everything. How often does one own no point?

# %%
small = blobs / blobs.abs().max()  # from -1 to 1
owned = [torch.bincount(assign(small, torch.rand(5, 2, generator=rng)), minlength=5)
         for _ in range(cfg.n_starts)]
lonely = sum((counts == 0).any().item() for counts in owned) / cfg.n_starts
record.measure("random numbers, starts with an empty cluster", lonely, floor=0.0)
broken = assign(small, torch.cat([small[:4], torch.full((1, 2), torch.nan)]))
print(f"{lonely:.0%} of {cfg.n_starts} starts have a centre without points;"
      f" with a nan, the centres own {torch.bincount(broken, minlength=5).tolist()}")

# %% [markdown]
# The mean of no points is 0/0, which is `nan`, and `argmin` takes a `nan` for the least
# value: the last number shows that *all* points then go to the broken centre. So start with points
# of the data, where no centre can be lonely at first: each owns itself. It may still
# lose all points later. Our repair then moves it to the point farthest from its own
# centre, which cannot raise the cost, because a centre without points adds nothing to it.

# %%
def update(x, centers, labels):
    """Return the means, (K, D); a centre without points moves to a far point."""
    new = means(x, labels, len(centers))
    empty = new.isnan().any(dim=1).nonzero()[:, 0]
    if len(empty) > 0:
        gaps = (x - centers[labels]).square().sum(dim=1)
        new[empty] = x[gaps.topk(len(empty)).indices]
    return new

# %% [markdown]
# ## Where to start
#
# The simplest start takes $K$ points at random. **k-means++** (Arthur and Vassilvitskii,
# 2007) takes them one after the other: the first at random, each next one with a
# probability *proportional to its squared distance from the nearest centre so far*. Far
# places are likely, single outliers still rare. The expected cost of such a start is at
# most $8\,(\ln K + 2)$ times that of the best solution; the random start has no such
# bound.

# %%
def random_start(x, n_clusters, generator):
    """Take K different points at random, (K, D)."""
    return x[torch.randperm(len(x), generator=generator)[:n_clusters].to(x.device)]


def plus_plus_start(x, n_clusters, generator):
    """Take K points, each with probability ~ squared distance to those before."""
    centers = x[torch.randint(len(x), (1,), generator=generator).to(x.device)]
    gaps = (x - centers).square().sum(dim=1)  # (N,), to the nearest centre so far
    while len(centers) < n_clusters:
        shares = gaps.cpu().double().cumsum(dim=0)  # row i ends at share i
        where = shares[-1] * torch.rand(1, generator=generator, dtype=torch.double)
        new = torch.searchsorted(shares, where, right=True).clamp(max=len(x) - 1)
        centers = torch.cat([centers, x[new.to(x.device)]])
        gaps = torch.minimum(gaps, (x - centers[-1]).square().sum(dim=1))
    return centers


STARTS = {"random": random_start, "k-means++": plus_plus_start}

# %% [markdown]
# Bad input should be told what is wrong with it, not produce nonsense: 16-bit numbers,
# for example, cannot add up thousands of squares. That code is folded here.

# %% tags=["hide-input"]
def check_input(x, n_clusters, max_iter, tol, init):
    """Raise a ValueError that says what is wrong with the input of `kmeans`."""
    if not torch.is_tensor(x) or x.dtype not in (torch.float32, torch.float64):
        raise ValueError("x must be a float32 or float64 tensor")
    if x.ndim != 2 or x.numel() == 0:
        raise ValueError(f"x must have the shape (N, D), not {tuple(x.shape)}")
    if not isinstance(n_clusters, int | np.integer) or not 1 <= n_clusters <= len(x):
        raise ValueError(f"n_clusters must be a whole number from 1 to {len(x)}")
    if not torch.stack([x.min(), x.max()]).isfinite().all():  # nan spreads to both
        raise ValueError("x holds nan or inf: remove or fill those entries first")
    if max_iter < 1 or not tol >= 0:
        raise ValueError("max_iter must be at least 1 and tol at least 0")
    if not torch.is_tensor(init) and (not isinstance(init, str) or init not in STARTS):
        raise ValueError(f"init must be a tensor or one of {', '.join(STARTS)}")
    wanted = (n_clusters, x.shape[1])
    if torch.is_tensor(init) and (init.shape != wanted or not init.isfinite().all()):
        raise ValueError(f"init must be {wanted[0]} x {wanted[1]} finite numbers")

# %% [markdown]
# All parts together: assign, update, until no point changes sides, or until the centres
# move less than `tol` (measured against the variance of the data, so that it does not
# depend on their units). The mean is subtracted first; *Deeper* says why.

# %%
class KMeans(NamedTuple):
    centers: torch.Tensor  # (K, D)
    labels: torch.Tensor  # (N,)
    inertia: float  # sum of squared distances to the own centre
    n_iter: int  # rounds until it stopped


def kmeans(x, n_clusters, max_iter=300, tol=1e-4, init="k-means++", generator=None):
    """Run Lloyd's algorithm on x (N, D); init: a name or (K, D) centres."""
    check_input(x, n_clusters, max_iter, tol, init)
    if isinstance(init, str):
        init = STARTS[init](x, n_clusters, generator)
    middle = x.mean(dim=0)
    x, centers = x - middle, init.to(x) - middle
    still = tol * x.square().mean()
    labels = assign(x, centers)
    for n_iter in range(1, max_iter + 1):
        old_centers, old_labels = centers, labels
        centers = update(x, centers, labels)
        labels = assign(x, centers)
        shift = (centers - old_centers).square().sum()
        if torch.equal(labels, old_labels) or shift <= still:
            break
    gaps = (x - centers[labels]).square().sum(dim=1)
    return KMeans(centers + middle, labels, gaps.double().sum().item(), n_iter)

# %% [markdown]
# Is it right? scikit-learn's `KMeans` has been checked by many eyes. From the same
# starting centres both must give the same labels, and ours should refuse nonsense.

# %%
first = blobs[:5]
ours = kmeans(blobs, 5, tol=0, init=first)
theirs = ScikitKMeans(5, init=first.numpy(), n_init=1, tol=0).fit(blobs.numpy())
assert (ours.labels.numpy() == theirs.labels_).all()
difference = abs(ours.inertia / theirs.inertia_ - 1)
print(f"same labels; inertia differs by {difference:.1e} of itself")
for wrong in [dict(x=blobs / 0), dict(n_clusters=3.0), dict(init=[[0, 0]])]:
    try:
        kmeans(**({"x": blobs, "n_clusters": 5} | wrong))
    except ValueError as error:
        print("refused:", error)

# %% [markdown]
# ## The start decides the end
#
# Nine heaps on a grid make it harder. Where do 100 random starts and 100 k-means++
# starts end? A run counts as best if its inertia is within one per cent of the least
# that any run has found.

# %%
grid = list(itertools.product([-4, 0, 4], repeat=2))
nine = make_blobs(cfg.n_points, centers=grid, cluster_std=0.6, random_state=1)[0]
nine = torch.tensor(nine, dtype=torch.float32)  # (500, 2)
ends = {name: [kmeans(nine, 9, init=name, generator=rng) for _ in range(cfg.n_starts)]
        for name in STARTS}
least = min(run.inertia for runs in ends.values() for run in runs)
for name, runs in ends.items():
    hits = sum(run.inertia < 1.01 * least for run in runs)
    record.measure(f"nine heaps, best found, {name}", hits / cfg.n_starts, ceiling=1.0)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two histograms of the final inertia under one another with the same axis. Both have a tall first bar and several bars to its right; the first bar is taller for k-means++, the bars to the right reach farther for random starts."}}
fig, axes = plt.subplots(2, 1, figsize=(7, 4), sharex=True, sharey=True)
most = max(run.inertia for runs in ends.values() for run in runs)
bins = np.linspace(0.95 * least, 1.02 * most, 40)
for ax, (name, runs), colour in zip(axes, ends.items(), figures.PALETTE):
    ax.hist([run.inertia for run in runs], bins, color=colour)
    ax.set(title=name, ylabel="runs")
axes[1].set_xlabel("final inertia");

# %% [markdown]
# The bars far apart are different local optima: from the same start a run ends at the
# same place. The first bar holds the best solution. Of the random starts
# {{nine heaps, best found, random | .0%}} reach it, of the k-means++ starts
# {{nine heaps, best found, k-means++ | .0%}} (from 100 starts, such shares are uncertain by
# about ten points). Neither is safe, so one runs several starts and keeps the least inertia, which needs no labels (`best_of` below). This is what the
# best and the worst end look like.

# %% tags=["hide-input"] mystnb={"image": {"alt": "Two panels of nine heaps on a grid with the cells of nine centres: on the left every heap has its own centre, on the right some heaps are split between two centres while other centres serve two or more heaps."}}
every = sorted(itertools.chain(*ends.values()), key=lambda run: run.inertia)
fig, axes = plt.subplots(1, 2, figsize=(7, 3.6))
for ax, run, name in zip(axes, [every[0], every[-1]], ["best", "worst"]):
    draw_cells(ax, nine, run.centers)
    ax.set_title(f"{name}: inertia {run.inertia:,.0f}")

# %% [markdown]
# On the right, centres stand between heaps and serve several at once, while others share
# a heap that needs only one. Each centre is exactly at the mean of its points, each
# point with its nearest centre: no half-step has anything left to improve.
#
# ## How many clusters?
#
# The method wants $K$ from us. Inertia cannot choose it, because the best inertia falls
# as $K$ grows: with $K = N$ it is zero. Two common helpers:
#
# * The **elbow**: plot inertia against $K$ and look for the bend after which more
#   centres help little.
# * The **silhouette** (Rousseeuw, 1987). For a point, let $a$ be its mean distance to
#   the points of its own cluster and $b$ that to the nearest other cluster. Its
#   silhouette is $(b - a) / \max(a, b)$: near 1 when well inside, near 0 on a border,
#   negative when the other cluster would suit it better. One takes the mean over all
#   points; it needs $K \ge 2$.

# %%
def best_of(n_starts, x, n_clusters, **options):
    """Return the run with the least inertia of several."""
    runs = [kmeans(x, n_clusters, **options) for _ in range(n_starts)]
    return min(runs, key=lambda run: run.inertia)


rings, rings_y = make_circles(cfg.n_points, noise=0.1, factor=0.5, random_state=0)
rings = torch.tensor(rings, dtype=torch.float32)  # (500, 2), one circle in another
ks = list(range(1, 11))
scan = {name: [best_of(cfg.n_restarts, points, k, generator=rng) for k in ks]
        for name, points in {"blobs": blobs, "rings": rings}.items()}
silhouettes = {
    "blobs": [silhouette_score(blobs, run.labels) for run in scan["blobs"][1:]],
    "rings": [silhouette_score(rings, run.labels) for run in scan["rings"][1:]],
}
for name, values in silhouettes.items():
    highest = 2 + values.index(max(values))
    record.measure(f"{name}, K with the highest silhouette", highest)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Four small plots against K from 1 to 10. For the blobs the inertia falls steeply until K = 5 and is flat after it, and the silhouette peaks there. For the rings the inertia falls smoothly without a bend, and the silhouette stays between 0.3 and 0.4, highest at 3."}}
fig, axes = plt.subplots(2, 2, figsize=(7, 5), sharex=True)
for column, (name, truth) in enumerate([("blobs", 5), ("rings", 2)]):
    share = [run.inertia / scan[name][0].inertia for run in scan[name]]
    axes[0, column].plot(ks, share, "o-")
    axes[1, column].plot(ks[1:], silhouettes[name], "o-", color=figures.PALETTE[1])
    axes[0, column].set(title=name, ylim=(0, 1.05))
    axes[1, column].set(xlabel="number of clusters K", ylim=(0, 1))
    for ax in axes[:, column]:
        ax.axvline(truth, color=figures.QUIET, linestyle="--", linewidth=1.2)
axes[0, 0].set_ylabel("inertia\n(K = 1 is 1)")
axes[1, 0].set_ylabel("silhouette");

# %% [markdown]
# The dashed line is the number of groups that you see. On the blobs both helpers agree
# with the eye: the bend and the peak stand at
# {{blobs, K with the highest silhouette | .0f}}. On two rings, one inside the other, both
# mislead: there is no bend, and the silhouette is highest at
# {{rings, K with the highest silhouette | .0f}}. They share the belief of k-means
# itself, that a cluster is a round heap.
#
# ## A gallery of failures
#
# So give k-means data that break this belief, and every advantage: the right $K$ and the
# best of ten starts. To grade it we use the **adjusted Rand index** (ARI; Hubert and
# Arabie, 1985): of all pairs of points, how many are treated alike, together or apart,
# by both groupings, rescaled so that chance gives 0 and perfection 1.

# %%
mix = np.array([[0.6, -0.63], [-0.4, 0.85]])
three, three_y = make_blobs(cfg.n_points, centers=3, random_state=170)
cases = {
    "elongated": (three @ mix, three_y),
    "unequal width": make_blobs(cfg.n_points, centers=[(-4, 0), (4, 0), (0, 5)],
                                cluster_std=[0.5, 2.2, 0.5], random_state=0),
    "unequal size": make_blobs([440, 30, 30], centers=[(0, 0), (4.5, 0), (0, 4.5)],
                               cluster_std=[1.3, 0.5, 0.5], random_state=0),
    "no groups": (2 * np.random.default_rng(0).random((cfg.n_points, 2)), None),
    "rings": (rings, rings_y),
}
answers = {}
for name, (points, truth) in cases.items():
    points, n_true = torch.as_tensor(points).float(), 2 if name == "rings" else 3
    answers[name] = best_of(cfg.n_restarts, points, n_true, generator=rng)
    if truth is not None:
        groups = torch.as_tensor(truth)
        fair = points - means(points, groups, n_true)[groups]  # to the true means
        record.measure(f"{name}, inertia / that of the true groups",
                       answers[name].inertia / fair.square().sum().item())
        record.measure(f"{name}, ARI", metrics.ari(truth, answers[name].labels),
                       floor=0.0, ceiling=1.0)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Six pairs of panels, the true groups beside the answer of k-means with its straight borders: three elongated heaps cut across, a wide heap that loses its edge to two narrow ones, a large heap cut into three while two small ones are swallowed, a uniform square cut into three, two rings cut in half, and the rings again, divided correctly when k-means saw the radius only."}}
radius = rings.norm(dim=1, keepdim=True)  # (500, 1)
by_radius = best_of(cfg.n_restarts, radius, 2, generator=rng)
record.measure("rings, ARI with the radius", metrics.ari(rings_y, by_radius.labels),
               floor=0.0, ceiling=1.0)
fig, axes = plt.subplots(3, 4, figsize=(7, 5.8))
for i, name in enumerate([*cases, "by radius"]):
    points, truth = cases.get(name, cases["rings"])
    points, run = torch.as_tensor(points).float(), answers.get(name, by_radius)
    names = {} if truth is None else metrics.match_clusters(truth, run.labels)
    order = torch.tensor([names.get(k, k) for k in range(len(run.centers))])
    colours = None if truth is None else torch.as_tensor(truth)
    left, right = axes.reshape(6, 2)[i]
    plots.clusters(left, points, colours).set_title(f"{name}: truth", fontsize=10.5)
    if name == "by radius":
        plots.clusters(right, points, order[run.labels])
    else:
        draw_cells(right, points, run.centers[order.argsort()], order[run.labels])
    ari = 0.0 if truth is None else round(metrics.ari(truth, run.labels), 2) + 0.0
    said = "an answer" if truth is None else f"ARI {ari:.2f}"  # and never -0.00
    right.set_title(said, fontsize=10.5)
    plt.setp([left, right], xticks=[], yticks=[])

# %% [markdown]
# Is it the search that failed, or the cost? Compare inertias: if the true groups had a
# lower one, a better search would find them. They do not. The answer's inertia is
# {{elongated, inertia / that of the true groups | .2f}} of that of the true groups for
# the elongated heaps, {{unequal width, inertia / that of the true groups | .2f}} for
# unequal width, {{unequal size, inertia / that of the true groups | .2f}} for unequal
# size and {{rings, inertia / that of the true groups | .2f}} for the rings: k-means *prefers*
# its answers.
#
# * **Elongated** heaps (ARI {{elongated, ARI | .2f}}): a squared distance counts all
#   directions alike, so cutting a long heap in two pays.
# * **Unequal width** ({{unequal width, ARI | .2f}}): the border lies halfway between two
#   centres, however wide their heaps are.
# * **Unequal size** ({{unequal size, ARI | .2f}}): cutting the large heap saves more than
#   keeping two small ones apart.
# * **No groups**: it answers all the same.
# * **Rings** ({{rings, ARI | .3f}}, which is chance): no straight border separates a ring
#   from the disc inside it, and all borders of k-means are straight.
#
# The last pair changes the *space*, not the method: k-means sees only each point's
# distance from the middle, and the ARI is {{rings, ARI with the radius | .2f}}. But *we*
# had to know that the radius matters. Could a machine find such features? That is the
# subject of the next chapter and, joined with clustering, of the last.
#
# | your groups are | use |
# |---|---|
# | round, of similar width | k-means |
# | elongated, of different width | a mixture of Gaussians (below) |
# | of any shape, denser than their surroundings | density-based clustering: DBSCAN, HDBSCAN |
# | chains of near neighbours, rings | spectral clustering (exercise 5), single linkage |
# | nested: groups of groups | hierarchical clustering |
#
# ## Soft k-means, EM and mixtures of Gaussians
#
# Where does the belief in round heaps come from? Suppose each point was generated like
# this: choose one of $K$ centres, all equally likely, and add noise from a normal
# distribution with the same variance $\sigma^2$ in every direction. That is a **mixture
# of Gaussians**. If we knew the centres, Bayes' rule would tell how likely point $i$ is
# to come from centre $k$. With $\beta = 1 / (2 \sigma^2)$:
#
# $$p_{ik} = \frac{e^{-\beta \lVert x_i - c_k\rVert^2}}
# {\sum_j e^{-\beta \lVert x_i - c_j\rVert^2}} .$$
#
# It is a softmax of negative squared distances: a **soft assignment**. If we knew the
# $p_{ik}$, we would minimise $\sum_{i,k} p_{ik} \lVert x_i - c_k \rVert^2$, and the same
# derivative as before gives the mean with these weights,
# $c_k = \sum_i p_{ik} x_i / \sum_i p_{ik}$. Taking turns is the **EM algorithm**, for
# expectation (of the unknown assignments) and maximisation (of the likelihood; Dempster,
# Laird and Rubin, 1977). As $\beta \to \infty$ the nearest centre takes all, and EM becomes
# k-means: **k-means is EM for round Gaussians of one width, as that width goes to zero.**

# %%
def soft_kmeans(x, centers, betas):
    """EM for equal round Gaussians; betas: 1 / (2 sigma^2) of each round."""
    for beta in betas:
        p = torch.softmax(-beta * torch.cdist(x, centers).square(), dim=1)  # (N, K)
        centers = p.T @ x / p.sum(dim=0)[:, None]
    return centers

# %% [markdown]
# Being soft has a use of its own. With a small $\beta$ every point pulls at every centre,
# and a centre can cross over to a heap that lacks one. Raise $\beta$ from round to round,
# which is called **annealing**, and the answer hardens. We take 100 random starts of the
# nine heaps, run k-means from each, and anneal from each before k-means finishes.

# %%
betas = torch.logspace(np.log10(0.02), np.log10(4), cfg.n_soft).tolist()
again = [random_start(nine, 9, torch.Generator().manual_seed(i))
         for i in range(cfg.n_starts)]
firsts = {"again": again, "annealed": [soft_kmeans(nine, c, betas) for c in again]}
for name, several in firsts.items():
    hits = sum(kmeans(nine, 9, init=c).inertia < 1.01 * least for c in several)
    record.measure(f"nine heaps, best found, {name}", hits / cfg.n_starts, ceiling=1.0)

# %% [markdown]
# From the same starts, k-means finds the best solution in
# {{nine heaps, best found, again | .0%}} and annealing in
# {{nine heaps, best found, annealed | .0%}}, at the price of 200 rounds more. (Too soft is no
# use: with $\beta = 0.01$ all through, the nine centres fall onto one point.)
#
# Soft or hard, these Gaussians are round. Give each its own covariance, and the mixture
# can fit long heaps. Three methods on the elongated data, five seeds each:

# %%
long_x, long_y = torch.as_tensor(cases["elongated"][0]).float(), three_y
labels_of = {"k-means": [], "soft k-means": [], "full Gaussian mixture": []}
for seed in range(5):
    own_rng = torch.Generator().manual_seed(seed)
    hard = best_of(cfg.n_restarts, long_x, 3, generator=own_rng)
    soft = soft_kmeans(long_x, plus_plus_start(long_x, 3, own_rng), [1.0] * 100)
    full = GaussianMixture(3, n_init=cfg.n_restarts, random_state=seed).fit(long_x)
    found_labels = hard.labels, assign(long_x, soft), torch.tensor(full.predict(long_x))
    for name, labels in zip(labels_of, found_labels):
        labels_of[name].append(labels)
for name, several in labels_of.items():
    scores = [metrics.ari(long_y, labels) for labels in several]
    record.measure_seeds(f"elongated, ARI of {name}", scores, floor=0.0, ceiling=1.0)

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three panels of three long parallel heaps, coloured by the answers: k-means and soft k-means cut the heaps across, the full Gaussian mixture gives each heap one colour."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 2.9))
for ax, (name, several) in zip(axes, labels_of.items()):
    names = metrics.match_clusters(long_y, several[0])
    colours = torch.tensor([names[k] for k in range(3)])[several[0]]
    plots.clusters(ax, long_x, colours).set_title(name)
    ax.set(xticks=[], yticks=[])

# %% [markdown]
# k-means has an ARI of {{elongated, ARI of k-means | .2f}}, soft k-means
# {{elongated, ARI of soft k-means | .2f}}, the full mixture
# {{elongated, ARI of full Gaussian mixture | .2f}} (means of five seeds): softness does
# not help here; what the full mixture adds, a covariance and a weight for each heap, does.
# The covariances cost $D(D+1)/2$ numbers a cluster, which for our
# digits are 307,720.
#
# ## Handwritten digits, graded
#
# Cluster 3 has no reason to be digit 3: the numbers of clusters are arbitrary. So find
# the one-to-one match between clusters and classes that makes most points agree, and
# call the share of agreeing points the **clustering accuracy**. A small example with
# three classes (rows) and three clusters (columns); entry $(i, j)$ counts the points of
# class $i$ in cluster $j$.

# %%
board = torch.tensor([[6, 5, 0], [5, 1, 1], [0, 2, 6]])
for order in itertools.permutations(range(3)):
    agree = sum(board[i, j].item() for i, j in enumerate(order))
    print(f"classes 0, 1, 2 are clusters {order}: {agree} of {board.sum()} agree")
rows, columns = linear_sum_assignment(board, maximize=True)
print("best match:", columns.tolist(), board[rows, columns].sum().item(), "agree")

# %% [markdown]
# Taking the largest entry first (6, then 6) leaves a 1 for the rest: 13. The best match
# gives up one point there and gains four elsewhere: 16 of 26. With three clusters we can
# try all six; with ten there are 3,628,800, and the **Hungarian method** (Kuhn, 1955;
# SciPy uses a later algorithm for the same problem) finds the best at once. Mind
# `maximize=True`: without it the *worst* match comes back.
#
# Two more grades need no match: the ARI, and **normalised mutual information** (NMI):
# the information that class and cluster share, divided by the mean of their entropies,
# from 0 for independent to 1 for equal groupings.
#
# One run proves little, so we take ten, each with a k-means++ start of its own, and
# grade each twice: on the images that it was fitted to, and on the 10,000 test images.

# %%
digit_runs = [
    kmeans(x, cfg.n_clusters, cfg.max_iter, cfg.tol,
           generator=torch.Generator().manual_seed(cfg.seed + i))
    for i in range(cfg.n_seeds)
]
graded = {"training": [(y, run.labels.cpu()) for run in digit_runs],
          "test": [(test_y, assign(test_x, run.centers).cpu()) for run in digit_runs]}
floors = {"accuracy": y.bincount().max().item() / len(y), "NMI": 0.0, "ARI": 0.0}
grades = {"accuracy": metrics.clustering_accuracy, "NMI": metrics.nmi,
          "ARI": metrics.ari}
for name, grade in grades.items():
    for where, pairs in graded.items():
        record.measure_seeds(f"digits, {name}, {where} images",
                             [grade(*pair) for pair in pairs], floor=floors[name],
                             ceiling=1.0, note="k-means on pixels")

# %% [markdown]
# And what would labels buy? A linear classifier on the same pixels, with all labels:

# %%
linear = LogisticRegression(tol=1e-3, max_iter=300).fit(x.cpu(), y)
record.measure("digits, supervised linear classifier, test accuracy",
               linear.score(test_x.cpu(), test_y), floor=floors["accuracy"], ceiling=1)

# %% [markdown]
# A bit more than half of the digits fall into the cluster of their class
# ({{digits, accuracy, test images | .3f}} ± {{digits, accuracy, test images | spread .3f}}
# on test images), without a single label; one cluster for everything would score the
# floor. Training and test images score alike
# ({{digits, accuracy, training images | .3f}} and {{digits, accuracy, test images | .3f}}). The
# supervised classifier reaches
# {{digits, supervised linear classifier, test accuracy | .3f}}. **The gap between the two is
# what the last chapter works on.**
#
# We go on with the run of least inertia, a choice that needs no labels. A centre has 784
# coordinates, so it is itself an image: the average of its cluster.

# %% tags=["hide-input", "result-picture"] mystnb={"image": {"alt": "Ten columns of seven pictures. On top the blurred mean of each cluster, with the digit it was matched with and the share of that digit; below each mean six images of its cluster, 4s, 7s and 9s among them in the same columns."}}
best = min(digit_runs, key=lambda run: run.inertia)
best_labels = best.labels.cpu()
match = metrics.match_clusters(y, best_labels)  # cluster -> digit
in_order = sorted(match, key=match.get)
members = [x[best.labels == k] for k in in_order]
samples = [torch.stack([m[i % len(m)] for m in members]) for i in range(6)]
pictures = torch.stack([best.centers[in_order], *samples]).cpu()  # (7, 10, 784)
purity = [(y[best_labels == k] == match[k]).float().mean().item() for k in in_order]
heads = [f"“{match[k]}”\n{p:.0%}" for k, p in zip(in_order, purity)]
ax = figures.image_grid(pictures.view(-1, 28, 28), columns=len(in_order))
ax.set_xticks(14 + 30 * np.arange(len(in_order)), heads)
ax.xaxis.tick_top()
figures.caption_source(ax.figure, train);

# %% [markdown]
# The top row shows the centres, each with the digit it was matched with and its
# **purity**, the share of that digit in the cluster; below stand the first six images of
# each. Look down the columns “4” and “7”: 4s, 7s and 9s stand in both; as *pixels*, these
# digits with their long stroke are near each other. Two columns carry the name of a digit
# only because every cluster must get one: “5” is full of slanted 1s and “9” of 0s. The full
# table says which digits are taken for one another:

# %% tags=["hide-input"] mystnb={"image": {"alt": "Table of digits 0 to 9 against ten clusters in per cent of each row; 2 and 6 lie mostly in one cluster, 0 and 1 over two each, 4, 7 and 9 are spread over the same two."}}
counts = metrics.contingency(y, best_labels)[:, in_order]  # (10, 10)
per_cent = (100 * counts / counts.sum(axis=1, keepdims=True)).round().astype(int)
fig, ax = plt.subplots(figsize=(6, 4.8))
plots.confusion(ax, per_cent, row_labels=range(10),
                column_labels=[match[k] for k in in_order],
                xlabel="cluster, named by its matched digit", ylabel="digit")
figures.caption_source(fig, train);

# %% [markdown]
# Each row is a digit, each column a cluster; the numbers are per cent of the row. Rows
# with one dark cell, such as 2 and 6, are digits that k-means found. Rows 4, 7 and 9 share
# two columns, 3, 5 and 8 two others, and 0 and 1 have two each for themselves. Perhaps pixels are the wrong space. Test it: move 1,000 test
# digits two pixels to the right. Is a moved digit nearer to itself than to the nearest
# *other* image of the training set?

# %%
still = test.images[: cfg.n_moved].to(device)  # (1000, 1, 28, 28)
moved = torch.roll(still, 2, dims=3)
to_itself = (moved - still).flatten(1).square().sum(dim=1)  # (1000,)
to_nearest = torch.cdist(still.flatten(1), x).min(dim=1).values.square()
record.measure("squared distance, moved by two pixels", to_itself.median().item())
record.measure("squared distance, nearest other image", to_nearest.median().item())
farther = (to_itself > to_nearest).float().mean().item()
record.measure("moved digits that are farther from themselves", farther)

# %% [markdown]
# It is not. The median squared distance to itself, two pixels away, is
# {{squared distance, moved by two pixels | .0f}}, to the nearest other image
# {{squared distance, nearest other image | .0f}}, and for
# {{moved digits that are farther from themselves | .1%}} of the digits the other image is
# nearer. To you it is the same digit. k-means did its task, it found a division with small
# squared distances; but distance between pixels is not distance between meanings. The
# course goes on from here: *learn a space in which near means alike*.
#
# ## Touch it
#
# With a live kernel, the sliders choose $K$, start and seed. Find a seed for which the
# random start fails with $K = 5$, and see whether k-means++ ever does.

# %% tags=["hide-input"] mystnb={"image": {"alt": "The five blobs divided by k-means into seven cells with seven centres; two heaps are split."}}
def explore(n_clusters, init, seed):
    chosen_rng = torch.Generator().manual_seed(seed)
    run = kmeans(blobs, n_clusters, init=init, generator=chosen_rng)
    fig, ax = plt.subplots(figsize=(5.4, 4.6))
    draw_cells(ax, blobs, run.centers)
    ax.set_title(f"K = {n_clusters}, {run.n_iter} rounds, inertia {run.inertia:.0f}")
    return fig


def redraw(change=None):
    asked = {name: control.value for name, control in controls.items()}
    picture.value = figures.still(explore(**asked))


controls = {"n_clusters": widgets.IntSlider(7, 2, 10, description="clusters"),
            "init": widgets.Dropdown(options=list(STARTS), description="start"),
            "seed": widgets.IntSlider(0, 0, 50, description="seed")}
picture = widgets.Image()
for control in controls.values():
    control.observe(redraw, "value")
redraw()
display(widgets.VBox([*controls.values(), picture]))
explore(7, "random", 0);

# %% [markdown]
# Seven centres for five heaps: two heaps are cut in two, and the seed decides which.
#
# ## Summary
#
# * k-means minimises the sum of squared distances by two half-steps, each of which can
#   only lower it. It ends in a local optimum that the start decides; k-means++ and
#   several starts are the remedy.
# * Its clusters are cells with straight borders. It is EM for round Gaussians of one
#   width, and prefers wrong answers where groups are long, unequal or rings.
# * It needs $K$, every feature counts in its own unit, and it always answers, also when
#   there are no groups at all.
# * On the pixels of MNIST it finds a bit more than half of the digits, and two images of
#   one digit can be far apart. The next chapter learns **codes**: ten numbers in place
#   of 784 pixels.
#
# ## Exercises
#
# **1. On paper.** *(easy)* Four points on a line, 0, 1, 4 and 6, and $K = 2$. Which pairs of
# neighbouring groups are ends of Lloyd's algorithm, and which is the best?

# %% tags=["solution"]
line = torch.tensor([[0.0], [1.0], [4.0], [6.0]])
for left in (1, 2, 3):
    halves = torch.stack([line[:left].mean(dim=0), line[left:].mean(dim=0)])
    run = kmeans(line, 2, init=halves)
    kept = run.labels.tolist() == [0] * left + [1] * (4 - left)
    said = "an end" if kept else "moves on"
    print(f"{left} | {4 - left}: {said}, cost {run.inertia:.2f}")
# 0 | 1 4 6: the means are 0 and 11/3, the border is 11/6, so 1 changes sides.
# 0 1 | 4 6: 0.5 and 5, border 2.75, nothing moves. 0 1 4 | 6: 5/3 and 6, border
# 23/6 < 4, so 4 moves.

# %% [markdown]
# **2. Units.** *(easy)* Multiply the second coordinate of the blobs by 100 (metres to
# centimetres) and cluster again with $K = 5$. What happens to the accuracy, and which
# simple step before k-means repairs it?

# %% tags=["solution"]
stretched = blobs * torch.tensor([1.0, 100.0])
scaled = (stretched - stretched.mean(dim=0)) / stretched.std(dim=0)
for name, points in {"stretched": stretched, "standardised": scaled}.items():
    run = best_of(cfg.n_restarts, points, 5, generator=rng)
    print(f"{name:>12}: {metrics.clustering_accuracy(blobs_y, run.labels):.3f}")
# Squared distances are ruled by the largest unit. Dividing each feature by its standard
# deviation gives all the same say.

# %% [markdown]
# **3. The core step.** *(medium)* Write `my_means(x, labels, n_clusters)` without the
# one-hot table, which costs $N K$ numbers. Your function passes if these hold:
# `my_means(blobs, blobs_labels, 5)` equals `means(blobs, blobs_labels, 5)`, and it works
# for `torch.zeros(7, 3)` with the labels `torch.arange(7)`.

# %% tags=["solution"]
def my_means(x, labels, n_clusters):
    sums = x.new_zeros(n_clusters, x.shape[1]).index_add_(0, labels, x)
    return sums / torch.bincount(labels, minlength=n_clusters)[:, None]


blobs_labels = torch.tensor(blobs_y)
assert torch.allclose(my_means(blobs, blobs_labels, 5), means(blobs, blobs_labels, 5))
assert torch.equal(my_means(torch.zeros(7, 3), torch.arange(7), 7), torch.zeros(7, 3))

# %% [markdown]
# **4. A handful of labels.** *(medium)* Suppose you may ask for the label of only *one*
# image a cluster, the one nearest to its centre. Label all others like it, and measure
# the accuracy on the test images for 10, 50 and 200 clusters.

# %% tags=["solution"]
for n_labels in (10, 50, 200):
    run = kmeans(x, n_labels, max_iter=30, init="random", generator=rng)
    to_centre = torch.cdist(x, run.centers)  # (N, K)
    asked = to_centre.argmin(dim=0).cpu()  # of each centre, the image nearest to it
    given = y[asked][assign(test_x, run.centers).cpu()]  # only these labels are used
    print(f"{n_labels:>4} labels: {(given == test_y).float().mean():.3f} right")
# Small clusters are purer, so one label serves all of their points. Learning without
# labels first makes each label that you do pay for go a long way.

# %% [markdown]
# **5. The spectral step.** *(hard)* Join every point of the rings with its five nearest
# neighbours, build the matrix $D^{-1/2} W D^{-1/2}$ from the graph ($W$ holds the joins,
# $D$ the number of joins of each point), and give k-means the two eigenvectors with the
# largest eigenvalues as new features, each row scaled to length 1 (Ng, Jordan and Weiss,
# 2001; von Luxburg, 2007). Measure the ARI for ring noise 0.03, 0.05 and 0.1.

# %% tags=["solution"]
def spectral_features(x, n_neighbors, n_features):
    apart = torch.cdist(x, x)
    near = apart.topk(n_neighbors + 1, largest=False).indices[:, 1:]  # without itself
    joined = torch.zeros_like(apart).scatter_(1, near, 1.0)  # (N, N)
    joined = torch.maximum(joined, joined.T)
    scale = joined.sum(dim=1).rsqrt()
    vectors = torch.linalg.eigh(scale[:, None] * joined * scale)[1][:, -n_features:]
    return F.normalize(vectors)


for noise in (0.03, 0.05, 0.1):
    points, truth = make_circles(500, noise=noise, factor=0.5, random_state=cfg.seed)
    features = spectral_features(torch.tensor(points), 5, 2)
    run = best_of(cfg.n_restarts, features, 2, generator=rng)
    print(f"noise {noise}: ARI {metrics.ari(truth, run.labels):.2f}")
# Clean rings are two separate graphs, and the eigenvectors say which. At noise 0.1
# stray points bridge the gap, and the cheapest cut is not the one between the rings.

# %% [markdown]
# **6. A poster.** *(medium)* The pixels of a photograph are points in a space of three
# colours. Cluster them with $K = 2, 4, 8$ and $16$ and paint each pixel in the colour of
# its centre. How many bits does a pixel need then?

# %% tags=["solution"] mystnb={"image": {"alt": "Six panels of the same size: the photograph of a Chinese temple, then painted in 2, 4, 8, 16 and 32 colours; with 16 it is close to the original."}}
photo = torch.tensor(load_sample_image("china.jpg")[::3, ::3] / 255.0).float()
colours = photo.reshape(-1, 3)  # (h * w, 3)
posters = {"original": photo}
for n_colours in (2, 4, 8, 16, 32):
    run = kmeans(colours, n_colours, generator=rng)
    posters[f"K = {n_colours}"] = run.centers[run.labels].view_as(photo)  # (h, w, 3)
panels = torch.stack(list(posters.values())).permute(0, 3, 1, 2)  # (6, 3, h, w)
figures.image_grid(panels, columns=2, titles=list(posters));
# log2(K) bits a pixel in place of 24, and K colours kept once: with 16 colours, 4 bits.

# %% [markdown]
# **7. Open.** *(hard)* Find a data set of yours with a feature whose unit is arbitrary.
# Which scaling would you choose, how could you defend it without labels, and what would
# change your mind?
#
# ## Deeper
#
# ### Far from the origin
#
# `assign` compares the scores $\lVert c_k \rVert^2 - 2\,x^\top c_k$ of the centres. Move
# everything by 10,000 and the scores are about $-2 \cdot 10^8$, while those of different
# centres differ by tens. A float32 keeps about seven digits, which at $2 \cdot 10^8$ means
# steps of 16.

# %%
far, far_centers = blobs + 10_000, blobs[:5] + 10_000
right = torch.cdist(far.double(), far_centers.double()).argmin(dim=1)
for name, middle in [("as they are", 0.0), ("mean subtracted first", far.mean(dim=0))]:
    wrong = (assign(far - middle, far_centers - middle) != right).sum()
    print(f"{name:>22}: {wrong} of {len(far)} points go to a wrong centre")

# %% [markdown]
# Distances do not change when everything is moved alike, so `kmeans` subtracts the mean.
#
# ### Lloyd's update is a gradient step
#
# With the assignments fixed, the mean cost $L = \frac1N \sum_i \lVert x_i - c_{a_i}\rVert^2$
# has the gradient $\frac{\partial L}{\partial c_k} = \frac{2 n_k}{N}\,(c_k - m_k)$, with
# $m_k$ the mean of cluster $k$. A step of $\frac{N}{2 n_k}$ against it lands exactly on
# $m_k$: Lloyd's update is gradient descent with a step size for each centre.

# %%
centers = blobs[:5].clone().requires_grad_()
cost = torch.cdist(blobs, centers).square().min(dim=1).values.mean()
(gradient,) = torch.autograd.grad(cost, centers)
first_labels = assign(blobs, centers.detach())
step_sizes = len(blobs) / (2 * torch.bincount(first_labels, minlength=5))  # (5,)
by_gradient = centers.detach() - step_sizes[:, None] * gradient
gap = (by_gradient - means(blobs, first_labels, 5)).abs().max()
print(f"largest difference to Lloyd's update: {gap:.1e}")

# %% [markdown]
# So $c$ can be learned like the weights of a network, and if the points are codes that a
# network makes of images, the same gradient reaches the network. That is chapter 8.
#
# ### Millions of points
#
# `assign` makes a table of $N \times K$ numbers and `update` another. Three changes make
# `fast_kmeans` lean and quick. It works in **blocks** of about a million numbers, which fit
# into the processor's cache. The sums of the clusters are **carried** from round to round:
# late in a run few points change sides, and only those are added and subtracted. And the
# product $X C^\top$ is computed as a 1 × 1 **convolution** in which each point is a pixel
# with $D$ channels: on CPUs PyTorch computes convolutions with another library than matrix
# products, which for such a tall, narrow product can be the faster one. (A centre without
# points stays where it is.)

# %%
BLOCK = 2**20  # numbers in one working array: bounds the memory


def fast_assign(x, centers):
    """`assign`, block by block; on a CPU as a convolution."""
    weight, bias = -2 * centers, centers.square().sum(dim=1)
    kernels, labels = weight[:, None, None].permute(0, 3, 1, 2), []  # (K, D, 1, 1)
    for block in x.split(max(1, BLOCK // len(centers))):
        if x.device.type == "cpu" and x.dtype == torch.float32:
            pixels = block[None, :, None].permute(0, 3, 1, 2)  # (1, D, B, 1)
            scores = F.conv2d(pixels, kernels, bias)[0, :, :, 0].T  # (B, K)
        else:
            scores = torch.addmm(bias, block, weight.T)
        labels.append(scores.argmin(dim=1))
    return torch.cat(labels)


# %%
def carry(sums, x, old, new):
    """Return the sums after labels changed from `old` to `new`, (K, D)."""
    moved = (old != new).nonzero()[:, 0]
    if len(moved) > len(x) // 8:  # many: adding up again is cheaper
        return torch.zeros_like(sums).index_add_(0, new, x)
    points = x[moved]
    sums = sums.index_add(0, new[moved], points)
    return sums.index_add(0, old[moved], points, alpha=-1)


def fast_kmeans(x, begin, n_rounds):
    """Lloyd's algorithm from (K, D) centres: centres, labels, rounds done."""
    middle = x.mean(dim=0)
    x, centers = x - middle, begin - middle
    labels = fast_assign(x, centers)
    sums = torch.zeros_like(centers).index_add_(0, labels, x)
    for n_iter in range(1, n_rounds + 1):
        old, counts = labels, torch.bincount(labels, minlength=len(begin))[:, None]
        centers = torch.where(counts > 0, sums / counts.clamp(min=1), centers)
        labels = fast_assign(x, centers)
        sums = carry(sums, x, old, labels)
        if torch.equal(labels, old):
            break
    return centers + middle, labels, n_iter

# %% [markdown]
# The same work in scikit-learn, from the same start on the same digits. The time of a
# round is a longer run minus a shorter one, so that the set-up drops out.

# %%
def fastest(fit, n_rounds):
    """Fewest seconds of several tries (others can only add), and rounds really done."""
    watches = [runtime.Stopwatch(device) for _ in range(cfg.n_tries)]
    for watch in watches:
        with watch:
            done = fit(n_rounds)
    return min(watch.seconds for watch in watches), done


def seconds_a_round(fit):
    """Time of one round; fit(n) runs at most n rounds and returns how many."""
    (short, few), (long, many) = fastest(fit, 2), fastest(fit, 2 + cfg.n_timed)
    return max((long - short) / max(many - few, 1), 1e-6)  # tiny runs are mere noise


def scikit_rounds(n_rounds):
    model = ScikitKMeans(len(race), init=race.cpu().numpy(), n_init=1, tol=0,
                         max_iter=n_rounds, algorithm="lloyd")
    return model.fit(pixels).n_iter_


race, pixels = plus_plus_start(x, cfg.n_clusters, rng), x.cpu().numpy()
same = fast_kmeans(x, race, 5)[1] == kmeans(x, len(race), 5, 0, race).labels
assert same.float().mean() > 0.999
fits = {"ours, plain": lambda n: kmeans(x, len(race), n, 0, race).n_iter,
        "ours, fast": lambda n: fast_kmeans(x, race, n)[2],
        "scikit-learn": scikit_rounds}
times = {name: seconds_a_round(fit) for name, fit in fits.items()}
for name, seconds in times.items():
    print(f"{name:>12}: {1e3 * seconds:.1f} ms a round")
record.measure("time a round, ours / scikit-learn", times["ours, fast"]
               / times["scikit-learn"], note=f"{len(x):,} x 784, K = 10, float32,"
               f" {torch.get_num_threads()} threads")

# %% [markdown]
# `fast_kmeans` takes {{time a round, ours / scikit-learn | .2f}} of scikit-learn's time.
# Perhaps the carried sums and the library below make the difference: we did not take them
# away one by one. On another processor the numbers will be others. And its memory: for a
# million points with 32 numbers and 100 centres, one table of all differences would be
# 12.8 GB. A second thread looks at the memory of this process during five rounds:

# %%
many = torch.rand(cfg.n_memory, 32, generator=rng)
above = runtime.memory_above(lambda: fast_kmeans(many, many[:100], 5))
record.measure("memory above the data", above / 1e9, unit="GB",
               note=f"{cfg.n_memory:,} x 32, K = 100")
print(f"data: {many.nbytes / 1e9:.2f} GB, above it: {above / 1e9:.2f} GB")

# %% [markdown]
# One round compares $N$ points with $K$ centres over $D$ numbers: does its time grow in
# proportion to each?

# %%
base, factors = {"N": cfg.base_points, "K": 8, "D": 64}, [1, 2, 4, 8, 16]
axis_times = {"N": [], "K": [], "D": []}
for axis, factor in itertools.product(axis_times, factors):
    grow = base | {axis: base[axis] * factor}
    noise = torch.rand(grow["N"], grow["D"], generator=rng).to(device)
    rounds = seconds_a_round(
        lambda n, x=noise, k=grow["K"]: fast_kmeans(x, x[:k], n)[2])
    axis_times[axis].append(1e3 * rounds)
for axis, spent in axis_times.items():
    record.measure(f"last doubling of {axis}, times the time", spent[-1] / spent[-2])

# %% tags=["hide-input"] mystnb={"image": {"alt": "Three plots with logarithmic axes of milliseconds a round against N, K and D, each with a dashed line of slope one through its first point."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 3.2), sharey=True)
for ax, (axis, spent) in zip(axes, axis_times.items()):
    where = [base[axis] * factor for factor in factors]
    ax.loglog(where, spent, "o-", where, [spent[0] * f for f in factors], "k--")
    ax.set(xlabel=axis, xticks=where[::2], xticklabels=[f"{w:,}" for w in where[::2]])
    ax.minorticks_off()
steps = [2, 5, 10, 20]
axes[0].set(ylabel="milliseconds a round", yticks=steps, yticklabels=steps);

# %% [markdown]
# The dashed line is proportional growth from the first point. The last doubling costs
# {{last doubling of N, times the time | .2f}} times the time in $N$,
# {{last doubling of K, times the time | .2f}} in $K$ and
# {{last doubling of D, times the time | .2f}} in $D$: where it is below 2, a wider product
# perhaps uses the processor better.
#
# ## References
#
# * D. Aloise, A. Deshpande, P. Hansen, P. Popat. *NP-hardness of Euclidean sum-of-squares
#   clustering.* Machine Learning 75, 2009. <https://doi.org/10.1007/s10994-009-5103-0>
# * D. Arthur, S. Vassilvitskii. *k-means++: the advantages of careful seeding.* SODA 2007.
#   <https://dl.acm.org/doi/10.5555/1283383.1283494>
# * A. Dempster, N. Laird, D. Rubin. *Maximum likelihood from incomplete data via the EM
#   algorithm.* Journal of the Royal Statistical Society B 39, 1977.
#   <https://doi.org/10.1111/j.2517-6161.1977.tb01600.x>
# * L. Hubert, P. Arabie. *Comparing partitions.* Journal of Classification 2, 1985.
#   <https://doi.org/10.1007/BF01908075>
# * H. W. Kuhn. *The Hungarian method for the assignment problem.* Naval Research Logistics
#   Quarterly 2, 1955. <https://doi.org/10.1002/nav.3800020109>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to document
#   recognition.* Proceedings of the IEEE 86, 1998. <https://doi.org/10.1109/5.726791>
# * S. P. Lloyd. *Least squares quantization in PCM.* IEEE Transactions on Information Theory
#   28, 1982. <https://doi.org/10.1109/TIT.1982.1056489>
# * U. von Luxburg. *A tutorial on spectral clustering.* Statistics and Computing 17, 2007.
#   <https://doi.org/10.1007/s11222-007-9033-z>
# * J. MacQueen. *Some methods for classification and analysis of multivariate observations.*
#   Berkeley Symposium 1, 1967. <https://projecteuclid.org/euclid.bsmsp/1200512992>
# * A. Ng, M. Jordan, Y. Weiss. *On spectral clustering: analysis and an algorithm.* NIPS
#   2001.
# * C. Northcutt, A. Athalye, J. Mueller. *Pervasive label errors in test sets destabilize
#   machine learning benchmarks.* 2021. <https://doi.org/10.48550/arXiv.2103.14749>
# * P. Rousseeuw. *Silhouettes: a graphical aid to the interpretation and validation of
#   cluster analysis.* Journal of Computational and Applied Mathematics 20, 1987.
#   <https://doi.org/10.1016/0377-0427(87)90125-7>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %% tags=["hide-input"]
record.measure("inertia, ours and scikit-learn, relative difference", difference)
record.card()
