"""The definitions of chapter 1, lifted out of it: right, robust and within memory."""

import itertools

import lift
import numpy as np
import pytest
import torch
from game_checks import rng
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans as ScikitKMeans
from sklearn.datasets import make_blobs

CH = lift.definitions("01_kmeans")
kmeans, best_of = CH["kmeans"], CH["best_of"]


def points(n, d, seed, dtype=torch.float64, heaps=4):
    x, _ = make_blobs(n, d, centers=heaps, random_state=seed)
    return torch.tensor(x, dtype=dtype)


problems = given(
    n=st.integers(8, 300),
    d=st.integers(1, 12),
    k=st.integers(1, 8),
    seed=st.integers(0, 10_000),
)


# ------------------------------------------------------------ it is k-means


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@problems
# Derandomised: a tie in float32 may fall either way, and then both answers are right.
@settings(max_examples=100, derandomize=True)
def test_equals_scikit_learn_from_the_same_start(dtype, n, d, k, seed):
    x = points(n, d, seed, dtype)
    begin = CH["random_start"](x, k, rng(seed))
    ours = kmeans(x, k, tol=0, init=begin)
    c = begin  # where a cluster runs empty the two repairs differ: tested on their own
    for _ in range(ours.n_iter):
        c = CH["means"](x, CH["assign"](x, c), k)
    assume(c.isfinite().all())
    scikit = ScikitKMeans(k, init=begin.numpy(), n_init=1, tol=0).fit(x.numpy())
    assert ours.labels.tolist() == scikit.labels_.tolist()
    assert ours.inertia == pytest.approx(scikit.inertia_, rel=1e-4)
    theirs = torch.tensor(scikit.cluster_centers_).to(x)
    assert torch.allclose(ours.centers, theirs, atol=1e-4)


@problems
@settings(max_examples=40)
def test_no_round_raises_the_cost(n, d, k, seed):
    x = points(n, d, seed)
    begin = CH["random_start"](x, k, rng(seed))
    costs = [kmeans(x, k, m, tol=0, init=begin).inertia for m in range(1, 9)]
    for early, late in itertools.pairwise(costs):
        assert late <= early * (1 + 1e-9)


@problems
@settings(max_examples=40)
def test_result_is_consistent(n, d, k, seed):
    x = points(n, d, seed)
    run = kmeans(x, k, tol=0, generator=rng(seed))
    gaps = torch.cdist(x, run.centers).square()
    own = gaps[torch.arange(n), run.labels]
    assert torch.allclose(own, gaps.min(dim=1).values, atol=1e-9)
    assert run.inertia == pytest.approx(own.sum().item())
    for c in run.labels.unique():
        assert torch.allclose(run.centers[c], x[run.labels == c].mean(dim=0))


def test_same_generator_same_run_and_nothing_else_is_touched():
    x, state = points(100, 2, 0, torch.float32), torch.get_rng_state()
    begin, kept = x[:4].clone(), x.clone()
    first, second = (kmeans(x, 4, generator=rng(3)) for _ in range(2))
    assert torch.equal(first.centers, second.centers)
    kmeans(x, 4, init=begin)
    assert torch.equal(x, kept)
    assert torch.equal(begin, kept[:4])
    assert torch.equal(state, torch.get_rng_state())


def test_best_of_keeps_the_least_inertia():
    x = points(200, 2, 1, heaps=8)
    g = rng(1)
    several = [kmeans(x, 8, init="random", generator=g) for _ in range(3)]
    best = best_of(3, x, 8, init="random", generator=rng(1))
    assert best.inertia == min(run.inertia for run in several)


# ------------------------------------------------------------ empty clusters


@given(n=st.integers(5, 60), k=st.integers(2, 5), seed=st.integers(0, 999))
@settings(max_examples=40)
def test_centres_that_own_nothing_are_put_to_work(n, k, seed):
    x = points(n, 2, seed)
    begin = torch.full((k, 2), 1e3, dtype=x.dtype)
    begin[0] = x[0]
    run = kmeans(x, k, init=begin)
    assert run.centers.isfinite().all()
    assert torch.bincount(run.labels, minlength=k).min() > 0


def test_fewer_different_points_than_clusters():
    run = kmeans(torch.ones(6, 2), 4, generator=rng())
    assert run.inertia == 0
    assert run.centers.isfinite().all()


def test_naive_mean_of_nothing_is_nan():
    means = CH["means"](torch.ones(3, 2), torch.zeros(3, dtype=torch.long), 2)
    assert means[1].isnan().all()


# ------------------------------------------------------------ accuracy and memory


def test_float32_far_from_the_origin():
    x = points(400, 2, 3)
    begin = x[:4]
    near = kmeans(x, 4, tol=0, init=begin)
    far = kmeans((x + 1e4).float(), 4, tol=0, init=(begin + 1e4).float())
    assert (near.labels == far.labels).float().mean() > 0.99
    assert far.inertia == pytest.approx(near.inertia, rel=2e-3)


@problems
@settings(max_examples=40)
def test_the_fast_version_is_the_plain_one(n, d, k, seed):
    x = points(n, d, seed)
    begin = CH["random_start"](x, k, rng(seed))
    plain, c = kmeans(x, k, tol=0, init=begin), begin
    for _ in range(plain.n_iter):  # an empty cluster is treated in another way
        c = CH["means"](x, CH["assign"](x, c), k)
    assume(c.isfinite().all())
    centers, labels, n_iter = CH["fast_kmeans"](x, begin, 300)
    assert torch.equal(labels, plain.labels)
    assert n_iter == plain.n_iter
    assert torch.allclose(centers, plain.centers)
    quick = CH["fast_assign"](x.float(), begin.float())  # as a convolution
    gaps = torch.cdist(x, begin).square()
    chosen = gaps[torch.arange(n), quick]
    assert torch.allclose(chosen, gaps.min(dim=1).values, rtol=1e-3, atol=1e-3)


