#!/usr/bin/env bash
# Passes every test that Referee has; a missing /dev/kvm is a failure, nothing is skipped silently.
# An emulator that does not get on, a machine that cannot run systemd in one of its own, or schemathesis that cannot be had, is said at
# the end; with REFEREE_REQUIRE_NPT=1, REFEREE_REQUIRE_SYSTEMD=1, REFEREE_REQUIRE_METRICS=1 and REFEREE_REQUIRE_API=1 they are failures too.
#   scripts/test.sh            everything
#   scripts/test.sh --quick    without fuzzing, the second kind of KVM, which is emulated, the service under systemd, and Prometheus
. "$(dirname "$0")/lib.sh"

quick=false
untested=()
case "${1:-}" in
  --quick) quick=true ;;
  '') ;;
  *) say "unknown option $1"; exit 100 ;;
esac
started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

# optional WHAT NAME SENTENCE COMMAND…: a step whose command ends with 124 where the machine lacks something for it. That is said at once and at
# the end, and is a failure if REFEREE_REQUIRE_NAME is 1.
optional() {
  local what="$1" required="REFEREE_REQUIRE_$2" sentence="$3" code=0
  shift 3
  step "$what"
  "$@" || code=$?
  case $code in
    0) ;;
    124)
      say "$sentence"
      untested+=("$sentence ($* tries again)")
      [ "${!required:-0}" != 1 ] || exit 1
      ;;
    *) exit "$code" ;;
  esac
}

step "set-up"
scripts/setup.sh

step "format, lints, documentation"
cargo fmt --all --check
for workspace in muscle-sdk/examples benches/muscles benches/wasmtime; do
  cargo fmt --all --check --manifest-path "$workspace/Cargo.toml"
done
cargo clippy --workspace --all-targets --locked -- -D warnings
RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --locked --quiet
scripts/check-dependencies.sh
mapfile -t shell_scripts < <(git ls-files "*.sh" .ci/run)
shellcheck -x "${shell_scripts[@]}"
scripts/check-licences.sh

step "examples: their logic as ordinary programs"
(cd muscle-sdk/examples && cargo test --locked --quiet)

step "build of the program and the muscles"
cargo build --locked --bins
(cd muscle-sdk/examples && cargo cell --locked)

step "unit, property and black-box tests, and the hostile suite"
cargo test --workspace --locked

step "what the host's hot paths cost, in instructions"
scripts/check-costs.sh

step "what calls, resets and starts take, in floors of KVM"
scripts/check-ratios.sh

optional "the node's API against its OpenAPI document" API \
  "the API was NOT tested against its document: schemathesis cannot be had here" scripts/test-api.sh

if ! $quick; then
  optional "the second kind of KVM: nested paging under emulation" NPT \
    "the second kind of KVM was NOT tested: the emulator was not done in time" scripts/test-npt.sh
  optional "the service under systemd" SYSTEMD \
    "the service was NOT tested under systemd: this machine cannot do it" scripts/test-systemd.sh
  optional "metrics with Prometheus" METRICS \
    "metrics were NOT tested with Prometheus: it is not there" scripts/test-metrics.sh
  step "fuzzing, each parser for a bounded time"
  scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
fi
if [ ${#untested[@]} -gt 0 ]; then
  step "all passed that ran, but:"
  printf '      %s\n' "${untested[@]}"
else
  step "all passed"
fi
