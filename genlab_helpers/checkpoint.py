"""Save the state of a training so that a killed run goes on where it was.

A state is made of tensors, numbers, texts, lists and dictionaries, such as the
``state_dict()`` of a network or an optimiser; loading never runs code from a file.
"""

import hashlib
import io
import json
import pickle
import time
from pathlib import Path
from typing import Any

import torch
from IPython import get_ipython

from genlab_helpers import storage
from genlab_helpers.record import RunRecord

FOLDER = "runs"


class Checkpoint:
    """The latest state of one training of a chapter, in one file.

    name: of the training, such as "fashion". record: the chapter's `RunRecord`, which
    is told the seconds that an earlier run had spent. The file is
    ``runs/<chapter>/<profile>/<hash>/<name>.pt`` in the folder of the course, or the
    current one outside it. The hash is that of the settings, of the data in use and of
    all cells run so far, so that an edited setting or cell, or other data, starts
    afresh. In ``smoke`` nothing is written or read.
    """

    def __init__(self, name: str, record: RunRecord):
        facts = record.to_dict()
        self.path: Path | None = None
        self._record = record
        self._started = time.perf_counter()
        self._earlier: float | None = None  # seconds of an earlier run, once known
        if facts["profile"] != "smoke":
            # Digests only: what was a download in one run is a folder in the next.
            digests = [used["sha256"] for used in facts["data"]]
            about = [facts["settings"], digests, _cells()]
            text = json.dumps(about, sort_keys=True)
            key = hashlib.sha256(text.encode()).hexdigest()[:16]
            folder = _root() / FOLDER / facts["chapter"] / facts["profile"] / key
            self.path = folder / f"{name}.pt"

    def save(self, **state: Any) -> None:
        """Replace the state in one step: a kill leaves the old file or the new one."""
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._earlier = self._earlier or 0.0
        seconds = self._earlier + time.perf_counter() - self._started
        content = io.BytesIO()
        torch.save({"state": state, "seconds": seconds}, content)
        storage.write(content.getvalue(), self.path)

    def load(self) -> dict[str, Any] | None:
        """Return the state saved last, on the CPU, or None if there is none.

        Raises ValueError for a file that is damaged or holds anything but plain data;
        the file is left as it is.
        """
        if self.path is None or not self.path.is_file():
            return None
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
            state, seconds = saved["state"], saved["seconds"]
        except (RuntimeError, EOFError, pickle.UnpicklingError, LookupError) as error:
            raise ValueError(
                f"The checkpoint {FOLDER}/.../{self.path.parent.name}/{self.path.name}"
                f" cannot be read ({type(error).__name__}); delete it to start this"
                " training afresh"
            ) from error
        if self._earlier is None:  # else this run itself has saved or loaded it
            self._record.resume(seconds)
            self._earlier, self._started = seconds, time.perf_counter()
        return state


def _cells() -> list[str]:
    """Return the code that this notebook has run so far; nothing outside one."""
    shell = get_ipython()
    return list(shell.user_ns.get("In", [])) if shell else []


def _root() -> Path:
    """Return the course's folder, where a notebook's folder lies in it."""
    here = Path.cwd()
    return here.parent if (here.parent / "_toc.yml").is_file() else here
