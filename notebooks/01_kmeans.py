# %% [markdown]
# # 1. k-means: groups without labels
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/{{repository}}/blob/main/notebooks/01_kmeans.ipynb)
#
# You will derive one of the oldest clustering methods, still in daily use, check it by
# hand on six points, and write it so that sixty thousand images take seconds on a
# laptop. Then you will see where it fails, why, and what the rest of this course does
# about it.
#
# ![Ten blurred digits, the cluster centres that k-means found in MNIST, each above six of its own images](attachment:result.png)
#
# *Top row: ten averages that k-means found among handwritten digits without being told
# a single label. Below each: images it put into that group.*
#
# **Time to run:** at most 10 minutes on two CPU cores (`laptop` profile) and half a
# minute to try that everything works (`smoke`); `full`, for a GPU, doubles the number
# of seeds.

# %% [markdown]
# ## Why learn without labels at all?
#
# Most of what is called machine learning is taught by example: here is an image, here
# is its label. That works, and it has three troubles. **Labels cost money**: somebody
# has to look at every image, and for an X-ray that somebody is a doctor. **Labels are
# wrong** more often than one thinks: a study of ten widely used test sets estimates
# that 3.3 per cent of their labels are (Northcutt et al., 2021). And sometimes **nobody
# can define them**: what are the "right" groups of all customers, of all galaxies, of
# all melodies?
#
# Data without labels, on the other hand, is everywhere. The methods that use it differ
# in what they look for:
#
# | family | question it answers | in this course |
# |---|---|---|
# | clustering | which items belong together? | chapters 1 and 8 |
# | representation learning | which few numbers describe an item? | chapter 2 |
# | generative models | how could a new item look? | chapters 3 to 6 |
# | self-supervision | what can one part of the data say about another? | chapters 2, 7 |
#
# The last line is also how today's large language models begin: they are trained to
# predict the next word of text that nobody labelled (Brown et al., 2020). The data
# itself holds the answer. Labels enter only afterwards, in small numbers.
#
# We start with the simplest of these methods, and the last chapter returns to it: there
# a neural network will learn *in which space* the groups of this chapter become round.

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
from dataclasses import dataclass
from typing import NamedTuple

import ipywidgets as widgets
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from IPython.display import Markdown, display
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans as ScikitKMeans
from sklearn.datasets import load_sample_image, make_blobs, make_circles
from sklearn.metrics import silhouette_score

from genlab_helpers import data, figures, film, grids, metrics, plots, runtime
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import Settings

# %% [markdown]
# Every number that you may want to change stands in one place. The class holds the
# values for a laptop; `smoke` and `full` list only what they change. Which of the three
# is used is decided by the environment variable `GENLAB_PROFILE`.

# %% tags=["settings", "hide-input"]
@dataclass(frozen=True, kw_only=True)
class Config(Settings):
    n_points: int = 500  # points in each flat data set: few enough to see each one
    ring_noise: float = 0.1  # standard deviation, in units of the outer radius
    n_clusters: int = 10  # for MNIST, because there are ten digits
    n_images: int = 60_000  # training images of MNIST: all of them
    n_seeds: int = 10  # runs behind each mean and spread on MNIST
    n_starts: int = 100  # starts behind each histogram
    n_restarts: int = 10  # starts of which the best is kept, in the plane
    max_iter: int = 300  # rounds before a run gives up
    tol: float = 1e-4  # stop when the centres move less, relative to the variance
    n_timed: int = 40  # rounds that are timed, after two that are not
    n_tries: int = 5  # tries of which the fastest counts
    base_points: int = 30_000  # smallest N when the time of a round is measured
    n_memory: int = 1_000_000  # points in the test of memory


cfg = Config.for_profile(
    smoke=dict(n_images=1_000, n_seeds=2, n_starts=3, n_restarts=2, n_timed=2,
               n_tries=2, base_points=250, n_memory=20_000),
    full=dict(n_seeds=20),
)
device = runtime.pick_device()
rng = runtime.seed_everything(cfg.seed)
record = RunRecord("01_kmeans", cfg, device)
figures.use_style()
print(runtime.describe(device), "| profile:", cfg.profile)

# %% [markdown]
# ## Two flat data sets
#
# Before images we take points in the plane, where the eye can check every answer. The
# **blobs** are five round heaps; the **rings** are two circles, one inside the other,
# drawn with a little noise. Both have 500 points. We keep the true groups, `y`, aside:
# the method never sees them.

# %% mystnb={"image": {"alt": "Two scatter plots of 500 grey points each: five separate round heaps on the left, a small noisy ring inside a larger one on the right."}}
heaps = [(-5, 3), (0, 4.5), (5, 2.5), (-3, -3.5), (3.5, -3.5)]
blobs, blobs_y = make_blobs(
    cfg.n_points, centers=heaps, cluster_std=0.7, random_state=cfg.seed
)
rings, rings_y = make_circles(
    cfg.n_points, noise=cfg.ring_noise, factor=0.5, random_state=cfg.seed
)
blobs = torch.tensor(blobs, dtype=torch.float32)  # (500, 2)
rings = torch.tensor(rings, dtype=torch.float32)  # (500, 2)

fig, axes = plt.subplots(1, 2, figsize=(7, 3.6))
plots.clusters(axes[0], blobs).set_title("blobs")
plots.clusters(axes[1], rings).set_title("rings");

# %% [markdown]
# You see five groups on the left and two on the right at once, and nobody told you. The
# task is to make a machine see them. Keep the rings in mind: they will get their own
# section, because the method of this chapter *cannot* see them.

# %% [markdown]
# ## The idea, in words and in symbols
#
# Suppose we want $K$ groups. Describe each group by one point, its **centre**. Say that
# every data point belongs to the centre nearest to it. Then good centres are those to
# which the points are close. That is all; the rest is arithmetic.
#
# In symbols: the data are $x_1, \dots, x_N$, each a vector of $D$ numbers; the centres
# are $c_1, \dots, c_K$; and $a_i$ is the number of the centre that point $i$ is
# assigned to. The cost is the sum of squared distances, which the literature calls
# **inertia**:
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
#   off that $c_k$ is the **mean** of its $n_k$ points,
#   $c_k = \frac{1}{n_k}\sum_{i: a_i=k} x_i$.
#
# Doing the two in turn, until nothing changes, is **Lloyd's algorithm** (Lloyd, 1982,
# written down in 1957), better known as **k-means** (MacQueen, 1967).
#
# ## By hand, on six points
#
# Take six points and, as a deliberately poor start, two of them as centres. First the
# table of squared distances. The first entry of the last row is
# $(6-1)^2 + (6-1)^2 = 50$: check one or two more with pencil and paper.

# %%
six = torch.tensor([[1, 1], [2, 1], [1, 2], [6, 5], [7, 5], [6, 6]]).float()  # (6, 2)
centers = six[[0, 1]]  # (2, 2): the first two points
gaps = torch.zeros(6, 2)
for i in range(6):
    for k in range(2):
        gaps[i, k] = ((six[i] - centers[k]) ** 2).sum()
print(gaps)

# %% [markdown]
# Row $i$ belongs to point $i$, column $k$ to centre $k$. The smaller number of each row
# names the nearest centre. Now both half-steps, three rounds of them, with the cost
# after each half.

# %%
for step in range(1, 4):
    labels = torch.stack([((p - centers) ** 2).sum(dim=1).argmin() for p in six])
    cost = ((six - centers[labels]) ** 2).sum()
    print(f"round {step}: assign {labels.tolist()}, cost {cost:.2f}")
    centers = torch.stack([six[labels == k].mean(dim=0) for k in range(2)])
    cost = ((six - centers[labels]) ** 2).sum()
    places = [[round(v, 2) for v in center] for center in centers.tolist()]
    print(f"         centres {places}, cost {cost:.2f}")

