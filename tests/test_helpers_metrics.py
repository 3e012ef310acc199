"""The scores against brute force, closed forms and their definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import sqrtm

from genlab_helpers import metrics
from genlab_helpers.metrics import (
    ari,
    clustering_accuracy,
    contingency,
    match_clusters,
    nmi,
)

SCORES = (contingency, match_clusters, clustering_accuracy, nmi, ari)


def pairs(largest: int):
    """Two label lists of one length, with up to `largest` + 1 different values."""
    label = st.integers(0, largest)
    return st.lists(st.tuples(label, label), min_size=1, max_size=40).map(
        lambda rows: tuple(np.array(rows).T)
    )


def best_by_brute_force(y_true: np.ndarray, y_pred: np.ndarray, k: int) -> float:
    """Try every one-to-one renaming of clusters 0..k-1 to classes 0..k-1."""
    renamings = (np.array(names) for names in permutations(range(k)))
    return max(float((names[y_pred] == y_true).mean()) for names in renamings)


@given(pairs(5))
@settings(deadline=None)
def test_accuracy_equals_brute_force_over_all_matchings(labels):
    y_true, y_pred = labels
    expected = best_by_brute_force(y_true, y_pred, 6)
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(expected)


@given(pairs(9))
@settings(deadline=None)
def test_the_matching_is_one_to_one_and_explains_the_accuracy(labels):
    y_true, y_pred = labels
    names = match_clusters(y_true, y_pred)
    assert len(set(names.values())) == len(names)
    assert len(names) == min(len(set(y_true)), len(set(y_pred)))
    hits = sum(names.get(k) == c for c, k in zip(y_true, y_pred, strict=True))
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(hits / len(y_true))


@given(pairs(9))
@settings(deadline=None)
def test_contingency_counts_every_pair(labels):
    y_true, y_pred = labels
    table = contingency(y_true, y_pred)
    for i, c in enumerate(np.unique(y_true)):
        for j, k in enumerate(np.unique(y_pred)):
            assert table[i, j] == np.sum((y_true == c) & (y_pred == k))


@given(pairs(9), st.permutations(range(10)))
@settings(deadline=None)
def test_names_of_clusters_do_not_matter(labels, renaming):
    y_true, y_pred = labels
    renamed = np.array(renaming)[y_pred] + 100
    for score in (clustering_accuracy, nmi, ari):
        assert score(y_true, renamed) == pytest.approx(score(y_true, y_pred))


def test_worked_example():
    # Class 0 fills clusters 2 and 1, class 1 cluster 0: 5 of 7 can be right.
    y_true = [0, 0, 0, 0, 0, 1, 1]
    y_pred = [2, 2, 2, 1, 1, 0, 0]
    assert contingency(y_true, y_pred).tolist() == [[0, 2, 3], [2, 0, 0]]
    assert match_clusters(y_true, y_pred) == {2: 0, 0: 1}
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(5 / 7)


def test_a_perfect_clustering_scores_one_and_not_zero():
    y = torch.arange(10).repeat(5)
    for score in (clustering_accuracy, nmi, ari):
        assert score(y, (y + 3) % 10) == pytest.approx(1.0)


def test_one_cluster_for_everything():
    y_true = np.repeat([0, 1], [3, 7])
    y_pred = np.zeros(10, int)
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(0.7)
    assert nmi(y_true, y_pred) == ari(y_true, y_pred) == 0


def test_nmi_divides_by_the_arithmetic_mean_of_the_entropies():
    # Knowing the cluster tells the class: the information is the class's entropy.
    y_true, y_pred = np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3])
    entropies = np.log(2), np.log(4)
    assert nmi(y_true, y_pred) == pytest.approx(entropies[0] / np.mean(entropies))


def test_tensors_and_arrays_agree():
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(0, 4, (2, 60))
    for score in (clustering_accuracy, nmi, ari):
        assert score(torch.tensor(y_true), y_pred.astype(np.uint8)) == score(
            y_true, torch.tensor(y_pred)
        )


@pytest.mark.parametrize("score", SCORES)
@pytest.mark.parametrize(
    ("y_true", "y_pred", "reason"),
    [
        ([0, 1], [0], "2 labels and y_pred has 1"),
        ([], [], "y_true is empty"),
        ([0, 1], [0.0, 1.0], "y_pred must hold whole numbers"),
        (["a", "b"], [0, 1], "y_true must hold whole numbers"),
        ([[0, 1]], [0, 1], r"y_true must have shape \(N,\)"),
        ([0, 1], torch.rand(2, 3), r"y_pred must have shape \(N,\)"),
    ],
)
def test_bad_labels_are_refused(score, y_true, y_pred, reason):
    with pytest.raises(ValueError, match=reason):
        score(y_true, y_pred)


# ----------------------------------------------------------------- generated images


def normal(mean, cov, n, seed=0):
    """Draw n points whose sample mean and covariance are exactly those given."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(axis=0)
    x = (
        x
        @ np.linalg.inv(
            np.linalg.cholesky(np.atleast_2d(np.cov(x, rowvar=False, ddof=0)))
        ).T
    )
    return x @ np.linalg.cholesky(cov).T + mean


