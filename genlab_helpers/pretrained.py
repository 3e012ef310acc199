"""Networks trained elsewhere on ImageNet, as feature extractors for colour pictures.

SqueezeNet compares sets of faces; VGG19 gives the features of style transfer. Order of
search: ``weights/`` in the data folder and in the user's cache folder, torch's hub
cache, a download, and last a random network that says so. Every file is hashed before
it is used. Building a network leaves the global random state as it was.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from genlab_helpers import weight_files
from genlab_helpers.download import DownloadError
from genlab_helpers.settings import profile
from genlab_helpers.weight_files import VGG_KEPT, VGG_WHOLE, good

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's RGB in [0, 1]
SEED = 0  # of the random networks
SIDE, BATCH_SIZE = 64, 100  # of the pictures that the eye works on
SQUEEZENET = ("squeezenet1_0_deepcompression.pt", "squeezenet1_0-b66bff10.pth")
VGG_SHORT = "vgg19_features_conv1_1-conv3_4.pt"
SHORT_END = "pool3"  # the last layer that it has all weights for
BLOCKS = (2, 2, 4, 4, 1)  # convolutions in each block of VGG19, as far as we use it
WIDTHS = (64, 128, 256, 512, 512)


def _names() -> tuple[str, ...]:
    names = []
    for block, depth in enumerate(BLOCKS, start=1):
        for number in range(1, depth + 1):
            names += [f"conv{block}_{number}", f"relu{block}_{number}"]
        names.append(f"pool{block}")
    return tuple(names[:-1])


VGG_LAYERS = _names()  # conv1_1, relu1_1, conv1_2, ..., pool4, conv5_1, relu5_1


@dataclass(frozen=True, eq=False)
class Pretrained:
    """Layers whose weights are fixed, and where they came from.

    ``layers`` is an nn.Sequential in eval mode without gradients on its weights;
    ``origin`` is "folder", "download" or "stand-in"; ``digest`` is the sha256 of the
    file of weights as it was published; ``note`` is what was said while loading.
    """

    name: str
    layers: nn.Sequential
    origin: str
    digest: str
    note: str = ""

    @property
    def is_stand_in(self) -> bool:
        """Whether the weights are random because the real ones were not to be had."""
        return self.origin == "stand-in"

    def provenance(self) -> dict:
        """Return what a run's record keeps; count is the number of parameters."""
        return {
            "name": self.name,
            "split": "weights",
            "source": self.origin,
            "sha256": self.digest,
            "count": sum(p.numel() for p in self.layers.parameters()),
        }