# %% [markdown]
# In round 1 the second centre takes four points, because the first one sits in the
# corner. Its mean moves to the middle of them, and in round 2 it lets one go. From then
# on the left three points are one group, the right three the other, and round 3 changes
# nothing: we are done. Notice the cost: no half-step ever raises it. We will prove that
# this is no accident.
#
# ## The plain loop
#
# Here is the method the way most introductions write it: one point at a time, one
# centre at a time. It is correct, and it is worth reading slowly, because everything
# after it only says the same thing faster.

# %%
def kmeans_loop(x, centers, n_rounds):
    """Lloyd's algorithm point by point; x (N, D), centers (K, D)."""
    labels = torch.zeros(len(x), dtype=torch.long)
    for _ in range(n_rounds):
        for i in range(len(x)):
            distances = [((x[i] - center) ** 2).sum() for center in centers]
            labels[i] = torch.stack(distances).argmin()
        for k in range(len(centers)):
            centers[k] = x[labels == k].mean(dim=0)
    return labels, centers


with runtime.Stopwatch(device) as loop_watch:
    loop_labels, loop_centers = kmeans_loop(blobs, blobs[:5].clone(), n_rounds=10)
print(f"{loop_watch.seconds:.2f} s for 10 rounds over {len(blobs)} points")

# %% [markdown]
# ## The same in whole arrays
#
# Python handles one number at a time and pays for each. PyTorch handles whole arrays in
# compiled code, on all cores. To use that we must see the two half-steps as operations
# on arrays. The picture shows the shapes on our six points, with the six assigned to
# centres that have not converged yet.

# %% mystnb={"image": {"alt": "Four tables of numbers side by side: six points with two coordinates, the 6 by 2 table of squared distances with the smaller entry of each row framed, the 6 by 2 one-hot table of assignments, and the 2 by 2 table of new centres."}}
gaps = ((six[:, None, :] - six[None, [0, 1], :]) ** 2).sum(dim=2)  # (6, 2)
one_hot = F.one_hot(gaps.argmin(dim=1), 2).float()  # (6, 2)
means = one_hot.T @ six / one_hot.sum(dim=0)[:, None]  # (2, 2)

fig, axes = plt.subplots(1, 4, figsize=(7, 3.4))
names = ["points\n(N, D)", "gaps\n(N, K)", "one-hot\n(N, K)", "means\n(K, D)"]
for ax, table, name in zip(axes, [six, gaps, one_hot, means], names):
    ax.imshow(table, cmap="Blues", vmin=0, vmax=90)
    for i, j in itertools.product(*map(range, table.shape)):
        ax.text(j, i, f"{table[i, j]:.3g}", ha="center", va="center")
    ax.set_title(name, fontsize=12)
    ax.set(xticks=[], yticks=[])
for i, k in enumerate(gaps.argmin(dim=1)):
    axes[1].add_patch(plt.Rectangle((k - 0.45, i - 0.45), 0.9, 0.9, fill=False, lw=2))

# %% [markdown]
# Read it from left to right. Six points become a table of squared distances (we call
# them *gaps* in the code), one column a centre. The framed, smaller number of each row
# becomes a 1 in the **one-hot** table. And a column of that table, used as weights,
# adds up the points of one cluster: divide by the column's sum and you have the new
# centre. Both half-steps in four lines:

# %%
def assign_all(x, centers):
    """Nearest centre of each point, (N,); makes an (N, K, D) array on the way."""
    gaps = ((x[:, None, :] - centers[None, :, :]) ** 2).sum(dim=2)  # (N, K)
    return gaps.argmin(dim=1)


def update_all(x, labels, n_clusters):
    """Mean of each cluster, (K, D)."""
    one_hot = F.one_hot(labels, n_clusters).to(x.dtype)  # (N, K)
    return one_hot.T @ x / one_hot.sum(dim=0)[:, None]

# %% [markdown]
# Ten rounds from the same start as the loop must give the same answer. They do, and the
# clock shows why nobody keeps the loop:

# %%
centers = blobs[:5].clone()
with runtime.Stopwatch(device) as array_watch:
    for _ in range(10):
        labels = assign_all(blobs, centers)
        centers = update_all(blobs, labels, 5)
assert torch.equal(labels, loop_labels)
assert torch.allclose(centers, loop_centers)
speedup = loop_watch.seconds / array_watch.seconds
print(f"same result in {1e3 * array_watch.seconds:.2f} ms: {speedup:.0f} times faster")

# %% [markdown]
# The same labels, the same centres, a fraction of the time. But `assign_all` has a
# price that 500 points hide: the array of differences has shape $(N, K, D)$. For 60,000
# images of 784 pixels and ten centres that is 470 million numbers, 1.9 GB, to obtain a
# table of 600,000. There is a better way. Multiply out the square:
#
# $$\lVert x - c \rVert^2 = \lVert x \rVert^2 - 2\,x^\top c + \lVert c \rVert^2 .$$
#
# The first term is the same for every centre, so it cannot change which one is nearest:
# drop it. The middle term, for all points and centres at once, is one **matrix
# product** $X C^\top$, the operation that computers do best. No $(N, K, D)$ array
# appears.
#
# One trap hides here, and it is worth stepping into once. If all points lie far from
# the origin, $\lVert c \rVert^2$ and $2\,x^\top c$ are huge, nearly equal numbers, and
# a float32 keeps about seven digits of each. Shift our blobs by 10,000:

# %%
far = blobs + 10_000
far_centers = centers + 10_000
for name, middle in [("as they are", 0.0), ("mean subtracted first", far.mean(dim=0))]:
    p, c = far - middle, far_centers - middle
    scores = (c**2).sum(dim=1) - 2 * p @ c.T  # (N, K): squared distance - |x|^2
    wrong = (scores.argmin(dim=1) != assign_all(far, far_centers)).sum()
    print(f"{name:>22}: {wrong} of {len(far)} points go to a wrong centre")

# %% [markdown]
# Distances do not change when everything is moved by the same amount, so the remedy
# costs one line: subtract the mean first. Our function below does so.
#
# ## Why the cost can only fall
#
# **The assignment cannot raise it.** Each point contributes
# $\lVert x_i - c_{a_i}\rVert^2$ and moves to the centre where this is smallest. Every
# term falls or stays.
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
# The cost never rises, and while it still falls no assignment can come back; after
# finitely many rounds nothing changes. What the proof does *not* say is that the end is
# the best one. Let us watch one run, half-step by half-step, from a start that is poor
# on purpose: all five centres in one corner.

# %%
corner = blobs[blobs.sum(dim=1).argsort()[:5]]  # (5, 2)
costs, path = [], [corner]
while len(path) < 2 or not torch.equal(path[-1], path[-2]):
    labels = assign_all(blobs, path[-1])
    costs.append(((blobs - path[-1][labels]) ** 2).sum().item())
    path.append(update_all(blobs, labels, 5))
    costs.append(((blobs - path[-1][labels]) ** 2).sum().item())
assert all(late <= early * (1 + 1e-6) for early, late in itertools.pairwise(costs))

# %% [markdown]
# If the proof is right, no value may lie above the one before it. The `assert` has
# checked that; the figure shows how the cost went down.

# %% mystnb={"image": {"alt": "A curve of the cost against half-steps, falling steeply at first and then in small steps until it is flat; it never rises."}}
fig, ax = plt.subplots(figsize=(7, 3.2))
ax.plot(costs, color=figures.QUIET, linewidth=1)
halves = range(len(costs))
ax.plot(halves[0::2], costs[0::2], "o", label="after an assignment")
ax.plot(halves[1::2], costs[1::2], "s", label="after an update")
ax.set(xlabel="half-step", ylabel="cost (inertia)", yscale="log")
ax.legend();

