"""Small classifiers that score generated images (chapters 3 to 5).

Their weights come with the package, trained once by this module's own command:

    python -m genlab_helpers.judge MNIST

which needs the real data and a few minutes. Nothing is trained at import. The layer of
64 numbers before the last is the space in which Fréchet distances are measured.
"""

import hashlib
import io
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import OneCycleLR

from genlab_helpers import data, runtime

FOLDER = Path(__file__).parent / "weights"
LOADERS = {"MNIST": data.mnist, "Fashion-MNIST": data.fashion_mnist}
EPOCHS = {"MNIST": 5, "Fashion-MNIST": 9}
BATCH_SIZE, RATE, SEED = 128, 3e-3, 0
SHIFT = 2  # pixels that training images are moved by, at most
MIRRORED = {"MNIST": False, "Fashion-MNIST": True}  # a mirrored shoe is a shoe
SHA256 = {  # of the shipped weights
    "MNIST": "d2827073b63b3577fe3ce22ec2cdd53f5a67d9083cc3efc1955ca3f1923efe3b",
    "Fashion-MNIST": "5b32da5f360f8e572d8de882ea73eab6da39b07de5859f8edd29a30fd7478cb9",
}


class Judge(nn.Module):
    """A classifier of images x (B, 1, 28, 28) in [0, 1] into ten classes."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            *_block(1, 32, stride=1),
            *_block(32, 32, stride=2),
            *_block(32, 64, stride=1),
            *_block(64, 64, stride=2),
            nn.Flatten(),
            nn.Dropout(0.3),
            nn.Linear(64 * 7 * 7, 64),
            nn.Tanh(),
        )
        self.head = nn.Linear(64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return one score a class (logits), (B, 10), with a gradient."""
        return self.head(self.body(x))

    @torch.inference_mode()
    def features(self, x: torch.Tensor) -> torch.Tensor:
        """Return the 64 numbers in [-1, 1] behind the scores: (N, 64) on the CPU.

        x: (N, 1, 28, 28) in [0, 1], any device; worked on 1,000 at a time.
        """
        _check(x)
        device = self.head.weight.device
        return torch.cat([self.body(part.to(device)).cpu() for part in x.split(1000)])

    @torch.inference_mode()
    def classify(self, x: torch.Tensor) -> torch.Tensor:
        """Return the class of each image, (N,) int64 on the CPU; x as in `features`."""
        features = self.features(x).to(self.head.weight.device)
        return self.head(features).argmax(dim=1).cpu()


def load(name: str, device: torch.device | str = "cpu") -> Judge:
    """Return the judge of "MNIST" or "Fashion-MNIST", ready to score.

    Raises ValueError for another name or if the shipped weights are damaged.
    """
    path = _path(name)
    content = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise ValueError(
            f"{path.name} is missing or not the file that the course ships;"
            " install genlab-helpers again"
        )
    judge = Judge()
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    judge.load_state_dict({key: value.float() for key, value in state.items()})
    return judge.to(device).eval().requires_grad_(False)


def train(name: str, epochs: int | None = None) -> Judge:
    """Train a judge on randomly shifted training images; return it in eval mode."""
    runtime.seed_everything(SEED)
    epochs = epochs or EPOCHS[name]
    device = runtime.pick_device()
    real = LOADERS[name]("train")
    x, y = real.images.to(device), real.labels.to(device)
    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=1e-2)
    steps = epochs * -(-len(x) // BATCH_SIZE)
    schedule = OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(epochs):
        judge.train()
        for rows in torch.randperm(len(x), device=device).split(BATCH_SIZE):
            logits = judge(_vary(x[rows], MIRRORED[name]))
            loss = F.cross_entropy(logits, y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(
            f"{name}: epoch {epoch + 1} of {epochs}, last loss {loss:.3f}", flush=True
        )
    return judge.eval()


def accuracy(judge: Judge, images: torch.Tensor, labels: torch.Tensor) -> float:
    """Return the share of images (N, 1, 28, 28) that get their label (N,)."""
    return (judge.classify(images) == labels.cpu()).float().mean().item()


def _block(inputs: int, outputs: int, stride: int) -> list[nn.Module]:
    layer = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return [layer, nn.BatchNorm2d(outputs), nn.ReLU()]


def _vary(x: torch.Tensor, mirrored: bool) -> torch.Tensor:
    """Move each image by up to SHIFT pixels; mirror half of them where that is fair."""
    near = torch.arange(28, device=x.device)
    down, across = torch.randint(0, 2 * SHIFT + 1, (2, len(x), 1), device=x.device)
    rows, columns = (near + down)[:, :, None], (near + across)[:, None, :]
    each = torch.arange(len(x), device=x.device)[:, None, None]
    x = F.pad(x, (SHIFT,) * 4)[each, 0, rows, columns][:, None]  # (B, 1, 28, 28)
    if mirrored:
        flip = torch.rand(len(x), 1, 1, 1, device=x.device) < 0.5
        x = torch.where(flip, x.flip(3), x)
    return x


def _check(x: torch.Tensor) -> None:
    if not torch.is_tensor(x) or x.ndim != 4 or x.shape[1:] != (1, 28, 28):
        raise ValueError("a judge scores images of shape (N, 1, 28, 28)")
    if len(x) == 0 or not (x.min() >= -1e-3 and x.max() <= 1 + 1e-3):
        raise ValueError(
            "a judge scores images with values in [0, 1], at least one; bring a"
            " generator's [-1, 1] there with (x + 1) / 2"
        )


def _path(name: str) -> Path:
    if name not in SHA256:
        raise ValueError(f"there is a judge of {', '.join(SHA256)}, not of {name!r}")
    return FOLDER / f"{name.lower()}.pt"


def main(names: list[str]) -> None:
    """Train the judges that are named, say how good they are, write their weights."""
    for name in names or list(SHA256):
        path, test = _path(name), LOADERS[name]("test")
        if test.is_stand_in:
            sys.exit("A judge must be trained on the real data.")
        judge = train(name).cpu()
        half = {key: value.half() for key, value in judge.state_dict().items()}
        judge.load_state_dict({key: value.float() for key, value in half.items()})
        FOLDER.mkdir(exist_ok=True)
        torch.save(half, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{name}: test accuracy {accuracy(judge, test.images, test.labels):.4f}")
        print(f"{path.name}: {path.stat().st_size:,} bytes, sha256 {digest}")


if __name__ == "__main__":
    main(sys.argv[1:])
