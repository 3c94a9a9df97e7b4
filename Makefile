# make demo: install, compare five training procedures on embedded images, write demo/index.html
# make test: install, then style, types and tests; make test-slow: those that kill processes and wait for them
# make test-accelerator: train and evaluate on a pretended accelerator, which is compiled first (needs c++)
# make test-browser: look at the pages with Chromium; make bench: measure what the benchmarks claim
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
STAMP := $(VENV)/.installed
# what the tests compare with; their own requirements would replace torch
ORACLES := torchattacks==3.5.1 captum==0.9.0
# compiled tests are kept, or a second "make test" would take seconds longer to start
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-slow test-accelerator test-browser lint bench clean

demo: $(STAMP)
	$(BIN)/lessonplan compare --data digits --per-class 10 --methods erm,mixup,sum,cascade,gradual --seeds 5 --budget "30k samples" --out demo
	@echo "open demo/index.html in a browser"

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not browser and not slow and not accelerator"

test-slow: $(STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

test-accelerator: $(STAMP)
	PYTHONPATH=tests/accelerator $(BIN)/python -c "import pretended; pretended.install()"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m accelerator tests/accelerator

test-browser: $(STAMP)
	$(BIN)/python -m pytest -m browser tests/browser

# on a machine with nothing else to do
bench: $(STAMP)
	for name in sum_speed fit_overhead streaming resume_cost puzzle_step evaluate_speed evaluate_line ideas device_waits pretrained_head; do $(BIN)/python benchmarks/$$name.py; done

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) demo

# torch first and by its exact version, so that no resolver is free to fetch another build of it
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(CONSTRAINTS))"
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(ORACLES)
	touch $(STAMP)