# %% [markdown]
# Down, down, flat: each circle (assignment) and each square (update) lies at or below
# the one before it, as proved. And here is the same run as a picture. The coloured
# areas are the **Voronoi cells**: all places that are nearer to one centre than to any
# other. Between two centres the border is the set of places with
# $\lVert x - c_1\rVert^2 = \lVert x - c_2\rVert^2$. The $\lVert x\rVert^2$ cancels,
# what remains is linear in $x$: every border is a **straight line** (in $D$ dimensions,
# a flat hyperplane). Remember that. The animation shows one round a frame and holds the
# last one.

# %% mystnb={"image": {"alt": "Animation: five crosses start in one corner heap and move outwards round by round; at the end one centre serves two heaps and two centres share one."}}
def draw_cells(ax, x, centers):
    """Points and centres over the Voronoi cells of the centres."""
    margin = 0.08 * (x.max() - x.min())
    (left, bottom), (right, top) = x.amin(dim=0) - margin, x.amax(dim=0) + margin
    columns, rows = torch.linspace(left, right, 200), torch.linspace(bottom, top, 200)
    places = torch.cartesian_prod(columns, rows)  # (40000, 2)
    cells = assign_all(places, centers).view(200, 200).T  # rows of the picture: y
    palette = plt.matplotlib.colors.ListedColormap(figures.PALETTE[: len(centers)])
    limits = dict(vmin=-0.5, vmax=len(centers) - 0.5, shading="nearest")
    ax.pcolormesh(columns, rows, cells, cmap=palette, alpha=0.22, **limits)
    return plots.clusters(ax, x, assign_all(x, centers), centers)


def round_frames(x, path):
    for step, centers in enumerate(path):
        fig, ax = plt.subplots(figsize=(5, 4.4))
        draw_cells(ax, x, centers).set_title(f"round {step}")
        yield fig


film.animation(round_frames(blobs, path), fps=2)

# %% [markdown]
# Look at where it ends. If two centres share one heap while one centre has to serve
# two, nothing in the two half-steps can repair it: to move a centre across, the cost
# would have to rise for a while. Such an end is called a **local optimum**, and it
# depends on the start alone. The next cells look for better starts, but first a bug
# that many programs have.
#
# ## The centre that owns nothing
#
# What is the mean of no points? Start one centre far from all the data and see.

# %%
lonely = torch.cat([blobs[:4], torch.tensor([[100.0, 100.0]])])
labels = assign_all(blobs, lonely)
print("points of each centre:", torch.bincount(labels, minlength=5).tolist())
print("new centres:", update_all(blobs, labels, 5)[3:].tolist())
after = assign_all(blobs, update_all(blobs, labels, 5))
print("points of each centre one round later:", torch.bincount(after).tolist())

# %% [markdown]
# Zero divided by zero is `nan`, "not a number". And it spreads: `argmin` treats a `nan`
# as the smallest value, so in the next round *all* points go to the broken centre. A
# silent catastrophe. Our repair: a centre without points moves to the point that is
# farthest from its own centre. That cannot raise the cost, because an unused centre
# adds nothing to it.
#
# ## The method, written to be used
#
# Now we build the `kmeans` that the rest of the course will use, from small parts.
# First, bad input should be told what is wrong with it, not produce nonsense.

# %% recap=["check_points"]
def check_points(x, n_clusters, max_iter, tol):
    """Raise a ValueError that says what is wrong; x should be (N, D), N >= K."""
    if not torch.is_tensor(x) or x.ndim != 2 or not x.is_floating_point():
        raise ValueError("x must be a float tensor of shape (N, D): one row a point")
    if len(x) == 0 or x.shape[1] == 0:
        raise ValueError(f"x is empty, its shape is {tuple(x.shape)}: give some points")
    if not 1 <= n_clusters <= len(x):
        raise ValueError(f"n_clusters must be from 1 to {len(x)}, the number of points")
    if not torch.stack([x.min(), x.max()]).isfinite().all():  # nan spreads to both
        raise ValueError("x holds nan or inf: remove or fill those entries first")
    if max_iter < 1 or not tol >= 0:
        raise ValueError("max_iter must be at least 1 and tol at least 0")

# %% [markdown]
# The assignment works block by block, so that whatever $N$, $K$ and $D$ are, no table
# of distances or differences holds more than about a million numbers (4 MB in float32),
# few enough for the processor's cache. `squared_gaps` is the matrix product from above.
# It is where the time goes, hence one trick. A 1 × 1 **convolution** over an image with
# $D$ channels multiplies the $D$ numbers of every pixel by a $K \times D$ matrix: the
# very same product, if each point is a pixel. On CPUs PyTorch computes convolutions
# with another library than matrix products, and for a tall, narrow product like ours it
# is often the faster one. The section on cost measures both.

# %% recap=["BLOCK", "block_size", "squared_gaps", "assign", "own_gaps"]
BLOCK = 2**20  # numbers in one working array: bounds the memory


