"""A training on the pretended GPU gives the numbers of one on the CPU."""

import io
from functools import partial

import torch
import torch.nn.functional as F
from pretend_gpu import pretended_gpu
from torch import nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


def game(device):
    """Three steps of a small GAN with all that the chapters use; return its losses."""
    torch.manual_seed(0)
    g = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 9))
    d = [spectral_norm(nn.Conv2d(1, 4, 2)), nn.Dropout(0.3), nn.Flatten()]
    g, d, losses, kept = g.to(device), nn.Sequential(*d, nn.Linear(16, 1)), [], ()
    average = AveragedModel(g, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    adam = partial(torch.optim.Adam, lr=0.01, betas=(0.5, 0.999), fused=True)
    parts = g, d.to(device), average, adam(d.parameters()), adam(g.parameters())
    for _ in range(3):
        for part, state in zip(parts, kept, strict=False):
            part.load_state_dict(state)
        for i in (0, 1):
            z = torch.randn(6, 4, generator=torch.Generator().manual_seed(i)).to(device)
            with torch.autocast(torch.device(device).type, torch.bfloat16):
                logits = d(g(z).unflatten(1, (1, 3, 3)))
            target = torch.full_like(logits, float(i), dtype=torch.float32)
            loss = F.binary_cross_entropy_with_logits(logits.float(), target)
            parts[3 + i].zero_grad()
            loss.backward()
            parts[3 + i].step()
            losses.append(loss.item())
        average.update_parameters(g)
        torch.save([part.state_dict() for part in parts], file := io.BytesIO())
        kept = torch.load(io.BytesIO(file.getvalue()), map_location="cpu")
    with torch.inference_mode():
        return [*losses, d(average(z).unflatten(1, (1, 3, 3))).sum().item()]


def test_a_game_is_bit_equal_to_that_of_the_cpu():
    with pretended_gpu():
        found = game("cuda")
    assert found == game("cpu")
