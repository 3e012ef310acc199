"""The built book, and tables at the end of a run."""

import sys

import pytest
from fixtures_book import SCRIPTS, TABLES, copy, run

BOOK = ("_config.yml", "_toc.yml", "pyproject.toml", "book", "notebooks")
DIGESTS = "genlab_helpers/digests.toml"


@pytest.fixture(scope="session")
def site(tmp_path_factory):
    """Return the folder of the whole book's pages, built once as `make book` does."""
    tree = copy(tmp_path_factory.mktemp("book"), *BOOK, DIGESTS)
    building = (SCRIPTS / "jupyter-book", "build", ".", "-W", "-n", "--keep-going")
    for command in ((sys.executable, "book/vendor.py"), building):
        done = run(*command, cwd=tree)
        assert done.returncode == 0, done.stdout[-6000:]
    return tree / "_build" / "html"


def pytest_terminal_summary(terminalreporter):
    for title, rows in TABLES.items():
        terminalreporter.section(title)
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = map(str.rjust, row[1:], widths[1:])
            terminalreporter.line("  ".join([row[0].ljust(widths[0]), *cells]))
