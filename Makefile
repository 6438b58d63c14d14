# make demo   install, render two synthetic slides, screen them
# make test   install, lint, type check, layer check, all tests
# make weights  train the shipped tiny weights again: ImageNet, synthetic slides, CRIC, Mendeley LBC (one to two hours on 2 cores)
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch's CPU wheels instead of the registry's default build.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DONE := $(VENV)/.installed

.PHONY: demo test lint weights clean

$(DONE): setup.cfg setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) install --index-url $(TORCH_INDEX) -c constraints.txt torch torchvision)
	$(PIP) install -c constraints.txt -e '.[yolo,imagenet,ssl,baselines,text,dicom,kfb,review,dev]'
	touch $@

demo: $(DONE)
	$(BIN)/stride-monai phantom --out demo/slides --slide-class NILM --slide-class HSIL --diameter 3.6 --seed 1 --overwrite
	$(BIN)/stride-monai screen demo/slides --out demo/results --overwrite

lint: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -q -n 2 --dist loadfile

weights: $(DONE)
	$(BIN)/python benchmarks/train_weights.py

clean:
	rm -rf $(VENV) demo weights-work build dist *.egg-info
