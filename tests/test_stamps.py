"""The gate: every kind of tampering is refused, for that reason and no other."""

import copy
import json
import subprocess
import sys

import nbformat
import pytest
from fixtures_course import (
    ADDRESS,
    PIXEL,
    RECORD,
    STEM,
    edit_source,
    output,
    read,
    set_address,
    tamper,
)

from genlab_helpers import gate, pairs, sources, stamps

# Everything that the light environment lacks and the full one has.
LIGHT = """
import sys, time
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
from genlab_helpers.notebooks import main
code = main({arguments})
print("CPU seconds:", time.process_time(), file=sys.stderr)
sys.exit(code)
"""
ABSENT = ("torch", "numpy", "scipy", "sklearn", "matplotlib", "nbclient")
ONLY_IN_FULL = ("jupyter_server", "rfc3987_syntax")  # slow parts of JupyterLab


def refusal(root) -> str:
    """Return the one reason for refusing; there must be exactly one."""
    found = gate.reasons(root, STEM)
    assert len(found) == 1, found
    reason, _, remedy = found[0].rpartition("; ")
    assert reason
    assert remedy
    return found[0]


def code(book, number: int):
    return stamps.code_cells(book)[number]


def tamper_record(root, change) -> None:
    """Change the run card, and the stamp so that it fits."""
    tamper(root, lambda book: change(stamps.cards(book)[0]), restamp=True)


def test_an_untouched_chapter_passes(course):
    assert gate.reasons(course, STEM) == []


def test_every_published_chapter_passes(root, chapter):
    assert gate.reasons(root, chapter) == []


# --------------------------------------------------------------------- the pair


@pytest.mark.parametrize(
    ("before", "after"),
    [("print(2 + 2)", "print(2 + 3)"), ("Two and two.", "Two."), ("A dot", "A spot")],
    ids=["code", "prose", "alt text"],
)
def test_an_edited_source_is_refused(course, before, after):
    edit_source(course, before, after)
    assert "differs from the .py" in refusal(course)
    assert "make sync" in refusal(course)


@pytest.mark.parametrize(
    "change",
    [
        lambda book: book.cells[2].update(source="Two."),
        lambda book: book.cells[3].metadata.update(tags=["setup"]),
        lambda book: book.cells.append(nbformat.v4.new_markdown_cell("More.")),
        lambda book: book.cells.pop(2),
    ],
    ids=["prose", "tags", "added", "removed"],
)
def test_an_edited_notebook_is_refused(course, change):
    tamper(course, change)
    assert "differs from the .py" in refusal(course)


def test_the_first_cell_that_differs_is_named(course):
    edit_source(course, "Two and two.", "Two.")
    assert "first in cell 3" in refusal(course)


def test_half_a_pair_is_refused(course):
    source = pairs.source_path(course, STEM)
    text = source.read_text()
    source.unlink()
    assert f"{STEM}.py is missing" in refusal(course)
    source.write_text(text)
    pairs.notebook_path(course, STEM).unlink()
    assert f"{STEM}.ipynb is missing" in refusal(course)


@pytest.mark.parametrize("text", ["", "<<<<<<< ours", "[]", "{}", '{"cells": 3}'])
def test_a_broken_notebook_is_refused(course, text):
    pairs.notebook_path(course, STEM).write_text(text)
    assert "is not a valid notebook" in refusal(course)


def test_an_old_address_is_refused_and_synced_without_a_new_run(course):
    set_address(course, "else/where")
    reason = refusal(course)
    assert ADDRESS in reason
    assert "else/where" in reason
    assert "make sync" in reason
    assert pairs.sync(course, STEM)
    assert gate.reasons(course, STEM) == []
    assert "else/where" in read(course).cells[1].source


# ---------------------------------------------------- code and outputs since the run


@pytest.mark.parametrize("after", ["print(2+2)", "print(2 + 2)  #", "# \nprint(2 + 2)"])
def test_code_changed_on_both_sides_is_refused(course, after):
    edit_source(course, "print(2 + 2)", after)
    tamper(course, lambda book: code(book, 1).update(source=after))
    assert "code was changed after the run" in refusal(course)


def test_code_changed_in_the_notebook_alone_is_refused_twice(course):
    tamper(course, lambda book: code(book, 1).update(source="print(5)"))
    found = " ".join(gate.reasons(course, STEM))
    assert "differs from the .py" in found
    assert "code was changed after the run" in found


def test_code_changed_and_synced_is_refused(course):
    edit_source(course, "print(2 + 2)", "print(5)")
    pairs.sync(course, STEM)
    found = " ".join(gate.reasons(course, STEM))
    assert "code was changed after the run" in found
    assert "cell 4 was not run" in found


