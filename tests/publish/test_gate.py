"""The gate: every kind of tampering is refused, for that reason and no other."""
# ruff: noqa: E731

import hashlib
import tomllib
from functools import partial

import nbformat
import pytest
from fixtures_course import ROOT, STEM, USED, edit_source, tamper

from publish import chapters, gate, stamps

KNOWN = tomllib.loads((ROOT / gate.DIGESTS).read_text("utf-8"))["known"]
MORE = nbformat.v4.new_markdown_cell("More.")
FAILED = nbformat.v4.new_output("error", ename="E", evalue="bad", traceback=["bad"])

# What somebody might change in a notebook, as functions of it.
cell = lambda number, **changes: lambda book: book.cells[number].update(changes)
say = lambda text: lambda book: book.cells[3].outputs[0].update(text=text)
show = lambda *extra: lambda book: book.cells[3].outputs.extend(extra)
stamp = lambda **changes: lambda book: book.metadata.genlab.update(changes)
card = lambda **changes: lambda book: stamps.cards(book)[0].update(changes)
use = lambda **changes: card(data=[USED | {"count": 1} | changes])
output = lambda kind, data: nbformat.v4.new_output("display_data", data={kind: data})

CODE, OUTPUTS = "code was changed after", "outputs were changed after"
FIRST, ORDER = "first in cell", "was not run, or not once and in order"
NOTEBOOK = {
    "prose": (cell(5, source="The dot is large."), f"{FIRST} 6"),
    "number": (cell(2, source="## Sums\n\nTwo and two. Right: 0.9 of all."), FIRST),
    "tags": (cell(3, metadata={"tags": ["setup"]}), f"{FIRST} 4"),
    "a cell more": (lambda book: book.cells.append(MORE), f"{FIRST} 10"),
    "a cell less": (lambda book: book.cells.pop(2), f"{FIRST} 3"),
    "output": (say("5\n"), OUTPUTS),
    "no output": (cell(3, outputs=[]), OUTPUTS),
    "more output": (show(output("text/plain", "extra")), OUTPUTS),
    "top picture": (lambda book: book.cells[0].pop("attachments"), OUTPUTS),
    "metadata": (lambda book: book.cells[4].outputs[0].metadata.update(a=1), OUTPUTS),
    "card": (card(seconds=1.0), OUTPUTS),
    "no stamp": (lambda book: book.metadata.pop("genlab"), "no stamp"),
    "old schema": (stamp(schema=1), "unknown schema 1"),
    "digest of code": (stamp(code="0" * 64), CODE),
    "digest of outputs": (stamp(outputs="0" * 64), OUTPUTS),
    "more in the stamp": (stamp(award="best"), "stamp was edited"),
    "less in the stamp": (lambda book: book.metadata.genlab.pop("helpers"), "edited"),
}
COVERED = {
    "not run": (cell(1, execution_count=None), f"cell 2 {ORDER}"),
    "run again": (cell(8, execution_count=9), f"cell 9 {ORDER}"),
    "run out of order": (cell(1, execution_count=2), f"cell 2 {ORDER}"),
    "failed": (show(FAILED), "cell 4 failed"),
    "smoke": (card(profile="smoke"), "profile 'smoke'"),
    "other chapter": (card(chapter="02_x"), "is for chapter '02_x'"),
    "half a card": (lambda book: stamps.cards(book)[0].pop("seed"), "lacks seed"),
    "two cards": (lambda book: show(*book.cells[6].outputs)(book), "2 run cards"),
    "stand-in": (use(source="stand-in"), "a stand-in (MNIST, test)"),
    "disguised stand-in": (use(name="digits (stand-in for MNIST)"), "nothing vouches"),
    "unknown data": (use(name="CIFAR"), "nothing vouches"),
    "unknown split": (use(split="validation"), "nothing vouches"),
    "digest of another split": (use(split="train"), "not the real MNIST"),
    "digest of another set": (use(name="Fashion-MNIST"), "not the real Fashion-MNIST"),
    "no digest": (use(sha256=None), "not the real MNIST"),
    "path": (say("/home/ada/course"), "cell 4 names a path"),
    "widget": (show(output(gate.WIDGET, {})), "cell 4 shows a widget"),
    "png without alt text": (show(output("image/png", "")), "figure of cell 4"),
    "size": (say("a" * 3_500_000), "over 3.5 MB"),
}
EDIT = partial(edit_source, before="2 + 2", after="2 + 3")
TAMPERED = {"source": (EDIT, f"the .ipynb differs from the .py, {FIRST} 4")}
for table, restamp in ((NOTEBOOK, False), (COVERED, True)):
    for key, (change, reason) in table.items():
        TAMPERED[key] = partial(tamper, change=change, restamp=restamp), reason


@pytest.mark.parametrize(("change", "reason"), TAMPERED.values(), ids=TAMPERED)
def test_tampering_is_refused_with_one_reason_and_a_remedy(course, change, reason):
    change(course)
    (found,) = gate.reasons(course, STEM)
    assert reason in found
    assert "; " in found, "the remedy"


