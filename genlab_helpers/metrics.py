"""How well a clustering agrees with labels, and generated images with real ones.

The measures of a clustering (chapter 1) take two sequences of N whole numbers, arrays
or tensors on any device, and never assume that cluster 3 means class 3. Those of a
generator (from chapter 3) take features of images, one row an image.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score
from sklearn.neighbors import NearestNeighbors


def to_numpy(values) -> np.ndarray:
    """Copy a tensor (any device, with or without gradient) or a sequence to NumPy."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if values.is_floating_point():
            values = values.float()  # NumPy has no bfloat16
    return np.asarray(values)


def _labels(name: str, values) -> np.ndarray:
    """Check one label sequence: (N,) whole numbers, N >= 1; else ValueError."""
    array = to_numpy(values)
    if array.ndim != 1:
        raise ValueError(f"{name} must have shape (N,), but its shape is {array.shape}")
    if array.size == 0:
        raise ValueError(f"{name} is empty: there is nothing to compare")
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"{name} must hold whole numbers, but its type is {array.dtype};"
            " pass class or cluster indices, not scores"
        )
    return array


def _pair(y_true, y_pred) -> tuple[np.ndarray, np.ndarray]:
    y_true, y_pred = _labels("y_true", y_true), _labels("y_pred", y_pred)
    if len(y_true) != len(y_pred):
        raise ValueError(
            f"y_true has {len(y_true)} labels and y_pred has {len(y_pred)};"
            " both must describe the same points"
        )
    return y_true, y_pred


def _table(y_true, y_pred) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the distinct classes, the distinct clusters and the counts."""
    y_true, y_pred = _pair(y_true, y_pred)
    classes, rows = np.unique(y_true, return_inverse=True)
    clusters, columns = np.unique(y_pred, return_inverse=True)
    shape = (len(classes), len(clusters))
    cells = np.ravel_multi_index((rows, columns), shape)
    counts = np.bincount(cells, minlength=shape[0] * shape[1])
    return classes, clusters, counts.reshape(shape)


def contingency(y_true, y_pred) -> np.ndarray:
    """Count how often each class meets each cluster.

    y_true, y_pred: (N,) whole numbers. Returns (C, K) int64: entry (i, j) counts
    the points of the i-th smallest class label that lie in the j-th smallest
    cluster label; labels that never occur have no row or column. Raises ValueError
    for other shapes, empty input, unequal lengths or values that are not integers.
    """
    return _table(y_true, y_pred)[2]


def match_clusters(y_true, y_pred) -> dict[int, int]:
    """Pair clusters with classes one to one so that most points agree.

    Hungarian matching (Kuhn 1955) on the counts, which it *maximises*. Returns
    {cluster: class}; with more clusters than classes, some clusters stay
    unmatched and are missing from the dictionary. Raises as `contingency` does.
    """
    classes, clusters, counts = _table(y_true, y_pred)
    rows, columns = linear_sum_assignment(counts, maximize=True)
    return {
        int(clusters[j]): int(classes[i]) for i, j in zip(rows, columns, strict=True)
    }


def clustering_accuracy(y_true, y_pred) -> float:
    """Return the share of points, in [0, 1], whose cluster is matched to their class.

    The matching is that of `match_clusters`; points of an unmatched cluster count
    as wrong. Raises as `contingency` does.
    """
    counts = _table(y_true, y_pred)[2]
    return float(
        counts[linear_sum_assignment(counts, maximize=True)].sum() / counts.sum()
    )


def nmi(y_true, y_pred) -> float:
    """Return the mutual information over the mean entropy, in [0, 1].

    It needs no matching; 0 means independent. Raises as `contingency` does.
    """
    y_true, y_pred = _pair(y_true, y_pred)
    return float(normalized_mutual_info_score(y_true, y_pred))


def ari(y_true, y_pred) -> float:
    """Return the adjusted Rand index: 1 is equal, 0 is what chance gives.

    It can fall to -0.5 (Hubert and Arabie 1985). Raises as `contingency` does.
    """
    return float(adjusted_rand_score(*_pair(y_true, y_pred)))


def frechet_distance(a, b) -> float:
    """Return the squared Fréchet distance of normal distributions fitted to features.

    a: (N, D), b: (M, D) features, N, M >= 2, in any unit; the result, at least 0, has
    that unit squared: |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)), with means m
    and covariances S (Dowson and Landau 1982; as a score of generators Heusel et al.
    2017, https://doi.org/10.48550/arXiv.1706.08500). It shrinks as N and M grow:
    compare only values for the same N, M and features. Raises ValueError for other
    shapes or values that are not finite.
    """
    a, b = _features("a", a), _features("b", b)
    _same_width(a, b)
    cov_a, cov_b = np.cov(a, rowvar=False, ddof=0), np.cov(b, rowvar=False, ddof=0)
    cov_a, cov_b = np.atleast_2d(cov_a), np.atleast_2d(cov_b)
    values, vectors = np.linalg.eigh(cov_a)
    root = vectors * np.sqrt(values.clip(0)) @ vectors.T  # symmetric square root of S_a
    # S_a S_b has the eigenvalues of this symmetric matrix, so their roots add up alike.
    common = np.sqrt(np.linalg.eigvalsh(root @ cov_b @ root).clip(0)).sum()
    shift = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(max(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * common, 0.0))


def coverage(real, fake, n_neighbors: int = 5) -> float:
    """Return the share of real images, in [0, 1], that some generated image resembles.

    real: (N, D), fake: (M, D) features, N > n_neighbors. A real image counts if a fake
    lies no farther from it than its n_neighbors-th nearest real one (Naeem et al. 2020,
    https://doi.org/10.48550/arXiv.2002.09797). Raises as `frechet_distance` does.
    """
    real, fake = _features("real", real), _features("fake", fake)
    _same_width(real, fake)
    if not 1 <= n_neighbors < len(real):
        raise ValueError(
            f"n_neighbors must be from 1 to {len(real) - 1}, not {n_neighbors}"
        )
    among_real = NearestNeighbors(n_neighbors=n_neighbors).fit(real)
    radius = among_real.kneighbors()[0][:, -1]  # without the image itself
    to_fake = NearestNeighbors(n_neighbors=1).fit(fake).kneighbors(real)[0][:, 0]
    return float((to_fake <= radius).mean())


def _features(name: str, values) -> np.ndarray:
    array = to_numpy(values)
    if array.ndim != 2 or array.shape[0] < 2 or array.shape[1] < 1:
        raise ValueError(
            f"{name} must have shape (N, D) with N >= 2, not {array.shape}:"
            " one row of features an image"
        )
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        raise ValueError(f"{name} holds values that are not finite")
    return array


def _same_width(a: np.ndarray, b: np.ndarray) -> None:
    if a.shape[1] != b.shape[1]:
        raise ValueError(
            f"features of {a.shape[1]} and {b.shape[1]} numbers cannot be compared"
        )
