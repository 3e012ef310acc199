"""Train the classifiers that score generated images in chapters 3 to 5.

    python notebooks/scripts/train_judges.py MNIST Fashion-MNIST

It needs the real data and a few minutes for each, writes the weights into the package
and prints the line that belongs into ``JUDGES`` of genlab_helpers/networks.py.
"""

import argparse
import hashlib

import torch
import torch.nn.functional as F
from torch.optim.lr_scheduler import OneCycleLR

from genlab_helpers import data, runtime
from genlab_helpers.networks import FOLDER, Judge, accuracy

LOADERS = {"MNIST": data.mnist, "Fashion-MNIST": data.fashion_mnist}
EPOCHS = {"MNIST": 5, "Fashion-MNIST": 9}
MIRRORED = {"MNIST": False, "Fashion-MNIST": True}  # a mirrored shoe is a shoe
BATCH_SIZE, RATE, SEED = 128, 3e-3, 0
SHIFT = 2  # pixels that training images are moved by, at most


def train(name: str, epochs: int) -> Judge:
    """Train a judge on randomly shifted training images; return it in eval mode."""
    runtime.seed_everything(SEED)
    device = runtime.pick_device()
    real = LOADERS[name]("train")
    x, y = real.images.to(device), real.labels.to(device)
    judge = Judge().to(device)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=RATE, weight_decay=1e-2)
    steps = epochs * -(-len(x) // BATCH_SIZE)
    schedule = OneCycleLR(optimizer, RATE, total_steps=steps)
    for epoch in range(1, epochs + 1):
        judge.train()
        for rows in torch.randperm(len(x), device=device).split(BATCH_SIZE):
            logits = judge(vary(x[rows], MIRRORED[name]))
            loss = F.cross_entropy(logits, y[rows], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"{name}: epoch {epoch} of {epochs}, last loss {loss:.3f}", flush=True)
    return judge.eval()


def vary(x: torch.Tensor, mirrored: bool) -> torch.Tensor:
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


def main() -> None:
    """Train the judges that are named, say how good they are, write their weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=LOADERS, metavar="NAME")
    for name in parser.parse_args().names:
        test = LOADERS[name]("test")
        if test.is_stand_in:
            parser.error("a judge must be trained on the real data")
        judge = train(name, EPOCHS[name]).cpu()
        half = {key: value.half() for key, value in judge.state_dict().items()}
        judge.load_state_dict({key: value.float() for key, value in half.items()})
        path = FOLDER / f"{name.lower()}.pt"
        torch.save(half, path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        print(f"{name}: test accuracy {accuracy(judge, test.images, test.labels):.4f}")
        print(f'    "{name}": "{digest}",')


if __name__ == "__main__":
    main()
