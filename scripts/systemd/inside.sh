#!/bin/bash
# The service as an operator has it, in a machine that is made for this (scripts/test-systemd.sh) and thrown away.
set -euo pipefail

step() { printf '==> [%s s] %s\n' "$SECONDS" "$*"; }
fail() { printf 'FAILED: %s\n' "$*" >&2; exit 1; }
# A condition that comes true within so many seconds.
soon() {
  local limit=$1 end
  shift
  end=$((SECONDS + limit))
  until "$@" >/dev/null 2>&1; do
    [ "$SECONDS" -lt "$end" ] || fail "not within $limit s: $*"
    sleep 0.1
  done
}
same() { [ "$1" = "$2" ] || fail "$3: expected '$2', found '$1'"; }
show() { systemctl show referee.service --property "$1" --value; }
main_pid() { show MainPID; }
order='[{"id": "O-0001", "account": "BIRCH", "symbol": "GHI", "side": "sell", "quantity": 10, "price": 9.22}]'
check() {
  same "$(referee-vmm call @order-risk check "$order")" '{"id":"O-0001","accepted":true,"position":-10}' "the call's answer"
}
journal() { journalctl --unit referee.service --no-pager --output cat; }
drop_in=/run/systemd/system/referee.service.d/test.conf
with() { mkdir -p "${drop_in%/*}"; printf '%s\n' "$@" >"$drop_in"; systemctl daemon-reload; }
without() { rm -f "$drop_in"; systemctl daemon-reload; }
nursery() { tr -d ' ' <"/proc/$1/task/$1/children"; }
# Whether it runs again after so many restarts.
is_back_after() { [ "$(show NRestarts)" -gt "$1" ] && systemctl is-active --quiet referee.service; }
status_says() { show StatusText | grep -qF "$1"; }
journal_says() { journal | grep -q "$1"; }

step "the package: a user, a unit, nothing started"
# The device's group has the number that it has outside.
getent group kvm >/dev/null || groupadd --system --gid "$(stat -c %g /dev/kvm)" kvm
dpkg --install /stage/referee.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2; fail "dpkg"; }
grep -q 'make a trust store' /tmp/dpkg.log || fail "the package does not say what is next"
id referee >/dev/null
same "$(systemctl is-enabled referee.service || true)" disabled "the unit"
systemctl start referee.service
same "$(systemctl is-active referee.service || true)" inactive "without a trust store"
[ -s /usr/share/man/man1/referee-vmm.1.gz ] || fail "no manual page"
systemd-analyze --man=no verify referee.service referee.socket referee-metrics.socket 2>/tmp/verify || { cat /tmp/verify >&2; fail "systemd-analyze verify"; }

step "start, deploy, call"
install -m 644 /stage/trust.store /etc/referee/trust.store
systemctl start referee.service
same "$(show StatusText)" "0 deployments, $(nproc) slots" "the status"
referee-vmm deploy /stage/order-risk.muscle >/dev/null
check
if grep -o '"not_confined_by":"[^"]*"' /var/log/referee/audit.jsonl | grep -v '""$'; then fail "a layer of confinement is missing"; fi
same "$(stat -c '%U %a' /run/referee/api.sock /var/lib/referee /var/log/referee | paste -sd' ')" "referee 660 referee 700 referee 700" "modes"
ps_user=$(stat -c %U "/proc/$(main_pid)")
same "$ps_user" referee "the main process's user"

step "who may connect"
useradd --no-create-home --groups referee member
useradd --no-create-home stranger
for user in member stranger; do
  if runuser --user "$user" -- referee-vmm call @order-risk check "$order" >/dev/null 2>&1; then fail "$user may call"; fi
done
cat >/etc/referee/api.cedar <<END
@id("owner") @reason("as without policies")
permit (principal is User, action, resource) when { principal.uid == 0 || principal.service };
@id("member") @reason("one action with one deployment")
permit (principal == User::"$(id -u member)", action == Action::"call", resource == Deployment::"order-risk");
@id("stranger") @reason("to no avail: the socket does not let it in")
permit (principal == User::"$(id -u stranger)", action, resource);
END
printf '[api]\npolicies = ["/etc/referee/api.cedar"]\n[cells]\nrequire_confinement = true\n' >/etc/referee/node.toml
systemctl restart referee.service
runuser --user member -- referee-vmm call @order-risk check "$order" >/dev/null || fail "member, of the group and permitted to, may not call"
if runuser --user member -- referee-vmm remove order-risk 2>/dev/null; then fail "member may do what nobody permits"; fi
if runuser --user stranger -- referee-vmm ps >/dev/null 2>&1; then fail "stranger, not of the group, may use the API"; fi

