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

import torch
from IPython import get_ipython

from genlab_helpers import files
from genlab_helpers.record import RunRecord


class Checkpoint:
    """The latest state of one training of a chapter, in one file.

    name: of the training, such as "fashion". record: the chapter's `RunRecord`, which
    is told the seconds that an earlier run had spent. The file is
    ``runs/<chapter>/<profile>/<hash>/<name>.pt`` in the course's folder, else in the
    current one. The hash is that of the settings, the data in use and all cells run so
    far, so that other ones start afresh. In ``smoke`` nothing is written or read.
    """

    def __init__(self, name: str, record: RunRecord):
        facts, shell, here = record.to_dict(), get_ipython(), Path.cwd()
        cells = list(shell.user_ns.get("In", [])) if shell else []
        # Digests only: what was a download in one run is a folder in the next.
        digests = [used["sha256"] for used in facts["data"]]
        about = json.dumps([facts["settings"], digests, cells], sort_keys=True)
        key = hashlib.sha256(about.encode()).hexdigest()[:16]
        root = here.parent if (here.parent / "_toc.yml").is_file() else here
        folder = root / "runs" / facts["chapter"] / facts["profile"] / key
        self.path = folder / f"{name}.pt"
        self._off = facts["profile"] == "smoke"
        self._record, self._started = record, time.perf_counter()
        self._earlier: float | None = None  # seconds of an earlier run, once known

    def save(self, **state) -> None:
        """Replace the state in one step: a kill leaves the old file or the new one."""
        if self._off:
            return
        self._earlier = self._earlier or 0.0
        seconds = self._earlier + time.perf_counter() - self._started
        content = io.BytesIO()
        torch.save({"state": state, "seconds": seconds}, content)
        files.write(content.getvalue(), self.path)

    def load(self) -> dict | None:
        """Return the state saved last, on the CPU, or None if there is none.

        Raises ValueError for a file that is damaged or holds code, and leaves it.
        """
        if self._off or not self.path.is_file():
            return None
        try:
            saved = torch.load(self.path, map_location="cpu", weights_only=True)
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