def block_size(width):
    """Return how many points to handle at a time, with `width` numbers for each."""
    return max(1, BLOCK // width)


def squared_gaps(block, centers):
    """Return the squared distance to each centre, less |x|^2: (B, K)."""
    weight, bias = -2 * centers, centers.square().sum(dim=1)
    if block.device.type != "cpu" or block.dtype != torch.float32:
        return torch.addmm(bias, block, weight.T)
    pixels = block[None, :, None].permute(0, 3, 1, 2)  # (1, D, B, 1)
    kernels = weight[:, None, None].permute(0, 3, 1, 2)  # (K, D, 1, 1)
    return F.conv2d(pixels, kernels, bias)[0, :, :, 0].T  # (B, K)


def assign(x, centers):
    """Find the nearest centre of each point, (N,)."""
    blocks = x.split(block_size(len(centers)))
    return torch.cat([squared_gaps(b, centers).argmin(dim=1) for b in blocks])


def own_gaps(x, centers, labels):
    """Return the squared distance of each point to its own centre, (N,)."""
    n = block_size(x.shape[1])
    blocks = zip(x.split(n), labels.split(n), strict=True)
    return torch.cat([(b - centers[own]).square().sum(dim=1) for b, own in blocks])

# %% [markdown]
# The update needs the sum of the points of each cluster. `index_add_` adds row $i$ of
# `x` to row `labels[i]` of `sums`. After the first few rounds only few points change
# sides, so we do not add up everything again: we carry those few from their old sum to
# their new one.

# %% recap=["total", "carry", "update"]
def total(x, labels, n_clusters):
    """Add up the points of each cluster, (K, D)."""
    return x.new_zeros(n_clusters, x.shape[1]).index_add_(0, labels, x)


def carry(sums, x, old, new):
    """Return the sums after labels changed from `old` to `new`, (K, D)."""
    moved = (old != new).nonzero()[:, 0]
    if len(moved) > len(x) // 8:  # many: adding up again is cheaper
        return total(x, new, len(sums))
    points = x[moved]
    sums = sums.index_add(0, new[moved], points)
    return sums.index_add(0, old[moved], points, alpha=-1)


def update(x, centers, labels, sums):
    """Return the means, (K, D); a centre without points moves to a far point."""
    counts = torch.bincount(labels, minlength=len(centers))  # (K,)
    means = sums / counts.clamp(min=1)[:, None]
    empty = (counts == 0).nonzero()[:, 0]
    if len(empty) > 0:
        means[empty] = x[own_gaps(x, centers, labels).topk(len(empty)).indices]
    return means

# %% [markdown]
# Where to start? The simplest way draws $K$ of the points at random. It often puts two
# centres into one group and none into another. **k-means++** (Arthur and Vassilvitskii,
# 2007) draws them one after the other: the first at random, each next one with a
# probability *proportional to its squared distance from the nearest centre so far*. Far
# places are likely, single outliers still rare. The expected cost of such a start is at
# most $8\,(\ln K + 2)$ times that of the best solution, a promise that the random start
# cannot give.

# %% recap=["random_start", "plus_plus_start", "STARTS", "start"]
def random_start(x, n_clusters, generator):
    """Draw K different points at random, (K, D)."""
    return x[torch.randperm(len(x), generator=generator)[:n_clusters].to(x.device)]


def plus_plus_start(x, n_clusters, generator):
    """Draw K points, each with probability ~ squared distance to those before."""
    chosen = torch.randint(len(x), (1,), generator=generator).to(x.device)
    nobody = torch.zeros(len(x), dtype=torch.long, device=x.device)
    gaps = own_gaps(x, x[chosen], nobody)
    while len(chosen) < n_clusters:
        weights = gaps.cpu().clamp(min=1e-30)  # still valid if all points coincide
        new = torch.multinomial(weights, 1, generator=generator).to(x.device)
        chosen = torch.cat([chosen, new])
        gaps = torch.minimum(gaps, own_gaps(x, x[new], nobody))
    return x[chosen]


STARTS = {"random": random_start, "k-means++": plus_plus_start}


def start(x, n_clusters, init, generator):
    """Return the first centres, (K, D), by name or from a tensor of that shape."""
    if torch.is_tensor(init):
        if init.shape != (n_clusters, x.shape[1]) or not torch.isfinite(init).all():
            raise ValueError(f"init must be {n_clusters} x {x.shape[1]} finite numbers")
        return init.to(x)
    if init not in STARTS:
        raise ValueError(f"init must be a tensor or one of {', '.join(STARTS)}")
    return STARTS[init](x, n_clusters, generator)

# %% [markdown]
# All parts together. Read it against the idea: assign, update, until nothing moves. It
# stops when no point changes sides, or when the centres moved by less than `tol`
# (measured against the variance of the data, so that it does not depend on their
# units). Besides the data it keeps one centred copy of them, at most an eighth of that
# for the points that changed sides, and one block.

# %% recap=["KMeans", "kmeans", "best_of"]
class KMeans(NamedTuple):
    """What one run of k-means found."""

    centers: torch.Tensor  # (K, D)
    labels: torch.Tensor  # (N,)
    inertia: float  # sum of squared distances to the own centre
    n_iter: int  # rounds until it stopped


def kmeans(x, n_clusters, max_iter=300, tol=1e-4, init="k-means++", generator=None):
    """Run Lloyd's algorithm on x (N, D); init: a name or (K, D) centres."""
    check_points(x, n_clusters, max_iter, tol)
    centers = start(x, n_clusters, init, generator)
    middle = x.mean(dim=0)  # near the origin float32 keeps more digits
    x, centers = x - middle, centers - middle
    still = tol * x.norm() ** 2 / x.numel()  # tol times the mean variance
    labels = assign(x, centers)
    sums = total(x, labels, n_clusters)
    for n_iter in range(1, max_iter + 1):
        old_centers, old_labels = centers, labels
        centers = update(x, centers, labels, sums)
        labels = assign(x, centers)
        sums = carry(sums, x, old_labels, labels)
        shift = (centers - old_centers).square().sum()
        if shift <= still or torch.equal(labels, old_labels):
            break
    inertia = own_gaps(x, centers, labels).cpu().double().sum().item()
    return KMeans(centers + middle, labels, inertia, n_iter)


def best_of(n_starts, x, n_clusters, **options):
    """Return the run with the least inertia of several."""
    runs = [kmeans(x, n_clusters, **options) for _ in range(n_starts)]
    return min(runs, key=lambda run: run.inertia)

# %% [markdown]
# Is it right? scikit-learn's `KMeans` has been checked by many eyes. From the same
# starting centres both must give the same labels. And our own function should refuse
# nonsense.

# %%
begin = blobs[:5]
ours = kmeans(blobs, 5, tol=0, init=begin)
theirs = ScikitKMeans(5, init=begin.numpy(), n_init=1, tol=0).fit(blobs.numpy())
assert (ours.labels.numpy() == theirs.labels_).all()
difference = abs(ours.inertia / theirs.inertia_ - 1)
print(f"same labels; inertia differs by {difference:.1e} of itself")
for wrong in [dict(x=blobs[:0]), dict(n_clusters=501), dict(x=blobs / 0), dict(tol=-1)]:
    try:
        kmeans(**({"x": blobs, "n_clusters": 5} | wrong))
    except ValueError as error:
        print("refused:", error)

# %% [markdown]
# ## The start decides the end
#
# How often does one run find the best solution? Nine heaps on a grid make it harder. We
# draw 100 random starts and 100 k-means++ starts and look at where they end.

# %%
places = list(itertools.product([-4, 0, 4], repeat=2))
nine, _ = make_blobs(cfg.n_points, centers=places, cluster_std=0.6, random_state=1)
nine = torch.tensor(nine, dtype=torch.float32)  # (500, 2)
ends = {
    name: [kmeans(nine, 9, init=name, generator=rng) for _ in range(cfg.n_starts)]
    for name in STARTS
}

# %% [markdown]
# A run counts as having found the best solution if its inertia is within one per cent
# of the least inertia that any run has found.

# %% mystnb={"image": {"alt": "Two histograms of the final inertia: the bar of the least inertia is much higher for k-means++ than for random starts, which spread over several bars to its right."}}
inertia = {name: [run.inertia for run in runs] for name, runs in ends.items()}
least = min(itertools.chain(*inertia.values()))
hits = {name: sum(i < 1.01 * least for i in values) for name, values in inertia.items()}

fig, ax = plt.subplots(figsize=(7, 3.2))
plots.histogram(ax, inertia, xlabel="final inertia", ylabel="runs", bins=40)
found = ", ".join(f"{name} **{n}** of {cfg.n_starts}" for name, n in hits.items())
display(Markdown(f"Best solution found: {found}."))

# %% [markdown]
# The bars far apart are different *local optima*, not noise: run it again from the same
# start and you get the same end. The leftmost bar holds the best solution. k-means++
# reaches it far more often, at the price of $K$ passes over the data before the first
# round. It still fails often enough, so one runs several starts and keeps the least
# inertia; that needs no labels. This is what the best and the worst end look like:

# %% mystnb={"image": {"alt": "Two panels with Voronoi cells of nine heaps on a grid: on the left every heap has its own centre, on the right some heaps are split between two centres while other centres serve two heaps."}}
every = sorted(itertools.chain(*ends.values()), key=lambda run: run.inertia)
fig, axes = plt.subplots(1, 2, figsize=(7, 3.4))
for ax, run, name in zip(axes, [every[0], every[-1]], ["best", "worst"]):
    draw_cells(ax, nine, run.centers).set_title(f"{name}: inertia {run.inertia:.0f}")

# %% [markdown]
# On the right, centres stand between heaps and serve two at once, while others share a
# heap that needs only one. Each centre is exactly at the mean of its points, each point
# with its nearest centre: no half-step has anything left to improve.
#
# ## How many clusters?
#
# The method wants $K$ from us. Inertia cannot choose it, because it always falls as $K$
# grows: with $K = N$ it is zero. Two common helpers:
#
# * The **elbow**: plot inertia against $K$ and look for the bend after which more
#   centres help little.
# * The **silhouette** (Rousseeuw, 1987). For a point, let $a$ be its mean distance to
#   the points of its own cluster and $b$ that to the nearest other cluster. Its
#   silhouette is $(b - a) / \max(a, b)$: near 1 when well inside, near 0 on a border,
#   negative when the other cluster would suit it better. The mean over all points rates
#   the clustering.

# %%
ks = list(range(2, 11))
scan = {
    name: [best_of(cfg.n_restarts, x, k, generator=rng) for k in ks]
    for name, x in {"blobs": blobs, "rings": rings}.items()
}
silhouettes = {
    "blobs": [silhouette_score(blobs, run.labels) for run in scan["blobs"]],
    "rings": [silhouette_score(rings, run.labels) for run in scan["rings"]],
}
best_k = {name: ks[s.index(max(s))] for name, s in silhouettes.items()}
display(Markdown(
    f"Highest silhouette: blobs at K = **{best_k['blobs']}**,"
    f" rings at K = **{best_k['rings']}**."))

# %% [markdown]
# Two curves a data set; the dashed line is the number of groups that you see.

# %% mystnb={"image": {"alt": "Four small plots. For the blobs the inertia bends sharply at K = 5 and the silhouette peaks there. For the rings the inertia has no bend and the silhouette has no peak at K = 2."}}
fig, axes = plt.subplots(2, 2, figsize=(7, 5), sharex=True)
for column, (name, truth) in enumerate([("blobs", 5), ("rings", 2)]):
    share = [run.inertia / scan[name][0].inertia for run in scan[name]]
    axes[0, column].plot(ks, share, "o-")
    axes[1, column].plot(ks, silhouettes[name], "o-", color=figures.PALETTE[1])
    axes[0, column].set(title=name, ylim=(0, 1.05))
    axes[1, column].set(xlabel="number of clusters K", ylim=(0, 1))
    for ax in axes[:, column]:
        ax.axvline(truth, color=figures.QUIET, linestyle="--", linewidth=1.2)
axes[0, 0].set_ylabel("inertia\n(K = 2 is 1)")
axes[1, 0].set_ylabel("silhouette");

# %% [markdown]
# On the blobs both agree with the eye: a sharp bend and a clear peak at the dashed
# line. On the rings both mislead. There is no bend anywhere, and the silhouette prefers
# a number of clusters that is certainly not two. These helpers share the belief of
# k-means itself, that a cluster is a round heap. Where this is false they cannot warn
# you; a low silhouette *everywhere* is the only hint.
#
# ## Where it fails: the rings
#
# Give k-means every advantage: the right $K = 2$, and the best of several starts.

# %% mystnb={"image": {"alt": "The two rings cut in half by one straight border: each cluster holds half of the inner and half of the outer ring."}}
ring_run = best_of(cfg.n_restarts, rings, 2, generator=rng)
ring_accuracy = metrics.clustering_accuracy(rings_y, ring_run.labels)
ring_ari = metrics.ari(rings_y, ring_run.labels)
fig, ax = plt.subplots(figsize=(4.6, 4.4))
draw_cells(ax, rings, ring_run.centers)
ax.set_title(f"accuracy {ring_accuracy:.2f}")
record.measure("rings, accuracy of k-means", ring_accuracy, floor=0.5, ceiling=1.0)

# %% [markdown]
# It saws the rings in half. About half of the points end up with the wrong company,
# which for two groups is what tossing a coin achieves. Better starts do not help,
# because the answer we want is not even among those that k-means can give: we proved
# that its borders are straight, and no straight line separates a ring from the disc
# inside it.
#
# So change the *space*, not the method. In polar coordinates a ring is easy: all its
# points have about the same distance from the middle. Feed k-means this one number
# instead of two. To judge it we use the **adjusted Rand index** (ARI; Hubert and
# Arabie, 1985): of all pairs of points, how many are treated alike, together or apart,
# by both groupings, rescaled so that chance gives 0 and perfection 1.

# %%
radius = rings.norm(dim=1, keepdim=True)  # (500, 1)
radius_run = best_of(cfg.n_restarts, radius, 2, generator=rng)
radius_ari = metrics.ari(rings_y, radius_run.labels)
record.measure("rings, ARI of k-means", ring_ari, floor=0.0, ceiling=1.0)
record.measure("rings, ARI with the radius", radius_ari, floor=0.0, ceiling=1.0)
display(Markdown(f"ARI on x, y **{ring_ari:.2f}**, on the radius **{radius_ari:.2f}**"))

# %% [markdown]
# From nothing to almost everything, by changing the features. (The few that remain
# wrong are points that the noise has put nearer to the other ring.) But *we* had to
# know that the radius matters. Could a machine find such features itself? That is the
# subject of the next chapter and, joined with clustering, of the last. Exercise 4 tries
# a classical answer, the spectral step.
#
# ## Why write it in PyTorch?
#
# scikit-learn's k-means is excellent. Two reasons to have our own: it runs unchanged on
# a GPU (`kmeans(x.to(device), ...)`), and PyTorch can **differentiate**. Let the
# centres be parameters, like the weights of a network. With the assignments fixed, the
# mean cost $L = \frac1N \sum_i \lVert x_i - c_{a_i}\rVert^2$ has the gradient
#
# $$\frac{\partial L}{\partial c_k} = \frac{2 n_k}{N}\,(c_k - m_k),$$
#
# with $m_k$ the mean of cluster $k$. It points away from the mean. Go against it with a
# step of size $\frac{N}{2 n_k}$ and you land *exactly* on $m_k$: **Lloyd's update is
# gradient descent with a step size chosen for each centre.** Let us check it.

# %%
def hard_cost(x, centers):
    """Mean squared distance to the nearest centre."""
    return torch.cdist(x, centers).square().min(dim=1).values.mean()


centers = blobs[:5].clone().requires_grad_()
(gradient,) = torch.autograd.grad(hard_cost(blobs, centers), centers)
labels = assign_all(blobs, centers.detach())
step_sizes = len(blobs) / (2 * torch.bincount(labels, minlength=5))  # (5,)
by_gradient = centers.detach() - step_sizes[:, None] * gradient
gap = (by_gradient - update_all(blobs, labels, 5)).abs().max()
print(f"largest difference to Lloyd's update: {gap:.1e}")

# %% [markdown]
# The minimum in $L$ has kinks: where a point changes sides, the gradient jumps. A
# **smooth** cousin replaces $\min$ by a soft minimum. With an inverse temperature
# $\beta > 0$,
#
# $$L_\beta = -\frac{1}{\beta N}\sum_i \log \sum_k e^{-\beta \lVert x_i - c_k\rVert^2} .$$
#
# The largest term of the inner sum dominates when $\beta$ is large, so $L_\beta \to L$.
# And differentiating brings out a familiar face:
#
# $$\frac{\partial L_\beta}{\partial c_k} = \frac{2}{N}\sum_i p_{ik}\,(c_k - x_i), \qquad
# p_{ik} = \frac{e^{-\beta \lVert x_i - c_k\rVert^2}}{\sum_j e^{-\beta \lVert x_i - c_j\rVert^2}} .$$
#
# The $p_{ik}$ are a softmax over negative distances: a **soft assignment**. Each point
# pulls at *every* centre, strongly at near ones. With small $\beta$ even a far centre
# feels the whole data.

# %%
def soft_cost(x, centers, beta):
    """Smoothed cost; beta in 1 / squared distance, large beta gives hard_cost."""
    gaps = torch.cdist(x, centers).square()  # (N, K)
    return -(torch.logsumexp(-beta * gaps, dim=1) / beta).mean()


def descend(cost, x, centers, step_size, n_steps):
    """Gradient descent on `cost`; the hard cost after each step, and the centres."""
    centers, costs = centers.clone().requires_grad_(), []
    for step in range(n_steps):
        costs.append(hard_cost(x, centers).item())
        (gradient,) = torch.autograd.grad(cost(x, centers, step), centers)
        with torch.no_grad():
            centers -= step_size * gradient
    return costs, centers.detach()

# %% [markdown]
# Three ways down, from the same poor start with all five centres in one corner: Lloyd's
# steps, gradient descent on the hard cost, and on the smoothed cost with $\beta$ raised
# from 0.02 to 2 along the way, so that the centres first spread out and then settle.

# %%
lloyd = [hard_cost(blobs, kmeans(blobs, 5, n, tol=0, init=corner).centers).item()
         for n in range(1, 21)]
lloyd = [hard_cost(blobs, corner).item(), *lloyd] + [lloyd[-1]] * 129
hard, end = descend(lambda x, c, step: hard_cost(x, c), blobs, corner, 0.5, 150)
beta = [0.02 * 100 ** min(step / 100, 1) for step in range(150)]
soft, _ = descend(lambda x, c, i: soft_cost(x, c, beta[i]), blobs, corner, 0.5, 150)
owned = torch.bincount(assign_all(blobs, end), minlength=5).tolist()
print("points of each centre after descent on the hard cost:", owned)

# %% [markdown]
# The dashed line is the least cost that any run in this chapter has found on the blobs.

# %% mystnb={"image": {"alt": "Three curves of the cost over 150 steps on a logarithmic scale: Lloyd falls to a plateau within three steps, gradient descent on the hard cost stops at a higher plateau, the smoothed descent falls later and reaches the dashed line of the best known cost."}}
fig, ax = plt.subplots(figsize=(7, 3.6))
bound = {"best known": scan["blobs"][3].inertia / len(blobs)}
steps = {"Lloyd": lloyd, "hard gradient": hard, "soft gradient": soft}
plots.curves(ax, steps, xlabel="step", ylabel="mean squared distance",
             reference=bound, yscale="log");

# %% [markdown]
# Lloyd is done after a few steps and stays where the poor start has led it. Descent on
# the hard cost ends even higher, and the counts above say how: three centres share one
# heap, the other two have two heaps each. The factor $n_k / N$ is the reason. A centre
# with few points has a small gradient and crawls, while those that own many run ahead
# and take the far heaps. (A centre that owns nothing has *no* gradient and never moves
# again. Such dead centres will return in the last chapter.) The smoothed descent looks
# worst for a while, since at small $\beta$ it minimises something else; but there every
# point pulls at every centre, none is left behind, and it is the one that arrives.
#
# One run on one data set proves no general rule. What matters for us is that the soft
# version has a useful gradient *everywhere*, also with respect to the points. Put a
# network in front, so that the points are codes of images, and clustering can teach the
# network. That is chapter 8.
#
# ## Handwritten digits
#
# Now real data: MNIST (LeCun et al., 1998), 70,000 grey images of 28 × 28 pixels. To
# k-means an image is a list of 784 numbers between 0 and 1, a point in a space with 784
# axes. The labels are loaded too, for one purpose: to grade the result afterwards.

# %% mystnb={"image": {"alt": "Three rows of ten handwritten digits in white on black, in many styles."}}
train, test = data.mnist("train"), data.mnist("test")
record.use(train)
record.use(test)
x = train.images[: cfg.n_images].flatten(1).to(device)  # (60000, 784)
y = train.labels[: cfg.n_images]  # (60000,)
ax = grids.image_grid(train.images[:30], columns=10)
figures.caption_source(ax.figure, train)
print(f"{train.name}: {len(x):,} images as points, {x.shape[1]} numbers each")

# %% [markdown]
# ### How to grade a clustering
#
# Cluster 3 has no reason to be digit 3: the numbers of clusters are arbitrary. So we
# look for the one-to-one match between clusters and classes that makes most points
# agree, and call the share of agreeing points the **clustering accuracy**. A small
# example with three classes (rows) and three clusters (columns); entry $(i, j)$ counts
# the points of class $i$ in cluster $j$.

# %%
table = torch.tensor([[6, 5, 0], [5, 1, 1], [0, 2, 6]])
for order in itertools.permutations(range(3)):
    agree = sum(table[i, j].item() for i, j in enumerate(order))
    print(f"classes 0, 1, 2 are clusters {order}: {agree} of {table.sum()} agree")
rows, columns = linear_sum_assignment(table, maximize=True)
print("Hungarian method:", columns.tolist(), table[rows, columns].sum().item(), "agree")
rows, columns = linear_sum_assignment(table)
print("forgetting `maximize`:", table[rows, columns].sum().item(), "agree")

# %% [markdown]
# Taking the largest entry first (6, then 6) leaves a 1 for the rest: 13. The best match
# gives up one point there and gains four elsewhere: 16 of 26. With three clusters we
# can try all six; with ten there are 3,628,800, and the **Hungarian method** (Kuhn,
# 1955) finds the best in no time. The last line is a known bug in published code: the
# method minimises unless told otherwise, and a perfect clustering then scores near
# zero.
#
# Two more grades need no matching: the ARI from above, and **normalised mutual
# information** (NMI), the share of the information about the class that the cluster
# carries: 0 for none, 1 for all.
#
# ### Ten clusters of digits
#
# Ten seeds, each its own k-means++ start. One run would prove little: the spread
# between seeds is part of the result.

# %%
with runtime.Stopwatch(device) as watch:
    runs = [
        kmeans(x, cfg.n_clusters, cfg.max_iter, cfg.tol,
               generator=torch.Generator().manual_seed(cfg.seed + i))
        for i in range(cfg.n_seeds)
    ]
rounds = sum(run.n_iter for run in runs) / len(runs)
print(f"{watch.seconds / len(runs):.1f} s a run, {rounds:.0f} rounds on average")

# %% [markdown]
# Each run is graded twice: on the images that it was fitted to, and on the 10,000 test
# images, each of which goes to its nearest centre. The floor of the accuracy is what
# one single cluster for everything would score.

# %%
test_x = test.images.flatten(1).to(device)  # (10000, 784)
answers = {"training": [(y, run.labels) for run in runs],
           "test": [(test.labels, assign(test_x, run.centers)) for run in runs]}
floors = {"accuracy": y.bincount().max().item() / len(y), "NMI": 0.0, "ARI": 0.0}
grades = [metrics.clustering_accuracy, metrics.nmi, metrics.ari]
for (name, floor), grade in zip(floors.items(), grades):
    for where, pairs in answers.items():
        scores = torch.tensor([grade(true, found) for true, found in pairs])
        print(f"{name:>8}, {where:>8}: {scores.mean():.3f} +- {scores.std():.3f}")
        record.measure(f"digits, {name}, {where} images", scores.mean().item(),
                       spread=scores.std().item(), seeds=len(runs), floor=floor,
                       ceiling=1.0, note="k-means on pixels")

# %% [markdown]
# A bit more than half of the digits fall into the cluster of their class, from raw
# pixels and without a single label; one cluster for everything would score the floor
# that the run card below names. Training and test images score alike: ten averages of
# thousands of images have nothing to overfit with. Remember the accuracy. **It is the
# number that the last chapter has to beat.**
#
# We go on with the run of least inertia, a choice that needs no labels. A centre has
# 784 coordinates, so it is itself an image: the average of its cluster.

# %% tags=["result-picture"] mystnb={"image": {"alt": "Ten columns of seven pictures. On top the blurred mean of each cluster: clear ones such as 0, 2 and 6, two kinds of 1, and mixtures such as 4 with 9. Below each mean six images of its cluster, 4s, 7s and 9s among them in the same column."}}
best = min(runs, key=lambda run: run.inertia)
match = metrics.match_clusters(y, best.labels)  # cluster -> digit
order = sorted(match, key=match.get)
members = [x[best.labels == k] for k in order]
rows = [torch.stack([m[i % len(m)] for m in members]) for i in range(6)]
pictures = torch.stack([best.centers[order], *rows]).cpu()  # (7, 10, 784)
ax = grids.image_grid(pictures.view(-1, 28, 28), columns=len(order))
figures.caption_source(ax.figure, train);

# %% [markdown]
# The top row shows the centres, in the order of the digit they were matched with; below
# each stand the first six images of its cluster. A clear 0, a slanted and an upright 1,
# and blurred shapes that could be a 4 as well as a 9. Look down those columns: 4s, 7s
# and 9s stand together, because they share a long stroke, and as *pixels* they are near
# each other. Meanwhile the 1s need two clusters, because a slanted 1 and an upright 1
# share few pixels. The full table says which digits it takes for one another:

# %% mystnb={"image": {"alt": "Confusion table of digits 0 to 9 against ten clusters; 0, 2 and 6 lie mostly in one cluster, 4, 7 and 9 are spread over the same clusters, 1 over two."}}
counts = metrics.contingency(y, best.labels)[:, order]  # (10, 10)
table = (100 * counts / counts.sum(axis=1, keepdims=True)).round().astype(int)
fig, ax = plt.subplots(figsize=(6, 4.8))
names = [match[k] for k in order]
plots.confusion(ax, table, row_labels=range(10), column_labels=names,
                xlabel="cluster, named by its matched digit", ylabel="digit")
figures.caption_source(fig, train);

# %% [markdown]
# Each row is a digit, each column a cluster; the numbers are per cent of the row. Rows
# with one dark cell are digits that k-means found. Rows 4, 7 and 9 share their columns,
# and so do 3, 5 and 8. The method has not failed at its task: it did find a division
# with small squared distances. But distance between pixels is not distance between
# meanings. Move a digit by two pixels and it is the same digit to you, yet far away in
# pixel space. The course goes on from here: *learn a space in which near means alike*.
#
# (One column carries the name 9 only because every cluster must get a digit of its own.
# It is full of slanted 1s, and each of them counts as an error.)
#
# ## What it costs
#
# One round compares $N$ points with $K$ centres over $D$ numbers: its time should grow
# in proportion to each of the three. We time our rounds (a longer run minus a shorter
# one, so that the set-up drops out) while one of the three grows.

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


def our_fit(x, begin):
    return lambda n: kmeans(x, len(begin), max_iter=n, tol=0, init=begin).n_iter


base, sizes = {"N": cfg.base_points, "K": 8, "D": 64}, [1, 2, 4, 8, 16]
axis_times = {"N": [], "K": [], "D": []}
for axis, size in itertools.product(axis_times, sizes):
    grow = base | {axis: base[axis] * size}
    noise = torch.rand(grow["N"], grow["D"], generator=rng).to(device)
    fit = our_fit(noise, noise[: grow["K"]])
    axis_times[axis].append(1e3 * seconds_a_round(fit))

# %% [markdown]
# Both axes of each plot are logarithmic: proportional growth is a straight line with
# the slope of the dashed one.

# %% mystnb={"image": {"alt": "Three log-log plots of milliseconds a round against N, K and D; the measured points follow a dashed line of slope one for large sizes and lie flatter for small ones."}}
fig, axes = plt.subplots(1, 3, figsize=(7, 3.2), sharey=True)
for ax, (axis, times) in zip(axes, axis_times.items()):
    where = [base[axis] * size for size in sizes]
    line = [times[-1] * size / sizes[-1] for size in sizes]
    ax.loglog(where, times, "o-", where, line, "k--")
    ax.set(xlabel=axis, xticks=where[::2], xticklabels=[f"{w:,}" for w in where[::2]])
    ax.minorticks_off()
axes[0].set_ylabel("milliseconds a round");

# %% [markdown]
# For large sizes the dots follow the dashed line: twice the points, twice the time. For
# small ones they lie above it, since every round also has a fixed cost, and a narrow
# matrix product leaves part of the processor idle.
#
# Next to it the same work in scikit-learn, from the same start on the same digits.

# %%
begin = plus_plus_start(x, cfg.n_clusters, rng)
pixels, begin_array = x.cpu().numpy(), begin.cpu().numpy()


def their_fit(n_rounds):
    model = ScikitKMeans(len(begin), init=begin_array, n_init=1, max_iter=n_rounds,
                         tol=0, algorithm="lloyd")
    return model.fit(pixels).n_iter_


ours, theirs = seconds_a_round(our_fit(x, begin)), seconds_a_round(their_fit)
ratio, threads = ours / theirs, torch.get_num_threads()
record.measure("time a round, ours / scikit-learn", ratio,
               note=f"{len(x):,} x 784, K = 10, float32, {threads} threads")
print(f"ours {1e3 * ours:.1f} ms, scikit-learn {1e3 * theirs:.1f} ms: {ratio:.2f}")

# %% [markdown]
# And the product $X C^\top$ alone, in its two forms, so that you can see what the
# convolution trick buys on this machine:

# %%
products = {"matrix product": lambda n: len([x @ begin.T for _ in range(n)]),
            "convolution": lambda n: len([squared_gaps(x, begin) for _ in range(n)])}
for name, fit in products.items():
    print(f"{name}: {1e3 * seconds_a_round(fit):.1f} ms")
record.measure("loop / arrays, time on 500 points", speedup)

# %% [markdown]
# Ours and scikit-learn's do the same arithmetic with the same number of threads; the
# difference comes from the library below and from carrying only the points that changed
# sides. On another processor the numbers will be others.
#
# And memory: the blocks promise that nothing of size $N \times K \times D$ is ever
# made. For a million points with 32 numbers and 100 centres that would be 12.8 GB. A
# second thread looks at the memory of this process every two milliseconds while five
# rounds run; more rounds would use the same arrays again.

# %%
many = torch.rand(cfg.n_memory, 32, generator=rng)
above = runtime.memory_above(lambda: kmeans(many, 100, max_iter=5, generator=rng))
record.measure("memory above the data", above / 1e9, unit="GB",
               note=f"{cfg.n_memory:,} x 32, K = 100")
print(f"data: {many.nbytes / 1e9:.2f} GB, above it: {above / 1e9:.2f} GB")

# %% [markdown]
# Most of that is the centred copy, which is as large as the data; the blocks hardly
# show.
#
# ## Touch it
#
# This function draws k-means on the blobs for any $K$, start and seed. Here is one
# still picture; with a live kernel the cell after it turns it into a control.

# %% mystnb={"image": {"alt": "The five blobs divided by k-means into seven cells with seven centres; two heaps are split."}}
def explore(n_clusters, init, seed):
    generator = torch.Generator().manual_seed(seed)
    run = kmeans(blobs, n_clusters, init=init, generator=generator)
    fig, ax = plt.subplots(figsize=(5.4, 4.6))
    draw_cells(ax, blobs, run.centers)
    ax.set_title(f"K = {n_clusters}, {run.n_iter} rounds, inertia {run.inertia:.0f}")
    return fig


explore(n_clusters=7, init="random", seed=0);

# %% [markdown]
# Seven centres for five heaps: some heaps are cut in two, and which ones depends on the
# seed. In a live notebook, find a seed for which the random start fails with $K = 5$,
# and see whether k-means++ ever does.

# %%
controls = {
    "n_clusters": widgets.IntSlider(5, 2, 10, description="clusters"),
    "init": widgets.Dropdown(options=list(STARTS), description="start"),
    "seed": widgets.IntSlider(0, 0, 50, description="seed"),
}
picture = widgets.Image()


def redraw(change=None):
    chosen = {name: control.value for name, control in controls.items()}
    picture.value = film.still(explore(**chosen))


for control in controls.values():
    control.observe(redraw, "value")
redraw()
widgets.VBox([*controls.values(), picture])

# %% [markdown]
# ## Summary
#
# * k-means minimises the sum of squared distances by two half-steps, each of which can
#   only lower it. It ends in a local optimum that the start decides; k-means++ and
#   several starts are the remedy.
# * Written with a matrix product, in blocks, it handles millions of points in little
#   memory.
# * Its clusters are cells with straight borders. It takes round, equally wide heaps for
#   granted, it needs $K$, every feature counts in its own unit, and it always answers,
#   also when there are no groups at all.
# * On the pixels of MNIST it finds a bit more than half. To do better we must leave
#   pixels.
#
# There is no earlier chapter to compare with. The next one learns **codes**: ten
# numbers in place of 784 pixels, and asks k-means again.
#
# ## Exercises
#
# Try each before you open the solution.
#
# **1. Units.** Multiply the second coordinate of the blobs by 100 (metres to
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
# **2. Medians.** Replace the squared distance by the sum of absolute differences. Which
# point minimises that sum over a cluster? Write the method and see how both react to
# ten points thrown in at (60, 60).

# %% tags=["solution"]
def kmedians(x, centers, n_rounds):
    for _ in range(n_rounds):
        labels = torch.cdist(x, centers, p=1).argmin(dim=1)
        centers = torch.stack([
            x[labels == k].median(dim=0).values if (labels == k).any() else centers[k]
            for k in range(len(centers))
        ])
    return centers


# The derivative of |x - c| is +1 or -1, so at the minimum as many points lie below as
# above in every coordinate: the median. Outliers pull at it no harder than others.
dirty = torch.cat([blobs, torch.full((10, 2), 60.0)])
print("mean:  ", kmeans(dirty, 1).centers.tolist())
print("median:", kmedians(dirty, dirty[:1], 5).tolist())

# %% [markdown]
# **3. Mini-batches.** Update the centres from 1,024 random images at a time, moving
# each centre by $1/n$ towards each new point, with $n$ the number of points it has seen
# (Sculley, 2010). How close to the inertia of the full method does one pass over the
# digits come, and in what time?

# %% tags=["solution"]
def mini_batch_kmeans(x, centers, batch_size, generator):
    centers, seen = centers.clone(), torch.zeros(len(centers), device=x.device)
    for rows in torch.randperm(len(x), generator=generator).split(batch_size):
        batch = x[rows.to(x.device)]
        labels = assign(batch, centers)
        counts = torch.bincount(labels, minlength=len(centers))
        seen += counts
        pull = total(batch, labels, len(centers)) - counts[:, None] * centers
        centers += pull / seen.clamp(min=1)[:, None]
    return centers


with runtime.Stopwatch(device) as watch:
    small = mini_batch_kmeans(x, plus_plus_start(x[:5000], 10, rng), 1024, rng)
inertia = own_gaps(x, small, assign(x, small)).sum().item()
print(f"{inertia / best.inertia:.3f} times the inertia of the best full run, "
      f"after {watch.seconds:.2f} s instead of {best.n_iter} rounds")

# %% [markdown]
# **4. The spectral step.** Join every point of the rings with its five nearest
# neighbours, build the matrix $D^{-1/2} W D^{-1/2}$ from the graph ($W$ holds the
# joins, $D$ the number of joins of each point), and give k-means the two eigenvectors
# with the largest eigenvalues as new features, each row scaled to length 1 (Ng, Jordan
# and Weiss, 2001; von Luxburg, 2007). Measure the ARI for ring noise 0.03, 0.05 and
# 0.1.

# %% tags=["solution"]
def spectral_features(x, n_neighbors, n_features):
    gaps = torch.cdist(x, x)
    near = gaps.topk(n_neighbors + 1, largest=False).indices[:, 1:]  # without itself
    joined = torch.zeros_like(gaps).scatter_(1, near, 1.0)  # (N, N)
    joined = torch.maximum(joined, joined.T)
    scale = joined.sum(dim=1).rsqrt()
    vectors = torch.linalg.eigh(scale[:, None] * joined * scale)[1][:, -n_features:]
    return F.normalize(vectors)


for noise in (0.03, 0.05, 0.1):
    points, truth = make_circles(500, noise=noise, factor=0.5, random_state=cfg.seed)
    features = spectral_features(torch.tensor(points), 5, 2)
    run = best_of(cfg.n_restarts, features, 2, generator=rng)
    print(f"noise {noise}: ARI {metrics.ari(truth, run.labels):.2f}")
# Clean rings are two separate graphs, and the eigenvectors say which. At noise 0.1 some
# stray points bridge the gap: then the smoothest way to cut the graph is across the
# rings, not between them. The spectral step is no magic either.

# %% [markdown]
# **5. A handful of labels.** Suppose you may ask for the label of only *one* image a
# cluster, the one nearest to its centre. Label all others like it, and measure the
# accuracy on the test images for 10, 50 and 200 clusters. What does the number of
# labels buy?

# %% tags=["solution"]
for n_labels in (10, 50, 200):
    run = kmeans(x, n_labels, max_iter=30, init="random", generator=rng)
    gaps = own_gaps(x, run.centers, run.labels)
    asked = [gaps.where(run.labels == k, torch.inf).argmin() for k in range(n_labels)]
    known = y[torch.stack(asked).cpu()]  # the only labels that are used
    found = known[assign(test_x, run.centers).cpu()]
    print(f"{n_labels:>4} labels: {(found == test.labels).float().mean():.3f} right")
# Small clusters are purer, so one label serves all of their points. Learning without
# labels first makes each label that you do pay for go a long way.

# %% [markdown]
# **6. A poster.** The pixels of a photograph are points in a space of three colours.
# Cluster them with $K = 2, 4, 8, 16$ and paint each pixel in the colour of its centre.
# How many bits does a pixel need then?

# %% tags=["solution"] mystnb={"image": {"alt": "A photograph of a Chinese temple painted in 2, 4, 8 and 16 colours; with 16 it is close to the original."}}
photo = torch.tensor(load_sample_image("china.jpg")[::3, ::3] / 255.0).float()
colours = photo.reshape(-1, 3)  # (h * w, 3)
posters = {}
for n_colours in (2, 4, 8, 16):
    run = kmeans(colours, n_colours, generator=rng)
    posters[f"K = {n_colours}"] = run.centers[run.labels].view_as(photo)  # (h, w, 3)
pictures = torch.stack(list(posters.values())).permute(0, 3, 1, 2)  # (4, 3, h, w)
grids.image_grid(pictures, columns=2, titles=list(posters));
# log2(K) bits a pixel in place of 24, and K colours kept once: with 16 colours, 4 bits.

# %% [markdown]
# ## References
#
# * D. Aloise, A. Deshpande, P. Hansen, P. Popat. *NP-hardness of Euclidean
#   sum-of-squares clustering.* Machine Learning 75, 2009.
#   <https://doi.org/10.1007/s10994-009-5103-0>
# * D. Arthur, S. Vassilvitskii. *k-means++: the advantages of careful seeding.* SODA
#   2007. <https://dl.acm.org/doi/10.5555/1283383.1283494>
# * T. Brown et al. *Language models are few-shot learners.* NeurIPS 2020.
#   <https://doi.org/10.48550/arXiv.2005.14165>
# * L. Hubert, P. Arabie. *Comparing partitions.* Journal of Classification 2, 1985.
#   <https://doi.org/10.1007/BF01908075>
# * H. W. Kuhn. *The Hungarian method for the assignment problem.* Naval Research
#   Logistics Quarterly 2, 1955. <https://doi.org/10.1002/nav.3800020109>
# * Y. LeCun, L. Bottou, Y. Bengio, P. Haffner. *Gradient-based learning applied to
#   document recognition.* Proceedings of the IEEE 86, 1998.
#   <https://doi.org/10.1109/5.726791>
# * S. P. Lloyd. *Least squares quantization in PCM.* IEEE Transactions on Information
#   Theory 28, 1982. <https://doi.org/10.1109/TIT.1982.1056489>
# * U. von Luxburg. *A tutorial on spectral clustering.* Statistics and Computing 17,
#   2007. <https://doi.org/10.1007/s11222-007-9033-z>
# * J. MacQueen. *Some methods for classification and analysis of multivariate
#   observations.* Berkeley Symposium 1, 1967.
#   <https://projecteuclid.org/euclid.bsmsp/1200512992>
# * A. Ng, M. Jordan, Y. Weiss. *On spectral clustering: analysis and an algorithm.*
#   NIPS 2001.
# * C. Northcutt, A. Athalye, J. Mueller. *Pervasive label errors in test sets
#   destabilize machine learning benchmarks.* 2021.
#   <https://doi.org/10.48550/arXiv.2103.14749>
# * P. Rousseeuw. *Silhouettes: a graphical aid to the interpretation and validation of
#   cluster analysis.* Journal of Computational and Applied Mathematics 20, 1987.
#   <https://doi.org/10.1016/0377-0427(87)90125-7>
# * D. Sculley. *Web-scale k-means clustering.* WWW 2010.
#   <https://doi.org/10.1145/1772690.1772862>
#
# ## What this page ran on
#
# The card is written by the run itself; the results page of the book is made from it.

# %%
record.measure("inertia, ours and scikit-learn, relative difference", difference)
record.card()
