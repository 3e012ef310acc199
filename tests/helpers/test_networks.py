"""Networks trained elsewhere, from small files of the same form as the real ones."""

import pytest
import torch
import torch.nn.functional as F
import torchvision
from torchvision.models import vgg

from genlab_helpers import data, files, networks
from genlab_helpers.networks import feature_network, judge, vgg19

pytest_plugins = ["fixtures_mirror"]
OXFORD, TORCHVISION = files.known("VGG19", "weights")
PACKED, WHOLE = files.known("SqueezeNet 1.0", "weights")
SMALL = [{64: 4, 128: 4, 256: 6, 512: 6}.get(width, width) for width in vgg.cfgs["E"]]


@pytest.fixture(autouse=True)
def folder(place, monkeypatch):
    """Give VGG19 a few channels, and no network; return the folder of weights."""
    monkeypatch.setitem(vgg.cfgs, "E", SMALL)
    for entry in (TORCHVISION, WHOLE):
        monkeypatch.setitem(entry, "url", f"http://127.0.0.1:9/{entry['file']}")
    return place.data / "weights"


@pytest.fixture
def put(monkeypatch):
    """Return a function that writes weights as the real ones of an entry."""

    def write(folder, entry):
        whole = torchvision.models.squeezenet1_0(weights=None).features
        if entry["name"] == "VGG19":
            whole = vgg.make_layers(SMALL)
        part = whole[: 18 if entry is OXFORD else None].state_dict()  # up to conv3_4
        state = {f"features.{key}": torch.rand(v.shape) for key, v in part.items()}
        path = folder / entry["file"]
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state | {"classifier.1.bias": torch.zeros(10)}, path)
        digest = files.sha256_of(path)[: len(entry["sha256"])]
        monkeypatch.setitem(entry, "sha256", digest)
        return path

    return write


def test_weights_are_fetched_once(folder, place, put, mirror, monkeypatch, capfd):
    path = put(place.hub, WHOLE)
    mirror.pages["net"] = path.read_bytes()
    path.unlink()
    monkeypatch.setitem(WHOLE, "url", f"{mirror.url}net")
    assert feature_network().source == "download"
    assert "100%" in capfd.readouterr().err
    found, path = feature_network(), folder / WHOLE["file"]
    assert found.facts() == {
        **{"name": "SqueezeNet 1.0 (torchvision)", "split": "weights"},
        **{"source": "folder", "sha256": files.sha256_of(path), "count": 735_424},
    }
    first = torch.load(path)["features.0.weight"]
    assert torch.equal(next(found.layers.parameters()), first)
    assert (mirror.asked, *capfd.readouterr()) == (["/net"], "", "")


def test_the_authors_weights_come_first(folder, place, put, monkeypatch):
    put(folder, OXFORD)
    short = vgg19("conv4_1")  # Oxford's weights end before it
    assert short.is_stand_in
    assert "127.0.0.1:9/vgg19" in short.note
    assert torch.equal(vgg19("conv4_1").layers.conv1_1.bias, torch.zeros(4))
    whole = put(place.hub, TORCHVISION)
    names = [vgg19(last).name for last in ("conv1_1", "pool3", "conv4_1")]
    assert names == ["VGG19 (Oxford)", "VGG19 (Oxford)", "VGG19 (torchvision)"]
    whole.write_bytes(b"half")
    assert vgg19("conv4_1").is_stand_in


@pytest.mark.parametrize("entry", [WHOLE, TORCHVISION], ids=lambda e: e["file"])
def test_without_good_weights_the_stand_in_tells_why(folder, put, capsys, entry):
    content = put(folder, entry).read_bytes()[:-9]
    (folder / entry["file"]).write_bytes(content)
    found = vgg19("conv2_1") if entry is TORCHVISION else feature_network()
    out = capsys.readouterr().out
    assert f"GENLAB_DATA/weights/{entry['file']} is damaged" in out
    assert (folder / entry["file"]).read_bytes() == content
    parts = ["127.0.0.1:9", "with a network", f"STAND-IN: {entry['name']} (random"]
    assert all(part in found.note for part in parts)
    assert out.endswith(found.note + "\n")


