"""The definitions of chapter 8, lifted out of it: costs, targets, moves, resuming."""

from types import SimpleNamespace

import lift
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from game_checks import Kept, rng, weights
from hypothesis import given, settings
from hypothesis import strategies as st

from genlab_helpers import metrics, recap

CH = lift.definitions("08_deep_kmeans")
cluster_cost, soft_assign = CH["cluster_cost"], CH["soft_assign"]
sharpen, wiggle = CH["sharpen"], CH["wiggle"]
CFG = SimpleNamespace(
    code_size=3, n_clusters=4, n_starts=2, batch_size=8, rate=1e-3, pretrain_rate=1e-3
)
CFG.row_epochs = CFG.side_epochs = CFG.lead_epochs = 2
CFG.soft_weight, CFG.hard_weight, CFG.seed = 0.1, 1e-3, 0
CFG.plain_weight, CFG.plain_batch, CFG.ramp = 1e-3, 8, (2, 4)
CFG.n_map, CFG.n_scored = 40, 40


def images(n=24, seed=5):
    return torch.rand(n, 1, 28, 28, generator=rng(seed))


def codes(n=30, seed=1, dtype=torch.float32):
    return torch.randn(n, 3, generator=rng(seed), dtype=dtype)


def model(seed=0, **options):
    return CH["fresh"](CFG, seed, torch.device("cpu"), **options)


class Shelf(dict):
    """Stands for `Checkpoint`: one `Kept` a name."""

    def __call__(self, name, record):
        return self.setdefault(name, Kept())


clouds = given(
    n=st.integers(1, 30), k=st.integers(1, 6), d=st.integers(1, 5), seed=st.integers(0)
)


def cloud(n, k, d, seed):
    generator = rng(seed % 2**31)
    draw = dict(generator=generator, dtype=torch.float64)
    return torch.randn(n, d, **draw), torch.randn(k, d, **draw)


# ----------------------------------------------------------------------- the costs


@clouds
@settings(max_examples=30)
def test_the_cluster_cost_is_its_sum(n, k, d, seed):
    z, centers = cloud(n, k, d, seed)
    each = [min(((code - c) ** 2).sum().item() for c in centers) for code in z]
    assert cluster_cost(z, centers).item() == pytest.approx(np.mean(each), abs=1e-9)


def test_gradients_of_the_cluster_cost_by_codes_and_centres():
    z, centers = codes(dtype=torch.float64).requires_grad_(), codes(4, 2).double()
    centers[3] = 100.0  # nobody is near
    centers.requires_grad_()
    cluster_cost(z, centers).backward()
    own = torch.cdist(z, centers).argmin(dim=1)
    by_code = 2 / len(z) * (z - centers[own])
    assert torch.allclose(z.grad, by_code)
    for k in range(4):
        assert torch.allclose(centers.grad[k], -by_code[own == k].sum(dim=0))
    assert centers.grad[3].tolist() == [0, 0, 0]


@clouds
@settings(max_examples=30)
def test_the_three_ways_to_assign_agree(n, k, d, seed):
    z, centers = cloud(n, k, d, seed)
    ways = ("assign_loop", "assign_broadcast", "assign_cdist")
    first, *others = [CH[way](z, centers) for way in ways]
    for other in (*others, recap.assign(z, centers)):
        assert torch.equal(first, other)


# ------------------------------------------------------- soft assignments and targets


@clouds
@settings(max_examples=30)
def test_degrees_and_targets_equal_their_formulas(n, k, d, seed):
    z, centers = cloud(n, k, d, seed)
    s = 1 / (1 + ((z[:, None] - centers) ** 2).sum(dim=2))
    q = s / s.sum(dim=1, keepdim=True)
    assert torch.allclose(soft_assign(z, centers), q)
    p = q**2 / q.sum(dim=0)
    assert torch.allclose(sharpen(q), p / p.sum(dim=1, keepdim=True))