step "the sandbox from inside"
touch /root/secret /tmp/secret
install -d -o referee /srv/in /srv/other
sed -e '/^ConditionPathExists=/d; /^Type=/d; /^NotifyAccess=/d; /^ExecReload=/d; /^Restart/d; /^WatchdogSec=/d' \
  -e 's|^ExecStart=.*|Type=oneshot\nStandardOutput=file:/run/probe.out\nStandardError=inherit\nBindReadOnlyPaths=/stage\nReadWritePaths=/srv/in\nExecStart=/bin/bash /stage/probe.sh|' \
  /usr/lib/systemd/system/referee.service >/run/systemd/system/probe.service
if [ -c /dev/fuse ]; then
  perl -e 'open(my $f, "+<", "/dev/fuse") or die' || fail "the negative control: /dev/fuse does not open without the sandbox either"
  touch /var/lib/referee/other-device
  sed -i 's|^BindPaths=/dev/kvm|& /dev/fuse:/var/lib/referee/other-device|' /run/systemd/system/probe.service
fi
# The negative control: whatever the sandbox is to deny, root can do outside of it.
if bash /stage/probe.sh | grep '^ *ok *cannot'; then fail "these say nothing about the sandbox"; fi
rm -f /usr/probe /etc/referee/probe /srv/in/probe /srv/other/probe /tmp/null
systemctl daemon-reload
probed=0
systemctl start probe.service || probed=$?
cat /run/probe.out
rm -f /var/lib/referee/other-device
[ "$probed" -eq 0 ] || fail "the sandbox is not as it should be"

step "negative control: without DeviceAllow=/dev/kvm it does not start"
systemctl stop referee.service
with '[Service]' 'DeviceAllow=' 'Restart=no'
if systemctl start referee.service 2>/dev/null; then fail "it started without KVM"; fi
same "$(show ExecMainStatus)" 104 "the exit code without KVM"
journal_says 'opening KVM.*Operation not permitted' || fail "the journal does not say why"
without
systemctl reset-failed referee.service
systemctl start referee.service
check

step "reload: a trust store that is good, one that is not"
systemctl reload referee.service
soon 5 journal_says 'were read again'
check
same "$(show SubState)" running "after the reload"
head -c 100 /stage/trust.store >/etc/referee/trust.store
systemctl reload referee.service
soon 5 status_says 'stay as they were'
check
code=0; referee-vmm reload >/dev/null 2>&1 || code=$?
same "$code" 101 "the client's exit code when the store is refused"
code=0; systemctl restart referee.service 2>/dev/null || code=$?
same "$(show ExecMainStatus) $(systemctl is-active referee.service || true)" "101 failed" "a start with a bad store, which is not tried again"
install -m 644 /stage/trust.store /etc/referee/trust.store
systemctl reset-failed referee.service
systemctl start referee.service

step "restart: what is deployed stays"
before=$(main_pid)
systemctl restart referee.service
[ "$(main_pid)" != "$before" ] || fail "the same process"
check

step "stop: calls that are under way end"
clients=()
for client in 1 2 3 4; do
  while :; do
    code=0
    out=$(referee-vmm call @order-risk check "$order" 2>&1) || code=$?
    printf '%s %s\n' "$code" "$out"
    [ "$code" -eq 0 ] || break
  done >"/tmp/client-$client" &
  clients+=("$!")
done
sleep 1
begun=$SECONDS
systemctl stop referee.service
[ $((SECONDS - begun)) -lt 5 ] || fail "short calls keep it from ending"
for client in "${clients[@]}"; do wait "$client"; done
for client in /tmp/client-?; do
  # The last one was refused before it began, or found nobody.
  tail -n 1 "$client" | grep -qE 'draining|no node answers|connection to the node broke' || fail "a client's last call: $(tail -n 1 "$client")"
done
same "$(show Result) $(show ExecMainStatus)" "success 0" "the stop"
[ ! -e /run/referee/api.sock ] || fail "the socket is left"
printf '    %s calls were answered until then\n' "$(cat /tmp/client-? | grep -c '^0 ')"
systemctl start referee.service

step "kill -9 of the main process"
check
restarts=$(show NRestarts)
before=$(main_pid)
kill -KILL "$before"
soon 10 is_back_after "$restarts"
same "$(referee-vmm ps --json | grep -o '"name":"order-risk"' | head -n 1)" '"name":"order-risk"' "deployments"
check
while read -r pid; do
  [ "$pid" -gt "$before" ] || fail "process $pid is left from before"
done <"/sys/fs/cgroup$(show ControlGroup)/cgroup.procs"

step "kill -9 of the nursery"
restarts=$(show NRestarts)
kill -KILL "$(nursery "$(main_pid)")"
soon 10 is_back_after "$restarts"
check

step "watchdog: a nursery that does not answer"
with '[Service]' 'WatchdogSec=2'
systemctl restart referee.service
sleep 5
same "$(show NRestarts) $(systemctl is-active referee.service)" "0 active" "the negative control: one that does answer"
kill -STOP "$(nursery "$(main_pid)")"
soon 15 is_back_after 0
journal_says 'Watchdog timeout' || fail "the journal does not speak of the watchdog"
check
without

