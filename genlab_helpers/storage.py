"""Where dataset files lie: find a good copy, never use or lose a damaged one."""

import hashlib
import os
import secrets
import sys
import tempfile
from pathlib import Path

from genlab_helpers.download import BadFile, DownloadError, check, fetch, unpack
from genlab_helpers.settings import check_environment, data_path
from genlab_helpers.sources import Source


def data_folder() -> Path:
    """Return the folder that holds the datasets, as an absolute path.

    GENLAB_DATA names it (relative to the current directory, ``~`` expanded); else
    it is the cache folder of the user. It need not exist yet.

    Raises:
        SettingsError: if GENLAB_DATA names a file, or the environment is not in
            order otherwise.
    """
    check_environment()
    return data_path() or cache_folder()


def cache_folder() -> Path:
    """Return GenLab's cache folder in the place this system has for such things."""
    home = Path(os.path.expanduser("~"))
    if not home.is_absolute():  # a container's user may have no home
        return Path(tempfile.gettempdir()) / "genlab"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData/Local") / "genlab"
    if sys.platform == "darwin":
        return home / "Library/Caches/genlab"
    return Path(
        os.environ.get("XDG_CACHE_HOME") or home / ".cache", "genlab"
    ).absolute()


def obtain(source: Source, file_name: str) -> tuple[bytes, str, list[str]]:
    """Return one file's content, sha256 checked, from the disk or from a mirror.

    Args:
        source: the dataset.
        file_name: a key of ``source.files``.

    Returns:
        The content, where it came from ("folder" or "download"), and what the
        reader should be told (nothing, in the ordinary case).

    Raises:
        DownloadError: if there is no good copy and none could be downloaded; its
            reasons name damaged files too, which were left as they are.
    """
    folders = list(dict.fromkeys([data_folder(), cache_folder()]))
    paths = [folder / source.folder / file_name for folder in folders]
    content, problems = _find(paths, source.files[file_name])
    origin = "folder" if content is not None else "download"
    if content is None:
        try:
            content = fetch(source, file_name)
        except DownloadError as error:
            left = [f"{problem}; left as it is" for problem in problems]
            raise DownloadError(file_name, left + error.reasons) from None
    told = [f"{problem}; not used" for problem in problems]
    if origin == "download" or problems:
        told += _keep(content, paths, source.files[file_name])
    return content, origin, told


def _find(paths: list[Path], sha256: str) -> tuple[bytes | None, list[str]]:
    """Return the first good copy, raw or .gz, and what is wrong with those before."""
    problems = []
    for raw in paths:
        for path, opened in ((raw, check), (Path(f"{raw}.gz"), unpack)):
            try:
                return opened(path.read_bytes(), sha256), problems
            except (FileNotFoundError, NotADirectoryError):
                continue
            except (BadFile, OSError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                problems.append(f"{shown(path)} is damaged or unreadable: {reason}")
    return None, problems


def _keep(content: bytes, paths: list[Path], sha256: str) -> list[str]:
    """Write the content to the first path that can be written; say what was done."""
    told = []
    for path in paths:
        try:
            return told + _place(content, path, sha256)
        except OSError as error:
            folder = shown(path.parent)
            told.append(f"{folder} cannot be written to: {error.strerror}")
    return [*told, f"{paths[0].name} could not be saved, it will be fetched again"]


def _place(content: bytes, path: Path, sha256: str) -> list[str]:
    path.parent.mkdir(parents=True, exist_ok=True)
    told = []
    if path.is_file():
        old = path.read_bytes()
        found = hashlib.sha256(old).hexdigest()
        if found == sha256:  # another process was quicker
            return []
        # A copy, not a rename: no moment without a file, and no way to move the
        # good file that another process may be putting here right now.
        aside = path.with_name(f"{path.name}.damaged-{found[:8]}")
        write(old, aside)
        told = [f"the damaged file is kept as {aside.name}"]
    write(content, path)
    return [*told, f"a good copy is now {shown(path)}"]


def write(content: bytes, path: Path) -> None:
    """Write all or nothing, safe with other processes writing the same file."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def shown(path: Path) -> str:
    """Return a path as readers may see it, without the place on this machine."""
    for name, base in (
        ("GENLAB_DATA", data_path()),
        ("~", Path(os.path.expanduser("~"))),
    ):
        if base is not None and path.is_relative_to(base):
            return (Path(name) / path.relative_to(base)).as_posix()
    return str(path)
