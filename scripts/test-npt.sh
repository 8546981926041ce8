#!/usr/bin/env bash
# Passes the hostile suite and the example muscles on the second kind of KVM: AMD's with nested paging, in an emulated
# machine (scripts/npt/vm.sh). The programs and bundles are the same files as on this machine's own KVM, and what the
# muscles print and write must be the same bytes. Function only: nothing measured in there means anything.
#   scripts/test-npt.sh            everything
#   scripts/test-npt.sh WORD…      only the hostile guests whose names have one of the words in them
# Exit codes: 0 passed, 124 the emulator was not done in time (nothing is said about Referee), any other: failed.
. "$(dirname "$0")/lib.sh"

work=$(mktemp -d "${TMPDIR:-/tmp}/referee-test-npt.XXXXXX")
trap 'rm -rf "$work"' EXIT
stage=$work/stage
muscles=$stage/muscles
mkdir -p "$stage" "$muscles/in" "$muscles/out" "$muscles/expected"

say "building the program, the author's tool, the hostile suite"
cargo build --locked --quiet --bin referee-vmm --bin cargo-muscle
# The path of a test program is only in cargo's messages.
test_program() {
  cargo test --locked --quiet --no-run --message-format json --package "$1" --test "$2" \
    | sed -n "s/.*\"name\":\"$2\".*\"executable\":\"\([^\"]*\)\".*/\1/p" | tail -n 1
}
hostile=$(test_program referee-tests hostile)
confinement=$(test_program referee-jail confinement)
built=$CARGO_TARGET_DIR/debug
# Debug information is a multiple of the program, and every byte has to be copied into the emulated machine.
strip --strip-debug -o "$stage/referee-vmm" "$built/referee-vmm"
strip --strip-debug -o "$stage/hostile" "$hostile"
strip --strip-debug -o "$stage/confinement" "$confinement"
cc -O1 -Wall -Wextra -o "$stage/probe" scripts/npt/probe.c

say "building the hostile guests"
REFEREE_TEST_PREPARE=$stage/guests "$hostile"

say "building the example muscles, and running them on this machine's KVM"
author=$work/author
mkdir "$author"
tool=$built/cargo-muscle
(
  cd "$author"
  "$tool" muscle keygen author
  "$tool" muscle keygen root
  "$tool" muscle trust init trust.store --root-key root.key --expires 1d
  "$tool" muscle trust add-publisher trust.store --name author --key author.pub --scope '*' --expires 1d --root-key root.key
) >"$work/author.log" 2>&1 || { cat "$work/author.log" >&2; exit 1; }
cp "$author/trust.store" "$muscles/"
for muscle in thumbnail order-risk phi-redact; do
  # Its own target folder, so that the muscles' linker flags do not make the workspace build again.
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/muscles "$tool" muscle build --folder muscle-sdk/examples --package "$muscle" \
    --key "$author/author.key" --output "$muscles/$muscle.muscle" >"$work/$muscle.log" 2>&1 || { cat "$work/$muscle.log" >&2; exit 1; }
done
cp muscle-sdk/examples/thumbnail/data/rocket.jpg muscle-sdk/examples/order-risk/data/orders.jsonl \
  muscle-sdk/examples/phi-redact/data/messages.hl7 "$muscles/in/"

cp scripts/npt/muscles.sh "$muscles/"
(cd "$muscles" && PATH="$stage:$PATH" sh muscles.sh expected)

cat >"$stage/run" <<'EOF'
#!/bin/sh
# Runs in the emulated machine. Each part's failure is remembered, so that one run shows them all.
failed=0
part() {
  echo "==> $*"
  "$@" || { echo "==> FAILED: $*"; failed=1; }
}
compare() {
  (cd muscles && sh muscles.sh out) && for file in muscles/expected/*; do
    cmp "$file" "muscles/out/$(basename "$file")" || return 1
  done
}
part probe
part confinement
part referee-vmm doctor
part compare
export REFEREE_BIN=/referee/referee-vmm REFEREE_TEST_BUNDLES=/referee/guests
part hostile --test-threads 2 "$@"
exit $failed
EOF
chmod +x "$stage/run"

say "the same on emulated nested paging"
# An emulator that hardly gets on, for reasons of the machine below, is tried once more, and told apart (exit code 124) by the
# caller: what fails, fails.
code=0
for attempt in 1 2; do
  code=0
  scripts/npt/vm.sh --timeout "${NPT_TIMEOUT:-900}" --files "$stage" -- run "$@" || code=$?
  [ "$code" -eq 124 ] || break
  say "attempt $attempt: the emulated machine was not done in time"
done
[ "$code" -eq 0 ] || exit "$code"
say "the second kind of KVM holds"