step "socket activation: connections wait while the service restarts"
systemctl stop referee.service
systemctl start referee.socket
same "$(systemctl is-active referee.service || true)" inactive "before the first connection"
check
same "$(stat -c '%U %G %a' /run/referee/api.sock)" "referee referee 660" "the socket"
inode=$(awk '$8 == "/run/referee/api.sock" && $6 == "01" { print $7 }' /proc/net/unix)
[ -n "$inode" ] || fail "no listening socket is found"
holds() { find "/proc/$1/fd" -lname "socket:\\[$inode\\]" | grep -q .; }
holds "$(main_pid)" || fail "the negative control: the main process has no descriptor of the socket"
others=0
while read -r pid; do
  [ "$pid" != "$(main_pid)" ] || continue
  others=$((others + 1))
  if holds "$pid"; then fail "process $pid, nursery or worker, has the API's socket"; fi
done <"/sys/fs/cgroup$(show ControlGroup)/cgroup.procs"
[ "$others" -ge 2 ] || fail "nursery and a worker are expected"
(for _ in $(seq 40); do referee-vmm ps >/dev/null || exit 1; sleep 0.05; done) &
client=$!
systemctl restart referee.service
wait "$client" || fail "a connection was refused during the restart"
check
systemctl stop referee.socket referee.service

step "metrics: over a socket of systemd's, and the service still has no network"
scrape() { exec 3<>/dev/tcp/127.0.0.1/9464 && printf 'GET %s HTTP/1.1\r\nHost: node\r\nConnection: close\r\n\r\n' "$1" >&3 && cat <&3; }
if (scrape /metrics) 2>/dev/null; then fail "the negative control: metrics without the socket"; fi
systemctl enable --quiet referee-metrics.socket
systemctl start referee.service
(scrape /metrics) | grep -q '^referee_ready 1' || fail "no metrics"
(scrape /health) | grep -q '"live":true,"ready":true' || fail "no health"
(scrape /v1/deployments) | grep -q '404 Not Found' || fail "more than metrics is there"
while read -r pid; do
  [ "$(readlink "/proc/$pid/ns/net")" != "$(readlink /proc/self/ns/net)" ] || fail "process $pid has the host's network"
done <"/sys/fs/cgroup$(show ControlGroup)/cgroup.procs"
check
systemctl stop referee.service
same "$(systemctl is-active referee-metrics.socket || true)" inactive "the metrics' socket without the service, which a scrape would start"
systemctl disable --quiet referee-metrics.socket

step "the trust store as an encrypted credential"
if systemd-creds encrypt --name=trust.store /stage/trust.store /etc/referee/trust.store.cred 2>/tmp/creds; then
  mv /etc/referee/trust.store /root/trust.store
  with '[Unit]' 'ConditionPathExists=' '[Service]' 'LoadCredentialEncrypted=trust.store:/etc/referee/trust.store.cred'
  sed -i '1i trust_store = "/run/credentials/referee.service/trust.store"' /etc/referee/node.toml
  systemctl start referee.service
  check
  systemctl stop referee.service
  # One byte in the middle.
  perl -e 'open(my $f, "+<", $ARGV[0]) or die; seek($f, 200, 0); read($f, my $b, 1); seek($f, 200, 0); print $f ($b eq "A" ? "B" : "A")' /etc/referee/trust.store.cred
  if systemctl start referee.service 2>/dev/null; then fail "a changed credential was taken"; fi
  systemctl stop referee.service
  without
  sed -i 1d /etc/referee/node.toml
  mv /root/trust.store /etc/referee/trust.store
else
  printf '    NOT tested: %s\n' "$(head -n 1 /tmp/creds)"
fi

step "backup and restore"
systemctl start referee.service
systemctl stop referee.service
tar --create --gzip --file /root/backup.tar.gz --numeric-owner -C / etc/referee var/lib/referee var/log/referee
rm -rf /var/lib/referee /var/log/referee /etc/referee/trust.store
tar --extract --gzip --file /root/backup.tar.gz --numeric-owner --same-owner -C /
systemctl start referee.service
check
referee-vmm audit verify /var/log/referee/audit.jsonl >/dev/null || fail "the audit log does not verify"

step "upgrade and removal"
before=$(main_pid)
dpkg --install /stage/referee.deb >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2; fail "dpkg"; }
[ "$(main_pid)" != "$before" ] || fail "an upgrade does not restart the service"
grep -q 'api.cedar' /etc/referee/node.toml || fail "an upgrade took the configuration away"
check
dpkg --purge referee >/tmp/dpkg.log 2>&1 || { cat /tmp/dpkg.log >&2; fail "dpkg --purge"; }
[ ! -e /var/lib/referee ] || fail "a purge leaves the state"
[ -s /var/log/referee/audit.jsonl ] || fail "a purge takes the audit log away"
if pgrep -x referee-vmm >/dev/null 2>&1; then fail "a process is left"; fi
