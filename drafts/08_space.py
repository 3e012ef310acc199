import sys, time, math, os

import torch, torch.nn.functional as F
from torch import nn
from genlab_helpers import data, metrics
from genlab_helpers.earlier import ConvEncoder, ConvDecoder
def wiggle(x, rng, shift=2.0, turn=10.0, slant=0.2, zoom=0.0):
    by = 2 * torch.rand(5, len(x), generator=rng) - 1
    angle, reach = math.radians(turn) * by[0], 2 * shift / 28
    s = torch.exp(zoom * by[4])
    cos, sin = s * angle.cos(), s * angle.sin()
    across = torch.stack((cos, slant * by[3] - sin, reach * by[1]), dim=1)
    down = torch.stack((sin, cos, reach * by[2]), dim=1)
    grid = F.affine_grid(torch.stack((across, down), dim=1), x.shape, align_corners=False)
    return F.grid_sample(x, grid, align_corners=False)
def cutout(x, rng, side=10):
    c = torch.rand(len(x), 2, 1, generator=rng) * 28
    near = (torch.arange(28) - c).abs() < side / 2
    sq = near[:, 0, :, None] & near[:, 1, None, :]
    return x * ~sq[:, None]
def space(kind, x, seed=0, epochs=8, rate=3e-3, code=10, batch=256, zoom=0.0):
    torch.manual_seed(seed); rng = torch.Generator().manual_seed(seed)
    enc, dec = ConvEncoder(code, False), ConvDecoder(code)
    opt = torch.optim.Adam([*enc.parameters(), *dec.parameters()], rate, fused=True)
    n = epochs * math.ceil(len(x) / batch)
    sch = torch.optim.lr_scheduler.CosineAnnealingLR(opt, n)
    t = time.time()
    for e in range(epochs):
        tot = 0
        for rows in torch.randperm(len(x), generator=rng).split(batch):
            b = x[rows]
            if kind == "plain": inp = out = b
            elif kind == "moved": inp = out = wiggle(b, rng, zoom=zoom)
            elif kind == "canon": inp, out = wiggle(b, rng, zoom=zoom), b
            elif kind == "cut": inp, out = cutout(wiggle(b, rng, zoom=zoom), rng), b
            loss = F.mse_loss(dec(enc(inp)), out)
            opt.zero_grad(); loss.backward(); opt.step(); sch.step(); tot += loss.item() * len(b)
        print(kind, seed, e, f"{tot/len(x):.4f} {time.time()-t:.0f} s", flush=True)
    enc.eval()
    with torch.no_grad(): return torch.cat([enc(p) for p in x.split(2000)]), enc, dec
if __name__ == "__main__":
    which, kind, seed, epochs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    d = (data.mnist if which == "mnist" else data.fashion_mnist)("train")
    z, enc, dec = space(kind, d.images, seed, epochs)
    torch.save({"z": z, "y": d.labels, "enc": enc.state_dict()}, f"{which}_{kind}_{seed}.pt")
