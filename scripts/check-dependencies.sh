#!/usr/bin/env bash
# Checks that crates depend on each other only as docs/architecture.md draws it, and that packages with one job
# are used only where that job is done.
. "$(dirname "$0")/lib.sh"

cargo metadata --format-version 1 --no-deps --locked | python3 scripts/check_dependencies.py
