#!/usr/bin/env bash
# Times what Referee does, each row beside its floor, and prints one table. Nothing here passes or fails but with --compare: read the ratios.
#   scripts/bench.sh [--json FILE] [--samples N] [ROW…]
#   scripts/bench.sh --compare FILE [--bound TIMES] [ROW…]   fails when a ratio is worse than that in FILE, which --json wrote
#   scripts/bench.sh density [--cells N] [--rounds N]        many idle cells: how fast they are made, what memory each takes
#   scripts/bench.sh node [--samples N] [--seconds N]        calls through a node's API
#   scripts/bench.sh node --deployments N [--idle-cells N]   what many of them cost a node
#   scripts/bench.sh node --spinners N [--seconds N] [--slots N]   a real-time deployment beside cells that never stop computing
#   scripts/bench.sh node --traced                           what tracing adds to a call
#   scripts/bench.sh wasmtime                                a peer; built on its own, see benches/wasmtime
# A whole `referee-vmm run` beside bubblewrap is in benches/run_process.sh.
. "$(dirname "$0")/lib.sh"

bin="$CARGO_TARGET_DIR/release"
floor() { cc -O2 -Wall -Wextra -pthread -o "$bin/referee-$1" "benches/floor/$2.c"; }

# Muscles written in Rust, signed by a key that only the benches trust, and the program that does the same work.
muscles="$CARGO_TARGET_DIR/bench-muscles"
build_muscles() {
  local folder="$PWD/benches/muscles" target="$CARGO_TARGET_DIR/muscles"
  rm -rf "$muscles"
  mkdir -p "$muscles"
  (
    cd "$muscles"
    "$bin/cargo-muscle" keygen author
    "$bin/cargo-muscle" keygen root
    "$bin/cargo-muscle" trust init trust.store --root-key root.key --expires 1d
    "$bin/cargo-muscle" trust add-publisher trust.store --name bench --key author.pub --scope '*' --expires 1d --root-key root.key
    for name in compute ringer stream; do
      CARGO_TARGET_DIR="$target" "$bin/cargo-muscle" build --folder "$folder" -p "$name" --key author.key -o "$name.muscle"
    done
    # The flag of a muscle that changes its code; the others are the linker's.
    CARGO_TARGET_DIR="$target" RUSTFLAGS="-Cforce-frame-pointers=yes" cargo build --release --locked --quiet \
      --manifest-path "$folder/Cargo.toml" --target x86_64-unknown-linux-gnu -p native
    cp "$target/x86_64-unknown-linux-gnu/release/native" .
  ) >"$muscles/log" 2>&1 || { cat "$muscles/log" >&2; exit 1; }
}

# All benches build the same, so that none of them builds anything anew.
build() { cargo build --release --locked --quiet -p referee-benches -p referee-tpm -p referee-vmm -p cargo-muscle; }

case "${1:-}" in
  node)
    shift
    build
    exec "$bin/referee-node-bench" --program "$bin/referee-vmm" "$@"
    ;;
  density)
    shift
    build
    floor floor-many many
    exec "$bin/referee-density-bench" --floor "$bin/referee-floor-many" "$@"
    ;;
  wasmtime)
    shift
    CARGO_TARGET_DIR="$CARGO_TARGET_DIR/wasmtime" exec cargo run --release --locked --quiet --manifest-path benches/wasmtime/Cargo.toml -- "$@"
    ;;
esac
build
floor floor floor
build_muscles
exec "$bin/referee-bench" --floor "$bin/referee-floor" --muscles "$muscles" --program "$bin/referee-vmm" "$@"
