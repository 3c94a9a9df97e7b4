# make demo: install, compare five training procedures on embedded images, write demo/index.html
# make test: install, then style, types and tests; make test-slow: those that kill processes and wait for them
# make test-accelerator: train and evaluate on a pretended accelerator, which is compiled first (needs c++)
# make test-browser: look at the pages, and the documentation, with Chromium; make bench: measure what the benchmarks claim
# make test-lowest: with the lowest declared versions; make test-pythons: on every Python that is here
# make test-packages: with Weights & Biases, MLflow, datasets and Albumentations, in an environment of their own (2 GB)
# make docs: build the documentation into site/, and look for dead links and for what comes from the net
# make mutation: whether the tests notice faults that are put into the parts (an hour; goes on where it stopped)
# make test-types: the public surface as mypy and pyright see it from outside
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS := constraints.txt
PACKAGES := constraints-packages.txt
STAMP := $(VENV)/.installed
# what the tests compare with; their own requirements would replace torch
ORACLES := torchattacks==3.5.1 captum==0.9.0
# extras whose lowest versions live together and are tried
LOWEST_EXTRAS := parquet lmdb onnx tensorboard slurm fsspec tune
# extras that are not tried there, whose modules cannot be imported without
NOT_LOWEST := accelerate lightning transformers
# what makes faults and says which test runs which line
MUTATION := mutmut==3.8.1 coverage==7.17.5
# the second checker of the public surface
PYRIGHT := pyright[nodejs]==1.1.414
# compiled tests are kept, or a second "make test" would take seconds longer to start
export PYTHONDONTWRITEBYTECODE :=

.PHONY: demo test test-slow test-accelerator test-browser test-lowest test-pythons test-types test-packages mutation lint bench clean docs

demo: $(STAMP)
	$(BIN)/lessonplan compare --data digits --per-class 10 --methods erm,mixup,sum,cascade,gradual --seeds 5 --budget "30k samples" --evaluate-every 20 --out demo
	@echo "open demo/index.html in a browser"

test: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m "not browser and not slow and not accelerator and not packages"

test-slow: $(STAMP) $(VENV)/.s3 $(VENV)/.types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m slow

test-accelerator: $(STAMP)
	PYTHONPATH=tests/accelerator $(BIN)/python -c "import pretended; pretended.install()"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto -m accelerator tests/accelerator

test-browser: docs
	$(BIN)/python -m pytest -m browser tests/browser

# The lowest versions that pyproject.toml declares, but for PyTorch: another build of it than the constraints' brings
# gigabytes of CUDA libraries, so that torch>=2.6 is declared and not tried here. So are timm, transformers, accelerate,
# lightning and peft, whose tests compare with what newer versions have (timm's multi_label, the names of layers in
# transformers 5, Lightning's fit(weights_only=)), and what brings much (Ray, S3, GCS, W&B, MLflow, Albumentations).
test-lowest: $(STAMP)
	$(PYTHON) -m venv $(VENV)-lowest
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(CONSTRAINTS))" \
		$$($(BIN)/python tests/release/lowest_versions.py $(LOWEST_EXTRAS)) \
		"pytest>=8" "pytest-xdist>=3.6" "hypothesis>=6.100"
	$(VENV)-lowest/bin/pip install --quiet --disable-pip-version-check --no-deps -e .
	OMP_NUM_THREADS=1 $(VENV)-lowest/bin/python -m pytest -n auto $(LOWEST) \
		$(NOT_LOWEST:%=--ignore=src/lessonplan/integrations/%.py) \
		-m "not browser and not slow and not accelerator and not packages"

# Without PyTorch, for the same reason: compiling, the command line and what needs no network.
test-pythons:
	for version in 3.10 3.11 3.12 3.13; do \
		command -v python$$version >/dev/null || { echo "python$$version is not here"; continue; }; \
		python$$version -m venv $(VENV)-$$version \
		&& $(VENV)-$$version/bin/pip install --quiet --disable-pip-version-check \
			"tyro>=1.0.17" "pydantic>=2.7" "pyyaml>=6.0.1" "rich>=13.7" "psutil>=5.9" "packaging>=22" \
		&& $(VENV)-$$version/bin/python tests/release/without_torch.py || exit 1; \
	done

test-types: $(STAMP) $(VENV)/.types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/release/test_types.py

# With what development does without. None of these tests may be skipped, and the first thing is to import everything.
test-packages: $(VENV)-packages/.installed
	LESSONPLAN_PACKAGES=all OMP_NUM_THREADS=1 $(VENV)-packages/bin/python -m pytest -n auto -m packages tests/packages

# An environment of its own, since they want other versions of what others need: constraints that the file of their own
# names go before the others.
$(VENV)-packages/.installed: pyproject.toml $(CONSTRAINTS) $(PACKAGES)
	$(PYTHON) -m venv $(VENV)-packages
	awk -F== 'NR == FNR { own[$$1]; next } !($$1 in own)' $(PACKAGES) $(CONSTRAINTS) > $(VENV)-packages/constraints.txt
	$(VENV)-packages/bin/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(CONSTRAINTS))" \
		-c $(VENV)-packages/constraints.txt -c $(PACKAGES) -e ".[dev-packages]"
	touch $@

mutation: $(STAMP) $(VENV)/.mutation
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/mutation.py

$(VENV)/.mutation: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(CONSTRAINTS))" $(MUTATION)
	touch $@

docs: $(STAMP) $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict --site-dir site
	$(BIN)/python docs/site/check_site.py site
	@echo "open site/index.html in a browser"

# Pyright is a program of Node.js: its package fetches it when it runs first
$(VENV)/.types: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check $(PYRIGHT)
	$(BIN)/pyright --version
	touch $@

# a client of S3 and a server of its protocol, which tests of object stores start
$(VENV)/.s3: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) "$$(grep '^torch==' $(CONSTRAINTS))" -e ".[dev-s3]"
	touch $@

$(VENV)/.docs: $(STAMP)
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) "$$(grep '^torch==' $(CONSTRAINTS))" -e ".[docs]"
	touch $@

# on a machine with nothing else to do
bench: $(STAMP)
	for name in foreign_loops sum_speed drop_in augment_speed fit_overhead streaming resume_cost puzzle_step evaluate_speed evaluate_line ideas device_waits pretrained_head tune_overhead two_ranks; do $(BIN)/python benchmarks/$$name.py; done

lint: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(VENV)-* demo site

# torch first and by its exact version, so that no resolver is free to fetch another build of it
$(STAMP): pyproject.toml $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$$(grep '^torch==' $(CONSTRAINTS))"
	$(BIN)/pip install --quiet --disable-pip-version-check -c $(CONSTRAINTS) -e ".[dev]"
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(ORACLES)
	touch $(STAMP)
