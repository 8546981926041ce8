#!/usr/bin/env bash
# Runs a command in an emulated machine that has AMD's virtualization with nested paging (SVM, NPT), so that
# /dev/kvm in there is another kind of KVM than the host's. Needs no /dev/kvm of its own. Evidence of function, never of speed.
#
#   scripts/npt/vm.sh [options] --files DIR -- COMMAND [ARGUMENT…]
#
# DIR is copied to /referee in there; COMMAND runs in it, as root, with busybox's programs and those in DIR on
# its PATH. Shared libraries of the programs in DIR come along. What COMMAND prints is printed here, and its exit code is
# this script's; standard input is empty, and nothing that it writes comes back.
#
#   --program NAME     another program of this machine to take along, with its libraries; may be repeated
#   --timeout SECONDS  for the whole run (300)
#   --memory MIB       of the emulated machine (2048, and what DIR takes is added)
#   --cpus N           of the emulated machine (1): with two, QEMU 7.2 now and then hardly gets on, busy with interrupts
#   --cpu MODEL        as QEMU names it (max,+svm,+npt)
#   --kernel-log FILE  where the emulated kernel's messages go (kept only when something fails)
#   --quiet            print nothing but what COMMAND prints
#
# Exit codes of its own: 124 time is over, 125 the machine could not be made or ended without a result.
#
# The kernel is Debian's linux-image-cloud-amd64, downloaded by apt-get and unpacked under ~/.cache/referee/npt, never installed.
set -euo pipefail

fail() { printf 'vm.sh: %s\n' "$*" >&2; exit 125; }
say() { $quiet || printf '==> %s\n' "$*" >&2; }

files='' timeout=300 memory=2048 cpus=1 cpu=max,+svm,+npt kernel_log='' quiet=false
programs=()
while [ $# -gt 0 ]; do
  case $1 in
    --files|--program|--timeout|--memory|--cpus|--cpu|--kernel-log)
      [ $# -ge 2 ] || fail "$1 needs a value"
      case $1 in
        --files) files=$2 ;;
        --program) programs+=("$2") ;;
        --timeout) timeout=$2 ;;
        --memory) memory=$2 ;;
        --cpus) cpus=$2 ;;
        --cpu) cpu=$2 ;;
        --kernel-log) kernel_log=$2 ;;
      esac
      shift 2 ;;
    --quiet) quiet=true; shift ;;
    --help) sed -n '2,/^set -/{/^set -/d;s/^# \{0,1\}//;p}' "$0"; exit 0 ;;
    --) shift; break ;;
    *) fail "unknown option $1; see --help" ;;
  esac
done
[ $# -gt 0 ] || fail "no command; see --help"
[ -d "$files" ] || fail "--files needs a directory, not '$files'"

cache=${REFEREE_NPT_CACHE:-$HOME/.cache/referee/npt}
mkdir -p "$cache"
work=$(mktemp -d "${TMPDIR:-/tmp}/referee-npt.XXXXXX")
trap 'rm -rf "$work"' EXIT

# --- what this machine needs ---------------------------------------------------------------------------------------------------

install_tools() {
  local pair missing=()
  for pair in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio flock:util-linux ldd:libc-bin; do
    command -v "${pair%%:*}" >/dev/null 2>&1 || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  [ "$(id -u)" -eq 0 ] || fail "missing programs; as root: apt-get install --no-install-recommends ${missing[*]}"
  say "installing: ${missing[*]}"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"; } \
    >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "could not install ${missing[*]}"; }
}

# Prints the package that the meta-package stands for at present.
kernel_package() {
  apt-cache depends --important linux-image-cloud-amd64 2>/dev/null \
    | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)$/\1/p' | head -n 1
}

# Downloads and unpacks the kernel unless that was done before; sets `kernel_dir`. One process at a time.
get_kernel() {
  exec 9>"$cache/lock"
  flock 9
  kernel_dir=$cache/kernel
  if [ ! -e "$kernel_dir/complete" ]; then
    local package
    package=$(kernel_package)
    if [ -z "$package" ]; then
      [ "$(id -u)" -eq 0 ] || fail "apt knows no linux-image-cloud-amd64; as root: apt-get update"
      apt-get update -qq >"$work/apt.log" 2>&1 || { cat "$work/apt.log" >&2; fail "apt-get update failed"; }
      package=$(kernel_package)
    fi
    [ -n "$package" ] || fail "apt knows no linux-image-cloud-amd64 (is this Debian?)"
    say "downloading $package"
    (cd "$work" && apt-get download -qq "$package") >"$work/apt.log" 2>&1 || {
      cat "$work/apt.log" >&2
      fail "could not download $package; as root: apt-get update"
    }
    rm -rf "$kernel_dir"
    mkdir -p "$kernel_dir"
    dpkg -x "$work/$package"_*.deb "$kernel_dir"
    rm -f "$work/$package"_*.deb
    touch "$kernel_dir/complete"
  fi
  exec 9>&-
}

# --- the root file system of the emulated machine ------------------------------------------------------------------------------------

# Copies the shared libraries of a program to where it will look for them.
copy_libraries() {
  local library
  # A static program has none, and ldd then fails.
  { ldd "$1" 2>/dev/null || true; } | sed -n 's/.*=> \(\/[^ ]*\) (.*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' \
    | while read -r library; do
      [ -e "$root$library" ] || { mkdir -p "$root$(dirname "$library")" && cp -L "$library" "$root$library"; }
    done
}

