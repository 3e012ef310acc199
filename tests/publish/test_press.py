"""The command line: chapters by many names, what it needs, and the doctor."""

import shutil
import subprocess
import sys

from fixtures_course import ROOT, STEM, edit_source, tamper

PRESS = ROOT / "book" / "publish"
FACTS = '{"device": "", "bfloat16": false, "data": "", "datasets": {"CelebA": false}}'


def test_check_says_all_reasons_and_knows_chapters_by_many_names(course, call):
    edit_source(course, "Two and two", "Two")
    tamper(course, lambda book: book.metadata.pop("genlab"))
    for name in ("1", "01", STEM, f"notebooks/{STEM}.py", f"{STEM}.ipynb"):
        code, out, _ = call(course / "notebooks", "check", name)
        assert (code, out.count(f"{STEM}: ")) == (1, 2)
    for name in ("2", "01_tin", "²", ""):
        assert f"The chapters are: {STEM}" in call(course, "check", name)[2]
    shutil.copy(course / f"notebooks/{STEM}.py", course / "notebooks/01_other.py")
    assert "'1' is not one chapter" in call(course, "check", "1")[2]
    shutil.rmtree(course / "notebooks")
    assert "root of the repository" in call(course, "check")[2]
    (course / "notebooks").mkdir()
    assert call(course, "check")[0] == 1, "nothing checked is not OK"


def test_the_press_needs_neither_the_package_nor_torch_and_is_small(course):
    script = "import runpy, sys\nsys.modules |= {'torch': None, 'genlab_helpers': None}"
    script += f"\nsys.path.insert(0, {str(PRESS)!r})\nsys.argv[1:] = ['check']\n"
    command = [sys.executable, "-c", f"{script}runpy.run_path({str(PRESS)!r})"]
    done = subprocess.run(command, cwd=course, text=True, capture_output=True)
    assert (done.returncode, done.stdout) == (0, f"{STEM}: OK\n"), done.stderr
    names = {path.stem for path in PRESS.glob("*.py")} - {"__main__"}
    assert not names & sys.stdlib_module_names
    assert sum(path.read_bytes().count(b"\n") for path in PRESS.glob("*.py")) <= 1_200


def test_the_doctor_needs_nothing_and_says_what_is_wrong_and_the_remedy(tmp_path):
    shutil.copytree(PRESS, tmp_path / "book" / "publish")
    lock = ["pytest==0.0.1", "nowhere==1 ; sys_platform == 'x'", "not-there==1", "# y"]
    (tmp_path / "requirements.lock").write_text("\n".join(lock))
    package = tmp_path / "genlab_helpers" / "__main__.py"
    package.parent.mkdir()
    command = [sys.executable, "-S", "-I", tmp_path / "book" / "publish", "doctor"]
    options = {"env": {"PATH": ""}, "text": True, "capture_output": True}
    looks = {f"print('{FACTS}')": "data set CelebA: not complete; book/datasets.md"}
    looks |= {"raise ImportError('no torch')": "not be looked at: ImportError: no tor"}
    for text, said in looks.items():
        package.write_text(text)
        done = subprocess.run(command, **options)
        assert (done.returncode, done.stderr, said in done.stdout) == (1, "", True)
        assert done.stdout.startswith("ok    Python 3.")
        assert "not pytest, not-there (2 in all); remove .venv" in done.stdout
        assert done.stdout.endswith("apt install chromium\n")
