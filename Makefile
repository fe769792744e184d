# Millpond. `make help` lists what there is.

CARGO ?= cargo
# Two cores build and test this; more are used where they are.
JOBS ?= $(shell nproc)

.DEFAULT_GOAL := help
.PHONY: help setup build demo test check fmt clippy docs fuzz-check unit bench chaos-test crash-test cluster-mutants cluster-sim kafka-compat node-sim sim

help: ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 17

setup: ## Install what a Debian machine lacks (as root or with sudo), or say what to install
	@./tools/setup

build: setup ## Build the server and the command, optimised
	$(CARGO) build --release --locked -j $(JOBS) -p millpond

demo: build ## Load real data, kill the server in the middle, restart, replay, check; then with a cluster of three: make demo [ARGS=]
	target/release/millpond demo $(ARGS)
	target/release/millpond demo --nodes 3 $(ARGS)

bench: build ## The table of the README: the server and the limit of the disk in turns: make bench [ARGS=]
	target/release/millpond bench suite --report target/bench.html --results target/bench.json $(ARGS)

chaos-test: build ## Kill, pause, cut off and fill three servers under load, check after each round: make chaos-test D=10m [SEED=] (root, for links)
	target/release/millpond bench chaos --duration $(or $(D),60s) $(if $(SEED),--seed $(SEED)) $(ARGS)

crash-test: build ## Kill a server under load again and again, check after each: make crash-test N=500 [SEED=]
	target/release/millpond bench crash --rounds $(or $(N),50) $(if $(SEED),--seed $(SEED)) $(ARGS)

test: setup check unit ## Everything that must hold: lints, documentation, all tests

check: fmt clippy docs fuzz-check ## Format, lints, documentation, fuzz targets

fmt: setup
	$(CARGO) fmt --all --check

clippy: setup
	$(CARGO) clippy --workspace --all-targets --locked -j $(JOBS) -- -D warnings
	$(CARGO) clippy -p millpond-runtime --features glommio --all-targets --locked -j $(JOBS) -- -D warnings

docs: setup
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked -j $(JOBS)

# Into the same directory, since the two share what they depend on.
fuzz-check: setup
	cd fuzz && CARGO_TARGET_DIR=$(abspath $(or $(CARGO_TARGET_DIR),target)) $(CARGO) check --locked --bins -j $(JOBS)

unit: setup
	$(CARGO) test --workspace --locked -j $(JOBS)
	$(CARGO) test -p millpond-runtime --features glommio --lib --locked -j $(JOBS) glo::

cluster-sim: setup ## Clusters in the simulator: make cluster-sim SEEDS=5000 [FIRST=] [JOBS=] [TABLE=docs/simulation.md], or SEED=123 [STEPS=1,4,7]
	$(if $(SEED),SEED=$(SEED) $(if $(STEPS),STEPS=$(STEPS)),SEEDS=$(or $(SEEDS),500)) $(if $(FIRST),FIRST=$(FIRST)) JOBS=$(JOBS) $(if $(TABLE),TABLE=$(abspath $(TABLE))) \
		$(CARGO) test --release --locked -j $(JOBS) -p millpond-raft --test cluster -- --nocapture what_was

node-sim: setup ## Whole nodes in the simulator: make node-sim SEEDS=5000 [FIRST=] [JOBS=], or SEED=123
	$(if $(SEED),SEED=$(SEED),SEEDS=$(or $(SEEDS),500)) $(if $(FIRST),FIRST=$(FIRST)) JOBS=$(JOBS) \
		$(CARGO) test --locked -j $(JOBS) -p millpond --test simulated -- --nocapture what_clients

kafka-compat: setup ## Kafka's clients and tools, all that they are tested by, and hostile requests of their protocol
	KAFKA_COMPAT=all $(CARGO) test --locked -j $(JOBS) -p millpond --test kafka -- --nocapture
	$(CARGO) test --locked -j $(JOBS) -p millpond --test bounded kafka

cluster-mutants: setup ## Break replication on purpose, change by change; the simulator must notice: make cluster-mutants [SEEDS=1000] [ONLY="name .."] [REPORT=path]
	SEEDS=$(or $(SEEDS),1000) ONLY="$(ONLY)" REPORT="$(REPORT)" JOBS=$(JOBS) CARGO="$(CARGO)" ./tools/cluster-mutants

sim: setup ## Crash schedules of the log in the simulator: make sim SEEDS=20000
	SEEDS=$(or $(SEEDS),2000) $(CARGO) test --locked -p millpond-log --test crash -- --nocapture
