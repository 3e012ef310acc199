"""Definitions that no chapter teaches any more and an unrevised one still imports.

Frozen, word for word: chapter 8 ran with this k-means, chapters 5 and 8 with these
networks of chapter 2, chapters 5 and 6 with this game of chapter 3, and chapter 5 with
these players of chapter 4.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn


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


def check_shape(x):
    """Raise a ValueError that names the remedy unless x is (B, 1, 28, 28) floats."""
    if not torch.is_tensor(x) or not x.is_floating_point():
        raise ValueError("images must be a float tensor: divide bytes by 255")
    if x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError(f"images must be (B, 1, 28, 28), not {tuple(x.shape)}: resize")


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
