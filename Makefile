# Two commands matter: `make run` and `make test`. The rest is convenience; `make help` lists it.
# `backstop` takes further flags through ARGS, such as `make run ARGS="--dir /tmp/b --listen 127.0.0.1:9443"`.

SHELL := /bin/bash
.DELETE_ON_ERROR:
BACKSTOP := target/release/backstop
ARGS ?=
BENCH ?=
# What tests are built with lets them end a process at a named point; what is released is not.
TESTED := --workspace --features backstop-proxy/failpoints,backstop-core/failpoints

.PHONY: help run build test faults claims sim torture switches publish fmt demo bench tools luacheck postgresql sqlite faketime

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: build ## build, then start all tiers of both stacks
	exec $(BACKSTOP) up $(ARGS)

build: tools ## build every binary for release
	cargo build --release

test: tools luacheck postgresql sqlite faketime ## everything that CI checks: format, lints, all tests with real processes
	cargo fmt --all --check
	cargo clippy $(TESTED) --all-targets -- -D warnings
	luacheck --quiet --config lua/.luacheckrc lua/policies lua/defaults lua/tests
	cargo build $(TESTED) --bins
	cargo test $(TESTED) --no-fail-fast

faults: build postgresql faketime ## every fault for ten seconds at 300/s, and one table: in time, whatever breaks
	BACKSTOP_FAULTS=full BACKSTOP_BIN_DIR=$(CURDIR)/target/release cargo test --test faults -- --nocapture

claims: build postgresql ## 400,000 real claims on two cores and one PostgreSQL, kill -9 amid them; needs ../shared/data
	BACKSTOP_CLAIMS=full BACKSTOP_BIN_DIR=$(CURDIR)/target/release cargo test --test claims -- --nocapture

sim: ## 10,000 seeds of faults over the machines of book and settlement, in virtual time
	BACKSTOP_SIM_SEEDS=10000 cargo test --release --test sim -- --nocapture

torture: build postgresql sqlite ## ten minutes of kills of every process under load, then the books against what clients wrote down
	BACKSTOP_TORTURE=full BACKSTOP_BIN_DIR=$(CURDIR)/target/release cargo test --test torture -- --nocapture

switches: build ## 100 switches under load, kills around them, bad stacks, ten minutes of health
	BACKSTOP_SWITCH=full BACKSTOP_BIN_DIR=$(CURDIR)/target/release cargo test --test switch -- --nocapture --include-ignored --test-threads=1

publish: build ## 100 bundles put in force under load
	BACKSTOP_PUBLISH=full BACKSTOP_BIN_DIR=$(CURDIR)/target/release cargo test --test publish bundles -- --nocapture

fmt: ## format the code
	cargo fmt --all

demo: build ## one day of shop traffic while core, then api, is killed; one screen
	deploy/demo

bench: build ## what a decision costs here, next to peers: one table; BENCH="tiers 5 3" for one section
	deploy/bench $(BENCH)

# What a fresh machine may lack: cmake builds the edge's zlib, luacheck reads the rules, and tests make
# PostgreSQL clusters of their own, with an initdb that Debian keeps off the PATH.
tools:
	@$(call install,cmake,cmake)

# Without it one row of the faults is left out, and says so.
faketime:
	-@$(call install,faketime,faketime)

luacheck:
	@$(call install,luacheck,lua-check)

postgresql:
	@$(call install,initdb,postgresql)

# Reads the books that tests compare.
sqlite:
	@$(call install,sqlite3,sqlite3)

# install TOOL,PACKAGE: by apt where that is allowed, else says in one line what to do.
define install
is_there() { command -v $(1) || ls /usr/lib/postgresql/*/bin/$(1); } >/dev/null 2>&1; \
is_there || { \
  echo "installing $(2), for $(1)"; \
  if command -v apt-get >/dev/null && [ "$$(id -u)" = 0 ]; then \
    { apt-get install -y -qq $(2) || { apt-get update -qq && apt-get install -y -qq $(2); }; } >/dev/null 2>&1; \
  fi; \
  is_there || { echo "error: $(1) is missing; install it, on Debian with: sudo apt-get install $(2)" >&2; exit 1; }; \
}
endef
