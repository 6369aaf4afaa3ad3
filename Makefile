# Two commands for a fresh machine:
#
#     make run     set everything up and run the example pipelines
#     make test    set everything up and pass all tests
#
# Set-up is a chain of stamp files in .venv; a step that was interrupted has
# no stamp and is done again.  `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

CSRC := $(wildcard csrc/*/*.c csrc/*/*.h)
C_FILES = $(CSRC) $(wildcard tests/c/*.c tests/c/*.h tests/fuzz/*.c tests/kill/*.c benchmarks/*.c)
DATASETS ?= datasets

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

include check.mk

.PHONY: help
help:
	@echo 'make run            set up, then run the example pipelines; reports in runs/'
	@echo 'make test           set up, then lint, C tests and Python tests'
	@echo 'make setup          only set up: .venv with pinned versions, the C core built'
	@echo 'make lint           formatters, linters, types and floors'
	@echo 'make check          C tests (check-asan, check-tsan: under sanitizers)'
	@echo 'make check-python   Python tests, doctests, README code, notebooks'
	@echo 'make check-long     long campaigns: 200 kills, long random and fuzz tests'
	@echo 'make campaigns      what docs/promises.md gives figures of; hours'
	@echo 'make check-install  pip install into clean virtual environments'
	@echo 'make bench          benchmarks'
	@echo 'make format         let the formatters have their way'
	@echo 'make clean          remove all that was built; distclean: .venv too'

# Set-up ----------------------------------------------------------------------

$(VENV)/.packages: scripts/debian-packages
	scripts/debian-packages $(PYTHON)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "modyn needs Python 3.11 or newer; try make PYTHON=python3.11"; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

# setuptools and numpy come first: the package is then built with what is
# here, without an isolated environment of its own.
$(VENV)/.tools: $(VENV)/.packages constraints.txt
	@echo 'Installing pinned versions into $(VENV); torch alone is 200 MB and more ...'
	$(PIP) install -c constraints.txt setuptools numpy
	touch $@

$(VENV)/.installed: $(VENV)/.tools pyproject.toml
	$(PIP) install --no-build-isolation -c constraints.txt -e '.[torch,report,postgres,dev]'
	touch $@

$(VENV)/.built: $(VENV)/.installed setup.py $(CSRC)
	$(BIN)/python setup.py -q build_ext --inplace
	touch $@

.PHONY: setup
setup: $(VENV)/.built

# The main job ----------------------------------------------------------------

.PHONY: run run-weather run-flights
run: run-weather run-flights

run-weather: setup
	$(BIN)/python examples/weather/prepare.py --datasets $(DATASETS)
	$(BIN)/modyn run examples/weather/*.yaml --datasets $(DATASETS) --out runs/weather

run-flights: setup
	$(BIN)/python examples/flights/prepare.py --datasets $(DATASETS)
	$(BIN)/modyn run examples/flights/*.yaml --datasets $(DATASETS) --out runs/flights

# Tests -----------------------------------------------------------------------

.PHONY: test
test: setup
	$(MAKE) lint
	$(MAKE) -s -j2 --output-sync check check-asan check-tsan
	$(MAKE) check-python

.PHONY: lint
lint: setup
	$(BIN)/ruff format --check -q
	$(BIN)/ruff check -q
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(C_FILES)
	scripts/check-binding $(BIN)/python

# Many tests wait for processes and servers that they started, most of the time
# those that need a database, so that three parts of them run side by side: by
# that mark, and by the first letter.  The last lines are pytest's own summary.
PYTHON_PARTS := check-python-a-k check-python-l-z check-python-server
.PHONY: check-python $(PYTHON_PARTS)
check-python: setup
	$(MAKE) -s -j3 --output-sync $(PYTHON_PARTS)

check-python-a-k: # and all that is not in tests/python
	$(BIN)/python -m pytest -m 'not server' --ignore-glob='tests/python/test_[l-z]*'

check-python-l-z:
	$(BIN)/python -m pytest -m 'not server' tests/python/test_[l-z]*.py

check-python-server:
	$(BIN)/python -m pytest -m server

.PHONY: check-long
check-long: setup
	$(MAKE) -s check-asan check-tsan
	! command -v $(FUZZ_CC) >/dev/null || $(MAKE) -s fuzz
	MODYN_LONG=1 $(BIN)/python -m pytest
	$(BIN)/python -m tests.kill.kill_run --kills 200

# One command for each figure of docs/promises.md.  SEED repeats a run.
CAMPAIGN_seed = $(if $(SEED),--seed $(SEED))
.PHONY: campaigns
campaigns: setup $(addprefix build/c-plain/test_,sweep model every_damage)
	build/c-plain/test_sweep --count 20000 $(CAMPAIGN_seed)
	build/c-plain/test_model --count 1000000 $(CAMPAIGN_seed)
	build/c-plain/test_every_damage --all --count 5000 $(CAMPAIGN_seed)
	$(BIN)/python -m tests.kill.kill_store --kills 10000 $(CAMPAIGN_seed)
	$(BIN)/python -m tests.power.cut_store --cuts 1000 $(CAMPAIGN_seed)
	$(BIN)/python -m tests.kill.interrupts --times 150 $(CAMPAIGN_seed)
	MODYN_LONG=1 $(BIN)/python -m pytest tests/python/test_leaks.py
	$(BIN)/python -m tests.loader.lifetime --batches 1000000 --exits 20 $(CAMPAIGN_seed)
	$(BIN)/python -m tests.loader.training --runs 500 $(CAMPAIGN_seed)
	$(BIN)/python -m tests.loader.memory --rounds 1000
	$(BIN)/python -W ignore -m tests.loader.forks --cycles 1000
	$(BIN)/python -m tests.postgres.faults --trials 2000 $(CAMPAIGN_seed)

.PHONY: check-install
check-install: setup
	scripts/check-install $(PYTHON)

.PHONY: bench
bench: setup
	$(BIN)/python -m benchmarks.loader
	$(BIN)/python -m benchmarks.orchestrator
	$(BIN)/python -m benchmarks.metadata

.PHONY: format
format: setup
	$(BIN)/ruff format -q
	$(BIN)/ruff check -q --fix
	$(BIN)/clang-format -i $(C_FILES)

.PHONY: clean distclean
clean:
	rm -rf build dist *.egg-info modyn/*.so .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f $(VENV)/.built apt.log
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
