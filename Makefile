# Every target does its own set-up; a Rust toolchain, make and a C compiler are all it takes.
# The host program is the plugins' build tool (`heliograph plugin build`): it finds or installs a wasm32
# standard library, so the plugins need the host first.

CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test prove fuzz bench audit plugins languages peers lint host tools

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

demo: plugins ## Send messages through the whole path and watch them (ARGS=--once ends when all have arrived)
	$(TARGET)/debug/heliograph demo $(ARGS)

test: plugins languages peers lint ## Check the format, the lints and every test
	$(TARGET)/debug/heliograph plugin test plugins
	$(CARGO) test --workspace

prove: ## Run the numbered statements and print their verdicts (ARGS='--seed 7 1 2', ARGS=--help)
	$(CARGO) build --release --package heliograph --package heliograph-tests --bin heliograph --bin prove
	$(TARGET)/release/prove $(ARGS)

fuzz: ## Fuzz every codec that reads what peers send, 60 s each (HELIOGRAPH_FUZZ_SECONDS)
	sh tests/fuzz/run.sh

bench: ## Measure the whole path in a release build (ARGS=--json for one JSON object)
	$(CARGO) build --release --package heliograph
	$(TARGET)/release/heliograph plugin build plugins
	$(TARGET)/release/heliograph bench $(ARGS)

audit: ## Hold all dependencies to their licences, sources and known advisories (cargo-deny, cargo-audit)
	CARGO="$(CARGO)" sh tests/audit.sh $(TARGET)

plugins: host ## Build the bundled plugins into components, in target/plugins
	$(TARGET)/debug/heliograph plugin build plugins

languages: host ## Build the same small router in Rust, C, Python and JavaScript, in target/languages
	sh plugin-sdk/languages/build.sh

peers: ## Install the SMPP programs that the tests talk to (smpplib, node's smpp, Kannel, tshark)
	sh tests/peers/install.sh $(TARGET)

lint: tools ## Check the format and the lints only
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- --deny warnings

host:
	$(CARGO) build --package heliograph

# A minimal rustup profile comes without these two.
tools:
	@$(CARGO) fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	@$(CARGO) clippy --version >/dev/null 2>&1 || rustup component add clippy
