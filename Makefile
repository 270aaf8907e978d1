# The two commands of the README are `make start` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
BIN := target/release/daybreak
WEB_SOURCES := $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/package-lock.json web/vite.config.ts

.PHONY: help start build web dev test test-setup test-long lint fmt bench dist clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

start: build ## build what changed, fetch the default model, serve the chat page on http://localhost:8420
	@exec $(BIN) serve --open $(ARGS)

build: web/dist/index.html ## the binary with the web app inside: target/release/daybreak
	@bash scripts/need.sh cargo cc
	@cargo build --release --quiet --bin daybreak || cargo build --release --bin daybreak

web: web/dist/index.html ## the web app alone (web/dist)

web/dist/index.html: web/node_modules/.package-lock.json $(WEB_SOURCES)
	@cd web && npm run --silent build
	@touch $@

web/node_modules/.package-lock.json: web/package-lock.json
	@bash scripts/need.sh node npm
	@cd web && npm ci --no-audit --no-fund --loglevel=error
	@touch $@

dev: build web/node_modules/.package-lock.json ## server and page with reload on change (page on http://localhost:5173)
	@bash scripts/dev.sh

test: ## everything: Rust, web, whole program, browser; installs what it needs
	@bash scripts/test.sh

test-setup: ## what the tests need: system packages (as root), the test models
	@bash scripts/test-setup.sh

test-long: ## the long ones: soaks, kills, full matrices
	@bash scripts/test-long.sh

lint: web/node_modules/.package-lock.json ## formatters and linters, Rust and web
	@bash scripts/lint.sh

fmt: ## format everything
	cargo fmt --all
	cd web && npm run --silent format

bench: build ## us beside llama.cpp, interleaved, as a table
	@bash bench/run.sh $(ARGS)

dist: build ## one tar with the binary, its licences and a short README
	@bash scripts/dist.sh

clean: ## build outputs
	rm -rf target web/dist web/node_modules dist
