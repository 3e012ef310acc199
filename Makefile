# Thin on purpose: every target is a line or two that can be typed by hand.
# On Windows, write .venv\Scripts where a recipe says .venv/bin.

PYTHON ?= python3
CHAPTER =
PROFILE =
SCRIPTS = book/_static/*.js book/_static/widgets/*.js

# An activated environment must not leak into the two that are made here.
unexport VIRTUAL_ENV CONDA_PREFIX PYTHONHOME PYTHONPATH

.DELETE_ON_ERROR:
.NOTPARALLEL:
.PHONY: help book test lint run serve sync doctor lock clean .venv .venv-book

help: ## List the targets (what plain `make` does)
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-6s %s\n", $$1, $$2}' Makefile

book: .venv-book ## Check that every chapter really ran, then build _build/html
	.venv-book/bin/python book/publish check
	.venv-book/bin/python book/vendor.py
	.venv-book/bin/jupyter-book build . -W -n --keep-going
	@echo "The book is ready: $(CURDIR)/_build/html/index.html"

test: lint ## Run every test, the built book in a browser included
	.venv/bin/python -m pytest

lint: .venv ## Check the style of the code, the site's scripts and the workflows
	.venv/bin/ruff check
	.venv/bin/ruff format --check book genlab_helpers tests notebooks/scripts
	.venv/bin/check-jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	.venv/bin/check-jsonschema --builtin-schema vendor.dependabot .github/dependabot.yml
	.venv/bin/zizmor --offline --min-severity medium .github
	.venv/bin/npx --yes prettier@3.6.2 --print-width 88 --check $(SCRIPTS)
	.venv/bin/npx --yes eslint@9.39.1 $(SCRIPTS)

run: .venv ## Run a chapter: make run CHAPTER=01 [PROFILE=smoke|laptop|full]
	@test -n "$(CHAPTER)" || { echo "Which chapter? For example: make run CHAPTER=01"; exit 2; }
	.venv/bin/python book/publish run $(CHAPTER) $(if $(PROFILE),--profile $(PROFILE))

serve: book ## Build the book, then serve it at http://127.0.0.1:8000
	.venv-book/bin/python -m http.server 8000 --bind 127.0.0.1 --directory _build/html

sync: .venv-book ## Carry edits of notebooks/*.py over to the .ipynb files and recap.py
	.venv-book/bin/python book/publish sync

doctor: ## Say what this machine lacks for the course, and what to do about it
	@$(PYTHON) book/publish doctor

lock: .venv-book ## Recompute both lock files: make lock [UPGRADE=1]
	.venv-book/bin/python -m uv pip compile $(if $(UPGRADE),--upgrade) -q --universal --python-version 3.11 requirements.txt -o requirements.lock
	.venv-book/bin/python -m uv pip compile $(if $(UPGRADE),--upgrade) -q --universal --python-version 3.11 -c requirements.lock requirements-book.txt -o requirements-book.lock

clean: ## Remove what was built and cached; environments, runs and data stay
	rm -rf _build book/_generated .pytest_cache .ruff_cache .hypothesis
	find book genlab_helpers notebooks tests -name __pycache__ -prune -exec rm -rf {} +

# The two environments: environment.py makes one anew when it has to.
CHECK_PYTHON = $(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11); import venv, ensurepip' \
	2>/dev/null || { echo "'$(PYTHON)' is missing, older than 3.11, or has no venv module." \
	"On Debian: apt install python3-venv. Another Python: make PYTHON=/path/to/python3.12" >&2; exit 1; }

.venv .venv-book:
	@$(CHECK_PYTHON)
	@$(PYTHON) book/environment.py $@
