"""Networks that were trained elsewhere: judges of small images, SqueezeNet and VGG19.

notebooks/scripts/train_judges.py made the judges, which ship with the package. The
others' weights are searched in ``weights/`` of the data folder and the cache folder and
in torch's hub cache, then downloaded; without any, a random network says so.
"""

import hashlib
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn

from genlab_helpers.files import DownloadError, Origin, known, obtain, sha256_of
from genlab_helpers.settings import profile

FOLDER = Path(__file__).parent / "weights"
JUDGES = {  # sha256 of the weights in it; train_judges.py prints what to put here
    "MNIST": "d2827073b63b3577fe3ce22ec2cdd53f5a67d9083cc3efc1955ca3f1923efe3b",
    "Fashion-MNIST": "5b32da5f360f8e572d8de882ea73eab6da39b07de5859f8edd29a30fd7478cb9",
}
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
VGG_NAMES = """
conv1_1 relu1_1 conv1_2 relu1_2 pool1 conv2_1 relu2_1 conv2_2 relu2_2 pool2
conv3_1 relu3_1 conv3_2 relu3_2 conv3_3 relu3_3 conv3_4 relu3_4 pool3
conv4_1 relu4_1 conv4_2 relu4_2 conv4_3 relu4_3 conv4_4 relu4_4 pool4 conv5_1 relu5_1
"""
VGG_LAYERS = tuple(VGG_NAMES.split())


class Judge(nn.Module):
    """A classifier of images x (B, 1, 28, 28) in [0, 1] into ten classes."""

    def __init__(self):
        super().__init__()
        layers = []
        for inputs, width, stride in (1, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2):
            conv = nn.Conv2d(inputs, width, 3, stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
        layers += [nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * 7 * 7, 64), nn.Tanh()]
        self.body, self.head = nn.Sequential(*layers), nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score a class (logits), (B, 10), with a gradient."""
        return self.head(self.body(x))

    @torch.inference_mode()
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the 64 numbers in [-1, 1] behind the scores: (N, 64) on the CPU."""
        _check(x, x.shape[1:] == (1, 28, 28), "(N, 1, 28, 28)")
        device = self.head.weight.device
        return torch.cat([self.body(part.to(device)).cpu() for part in x.split(1000)])

    @torch.inference_mode()
    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class of each image, (N,) int64 on the CPU."""
        features = self.features(x).to(self.head.weight.device)
        return self.head(features).argmax(dim=1).cpu()


def judge(name: str, device: torch.device | str = "cpu") -> Judge:
    """Return the judge of "MNIST" or "Fashion-MNIST", in eval mode without gradients.

    Raises ValueError for another name, or if the shipped weights are damaged.
    """
    if name not in JUDGES:
        raise ValueError(f"there is a judge of {', '.join(JUDGES)}, not of {name!r}")
    path = FOLDER / f"{name.lower()}.pt"
    if not path.is_file() or sha256_of(path) != JUDGES[name]:
        raise ValueError(f"{path.name} is not as shipped; install genlab-helpers again")
    state, loaded = torch.load(path, map_location="cpu", weights_only=True), Judge()
    loaded.load_state_dict({key: value.float() for key, value in state.items()})
    return loaded.to(device).eval().requires_grad_(False)


def accuracy(judge: Judge, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images (N, 1, 28, 28) that get their label (N,)."""
    return (judge.classify(images) == labels.cpu()).float().mean().item()


