"""The built site in a real browser: quiet, self-contained, accessible, connected."""

import functools
import http.server
import shutil
import threading
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import fixtures_book
import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from fixtures_book import require, toc_pages
from playwright.sync_api import sync_playwright

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = 1280, 390
CHAPTER = "notebooks/01_kmeans"
# Without preload: axe would fetch the style sheets again, from wrong addresses.
AXE_OPTIONS = {"resultTypes": ["violations"], "preload": False}


@pytest.fixture(scope="session")
def site(pytestconfig, tmp_path_factory):
    return fixtures_book.built_book(pytestconfig, tmp_path_factory)


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def address(site):
    """Serve the site on this machine only."""
    handler = functools.partial(QuietHandler, directory=site)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def browser():
    found = filter(None, map(shutil.which, BROWSERS))
    path = require(next(found, None), "Chromium", "apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, address):
    """Open a page of the site; `page.problems` collects what it complains about."""
    contexts = []

    def open_page(name: str, width: int = DESKTOP, theme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900})
        contexts.append(context)
        context.add_init_script(
            "for (const key of ['mode', 'theme'])"
            f" if (!localStorage.getItem(key)) localStorage.setItem(key, '{theme}')"
        )
        page = context.new_page()
        page.problems = problems = []
        page.on(
            "console",
            lambda said: (
                problems.append(f"console: {said.text}")
                if said.type in ("error", "warning")
                else None
            ),
        )
        page.on("pageerror", lambda error: problems.append(f"page error: {error}"))
        page.on(
            "requestfailed", lambda request: problems.append(f"failed: {request.url}")
        )
        page.on(
            "request",
            lambda request: (
                None
                if request.url.startswith((address, "data:", "blob:"))
                else problems.append(f"another host: {request.url}")
            ),
        )
        page.on(
            "response",
            lambda answer: (
                problems.append(f"{answer.status}: {answer.url}")
                if answer.status >= 400
                else None
            ),
        )
        page.goto(f"{address}{name}.html", wait_until="load")
        page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
        return page

    yield open_page
    for context in contexts:
        context.close()


# Every page, wide and narrow, light and dark


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", [*toc_pages(), "search", "genindex"])
def test_page_is_quiet_and_accessible(open_page, name, theme):
    page = open_page(name, DESKTOP, theme)
    assert page.locator("html").get_attribute("data-theme") == theme
    report = Axe().run(page, options=AXE_OPTIONS)
    assert not report.violations_count, report.generate_report()
    page.wait_for_load_state("networkidle")
    assert not page.problems


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", toc_pages())
def test_page_fits_a_phone(open_page, name, theme):
    page = open_page(name, PHONE, theme)
    wide = page.evaluate(
        """() => document.documentElement.scrollWidth > innerWidth
           ? [...document.querySelectorAll('main *')]
               .filter(it => it.getBoundingClientRect().right > innerWidth)
               .slice(0, 5).map(it => it.outerHTML.slice(0, 120))
           : null"""
    )
    assert wide is None, f"the page scrolls sideways; beyond the edge: {wide}"
    assert not page.problems


# Links, images and their descriptions, read from the built files


@pytest.fixture(scope="module")
def soups(site):
    """Return every built page, parsed, by its path within the site."""
    return {
        path.relative_to(site).as_posix(): BeautifulSoup(
            path.read_text(encoding="utf-8"), "html.parser"
        )
        for path in site.rglob("*.html")
        if "_static" not in path.relative_to(site).parts
    }


def references(soup):
    """Yield every address that a page points to."""
    for tag in soup.find_all(True):
        for name in ("href", "src", "data", "poster"):
            if tag.get(name) and not (name == "data" and tag.name != "object"):
                yield tag[name]
        for part in (tag.get("srcset") or "").split(","):
            if part.strip():
                yield part.split()[0]


