"""What GenLab adds to Sphinx: pages made from the run cards, and readable chapters.

It works on what Sphinx reads, never on the files: a notebook stays as it was executed.
Generated parts are written to `book/_generated/`, and pages take them in with
`{include}`.
"""

import base64
import json
import re
import sys
from pathlib import Path

import nbformat
import yaml
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "book" / "_generated"
sys.path.insert(0, str(ROOT / "book"))  # where `publish` lies

import genlab_links as links  # noqa: E402
import genlab_parts as parts  # noqa: E402
import genlab_study as study  # noqa: E402

from publish import chapters, gate, stamps  # noqa: E402

EXTERNAL_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
LOOP = re.compile(rb"\x21\xff\x0bNETSCAPE2\.0\x03\x01..\x00", re.DOTALL)  # in a GIF
PROMPTS = {
    "code_prompt_show": "Show solution",
    "code_prompt_hide": "Hide solution",
}

log = logging.getLogger(__name__)


def pass_on_repository(app, config):
    """Give the theme the repository's address; without one, no buttons lead to it."""
    config.genlab_repository = address = chapters.repository(ROOT)
    if address.startswith(chapters.PLACEHOLDER):
        config.html_theme_options.pop("launch_buttons", None)
    else:
        config.html_theme_options["repository_url"] = f"https://github.com/{address}"


def published():
    """Yield (stem, notebook) of every chapter that the table of contents lists."""
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]:
        for entry in part["chapters"]:
            path = ROOT / f"{entry['file']}.ipynb"
            if path.is_file():
                yield path.stem, chapters.read_notebook(path)


def write(path, content):
    """Write bytes only if they differ, so that a warm build re-reads nothing."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def generate(app):
    """Write the generated parts and the pictures attached to notebooks."""
    books = list(published())
    for stem, book in books:
        for cell in book.cells:
            for name, bundle in cell.get("attachments", {}).items():
                content = base64.b64decode(next(iter(bundle.values())))
                write(GENERATED / stem / name, content)
    texts = {
        "cards": parts.cards(books),
        "path": parts.course_path(books, ROOT / "book" / "path.yml"),
        "datasets": parts.datasets(ROOT / gate.DIGESTS),
        "exercises": study.exercises(books),
        "results": parts.results_page(ROOT),
    }
    for name, text in texts.items():
        write(GENERATED / f"{name}.md", text.encode("utf-8"))


def make_readable(cell, stem):
    """Point images at local files, fold solutions, drop what is not for the page."""
    tags = cell.metadata.get("tags", [])
    if cell.cell_type == "markdown":
        local = rf"![\1](/book/_generated/{stem}/\2)"
        text = parts.ATTACHED_IMAGE.sub(local, cell.source)
        cell.source = EXTERNAL_IMAGE.sub(r"\1", text)  # no page asks another host
    elif "solution" in tags:
        cell.metadata.tags = [*tags, "hide-cell"]
        cell.metadata.setdefault("mystnb", {}).update(PROMPTS)
    for output in cell.get("outputs", []):
        shown = output.get("data", {})
        shown.pop(stamps.MIME, None)
        if "image/gif" in shown:  # an animation runs once
            film = LOOP.sub(b"", base64.b64decode(shown["image/gif"]))
            shown["image/gif"] = base64.b64encode(film).decode()


def fill_in_address(book, stem, address):
    """Let a chapter point to the repository of this build, not to that of its sync."""
    source = chapters.read_source(chapters.source_path(ROOT, stem))
    filled = chapters.render(source, address, chapters.numbers(ROOT, stem, book))
    for cell, model, wanted in zip(
        book.cells, source.cells, filled.cells, strict=False
    ):
        if stamps.TOKEN in model.source:
            cell.source = wanted.source


def link_text(cells, stems, stem):
    """Link mentions of other chapters, and of works to this chapter's references."""
    known = {}
    for cell in cells:
        known |= links.works(cell.source)
    for cell in cells:
        text = links.link_chapters(cell.source, stems, int(stem[:2]))
        cell.source = links.link_works(text, known)


def prepare_chapter(app, docname, source):
    """Rewrite a page's text on its way from the file to the parser."""
    stems = {int(stem[:2]): stem for stem in chapters.chapters(ROOT)}
    if not docname.startswith("notebooks/"):
        source[0] = links.link_chapters(source[0], stems)
        return
    stem, book = Path(docname).name, nbformat.reads(source[0], as_version=4)
    fill_in_address(book, stem, app.config.genlab_repository)
    if stamp := book.metadata.pop("genlab", None):
        card, make = stamps.card(book, stem), nbformat.v4.new_markdown_cell
        book.cells.insert(1, make(parts.measured_line(card), id="measured-run"))
        if asked := study.questions(stem, ROOT / "book" / "questions.yml"):
            book.cells.append(make(asked, id="questions"))
        book.cells.append(make(parts.footer(docname, card, stamp), id="provenance"))
    else:
        log.warning("%s.ipynb has no stamp: run `make run` for it", docname)
    link_text([c for c in book.cells if c.cell_type == "markdown"], stems, stem)
    for cell in book.cells:
        make_readable(cell, stem)
    source[0] = nbformat.writes(book)


def mend_roles(app, pagename, templatename, context, doctree):
    """Give references the role that their list needs; docutils' own is deprecated."""
    if "body" in context:
        body = context["body"]
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def write_results(app, exception):
    """Put all measurements into files that programs and the pages can read."""
    if exception is None and app.builder.format == "html":
        text = json.dumps(parts.results(ROOT), ensure_ascii=False, indent=1)
        for name, content in {
            "results.json": text,
            "results.js": f"globalThis.genlabResults = {text};\n",  # for file://
        }.items():
            Path(app.outdir, "_static", name).write_text(content, "utf-8")


def setup(app):
    """Connect to Sphinx."""
    app.add_config_value("genlab_repository", "", "env")  # changed: read pages again
    app.connect("config-inited", pass_on_repository)
    app.connect("builder-inited", generate)
    app.connect("source-read", prepare_chapter)
    app.connect("html-page-context", mend_roles)
    app.connect("build-finished", write_results)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
