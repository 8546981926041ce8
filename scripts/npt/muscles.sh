#!/bin/sh
# Runs the three example muscles on in/ and leaves what they print and write in the folder named, for comparison.
# Stands in a folder with the bundles and the trust store, with referee-vmm on the PATH; run by scripts/test-npt.sh.
set -eu
out=$1
run() { referee-vmm run --trust trust.store --audit "$out.audit" "$@"; }
mkdir -p "$out"
run --bind input=dir:in:ro --bind "output=dir:$out:rw" thumbnail.muscle rocket.jpg rocket.png 48 >"$out/thumbnail.txt"
run order-risk.muscle <in/orders.jsonl >"$out/decisions.jsonl"
run phi-redact.muscle <in/messages.hl7 >"$out/redacted.hl7"
