"""How well a clustering agrees with labels, and generated images with real ones.

The measures of a clustering (chapter 1) take two sequences of N >= 1 whole numbers and
never assume that cluster 3 means class 3; those of a generator (from chapter 3) take
finite features of images, one row an image. All else is refused with a ValueError.
"""

from itertools import zip_longest

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.metrics.cluster import contingency_matrix
from sklearn.neighbors import NearestNeighbors


def to_numpy(values) -> np.ndarray:
    """Copy a tensor (any device, with or without gradient) or a sequence to NumPy."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        values = values.float() if values.is_floating_point() else values  # no bfloat16
    return np.asarray(values)


def checked(name: str, values, *shape, kinds="biuf", finite=True) -> np.ndarray:
    """Return values as an array; a ValueError says what is wrong with them.

    shape: of each axis its length, or a letter for any length from 1 on. kinds: NumPy's
    letters of the types that will do. finite: refuse NaN and infinity.
    """
    array = to_numpy(values)
    pairs = zip_longest(shape, array.shape)
    fits = all(n == size or (isinstance(size, str) and n) for size, n in pairs)
    known = fits and array.dtype.kind in kinds
    if not known or (finite and not np.isfinite(array).all()):
        kind = ("finite" if finite else "real") if "f" in kinds else "whole"
        got = f"{array.dtype} {array.shape}{' with NaN or infinity' * known}"
        raise ValueError(f"{name}: {kind} numbers of shape {shape} needed, not {got}")
    return array


def _labels(y_true, y_pred) -> tuple[np.ndarray, np.ndarray]:
    y_true = checked("y_true", y_true, "N", kinds="iu")
    return y_true, checked("y_pred", y_pred, len(y_true), kinds="iu")


def contingency(y_true, y_pred) -> np.ndarray:
    """Return (C, K) int64: how often the i-th class meets the j-th cluster there is."""
    return contingency_matrix(*_labels(y_true, y_pred))


def match_clusters(y_true, y_pred) -> dict[int, int]:
    """Pair clusters with classes one to one so that most points agree.

    Hungarian matching (Kuhn 1955) on the counts, which it *maximises*. Returns
    {cluster: class}; of more clusters than classes some stay without one.
    """
    rows, columns = linear_sum_assignment(contingency(y_true, y_pred), maximize=True)
    classes, clusters = (np.unique(values) for values in _labels(y_true, y_pred))
    return dict(zip(clusters[columns].tolist(), classes[rows].tolist(), strict=True))


def clustering_accuracy(y_true, y_pred) -> float:
    """Return the share of points, in [0, 1], in the cluster matched to their class."""
    counts = contingency(y_true, y_pred)
    matched = counts[linear_sum_assignment(counts, maximize=True)]
    return float(matched.sum() / counts.sum())


def nmi(y_true, y_pred) -> float:
    """Return mutual information over mean entropy, in [0, 1]; 0 means independent."""
    return float(normalized_mutual_info_score(*_labels(y_true, y_pred)))


def ari(y_true, y_pred) -> float:
    """Return the adjusted Rand index (Hubert and Arabie 1985): 1 equal, 0 by chance."""
    return float(adjusted_rand_score(*_labels(y_true, y_pred)))


def _features(a, b) -> tuple[np.ndarray, np.ndarray]:
    a = checked("the first features", a, "N", "D").astype(np.float64)
    b = checked("the second features", b, "M", a.shape[1]).astype(np.float64)
    return a, b


def frechet_distance(a, b) -> float:
    """Return the squared Fréchet distance of normal distributions fitted to features.

    a: (N, D), b: (M, D), in any unit; the result, at least 0, in that unit squared:
    |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), means m, covariances S (Heusel
    et al. 2017, https://doi.org/10.48550/arXiv.1706.08500). It shrinks as N and M
    grow: compare only values for the same N, M and features.
    """
    a, b = _features(a, b)
    cov_a, cov_b = (np.atleast_2d(np.cov(x, rowvar=False, ddof=0)) for x in (a, b))
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T  # symmetric square root of S_a
    # S_a S_b has the eigenvalues of this symmetric matrix, so their roots add up alike.
    common = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(max(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * common, 0.0))


def coverage(real, fake, n_neighbors: int = 5) -> float:
    """Return the share of real images, in [0, 1], that some generated image resembles.

    real: (N, D), fake: (M, D), N > n_neighbors. A real image counts if a fake lies no
    farther from it than its n_neighbors-th nearest real one (Naeem et al. 2020,
    https://doi.org/10.48550/arXiv.2002.09797).
    """
    real, fake = _features(real, fake)
    among_real = NearestNeighbors(n_neighbors=n_neighbors).fit(real)
    radius = among_real.kneighbors()[0][:, -1]  # without the image itself
    to_fake = NearestNeighbors(n_neighbors=1).fit(fake).kneighbors(real)[0][:, 0]
    return float((to_fake <= radius).mean())
