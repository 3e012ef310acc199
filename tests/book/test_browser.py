"""The built site in a real browser: quiet, self-contained, accessible, connected."""

import itertools
import re
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from fixtures_book import toc_pages
from playwright.sync_api import expect

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 900}
CHAPTER = "notebooks/01_kmeans"
# Without preload: axe would fetch the style sheets again, from wrong addresses.
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}
# Names what is too wide, or says null.
BEYOND_THE_EDGE = """() => document.documentElement.scrollWidth > innerWidth
  ? [...document.querySelectorAll('main *')]
      .filter(it => it.getBoundingClientRect().right > innerWidth)
      .slice(0, 5).map(it => it.outerHTML.slice(0, 120)) : null"""
# Opens what is folded. Most of axe's time would go into thousands of coloured words of
# code, so it sees one of each kind, and into formulas, which have a text beside them.
FOR_AXE = """() => {
  document.querySelectorAll('details').forEach(it => it.open = true);
  const seen = new Set();
  for (const it of document.querySelectorAll('.highlight pre span[class]')) {
    const kind = it.className + it.closest('.highlight').parentElement.className;
    seen.has(kind) ? it.remove() : seen.add(kind);
  }
  document.querySelectorAll('mjx-container svg').forEach(it => it.replaceChildren());
  document.getAnimations().forEach(it => it.cancel());  // what opens fades in
}"""


def turn(page, theme: str) -> None:
    """Press the theme's button, but without a mouse, which would bring up a tooltip."""
    for _ in range(3):  # a round has three steps
        if page.locator("html").get_attribute("data-theme") != theme:
            page.locator(".theme-switch-button").first.dispatch_event("click")
    assert page.locator("html").get_attribute("data-theme") == theme


@pytest.mark.parametrize("name", [*toc_pages(), "search", "genindex"])
def test_page_is_quiet_accessible_and_fits_a_phone(open_page, name):
    page = open_page(name)
    page.set_viewport_size(PHONE)
    assert page.evaluate(BEYOND_THE_EDGE) is None, "the page scrolls sideways"
    page.evaluate(FOR_AXE)
    for theme in ("light", "dark"):
        turn(page, theme)
        page.set_viewport_size(PHONE)
        assert page.evaluate(BEYOND_THE_EDGE) is None, f"unfolded, in {theme}"
        page.set_viewport_size(DESKTOP)
        report = Axe().run(page, options=AXE_OPTIONS)
        assert not report.violations_count, report.generate_report()


@pytest.fixture(scope="module")
def soups(site):
    """Return every built page, parsed, by its path within the site."""
    paths = [path for path in site.rglob("*.html") if "_static" not in path.parts]
    names = [path.relative_to(site).as_posix() for path in paths]
    pages = [BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in paths]
    return dict(zip(names, pages, strict=True))


def test_every_internal_link_anchor_and_image_resolves(site, soups):
    anchors = {name: {it["id"] for it in soup(id=True)} for name, soup in soups.items()}
    lost = set()
    for name, soup in soups.items():
        for tag in [*soup(href=True), *soup(src=True)]:
            reference = tag.get("href") or tag.get("src")
            if urlsplit(reference).scheme or reference.startswith("//"):
                continue  # another site, mail, or data in place
            target, anchor = urldefrag(urljoin(f"/{name}", reference))
            path = unquote(urlsplit(target).path).lstrip("/") or "index.html"
            there = not anchor or unquote(anchor) in anchors.get(path, [anchor])
            if not there or not (site / path).is_file():
                lost.add(f"{name} -> {reference}")
    assert lost == set()


def test_every_figure_says_in_words_what_it_shows(soups):
    images = [image for soup in soups.values() for image in soup.select("main img")]
    assert images
    # A renderer that has no text falls back to the name of the file.
    words = re.compile(r".{10,}(?<!\.(png|gif|svg|jpg))", re.DOTALL)
    assert [it for it in images if not words.fullmatch(it.get("alt", "").strip())] == []


def test_next_and_previous_lead_through_the_book(soups):
    for here, after in itertools.pairwise(f"{name}.html" for name in toc_pages()):
        forth = soups[here].select_one("a.right-next")["href"]
        back = soups[after].select_one("a.left-prev")["href"]
        assert urljoin(f"/{here}", forth) == f"/{after}"
        assert urljoin(f"/{after}", back) == f"/{here}"


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_sidebar_leads_to_the_chapter(open_page, size):
    page = open_page(toc_pages()[0])
    page.set_viewport_size(size)
    link = page.locator(f".bd-sidebar-primary a[href$='{CHAPTER}.html']").first
    if size == PHONE:
        expect(link).to_be_hidden()
        page.locator(".primary-toggle:visible").first.click()
    link.click()
    page.wait_for_url(f"**/{CHAPTER}.html")
    assert "means" in page.title()


def test_search_finds_inertia_in_the_chapter(open_page):
    page = open_page(toc_pages()[0])
    page.keyboard.press("Control+k")
    page.keyboard.type("inertia")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=inertia*")
    page.locator(f"#search-results a[href*='{CHAPTER}.html']").first.click()
    page.wait_for_url(f"**/{CHAPTER}.html*")
    assert "inertia" in page.locator("main").inner_text().lower()


def test_dark_is_remembered_and_the_first_tab_stop_skips_to_the_content(open_page):
    page = open_page(toc_pages()[0])
    turn(page, "dark")
    page.reload()
    assert page.locator("html").get_attribute("data-theme") == "dark"
    page.keyboard.press("Tab")
    assert "main content" in page.evaluate("document.activeElement.textContent").lower()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"


@pytest.mark.parametrize("kind", ["setup", "settings", "solution"])
def test_folded_cells_open_by_click_and_by_key(open_page, kind):
    cell = open_page(CHAPTER).locator(f".tag_{kind}").first
    code, fold = cell.locator(".cell_input .highlight"), cell.locator("summary").first
    expect(code).to_be_hidden()
    fold.click()
    expect(code).to_be_visible()
    fold.press("Enter")
    expect(code).to_be_hidden()


def test_images_keep_their_proportions_on_a_phone(open_page):
    page = open_page("notebooks/07_style_transfer")
    page.set_viewport_size(PHONE)
    found = page.evaluate(
        """async () => {
          const images = [...document.querySelectorAll("article img")];
          for (const image of images) image.loading = "eager";
          await Promise.all(images.map((image) => image.decode()));
          return images.map((it) => (it.width * it.naturalHeight)
            / (it.height * it.naturalWidth));
        }"""
    )
    assert len(found) > 10
    assert found == pytest.approx([1] * len(found), rel=0.03)
