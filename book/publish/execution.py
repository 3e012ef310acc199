"""Execute a chapter in a fresh kernel, stamp it, and only then replace the old file."""

import functools
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import nbformat
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import KernelSpecManager
from nbclient import NotebookClient, exceptions
from nbclient.output_widget import OutputWidget
from nbformat import NotebookNode

from publish import ChapterError, chapters, gate, stamps

# The attachment that opens a chapter, by its kind.
PICTURES = {"image/png": "result.png", "image/jpeg": "result.jpg"}
ROOM = 100_000_000  # bytes
PICTURE_TAG = "result-picture"  # the cell that draws it
ANSI = re.compile(r"\x1b\[[0-9;]*m")
OVERWRITTEN = re.compile(r"^.*\r(?!\n)", re.MULTILINE)  # by a bar's next state


def run(root: Path, stem: str, profile: str | None = None) -> tuple[Path, str]:
    """Execute a chapter's .py, write the stamped notebook and return its path.

    With it comes what is wrong with tokens in the prose, for which no hours of work
    are lost. A run in `smoke` or on a stand-in must not replace a published one: it
    goes to a folder of `_build/`. Raises ChapterError, saying which cell failed.
    """
    address, helpers = chapters.repository(root), stamps.helpers_digest(root)
    source = chapters.read_source(chapters.source_path(root, stem))
    book, path = chapters.render(source, address), chapters.notebook_path(root, stem)
    with tempfile.TemporaryDirectory(prefix="genlab-") as exports:
        environment = _environment(profile, exports)
        _check_start(path.parent, environment)
        _execute(book, path.parent, environment)
        _check_ending(book)
        _attach_picture(book)
        book = nbformat.reads(nbformat.writes(book), as_version=4)  # as readers get it
        card = stamps.card(book, stem)
        book.metadata["genlab"] = stamps.make_stamp(book, address, helpers)
        if card["profile"] == "smoke":
            path = root / "_build" / "smoke" / path.name
        elif any(use.get("source") == "stand-in" for use in card["data"]):
            path = root / "_build" / "stand-in" / path.name
        else:
            place = chapters.exports_folder(root, stem)
            shutil.rmtree(place, ignore_errors=True)
            if os.listdir(exports):
                shutil.copytree(exports, place)
    problems, measured = "", chapters.numbers(root, stem, book)
    try:
        filled = chapters.render(source, address, measured).cells
    except ChapterError as error:
        filled, problems = book.cells, str(error)
    for cell, wanted in zip(book.cells, filled, strict=True):
        cell.source, cell.id = wanted.source, wanted.id
    try:
        chapters.write(path, book)
    except ChapterError as error:  # hours may stand in it
        chapters.write(saved := Path(tempfile.mkdtemp(), path.name), book)
        error.add_note(f"The notebook of this run is {saved}.")
        raise
    return path, problems


def _environment(profile: str | None, exports: str) -> dict[str, str]:
    environment = os.environ | {"GENLAB_EXPORTS": exports}
    environment.pop("MPLBACKEND", None)  # it would keep figures out of the notebook
    if folder := environment.get("GENLAB_DATA", "").strip():  # seen from here
        environment["GENLAB_DATA"] = os.path.abspath(os.path.expanduser(folder))
    return environment | ({"GENLAB_PROFILE": profile} if profile else {})


