PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test test-fast lint types selftest pipeline fixture-runs mutants bench bench-step plan gpu-check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

$(STAMP): pyproject.toml .install/install.sh .install/constraints.txt .install/constraints-cpu.txt .install/overrides-cpu.txt
	PYTHON=$(PYTHON) CPU=$(CPU) sh .install/install.sh
	@touch $@

install: $(STAMP) ## create .venv and install everything into it

run: $(STAMP) ## install, then train the tiny policy on two CPU cores and evaluate it
	$(BIN)/grpo-aflow-train $$(cat .venv/.run_on)

test: $(STAMP) lint types ## install, then lint, types and all tests
	$(BIN)/python -m pytest -q -n 4 --dist loadfile --no-loadscope-reorder

test-fast: $(STAMP) ## the tests that take no models and no long waits
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --no-loadscope-reorder -m "not slow and not gpu"

fixture-runs: $(STAMP) ## make the small runs anew that the notebooks are tried on (tests/fixtures)
	$(BIN)/python tests/fixture_runs.py

selftest: $(STAMP) ## every gold and every attack on the real benchmark files in DATA (default ../shared/data)
	$(BIN)/python -m grpo_aflow.tasks.selftest.full --data $(or $(DATA),../shared/data)
	WHOLE_BATTERY=1 $(BIN)/python -m pytest -q tests/sandbox/test_sandbox_attacks.py

pipeline: $(STAMP) ## data, training, evaluation with baselines and summary, into pipelines/tiny (goes on)
	$(BIN)/grpo-aflow-pipeline pipelines/tiny

mutants: $(STAMP) ## change the pure modules and see which change no test notices (MUTANTS="grpo_aflow.rollout.*": some)
	$(BIN)/mutmut run $(MUTANTS)
	$(BIN)/python experiments/mutants/table.py

bench: $(STAMP) ## the speed benchmarks, one after another (about an hour; results in experiments/*_speed)
	$(BIN)/python experiments/learner_speed/bench.py
	$(BIN)/python experiments/step_speed/bench.py
	$(BIN)/python experiments/sandbox_speed/bench.py
	$(BIN)/python experiments/executor_speed/bench.py

bench-step: $(STAMP) ## a training step beside TRL's trainers (25 minutes; writes its own tables)
	$(BIN)/python experiments/step_speed/bench.py

plan: $(STAMP) ## which documented GPU command fits which card, what makes the others fit, how long its stages should take
	$(BIN)/python -m grpo_aflow.training.plan_table
	$(BIN)/python -m grpo_aflow.training.estimate_table

gpu-check: $(STAMP) ## all about a card in a quarter of an hour: kernels, learner, memory, vLLM (says so without one)
	$(BIN)/python -m grpo_aflow.training.gpu_check

lint: $(STAMP) ## ruff (rules, format) and deptry (all that is imported is declared)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/deptry . --no-ansi

types: $(STAMP) ## mypy
	$(BIN)/mypy -n 2

clean: ## remove what the build made (runs stay)
	rm -rf .venv dist mutants .pytest_cache .mypy_cache .ruff_cache
