#!/usr/bin/env bash
# Times whole processes, start to exit: the smallest muscle through `referee-vmm run`, bubblewrap with every
# namespace unshared around a static program, runc with its own specification around it where it is installed, and that program alone, which is the floor; and the least program that makes the same
# namespaces, an empty root and a VM, which verifies nothing, decides nothing and keeps no log. They take turns, so that a machine
# that drifts drifts for all of them. Prints median, 99th percentile, runs, and the ratio to the floor.
#   benches/run_process.sh [RUNS]
. "$(dirname "$0")/../scripts/lib.sh"

runs="${1:-200}"
command -v bwrap >/dev/null || { say "install bubblewrap first: scripts/setup.sh does"; exit 1; }
# As scripts/bench.sh builds, so that nothing is built twice.
cargo build --release --locked --quiet -p referee-benches -p referee-tpm -p referee-vmm -p cargo-muscle
bin="$CARGO_TARGET_DIR/release"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
printf 'int main(void){return 0;}\n' >"$work/nothing.c"
cc -O2 -static -o "$work/nothing" "$work/nothing.c"
if command -v runc >/dev/null; then
  mkdir -p "$work/container/rootfs"
  cp "$work/nothing" "$work/container/rootfs"
  (cd "$work/container" && runc spec)
fi
cc -O2 -static -pthread -o "$work/floor" benches/floor/floor.c
examples="$PWD/muscle-sdk/examples"
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/muscles"
(
  cd "$work"
  "$bin/cargo-muscle" keygen author
  "$bin/cargo-muscle" keygen root
  "$bin/cargo-muscle" trust init trust.store --root-key root.key --expires 1d
  "$bin/cargo-muscle" trust add-publisher trust.store --name bench --key author.pub --scope '*' --expires 1d --root-key root.key
  "$bin/cargo-muscle" build --folder "$examples" -p hello --key author.key -o hello.muscle
) >/dev/null 2>&1
python3 - "$runs" "$bin/referee-vmm" "$work" <<'EOF'
import json
import os
import statistics
import subprocess
import sys
import time

runs, vmm, work = int(sys.argv[1]), sys.argv[2], sys.argv[3]
programs = {
    "posix_spawn of a static program": [f"{work}/nothing"],
    "bwrap --unshare-all around it": ["bwrap", "--unshare-all", "--ro-bind", "/", "/", f"{work}/nothing"],
    "least program with namespaces, VM": [f"{work}/floor", "process", "1"],
    "referee-vmm run hello.muscle": [
        vmm, "run", "--trust", f"{work}/trust.store", "--audit", f"{work}/audit.jsonl", f"{work}/hello.muscle",
    ],
}
container = f"{work}/container"
if os.path.exists(f"{container}/config.json"):
    with open(f"{container}/config.json") as file:
        specification = json.load(file)
    specification["process"].update(terminal=False, args=["/nothing"])
    with open(f"{container}/config.json", "w") as file:
        json.dump(specification, file)
    programs["runc run of a container with it"] = ["runc", "run", "-b", container, f"referee-bench-{os.getpid()}"]
else:
    print("runc is not installed: no figure for it", file=sys.stderr)
times = {name: [] for name in programs}
for turn in range(runs + 5):
    for name, command in programs.items():
        begun = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        if turn >= 5:
            times[name].append((time.perf_counter() - begun) * 1e3)
floor = statistics.median(times["posix_spawn of a static program"])
print(f"{'whole process':34} {'median ms':>9} {'p99 ms':>8} {'n':>5} {'ratio':>6}")
for name, values in times.items():
    median, p99 = statistics.median(values), sorted(values)[int(len(values) * 0.99) - 1]
    print(f"{name:34} {median:9.2f} {p99:8.2f} {len(values):5} {median / floor:6.1f}")
EOF
