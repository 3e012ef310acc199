"""The pretended GPU refuses what CUDA refuses, and does what CUDA does."""

import copy
import io
from contextlib import nullcontext

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pretend_gpu import pretended_gpu
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader

REAL = torch.cuda.is_available()  # then the tables below are held against CUDA itself
gpu = nullcontext if REAL else pretended_gpu
MIXED = "Expected all tensors to be on the same device, but "
TWO = MIXED + "found at least two devices, cuda:0 and cpu!"
NUMPY = r"can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu\(\) to copy"
FOUND = "Expected a 'cuda' device type for generator but found 'cpu'"
near, rows, rng = torch.rand(3, 3), torch.arange(3), torch.Generator()


def far(*shape, **options):
    return torch.rand(*shape or (3, 3), device="cuda", **options)


def recomputed(other):
    x = far(requires_grad=True)
    checkpoint(lambda x: (x * other()).exp(), x, use_reentrant=False).sum().backward()
    return x.grad


FAULTS = {
    "sum": (lambda: far() + near, TWO),
    "far number": (lambda: near * far().sum(), TWO),
    "product": (lambda: far() @ near, MIXED + "got mat2 is on cpu, different from"),
    "conv": (lambda: nn.Conv2d(1, 1, 2)(far(1, 1, 3, 3)), r"Input type \(torch.cuda.Fl"
             r"oatTensor\) and weight type \(torch.FloatTensor\) should be the same"),
    "labels": (lambda: F.cross_entropy(far(), rows), MIXED + "got target is on cpu"),
    "cat": (lambda: torch.cat([far(), near]), MIXED + "got tensors is on cpu"),
    "out": (lambda: torch.add(far(), far(), out=torch.empty(3, 3)), MIXED),
    "index": (lambda: near[rows.cuda()], "indices should be either on cpu or on the"),
    "put": (lambda: far().__setitem__(rows, near), MIXED),
    "index_add": (lambda: far().index_add(0, rows, far()), MIXED + "got index is on"),
    "gradient": (lambda: setattr(far(requires_grad=True), "grad", near),
                 "assign a gradient with device type 'cpu' to a tensor with device ty"),
    "randn": (lambda: torch.randn(3, generator=rng, device="cuda"), FOUND),
    "randperm": (lambda: torch.randperm(3, generator=rng, device="cuda"), FOUND),
    "normal_": (lambda: far().normal_(generator=rng), FOUND),
    "multinomial": (lambda: torch.multinomial(far(3), 1, generator=rng), FOUND),
    "far rng": (lambda: torch.rand(3, generator=torch.Generator("cuda")), "'cpu' devi"),
    "numpy": (lambda: far().numpy(), NUMPY),
    "picture": (lambda: plt.imshow(far()), NUMPY),
    "pinned": (lambda: far().pin_memory(), "cannot pin 'torch.cuda.FloatTensor'"),
    "integers": (lambda: rows.cuda()[None] @ rows.cuda()[:, None], "_cuda.* 'Long'"),
    "no kernel": (lambda: torch.histogram(far(9), 3), "Could not run 'aten::histogram"),
    "recomputed": (lambda: recomputed(lambda: near), TWO),
    "fused": (lambda: torch.optim.Adam([given(far().cfloat())], fused=True).step(),
              "`fused=True` requires all the params to be floating point"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_what_cuda_refuses(name):
    act, words = FAULTS[name]
    with gpu(), pytest.raises((RuntimeError, TypeError), match=words):
        act()


def given(x):
    x.requires_grad_().grad = torch.ones_like(x)
    return x


def moved():
    x = torch.ones(3, requires_grad=True)
    (x.cuda() * far(3)).sum().backward()
    return x.grad


def lbfgs():
    x = given(far(3))
    torch.optim.LBFGS([x], line_search_fn="strong_wolfe").step(lambda: x.square().sum())
    return x


def saved(place):
    torch.save({"x": far()}, file := io.BytesIO())
    return torch.load(io.BytesIO(file.getvalue()), map_location=place)["x"]


def within():
    with torch.device("cuda"):
        return nn.Linear(2, 2).weight


def scaled():
    net, scaler = nn.Linear(3, 1).cuda(), torch.amp.GradScaler("cuda")
    scaler.scale(net(far()).sum()).backward()
    scaler.step(torch.optim.AdamW(net.parameters(), fused=True))
    return net.weight.grad


FAR = {
    "number": lambda: torch.where(far() * torch.tensor(2.0) > 1, far(), torch.ones(())),
    "index": lambda: far()[rows][near > 0.5],
    "slice": lambda: [x := far(), x.__setitem__(slice(0, 2), near[:2])][0],
    "view": lambda: far().T.reshape(9).unflatten(0, (3, 3)).chunk(2)[1][0],
    "one_hot": lambda: F.one_hot(rows.cuda()).float().to(far().double()),
    "index_add": lambda: far().index_add_(0, rows.cuda(), far(), alpha=-1),
    "array": lambda: torch.as_tensor(np.ones(3), device="cuda"),
    "generator": lambda: far(generator=torch.Generator(device="cuda")),
    "shaped": torch.inference_mode()(lambda: far().expand_as(near)),
    "deepcopy": lambda: copy.deepcopy(nn.LSTM(2, 2).to("cuda")).weight_ih_l0,
    "within": within, "scaled": scaled, "saved": lambda: saved(None), "L-BFGS": lbfgs,
    "cdist": lambda: torch.cdist(far(), far()), "recomputed": lambda: recomputed(far),
}  # fmt: skip
NEAR = {
    "far place": lambda: near[rows.cuda()[1]],
    "put": lambda: [x := near.clone(), x.__setitem__(rows, far().sum())][0],
    "copy_": lambda: near.clone().copy_(far()),
    "numbers": lambda: torch.tensor([far(1)[0], far(1)[0]]),
    "shared": lambda: [torch.as_tensor(near, device="cuda"), near][1],
    "from_numpy": lambda: torch.from_numpy(far().cpu().double().numpy()),
    "loader": lambda: next(iter(DataLoader(near, 2, pin_memory=True))),
    "saved, to CPU": lambda: saved("cpu"), "moved": moved,
}  # fmt: skip


@pytest.mark.parametrize("name", FAR | NEAR)
def test_what_cuda_does(name):
    with gpu():
        found = (FAR | NEAR)[name]()
        assert str(found.device) == ("cuda:0" if name in FAR else "cpu")
    assert torch.cuda.is_available() == REAL
