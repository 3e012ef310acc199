"""Clustering scores against brute force and against their definitions."""

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

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
