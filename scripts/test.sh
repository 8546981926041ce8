#!/usr/bin/env bash
# Passes every test that Referee has; a missing /dev/kvm is a failure, nothing is skipped silently.
#   scripts/test.sh            everything
#   scripts/test.sh --quick    without fuzzing and without the second kind of KVM, which is emulated
. "$(dirname "$0")/lib.sh"

quick=false
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
  scripts/test-npt.sh
  step "fuzzing, each parser for a bounded time"
  scripts/fuzz.sh "${FUZZ_SECONDS:-20}"
fi
step "all passed"