is_elf() { [ "$(head -c 4 "$1" 2>/dev/null | od -An -tx1 | tr -d ' \n')" = 7f454c46 ]; }

# Copies a kernel module after those that it depends on, and lists them in that order.
add_module() {
  local path name dependency
  path=$(find "$kernel_dir" -name "${1//_/[-_]}.ko*" | head -n 1)
  # What is built in, or not built at all, has no file; the kernel says at the end whether it has KVM.
  [ -n "$path" ] || return 0
  name=$(basename "$path")
  case $name in
    *.ko) cp "$path" "$work/module" ;;
    *.ko.xz) xz -dc "$path" >"$work/module"; name=${name%.xz} ;;
    *.ko.zst) zstd -dcq "$path" >"$work/module"; name=${name%.zst} ;;
    *) fail "a module in an unknown format: $path" ;;
  esac
  ! grep -qxF "$name" "$root/modules/order" || return 0
  cp "$work/module" "$root/modules/$name"
  # The module's own list of what it needs: `depends=a,b` in its .modinfo section.
  for dependency in $(tr '\0' '\n' <"$root/modules/$name" | sed -n 's/^depends=//p' | tr ',' ' '); do
    add_module "$dependency"
  done
  echo "$name" >>"$root/modules/order"
}

make_root() {
  local program path
  root=$work/root
  mkdir -p "$root"/{bin,dev,proc,sys,tmp,run,etc,root,modules,mnt} "$root/referee"
  chmod 1777 "$root/tmp"
  cp -L "$(command -v busybox)" "$root/bin/busybox"
  copy_libraries "$root/bin/busybox"
  busybox --list | grep -vx busybox | while read -r program; do ln -s busybox "$root/bin/$program"; done
  for program in "${programs[@]}"; do
    path=$(command -v "$program") || fail "no program '$program' on this machine"
    rm -f "$root/bin/$(basename "$path")"
    cp -L "$path" "$root/bin/$(basename "$path")"
    copy_libraries "$path"
  done
  cp -a "$files/." "$root/referee/"
  find "$root/referee" -type f -perm -u+x | while read -r path; do
    ! is_elf "$path" || copy_libraries "$path"
  done
  printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n' >"$root/etc/passwd"
  printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
  printf '127.0.0.1 localhost\n' >"$root/etc/hosts"

  : >"$root/modules/order"
  add_module kvm_amd
  grep -q '^kvm-amd\.ko$' "$root/modules/order" || fail "the kernel in $kernel_dir has no module kvm-amd"

  cp "$(dirname "$0")/init" "$root/init"
  chmod 755 "$root/init"
  printf '%s\n' "$@" >"$root/command"
}

# --- run ------------------------------------------------------------------------------------------------------------------

started=$SECONDS
install_tools
get_kernel
# One argument a line, so an argument must not contain a line break.
for argument in "$@"; do
  case $argument in *$'\n'*) fail "an argument contains a line break" ;; esac
done
make_root "$@"
kernel=$(find "$kernel_dir/boot" -name 'vmlinuz-*' | head -n 1)
[ -n "$kernel" ] || fail "no kernel in $kernel_dir"
# Uncompressed: emulated decompression costs more than the copy.
(cd "$root" && find . -print0 | cpio --null --create --format=newc --quiet) >"$work/initramfs"
size=$(($(stat -c %s "$work/initramfs") >> 20))
say "booting $(basename "$kernel") under emulation, cpu $cpu, with $size MiB of files"

# The first serial port is the kernel's and carries the result, the second is the command's. Names with the
# run's own token, so that nothing that the command prints can be taken for the result.
token=$(od -An -tx1 -N8 /dev/urandom | tr -d ' \n')
status=0
timeout --kill-after=5 "$timeout" qemu-system-x86_64 \
  -nodefaults -no-user-config -display none -no-reboot -machine q35 \
  -accel tcg,thread=multi -cpu "$cpu" -smp "$cpus" -m "$((memory + 2 * size))" \
  -kernel "$kernel" -initrd "$work/initramfs" \
  -append "console=ttyS0 quiet loglevel=4 panic=-1 tsc=reliable mitigations=off random.trust_cpu=on referee.token=$token" \
  -chardev "file,id=log,path=$work/kernel.log" -serial chardev:log \
  -chardev stdio,id=out,signal=off -serial chardev:out \
  </dev/null 2>"$work/qemu.log" || status=$?

code=$(sed -n "s/.*referee-result $token \([0-9][0-9]*\).*/\1/p" "$work/kernel.log" 2>/dev/null | tail -n 1)
if [ -n "$code" ]; then
  say "exit code $code after $((SECONDS - started)) s"
  exit "$code"
fi
[ -z "$kernel_log" ] || cp "$work/kernel.log" "$kernel_log"
{ cat "$work/qemu.log"; echo "--- last messages of the emulated kernel"; tail -n 30 "$work/kernel.log"; } >&2
if [ "$status" -eq 124 ] || [ "$status" -eq 137 ]; then
  echo "vm.sh: not over after $timeout seconds" >&2
  exit 124
fi
fail "the emulated machine ended without a result (QEMU's status $status)"
