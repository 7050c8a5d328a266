# Quorate's make targets. `make help` lists them; the commands behind them are cargo, quorate and quorate-sim.
# The target folder lies outside the checkout: a fresh clone reuses a compiled RocksDB. CARGO_TARGET_DIR overrides it.

SHELL := /bin/bash
.DEFAULT_GOAL := help

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/quorate/target
BIN := $(CARGO_TARGET_DIR)/release
QUORATE := $(BIN)/quorate
export QUORATE_NODE_BIN := $(BIN)/quorate-node
export QUORATE_PROXY_BIN := $(BIN)/quorate-proxy

PROFILE ?= quick
STAGE ?= auto
SEEDS ?= 200
SEED ?= 1
IMAGE ?= quorate-node:local
SWEEPS_full := $(addprefix workloads/,sweep-replicas.yaml sweep-masters.yaml quorum-matrix.yaml memory-ladder.yaml)
SEARCHES_capacity := $(addprefix workloads/,writes.yaml reads.yaml)
PROXY_IMAGE ?= quorate-proxy:local

.PHONY: help
help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## Install missing system packages (or print the one command that does)
	@.ci/setup

.PHONY: build
build: setup ## Build everything in release
	@.ci/build

.PHONY: bench
bench: build ## Run the suite: make bench [PROFILE=quick|full|capacity] [STAGE=auto|process|docker]; full: sweeps too, capacity: searches
	@$(QUORATE) suite workloads/suites/$(PROFILE).yaml --stage $(STAGE)
	@set -e; for file in $(SWEEPS_$(PROFILE)); do $(QUORATE) sweep $$file --stage $(STAGE); done
	@# A search that ends without a figure keeps nobody from the next one; the worst exit code counts.
	@worst=0; for file in $(SEARCHES_$(PROFILE)); do \
		$(QUORATE) capacity $$file --stage $(STAGE); code=$$?; \
		if [ $$code -gt $$worst ]; then worst=$$code; fi; done; exit $$worst

.PHONY: sweep
sweep: build ## Run a workload at all points of its sweep: make sweep W=workloads/sweep-replicas.yaml
	@test -n "$(W)" || { echo "say which: make sweep W=workloads/sweep-replicas.yaml"; exit 3; }
	@$(QUORATE) sweep $(W) --stage $(STAGE)

.PHONY: capacity
capacity: build ## Look for the highest rate that meets an objective: make capacity W=workloads/writes.yaml [P99=50ms] [REFUSED=0.001]
	@test -n "$(W)" || { echo "say which: make capacity W=workloads/writes.yaml"; exit 3; }
	@$(QUORATE) capacity $(W) --p99 $(or $(P99),50ms) --refused $(or $(REFUSED),0.001) --stage $(STAGE)

.PHONY: run
run: build ## Run one workload: make run W=workloads/baseline.yaml [C=chaos/pause.yaml]
	@test -n "$(W)" || { echo "say which workload: make run W=workloads/baseline.yaml"; exit 3; }
	@$(QUORATE) run $(W) $(if $(C),--scenario $(C)) --stage $(STAGE)

.PHONY: chaos
chaos: build ## Run a scenario against a workload: make chaos C=chaos/kill.yaml [W=…]
	@test -n "$(C)" || { echo "say which scenario: make chaos C=chaos/kill.yaml"; $(QUORATE) list; exit 3; }
	@$(QUORATE) run $(or $(W),workloads/baseline.yaml) --scenario $(C) --stage $(STAGE)

.PHONY: soak-chaos
soak-chaos: build ## Faults drawn at random under load, round after round; resumes: make soak-chaos [SEED=1] [FOR=30m] [W=…]
	@$(QUORATE) chaos $(or $(W),workloads/baseline.yaml) --random --seed $(SEED) --duration $(or $(FOR),30m) --stage $(STAGE)

