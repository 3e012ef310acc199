"""Set up one of the two environments: python book/environment.py .venv|.venv-book.

It is made anew when its lock file, its Python or its folder is another one than last
time (an environment holds absolute paths, so a copied or moved one leads back to where
it came from), and when an installation was interrupted. Standard library only.
"""

import hashlib
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = {".venv": "requirements.lock", ".venv-book": "requirements-book.lock"}
TOOLS = {".venv": "pytest", ".venv-book": "jupyter_book"}  # that have to start


def main(name: str) -> int:
    """Make sure that an environment is complete; return 0, or 1 with a message."""
    folder, lock = ROOT / name, ROOT / LOCKS[name]
    mark = folder / "complete"  # written last
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    digest = hashlib.sha256(lock.read_bytes()).hexdigest()
    wanted = f"{folder}\n{sys.version}\n{digest}\n"
    uv = [python, "-m", "uv", "pip", "install", "-q", "--python", python]
    steps = [
        [sys.executable, "-m", "venv", "--clear", folder],
        [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "uv"],
        [*uv, "--compile-bytecode", "-r", lock],
    ]
    if name == ".venv":  # the course's package
        steps.append([*uv, "--no-build-isolation", "--no-deps", "-e", ROOT])
    with alone(ROOT / f"{name}.lock"):
        if python.exists() and mark.is_file() and mark.read_text("utf-8") == wanted:
            return 0
        print(f"Setting up {name}, which takes a minute or two.", flush=True)
        for step in [*steps, [python, "-c", f"import {TOOLS[name]}"]]:
            if subprocess.run(step, cwd=ROOT).returncode:
                said = " ".join(map(str, step))
                print(f"{name} is not complete: {said} failed. Run this again.")
                return 1
        mark.write_text(wanted, "utf-8")
    return 0


@contextmanager
def alone(path: Path):
    """Wait until no other process is here; on Windows, nobody is waited for."""
    with path.open("w") as file:
        if os.name != "nt":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
