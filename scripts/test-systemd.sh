#!/usr/bin/env bash
# Passes the service's tests under a real systemd: installs the Debian package in a Debian 12 machine (systemd-nspawn, systemd as
# its process 1, this machine's /dev/kvm), and does there what an operator does and what goes wrong (scripts/systemd/inside.sh).
# Needs root. The machine's root is made once by debootstrap under ~/.cache/referee/debian-12 and only ever read: what a run writes
# is in memory and gone with it.
#   scripts/test-systemd.sh
# Exit codes: 0 passed, 124 this machine cannot do it or was not done in time (nothing is said about Referee), any other: failed.
. "$(dirname "$0")/lib.sh"

started=$SECONDS
untested() { say "under systemd NOT tested: $*"; exit 124; }

[ "$(id -u)" -eq 0 ] || untested "only root can make the machine"
[ -c /dev/kvm ] || untested "there is no /dev/kvm"
missing=()
for pair in systemd-nspawn:systemd-container debootstrap:debootstrap systemd-analyze:systemd nsenter:util-linux; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
done
if [ "${#missing[@]}" -gt 0 ]; then
  say "installing: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >/dev/null \
    || untested "cannot install ${missing[*]}"
fi
# A version 2 tree of control groups: below it the machine's systemd keeps its own, and DeviceAllow= is a program of the kernel's there.
cgroups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/self/mounts)
[ -n "$cgroups" ] || untested "no cgroup2 file system is mounted"

work=$(mktemp -d "${TMPDIR:-/tmp}/referee-test-systemd.XXXXXX")
machine=referee-test-$$
nspawn=''
clean() {
  if [ -n "$nspawn" ]; then
    # It ends the machine in order; `timeout`, whose number this is, passes the signal on and kills it if it stays.
    kill -TERM "$nspawn" 2>/dev/null || true
    for _ in $(seq 100); do kill -0 "$nspawn" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$nspawn" 2>/dev/null || true
    # A machine outlives a systemd-nspawn that was killed.
    [ ! -e "$cgroups/$machine/cgroup.kill" ] || echo 1 >"$cgroups/$machine/cgroup.kill"
    sleep 0.2
  fi
  # Where there are trees of version 1 too, systemd-nspawn has made its groups in one of them as well.
  awk '$3 ~ /^cgroup2?$/ { print $2 }' /proc/self/mounts | while read -r tree; do
    [ ! -d "$tree/$machine" ] || find "$tree/$machine" -depth -type d -exec rmdir {} \; 2>/dev/null || true
  done
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

root=$HOME/.cache/referee/debian-12
mkdir -p "$(dirname "$root")"
exec 9>"$root.lock"
flock --timeout 600 9 || untested "another run has the machine's root"
if [ ! -e "$root.made" ]; then
  say "making a Debian 12 root (a minute, once)"
  rm -rf --one-file-system "$root"
  # Where this machine has its own packages from, if it is a Debian.
  # shellcheck disable=SC2016 # apt-get replaces it
  mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Codename: bookworm' 2>/dev/null | head -n 1) || mirror=''
  timeout 900 debootstrap --variant=minbase --include=procps,systemd,systemd-sysv bookworm "$root" ${mirror:+"$mirror"} >"$work/debootstrap" 2>&1 \
    || { tail -n 3 "$work/debootstrap" >&2; rm -rf --one-file-system "$root"; untested "debootstrap did not make a root"; }
  touch "$root.made"
fi

stage=$work/stage
mkdir "$stage"
scripts/package.sh --debug | tee "$work/package.log"
cp "$(tail -n 1 "$work/package.log")" "$stage/referee.deb"
cp scripts/systemd/*.sh "$stage/"

say "building the muscle"
tool=$CARGO_TARGET_DIR/debug/cargo-muscle
examples=$PWD/muscle-sdk/examples
(
  cd "$work"
  "$tool" muscle keygen author
  "$tool" muscle keygen root
  "$tool" muscle trust init trust.store --root-key root.key --expires 1d
  "$tool" muscle trust add-publisher trust.store --name author --key author.pub --scope '*' --expires 1d --root-key root.key
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/muscles "$tool" muscle build --folder "$examples" --package order-risk \
    --key author.key --output order-risk.muscle
) >"$work/muscle.log" 2>&1 || { cat "$work/muscle.log" >&2; exit 1; }
cp "$work/trust.store" "$work/order-risk.muscle" "$stage/"

say "booting"
# The device that the service's sandbox is to keep away must be one that file permissions alone give to everybody.
other=()
[ -c /dev/fuse ] && other=(--bind=/dev/fuse)
# All capabilities and bpf(2), because the machine's systemd is to do to the service what one on a host does.
mkdir "$cgroups/$machine"
(
  echo "$BASHPID" >"$cgroups/$machine/cgroup.procs"
  # Nothing is to be left of it when this script is killed.
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 exec timeout --kill-after=10 "${SYSTEMD_TEST_TIMEOUT:-300}" \
    systemd-nspawn --quiet --directory="$root" --volatile=overlay --boot --keep-unit --register=no --machine="$machine" \
    --bind=/dev/kvm "${other[@]}" --bind-ro="$stage:/stage" --link-journal=no --console=pipe \
    --capability=all --system-call-filter='bpf @keyring'
) >"$work/console" 2>&1 9>&- </dev/null &
nspawn=$!

# Its process 1 is the only child of systemd-nspawn, which is the only child of timeout.
child() { tr -d ' ' <"/proc/$1/task/$1/children" 2>/dev/null; }
in_machine() {
  nsenter --target "$leader" --mount --uts --ipc --net --pid --cgroup -- \
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"
}
booted=false leader=''
for _ in $(seq 120); do
  kill -0 "$nspawn" 2>/dev/null || break
  container=$(child "$nspawn") && [ -n "$container" ] && leader=$(child "$container") || leader=''
  if [ -n "$leader" ] && in_machine systemctl is-system-running 2>/dev/null | grep -qE 'running|degraded'; then
    booted=true
    break
  fi
  sleep 0.5
done
$booted || { tail -n 5 "$work/console" >&2; untested "systemd did not come up in the machine"; }
say "[$((SECONDS - started)) s] systemd $(in_machine systemctl --version | awk 'NR == 1 { print $2 }') runs"

code=0
in_machine timeout --kill-after=5 "${SYSTEMD_TEST_TIMEOUT:-300}" bash /stage/inside.sh || code=$?
if [ "$code" -ne 0 ]; then
  # 124 is timeout's own, and a test that hangs has failed.
  say "FAILED (code $code); the service's journal:"
  in_machine journalctl --unit referee.service --no-pager --lines 40 >&2 || true
  exit 1
fi
say "[$((SECONDS - started)) s] the service holds under systemd"