def test_prose_changed_and_synced_passes(course):
    edit_source(course, "Two and two.", "Two and two make four.")
    pairs.sync(course, STEM)
    assert gate.reasons(course, STEM) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda book: code(book, 1).outputs[0].update(text="5\n"),
        lambda book: code(book, 1).outputs.clear(),
        lambda book: code(book, 0).outputs.append(output("text/plain", "extra")),
        lambda book: code(book, 2).outputs[0]["data"].update({"image/png": "AAAA"}),
        lambda book: (
            book.cells[0].attachments["result.png"].update({"image/png": "AAAA"})
        ),
        lambda book: book.cells[0].pop("attachments"),
        lambda book: stamps.code_cells(book)[3].outputs[0].update(metadata={"a": 1}),
    ],
    ids=["text", "none", "more", "figure", "top picture", "no picture", "metadata"],
)
def test_changed_outputs_are_refused(course, change):
    tamper(course, change)
    assert "outputs were changed after the run" in refusal(course)


def test_a_cell_that_was_not_run_is_refused(course):
    tamper(
        course, lambda book: code(book, 0).update(execution_count=None), restamp=True
    )
    assert "cell 2 was not run" in refusal(course)


@pytest.mark.parametrize("counts", [(2, 1, 3, 4, 5), (1, 2, 3, 4, 9), (1, 1, 2, 3, 4)])
def test_cells_out_of_order_are_refused(course, counts):
    def change(book):
        for cell, count in zip(stamps.code_cells(book), counts, strict=True):
            cell.execution_count = count

    tamper(course, change, restamp=True)
    assert "in order" in refusal(course)


def test_a_failed_cell_is_refused(course):
    error = nbformat.v4.new_output("error", ename="E", evalue="bad", traceback=["bad"])
    tamper(course, lambda book: code(book, 1).outputs.append(error), restamp=True)
    assert "cell 4 failed" in refusal(course)


# -------------------------------------------------------------------- the stamp


def test_a_missing_stamp_is_refused(course):
    tamper(course, lambda book: book.metadata.pop("genlab"))
    assert "no stamp" in refusal(course)


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_an_unknown_schema_is_refused(course, schema):
    tamper(course, lambda book: book.metadata["genlab"].update(schema=schema))
    assert "unknown schema" in refusal(course)


@pytest.mark.parametrize("field", sorted(stamps.FIELDS - {"schema"}))
def test_every_edited_or_missing_field_of_the_stamp_is_refused(course, field):
    tamper(course, lambda book: book.metadata["genlab"].update({field: "edited"}))
    assert "stamp was edited" in refusal(course)
    tamper(course, lambda book: book.metadata["genlab"].pop(field))
    assert "stamp was edited" in refusal(course)


def test_an_added_field_of_the_stamp_is_refused(course):
    tamper(course, lambda book: book.metadata["genlab"].update(award="best"))
    assert "stamp was edited" in refusal(course)


def reseal(root, **changes) -> None:
    def change(book):
        stamp = book.metadata["genlab"] | changes
        book.metadata["genlab"] = stamp | {"stamp": stamps.seal(stamp)}

    tamper(root, change)


def test_a_record_other_than_the_run_card_is_refused(course):
    record = copy.deepcopy(RECORD)
    record["measurements"][0]["value"] = 0.99
    reseal(course, record=record)
    assert "not the one in its run card" in refusal(course)


@pytest.mark.parametrize("field", ["device", "seconds", "data", "date"])
def test_a_resealed_stamp_that_contradicts_the_card_is_refused(course, field):
    value = [] if field == "data" else "edited"
    reseal(course, **{field: value})
    assert f"contradicts its run card in: {field}" in refusal(course)


def test_a_smoke_run_is_refused(course):
    tamper_record(course, lambda record: record.update(profile="smoke"))
    assert "'smoke'" in refusal(course)


def test_a_smoke_run_called_laptop_is_refused(course):
    tamper_record(course, lambda record: record.update(profile="smoke"))
    reseal(course, profile="laptop")
    assert "contradicts its run card in: profile" in refusal(course)


def test_the_run_of_another_chapter_is_refused(course):
    for path in (course / "notebooks").glob("*"):
        path.rename(path.with_name(f"02_copy{path.suffix}"))
    (reason,) = gate.reasons(course, "02_copy")
    assert "is for chapter '01_tiny'" in reason


def test_a_second_run_card_is_refused(course):
    def change(book):
        code(book, 4).outputs.append(code(book, 3).outputs[0])
        stamp = book.metadata["genlab"] | {"outputs": stamps.outputs_digest(book)}
        book.metadata["genlab"] = stamp | {"stamp": stamps.seal(stamp)}

    tamper(course, change)
    assert "2 run cards" in refusal(course)


