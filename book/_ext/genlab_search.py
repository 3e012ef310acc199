"""Let the search find words without their accents, and by other names."""

import json
import unicodedata
from pathlib import Path

SYNONYMS = {"fid": "fréchet", "vae": "variat", "embedding": "code"}  # to index words
HEAD = "Search.setIndex("


def without_accents(word: str) -> str:
    """Return frechet for fréchet."""
    parts = unicodedata.normalize("NFKD", word)
    return "".join(part for part in parts if not unicodedata.combining(part))


def widened(terms: dict) -> dict:
    """Return {word: page or pages} with more words for the same pages."""
    more = {without_accents(word): word for word in terms if not word.isascii()}
    more |= {other: word for other, word in SYNONYMS.items() if word in terms}
    found = dict(terms)
    for other, word in more.items():
        pages = set()
        for known in (other, word):
            value = terms.get(known, [])
            pages |= {value} if isinstance(value, int) else {*value}
        found[other] = sorted(pages)
    return found


def widen(app, exception):
    """Rewrite the index of words that Sphinx has built."""
    file = Path(app.outdir, "searchindex.js")
    if exception or app.builder.format != "html" or not file.is_file():
        return
    index = json.loads(file.read_text("utf-8").removeprefix(HEAD).removesuffix(")"))
    for table in ("terms", "titleterms"):
        index[table] = widened(index[table])
    text = json.dumps(index, ensure_ascii=False, separators=(",", ":"))
    file.write_text(f"{HEAD}{text})", "utf-8")


def setup(app):
    """Connect to Sphinx."""
    app.connect("build-finished", widen)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