.PHONY: compare
compare: build ## Set two runs beside each other: make compare [A=results/baseline] [B=results/latest]; of a suite its run of the same experiment
	@$(QUORATE) compare $(or $(A),results/baseline) $(or $(B),results/latest)

.PHONY: baseline
baseline: build ## Run the baseline workload here and keep it as results/baseline, which `make compare` takes
	@BIN=$(BIN) STAGE=$(STAGE) .ci/baseline

.PHONY: report
report: build ## Write a run's report again: make report [RUN=results/latest]
	@$(QUORATE) report $(or $(RUN),results/latest)

.PHONY: test
test: build ## Run all tests, real processes included
	cargo test --release --workspace --no-fail-fast

.PHONY: verify
verify: setup ## Formatting, lints, documentation, edges, tidiness; writes nothing in the checkout
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --release --workspace --no-deps --document-private-items
	@# The selection of `make test`, so that nothing is compiled for this alone.
	cargo test --release --workspace --quiet -- edges:: tidy::

.PHONY: fix
fix: ## Format, and apply what the lints can apply
	cargo fmt --all
	cargo clippy --release --workspace --all-targets --fix --allow-dirty --allow-staged

.PHONY: sim
sim: setup ## Run the simulator: make sim [SEED=1] [SEEDS=200]
	@cargo build --release -p quorate-sim --features marks
	@$(BIN)/quorate-sim --seed $(SEED) --seeds $(SEEDS)

.PHONY: model
model: setup ## Explore the protocol's rules to the end of larger spaces (10 minutes)
	cargo test --release -p quorate-protocol --features large-spaces --test model -- --nocapture

.PHONY: soak
soak: ## Run the simulator over many seeds: make soak [SEED=1] [SEEDS=20000]
	@$(MAKE) --no-print-directory sim SEEDS=$(if $(filter command line,$(origin SEEDS)),$(SEEDS),20000)

.PHONY: soak-disk
soak-disk: build ## Kill random servers 200 times and cut the power 20 times, under load (6 minutes)
	@$(QUORATE) run workloads/kill-storm.yaml --stage process --seed $(SEED)
	@$(QUORATE) run workloads/power-cuts.yaml --stage process --seed $(SEED)

.PHONY: deploy
deploy: setup ## Deploy a database to joining servers under load: make deploy [MB=1000] [KILLS=10] [SEED=1]
	QUORATE_DEPLOY_MB=$(or $(MB),1000) QUORATE_DEPLOY_KILLS=$(or $(KILLS),10) QUORATE_DEPLOY_SEED=$(SEED) \
		cargo test --release -p quorate-node --test deploy -- --nocapture a_database

.PHONY: canary
canary: setup ## Plant bugs in machine and checkers: each must be caught
	cargo test --release -p quorate-check --test planted --test planted_transactions
	cargo test --release -p quorate-sim --test planted -- --campaigns 10

.PHONY: replicas
replicas: setup ## Start 3 MASTERs and 100 REPLICAs, print what a write costs: make replicas [COUNT=100]
	QUORATE_REPLICAS=$(or $(COUNT),100) cargo test --release -p quorate-node --test replicas -- --nocapture

.PHONY: micro
micro: setup ## Criterion benches of proxy, checkers, driver, machine, codec and storage
	cargo bench -p quorate-proxy -p quorate-check -p quorate -p quorate-protocol -p quorate-node

.PHONY: image
image: build ## Build the container images of server and fault proxy from scratch (static binaries)
	@IMAGE=$(IMAGE) PROXY_IMAGE=$(PROXY_IMAGE) docker/build

.PHONY: clean
clean: ## Remove what killed runs left, runs (not the baseline) and the build
	@# What cannot be removed at the engine keeps nobody from cleaning the rest.
	-@test ! -x $(QUORATE) || $(QUORATE) clean
	find results -mindepth 1 -maxdepth 1 ! -name README.md ! -name baseline -exec rm -rf {} +
	cargo clean
