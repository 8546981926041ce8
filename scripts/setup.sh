#!/usr/bin/env bash
# Installs what building and testing Referee needs on Debian 12, and checks that it is there. Safe to repeat:
# what is installed is left alone. Prints what it does. Other scripts source nothing from here; they call it.
set -euo pipefail

say() { printf '==> %s\n' "$*"; }

if [ "$(uname -m)" != x86_64 ]; then
  say "this machine is $(uname -m); Referee runs on x86_64 only so far"
  exit 1
fi

# command:package; scripts/npt/vm.sh installs the emulator by itself.
wanted="cc:gcc ld:binutils shellcheck:shellcheck bwrap:bubblewrap jq:jq openssl:openssl
pkg-config:pkg-config valgrind:valgrind swtpm:swtpm swtpm_setup:swtpm-tools tpm2_checkquote:tpm2-tools"
[ "${1:-}" = --demo ] && wanted="cc:gcc ld:binutils"
missing=()
for pair in $wanted; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
[ "${1:-}" = --demo ] || [ -e /usr/include/tss2/tss2_esys.h ] || missing+=(libtss2-dev)
if [ "${#missing[@]}" -gt 0 ]; then
  say "installing: ${missing[*]}"
  sudo=()
  [ "$(id -u)" -eq 0 ] || sudo=(sudo)
  "${sudo[@]}" apt-get update -qq
  DEBIAN_FRONTEND=noninteractive "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
fi

if ! command -v cargo >/dev/null 2>&1; then
  [ -x "$HOME/.cargo/bin/cargo" ] || {
    cat >&2 <<'EOF'
==> no Rust toolchain found.
    Install rustup as its site describes (https://rustup.rs), open a new shell, and run this again.
    The version that Referee is built with is in rust-toolchain.toml; rustup fetches it by itself.
EOF
    exit 1
  }
fi

if [ ! -e /dev/kvm ]; then
  say "there is no /dev/kvm: load kvm_intel or kvm_amd, or allow nested virtualization for this machine"
  exit 1
elif [ ! -r /dev/kvm ] || [ ! -w /dev/kvm ]; then
  say "/dev/kvm is not yours to use: sudo usermod -aG kvm $(id -un), then log in again"
  exit 1
fi
