#!/usr/bin/env bash
# Passes every test that Referee has; a missing /dev/kvm is a failure, nothing is skipped silently.
# An emulator that does not get on, a machine that cannot run systemd in one of its own, or schemathesis that cannot be had, is said at
# the end; with REFEREE_REQUIRE_NPT=1, REFEREE_REQUIRE_SYSTEMD=1, REFEREE_REQUIRE_METRICS=1 and REFEREE_REQUIRE_API=1 they are failures too.
#   scripts/test.sh            everything
#   scripts/test.sh --quick    without fuzzing, the second kind of KVM, which is emulated, the service under systemd, and Prometheus
. "$(dirname "$0")/lib.sh"

quick=false
untested=''
case "${1:-}" in
  --quick) quick=true ;;
  '') ;;
  *) say "unknown option $1"; exit 100 ;;
esac
started=$SECONDS
step() { say "[$((SECONDS - started)) s] $*"; }

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

step "the node's API against its OpenAPI document"
code=0
scripts/test-api.sh || code=$?
case $code in
  0) ;;
  124)
    untested="the API was NOT tested against its document: schemathesis cannot be had here (see above)"
    say "$untested"
    [ "${REFEREE_REQUIRE_API:-0}" != 1 ] || exit 1
    ;;
  *) exit "$code" ;;
esac

if ! $quick; then
  step "the second kind of KVM: nested paging under emulation"
  code=0
  scripts/test-npt.sh || code=$?
  case $code in
    0) ;;
    124)
      npt="the second kind of KVM was NOT tested: the emulator was not done in time"
      say "$npt"
      untested="${untested:+$untested; }$npt"
      [ "${REFEREE_REQUIRE_NPT:-0}" != 1 ] || exit 1
      ;;
    *) exit "$code" ;;
  esac
  step "the service under systemd"
  code=0
  scripts/test-systemd.sh || code=$?
  case $code in
    0) ;;
    124)
      systemd="the service was NOT tested under systemd: this machine cannot do it (see above)"
      say "$systemd"
      untested="${untested:+$untested; }$systemd"
      [ "${REFEREE_REQUIRE_SYSTEMD:-0}" != 1 ] || exit 1
      ;;
    *) exit "$code" ;;
  esac
  step "metrics with Prometheus"
  code=0
  scripts/test-metrics.sh || code=$?
  case $code in
    0) ;;
    124)
      metrics="metrics were NOT tested with Prometheus: it is not there (see above)"
      say "$metrics"
      untested="${untested:+$untested; }$metrics"
      [ "${REFEREE_REQUIRE_METRICS:-0}" != 1 ] || exit 1
      ;;
    *) exit "$code" ;;
  esac
  step "fuzzing, each parser for a bounded time"
  scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
fi
if [ -n "$untested" ]; then
  step "all passed that ran; $untested (scripts/test-api.sh, scripts/test-npt.sh, scripts/test-systemd.sh, scripts/test-metrics.sh try again)"
else
  step "all passed"
fi
