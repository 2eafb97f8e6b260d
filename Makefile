# The handful of commands. Each is one line, to be typed or read as well.

.PHONY: check test one coverage docs ci example

check: ## What to run before each commit.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	scripts/layers

test: ## All tests, with a PostgreSQL server of their own.
	scripts/test

one: ## Some tests: make one A="-p abide-store --test doors lists"
	scripts/test $(A)

coverage: ## All tests, and the line coverage of each crate.
	scripts/coverage

docs: ## The reference, and the tutorial followed step by step.
	cargo doc --workspace --no-deps --lib --open
	scripts/newcomer

example: ## The first example, on /usr/share.
	cargo run --release -p abide-examples --example ingest -- /usr/share

ci: ## Everything that a change must pass.
	bash .ci/run
