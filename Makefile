# SPDX-License-Identifier: Apache-2.0
# ESPNET_EXT_VENV moves the environment; make test ARGS="tests/shell -k env" JOBS=0 (no processes)
VENV := $(abspath $(or $(ESPNET_EXT_VENV),.venv))
UV = $(or $(shell command -v uv),$(abspath .uv/venv/bin/uv))
ARGS ?=
JOBS ?= 2
# Parallel jobs bring their own processes; threads on top of them only fight for the cores.
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help env test demo docs lint dist clean-env

help:  ## this list
	@sed -n 's/^\([a-z-]*\): .*## /\1\t/p' Makefile | expand -t 12

env: ## the environment in .venv, by uv; at once when nothing changed
	@utils/env.sh

test: env ## all tests
	@$(VENV)/bin/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(ARGS)

demo: env ## synthetic corpus, training, decoding and scores in minutes, nothing to download
	@cd egs2/synth/asr1 && ESPNET_EXT_VENV="$(VENV)" ./run.sh

docs: env ## the site of docs/ in build/docs; every warning is an error
	@$(VENV)/bin/python -m sphinx -q -W --keep-going -n docs build/docs && echo build/docs/index.html

lint: env ## ruff and shellcheck
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@git ls-files -z --cached --others --exclude-standard '*.sh' .ci/run | \
		xargs -0 $(VENV)/bin/shellcheck -x

dist: env ## sdist and wheel in dist/, checked as a package index would
	@rm -rf dist && $(UV) build -q -p $(VENV)/bin/python && $(UV) tool run -p $(VENV)/bin/python twine check --strict dist/*

clean-env: ## removes the environment and what .uv holds
	@rm -rf "$(VENV)" .uv
