"""Save the state of a training so that a killed run goes on where it was.

A state is made of tensors, numbers, texts, lists and dictionaries, such as the
``state_dict()`` of a network or an optimiser; loading never runs code from a file.
"""

import ast
import hashlib
import inspect
import io
import json
import pickle
import textwrap
import time
from pathlib import Path

import torch
from IPython import get_ipython

from genlab_helpers import files
from genlab_helpers.record import RunRecord
from genlab_helpers.settings import variable


class Checkpoint:
    """The latest state of one training of a chapter, in one file.

    name: of the training, such as "fashion". record: the chapter's `RunRecord`, which
    is told the seconds that an earlier run had spent. code: the functions and classes
    that the training is made of; without it, all cells run so far count.

    The file is ``<chapter>/<profile>/<hash>/<name>.pt`` in GENLAB_RUNS, else in
    ``runs`` of the course's folder or of the current one. The hash is that of settings,
    data in use, precision and code without its comments, so that others start afresh.
    In ``smoke`` nothing is written or read.
    """

    def __init__(self, name: str, record: RunRecord, code=()):
        facts, shell, here = record.to_dict(), get_ipython(), Path.cwd()
        cells = [_tree(cell) for cell in (shell.user_ns.get("In", []) if shell else [])]
        parts = [_definition(part, cells) for part in code] or cells
        sources = dict.fromkeys(map(ast.unparse, parts))  # without repetitions
        # Digests only: what was a download in one run is a folder in the next.
        about = [facts["settings"], [used["sha256"] for used in facts["data"]]]
        about += [facts["machine"]["precision"], list(sources)]
        text = json.dumps(about, sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()[:16]
        root = here.parent if (here.parent / "_toc.yml").is_file() else here
        runs = Path(variable("GENLAB_RUNS") or root / "runs").expanduser()
        self.path = runs / facts["chapter"] / facts["profile"] / key / f"{name}.pt"
        self._off = facts["profile"] == "smoke"
        self._record, self._started = record, time.perf_counter()
        self._earlier: float | None = None  # seconds of an earlier run, once known

    def save(self, **state) -> None:
        """Replace the state in one step: a kill leaves the old file or the new one.

        Raises ValueError for NaN and for what `load` would refuse, and OSError if there
        is no room; what was saved before stays as it is.
        """
        if where := _nan(state, "state"):
            raise ValueError(
                f"{where} is NaN (epoch {state.get('epoch', 'unknown')}): the training"
                " has gone wrong, and the first suspect is its learning rate. The state"
                " saved before is kept."
            )
        earlier = self._earlier or 0.0
        seconds = earlier + time.perf_counter() - self._started
        content = io.BytesIO()
        torch.save({"state": state, "seconds": seconds}, content)
        try:
            _unpacked(content.getvalue())
        except pickle.UnpicklingError as error:
            why = "save tensors, plain numbers (x.item()) and state_dicts only"
            raise ValueError(f"This state could not be loaded: {why}") from error
        if self._off:
            return
        self._earlier = earlier
        try:
            files.write(content.getvalue(), self.path)
        except OSError as error:
            size = f"{content.tell() / 1e6:.0f} MB"
            remedy = "make room, or let GENLAB_RUNS name another folder"
            what = f"{files.shown(self.path)} ({size}): {error.strerror}; {remedy}"
            raise OSError(error.errno, what) from error

    def load(self) -> dict | None:
        """Return the state saved last, on the CPU, or None if there is none.

        Raises ValueError for a file that is damaged or holds code, and leaves it.
        """
        if self._off or not self.path.is_file():
            if not self._off and any(self.path.parents[1].glob(f"*/{self.path.name}")):
                why = "of other settings, data, precision or code is not used"
                print(f"A checkpoint {self.path.stem!r} {why}.")
            return None
        try:
            saved = _unpacked(self.path.read_bytes())
            state, seconds = saved["state"], saved["seconds"]
        except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError) as error:
            raise ValueError(
                f"The checkpoint {files.shown(self.path)} cannot be read"
                f" ({type(error).__name__}); delete it to start this training afresh"
            ) from error
        if self._earlier is None:  # else this run itself has saved or loaded it
            self._record.resume(seconds)
            self._earlier, self._started = seconds, time.perf_counter()
        return state


def _unpacked(content: bytes):
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _tree(source: str) -> ast.AST:
    """Return Python as a tree, without comments and layout; else as one text."""
    try:
        return ast.parse(textwrap.dedent(source))
    except SyntaxError:
        return ast.Constant(source)


def _definition(part, cells: list[ast.AST]) -> ast.AST:
    """Return a function or class: from the last cell that defines it, or its file."""
    if not inspect.isfunction(part) and not inspect.isclass(part):
        raise TypeError(f"code is made of functions and classes, not of {part!r}")
    nodes = [n for cell in reversed(cells) for n in getattr(cell, "body", [])]
    for node in nodes if part.__module__ == "__main__" else []:
        if getattr(node, "name", "") == part.__name__:
            return node
    return _tree(inspect.getsource(part))


def _nan(value, name: str) -> str:
    """Return the name of the first part of a state that holds NaN, or ""."""
    if isinstance(value, dict | list | tuple):
        parts = value.items() if isinstance(value, dict) else enumerate(value)
        return next(filter(None, (_nan(v, f"{name}.{k}") for k, v in parts)), "")
    numbers = isinstance(value, torch.Tensor | float)
    return name if numbers and bool(torch.as_tensor(value).isnan().any()) else ""