def test_smoke_asks_nobody_and_is_the_same_every_time(folder, put, mirror, monkeypatch):
    for entry in (PACKED, OXFORD):
        put(folder, entry)
    monkeypatch.setitem(TORCHVISION, "url", mirror.url)
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    for load in (feature_network, vgg19):
        before, found = torch.get_rng_state(), load()
        assert torch.equal(torch.get_rng_state(), before)
        assert found.is_stand_in
        assert found.note.startswith("The smoke profile uses no real weights. STAND-IN")
        torch.rand(3)
        assert load().sha256 == found.sha256
    assert mirror.asked == []
    filters = found.layers.conv3_1.weight.flatten(1)
    assert torch.allclose(filters @ filters.T, 2 * torch.eye(6), atol=1e-5)


def test_the_layers_have_the_names_places_and_values_of_torchvision(place, put):
    state = torch.load(put(place.hub, TORCHVISION))
    state = {key.removeprefix("features."): value for key, value in state.items()}
    reference, layers = vgg.make_layers(SMALL), vgg19("relu5_1").layers
    reference.load_state_dict(state, strict=False)
    names = tuple(name for name, _ in layers.named_children())
    assert names == networks.VGG_LAYERS
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    assert layers.conv3_1 is layers[10]
    expected = h = x.detach()
    for layer, other in zip(layers, reference, strict=False):
        h, expected = layer(h), other(expected)
        assert torch.allclose(h, expected)
        assert not getattr(layer, "inplace", False)
    layers(x).sum().backward()
    assert x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in layers.parameters())
    with pytest.raises(ValueError, match=r"conv1_1, relu1_1, .*, conv5_1, relu5_1$"):
        vgg19("conv5_2")


def test_features_are_the_mean_of_the_last_map(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    eye = feature_network()
    x = torch.rand(101, 3, 64, 64)  # not resized, and more than one part
    mean, std = (torch.tensor(v)[:, None, None] for v in (networks.MEAN, networks.STD))
    expected = eye.layers((x[-2:] - mean) / std).flatten(2).mean(dim=2)
    features = eye.features(x.double())[-2:]
    assert torch.allclose(features, expected, rtol=1e-3, atol=1e-5)
    assert eye.features(torch.rand(2, 3, 32, 131)).shape == (2, 512)
    assert eye.source == "stand-in"


@pytest.mark.parametrize("name", networks.JUDGES)
def test_a_judge_only_scores(name):
    scorer, x = judge(name), torch.rand(5, 1, 28, 28)
    features = scorer.features(x)
    assert features.shape == (5, 64)
    assert torch.allclose(features[-2:], scorer.features(x[-2:]), atol=1e-5)
    assert torch.equal(scorer.classify(x), scorer(x).argmax(dim=1))
    assert not any(p.requires_grad for p in scorer.parameters())


def test_the_judge_of_digits_knows_digits_of_another_hand(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    other = data.mnist("test")  # scikit-learn's, which fill the whole square
    small = F.interpolate(other.images, size=(16, 16), mode="bilinear", antialias=True)
    framed = F.pad(small, (6, 6, 6, 6))  # as much paper around them as in MNIST
    assert networks.accuracy(judge("MNIST"), framed, other.labels) >= 0.75


UNFIT = [
    *(((2, 3, 32, 32), torch.nan, r"x \+ 1"), ((2, 3, 32, 31), 0.5, "least 32")),
    *(((0, 3, 64, 64), 0.5, "at least one"), ((2, 1, 28, 28), -1.0, r"x \+ 1")),
    *(((2, 1, 28, 28), 1, "floats"), ((2, 784), 0.5, "1, 28, 28")),
]


@pytest.mark.parametrize(("shape", "value", "reason"), UNFIT)
def test_what_a_network_cannot_take_is_refused(monkeypatch, shape, value, reason):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    look = feature_network().features if shape[1] == 3 else judge("MNIST").classify
    with pytest.raises(ValueError, match=reason):
        look(torch.full(shape, value))


def test_an_unknown_judge_and_damaged_weights_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="Fashion-MNIST, not of 'CIFAR'"):
        judge("CIFAR")
    monkeypatch.setattr(networks, "FOLDER", tmp_path)
    for _ in ("missing", "damaged"):
        with pytest.raises(ValueError, match="install genlab-helpers again"):
            judge("MNIST")
        (tmp_path / "mnist.pt").write_bytes(b"damaged")
