# Each target works on its own on a machine that has Python 3.11+, git and make: it builds .venv first.

NEW = import sys; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in python3 python3.11 python3.12 python3.13 python; do \
	$$p -c '$(NEW)' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
READY := .venv/.ready
WHEEL := .cache/wheel
RUN := runs/hopper-$(shell date +%Y%m%d-%H%M%S)
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 14

run: $(READY)  ## train a hopper with EGGROLL (minutes), draw its learning curve, film it
	$(BIN)/evo run hopper_eggroll --out $(RUN) $(ARGS)
	$(BIN)/evo plot $(RUN) --x steps --out $(RUN)/curves.png
	$(BIN)/evo render $(RUN)

test: check wheel readme  ## all that .ci/run runs

check: $(READY) browser  ## format, lint, types, tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(MAKE) --no-print-directory types
	$(BIN)/pytest -q -n 2 -m "not slow"

browser:  ## chromium, for the tests of pages, by apt where it is missing and we may
	@command -v chromium >/dev/null || command -v google-chrome >/dev/null || { test "$$(id -u)" = 0 && command -v apt-get \
		>/dev/null && apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
		chromium >/dev/null; } || echo 'no chromium: the tests of pages are left out (apt-get install chromium)'

test-slow: $(READY)  ## the tests that take minutes
	$(BIN)/pytest -q -m slow

types: wheel  ## mypy on what is installed, not on what lies here
	cd $(WHEEL) && MYPYPATH=site $(CURDIR)/$(BIN)/mypy -p evo --config-file $(CURDIR)/pyproject.toml

wheel: $(READY)  ## build the wheel, and look at what is in it
	rm -rf build $(WHEEL)
	$(BIN)/pip wheel --quiet --no-deps --no-build-isolation --wheel-dir $(WHEEL) .
	$(BIN)/pip install --quiet --no-deps --target $(WHEEL)/site $(WHEEL)/*.whl
	$(BIN)/python tests/wheel.py $(WHEEL)/site
	rm -rf build

readme: $(READY)  ## the README's commands, small
	PATH="$(CURDIR)/$(BIN):$$PATH" sh tests/readme.sh

bench: $(READY)  ## the benchmarks, quick
	for script in benchmarks/*.py; do $(BIN)/python $$script --quick || exit 1; done

clean:  ## remove everything that was built; runs stay
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(NEW)' || \
		{ echo 'wanted Python 3.11 or later; name one: make PYTHON=/path/to/python3'; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev,tensorboard,atari,lm,view]' -c constraints.txt
	touch $@

.PHONY: help run test check browser test-slow types wheel readme bench clean
