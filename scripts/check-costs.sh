#!/usr/bin/env bash
# Counts the instructions that the host's hot paths take, under valgrind, and fails when one takes more than was recorded in
# benches/costs.txt, beyond a bound. Counts do not depend on what else the machine does. KVM cannot run there: these are the
# host's own parts only.
#   scripts/check-costs.sh            compares
#   scripts/check-costs.sh --record   writes benches/costs.txt anew; say in the commit why paths may cost that
. "$(dirname "$0")/lib.sh"

# How many times as much as recorded is too much. Other processors let the same program choose other code (SHA-256, copying).
bound=1.15
recorded=benches/costs.txt
case "${1:-}" in
  '' | --record) ;;
  *) say "unknown option $1"; exit 100 ;;
esac
command -v valgrind >/dev/null || { say "install valgrind first: scripts/setup.sh does"; exit 1; }
cargo build --locked --quiet -p referee-benches --bin referee-hot-path
program="$CARGO_TARGET_DIR/debug/referee-hot-path"

measured="$(mktemp)"
trap 'rm -f "$measured"' EXIT
for path in verify decide convert pump broker record; do
  # A hundred times each, in the function `counted`.
  if ! report="$(valgrind --tool=callgrind --callgrind-out-file=/dev/null '--toggle-collect=*hot_path::counted*' "$program" "$path" 2>&1)"; then
    printf '%s\n' "$report" >&2
    say "$path could not be counted"
    exit 1
  fi
  count="$(sed -n 's/^==[0-9]*== Collected : \([0-9]*\)$/\1/p' <<<"$report")"
  if [ -z "$count" ] || [ "$count" -lt 10000 ]; then
    printf '%s\n' "$report" >&2
    say "$path was not counted: is there a function hot_path::counted in it?"
    exit 1
  fi
  printf '%s %s\n' "$path" "$((count / 100))" >>"$measured"
done

if [ "${1:-}" = --record ]; then
  {
    echo '# Instructions of the host for each, counted by scripts/check-costs.sh, which also writes this file.'
    cat "$measured"
  } >"$recorded"
  say "recorded in $recorded:"
  cat "$measured"
  exit
fi
awk -v bound="$bound" '
  /^#/ { next }
  FNR == NR { recorded[$1] = $2; next }
  !($1 in recorded) { printf "%-8s %9d  nothing is recorded\n", $1, $2; failed = 1; next }
  {
    ratio = $2 / recorded[$1]
    verdict = ratio > bound ? "  TOO MUCH" : ratio < 1 / bound ? "  less: record it, so that it stays so" : ""
    printf "%-8s %9d instructions, recorded %9d, ratio %.2f%s\n", $1, $2, recorded[$1], ratio, verdict
    if (ratio > bound) failed = 1
  }
  END { exit failed }
' "$recorded" "$measured" || {
  say "the host's work became more expensive than benches/costs.txt allows; if it must be, record it: scripts/check-costs.sh --record"
  exit 1
}
