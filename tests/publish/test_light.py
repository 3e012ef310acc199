"""What the build takes out of its pages, and what it puts there instead."""

import json
import re
from types import SimpleNamespace
from urllib.parse import unquote

from PIL import Image

from _ext import genlab_light as light
from _ext import genlab_search as search

LIBRARY = (
    'a={sun:[512,480,[9728],"f185","M1 2z"],"circle-x":[384,512,[1,"x"],"f0","M3z"]}'
)
PAGE = """<script src="_static/scripts/fontawesome.js?digest=1"></script>
<script defer="defer" src="_static/mathjax/tex-svg.js?v=1"></script>
<i class="theme-switch fa-solid fa-sun fa-lg"></i><i class="fas fa-x"></i>{math}
<img alt="A dot" src="dot.png" />"""


def test_icons_are_drawn_from_the_themes_own_shapes():
    rule = unquote(light.style_of("sun", LIBRARY))
    assert 'viewBox="0 0 512 480"' in rule
    assert 'd="M1 2z"' in rule
    assert "width:1.067em" in rule
    assert 'd="M3z"' in unquote(light.style_of("x", LIBRARY))  # by its other name
    assert light.style_of("none", LIBRARY) == ""


def test_a_built_page_loads_what_it_needs_and_no_more(tmp_path):
    scripts = tmp_path / "_static" / "scripts"
    scripts.mkdir(parents=True)
    (scripts / "fontawesome.js").write_text(LIBRARY)
    (scripts / "theme.js.map").write_text("{}")
    Image.new("RGB", (30, 20)).save(tmp_path / "dot.png")
    for name, math in {"plain": "", "formula": '<span class="math">x</span>'}.items():
        (tmp_path / f"{name}.html").write_text(PAGE.replace("{math}", math))
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))
    for _ in range(2):  # a second build finds pages that are light already
        light.slim(app, None)
        pages = [(tmp_path / f"{n}.html").read_text() for n in ("plain", "formula")]
        assert ["tex-svg" in page for page in pages] == [False, True]
        assert not any("fontawesome" in page for page in pages)
        assert all(
            'loading="lazy" width="30" height="20" src' in page for page in pages
        )
        icons = (tmp_path / "_static" / "icons.css").read_text()
        assert re.findall(r"\.(fa-[a-z-]+)::", icons) == ["fa-sun", "fa-x"]
        assert [*scripts.iterdir()] == []


def test_words_are_found_without_accents_and_by_other_names(tmp_path):
    terms = {"fréchet": [0, 2], "frechet": 1, "variat": 3, "x": 0}
    index = {"terms": terms, "titleterms": {}, "filenames": ["a"]}
    file = tmp_path / "searchindex.js"
    file.write_text(f"Search.setIndex({json.dumps(index)})", "utf-8")
    app = SimpleNamespace(outdir=tmp_path, builder=SimpleNamespace(format="html"))
    search.widen(app, None)
    text = file.read_text("utf-8")
    found = json.loads(text.removeprefix("Search.setIndex(").removesuffix(")"))
    assert found["filenames"] == ["a"]
    wanted = {"frechet": [0, 1, 2], "fid": [0, 2], "vae": [3]}
    assert found["terms"] == terms | wanted
