"""Networks trained elsewhere: found, fetched or labelled, and fit to extract features.

No real weights are needed: small files of the same form stand for them.
"""

import hashlib
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from genlab_helpers import download, pretrained, settings, storage, weight_files
from genlab_helpers.record import RunRecord
from genlab_helpers.sources import VOUCHED, WEIGHTS

SMALL, LARGE = pretrained.SQUEEZENET
SHORT, KEPT, WHOLE = pretrained.VGG_SHORT, weight_files.VGG_KEPT, weight_files.VGG_WHOLE
CLOSED = "http://127.0.0.1:9/"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def place(monkeypatch, tmp_path):
    """Give each test its own folders, no network and a VGG19 of a few channels."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("GENLAB_PROFILE", "laptop")
    monkeypatch.setenv("GENLAB_DATA", str(tmp_path / "sets"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(storage, "cache_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(weight_files, "MIRROR", CLOSED)
    monkeypatch.setattr(download, "_silent_since", {})
    monkeypatch.setattr(download, "PAUSE", 0.01)
    monkeypatch.setattr(pretrained, "WIDTHS", (4, 4, 6, 6, 6))
    places = SimpleNamespace(
        data=tmp_path / "sets" / "weights",
        cache=tmp_path / "cache" / "weights",
        hub=tmp_path / "torch" / "hub" / "checkpoints",
        web=tmp_path / "web",
    )
    for folder in vars(places).values():
        folder.mkdir(parents=True)
    return places


@pytest.fixture
def put(monkeypatch):
    """Return a function that writes a file of weights, known as real; its sha256."""

    def write(folder, file, state) -> str:
        # As torchvision's files of 2017 are.
        torch.save(state, folder / file, _use_new_zipfile_serialization=False)
        found = sha((folder / file).read_bytes())
        known = found[:8] if file in (LARGE, WHOLE) else found
        monkeypatch.setitem(WEIGHTS, file, known)
        return found

    return write


@pytest.fixture
def mirror(monkeypatch, place):
    """Serve the folder `web` as the mirror; return the list of paths asked for."""
    asked = []

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            asked.append(self.path)

    handler = partial(Quiet, directory=str(place.web))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/"
        monkeypatch.setattr(weight_files, "MIRROR", address)
        yield asked
        server.shutdown()
        thread.join()


def squeezenet_state(seed: int = 1) -> dict:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = pretrained._squeezenet()
    state = {f"features.{key}": value for key, value in layers.state_dict().items()}
    return state | {"classifier.1.bias": torch.zeros(1000)}


def vgg_state(last: str, seed: int = 1) -> dict:
    """Return the weights of VGG19 up to a layer, keys as torchvision has them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers = pretrained._vgg(last)
    state = {}
    for number, layer in enumerate(layers):
        for key, value in layer.state_dict().items():
            state[f"features.{number}.{key}"] = value + 1  # no random start is so
    return state


def whole_state(seed: int = 1) -> dict:
    later = {"features.30.weight": torch.ones(2), "classifier.0.bias": torch.ones(3)}
    return vgg_state("conv5_1", seed) | later


def holds(layers: nn.Sequential, state: dict) -> bool:
    """Return whether the first weights, in torchvision's numbering, are in use."""
    return torch.equal(next(layers.parameters()), state["features.0.weight"])


# ------------------------------------------------------------------ where they are


def test_the_weights_in_the_folder_are_used_in_silence(place, put, capfd):
    digest, state = put(place.data, SMALL, squeezenet_state()), squeezenet_state()
    eye = pretrained.eye()
    assert holds(eye.layers, state)
    assert (eye.name, eye.origin, eye.digest) == ("SqueezeNet 1.0", "folder", digest)
    assert not eye.is_stand_in
    assert eye.note == ""
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("where", ["data", "cache", "hub"])
def test_torchvisions_file_is_found_in_each_place(place, put, where):
    digest = put(getattr(place, where), LARGE, squeezenet_state())
    eye = pretrained.eye()
    assert (eye.origin, eye.digest) == ("folder", digest)
    assert holds(eye.layers, squeezenet_state())