# --------------------------------------------------------------------- the data


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"source": "stand-in", "name": "digits (stand-in for MNIST)"}, "a stand-in"),
        ({"source": "stand-in"}, "a stand-in"),
        ({"name": "digits (stand-in for MNIST)"}, "nothing vouches"),
        ({"name": "CIFAR"}, "nothing vouches"),
        ({"sha256": "0" * 64}, "not the real MNIST"),
        ({"sha256": sources.digest("MNIST", "train")}, "not the real MNIST"),
        ({"name": "Fashion-MNIST"}, "not the real Fashion-MNIST"),
        ({"split": "validation"}, "not the real MNIST"),
    ],
)
def test_data_that_is_not_what_it_is_called_is_refused(course, entry, said):
    tamper_record(course, lambda record: record["data"][0].update(entry))
    assert said in refusal(course)


def test_a_chapter_without_a_data_set_passes(course):
    tamper_record(course, lambda record: record.update(data=[]))
    assert gate.reasons(course, STEM) == []


# ------------------------------------------------------------- what outputs contain

PATHS = [
    "/home/ada/course/x.py",
    "File '/Volumes/Disk/x.py', line 3",
    "/scratch/ipykernel_12/34.py:3: UserWarning: dear me",
    "PosixPath('/var/folders/xy')",
    "GENLAB_DATA=/opt/data",
    "(/srv/project/data)",
    "<td>/mnt/disk</td>",
    "at:/Users/ada/x",
    "/private/var/folders",
    "file:///home/ada",
    r"C:\Users\Ada\x.py",
    r"'C:\\Users\\Ada'",
    "D:/course/x.py",
]
HARMLESS = [
    "https://github.com/someone/course/blob/main/x.py",
    "http://localhost:8000/lab/tree",
    "1/home and 3/4/5",
    "encoder/decoder/loss, and/or",
    "~/.cache/genlab/x",
    "./data/raw and ../data/raw",
    "<p>a</p></td></tr>",
    "12 ms / image / core",
    "application/vnd.genlab.record+json",
    "p(x)/q(x)/2",
    "2025/01/31",
    '<img src="data:image/png;base64,iVBO+/ab12/cdef\n/gh34/ij==">',
]


@pytest.mark.parametrize("text", PATHS)
def test_a_path_of_a_machine_is_refused(course, text):
    tamper(
        course, lambda book: code(book, 1).outputs[0].update(text=text), restamp=True
    )
    assert "cell 4 names a path" in refusal(course)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_a_path_passes(course, text):
    tamper(
        course, lambda book: code(book, 1).outputs[0].update(text=text), restamp=True
    )
    assert gate.reasons(course, STEM) == []


def test_a_path_is_found_in_every_kind_of_output():
    text = "/home/ada/x"
    kinds = ["text/plain", "text/html", "text/markdown", "image/svg+xml"]
    for shown in [output(kind, text) for kind in kinds]:
        assert gate.machine_path([shown]) == "/home/ada"
    data = output("application/json", {"a": [{text: 1}]})
    error = nbformat.v4.new_output("error", ename="", evalue="", traceback=[text])
    assert gate.machine_path([data]) == gate.machine_path([error]) == "/home/ada"


def test_a_widget_is_refused(course):
    widget = output(gate.WIDGET, {"model_id": "1"})
    tamper(course, lambda book: code(book, 1).outputs.append(widget), restamp=True)
    assert "cell 4 shows a widget" in refusal(course)


@pytest.mark.parametrize("kind", ["image/png", "image/gif", "image/svg+xml"])
def test_a_figure_without_alt_text_is_refused(course, kind):
    figure = output(kind, PIXEL)
    tamper(course, lambda book: code(book, 1).outputs.append(figure), restamp=True)
    assert "figure of cell 4 has no alt text" in refusal(course)


def test_a_blank_alt_text_is_refused(course):
    edit_source(course, '{"alt": "A dot"}', '{"alt": " "}')
    pairs.sync(course, STEM)
    assert "figure of cell 5 has no alt text" in refusal(course)


def test_a_file_over_three_megabytes_is_refused(course):
    def fill(book, size):
        code(book, 1).outputs[0].text = "a" * size

    tamper(course, lambda book: fill(book, 2_900_000), restamp=True)
    assert gate.reasons(course, STEM) == []
    tamper(course, lambda book: fill(book, 3_500_000), restamp=True)
    assert "over 3.5" in refusal(course)


