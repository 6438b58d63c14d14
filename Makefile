# make demo   install, render two synthetic slides, screen them
# make test   install, lint, type check, layer check, all tests
# make app    the MONAI Label server on the demo slides, http://127.0.0.1:8000; APP_PORT=8001 takes another port
# make weights  train the shipped tiny weights again: ImageNet, synthetic slides, CRIC, Mendeley LBC (one to two hours on 2 cores)
#
# TORCH_INDEX=https://download.pytorch.org/whl/cpu takes torch's CPU wheels instead of the registry's default build.

PYTHON ?= python3
VENV ?= .venv
TORCH_INDEX ?=
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
DONE := $(VENV)/.installed
VENV_APP ?= .venv-app
APP_DONE := $(VENV_APP)/.installed
APP_PORT ?= 8000

.PHONY: demo app test lint test-most test-runtimes test-page weights clean

$(DONE): setup.cfg setup.py pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(TORCH_INDEX),$(PIP) install --index-url $(TORCH_INDEX) -c constraints.txt torch torchvision)
	$(PIP) install -c constraints.txt -e '.[yolo,imagenet,ssl,baselines,text,dicom,fast,int8,kfb,remote,review,dev]'
	touch $@

demo: $(DONE)
	$(BIN)/stride-monai phantom --out demo/slides --slide-class NILM --slide-class HSIL --diameter 3.6 --seed 1 --overwrite
	$(BIN)/stride-monai screen demo/slides --out demo/results --overwrite

$(APP_DONE): $(DONE) apps/cytology/requirements.lock apps/cytology/environment/build.py
	$(BIN)/python apps/cytology/environment/build.py $(VENV) $(VENV_APP)
	touch $@

demo/results/run.json:
	$(MAKE) demo

app: $(APP_DONE) demo/results/run.json
	$(VENV_APP)/bin/python -W ignore -m monailabel.main start_server --app apps/cytology --studies demo/slides \
		--host 127.0.0.1 --port $(APP_PORT) --conf results demo/results --conf work demo/labels

lint: $(DONE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: $(DONE)
	$(MAKE) --jobs 2 --output-sync lint $(APP_DONE) test-runtimes test-page
	$(MAKE) test-most

test-most: $(DONE)
	$(BIN)/pytest -q -n 2 --dist loadfile --ignore tests/runtimes --ignore tests/review/test_page.py

# Apart from the others: a worker that had loaded OpenVINO ended at a later test; the browser wants a core.
test-runtimes: $(DONE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/runtimes

test-page: $(DONE)
	OMP_NUM_THREADS=1 $(BIN)/pytest -q tests/review/test_page.py

weights: $(DONE)
	$(BIN)/python benchmarks/train_weights.py

clean:
	rm -rf $(VENV) $(VENV_APP) demo weights-work build dist *.egg-info