def test_the_target_minimises_what_it_was_derived_from():
    q = soft_assign(codes(20, dtype=torch.float64), codes(4, 2).double())

    def wish(p):
        terms = p * (p.log() - 2 * q.log() + q.sum(dim=0).log())
        return terms.sum(dim=1)

    best = wish(sharpen(q))
    for seed in range(50):
        other = torch.rand(q.shape, generator=rng(seed), dtype=q.dtype)
        near = 0.99 * sharpen(q) + 0.01 * other / other.sum(dim=1, keepdim=True)
        assert (wish(near) > best).all()


def test_a_cluster_without_members_breaks_nothing():
    q = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert torch.equal(sharpen(q), q)
    z, far = codes(), torch.full((2, 3), 1e4)
    q = soft_assign(z, torch.cat((codes(1, 2), far)))
    assert sharpen(q).isfinite().all()


# ----------------------------------------------------------------------- the moves


def test_moves_stay_in_range_and_follow_the_generator():
    x = images()
    first, again, other = (wiggle(x, rng(s), 2.0, 10.0, 0.2) for s in (1, 1, 2))
    assert first.shape == x.shape
    assert first.min() >= 0
    assert first.max() <= 1 + 1e-5
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first[0] - x[0], first[1] - x[1])
    assert torch.allclose(wiggle(x, rng(), 0.0, 0.0), x, atol=1e-5)


@pytest.mark.parametrize(
    ("shift", "turn", "slant"), [(2, 0, 0), (0, 10, 0), (0, 0, 0.2), (2, 10, 0.2)]
)
def test_a_dot_moves_no_farther_than_allowed(shift, turn, slant):
    x = torch.zeros(64, 1, 28, 28)
    x[:, 0, 6:8, 20:22] = 1.0  # its middle is 7 pixels above and to the right
    moved = wiggle(x, rng(), float(shift), float(turn), slant)[:, 0]
    places = torch.arange(28) - 13.5
    ink = moved.sum(dim=(1, 2))
    right = (moved.sum(dim=1) * places).sum(dim=1) / ink
    down = (moved.sum(dim=2) * places).sum(dim=1) / ink
    way = ((right - 7) ** 2 + (down + 7) ** 2).sqrt()
    longest = shift * 2**0.5 + 9.9 * np.radians(turn) + 7 * slant
    assert way.max() <= 1.15 * longest + 0.1
    assert way.max() > 0.5 * longest


# -------------------------------------------------------------------- the training


def test_lambda_rises_from_its_first_to_its_full_share():
    shares = [CH["ramp"](epoch, 50, 200) for epoch in range(250)]
    assert shares[:52] == [1 / 150] * 52
    assert shares[125] == 75 / 150
    assert shares[200:] == [1] * 50
    assert shares == sorted(shares)


def test_the_learning_rate_falls_along_half_a_cosine():
    training, rates = CH["Training"](model(), 0.01, 0), []
    for _ in range(4):
        CH["set_rate"](training, 4)
        rates.append(training.optimizer.param_groups[0]["lr"])
        training.history.append(0)
    assert rates[0] == 0.01
    assert rates[2] == pytest.approx(0.005)
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] > 0


def test_an_epoch_sees_every_image_once_moved_and_with_its_own_row():
    x, seen = torch.arange(24.0).view(-1, 1, 1, 1).expand(24, 1, 28, 28) / 100, []

    def move(part, order):
        return part + 0.5

    class Spy(torch.nn.Module):
        def forward(self, part):
            seen.append(part[:, 0, 0, 0])
            return part.flatten(1)[:, :3]

    training = CH["Training"](model(), 1e-3, 0)
    training.model.encoder, rows_seen = Spy(), []

    def cost(z, rows):
        rows_seen.append(rows)
        return cluster_cost(z, training.model.centers)

    means = CH["train_epoch"](training, x, cost, 1.0, 8, move)
    rows = torch.cat(rows_seen)
    assert sorted(rows.tolist()) == list(range(24))
    assert torch.allclose(torch.cat(seen), rows / 100 + 0.5)
    assert np.isfinite(means).all()


