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
        c = CH["update_all"](x, CH["assign_all"](x, c), k)
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


def test_loop_and_arrays_agree():
    x = points(60, 2, 0)
    labels, centers = CH["kmeans_loop"](x, x[:3].clone(), n_rounds=4)
    c = x[:3].clone()
    for _ in range(4):
        found = CH["assign_all"](x, c)
        c = CH["update_all"](x, found, 3)
    assert torch.equal(labels, found)
    assert torch.allclose(centers, c)


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
    means = CH["update_all"](torch.ones(3, 2), torch.zeros(3, dtype=torch.long), 2)
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
def test_convolution_and_matrix_product_agree(n, d, k, seed):
    x = points(n, d, seed)
    centers = CH["random_start"](x, k, rng(seed))
    exact = CH["squared_gaps"](x, centers)  # float64: the matrix product
    quick = CH["squared_gaps"](x.float(), centers.float())  # float32: the convolution
    assert torch.allclose(
        exact, torch.cdist(x, centers).square() - x.square().sum(1, True)
    )
    assert torch.allclose(quick.double(), exact, rtol=1e-4, atol=1e-3)


def test_work_is_done_in_blocks(monkeypatch):
    x = points(1000, 2, 0, torch.float32)
    begin = x[:5]
    whole = kmeans(x, 5, init=begin)
    seen, gaps = [], CH["squared_gaps"]

    def watched(block, centers):
        seen.append(len(block))
        return gaps(block, centers)

    monkeypatch.setitem(CH, "BLOCK", 64 * 5)  # 64 points, five centres
    monkeypatch.setitem(CH, "squared_gaps", watched)
    assert torch.equal(kmeans(x, 5, init=begin).labels, whole.labels)
    assert max(seen) == 64


@pytest.mark.parametrize("share", [0.02, 0.9])
def test_carried_sums_equal_new_ones(share):
    x, generator = points(500, 3, 0), rng()
    old = torch.randint(4, (500,), generator=generator)
    change = torch.rand(500, generator=generator) < share
    new = torch.where(change, torch.randint(4, (500,), generator=generator), old)
    carried = CH["carry"](CH["total"](x, old, 4), x, old, new)
    assert torch.allclose(carried, CH["total"](x, new, 4))


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
    begin = CH["start"](x, 30, name, rng())
    assert sorted(begin.tolist()) == sorted(x.tolist())


# ------------------------------------------------------------ bad input

good = {"x": points(10, 2, 0), "n_clusters": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": torch.zeros(0, 2)}, "empty"),
        ({"x": torch.zeros(5, 0)}, "empty"),
        ({"x": torch.zeros(5)}, "shape"),
        ({"x": torch.zeros(5, 2, dtype=torch.long)}, "float tensor"),
        ({"x": [[1.0, 2.0]]}, "float tensor"),
        ({"n_clusters": 11}, "from 1 to 10"),
        ({"n_clusters": 0}, "from 1 to 10"),
        ({"x": good["x"] * torch.nan}, "nan or inf"),
        ({"x": good["x"] * torch.inf}, "nan or inf"),
        ({"max_iter": 0}, "max_iter"),
        ({"tol": -1.0}, "tol"),
        ({"tol": float("nan")}, "tol"),
        ({"init": "kmeans++"}, "random, k-means"),
        ({"init": torch.zeros(2, 2)}, "3 x 2"),
        ({"init": torch.zeros(3, 5)}, "3 x 2"),
        ({"init": torch.full((3, 2), torch.nan)}, "finite"),
    ],
)
def test_bad_input_is_refused_with_a_reason(change, message):
    with pytest.raises(ValueError, match=message):
        kmeans(**(good | change))


# ------------------------------------------------------------ gradients


def test_a_gradient_step_of_the_right_size_is_lloyds_update():
    x = points(100, 2, 0)
    centers = x[:3].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(CH["hard_cost"](x, centers), centers)
    labels = CH["assign_all"](x, centers.detach())
    size = 100 / (2 * torch.bincount(labels, minlength=3))
    lloyd = CH["update_all"](x, labels, 3)
    assert torch.allclose(centers.detach() - size[:, None] * gradient, lloyd)


def test_soft_cost_tends_to_the_hard_one_and_has_the_derived_gradient():
    x = points(100, 2, 0)
    centers = x[:3].clone().requires_grad_()
    hard = CH["hard_cost"](x, centers).item()
    assert CH["soft_cost"](x, centers, 1e4).item() == pytest.approx(hard, rel=1e-3)
    (gradient,) = torch.autograd.grad(CH["soft_cost"](x, centers, 0.1), centers)
    c = centers.detach()
    p = torch.softmax(-0.1 * torch.cdist(x, c).square(), dim=1)  # (N, K)
    derived = 2 / 100 * (p[:, :, None] * (c[None] - x[:, None])).sum(dim=0)
    assert torch.allclose(gradient, derived)


# ------------------------------------------------------------ solutions


def test_spectral_features_tell_separate_pieces_apart():
    x = torch.cat([points(40, 2, 0, heaps=1), points(40, 2, 0, heaps=1) + 100])
    features = CH["spectral_features"](x, 5, 2)
    run = best_of(3, features, 2, generator=rng())
    assert len({*run.labels[:40].tolist()}) == len({*run.labels[40:].tolist()}) == 1
    assert run.labels[0] != run.labels[-1]


def test_kmedians_ignores_an_outlier():
    x = torch.tensor([[0.0], [1.0], [2.0], [3.0], [1000.0]])
    assert CH["kmedians"](x, x[:1], 3).item() == 2


def test_mini_batches_come_close():
    x = points(3000, 4, 2, torch.float32)
    begin = CH["plus_plus_start"](x, 4, rng(1))
    centers = CH["mini_batch_kmeans"](x, begin, 256, rng(1))
    cost = CH["own_gaps"](x, centers, CH["assign"](x, centers)).sum().item()
    assert cost < 1.05 * kmeans(x, 4, init=begin).inertia


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_gpu_and_cpu_agree():
    x = points(2000, 8, 0, torch.float32)
    begin = x[:5]
    cpu, gpu = kmeans(x, 5, init=begin), kmeans(x.cuda(), 5, init=begin.cuda())
    assert (cpu.labels == gpu.labels.cpu()).float().mean() > 0.999
