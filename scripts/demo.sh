#!/usr/bin/env bash
# The main job, on real input: builds Referee and a muscle, signs it, shows what it may do and why, and runs it on
# an untrusted photograph in a virtual machine of its own. Then shows three refusals. Safe to repeat.
. "$(dirname "$0")/lib.sh"

scripts/setup.sh --demo

say "building referee-vmm and cargo-muscle (a few minutes the first time)"
cargo build --release --locked -p referee-vmm -p cargo-muscle
bin="$CARGO_TARGET_DIR/release"
demo="$CARGO_TARGET_DIR/demo"
rm -rf "$demo"
mkdir -p "$demo/photos" "$demo/thumbnails"
cp muscle-sdk/examples/thumbnail/data/{cat.png,rocket.jpg} "$demo/photos/"

show() {
  printf '\n$ %s\n' "$(printf '%s ' "$@" | sed "s|$bin/||g; s|cargo-muscle |cargo muscle |")"
  "$@"
}

say "an author makes a key and builds the muscle; an operator says whom to trust"
CARGO_TARGET_DIR="$CARGO_TARGET_DIR/muscles" "$bin/cargo-muscle" keygen "$demo/author"
"$bin/cargo-muscle" keygen "$demo/root"
examples="$PWD/muscle-sdk/examples"
cd "$demo"
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/muscles"
show "$bin/cargo-muscle" build --folder "$examples" -p thumbnail --key author.key -o thumbnail.muscle
show "$bin/cargo-muscle" trust init trust.store --root-key root.key --expires 365d
show "$bin/cargo-muscle" trust add-publisher trust.store --name demo --key author.pub --scope thumbnail \
  --expires 365d --root-key root.key

say "what it asks for, what policy says, and why"
export REFEREE_TRUST=trust.store
bound=(--bind input=dir:photos:ro --bind output=dir:thumbnails:rw)
show "$bin/referee-vmm" explain "${bound[@]}" thumbnail.muscle

say "the run: the image is decoded in a cell that sees two directories and nothing else"
show "$bin/referee-vmm" run "${bound[@]}" thumbnail.muscle cat.png cat.png 128
show "$bin/referee-vmm" run "${bound[@]}" thumbnail.muscle rocket.jpg rocket.png 256
show "$bin/referee-vmm" audit verify referee-audit.jsonl

refused() {
  local code=0
  show "$@" || code=$?
  printf '(exit code %s)\n' "$code"
  [ "$code" -eq 101 ] || { say "expected exit code 101"; exit 1; }
}

say "three refusals: a flipped bit, a slot left unbound, a revoked key"
cp thumbnail.muscle flipped.muscle
printf '\x00' | dd of=flipped.muscle bs=1 seek=$((0x4001)) conv=notrunc status=none
cmp -s thumbnail.muscle flipped.muscle && printf '\x01' | dd of=flipped.muscle bs=1 seek=$((0x4001)) conv=notrunc status=none
refused "$bin/referee-vmm" run "${bound[@]}" flipped.muscle cat.png cat.png 128
refused "$bin/referee-vmm" run --bind input=dir:photos:ro thumbnail.muscle cat.png cat.png 128
cp trust.store revoked.store
show "$bin/cargo-muscle" trust revoke-key revoked.store author.pub --root-key root.key
refused "$bin/referee-vmm" run --trust revoked.store "${bound[@]}" thumbnail.muscle cat.png cat.png 128

printf '\n'
say "made in cells:"
ls -l thumbnails
say "all of it is in $demo"
