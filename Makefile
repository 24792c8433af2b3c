# `make quickstart` and `make test` are all a newcomer needs; both install first.

PYTHON ?= python3
BIN := .venv/bin
QUICK := runs/quickstart

.PHONY: help install quickstart figures test test-lowest check lint format types contracts pins clean

help:
	@echo "make quickstart   train, certify and draw on 8x8 digits, with two Ray actors"
	@echo "make figures      draw the figures of the README once more"
	@echo "make test         install and run the default test suite"
	@echo "make check        lint, types, import contracts, tests"
	@echo "make install      set up .venv"

install: .venv/.installed

.venv/.installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed, got `$(PYTHON) --version`: set PYTHON=..."; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --requirement requirements.txt
	$(BIN)/pip install --quiet --no-deps --editable .
	@touch $@

quickstart: install
	test -f $(QUICK)/lenet-0.25.safetensors || $(BIN)/rddrs train quickstart
	$(BIN)/rddrs certify quickstart --resume
	$(BIN)/rddrs curves $(QUICK)/certify --out $(QUICK)/figures
	$(BIN)/rddrs report $(QUICK)/certify --out $(QUICK)/report.html --checkpoints $(QUICK)/lenet-0.25.safetensors

# Without NETWORKS (a folder with LeNet5_0.12.pth, LeNet5_0.25.pth and LeNet5_0.5.pth) and DATA (a
# torchvision root) those that need neither. Runs that are there are kept, or go on; all of them
# take ten minutes of a GPU and half a day of two cores. The picture of a report wants Chromium,
# and time for figures that are drawn as they come into view, which it does not wait by itself;
# that of scaling is left as it is without CIFAR (a folder of CIFAR-10 as Parquet files).
CHROMIUM ?= chromium
DATA ?= data
CIFAR ?= $(DATA)/cifar10
HAS_CIFAR = $(wildcard $(CIFAR)/test-*.parquet)
NETWORKS ?=
NET = $(foreach sigma,0.12 0.25 0.5,$(NETWORKS)/LeNet5_$(sigma).pth)
MNIST = --dataset mnist --data-root $(DATA) --checkpoint $(NETWORKS)/LeNet5_$(1).pth --sigma $(1) --resume
GPU = --shard-size 100 --actors 1 --gpus-per-actor 1

figures: quickstart
	$(BIN)/rddrs curves $(QUICK)/certify --out docs/figures/digits
	$(BIN)/python jobs/figure1.py --out docs/figures/figure1
	$(BIN)/rddrs report $(QUICK)/certify --out $(QUICK)/picture.html --images 0 \
		--checkpoints $(QUICK)/lenet-0.25.safetensors
	$(CHROMIUM) --headless=new --no-sandbox --hide-scrollbars --window-size=1060,2060 \
		--virtual-time-budget=10000 --screenshot=docs/figures/report.png \
		file://$(abspath $(QUICK)/picture.html)
ifneq ($(NETWORKS),)
	$(BIN)/rddrs certify $(call MNIST,0.12) $(GPU) --indices 0:10000:334 --out runs/mnist/gpu-0.12
	$(BIN)/rddrs certify $(call MNIST,0.25) $(GPU) --indices 0:10000:100 --out runs/mnist/gpu-0.25
	$(BIN)/rddrs certify $(call MNIST,0.5) $(GPU) --indices 0:10000:334 --out runs/mnist/gpu-0.5
	$(BIN)/rddrs curves runs/mnist/gpu-0.12 runs/mnist/gpu-0.25 runs/mnist/gpu-0.5 \
		--out docs/figures/figure2
	$(BIN)/python jobs/figure2.py --checkpoints $(NET) --sigmas 0.12 0.25 0.5 --out runs/figure2 \
		--data-root $(DATA) --indices 0:10000:1000 --n 10000 --shard-size 1 --save-scales \
		--rddrs.gradient-samples 1000
	cp runs/figure2/figure2/full-size.txt docs/figures/figure2
	test -f runs/mnist/universal-0.25.safetensors || $(BIN)/rddrs train --dataset mnist \
		--data-root $(DATA) --sigma 0.25 --universal 3 --out runs/mnist/universal-0.25.safetensors
	$(BIN)/rddrs certify --dataset mnist --data-root $(DATA) --resume --methods rs urs \
		--checkpoint runs/mnist/universal-0.25.safetensors --indices 0:10000:100 --n 10000 \
		--executor local --shard-size 5 --save-scales --out runs/mnist/universal-0.25
	$(BIN)/rddrs curves runs/mnist/universal-0.25 --out docs/figures/urs
	$(BIN)/rddrs certify $(call MNIST,0.25) --methods rs aim --aim.rotation 10 --aim.shift 1 --aim.scaling 10 \
		--aim.brightness 0.2 --aim.contrast 30 --indices 0:10000:400 --n 10000 \
		--executor local --shard-size 1 --save-scales --out runs/mnist/five
	$(BIN)/rddrs curves runs/mnist/five --sizes aim l2 --out docs/figures/aim
	$(BIN)/rddrs certify $(call MNIST,0.25) --methods rs rddrs_tr --indices 0:10000:50 --n 10000 \
		--shard-size 2 --save-scales --out runs/mnist/sound-0.25
	$(BIN)/rddrs certify $(call MNIST,0.25) --methods ddrs ancer --ddrs.steps 300 --ancer.learning-rates 0.04 \
		--indices 0:10000:50 --n 10000 --shard-size 2 --save-scales --out runs/mnist/sound-ancer
	$(BIN)/rddrs disjoint runs/mnist/sound-0.25 --data-root $(DATA)
	$(BIN)/rddrs disjoint runs/mnist/sound-ancer --data-root $(DATA)
	$(BIN)/rddrs curves runs/mnist/sound-0.25 runs/mnist/sound-ancer --common \
		--out docs/figures/mnist-sound-0.25
	$(BIN)/python jobs/scaling_trial.py --out runs/scaling --data-root $(DATA) \
		--datasets digits mnist $(if $(HAS_CIFAR),cifar10 --cifar-parquet $(CIFAR)) \
		--checkpoints.mnist $(NETWORKS)/LeNet5_0.25.pth
	$(if $(HAS_CIFAR),cp runs/scaling/scaling* docs/figures/scaling)
endif
	rm -f docs/figures/*/*.svg

# Tests of Ray, which mostly wait, in one process; in the other those that compute.
test: install
	$(BIN)/pytest --numprocesses 2

# The lower ends of the dependencies' ranges; their deprecations are not ours to mend.
test-lowest:
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --requirement requirements-lowest.txt
	.venv-lowest/bin/pip install --quiet --no-deps --editable .
	.venv-lowest/bin/pytest -W ignore

check: install lint types contracts test

lint: install
	$(BIN)/ruff check
	$(BIN)/ruff format --check

format: install
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

types: install
	$(BIN)/basedpyright

contracts: install
	$(BIN)/lint-imports

# Resolves the ranges of pyproject.toml afresh and writes them down.
pins:
	$(PYTHON) -m venv .venv-pins
	.venv-pins/bin/pip install --quiet --editable '.[dev]'
	head -n 3 requirements.txt > .venv-pins/pins
	.venv-pins/bin/pip freeze --exclude-editable \
		| grep -v -i -E '^(nvidia-|cuda-|triton)' >> .venv-pins/pins
	mv .venv-pins/pins requirements.txt

clean:
	rm -rf .venv .venv-pins .venv-lowest runs