@pytest.mark.parametrize("after", ["print(2+2)", "# \nprint(2 + 2)"])
@pytest.mark.parametrize("synced", [True, False])
def test_changed_code_is_refused_however_it_came_to_the_notebook(course, after, synced):
    edit_source(course, "print(2 + 2)", after)
    if synced:
        chapters.sync(course, STEM)
    else:
        tamper(course, cell(3, source=after))
    found = gate.reasons(course, STEM)
    assert any(CODE in reason for reason in found)
    assert any(f"cell 4 {ORDER}" in reason for reason in found) == synced


def test_a_pair_without_a_card_an_alt_text_or_a_half_is_refused(course):
    tamper(course, cell(6, outputs=[]), restamp=True)
    edit_source(course, '"alt": "A dot"', '"alt": " "')
    chapters.sync(course, STEM)
    found = " ".join(gate.reasons(course, STEM))
    assert "0 run cards" in found
    assert "figure of cell 5 has no alt text" in found
    path = chapters.notebook_path(course, STEM)
    path.write_text("{}")
    assert "is not a valid notebook" in gate.reasons(course, STEM)[0]
    path.unlink()
    assert f"{STEM}.ipynb is missing" in gate.reasons(course, STEM)[0]
    chapters.source_path(course, STEM).unlink()
    assert f"{STEM}.py is missing" in gate.reasons(course, STEM)[0]


def test_prose_that_was_synced_no_data_and_almost_too_large_a_file_pass(course):
    edit_source(course, "Two and two.", "Three and one.")
    chapters.sync(course, STEM)
    tamper(course, card(data=[]), restamp=True)
    tamper(course, say("a" * 2_900_000), restamp=True)
    assert gate.reasons(course, STEM) == []


@pytest.mark.parametrize("entry", KNOWN, ids=lambda e: f"{e['name']} {e['sha256'][:4]}")
def test_known_files_pass_by_what_is_published_of_their_digest(course, entry):
    known, name = entry["sha256"], f"{entry['name']} ({entry.get('edition', 'any')})"
    for sha256 in (known.ljust(64, "0"), known[:7].ljust(64, "x"), known[:8]):
        change = use(name=name, split=entry["split"], sha256=sha256)
        tamper(course, change, restamp=True)
        found = gate.reasons(course, STEM)
        assert (found == []) == (len(sha256) == 64 and sha256.startswith(known))
        assert all(f"not the real {entry['name']}" in reason for reason in found)


def test_helpers_that_changed_are_a_notice_and_line_ends_are_no_change(course, call):
    assert call(course, "check") == (0, f"{STEM}: OK\n", "")
    path = course / "genlab_helpers" / "recap.py"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert gate.notices(course, STEM) == []
    (course / "genlab_helpers" / "more.py").touch()
    assert "changed after the run" in gate.notices(course, STEM)[0]
    tamper(course, stamp(helpers="unknown"))
    said = f"{STEM}: OK\n{STEM}: (its run did not note the digest of the helpers)\n"
    assert call(course, "check") == (0, said, "")


PATHS = ["at '/opt/data'", "<td>/mnt/disk</td>", "a\n/Users/ada/x", "file:///home/ada"]
PATHS += [r"'C:\\Users\\Ada'", r"C:\Users\Ada\x.py", "D:/course/x.py"]
HARMLESS = ["https://github.com/someone/course/blob/main/x.py", "<p>a</p></td></tr>"]
HARMLESS += ["1/home, 3/4/5, p(x)/q(x)/2", "a/b/c, ~/.cache/genlab/x, ../data/raw"]
HARMLESS += ['<img src="data:image/png;base64,iVBO+/ab12/cdef\n/gh34/ij==">']


@pytest.mark.parametrize("text", PATHS + HARMLESS)
def test_a_path_of_a_machine_is_refused_and_what_only_looks_like_one_passes(text):
    outputs = [output(kind, text) for kind in ("text/plain", "image/svg+xml")]
    outputs += [output("application/json", {"a": [{text: 1}]})]
    outputs += [nbformat.v4.new_output("stream", text=text)]
    outputs += [nbformat.v4.new_output("error", traceback=[text])]
    assert {bool(gate.machine_path([out])) for out in outputs} == {text in PATHS}


def test_exports_are_those_of_the_run(course):
    path = chapters.exports_folder(course, STEM) / "map.js"
    path.parent.mkdir(parents=True)
    path.with_name("old.js").write_text("x")
    entry = {"file": "map.js", "sha256": hashlib.sha256(b"x").hexdigest()}
    tamper(course, card(exports=[entry]), restamp=True)
    missing, left = gate.reasons(course, STEM)
    assert "map.js is missing; run the chapter again" in missing
    assert "no run of it wrote book/_static/data/01/old.js" in left
    path.with_name("old.js").rename(path)
    assert gate.reasons(course, STEM) == []
    path.write_bytes(b"a\r\n")
    entry["sha256"] = hashlib.sha256(b"a\n").hexdigest()
    tamper(course, card(exports=[entry]), restamp=True)
    assert gate.reasons(course, STEM) == [], "as Git for Windows checks out"
    path.write_text("y")
    assert "map.js was changed after the run" in gate.reasons(course, STEM)[0]
