# make quickstart   watch a search agent learn on this machine (sets everything up); DIALECT=tools,
#                   RECIPE=thinker-searcher, RECIPE=coda and RECIPE=distill show others
# make test         lint, types and tests (sets everything up)
# make test-sglang  the embedded engine's tests against a real SGLang, SGLANG_PYTHON=<a Python that has it>; ROUTER=1
#                   also through the real router, ROUTER_PYTHON=<a Python that has sglang-router> if it is another
# make test-vllm    the tool-calling recipe against a real vLLM, VLLM_PYTHON=<a Python that has it>
# make test-slime-train  every recipe through slime's own trainer on the CPU, SLIME_HOME=, MEGATRON_HOME=, SGLANG_PYTHON=
# make lint         lint and types alone
# make benchmark    the rollout's speed against a bare client's; benchmarks/README.md has the others
# make clean        removes the environment and caches; models and evaluations stay

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OUTPUT ?= runs/quickstart
SEED ?= 0
DIALECT ?=
RECIPE ?= search-r1

.PHONY: quickstart test test-sglang test-vllm test-slime-train needs-sglang needs-slime needs-vllm lint benchmark clean help

help:
	@sed -n 's/^# //p' Makefile

quickstart: $(VENV)/.local
	$(BIN)/slime-search quickstart --output $(OUTPUT) --seed $(SEED) --recipe $(RECIPE) \
		$(if $(DIALECT),--dialect $(DIALECT))

test: lint
	$(BIN)/python -m pytest -n 2

test-sglang: needs-sglang $(VENV)/.dev
	$(BIN)/python -m pytest tests/conformance

test-vllm: needs-vllm $(VENV)/.dev
	$(BIN)/python -m pytest tests/conformance/test_conformance_vllm.py

test-slime-train: needs-sglang needs-slime $(VENV)/.dev
	SLIME_TRAIN=1 $(BIN)/python -m pytest tests/slime_train

needs-slime:
	@test -n "$(SLIME_HOME)" -a -n "$(MEGATRON_HOME)" || { echo "test-slime-train needs SLIME_HOME=<a checkout of slime> and MEGATRON_HOME=<one of Megatron-LM with slime's patch>; docs/rehearsal.md says more" >&2; exit 1; }

needs-sglang:
	@test -n "$(SGLANG_PYTHON)" || { echo "this needs SGLANG_PYTHON=<a Python that has sglang, 0.5.23 or newer>" >&2; exit 1; }

needs-vllm:
	@test -n "$(VLLM_PYTHON)" || { echo "test-vllm needs VLLM_PYTHON=<a Python that has vllm, 0.32 or newer>" >&2; exit 1; }

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

benchmark: $(VENV)/.dev
	$(BIN)/python -m benchmarks.rollout

## One environment; the stamps say which extras are in it.
$(VENV)/.%: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "slime-search needs Python 3.11 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$*]'
	touch $@

## Trained models and evaluations, in $(OUTPUT) and elsewhere, stay.
clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
