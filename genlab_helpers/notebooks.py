"""The maintainer's tool: `python -m genlab_helpers.notebooks sync|run|check|results`.

It needs no torch, and to check and build the book no kernel either.
"""

import argparse
import json
import sys
from pathlib import Path

from genlab_helpers import execution, gate, pairs
from genlab_helpers.pairs import ChapterError
from genlab_helpers.results import read_bars, results, results_markdown
from genlab_helpers.settings import PROFILES, SettingsError

__all__ = ["check", "main", "read_bars", "results", "results_markdown", "run", "sync"]


def sync(root: Path, names: list[str]) -> int:
    """Carry the .py files over to the .ipynb files, of all chapters if none is named.

    Returns 0. Raises ChapterError at the first chapter that cannot be synced.
    """
    for stem in _chosen(root, names):
        changed = pairs.sync(root, stem)
        print(f"{stem}: {'written' if changed else 'already in step'}")
    return 0


def run(root: Path, name: str, profile: str | None = None) -> int:
    """Execute one chapter and say where it went and what the gate thinks of it.

    Returns 0. Raises ChapterError or SettingsError, the old notebook untouched.
    """
    stem = pairs.find_chapter(root, name)
    try:
        path = execution.run(root, stem, profile)
    except (ChapterError, SettingsError, KeyboardInterrupt) as error:
        error.add_note(f"{pairs.FOLDER}/{stem}.ipynb is as it was.")
        raise
    print(f"{stem}: written to {path.relative_to(root).as_posix()}")
    if path != pairs.notebook_path(root, stem):
        why = "in smoke" if path.parent.name == "smoke" else "on a stand-in"
        print(f"(A run {why} only tests; {pairs.FOLDER}/{stem}.ipynb is as it was.)")
        return 0
    for reason in gate.reasons(root, stem):
        print(f"The gate would refuse it. {stem}: {reason}")
    return 0


def check(root: Path, names: list[str]) -> int:
    """Print whether each chapter may be published, one line a reason against it.

    Returns 0 if all may, else 1. Raises ChapterError if there is nothing to check.
    """
    refused = False
    for stem in _chosen(root, names):
        found = gate.reasons(root, stem)
        for reason in found or ["OK"]:
            print(f"{stem}: {reason}")
        refused = refused or bool(found)
    return int(refused)


def show_results(root: Path, form: str) -> int:
    """Print the results of every published chapter as "json" or "md"."""
    if form == "md":
        print(results_markdown(root), end="")
    else:
        print(json.dumps(results(root), indent=1, ensure_ascii=False))
    return 0


def _chosen(root: Path, names: list[str]) -> list[str]:
    chosen = [pairs.find_chapter(root, name) for name in names] or pairs.chapters(root)
    if not chosen:
        raise ChapterError(
            f"There is no chapter in {root / pairs.FOLDER}; a chapter is a pair,"
            " NN_name.py and NN_name.ipynb."
        )
    return list(dict.fromkeys(chosen))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m genlab_helpers.notebooks")
    commands = parser.add_subparsers(dest="command", required=True)
    about = "a chapter: 01, 01_kmeans or a path (default: all)"
    add = commands.add_parser("sync", help="carry edits of the .py over to the .ipynb")
    add.add_argument("chapters", nargs="*", metavar="CHAPTER", help=about)
    add = commands.add_parser("run", help="execute a chapter and stamp it")
    add.add_argument("chapter", metavar="CHAPTER", help="01, 01_kmeans or a path")
    add.add_argument("--profile", choices=PROFILES, help="overrides GENLAB_PROFILE")
    add = commands.add_parser("check", help="say what must not be published, and why")
    add.add_argument("chapters", nargs="*", metavar="CHAPTER", help=about)
    add = commands.add_parser("results", help="show what the chapters measured")
    add.add_argument("--format", choices=("json", "md"), default="json")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    asked = _parser().parse_args(arguments)
    # Redirected output may have an old encoding; a strange letter must not end a run.
    sys.stdout.reconfigure(errors="replace")
    try:
        root = pairs.find_root(Path.cwd())
        if asked.command == "sync":
            return sync(root, asked.chapters)
        if asked.command == "run":
            return run(root, asked.chapter, asked.profile)
        if asked.command == "check":
            return check(root, asked.chapters)
        return show_results(root, asked.format)
    except (ChapterError, SettingsError, KeyboardInterrupt) as error:
        said = str(error) or "Interrupted."
        print("", said, *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1


if __name__ == "__main__":
    sys.exit(main())
