#!/usr/bin/env bash
# Passes the tests of what a node shows to Prometheus: checks the alert rules and runs their unit tests, and lets a real Prometheus scrape a
# real node while a muscle faults, until the alert fires and every query of the dashboard has data.
# Installs Prometheus from Debian where it is missing and that is allowed; no service is left running.
#   scripts/test-metrics.sh
# Exit codes: 0 passed, 124 there is no Prometheus (nothing is said about Referee), any other: failed.
. "$(dirname "$0")/lib.sh"

started=$SECONDS
untested() { say "metrics with Prometheus NOT tested: $*"; exit 124; }

if ! command -v prometheus >/dev/null 2>&1 || ! command -v promtool >/dev/null 2>&1; then
  [ "$(id -u)" -eq 0 ] || untested "Prometheus is not installed, and only root can install it"
  say "installing prometheus"
  # The package would start a service of its own; a policy of ours keeps that from happening, if the machine has none.
  policy=/usr/sbin/policy-rc.d
  ours=false
  [ -e "$policy" ] || { ours=true; printf '#!/bin/sh\nexit 101\n' >"$policy"; chmod 755 "$policy"; }
  installed=true
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends prometheus; } >/dev/null \
    || installed=false
  ! $ours || rm -f "$policy"
  $installed || untested "prometheus cannot be installed"
fi

say "the alert rules, and their unit tests"
rules=scripts/package/prometheus/referee.rules.yml
promtool check rules "$rules"
promtool test rules "${rules%.yml}.test.yml"
# Each alert has a case in which it fires and one in which it does not.
sed -n 's/^ *- alert: //p' "$rules" | while read -r alert; do
  cases=$(grep -c "alertname: $alert\$" "${rules%.yml}.test.yml" || true)
  [ "$cases" -ge 2 ] || { say "$alert has $cases cases in ${rules%.yml}.test.yml; it needs one that fires and one that does not"; exit 1; }
done

say "a Prometheus that scrapes a node while a muscle faults"
cargo test --locked -p referee-tests --test node -- --ignored prometheus::
say "[$((SECONDS - started)) s] Prometheus sees what it is to see"
