#!/usr/bin/env bash
# Holds a running node to its OpenAPI document: schemathesis makes requests of it, good and bad, and looks whether every answer is one that
# the document names, in its form, and none a failure. The node has a muscle deployed and is reached by TLS with a client's certificate.
# The same requests each time. schemathesis comes from PyPI, by scripts/api/requirements.txt, into ~/.cache/referee/schemathesis.
#   scripts/test-api.sh
# Exit codes: 0 passed, 124 schemathesis cannot be had here (nothing is said about Referee), any other: failed.
. "$(dirname "$0")/lib.sh"

started=$SECONDS
untested() { say "the API against its document NOT tested: $*"; exit 124; }

repository=$PWD
[ -c /dev/kvm ] || untested "there is no /dev/kvm"
command -v python3 >/dev/null 2>&1 || untested "there is no python3"
venv=$HOME/.cache/referee/schemathesis
mkdir -p "$(dirname "$venv")"
exec 9>"$venv.lock"
flock --timeout 600 9 || untested "another run makes the virtual environment"
if ! cmp -s scripts/api/requirements.txt "$venv/made-of"; then
  say "installing schemathesis (a minute, once)"
  rm -rf "$venv"
  { python3 -m venv "$venv" && "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement scripts/api/requirements.txt; } \
    || untested "schemathesis could not be installed"
  cp scripts/api/requirements.txt "$venv/made-of"
fi
exec 9>&-

work=$(mktemp -d "${TMPDIR:-/tmp}/referee-test-api.XXXXXX")
node=''
clean() {
  if [ -n "$node" ]; then
    kill -TERM "$node" 2>/dev/null || true
    for _ in $(seq 150); do kill -0 "$node" 2>/dev/null || break; sleep 0.1; done
    kill -KILL "$node" 2>/dev/null || true
  fi
  rm -rf "$work"
}
trap clean EXIT
trap 'exit 130' INT TERM

cargo build --locked --quiet -p referee-vmm -p cargo-muscle
bin=$CARGO_TARGET_DIR/debug
tool=$bin/cargo-muscle
(
  cd "$work"
  "$tool" muscle keygen author
  "$tool" muscle keygen root
  "$tool" muscle trust init trust.store --root-key root.key --expires 1d
  "$tool" muscle trust add-publisher trust.store --name author --key author.pub --scope '*' --expires 1d --root-key root.key
  CARGO_TARGET_DIR=$CARGO_TARGET_DIR/muscles "$tool" muscle build --folder "$repository/muscle-sdk/examples" --package order-risk \
    --key author.key --output order-risk.muscle
  # An authority, and by it the node and a client.
  certificate() { # NAME SUBJECT-ALTERNATIVE-NAME
    openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout "$1.key" -out "$1.csr" -subj "/CN=$1"
    openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -days 1 -out "$1.pem" -extfile <(printf 'subjectAltName=%s\nauthorityKeyIdentifier=keyid\n' "$2")
  }
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -keyout ca.key -out ca.pem -days 1 -subj /CN=ca \
    -addext keyUsage=critical,keyCertSign
  certificate node DNS:localhost
  certificate client URI:spiffe://referee/test
) >"$work/made" 2>&1 || { cat "$work/made" >&2; exit 1; }

cat >"$work/api.cedar" <<'EOF'
@id("test") @reason("may do everything") permit (principal, action, resource);
@id("called") @reason("stays, so that there is something to call")
forbid (principal is Client, action in [Action::"deploy", Action::"pause", Action::"remove"], resource == Deployment::"order-risk");
EOF
cat >"$work/node.toml" <<EOF
trust_store = "$work/trust.store"
state = "$work/state"
audit.file = "$work/audit.jsonl"
api.socket = "$work/api.sock"
api.policies = ["$work/api.cedar"]
api.tcp.address = "127.0.0.1:0"
api.tcp.certificate = "$work/node.pem"
api.tcp.key = "$work/node.key"
api.tcp.client_ca = "$work/ca.pem"
EOF
"$bin/referee-vmm" serve --config "$work/node.toml" 2>"$work/node.log" &
node=$!
port=''
for _ in $(seq 100); do
  port=$(sed -n 's/.*ready: .*https 127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/node.log")
  [ -z "$port" ] || break
  kill -0 "$node" 2>/dev/null || break
  sleep 0.1
done
[ -n "$port" ] || { cat "$work/node.log" >&2; say "the node did not start"; exit 1; }
export REFEREE_HOST=https://localhost:$port REFEREE_CERT=$work/client.pem REFEREE_KEY=$work/client.key REFEREE_CA=$work/ca.pem
"$bin/referee-vmm" deploy "$work/order-risk.muscle" --host "$work/api.sock" --deadline-ms 2000
sed "s/DIGEST/$(sha256sum "$work/order-risk.muscle" | cut -d ' ' -f 1)/" scripts/api/schemathesis.toml >"$work/schemathesis.toml"
say "[$((SECONDS - started)) s] a node serves"

code=0
(
  # It leaves a folder of what it found where it is started.
  cd "$work"
  PYTHONHASHSEED=0 timeout --kill-after=10 "${API_TEST_TIMEOUT:-600}" "$venv/bin/schemathesis" --config-file schemathesis.toml \
    run "$REFEREE_HOST/v1/openapi.json" --request-cert "$work/client.pem" --request-cert-key "$work/client.key" \
    --tls-verify "$work/ca.pem" --no-color
) || code=$?
if [ "$code" -ne 0 ]; then
  # 124 is timeout's own, and a test that hangs has failed.
  say "FAILED (code $code); the node said:"
  tail -n 40 "$work/node.log" >&2
  exit 1
fi
kill -0 "$node" || { cat "$work/node.log" >&2; say "the node is gone"; exit 1; }
"$bin/referee-vmm" call @order-risk limits >"$work/limits"
kill -TERM "$node"
wait "$node" || { cat "$work/node.log" >&2; say "the node did not end in order"; exit 1; }
node=''
"$bin/referee-vmm" audit verify "$work/audit.jsonl"
say "[$((SECONDS - started)) s] the API keeps to its document"
