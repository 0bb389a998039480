# Every target but clean makes .venv first if it is not there.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help demo test test-fast test-slow test-arm lint format bench docs wheel clean

help:
	@echo "make demo       the whole pipeline on synthetic images, a few minutes"
	@echo "make test       all tests but those that take more than a minute"
	@echo "make test-fast  the tests that take seconds"
	@echo "make test-slow  the tests that take more than a minute"
	@echo "make test-arm   int8 files on an emulated ARM machine, which it sets up in .arm/ (docs/results/arm.md)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      ranking beside its peers"
	@echo "make docs       the documentation as a site in site/, links checked"
	@echo "make wheel      the package as a file in dist/"

.venv/installed: requirements.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: Python 3.11, 3.12 or 3.13 is needed; make PYTHON=/path/to/python3.11"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv \
	  || { echo "error: cannot make .venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	touch $@

.venv/installed-dev: .venv/installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	touch $@

.venv/installed-docs: .venv/installed requirements-docs.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-docs.txt
	touch $@

demo: .venv/installed
	$(BIN)/python run_pipeline.py --config configs/quickstart.yaml

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "not slow and not arm and not medium"

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

test-arm: .venv/installed-dev
	benchmarks/arm/prepare.sh $(BIN)/python
	$(BIN)/python -m pytest -m arm tests/quantize/test_arm.py

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: .venv/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: .venv/installed-dev
	$(BIN)/python -m benchmarks.ranking

docs: .venv/installed-docs
	$(BIN)/mkdocs build --strict

wheel: .venv/installed-dev
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean:
	rm -rf .venv
