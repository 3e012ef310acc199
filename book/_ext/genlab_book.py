"""What GenLab adds to Sphinx: pages made from the stamps, and chapters made readable.

It works on what Sphinx reads, never on the files: a notebook stays as it was executed.
Generated parts are written to `book/_generated/`, and pages take them in with
`{include}`.
"""

import base64
import json
import re
import sys
import tomllib
from pathlib import Path

import yaml
from sphinx.util import logging

ROOT = Path(__file__).resolve().parents[2]
GENERATED = ROOT / "book" / "_generated"
sys.path.insert(0, str(ROOT))  # the book's environment does not install the package

import genlab_parts as parts  # noqa: E402

from genlab_helpers.card import MIME  # noqa: E402
from genlab_helpers.results import results_markdown  # noqa: E402

EXTERNAL_IMAGE = re.compile(r"!\[([^\]]*)\]\(https?://[^)]*\)")
PROMPTS = {
    "code_prompt_show": "Show solution",
    "code_prompt_hide": "Hide solution",
}

log = logging.getLogger(__name__)


def pass_on_repository(app, config):
    """Give the theme the one address that pyproject.toml holds."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    config.html_theme_options["repository_url"] = project["urls"]["Repository"]


def published():
    """Yield (stem, notebook) of every chapter that the table of contents lists."""
    for part in yaml.safe_load((ROOT / "_toc.yml").read_text("utf-8"))["parts"]:
        for entry in part["chapters"]:
            path = ROOT / f"{entry['file']}.ipynb"
            if path.is_file():
                yield path.stem, json.loads(path.read_text("utf-8"))


def write(path, content):
    """Write bytes only if they differ, so that a warm build re-reads nothing."""
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def generate(app):
    """Write the generated parts and the pictures attached to notebooks."""
    chapters = list(published())
    for stem, book in chapters:
        for cell in book["cells"]:
            for name, bundle in cell.get("attachments", {}).items():
                content = "".join(next(iter(bundle.values())))
                write(GENERATED / stem / name, base64.b64decode(content))
    texts = {
        "cards": parts.cards(chapters),
        "path": parts.course_path(chapters, ROOT / "book" / "path.yml"),
        "datasets": parts.datasets(),
        "results": results_markdown(ROOT),
    }
    for name, text in texts.items():
        write(GENERATED / f"{name}.md", text.encode("utf-8"))


def make_readable(cell, stem):
    """Point images at local files, fold solutions, drop what is not for the page."""
    tags = cell["metadata"].get("tags", [])
    if cell["cell_type"] == "markdown":
        local = rf"![\1](/book/_generated/{stem}/\2)"
        text = parts.ATTACHED_IMAGE.sub(local, parts.source_text(cell))
        cell["source"] = EXTERNAL_IMAGE.sub(r"\1", text)  # no page asks another host
    elif "solution" in tags:
        cell["metadata"]["tags"] = [*tags, "hide-cell"]
        cell["metadata"].setdefault("mystnb", {}).update(PROMPTS)
    for output in cell.get("outputs", []):
        output.get("data", {}).pop(MIME, None)


def markdown_cell(name, text):
    """Return a markdown cell that exists only for Sphinx."""
    return {"cell_type": "markdown", "id": name, "metadata": {}, "source": text}


def prepare_chapter(app, docname, source):
    """Rewrite a notebook's text on its way from the file to the parser."""
    if not docname.startswith("notebooks/"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        make_readable(cell, Path(docname).name)
    stamp = notebook["metadata"].pop("genlab", None)
    if stamp:
        top = markdown_cell("measured-run", parts.measured_line(stamp))
        end = markdown_cell("provenance", parts.footer(docname, stamp))
        notebook["cells"] = [notebook["cells"][0], top, *notebook["cells"][1:], end]
    else:
        log.warning("%s.ipynb has no stamp: run `make run` for it", docname)
    source[0] = json.dumps(notebook)


def mend_roles(app, pagename, templatename, context, doctree):
    """Give references the role that their list needs; docutils' own is deprecated."""
    if "body" in context:
        body = context["body"]
        context["body"] = body.replace('role="doc-biblioentry"', 'role="listitem"')


def setup(app):
    """Connect to Sphinx."""
    app.connect("config-inited", pass_on_repository)
    app.connect("builder-inited", generate)
    app.connect("source-read", prepare_chapter)
    app.connect("html-page-context", mend_roles)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
