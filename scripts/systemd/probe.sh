#!/bin/bash
# shellcheck disable=SC2317 # the functions are called by way of can and cannot
# What the sandbox of referee.service lets a process do. Run by a unit that is a copy of it with another program.
# Prints one line for each; ends with 1 if any is other than it should be.
failed=0
note() { printf '    %-4s %s\n' "$1" "$2"; [ "$1" = ok ] || failed=1; }
can() { local what=$1; shift; if "$@" >/dev/null 2>&1; then note ok "can $what"; else note BAD "cannot $what"; fi; }
cannot() { local what=$1; shift; if "$@" >/dev/null 2>&1; then note BAD "can $what"; else note ok "cannot $what"; fi; }
# System calls by number (x86_64); perl ends with 0 when the call was allowed.
call() { perl -e 'my @a = map { /^-?\d+$/ ? $_ + 0 : $_ } @ARGV; exit(syscall($a[0], @a[1 .. $#a]) == -1)' "$@"; }
opens() { perl -e 'open(my $f, "+<", $ARGV[0]) or do { print "$!\n"; exit 1 }' "$1"; }

cannot "write /usr" touch /usr/probe
cannot "write /etc/referee" touch /etc/referee/probe
can "write its state" touch /var/lib/referee/probe
can "write its log" touch /var/log/referee/probe
rm -f /var/lib/referee/probe /var/log/referee/probe
can "write a directory that a drop-in names" touch /srv/in/probe
cannot "write the user's directory elsewhere" touch /srv/other/probe
cannot "see homes" test -e /root/secret
cannot "see others' files in /tmp" test -e /tmp/secret
cannot "see other processes" test -e /proc/1
cannot "see the kernel's settings" test -e /proc/sys/kernel
can "open /dev/kvm" opens /dev/kvm
cannot "see other devices" test -e /dev/fuse
cannot "make a device" mknod /tmp/null c 1 3
if [ -e /var/lib/referee/other-device ]; then
  # It is there and everybody may open it, but for DeviceAllow=.
  cannot "open a device that is not allowed" opens /var/lib/referee/other-device
fi
can "make the namespaces of a worker" unshare --user --mount --pid --net --ipc --uts --fork true
cannot "make a namespace of control groups" unshare --user --cgroup true
cannot "change the root by chroot" call 161 /
cannot "use keys of the kernel" call 250 0 -3 1
cannot "map memory that is writable and executable" call 9 0 4096 7 34 -1 0
can "map memory that is writable" call 9 0 4096 3 34 -1 0
cannot "open an internet socket" call 41 2 1 0
cannot "open a netlink socket" call 41 16 3 0
can "open a Unix socket" call 41 1 1 0
cannot "get a capability" grep -qE '^Cap(Prm|Eff|Bnd|Amb):.*[1-9a-f]' /proc/self/status
can "not gain privileges" grep -q '^NoNewPrivs:.*1' /proc/self/status
exit $failed
