# The one list of commands. `make demo` and `make test` are all a user needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.docs-installed

.PHONY: demo test golden lint coverage docs bench bench-full release-check clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py --output demo
	$(BIN)/python examples/demo_outliers.py --output demo
	$(BIN)/python examples/demo_denoising.py --output demo
	$(BIN)/python examples/demo_generator.py --output demo
	$(BIN)/python examples/demo_mixed.py

# A worker for each core, with one thread. Workers must agree on the order of sets: a fixed hash seed.
test: $(STAMP)
	OMP_NUM_THREADS=1 PYTHONHASHSEED=0 $(BIN)/python -m pytest --numprocesses auto

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy

# The fingerprints of small fits on this machine, after a change that is meant to alter results.
golden: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python tests/test_golden.py

coverage: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term-missing

# The manual, in docs/_build/html; SPHINXOPTS="-D plot_gallery=0" leaves the examples unrun.
docs: $(DOCS_STAMP)
	$(BIN)/python -m sphinx -W --keep-going -n -b html $(SPHINXOPTS) docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

# Every benchmark in small, into benchmarks/results/quick; see benchmarks/README.md.
bench: $(STAMP)
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script --quick; done

# The recorded results, anew: hours, and $$SKAE_DATA must name the folder of the data.
bench-full: $(STAMP)
	set -e; for script in benchmarks/bench_*.py; do $(BIN)/python $$script; done

# Build, look inside, and run the suite on the installed wheel with the oldest and the newest
# dependencies; ARGS="--only newest", say. Downloads some gigabytes, takes as long as two suites.
release-check: $(STAMP)
	$(BIN)/python tools/release_check.py $(ARGS)

clean:
	rm -rf $(VENV) demo build dist *.egg-info
	rm -rf docs/_build docs/api docs/auto_examples docs/generated docs/sg_execution_times.rst

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,test,examples,bench]"
	touch $@

$(DOCS_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[docs]"
	touch $@