def run_of(kind, checkpoint, seed=0, net=None):
    x, net = images(), net or model()
    if kind == "rebuild":
        return CH["rebuild"](checkpoint, CFG, x, net, seed, 3)
    if kind == "joint":
        return CH["joint"](checkpoint, CFG, x, net, codes(4, 2), seed)

    def move(part, order):
        return wiggle(part, order, 2.0, 10.0)

    lead = torch.full((len(x), 4), 0.25)
    return CH["self_train"](checkpoint, CFG, x, net, codes(4, 2), seed, 4, move, lead)


KINDS = ("rebuild", "joint", "self_train")


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_to_the_same_end_and_no_farther(kind):
    whole = run_of(kind, Kept())
    checkpoint = Kept(breaks_after=1)
    with pytest.raises(KeyboardInterrupt):
        run_of(kind, checkpoint)
    assert len(checkpoint.state["history"]) == 1
    assert torch.equal(weights(run_of(kind, checkpoint)), weights(whole))
    checkpoint.left = 1  # any further save would raise
    assert torch.equal(weights(run_of(kind, checkpoint)), weights(whole))


@pytest.mark.parametrize("kind", KINDS)
def test_seeds_decide(kind):
    first, again, other = (weights(run_of(kind, Kept(), seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_changes_what_it_should_and_nothing_else(kind):
    begin = model() if kind == "rebuild" else CH["with_centers"](model(), codes(4, 2))
    end = run_of(kind, Kept()).state_dict()
    parts = {name for name, v in begin.named_parameters() if not v.equal(end[name])}
    moved = {name.partition(".")[0] for name in parts}
    rest = {"centers"} if kind == "rebuild" else set()
    assert moved == {"encoder", "decoder", "centers"} - rest


def test_fresh_models_follow_their_seed_and_share_it_with_and_without_relu():
    assert torch.equal(weights(model(3)), weights(model(3)))
    assert torch.equal(weights(model(3)), weights(model(3, final_relu=True)))
    assert not torch.equal(weights(model(3)), weights(model(4)))


@pytest.mark.parametrize("kind", ["joint", "self_train"])
def test_rows_start_from_the_same_untouched_space(kind, monkeypatch):
    net, seen = model(), []
    before = weights(net).clone()
    go_on = CH["go_on"]
    monkeypatch.setitem(
        CH, "go_on", lambda t, *rest: seen.append(weights(t.model)) or go_on(t, *rest)
    )
    run_of(kind, Kept(), net=net)
    assert torch.equal(weights(net), before)
    assert torch.equal(seen[0], weights(CH["with_centers"](net, codes(4, 2))))


def test_the_lead_gives_the_first_targets_and_the_model_the_later_ones(monkeypatch):
    given_targets = []
    kl_div = F.kl_div

    def spy(log_q, p, reduction):
        given_targets.append(p.clone())
        return kl_div(log_q, p, reduction=reduction)

    monkeypatch.setattr(F, "kl_div", spy)
    x, lead = images(8), torch.eye(4).repeat(2, 1)
    CH["self_train"](Kept(), CFG, x, model(), codes(4, 2), 0, 3, None, lead)
    first, second, third = given_targets  # one batch an epoch, CFG.lead_epochs is 2
    for led in (first, second):
        assert sorted(led.tolist()) == sorted(lead.tolist())
    assert ((third > 0) & (third < 1)).all()


def test_the_plain_recipe_notes_what_its_centres_own():
    y = torch.arange(24) % 4
    training = CH["Training"](model(final_relu=True), 1e-3, 0)
    noted = CH["plain_epoch"](training, CFG, images(), y)
    assert sum(noted["sizes"]) == 24
    assert len(noted["sizes"]) == 4
    assert 0.25 <= noted["accuracy"] <= 1
    assert noted["losses"][0] > 0


def test_codes_do_not_depend_on_their_company():
    net, x = model(), images()
    alone = torch.cat([CH["encode"](net, some[None]) for some in x])
    assert torch.allclose(CH["encode"](net, x), alone, atol=1e-5)
    assert not alone.requires_grad


# ------------------------------------------------------------- answers and their grades


def test_grades_are_one_a_seed_in_the_order_of_the_rows():
    right, wrong = torch.tensor([1, 1, 0, 0]), torch.tensor([0, 1, 0, 1])
    answers = {"a": [{"test": right}, {"test": wrong}], "b": [{"test": wrong}]}
    y = torch.tensor([0, 0, 1, 1])
    table = CH["grades"](answers, "test", y, metrics.clustering_accuracy)
    assert table == {"a": [1.0, 0.5], "b": [0.5]}


def test_every_row_repairs_a_row_before_it():
    rows = ["pixels", *CH["REPAIRS"]]
    for row, before in CH["REPAIRS"].items():
        assert rows.index(before) < rows.index(row)


def test_agreement_is_one_for_the_same_groups_and_low_for_chance():
    one = torch.arange(3000) % 3
    renamed = (one + 1) % 3
    chance = torch.randint(3, (3000,), generator=rng())
    same = CH["agreement"]([one, renamed])
    assert same == pytest.approx([1, 1])
    three = CH["agreement"]([one, renamed, chance])
    assert three[:2] == pytest.approx([0.5, 0.5], abs=0.01)
    assert three[2] == pytest.approx(0, abs=0.01)


def test_an_answer_holds_clusters_and_signals():
    x, test_x = images(), images(10, 6)
    found = CH["answer"](model(), x, test_x, 20)
    assert found["train"].shape == (24,)
    assert found["test"].shape == (10,)
    assert found["error"] > 0
    assert -1 <= found["silhouette"] <= 1


def test_a_collapsed_model_still_gets_an_answer():
    net = CH["with_centers"](model(), torch.full((4, 3), 1e3))
    net.centers.data[0] = 0.0
    found = CH["answer"](net, images(), images(10, 6), 20)
    assert found["train"].unique().tolist() == [0]
    assert found["silhouette"] == 0


def test_kmeans_rows_find_separate_heaps_and_follow_their_seed():
    heaps = 10 * torch.eye(4).repeat(10, 1)  # 4 heaps in turn
    x = heaps + 0.1 * torch.randn(heaps.shape, generator=rng())
    first, again = (CH["kmeans_answer"](CFG, x, x[:8], 1) for _ in range(2))
    y = torch.arange(40) % 4
    assert metrics.clustering_accuracy(y, first["train"]) == 1
    assert torch.equal(first["test"], first["train"][:8])
    assert first["centers"].shape == (4, 4)
    assert torch.equal(first["train"], again["train"])


# ------------------------------------------------------------------------- the maps


def test_a_map_is_computed_once_and_kept():
    checkpoint = Kept()
    places = CH["tsne_map"](checkpoint, codes(40), 0)
    assert places.shape == (40, 2)
    assert torch.equal(CH["tsne_map"](checkpoint, codes(7), 0), places)


def test_of_several_maps_the_clearest_is_kept(monkeypatch):
    y = torch.arange(40) % 4
    corners = torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0], [9.0, 9.0]])[y]
    noise = torch.randn(40, 2, generator=rng())
    shelf = Shelf()
    for i, width in enumerate((3.0, 0.1, 2.0)):
        shelf(f"map {i}, seed 0", None).save(places=corners + width * noise)
    monkeypatch.setitem(CH, "Checkpoint", shelf)
    z = codes(130)
    some, labels = CH["clearest_map"]("map", None, CFG, z, 0, n_tries=3)
    assert torch.equal(some, z[40:80])
    assert metrics.clustering_accuracy(y, labels) == 1
    assert len(shelf) == 3


def test_the_way_between_two_centres_ends_at_both():
    net = model().eval()
    axis = CH["between"](net, 1, 2, n=5)
    canvas = axis.images[0].get_array()
    with torch.no_grad():
        ends = net.decoder(net.centers[[1, 2]])[:, 0]
    assert np.allclose(canvas[:, :28, 0], ends[0], atol=1e-5)
    assert np.allclose(canvas[:, -28:, 0], ends[1], atol=1e-5)
    CH["plt"].close(axis.figure)
