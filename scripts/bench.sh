#!/usr/bin/env bash
# Times what Referee does, each row beside its floor, and prints one table. Nothing here passes or fails: read the ratios.
#   scripts/bench.sh [--json FILE] [--samples N] [ROW…]
#   scripts/bench.sh node [--samples N] [--seconds N]        calls through a node's API
# A whole `referee-vmm run` beside bubblewrap is in benches/run_process.sh.
. "$(dirname "$0")/lib.sh"

if [ "${1:-}" = node ]; then
  shift
  cargo build --release --locked --quiet -p referee-benches -p referee-vmm
  exec "$CARGO_TARGET_DIR/release/referee-node-bench" --program "$CARGO_TARGET_DIR/release/referee-vmm" "$@"
fi
cargo build --release --locked --quiet -p referee-benches -p referee-tpm
floor="$CARGO_TARGET_DIR/release/referee-floor"
cc -O2 -Wall -Wextra -pthread -o "$floor" benches/floor/floor.c
exec "$CARGO_TARGET_DIR/release/referee-bench" --floor "$floor" "$@"
