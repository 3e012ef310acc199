"""Light pages: the icons in use, MathJax where a formula is, images when in view.

The theme's script of icons has half a megabyte and stops the first paint; the pages use
some fifteen of them, which fit into a style sheet.
"""

import re
from html import escape
from pathlib import Path
from urllib.parse import quote

import imagesize

ICON = re.compile(r"\bfa(?:s|r|-solid|-regular) fa-([a-z-]+)")
ICONS_SCRIPT = re.compile(r'<script src="[^"]*/fontawesome\.js[^"]*"></script>')
MATH_SCRIPT = re.compile(
    r'<script defer="defer" src="[^"]*/tex-svg\.js[^"]*"></script>'
)
IMAGE = re.compile(r'<img (?![^>]*\bloading=)([^>]*?)src="([^":]+)"')
UNUSED = ("**/*.js.map", "scripts/fontawesome*")


def style_of(icon: str, library: str) -> str:
    """Return the rules that draw an icon of the theme's script in the text's colour."""
    key = rf'(?:"{icon}"|\b{icon.replace("-", "_")}\b|\b{icon}\b)'
    shape = re.search(rf'{key}:\[(\d+),(\d+),\[[^\]]*\],"[^"]*","([^"]+)"\]', library)
    if not shape:  # an alias of another icon
        shape = re.search(
            rf'\[(\d+),(\d+),\[[^\]]*"{icon}"[^\]]*\],"[^"]*","([^"]+)"\]', library
        )
    if not shape:
        return ""
    width, height, path = shape.groups()
    drawing = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">'
    drawing += f'<path d="{path}"/></svg>'
    mask = f"mask-image:url('data:image/svg+xml,{quote(drawing)}')"
    return f".fa-{icon}::before{{{mask};width:{int(width) / int(height):.3f}em}}\n"


RULES = """:is(.fa-solid,.fas)::before{content:"";display:inline-block;height:1em;
background:currentColor;mask-position:center;mask-repeat:no-repeat;mask-size:contain;
vertical-align:-0.125em}
"""


def light(page: Path, text: str) -> str:
    """Return a page's HTML without what it does not need before it is read."""
    text = ICONS_SCRIPT.sub("", text)
    if 'class="math' not in text:
        text = MATH_SCRIPT.sub("", text)

    def sized(match):
        width, height = imagesize.get(page.parent / match[2])
        size = f'width="{width}" height="{height}" ' if width > 0 else ""
        size = "" if "width" in match[1] else size
        return f'<img {match[1]}loading="lazy" {size}src="{match[2]}"'

    return IMAGE.sub(sized, text)


def slim(app, exception):
    """Rewrite all pages once they are built, and drop the files that none asks for."""
    if exception or app.builder.format != "html":
        return
    static, icons = Path(app.outdir, "_static"), set()
    script = static / "scripts" / "fontawesome.js"
    for page in Path(app.outdir).rglob("*.html"):
        text = page.read_text("utf-8")
        icons |= {*ICON.findall(text)}
        page.write_text(light(page, text), "utf-8")
    if script.is_file():
        library = script.read_text("utf-8")
        rules = RULES + "".join(style_of(icon, library) for icon in sorted(icons))
        (static / "icons.css").write_text(rules, "utf-8")
    for file in [file for pattern in UNUSED for file in static.glob(pattern)]:
        file.unlink(missing_ok=True)


def describe(app, pagename, templatename, context, doctree):
    """Tell search engines and previews what a page is about: its first paragraph."""
    paragraphs = doctree.findall(lambda n: n.tagname == "paragraph") if doctree else []
    words = next((" ".join(p.astext().split()) for p in paragraphs), "")
    if words:
        text = escape(words if len(words) < 160 else words[:157] + "...")
        title = escape(context.get("title", ""))
        context["metatags"] = context.get("metatags", "") + (
            f'<meta name="description" content="{text}">'
            f'<meta property="og:title" content="{title}">'
            f'<meta property="og:description" content="{text}">'
        )


def setup(app):
    """Connect to Sphinx."""
    app.add_css_file("icons.css")
    app.connect("html-page-context", describe)
    app.connect("build-finished", slim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