def test_every_internal_link_anchor_and_image_resolves(site, soups):
    anchors = {
        name: {
            tag.get(key)
            for tag in soup.find_all(True)
            for key in ("id", "name")
            if tag.get(key)
        }
        for name, soup in soups.items()
    }
    lost = []
    for name, soup in soups.items():
        for reference in references(soup):
            if urlsplit(reference).scheme or reference.startswith("//"):
                continue  # another site, mail, or data in place
            target, fragment = urldefrag(urljoin(f"/{name}", reference))
            path = unquote(urlsplit(target).path).lstrip("/") or "index.html"
            if not (site / path).is_file() or (
                fragment and path in anchors and unquote(fragment) not in anchors[path]
            ):
                lost.append(f"{name} -> {reference}")
    assert not lost, "\n".join(sorted(set(lost)))


def test_nothing_is_loaded_from_another_host(soups):
    loading = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
    found = [
        f"{name}: {tag.get(key)}"
        for name, soup in soups.items()
        for tag_name, key in loading.items()
        for tag in soup.find_all(tag_name)
        if (tag.get(key) or "").startswith(("http:", "https:", "//"))
        and not set(tag.get("rel") or []) & {"canonical", "license"}
    ]
    assert not found


def test_every_figure_says_in_words_what_it_shows(soups):
    assert any(soup.select("main img") for soup in soups.values())
    silent = []
    for name, soup in soups.items():
        for image in soup.select("main img"):
            alt = (image.get("alt") or "").strip()
            # A renderer that has no text falls back to the name of the file.
            if len(alt) < 10 or alt.endswith((".png", ".gif", ".svg", ".jpg")):
                silent.append(f"{name}: {image.get('src')} {alt!r}")
    assert not silent, "\n".join(silent)


# The parts that a reader touches


def test_next_and_previous_lead_through_the_book(open_page):
    page = open_page(toc_pages()[0])
    visited = [page.url]
    while page.locator("a.right-next").count():
        page.locator("a.right-next").click()
        page.wait_for_load_state()
        visited.append(page.url)
    assert [Path(url).stem for url in visited] == [
        Path(name).name for name in toc_pages()
    ]
    page.locator("a.left-prev").click()
    page.wait_for_load_state()
    assert page.url == visited[-2]
    assert not page.problems


@pytest.mark.parametrize("width", [DESKTOP, PHONE])
def test_sidebar_leads_to_the_chapter(open_page, width):
    page = open_page(toc_pages()[0], width)
    link = page.locator(f".bd-sidebar-primary a[href$='{CHAPTER}.html']").first
    if width == PHONE:
        assert not link.is_visible()
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
    hit = page.locator(f"#search-results a[href*='{CHAPTER}.html']").first
    hit.click()
    page.wait_for_url(f"**/{CHAPTER}.html*")
    assert "inertia" in page.locator("main").inner_text().lower()
    assert not page.problems


def test_theme_button_reaches_dark_and_is_remembered(open_page):
    page = open_page(toc_pages()[0])
    html, button = page.locator("html"), page.locator(".theme-switch-button:visible")
    for _ in range(3):
        if html.get_attribute("data-theme") == "dark":
            break
        button.first.click()
    assert html.get_attribute("data-theme") == "dark"
    page.reload()
    assert html.get_attribute("data-theme") == "dark"


def test_first_tab_stop_skips_to_the_content(open_page):
    page = open_page(CHAPTER)
    page.keyboard.press("Tab")
    focused = page.evaluate("document.activeElement.textContent.trim()")
    assert "main content" in focused.lower()
    page.keyboard.press("Enter")
    assert page.evaluate("location.hash") == "#main-content"


def test_solutions_are_folded_and_open_by_click_and_by_key(open_page):
    page = open_page(CHAPTER)
    solutions = page.locator(".tag_solution")
    assert solutions.count() >= 2
    code = solutions.locator(".highlight")
    assert not any(code.nth(i).is_visible() for i in range(code.count()))
    first, second = solutions.nth(0), solutions.nth(1)
    first.locator("summary").first.click()
    assert first.locator(".highlight").first.is_visible()
    second.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert second.locator(".highlight").first.is_visible()
