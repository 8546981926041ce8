#!/usr/bin/env bash
# Runs every fuzz target for a bounded time on top of the kept corpus.
#   scripts/fuzz.sh [SECONDS] [TARGET…]
. "$(dirname "$0")/lib.sh"

seconds="${1:-20}"
shift || true
cd tests/fuzz
if ! cargo fuzz --version >/dev/null 2>&1; then
  say "installing cargo-fuzz"
  cargo install cargo-fuzz --locked --quiet
fi
# libFuzzer's coverage flags are unstable options of an otherwise stable compiler.
export RUSTC_BOOTSTRAP=1
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
targets=("$@")
[ "${#targets[@]}" -gt 0 ] || mapfile -t targets < <(cargo fuzz list)
for target in "${targets[@]}"; do
  say "fuzzing $target for $seconds s"
  # What is found goes to the cache; the kept corpus is only read.
  found="$CARGO_TARGET_DIR/corpus/$target"
  mkdir -p "$found" "corpus/$target"
  cargo fuzz run --sanitizer none "$target" "$found" "corpus/$target" -- -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_funcs=0 -print_final_stats=0
done
say "${#targets[@]} targets, no crash"
