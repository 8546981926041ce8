#!/usr/bin/env bash
# Keeps a node under load while workers are killed and deployments change, and another with streams, rings and delegations while everything else goes wrong;
# looks whether anything grew or was lost. Each takes MINUTES; they run beside each other.
#   scripts/soak.sh [MINUTES]
. "$(dirname "$0")/lib.sh"

minutes="${1:-10}"
case "$minutes" in
  '' | *[!0-9]* | 0) say "MINUTES is a number above 0, and not $minutes"; exit 100 ;;
esac
say "soaking a node for $minutes min"
REFEREE_SOAK_SECONDS=$((minutes * 60)) cargo test -p referee-tests --test node --locked -- soak:: --nocapture