def covariance(d, seed):
    a = np.random.default_rng(seed).standard_normal((d, d))
    return a @ a.T + 0.1 * np.eye(d)


def test_frechet_distance_of_two_lines():
    a = normal([0.0], np.array([[4.0]]), 100)
    b = normal([3.0], np.array([[1.0]]), 200, seed=1)
    assert metrics.frechet_distance(a, b) == pytest.approx(3**2 + (2 - 1) ** 2)


def test_frechet_distance_with_shared_axes_has_a_closed_form():
    a = normal([0, 1], np.diag([4.0, 9.0]), 50)
    b = normal([2, 1], np.diag([1.0, 25.0]), 70, seed=1)
    assert metrics.frechet_distance(a, b) == pytest.approx(4 + 1 + 4)


@pytest.mark.parametrize("seed", range(5))
def test_frechet_distance_is_that_of_the_matrix_root(seed):
    cov_a, cov_b = covariance(6, seed), covariance(6, seed + 10)
    mean = np.linspace(0, 2, 6)
    found = metrics.frechet_distance(
        normal(0 * mean, cov_a, 80), normal(mean, cov_b, 90, seed=1)
    )
    root = sqrtm(cov_a @ cov_b).real
    expected = mean @ mean + np.trace(cov_a + cov_b - 2 * root)
    assert found == pytest.approx(expected)


def test_frechet_distance_of_equal_features_is_zero_even_if_degenerate():
    a = torch.rand(20, 5)
    a[:, 2] = 1.0
    assert metrics.frechet_distance(a, a.double()) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(a[:3], a[:3]) == pytest.approx(0, abs=1e-6)
    shifted = a + torch.tensor([0.0, 0, 2, 0, 0])
    assert metrics.frechet_distance(a, shifted) == pytest.approx(4, abs=1e-4)


def test_coverage_counts_the_real_points_that_are_met():
    real = np.array([[0.0], [1], [2], [3], [100], [101], [102], [103]])
    assert metrics.coverage(real, real, 1) == 1
    assert metrics.coverage(real, np.array([[0.5], [1.5], [2.5]]), 1) == 0.5
    assert metrics.coverage(real, np.array([[50.0], [60.0]]), 3) == 0


@pytest.mark.parametrize("measure", [metrics.frechet_distance, metrics.coverage])
@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        (np.ones(3), np.ones((3, 2)), "shape"),
        (np.ones((3, 2)), np.ones((1, 2)), "shape"),
        (np.ones((3, 2)), np.ones((3, 4)), "cannot be compared"),
        (np.ones((3, 2)), np.full((3, 2), np.nan), "not finite"),
    ],
)
def test_features_that_make_no_sense_are_refused(measure, a, b, reason):
    with pytest.raises(ValueError, match=reason):
        measure(a, b)


def test_coverage_needs_more_points_than_neighbours():
    with pytest.raises(ValueError, match="from 1 to 2"):
        metrics.coverage(np.ones((3, 2)), np.ones((3, 2)), 3)