def test_the_order_of_search_for_squeezenet(place, put):
    order = [(place.data, SMALL), (place.data, LARGE)]
    digests = []
    for seed, (folder, file) in enumerate(order):
        digests.append(put(folder, file, squeezenet_state(seed)))
    for (folder, file), digest in zip(order, digests, strict=True):
        assert pretrained.eye().digest == digest
        (folder / file).unlink()
    assert pretrained.eye().is_stand_in


def test_the_order_of_search_for_vgg19(place, put):
    short = put(place.data, SHORT, vgg_state("conv3_4", seed=1))
    whole = put(place.hub, WHOLE, whole_state(seed=2))
    assert pretrained.vgg19("conv3_4").digest == short
    assert pretrained.vgg19("pool3").digest == short
    assert pretrained.vgg19("conv4_1").digest == whole
    (place.data / SHORT).unlink()
    assert pretrained.vgg19("conv3_4").digest == whole


DAMAGE = {"cut": lambda c: c[:-9], "empty": lambda c: b"", "other": lambda c: c + b"!"}


@pytest.mark.parametrize("spoil", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_named_kept_and_not_used(place, put, capsys, spoil):
    put(place.data, SMALL, squeezenet_state(1))
    spoilt = spoil((place.data / SMALL).read_bytes())
    (place.data / SMALL).write_bytes(spoilt)
    assert pretrained.eye().is_stand_in
    said = capsys.readouterr().out
    assert f"GENLAB_DATA/weights/{SMALL} is damaged or unreadable" in said
    assert "left as it is" in said
    digest = put(place.data, LARGE, squeezenet_state(2))
    eye = pretrained.eye()
    assert (eye.origin, eye.digest) == ("folder", digest)
    assert f"{SMALL} is damaged" in eye.note
    assert "not used" in eye.note
    assert capsys.readouterr().out == eye.note + "\n"
    assert (place.data / SMALL).read_bytes() == spoilt


def renamed(state):
    return {f"module.{key}": value for key, value in state.items()}


def shortened(state):
    return dict(list(state.items())[2:])


def reshaped(state):
    return state | {"features.0.weight": torch.zeros(3)}


@pytest.mark.parametrize("change", [renamed, shortened, reshaped])
def test_weights_of_another_form_are_not_used(place, put, change):
    put(place.data, SMALL, change(squeezenet_state()))
    eye = pretrained.eye()
    assert eye.is_stand_in
    assert "does not hold the weights of all layers up to 12" in eye.note
    (place.data / SMALL).unlink()
    assert eye.digest == pretrained.eye().digest  # nothing of the file is in it


# -------------------------------------------------------------------- the download


def test_squeezenet_is_fetched_once_and_kept(place, put, mirror, capsys):
    digest = put(place.web, LARGE, squeezenet_state())
    eye = pretrained.eye()
    assert (eye.origin, eye.digest) == ("download", digest)
    said = capsys.readouterr()
    assert f"fetching {LARGE}, 5 MB" in said.out
    assert f"{LARGE}: " in said.err  # the progress bar
    assert [path.name for path in place.cache.iterdir()] == [LARGE]
    assert pretrained.eye().origin == "folder"
    assert len(mirror) == 1


def test_of_vgg19_only_the_part_in_use_is_kept(place, put, mirror, capsys):
    digest = put(place.web, WHOLE, whole_state())
    first = pretrained.vgg19()
    assert (first.origin, first.digest) == ("download", digest)
    assert f"fetching {WHOLE}, 575 MB" in capsys.readouterr().out
    beside = f"{KEPT}.sha256"
    assert sorted(path.name for path in place.cache.iterdir()) == [KEPT, beside]
    kept = torch.load(place.cache / KEPT, weights_only=True)
    assert set(kept) == set(vgg_state("conv5_1"))
    own = sha((place.cache / KEPT).read_bytes())
    assert (place.cache / beside).read_text().split() == [own, KEPT, digest, WHOLE]
    again = pretrained.vgg19()
    assert (again.origin, again.digest, again.note) == ("folder", digest, "")
    x = torch.rand(1, 3, 32, 32)
    assert torch.equal(first.layers(x), again.layers(x))
    assert len(mirror) == 1


def test_a_file_of_the_reader_stays_where_it_is(place, put):
    put(place.hub, WHOLE, whole_state())
    assert pretrained.vgg19().origin == "folder"
    assert (place.hub / WHOLE).is_file()
    assert (place.cache / KEPT).is_file()


@pytest.mark.parametrize("spoil", ["content", "digest", "no digest"])
def test_a_damaged_kept_part_is_not_used(place, put, spoil):
    digest = put(place.hub, WHOLE, whole_state())
    pretrained.vgg19()
    beside = place.cache / f"{KEPT}.sha256"
    if spoil == "content":
        (place.cache / KEPT).write_bytes(b"half")
    elif spoil == "digest":
        beside.write_text("half")
    else:
        beside.unlink()
    again = pretrained.vgg19()
    assert again.digest == digest
    assert f"{KEPT} is damaged" in again.note
    assert pretrained.vgg19().note == ""  # it was made anew


def test_a_wrong_download_is_refused_and_leaves_nothing(place, put, mirror):
    put(place.web, LARGE, squeezenet_state())
    (place.web / LARGE).write_bytes(b"<html>moved</html>")
    eye = pretrained.eye()
    assert eye.is_stand_in
    assert "wrong content: 18 bytes" in eye.note
    assert list(place.cache.iterdir()) == []


def test_a_download_without_end_is_stopped(place, put, mirror, monkeypatch):
    put(place.web, LARGE, squeezenet_state())
    monkeypatch.setitem(weight_files.MEGABYTES, LARGE, 1)
    assert "far more than the file holds" in pretrained.eye().note
    assert list(place.cache.iterdir()) == []


def test_a_damaged_file_makes_room_for_a_good_one_only(place, put, mirror, monkeypatch):
    digest = put(place.web, LARGE, squeezenet_state())
    (place.cache / LARGE).write_bytes(b"half")
    with monkeypatch.context() as offline:
        offline.setattr(weight_files, "MIRROR", CLOSED)
        assert pretrained.eye().is_stand_in
        assert (place.cache / LARGE).read_bytes() == b"half"
    monkeypatch.setattr(download, "_silent_since", {})
    eye = pretrained.eye()
    assert eye.digest == digest
    assert f"kept as {LARGE}.damaged" in eye.note
    assert (place.cache / f"{LARGE}.damaged").read_bytes() == b"half"


def test_a_cache_that_cannot_be_written_is_told(place, put, mirror, monkeypatch):
    put(place.web, LARGE, squeezenet_state())
    place.cache.rmdir()
    place.cache.write_text("a file in the place of the folder")
    eye = pretrained.eye()
    assert eye.is_stand_in
    assert "cannot be written to: File exists" in eye.note


def test_a_full_disk_is_no_fault_of_the_network(place, put, mirror, monkeypatch):
    put(place.web, LARGE, squeezenet_state())

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "cannot be written to: No space left on device" in pretrained.eye().note
    assert list(place.cache.iterdir()) == []


# -------------------------------------------------------------------- the stand-in


@pytest.mark.parametrize(
    ("load", "file"), [(pretrained.eye, LARGE), (pretrained.vgg19, WHOLE)]
)
def test_without_a_network_the_stand_in_tells_reason_and_remedy(load, file, capsys):
    found = load()
    assert found.is_stand_in
    parts = ["could not be had", "cannot be reached", CLOSED + file, "sets/weights"]
    places = [found.note.index(part) for part in parts]
    assert places == sorted(places)
    assert found.note.splitlines()[-1].startswith(f"STAND-IN: {found.name}")
    assert found.note in capsys.readouterr().out


def test_smoke_gets_the_stand_in_and_no_network(place, put, mirror, monkeypatch):
    put(place.data, SMALL, squeezenet_state())
    put(place.data, SHORT, vgg_state("conv3_4"))
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    for found in (pretrained.eye(), pretrained.vgg19("conv3_4"), pretrained.vgg19()):
        assert found.is_stand_in
        assert found.note.startswith("The smoke profile uses no real weights. STAND-IN")
        assert "random" in found.provenance()["name"]
    assert mirror == []


def test_the_stand_in_is_the_same_every_time_and_disturbs_no_chance(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    before = torch.get_rng_state()
    digests = {pretrained.eye().digest for _ in range(2)}
    torch.rand(3)
    digests |= {pretrained.eye().digest}
    assert len(digests) == 1
    torch.set_rng_state(before)
    pretrained.vgg19()
    assert torch.equal(torch.get_rng_state(), before)


def test_the_filters_of_the_vgg_stand_in_are_orthogonal(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    layers = pretrained.vgg19("conv3_1").layers
    for conv in (layer for layer in layers if isinstance(layer, nn.Conv2d)):
        filters = conv.weight.flatten(1)
        assert torch.allclose(
            filters @ filters.T, 2 * torch.eye(len(filters)), atol=1e-5
        )
        assert not conv.bias.any()


# ---------------------------------------------------------------------- provenance


def test_a_record_keeps_what_the_gate_vouches_for(place, put):
    digests = [put(place.data, SMALL, squeezenet_state())]
    digests += [put(place.data, SHORT, vgg_state("conv3_4"))]
    record = RunRecord("x", settings.Settings(profile="laptop"), torch.device("cpu"))
    record.use(pretrained.eye())
    record.use(pretrained.vgg19("conv1_2"))
    uses = record.to_dict()["data"]
    for use, digest in zip(uses, digests, strict=True):
        assert (use["name"], use["split"]) in VOUCHED
        assert (use["source"], use["sha256"]) == ("folder", digest)
    assert uses[0]["count"] == 735_424
    assert uses[1]["count"] == 4 * 3 * 9 + 4 + 4 * 4 * 9 + 4


def test_the_table_vouches_for_every_published_file():
    known = {digest for digests in VOUCHED.values() for digest in digests}
    for file, digest in WEIGHTS.items():
        assert digest in known
        assert len(digest) == 64 or file.rpartition("-")[2].startswith(digest)
    assert {SMALL, LARGE, SHORT, WHOLE} == set(WEIGHTS)


# ------------------------------------------------------------------------- the eye


@pytest.fixture
def eye(monkeypatch):
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    return pretrained.eye()


@pytest.mark.parametrize("size", [(32, 32), (64, 48), (128, 128), (200, 131)])
def test_features_of_any_size(eye, size):
    features = eye.features(torch.rand(2, 3, *size))
    assert features.shape == (2, 512)
    assert features.dtype == torch.float32
    assert features.min() >= 0
    assert features.std(dim=1).min() > 0


def test_features_are_the_mean_of_the_last_map(eye):
    x = torch.rand(2, 3, 64, 64)  # not resized
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    normalised = (x - mean[:, None, None]) / std[:, None, None]
    expected = eye.layers(normalised).flatten(2).mean(dim=2)
    assert torch.allclose(eye.features(x), expected, rtol=1e-3, atol=1e-5)


def test_the_eye_depends_neither_on_company_nor_on_float_type(eye, monkeypatch):
    monkeypatch.setattr(pretrained, "BATCH_SIZE", 3)
    x = torch.rand(7, 3, 40, 40)
    features = eye.features(x)
    assert features.shape == (7, 512)
    assert torch.allclose(features[4:], eye.features(x[4:]), rtol=1e-3, atol=1e-5)
    assert torch.allclose(features, eye.features(x.double()), rtol=1e-3, atol=1e-5)


def test_the_eye_sees_colour_and_order_stays(eye):
    x = torch.zeros(2, 3, 32, 32)
    x[0, 0], x[1, 2] = 1, 1
    red, blue = eye.features(x)
    assert not torch.allclose(red, blue, rtol=1e-2)
    assert torch.allclose(eye.features(x.flip(0))[0], blue, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "reason"),
    [
        (torch.zeros(2, 1, 64, 64), "shape"),
        (torch.zeros(3, 64, 64), "shape"),
        ([[0.0]], "shape"),
        (torch.zeros(2, 3, 64, 31), "at least 32 x 32"),
        (torch.zeros(2, 3, 64, 64, dtype=torch.uint8), "divide uint8 by 255"),
        (-torch.ones(2, 3, 64, 64), r"\(x \+ 1\) / 2"),
        (torch.full((2, 3, 64, 64), torch.nan), r"\[0, 1\]"),
        (torch.zeros(0, 3, 64, 64), "at least one"),
    ],
)
def test_pictures_that_the_eye_cannot_take_are_refused(eye, x, reason):
    with pytest.raises(ValueError, match=reason):
        eye.features(x)


# ------------------------------------------------------------------------ the VGG19


def test_the_layers_have_the_names_and_places_of_torchvision(monkeypatch):
    from torchvision.models import vgg19

    monkeypatch.undo()  # the real widths
    with torch.device("meta"):
        reference = vgg19(weights=None).features
        ours = pretrained._vgg("relu5_1")
    names = [name for name, _ in ours.named_children()]
    assert names[:6] == ["conv1_1", "relu1_1", "conv1_2", "relu1_2", "pool1", "conv2_1"]
    assert names == list(pretrained.VGG_LAYERS)
    assert names[weight_files.KEPT_LAYERS - 1] == "conv5_1"
    for layer, other in zip(ours, reference, strict=False):
        assert type(layer) is type(other)
        assert not getattr(layer, "inplace", False)
        mine = {key: value.shape for key, value in layer.state_dict().items()}
        assert mine == {k: v.shape for k, v in other.state_dict().items()}


def test_a_loaded_vgg_computes_what_its_file_says(place, put):
    state = vgg_state("conv3_4")
    put(place.data, SHORT, state)
    found, x = pretrained.vgg19("conv1_2"), torch.rand(1, 3, 16, 16)
    conv = torch.nn.functional.conv2d
    first = conv(x, state["features.0.weight"], state["features.0.bias"], padding=1)
    second = conv(
        first.relu(), state["features.2.weight"], state["features.2.bias"], padding=1
    )
    assert torch.allclose(found.layers(x), second, rtol=1e-4)
    assert torch.allclose(found.layers[:2](x), first.relu(), rtol=1e-4)
    assert torch.equal(found.layers.conv1_1.bias, state["features.0.bias"])


def test_a_gradient_reaches_the_picture_and_no_weight(place, put):
    put(place.hub, WHOLE, whole_state())
    found = pretrained.vgg19("relu5_1")
    assert not found.layers.training
    x = torch.rand(1, 3, 32, 32, requires_grad=True)
    h = found.layers(x)
    assert h.shape == (1, 6, 2, 2)
    h.square().sum().backward()
    assert x.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in found.layers.parameters())
    assert all(p.grad is None for p in found.layers.parameters())


@pytest.mark.parametrize("last", ["conv5_2", "pool5", "relu", "", 3])
def test_an_unknown_layer_is_answered_with_the_list(last):
    with pytest.raises(ValueError, match=r"conv1_1, relu1_1, .*, conv5_1, relu5_1$"):
        pretrained.vgg19(last)


def test_a_layer_beyond_the_shorter_file_is_refused(place, put, capsys):
    put(place.data, SHORT, vgg_state("conv3_4"))
    with pytest.raises(ValueError, match="conv4_1 is beyond") as caught:
        pretrained.vgg19("conv4_1")
    for part in ("conv1_1, ", "relu3_4, pool3;", "cannot be reached", CLOSED + WHOLE):
        assert part in str(caught.value)
    assert "STAND-IN" not in str(caught.value) + capsys.readouterr().out


def test_deepest_is_what_can_be_had_without_a_large_download(place, put, monkeypatch):
    assert pretrained.deepest() == "conv5_1"
    put(place.data, SHORT, vgg_state("conv3_4"))
    assert pretrained.deepest() == "conv3_4"
    assert pretrained.vgg19(pretrained.deepest()).origin == "folder"
    put(place.hub, WHOLE, whole_state())
    assert pretrained.deepest() == "conv5_1"
    pretrained.vgg19()
    (place.hub / WHOLE).unlink()
    assert pretrained.deepest() == "conv5_1"
    (place.cache / KEPT).write_bytes(b"half")
    assert pretrained.deepest() == "conv3_4"
    (place.data / SHORT).write_bytes(b"half")
    assert pretrained.deepest() == "conv5_1"
    monkeypatch.setenv("GENLAB_PROFILE", "smoke")
    assert pretrained.deepest() == "conv5_1"
