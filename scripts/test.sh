#!/usr/bin/env bash
# Passes every test that Referee has; a missing /dev/kvm is a failure, nothing is skipped silently.
# An emulator that does not get on, or a machine that cannot run systemd in one of its own, is said at the end; with
# REFEREE_REQUIRE_NPT=1, REFEREE_REQUIRE_SYSTEMD=1 and REFEREE_REQUIRE_METRICS=1 they are failures too.
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
cargo fmt --all --check --manifest-path muscle-sdk/examples/Cargo.toml
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

if ! $quick; then
  step "the second kind of KVM: nested paging under emulation"
  code=0
  scripts/test-npt.sh || code=$?
  case $code in
    0) ;;
    124)
      untested="the second kind of KVM was NOT tested: the emulator was not done in time"
      say "$untested"
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
  step "all passed that ran; $untested (scripts/test-npt.sh, scripts/test-systemd.sh, scripts/test-metrics.sh try again)"
else
  step "all passed"
fi
