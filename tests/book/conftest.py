"""The built book, and tables at the end of a run."""

import shutil
import sys
from urllib.parse import unquote, urlsplit

import pytest
from fixtures_book import SCRIPTS, TABLES, copy, require, run
from playwright.sync_api import sync_playwright

BOOK = ("_config.yml", "_toc.yml", "pyproject.toml", "book", "notebooks")
DIGESTS = "genlab_helpers/digests.toml"
HOST = "http://localhost"  # answered from the folder of the site, without a server
DESKTOP = {"width": 1280, "height": 900}


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the whole book's pages, built once as `make book` does."""
    tree = copy(tmp_path_factory.mktemp("book"), *BOOK, DIGESTS)
    building = (SCRIPTS / "jupyter-book", "build", ".", "-W", "-n", "--keep-going")
    for command in ((sys.executable, "book/vendor.py"), building):
        done = run(*command, cwd=tree)
        assert done.returncode == 0, done.stdout[-6000:]
    return tree / "_build" / "html"


@pytest.fixture(scope="session")
def browser():
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    require(path, "Chromium", "apt install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, site):
    """Open a page of the site in light; what it complains about fails the test."""
    problems = []

    def answer(route, request):
        path = site / unquote(urlsplit(request.url).path).lstrip("/")
        if request.url.startswith(f"{HOST}/") and path.is_file():
            return route.fulfill(path=path)
        problems.append(f"lost, or on another host: {request.url}")
        return route.abort()

    def open_page(name: str):
        page = context.new_page()
        page.goto(f"{HOST}/{name}.html", wait_until="load")
        page.evaluate("window.MathJax?.startup?.promise?.then(() => null)")
        return page

    context = browser.new_context(viewport=DESKTOP, color_scheme="light")
    context.route("**/*", answer)
    context.on("console", lambda it: problems.append(f"{it.type}: {it.text}"))
    context.on("weberror", lambda it: problems.append(str(it.error)))
    yield open_page
    context.close()
    assert [it for it in problems if not it.startswith(("log:", "info:"))] == []


def pytest_terminal_summary(terminalreporter):
    for title, rows in TABLES.items():
        terminalreporter.section(title)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = map(str.rjust, row[1:], widths[1:])
            terminalreporter.line("  ".join([row[0].ljust(widths[0]), *cells]))
