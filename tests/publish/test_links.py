"""Links that the build puts into the text of pages."""

import pytest

from _ext import genlab_links as links

STEMS = {1: "01_a", 3: "03_c", 4: "04_d"}
REFERENCES = """## References

* L. A. Gatys, A. Ecker. *Style.* CVPR 2016. <https://doi.org/10.1/2015>
* L. A. Gatys. *Colour.* 2016 (2016b above). <https://doi.org/10.1/3>
* L. van der Maaten, G. Hinton. *t-SNE.* JMLR 9,
  2008. <https://doi.org/10.1/4>
"""

CHAPTERS = [
    ("see chapter 3.", "see [chapter 3](/notebooks/03_c.ipynb)."),
    ("Chapter\n3's", "[Chapter\n3](/notebooks/03_c.ipynb)'s"),
    ("chapters 3 and 4", "chapters [3](/notebooks/03_c.ipynb) and [4](/notebooks/04_d"),
    ("chapter 1 is this one", None),
    ("chapter 9 is to come", None),
    ("# After chapter 3", None),
    ("`chapter 3`, $chapter 3$", None),
    ("[chapter 3](/x.md)", None),
    ("```\nchapter 3\n```", None),
]


@pytest.mark.parametrize(("text", "wanted"), CHAPTERS)
def test_mentions_of_other_chapters_become_links(text, wanted):
    found = links.link_chapters(text, STEMS, own=1)
    assert found.startswith(wanted) if wanted else found == text


def test_citations_lead_to_the_list_of_references():
    known = links.works(REFERENCES)
    years = [("Gatys", "2016"), ("Gatys", "2016b"), ("Maaten", "2008")]
    assert [*known.values()] == years
    listed = links.link_works(REFERENCES, known)
    for name, year in years:
        assert f'<a id="ref-{name.lower()}-{year}"></a>' in listed
    to = '<a class="reference internal" href="#ref-{}">{}</a>'
    for cited, anchor in {
        "Gatys and Ecker (2016)": "gatys-2016",
        "Gatys et al., 2016b": "gatys-2016b",
        "Maaten and\nHinton, 2008": "maaten-2008",
    }.items():
        found = links.link_works(f"So ({cited}; and more)", known)
        assert found == f"So ({to.format(anchor, cited)}; and more)"
    assert links.link_works("Gatys. In 2016 `Gatys, 2016`", known).count("<a") == 0