def _check_start(folder: Path, environment: dict[str, str]) -> None:
    """Refuse what would spoil a run at its end: no room, or imports that complain."""
    if (free := shutil.disk_usage(folder).free) < ROOM:
        raise ChapterError(f"{folder}: {free / 1e6:.0f} MB are free; make room first.")
    command = [sys.executable, "-c", "import matplotlib.pyplot"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if said := (done.stdout + done.stderr).strip():
        raise ChapterError(
            f"Importing Matplotlib says, and in a chapter would print:\n{said}\n"
            "Mend this first; often it helps to set MPLCONFIGDIR to a folder of yours."
        )


class Output(OutputWidget):
    """A widget's output area that sends nothing back to the kernel.

    What nbclient's sends passes its event loop by, which then may miss the message that
    the cell is done and wait for ever. Nobody looks at this area in a run.
    """

    def sync_state(self) -> None:
        """Do nothing."""


def _execute(book: NotebookNode, folder: Path, environment: dict[str, str]) -> None:
    # Without folders to search, what is left is the kernel of this very interpreter.
    kernels = KernelSpecManager(kernel_dirs=[])
    # The state of widgets stays in the client: told to forget it (with
    # store_widget_state=False), nbclient fails at an ipywidgets.interact that prints.
    client = NotebookClient(
        book,
        km=AsyncKernelManager(kernel_spec_manager=kernels, transport_encryption="auto"),
        timeout=None,
        startup_timeout=120,  # seconds until the first answer
        iopub_timeout=60,  # seconds to wait for outputs after a cell is done
        raise_on_iopub_timeout=True,
        record_timing=False,
        force_raise_errors=True,
        shutdown_kernel="immediate",
    )
    client.widget_registry["@jupyter-widgets/output"]["OutputModel"] = Output
    with tempfile.TemporaryDirectory("-genlab", ignore_cleanup_errors=True) as own:
        # Nobody's own start-up files take part in a published run.
        environment["IPYTHONDIR"] = own
        with client.setup_kernel(cleanup_kc=True, cwd=str(folder), env=environment):
            _execute_cells(client)


def _execute_cells(client: NotebookClient) -> None:
    total, done = len(stamps.code_cells(client.nb)), 0
    say = functools.partial(print, end="", file=sys.stderr, flush=True)
    for index, cell in enumerate(client.nb.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        done += 1
        label = cell.source.strip().splitlines()[0][:60]
        say(f"[{done:>{len(str(total))}}/{total}] {label} ... ")
        started = time.perf_counter()
        where = f"Cell {index + 1} ({label!r}) failed: "
        try:
            client.execute_cell(cell, index)
        except exceptions.CellExecutionError as error:
            trace = ANSI.sub("", error.traceback)
            what = f"{where}{error.ename}: {error.evalue}"
            raise ChapterError(f"{trace.rstrip()}\n\n{what}") from None
        except exceptions.DeadKernelError:
            raise ChapterError(f"{where}the kernel died; was memory short?") from None
        except exceptions.CellControlSignal as error:
            raise ChapterError(f"{where}{error}") from None
        cell.outputs = _tidy(cell.outputs)
        say(f"{time.perf_counter() - started:.1f} s\n")


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join pieces of one stream, keep a progress bar's last state, drop widgets."""
    tidy: list[NotebookNode] = []
    for output in outputs:
        if gate.WIDGET in output.get("data", {}):
            continue
        if tidy and "name" in output and output.name == tidy[-1].get("name"):
            tidy[-1].text += output.text
        else:
            tidy.append(output)
    for output in tidy:
        if "text" in output:
            output.text = OVERWRITTEN.sub("", output.text)
    return tidy


def _check_ending(book: NotebookNode) -> None:
    """Refuse code after the run card that its time would not cover."""
    cells = stamps.code_cells(book)
    cells = [c for c in cells if "solution" not in c.metadata.get("tags", [])]
    last = cells[-1].outputs if cells else []
    if not any(stamps.MIME in output.get("data", {}) for output in last):
        raise ChapterError(
            "The last code cell, solutions apart, shows no run card;"
            " let it end with record.card()."
        )


def _attach_picture(book: NotebookNode) -> None:
    """Copy the result picture into the opening cell, which shows it."""
    cells = stamps.code_cells(book)
    drawn = [c for c in cells if PICTURE_TAG in c.metadata.get("tags", [])]
    shown = [output.get("data", {}) for cell in drawn for output in cell.outputs]
    for kind, name in PICTURES.items():
        if f"(attachment:{name})" not in book.cells[0].source:
            continue
        images = [data[kind] for data in shown if kind in data]
        if not images:
            raise ChapterError(
                f"The opening cell shows (attachment:{name}), but no cell tagged"
                f" {PICTURE_TAG!r} drew a picture of this kind."
            )
        book.cells[0].attachments = {name: {kind: images[0]}}
