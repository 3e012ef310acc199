"""The judges that ship: the very files, small, good enough, and careful with input."""

import hashlib

import pytest
import torch
import torch.nn.functional as F

from genlab_helpers import data, judge

NAMES = list(judge.SHA256)
LARGEST = 800_000  # bytes of one file


@pytest.fixture(autouse=True)
def _smoke(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")


@pytest.mark.parametrize("name", NAMES)
def test_the_weights_are_the_shipped_ones(name):
    path = judge.FOLDER / f"{name.lower()}.pt"
    content = path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == judge.SHA256[name]
    assert len(content) <= LARGEST
    state = torch.load(path, weights_only=True)
    assert {value.dtype for value in state.values()} == {torch.float16}


@pytest.mark.parametrize("name", NAMES)
def test_a_loaded_judge_only_scores(name):
    loaded = judge.load(name)
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    x = torch.rand(3, 1, 28, 28)
    features = loaded.features(x)
    assert features.shape == (3, 64)
    assert features.abs().max() <= 1
    assert torch.equal(loaded.classify(x), loaded(x).argmax(dim=1))


def test_a_gradient_reaches_the_image_and_not_the_judge():
    loaded, x = judge.load("MNIST"), torch.rand(2, 1, 28, 28, requires_grad=True)
    loaded(x)[:, 3].sum().backward()
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in loaded.parameters())


def test_the_score_does_not_depend_on_the_company():
    loaded, x = judge.load("Fashion-MNIST"), torch.rand(1002, 1, 28, 28)
    assert torch.allclose(loaded.features(x)[-2:], loaded.features(x[-2:]), atol=1e-5)


def test_the_judge_of_digits_knows_digits_of_another_hand():
    other = data.mnist("test")  # in smoke: scikit-learn's, which fill the whole square
    assert other.is_stand_in
    small = F.interpolate(other.images, size=(16, 16), mode="bilinear", antialias=True)
    framed = F.pad(small, (6, 6, 6, 6))  # as much paper around them as in MNIST
    assert judge.accuracy(judge.load("MNIST"), framed, other.labels) >= 0.75


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.zeros(2, 1, 32, 32), "shape"),
        (torch.zeros(2, 784), "shape"),
        (-torch.ones(2, 1, 28, 28), r"\(x \+ 1\) / 2"),
        (torch.full((2, 1, 28, 28), torch.nan), r"\[0, 1\]"),
        (torch.zeros(0, 1, 28, 28), "at least one"),
    ],
)
def test_images_that_it_cannot_score_are_refused(x, reason):
    for score in (judge.load("MNIST").features, judge.load("MNIST").classify):
        with pytest.raises(ValueError, match=reason):
            score(x)


def test_an_unknown_judge_and_damaged_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Fashion-MNIST, not of 'CIFAR'"):
        judge.load("CIFAR")
    monkeypatch.setattr(judge, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="install genlab-helpers again"):
        judge.load("MNIST")
    (tmp_path / "mnist.pt").write_bytes(b"damaged")
    with pytest.raises(ValueError, match="install genlab-helpers again"):
        judge.load("MNIST")


def test_training_moves_and_mirrors_but_keeps_every_image_whole():
    dot = torch.zeros(200, 1, 28, 28)
    dot[:, 0, 10, 5] = 1
    torch.manual_seed(0)
    moved = judge._vary(dot, mirrored=False)
    assert moved.shape == dot.shape
    places = {tuple(place) for place in moved.nonzero()[:, 2:].tolist()}
    assert places == {(r, c) for r in range(8, 13) for c in range(3, 8)}
    mirrored = judge._vary(dot, mirrored=True).nonzero()[:, 3]
    assert 60 < int((mirrored > 14).sum()) < 140


def test_training_in_smoke_gives_a_judge_that_learned(monkeypatch):
    monkeypatch.setattr(judge, "BATCH_SIZE", 64)
    trained = judge.train("MNIST", epochs=1)
    known = data.mnist("test")
    assert judge.accuracy(trained, known.images, known.labels) > 0.5


def test_judges_are_made_of_real_data_only(monkeypatch):
    with pytest.raises(SystemExit, match="real data"):
        judge.main(["MNIST"])
