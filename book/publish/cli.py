"""The command line of the press, and what its commands say."""

import argparse
import sys
from pathlib import Path

from publish import ChapterError, chapters, doctor, execution, gate, recap

COMMANDS = {
    "sync": "carry edits of the .py over to the .ipynb, and derive recap.py",
    "check": "say what must not be published, and why",
    "run": "execute a chapter and stamp it",
    "doctor": "say what this machine lacks, and the remedy",
}


def sync(root: Path, stems: list[str], keep: bool) -> int:
    """Derive notebooks and recap.py; ChapterError at the first that cannot be."""
    for stem in stems:
        chapters.refuse_edited(root, stem, keep=keep)
        changed = chapters.sync(root, stem)
        print(f"{stem}: {'written' if changed else 'already in step'}")
    if chapters.write(root / recap.PATH, recap.derived(root)):
        print(f"{recap.PATH}: written")
    return 0


def run(root: Path, stem: str, profile: str | None) -> int:
    """Execute one chapter, or ChapterError; return 1 for a bad token in the prose."""
    try:
        chapters.refuse_edited(root, stem)
        chapters.write(root / recap.PATH, recap.derived(root))  # chapters import it
        path, problems = execution.run(root, stem, profile)
    except (ChapterError, KeyboardInterrupt) as error:
        error.add_note(f"{chapters.FOLDER}/{stem}.ipynb is as it was.")
        raise
    print(f"{stem}: written to {path.relative_to(root).as_posix()}")
    if path != chapters.notebook_path(root, stem):
        print(f"(Such a run only tests; {chapters.FOLDER}/{stem}.ipynb is as it was.)")
    else:
        for reason in gate.reasons(root, stem):
            print(f"The gate would refuse it. {stem}: {reason}")
    if problems:
        print(f"\n{problems}\nMend the .py, then run: make sync", file=sys.stderr)
    return int(bool(problems))


def check(root: Path, stems: list[str]) -> int:
    """Print OK or the reasons against each chapter; return 1 if there are any, or 0."""
    found = {stem: gate.reasons(root, stem) for stem in stems}
    for stem, reasons in found.items():
        for line in reasons or ["OK", *gate.notices(root, stem)]:
            print(f"{stem}: {line}")
    path = root / recap.PATH
    in_step = path.is_file() and path.read_text("utf-8") == recap.derived(root)
    if not in_step:
        print(f"{recap.PATH} is not what the chapters' cells name; run: make sync")
    return int(any(found.values()) or not in_step)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line asks for; return the exit code."""
    parser = argparse.ArgumentParser(prog="python book/publish")
    commands = parser.add_subparsers(dest="command", required=True)
    for name, about in COMMANDS.items():
        add = commands.add_parser(name, help=about)
        if name != "doctor":
            count = {"nargs": 1 if name == "run" else "*", "metavar": "CHAPTER"}
            add.add_argument("chapters", help="01, 01_kmeans or a file", **count)
        if name == "run":
            add.add_argument("--profile", choices=("smoke", *gate.PUBLISHED))
        if name == "sync":
            about = "copy a notebook edited by hand to NAME.edited.ipynb first"
            add.add_argument("--keep", action="store_true", help=about)
    asked = parser.parse_args(arguments)
    # Redirected output may have an old encoding; a strange letter must not end a run.
    sys.stdout.reconfigure(errors="replace")
    try:
        if asked.command == "doctor":
            return doctor.main()
        root = chapters.find_root(Path.cwd())
        stems = [chapters.find_chapter(root, name) for name in asked.chapters]
        if not (stems := stems or chapters.chapters(root)):
            raise ChapterError(f"There is no chapter in {root / chapters.FOLDER}.")
        if asked.command == "run":
            return run(root, stems[0], asked.profile)
        if asked.command == "sync":
            return sync(root, stems, asked.keep)
        return check(root, stems)
    except (ChapterError, KeyboardInterrupt) as error:
        said = str(error) or "Interrupted."
        print("", said, *getattr(error, "__notes__", []), sep="\n", file=sys.stderr)
        return 130 if isinstance(error, KeyboardInterrupt) else 1