class Eye(Pretrained):
    """A network that looks at colour pictures, to compare sets of them."""

    @torch.inference_mode()
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return 512 numbers >= 0 a picture, (N, 512) on the CPU.

        x: (N, 3, H, W), a float type in [0, 1], H and W at least 32, any device. They
        are the mean over all places of the last feature map, for the picture resized
        to 64 x 64 and normalised as in training. Raises ValueError for other x.
        """
        _check(x)
        return torch.cat([self._look(part) for part in x.split(BATCH_SIZE)])

    def _look(self, x: torch.Tensor) -> torch.Tensor:
        # On the CPU, so that every device sees the same picture: not each of them can
        # resize with antialiasing.
        x = F.interpolate(
            x.cpu().float(), size=(SIDE, SIDE), mode="bilinear", antialias=True
        )
        mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
        x = ((x - mean) / std).to(next(self.layers.parameters()).device)
        x = x.contiguous(memory_format=torch.channels_last)
        return self.layers(x).mean(dim=(2, 3)).cpu()


def eye(device: torch.device | str = "cpu") -> Eye:
    """Return SqueezeNet 1.0 up to its last feature map, 735,424 parameters.

    The ``smoke`` profile always gets the random stand-in and never uses the network.
    Scores of different weights (see ``digest``) cannot be compared.

    Raises SettingsError if a GENLAB_* variable is not in order.
    Source: Iandola et al. 2016, https://doi.org/10.48550/arXiv.1602.07360.
    """
    found = Eye(**_obtain("SqueezeNet 1.0", _squeezenet, SQUEEZENET))
    found.layers.to(device=device, memory_format=torch.channels_last)
    return _said(found)


def vgg19(last: str = "conv5_1", device: torch.device | str = "cpu") -> Pretrained:
    """Return VGG19 from conv1_1 up to and with the layer `last`.

    The children of ``layers`` are named conv1_1, relu1_1, conv1_2, relu1_2, pool1,
    conv2_1 and so on. They take x (B, 3, H, W), RGB normalised with MEAN and STD, which
    is left to the caller; a pool halves H and W. Gradients reach x. The ``smoke``
    profile always gets the random stand-in, orthogonal filters, without network.

    The weights are those of Simonyan and Zisserman up to conv3_4 where a file holds
    them, else torchvision's. The two were trained apart: the first give activations of
    tens to hundreds, so loss weights do not carry over from one to the other.

    Raises:
        ValueError: for a layer that VGG_LAYERS does not name, or one that the weights
            at hand do not reach if no others can be had.
        SettingsError: if a GENLAB_* variable is not in order.

    Source: Simonyan and Zisserman 2015, https://doi.org/10.48550/arXiv.1409.1556.
    """
    if last not in VGG_LAYERS:
        raise ValueError(f"no layer {last!r}; there are {', '.join(VGG_LAYERS)}")
    short = VGG_LAYERS.index(last) <= VGG_LAYERS.index(SHORT_END)
    files = (VGG_SHORT,) * short + (VGG_KEPT, VGG_WHOLE)
    found = Pretrained(**_obtain("VGG19", lambda: _vgg(last), files))
    if found.is_stand_in and profile() != "smoke" and good(VGG_SHORT):
        why = found.note.rpartition("\nSTAND-IN")[0]  # none is given
        reach = VGG_LAYERS[: VGG_LAYERS.index(SHORT_END) + 1]
        raise ValueError(
            f"{last} is beyond the weights that are here, which reach these layers:"
            f" {', '.join(reach)}; choose one of them, or mend this:\n{why}"
        )
    found.layers.to(device)
    return _said(found)


def deepest() -> str:
    """Return the deepest convolution that `vgg19` can give without a large download.

    "conv3_4" if only the shorter file of weights is at hand, else "conv5_1", the last
    one that `vgg19` knows; without any file it is downloaded or random.
    """
    if profile() == "smoke" or not good(VGG_SHORT):
        return "conv5_1"
    return "conv5_1" if good(VGG_KEPT) or good(VGG_WHOLE) else "conv3_4"


def _said(found: Pretrained) -> Pretrained:
    if found.note:
        print(found.note)
    return found


def _check(x: torch.Tensor) -> None:
    if not torch.is_tensor(x) or x.ndim != 4 or x.shape[1] != 3:
        raise ValueError("the eye looks at colour pictures of shape (N, 3, H, W)")
    if min(x.shape[2:]) < 32:
        raise ValueError(
            f"the eye needs pictures of at least 32 x 32 pixels, not {tuple(x.shape)}"
        )
    if not x.is_floating_point():
        raise ValueError(
            f"the eye looks at float values in [0, 1], not {x.dtype}; divide uint8 by"
            " 255 (x.float() / 255)"
        )
    if len(x) == 0 or not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        raise ValueError(
            "the eye looks at pictures with values in [0, 1], at least one; bring a"
            " generator's [-1, 1] there with (x + 1) / 2"
        )


def _squeezenet() -> nn.Sequential:
    from torchvision.models import squeezenet1_0  # slow to import, not always needed

    return squeezenet1_0(weights=None).features


def _vgg(last: str) -> nn.Sequential:
    layers, channels = nn.Sequential(), 3
    for name in VGG_LAYERS[: VGG_LAYERS.index(last) + 1]:
        if name.startswith("conv"):
            width = WIDTHS[int(name[4]) - 1]
            layer = nn.Conv2d(channels, width, 3, padding=1)
            nn.init.orthogonal_(layer.weight, gain=2**0.5)
            nn.init.zeros_(layer.bias)
            channels = width
        else:  # not in place: a notebook reads the values before it as well
            layer = nn.ReLU() if name.startswith("relu") else nn.MaxPool2d(2)
        layers.add_module(name, layer)
    return layers


def _obtain(name: str, build: Callable[[], nn.Sequential], files) -> dict:
    """Return the fields of a Pretrained; build makes its layers at random."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        layers = build().eval().requires_grad_(False)
    if profile() == "smoke":
        return _stand_in(name, layers, "The smoke profile uses no real weights. ")
    try:
        origin, digest, note = weight_files.fill(layers, name, files)
    except DownloadError as error:
        return _stand_in(name, layers, weight_files.explanation(name, error))
    found = {"origin": origin, "digest": digest, "note": note}
    return {"name": name, "layers": layers, **found}


def _stand_in(name: str, layers: nn.Sequential, why: str) -> dict:
    hashed = hashlib.sha256()
    for value in layers.state_dict().values():
        hashed.update(value.numpy().tobytes())
    label = f"{name} (random stand-in)"
    return {
        "name": label,
        "layers": layers,
        "origin": "stand-in",
        "digest": hashed.hexdigest(),
        "note": f"{why}STAND-IN: {label}, its filters have learned NOTHING.",
    }
