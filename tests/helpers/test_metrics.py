"""The scores against brute force, closed forms and their definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from genlab_helpers.metrics import (
    ari,
    clustering_accuracy,
    contingency,
    coverage,
    frechet_distance,
    match_clusters,
    nmi,
)

LABEL = st.integers(0, 4)
PAIRS = st.lists(st.tuples(LABEL, LABEL), min_size=1, max_size=40)


@given(PAIRS, st.permutations(range(5)))
def test_matching_is_the_best_one_to_one_renaming(pairs, renaming):
    y_true, y_pred = np.array(pairs).T
    names = match_clusters(y_true, y_pred)
    assert len(set(names.values())) == len(names)
    assert len(names) == min(len(set(y_true)), len(set(y_pred)))
    hits = np.mean([names.get(k) == c for c, k in pairs])
    best = max(np.mean(np.array(p)[y_pred] == y_true) for p in permutations(range(5)))
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(hits)
    assert best == pytest.approx(hits)
    renamed = np.array(renaming)[y_pred] + 100
    for score in (clustering_accuracy, nmi, ari):
        assert score(y_true, renamed) == pytest.approx(score(y_true, y_pred))


def test_worked_example():
    # Class 0 fills clusters 2 and 1, class 1 cluster 0: 5 of 7 can be right.
    y_true, y_pred = [0, 0, 0, 0, 0, 1, 1], torch.tensor([2, 2, 2, 1, 1, 0, 0])
    assert contingency(y_true, y_pred).tolist() == [[0, 2, 3], [2, 0, 0]]
    assert match_clusters(y_true, y_pred) == {2: 0, 0: 1}
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(5 / 7)


def test_ends_of_the_scales_and_the_mean_of_the_entropies():
    y = torch.arange(10).repeat(5)
    for score in (clustering_accuracy, nmi, ari):
        assert score(y, (y + 3) % 10) == pytest.approx(1.0)
    assert nmi(y, y * 0) == ari(y, y * 0) == 0
    # Knowing the cluster tells the class: the information is the class's entropy.
    entropies = np.log(2), np.log(4)
    found = nmi([0, 0, 1, 1], [0, 1, 2, 3])
    assert found == pytest.approx(entropies[0] / np.mean(entropies))


@pytest.mark.parametrize("score", [contingency, clustering_accuracy, nmi, ari])
@pytest.mark.parametrize(
    ("y_true", "y_pred", "reason"),
    [
        ([0, 1], [0], r"y_pred: whole numbers of shape \(2,\)"),
        ([], [], "y_true: whole numbers"),
        ([0, 1], [0.0, 1.0], "not float64"),
        (["a", "b"], [0, 1], "y_true: whole numbers"),
        ([[0, 1]], [0, 1], r"y_true: whole numbers of shape \('N',\)"),
        ([0, 1], torch.rand(2, 3), "y_pred: whole numbers"),
    ],
)
def test_bad_labels_are_refused(score, y_true, y_pred, reason):
    with pytest.raises(ValueError, match=reason):
        score(y_true, y_pred)


def normal(mean, cov, n, seed=0):
    """Sample n points whose sample mean and covariance are exactly those given."""
    x = np.random.default_rng(seed).standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    own = np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False, ddof=0)))
    return x @ np.linalg.inv(own).T @ np.linalg.cholesky(cov).T + mean


@pytest.mark.parametrize("seed", range(3))
def test_frechet_distance_is_that_of_the_matrix_root(seed):
    a, b = np.random.default_rng(seed).standard_normal((2, 6, 6))
    cov_a, cov_b = a @ a.T + 0.1 * np.eye(6), b @ b.T + 0.1 * np.eye(6)
    mean = np.linspace(0, 2, 6)
    found = frechet_distance(normal(0 * mean, cov_a, 80), normal(mean, cov_b, 90, 1))
    root = sqrtm(cov_a @ cov_b).real
    assert found == pytest.approx(mean @ mean + np.trace(cov_a + cov_b - 2 * root))


def test_frechet_distance_of_one_number_and_of_degenerate_features():
    a, b = normal([0.0], np.array([[4.0]]), 100), normal([3.0], np.array([[1.0]]), 200)
    assert frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2)
    a = torch.rand(20, 5)
    a[:, 2] = 1.0
    assert frechet_distance(a, a.double()) == pytest.approx(0, abs=1e-6)
    shifted = a + torch.tensor([0.0, 0, 2, 0, 0])
    assert frechet_distance(a, shifted.bfloat16()) == pytest.approx(4, abs=0.05)


def test_coverage_counts_the_real_points_that_are_met():
    real = np.array([[0.0], [1], [2], [3], [100], [101], [102], [103]])
    assert coverage(real, real, 1) == 1
    assert coverage(real, np.array([[0.5], [1.5], [2.5]]), 1) == 0.5
    assert coverage(real, np.array([[50.0], [60.0]]), 3) == 0
    assert coverage(real, np.array([[4.0]]), 1) == 1 / 8  # as far as the next real one


@pytest.mark.parametrize("measure", [frechet_distance, coverage])
@pytest.mark.parametrize("a", [np.ones(3), np.ones((3, 4)), np.full((3, 2), np.nan)])
def test_features_that_make_no_sense_are_refused(measure, a):
    with pytest.raises(ValueError, match=r"features: .*needed"):
        measure(a, np.ones((3, 2)))