# ------------------------------------------------------------------- the command


def test_check_says_ok_or_the_reasons_one_line_each(course, call):
    assert call(course, "check") == (0, f"{STEM}: OK\n", "")
    edit_source(course, "Two and two.", "Two.")
    tamper(course, lambda book: book.metadata.pop("genlab"))
    code, out, _ = call(course / "notebooks", "check", "1")
    assert code == 1
    assert [line.split(": ")[0] for line in out.splitlines()] == [STEM] * 2


@pytest.mark.parametrize("name", ["2", "01_tin", "elsewhere/01_tiny.py", "²", ""])
def test_an_unknown_chapter_is_answered_with_the_list(course, call, name):
    code, _, error = call(course, "check", name)
    assert code == 1
    assert f"The chapters are: {STEM}" in error


@pytest.mark.parametrize(
    "name", ["1", "01", "001", STEM, f"notebooks/{STEM}.py", f"{STEM}.ipynb"]
)
def test_a_chapter_is_known_by_number_name_and_path(course, name, monkeypatch):
    monkeypatch.chdir(course)
    assert pairs.find_chapter(course, name) == STEM


def test_nothing_to_check_is_an_error(course, call, tmp_path):
    for path in (course / "notebooks").glob("*"):
        path.unlink()
    code, _, error = call(course, "check")
    assert code == 1
    assert "no chapter" in error
    code, _, error = call(tmp_path, "check")
    assert code == 1
    assert "root of the repository" in error


@pytest.mark.parametrize("command", ["check", "sync", "results"])
def test_no_command_but_run_needs_the_full_environment_or_time(course, command):
    script = LIGHT.format(absent=ABSENT + ONLY_IN_FULL, arguments=[command])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=course, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert STEM in done.stdout
    assert float(done.stderr.rpartition(":")[2]) < 2


def test_run_in_the_light_environment_says_what_it_needs(course):
    before = pairs.notebook_path(course, STEM).read_bytes()
    script = LIGHT.format(absent=ABSENT, arguments=["run", "1"])
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=course, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "full environment" in done.stderr
    assert pairs.notebook_path(course, STEM).read_bytes() == before


def test_a_stamp_survives_the_file(course):
    """JSON gives back what was sealed, so the seal holds on another machine."""
    stamp = json.loads(json.dumps(read(course).metadata["genlab"]))
    assert stamp["stamp"] == stamps.seal(stamp)


# ------------------------------------------------ pictures and weights besides data

CELEBA = {"name": "CelebA", "split": "train", "source": "folder", "count": 10_000}


def also_use(root, **entry) -> None:
    tamper_record(root, lambda record: record["data"].append(entry))


@pytest.fixture
def _celeba(monkeypatch):
    monkeypatch.setitem(sources.VOUCHED, ("CelebA", "train"), ("a" * 64, "b" * 64))


@pytest.mark.usefixtures("_celeba")
@pytest.mark.parametrize("sha256", ["a" * 64, "b" * 64])
def test_pictures_that_the_table_knows_pass(course, sha256):
    also_use(course, **CELEBA, sha256=sha256)
    assert gate.reasons(course, STEM) == []


@pytest.mark.usefixtures("_celeba")
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"sha256": "a" * 63 + "b"}, "not the real CelebA"),
        ({"sha256": "a" * 63}, "not the real CelebA"),
        ({"sha256": None}, "not the real CelebA"),
        ({}, "not the real CelebA"),
        ({"sha256": "a" * 64, "split": "test"}, "nothing vouches"),
        ({"sha256": "a" * 64, "name": "CelebB"}, "nothing vouches"),
        ({"sha256": "a" * 64, "source": "stand-in"}, "a stand-in"),
    ],
)
def test_pictures_that_are_not_what_they_are_called_are_refused(course, entry, said):
    also_use(course, **CELEBA | entry)
    assert said in refusal(course)


@pytest.mark.parametrize(("name", "split"), sources.VOUCHED)
def test_weights_must_have_a_known_digest(course, name, split):
    use = {"name": name, "split": split, "source": "folder", "count": 1}
    for known in sources.VOUCHED[name, split]:
        use["sha256"] = known.ljust(64, "0")  # of some, only the beginning is published
        tamper_record(course, lambda record: record.update(data=[use]))
        assert gate.reasons(course, STEM) == []
        use["sha256"] = known[:7] + "x" + use["sha256"][8:]
        tamper_record(course, lambda record: record.update(data=[use]))
        assert f"not the real {name}" in refusal(course)
        use["sha256"] = known[:8]
        tamper_record(course, lambda record: record.update(data=[use]))
        assert f"not the real {name}" in refusal(course)
