# Two commands: `make demo` and `make test`. Everything is installed into .venv from pinned versions.
PYTHON ?= python3
OUT ?= demo
BIN := .venv/bin

.PHONY: install demo test test-fast lint docs clean

install: .venv/demo.installed

# make demo                              speech that it synthesises, in Turkish
# make demo DATA=dir SPOKEN=mdw          your dir/train.jsonl, dir/valid.jsonl and, if there, dir/test.jsonl
# make demo OUT=elsewhere FORCE=1        another folder; replace what is there
demo: .venv/demo.installed
	$(BIN)/anadil demo --out "$(OUT)" $(if $(DATA),--data "$(DATA)") $(if $(SPOKEN),--lang $(SPOKEN)) \
	  $(if $(MINUTES),--minutes $(MINUTES)) $(if $(FORCE),--force)

# A process per core; those that are done take tests from the others
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal

test: .venv/dev.installed
	$(PYTEST)

# All tests but those marked slow, which train on real speech, start several processes or build the wheel
test-fast: .venv/dev.installed
	$(PYTEST) -m "not slow"

lint: .venv/dev.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy anadil

# README, guides and all else in docs/ as a site in site/; a link to a page or an anchor that is not there fails
PAGES := README.md CONTRIBUTING.md CHANGELOG.md docs anadil/text/languages/README.md
docs: .venv/docs.installed
	rm -rf .site site && mkdir -p .site/source
	tar cf - $(PAGES) | tar xf - -C .site/source
	$(BIN)/zensical build --clean --strict

clean:
	rm -rf .venv .site site

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Anadil needs Python 3.11 or newer; name one: make PYTHON=python3.12 demo"; exit 1; }
	$(PYTHON) -m venv .venv

.venv/%.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[$*]'
	@touch $@
