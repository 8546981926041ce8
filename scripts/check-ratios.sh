#!/usr/bin/env bash
# Holds what calls, resets and starts take, each as a multiple of what KVM itself takes for the same in the same run, to what was recorded in
# benches/ratios.json, and fails when one is more than twice that, three times in a row: a machine that is busy has bad luck once. Times are
# compared with nothing. On another kind of machine, whose floors differ by more than four times, nothing is compared, and that is said.
#   scripts/check-ratios.sh            compares
#   scripts/check-ratios.sh --record   writes benches/ratios.json anew; say in the commit why something may take that much
. "$(dirname "$0")/lib.sh"

rows=(call call_1k host_call reset_call_16 reset_call_1024 loaded_start start kill)
recorded=benches/ratios.json
bound=2
case "${1:-}" in
  '' | --record) ;;
  *) say "unknown option $1"; exit 100 ;;
esac
# As the tests build everything, so that nothing is built twice.
cargo build --workspace --locked --quiet --bin referee-bench
bin="$CARGO_TARGET_DIR/debug"
cc -O2 -Wall -Wextra -pthread -o "$bin/referee-floor" benches/floor/floor.c
bench=("$bin/referee-bench" --floor "$bin/referee-floor" --samples 400)

if [ "${1:-}" = --record ]; then
  "${bench[@]}" --json "$recorded" "${rows[@]}"
  exit
fi
for attempt in 1 2 3; do
  say "attempt $attempt"
  "${bench[@]}" --compare "$recorded" --bound "$bound" "${rows[@]}" && exit
done
say "calls, resets or starts take more than twice what benches/ratios.json has, three times in a row; if it must be, record it: scripts/check-ratios.sh --record"
exit 1