@dataclass(frozen=True, eq=False, kw_only=True)
class Network(Origin):
    """Layers in eval mode, without gradients on the ``count`` numbers they hold."""

    layers: nn.Sequential

    @torch.inference_mode()
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the mean of each feature map of the feature network, (N, 512), CPU.

        x: (N, 3, H, W), a float type in [0, 1], H and W at least 32, any device. It is
        resized to 64 x 64 and normalised. Raises ValueError for other x.
        """
        fits = x.ndim == 4 and x.shape[1] == 3 and min(x.shape[2:]) >= 32
        _check(x, fits, "(N, 3, H, W), H and W at least 32")
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
        device, found = next(self.layers.parameters()).device, []
        for part in x.split(100):
            # On the CPU, since not every device can resize with antialiasing.
            part = part.cpu().float()
            part = F.interpolate(part, (64, 64), mode="bilinear", antialias=True)
            part = ((part - mean) / std).to(device, memory_format=torch.channels_last)
            found.append(self.layers(part).mean(dim=(2, 3)).cpu())
        return torch.cat(found)


def feature_network(device: torch.device | str = "cpu") -> Network:
    """Return SqueezeNet 1.0 up to its last feature map, to compare sets of pictures.

    ``smoke`` gets the random stand-in. Scores of different weights do not compare.
    Source: Iandola et al. 2016, https://doi.org/10.48550/arXiv.1602.07360.
    """
    from torchvision.models import squeezenet1_0  # slow to import, not always needed

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = squeezenet1_0(weights=None).features
    found = _filled("SqueezeNet 1.0", layers)
    found.layers.to(device=device, memory_format=torch.channels_last)
    return found


def vgg19(last: str = "conv5_1", device: torch.device | str = "cpu") -> Network:
    """Return VGG19 up to and with the layer ``last``; ``layers`` has VGG_LAYERS' names.

    It takes x (B, 3, H, W), RGB in [0, 1] that the caller normalises with MEAN and STD;
    gradients reach x. ``smoke`` gets the stand-in, random orthogonal filters. The name
    tells the edition of the weights; loss weights do not carry over to the other.
    Raises ValueError for an unknown layer.
    Source: Simonyan and Zisserman 2015, https://doi.org/10.48550/arXiv.1409.1556.
    """
    from torchvision.models.vgg import cfgs, make_layers

    if last not in VGG_LAYERS:
        raise ValueError(f"no layer {last!r}; there are {', '.join(VGG_LAYERS)}")
    with torch.random.fork_rng(devices=[]):
        named = OrderedDict(zip(VGG_LAYERS, make_layers(cfgs["E"]), strict=False))
        layers = nn.Sequential(named)[: VGG_LAYERS.index(last) + 1]
        torch.manual_seed(0)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                layer.reset_parameters()
                nn.init.orthogonal_(layer.weight, gain=2**0.5)
                nn.init.zeros_(layer.bias)
            elif isinstance(layer, nn.ReLU):
                layer.inplace = False  # a notebook reads the values before it as well
    found = _filled("VGG19", layers)
    found.layers.to(device)
    return found


def _filled(name: str, layers: nn.Sequential) -> Network:
    """Return random layers as a network, with the best weights that can be had."""
    count = sum(p.numel() for p in layers.eval().requires_grad_(False).parameters())
    facts = dict(split="weights", count=count, layers=layers)
    numbered = nn.Sequential(*layers)  # torchvision's names
    hub = Path(torch.hub.get_dir(), "checkpoints")
    why = "The smoke profile uses no real weights. "
    for entry in known(name, "weights") if profile() != "smoke" else []:
        try:
            file, urls = f"weights/{entry['file']}", [*filter(None, [entry.get("url")])]
            path, source = obtain(file, urls, entry["sha256"], [hub])
        except DownloadError as error:
            why = f"{error}\n"
            continue
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = {key.removeprefix("features."): value for key, value in state.items()}
        if numbered.state_dict().keys() <= state.keys():
            numbered.load_state_dict(state, strict=False)  # later layers are not used
            name = f"{name} ({entry['edition']})"
            return Network(**facts, name=name, source=source, sha256=sha256_of(path))
        why = f"{path.name} ends before this layer. "
    name = f"{name} (random stand-in)"
    print(note := f"{why}STAND-IN: {name}, its filters have learned NOTHING.")
    values = b"".join(v.numpy().tobytes() for v in layers.state_dict().values())
    digest = hashlib.sha256(values).hexdigest()
    return Network(**facts, name=name, source="stand-in", sha256=digest, note=note)


def _check(x: torch.Tensor, fits: bool, shape: str) -> None:
    if not fits or not x.is_floating_point() or not len(x):
        raise ValueError(f"x must be floats of shape {shape}, at least one picture")
    if not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        raise ValueError("x must be in [0, 1]; bring [-1, 1] there with (x + 1) / 2")
