# The one list of commands. `make demo` and `make test` are all a user needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo test lint coverage bench clean

demo: $(STAMP)
	$(BIN)/python examples/demo.py --output demo
	$(BIN)/python examples/demo_outliers.py --output demo
	$(BIN)/python examples/demo_denoising.py --output demo
	$(BIN)/python examples/demo_generator.py --output demo

test: $(STAMP)
	$(BIN)/python -m pytest

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

coverage: $(STAMP)
	$(BIN)/python -m pytest --cov --cov-report=term-missing

bench: $(STAMP)
	$(BIN)/python benchmarks/bench_engine.py
	$(BIN)/python benchmarks/bench_time_to_error.py
	$(BIN)/python benchmarks/bench_inference.py
	$(BIN)/python benchmarks/bench_parallel.py
	$(BIN)/python benchmarks/bench_memory.py
	$(BIN)/python benchmarks/bench_latents.py
	$(BIN)/python benchmarks/bench_outliers.py
	$(BIN)/python benchmarks/bench_known_outliers.py
	$(BIN)/python benchmarks/bench_denoise.py
	$(BIN)/python benchmarks/bench_generator.py

clean:
	rm -rf $(VENV) demo build *.egg-info

$(STAMP): setup.cfg pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev,test,examples,bench]"
	touch $@
