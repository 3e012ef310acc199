"""Execute a chapter in a fresh kernel, stamp it, and only then replace the old file."""

import os
import re
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from genlab_helpers import exports, gate, pairs, settings, stamps
from genlab_helpers.pairs import ChapterError

# The attachment that opens a chapter, by its kind.
PICTURES = {"image/png": "result.png", "image/jpeg": "result.jpg"}
PICTURE_TAG = "result-picture"  # the cell that draws it
ANSI = re.compile(r"\x1b\[[0-9;]*m")
OVERWRITTEN = re.compile(r"[^\n]*\r(?!\n)")  # by a progress bar's next state
STARTUP = 120  # seconds a kernel may take to answer for the first time
SILENCE = 60  # seconds to wait for outputs after a cell is done


def run(root: Path, stem: str, profile: str | None = None) -> Path:
    """Execute a chapter's .py, write the stamped notebook and return its path.

    A run in `smoke` or on a stand-in must not replace a published one: it goes to
    `_build/smoke/` or `_build/stand-in/`, any other to `notebooks/`. Raises
    SettingsError for a bad GENLAB_* variable and ChapterError, saying which cell
    failed; the old notebook is then as it was.
    """
    settings.check_environment()
    address = pairs.repository(root)
    book = pairs.render(pairs.read_source(pairs.source_path(root, stem)), address)
    with tempfile.TemporaryDirectory(prefix="genlab-") as exported:
        environment = kernel_environment(profile) | {"GENLAB_EXPORTS": exported}
        _execute(book, root / pairs.FOLDER, environment)
        written = {path.name: path.read_bytes() for path in Path(exported).iterdir()}
    for cell in stamps.code_cells(book):
        cell.outputs = _tidy(cell.outputs)
    _check_ending(book)
    _attach_picture(book)
    book = nbformat.reads(nbformat.writes(book), as_version=4)  # as a reader gets it
    book.metadata["genlab"] = stamp = stamps.make_stamp(book, stem, address)
    path = pairs.notebook_path(root, stem)
    if stamp["profile"] == "smoke":
        path = root / "_build" / "smoke" / path.name
    elif any(use.get("source") == "stand-in" for use in stamp["data"]):
        path = root / "_build" / "stand-in" / path.name
    else:
        _replace_exports(exports.folder(root, stem), written)
    pairs.write(path, book)
    return path


def _replace_exports(place: Path, written: dict[str, bytes]) -> None:
    """Let a folder hold these files and no others."""
    for path in place.glob("*"):
        if path.name not in written:
            path.unlink()
    for name, content in written.items():
        place.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(content)


def kernel_environment(profile: str | None) -> dict[str, str]:
    """Return the environment of the kernel, GENLAB_DATA as an absolute path."""
    environment = dict(os.environ)
    # Set, it would keep figures out of the notebook.
    environment.pop("MPLBACKEND", None)
    if folder := settings.data_path():
        environment["GENLAB_DATA"] = str(folder)
    if profile:
        environment["GENLAB_PROFILE"] = profile
    return environment


def _execute(book: NotebookNode, folder: Path, environment: dict[str, str]) -> None:
    try:
        from jupyter_client import AsyncKernelManager
        from jupyter_client.kernelspec import KernelSpecManager
        from nbclient import NotebookClient
    except ImportError as error:
        raise ChapterError(
            f"Running a chapter needs the full environment ({error}); use make run,"
            " or install requirements.lock."
        ) from error
    # Without folders to search, what is left is the kernel of this very interpreter.
    kernels = KernelSpecManager(kernel_dirs=[])
    # The state of widgets stays in the client: told to forget it (with
    # store_widget_state=False), nbclient fails at an ipywidgets.interact that prints.
    client = NotebookClient(
        book,
        km=AsyncKernelManager(kernel_spec_manager=kernels, transport_encryption="auto"),
        timeout=None,
        startup_timeout=STARTUP,
        iopub_timeout=SILENCE,
        raise_on_iopub_timeout=True,
        record_timing=False,
        force_raise_errors=True,
        shutdown_kernel="immediate",
    )
    with ExitStack() as stack:
        # Nobody's own start-up files take part in a published run.
        environment["IPYTHONDIR"] = stack.enter_context(
            tempfile.TemporaryDirectory(prefix="genlab-", ignore_cleanup_errors=True)
        )
        kernel = client.setup_kernel(cleanup_kc=True, cwd=str(folder), env=environment)
        stack.enter_context(kernel)
        _execute_cells(client)


def _execute_cells(client) -> None:
    from nbclient.exceptions import (
        CellControlSignal,
        CellExecutionError,
        DeadKernelError,
    )

    total = len(stamps.code_cells(client.nb))
    done = 0
    for index, cell in enumerate(client.nb.cells):
        if cell.cell_type != "code" or not cell.source.strip():
            continue
        done += 1
        label = cell.source.strip().splitlines()[0][:60]
        _say(f"[{done:>{len(str(total))}}/{total}] {label} ... ")
        started = time.perf_counter()
        where = f"Cell {index + 1} ({label!r}) failed: "
        try:
            client.execute_cell(cell, index)
        except CellExecutionError as error:
            trace = ANSI.sub("", error.traceback)
            what = f"{where}{error.ename}: {error.evalue}"
            raise ChapterError(f"{trace.rstrip()}\n\n{what}") from None
        except DeadKernelError:
            raise ChapterError(f"{where}the kernel died; was memory short?") from None
        except CellControlSignal as error:
            raise ChapterError(f"{where}{error}") from None
        _say(f"{time.perf_counter() - started:.1f} s\n")


def _say(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def _tidy(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join pieces of one stream, keep a progress bar's last state, drop widgets."""
    tidy: list[NotebookNode] = []
    for output in outputs:
        if gate.WIDGET in output.get("data", {}):
            continue
        same = tidy and output.output_type == "stream" == tidy[-1].output_type
        if same and tidy[-1].name == output.name:
            tidy[-1].text += output.text
        else:
            tidy.append(output)
    for output in tidy:
        if output.output_type == "stream":
            output.text = OVERWRITTEN.sub("", output.text)
    return tidy


def _check_ending(book: NotebookNode) -> None:
    """Refuse code after the run card that its time would not cover."""
    cells = [c for c in stamps.code_cells(book) if "solution" not in _tags(c)]
    last = cells[-1].outputs if cells else []
    if not any(stamps.MIME in output.get("data", {}) for output in last):
        raise ChapterError(
            "The last code cell, solutions apart, shows no run card;"
            " let it end with record.card()."
        )


def _attach_picture(book: NotebookNode) -> None:
    """Copy the result picture into the opening cell, which shows it."""
    opening = next((c for c in book.cells if c.cell_type == "markdown"), None)
    wanted = [
        (kind, name)
        for kind, name in PICTURES.items()
        if opening is not None and f"(attachment:{name})" in opening.source
    ]
    for kind, name in wanted:
        images = [
            output["data"][kind]
            for cell in stamps.code_cells(book)
            if PICTURE_TAG in _tags(cell)
            for output in cell.outputs
            if kind in output.get("data", {})
        ]
        if not images:
            raise ChapterError(
                f"The opening cell shows (attachment:{name}), but no cell tagged"
                f" {PICTURE_TAG!r} drew a picture of this kind."
            )
        opening.attachments = {name: {kind: images[0]}}


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])