def test_the_fast_version_leaves_a_centre_without_points_where_it_is():
    begin = torch.tensor([[0.0, 0.0], [9.0, 9.0]])
    assert CH["fast_kmeans"](torch.rand(50, 2), begin, 5)[0][1].tolist() == [9.0, 9.0]


def test_the_fast_version_works_in_blocks(monkeypatch):
    x = points(1000, 2, 0, torch.float32)
    whole, seen = CH["fast_kmeans"](x, x[:5], 9)[1], []
    convolve = CH["F"].conv2d

    def watched(pixels, *rest):
        seen.append(pixels.shape[2])
        return convolve(pixels, *rest)

    monkeypatch.setitem(CH, "BLOCK", 64 * 5)  # 64 points, five centres
    monkeypatch.setattr(CH["F"], "conv2d", watched)
    assert torch.equal(CH["fast_kmeans"](x, x[:5], 9)[1], whole)
    assert max(seen) == 64


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_carried_sums_equal_new_ones(share):
    x, generator = points(500, 3, 0), rng()
    old = torch.randint(4, (500,), generator=generator)
    change = torch.rand(500, generator=generator) < share
    new = torch.where(change, torch.randint(4, (500,), generator=generator), old)
    before, after = (
        x.new_zeros(4, 3).index_add_(0, labels, x) for labels in (old, new)
    )
    assert torch.allclose(CH["carry"](before, x, old, new), after)


# ------------------------------------------------------------ starts


def test_plus_plus_draws_in_proportion_to_the_squared_distance():
    x = torch.tensor([[0.0], [1.0], [3.0]])
    generator, follow = rng(), []
    for _ in range(3000):
        first, second = CH["plus_plus_start"](x, 2, generator)[:, 0].tolist()
        if first == 0:
            follow.append(second)
    assert 0.0 not in follow
    assert np.mean(np.equal(follow, 3.0)) == pytest.approx(0.9, abs=0.035)


@pytest.mark.parametrize("name", ["random", "k-means++"])
def test_starts_are_different_points_of_the_data(name):
    x = points(30, 2, 0)
    begin = CH["STARTS"][name](x, 30, rng())
    assert sorted(begin.tolist()) == sorted(x.tolist())
    assert CH["STARTS"][name](torch.ones(5, 2), 3, rng()).tolist() == [[1, 1]] * 3


def test_plus_plus_takes_more_points_than_multinomial_can():
    x = torch.zeros(2**24 + 9, 1)
    x[-1] = 1.0
    assert CH["plus_plus_start"](x, 2, rng()).sort(dim=0).values.tolist() == [[0], [1]]


# ------------------------------------------------------------ bad input

good = {"x": points(10, 2, 0), "n_clusters": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(0, 2)}, "shape"),
        ({"x": torch.zeros(5, 0)}, "shape"),
        ({"x": torch.zeros(5)}, "shape"),
        ({"x": torch.zeros(5, 2, dtype=torch.long)}, "float32 or float64"),
        ({"x": torch.zeros(5, 2, dtype=torch.bfloat16)}, "float32 or float64"),
        ({"x": [[1.0, 2.0]]}, "float32 or float64"),
        ({"n_clusters": 11}, "from 1 to 10"),
        ({"n_clusters": 3.0}, "whole number"),
        ({"n_clusters": 0}, "from 1 to 10"),
        ({"x": good["x"] * torch.nan}, "nan or inf"),
        ({"x": good["x"] * torch.inf}, "nan or inf"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"tol": float("nan")}, "tol"),
        ({"init": "kmeans++"}, "random, k-means"),
        ({"init": np.zeros((3, 2))}, "must be a tensor"),
        ({"init": [[0, 0]] * 3}, "must be a tensor"),
        ({"init": torch.zeros(2, 2)}, "3 x 2"),
        ({"init": torch.zeros(3, 5)}, "3 x 2"),
        ({"init": torch.full((3, 2), torch.nan)}, "finite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(change, message):
    with pytest.raises(ValueError, match=message):
        kmeans(**(good | change))


# ------------------------------------------------------------ soft k-means


def test_soft_k_means_is_em_and_tends_to_k_means():
    x = points(100, 2, 0)
    p = torch.softmax(-0.1 * torch.cdist(x, x[:3]).square(), dim=1)  # (N, K)
    expected = torch.stack([(p[:, [k]] * x).sum(0) / p[:, k].sum() for k in range(3)])
    assert torch.allclose(CH["soft_kmeans"](x, x[:3], [0.1]), expected)
    hard = kmeans(x, 3, tol=0, init=x[:3]).centers
    assert torch.allclose(CH["soft_kmeans"](x, x[:3], [1e4] * 50), hard, atol=1e-6)


# ------------------------------------------------------------ solutions


def test_spectral_features_tell_separate_pieces_apart():
    x = torch.cat([points(40, 2, 0, heaps=1), points(40, 2, 0, heaps=1) + 100])
    features = CH["spectral_features"](x, 5, 2)
    run = best_of(3, features, 2, generator=rng())
    assert len({*run.labels[:40].tolist()}) == len({*run.labels[40:].tolist()}) == 1
    assert run.labels[0] != run.labels[-1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_and_cpu_agree():
    x = points(2000, 8, 0, torch.float32)
    begin = x[:5]
    cpu, gpu = kmeans(x, 5, init=begin), kmeans(x.cuda(), 5, init=begin.cuda())
    assert (cpu.labels == gpu.labels.cpu()).float().mean() > 0.999
