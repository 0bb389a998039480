# Every target but clean makes .venv first if it is not there.
PYTHON ?= python3
BIN := .venv/bin
TOOLS := .venv/tools/bin
BROWSER := .venv/browser/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps
LOCKED := $(PIP_INSTALL) --require-hashes
# With CPU=1 PyTorch comes without the CUDA libraries, from PyTorch's index, of the version that
# requirements.txt pins. The hashes of locks/torch.txt are those of the wheels with CUDA.
ifdef CPU
TORCH = $(PIP_INSTALL) --index-url https://download.pytorch.org/whl/cpu \
  $(shell grep -E '^torch(vision)?==' requirements.txt)
else
TORCH = $(LOCKED) -r locks/torch.txt
endif

.PHONY: help demo test test-fast test-slow test-ranks test-hosts fuzz reliability test-arm lint format bench docs wheel lock audit clean

help:
	@echo "make demo       the whole pipeline on synthetic images, three to five minutes"
	@echo "make test       all tests but those that take more than a minute"
	@echo "make test-fast  the tests that take seconds"
	@echo "make reliability  200 kills, broken disks and damaged files over all stages; KILLS=20 runs fewer"
	@echo "make fuzz       5000 damaged or odd inputs of every kind; INPUTS=500 runs fewer"
	@echo "make test-slow  the tests that take more than a minute"
	@echo "make test-ranks the runs that torchrun, Slurm and Kubeflow start, and how they end"
	@echo "make test-hosts machines that train together, as network namespaces (root)"
	@echo "make test-arm   int8 files on an emulated ARM machine, which it sets up in .arm/ (docs/results/arm.md)"
	@echo "make test-page  the run's page in headless Chromium; CHROMIUM=FILE if it is not on the path"
	@echo "make lint       ruff and mypy"
	@echo "make bench      ranking beside its peers"
	@echo "make docs       the documentation as a site in site/, links checked"
	@echo "make wheel      the package as a file in dist/"
	@echo "make lock       the files in locks/ from requirements*.txt; make lock UPGRADE=1 takes newer versions"
	@echo "make audit      known vulnerabilities of the locked packages (asks PyPI)"
	@echo "make demo CPU=1 without the CUDA libraries of PyTorch; before .venv is made, for every target"

.venv/installed: locks/torch.txt locks/requirements.txt locks/nni.txt
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "error: Python 3.11, 3.12 or 3.13 is needed; make PYTHON=/path/to/python3.11"; exit 1; }
	$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear .venv \
	  || { echo "error: cannot make .venv; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
	$(TORCH)
	$(LOCKED) -r locks/requirements.txt
	$(BIN)/python locks/install_nni.py
	touch $@

# All of NNI, with the Node that its search runs on; NNI has none for 64-bit ARM.
.venv/installed-search: .venv/installed
	[ "$$(uname -m)" != x86_64 ] || $(LOCKED) --force-reinstall -r locks/nni.txt
	touch $@

# Also TrackEval, which the tests of tracking compare hand-made cases with.
.venv/installed-dev: .venv/installed-search locks/requirements-dev.txt locks/requirements-tracking.txt
	$(LOCKED) -r locks/requirements-dev.txt -r locks/requirements-tracking.txt
	touch $@

.venv/installed-docs: .venv/installed locks/requirements-docs.txt
	$(LOCKED) -r locks/requirements-docs.txt
	touch $@

.venv/installed-tools: .venv/installed locks/requirements-tools.txt
	$(PYTHON) -m venv --clear .venv/tools
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	  -r locks/requirements-tools.txt
	touch $@

# Playwright is not locked, so it has an environment of its own, which sees the packages of .venv.
.venv/installed-browser: .venv/installed-dev pyproject.toml
	$(BIN)/python -m venv --clear .venv/browser
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$($(BROWSER)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/locked.pth
	$(BROWSER)/python -m pip install --quiet --disable-pip-version-check 'pip>=25.1'
	$(BROWSER)/python -m pip install --quiet --disable-pip-version-check --group browser
	touch $@

demo: .venv/installed
	$(BIN)/python run_pipeline.py --config configs/quickstart.yaml

test: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-fast: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder \
	  -m "not slow and not arm and not hosts and not medium"

KILLS ?= 200
INPUTS ?= 5000

reliability: .venv/installed-dev
	$(BIN)/python -m tests.reliability --kills $(KILLS)

fuzz: .venv/installed-dev
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.fuzz --inputs $(INPUTS)

test-slow: .venv/installed-dev
	$(BIN)/python -m pytest -m slow

test-ranks: .venv/installed-dev
	$(BIN)/python -m pytest -m "slow or not slow" tests/ranks/test_two_ranks.py tests/ranks/test_launched_runs.py

test-hosts: .venv/installed-dev
	$(BIN)/python -m pytest -m hosts tests/ranks/test_hosts.py

test-arm: .venv/installed-dev
	benchmarks/arm/prepare.sh $(BIN)/python
	$(BIN)/python -m pytest -m arm tests/quantize/test_arm.py

# With AXE_CORE=FILE, axe.min.js of the npm package axe-core, accessibility is tested, too.
test-page: .venv/installed-browser
	[ -n "$$CHROMIUM" ] || command -v chromium || command -v google-chrome \
	  || { echo "error: no Chromium; on Debian: apt install chromium; elsewhere: $(BROWSER)/playwright install chromium, then CHROMIUM=FILE"; exit 1; }
	OMP_NUM_THREADS=1 $(BROWSER)/python -m pytest tests/pipeline/test_page_in_browser.py

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

# requirements-tools.txt pins uv; a new version of it comes with the lock that the former one makes.
lock: .venv/installed-tools
	$(BIN)/python locks/lock.py $(TOOLS)/uv $(if $(UPGRADE),--upgrade)

audit: .venv/installed-tools
	$(TOOLS)/pip-audit --strict --disable-pip --require-hashes --progress-spinner off \
	  $(patsubst %,-r %,$(wildcard locks/*.txt))

clean:
	rm -rf .venv
