# Bare `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export OMP_NUM_THREADS ?= 2

.PHONY: help setup demo test check lint types contracts protos docs fresh charts kafka csar bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]' --constraint constraints.txt
	touch $@

setup: $(VENV)/.installed ## make the virtual environment with all that the project needs

demo: setup ## run one simulated day through all three RICs; report in out/demo/
	$(BIN)/twinric demo --out out/demo

test: setup ## run all tests: unit, component, system (real Kafka broker)
	$(BIN)/python -m pytest

check: lint types contracts fresh test ## everything that CI checks

lint: setup ## ruff: style and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup ## mypy --strict
	$(BIN)/mypy

contracts: setup ## who may import whom
	$(BIN)/lint-imports

fresh: setup ## stubs and generated files are what their sources make
	$(BIN)/python tools/fresh.py

protos: setup ## write the stubs of proto/ to ric/pb/
	$(BIN)/python tools/protos.py

docs: setup ## write the generated pages and descriptors
	$(BIN)/python tools/docs.py
	$(BIN)/python tools/descriptors.py

charts: setup ## lint and render the Helm charts
	$(BIN)/python -m pytest tests/component/charts

kafka: setup ## start a one-node Apache Kafka on port 9092 (Ctrl-C stops it)
	$(BIN)/python tools/kafka/broker.py run

csar: setup ## build the rApp packages into dist/
	$(BIN)/python tools/csar.py

BENCHMARKS := a1_rest bus conflict_check demo e2_loop e2_scale e2_throughput e3_loop fault_detection fuzz hems_fleet hems_fleet_cap hems_shards hems_year microgrid_guard slice_budgets slice_decision slice_env slice_fault slice_rl

bench: setup ## run the benchmarks; results in benchmarks/results/, page by `make docs`
	for name in $(BENCHMARKS); do \
	  $(BIN)/python -m benchmarks.$$name --json benchmarks/results/$$name.json || exit 1; done

clean: ## remove what was built, the environment too
	rm -rf $(VENV) .venv-onos .kafka out dist build *.egg-info .mypy_cache .ruff_cache .pytest_cache
