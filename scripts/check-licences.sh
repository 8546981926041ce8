#!/usr/bin/env bash
# Holds every dependency to deny.toml: licences, bans, sources.
. "$(dirname "$0")/lib.sh"

if ! cargo deny --version >/dev/null 2>&1; then
  say "installing cargo-deny"
  cargo install cargo-deny --version 0.20.2 --locked --quiet
fi
cargo deny --all-features check bans licenses sources
