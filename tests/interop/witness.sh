# Sourced by ./run: litewitness cosigns the checkpoints of a real server.
tool filippo.io/torchwood/cmd/litewitness@v0.9.0
go build -o "$GOBIN/fsck" ./fsck

new_ledger log.example/interop
mkdir "$work/witness"
ssh-keygen -q -t ed25519 -N '' -C witness -f "$work/witness/key"
eval "$(ssh-agent -a "$work/witness/agent")" >/dev/null
pids+=("$SSH_AGENT_PID")
SSH_AUTH_SOCK=$work/witness/agent ssh-add -q "$work/witness/key"
fingerprint=$(ssh-keygen -lf "$work/witness/key.pub" | cut -d' ' -f2)
port=$(free_port)

# Sets $witness, its process.
start_witness() {
    "$GOBIN/litewitness" -name witness.example/interop -db "$work/witness/db" -ssh-agent "$work/witness/agent" \
        -key "$fingerprint" -listen "127.0.0.1:$port" >"$work/witness/out" 2>&1 &
    witness=$!
    pids+=("$witness")
    until_true grep -q 'verifier key' "$work/witness/out"
}

start_witness
# Its operator introduces the log: its key, and the empty tree. (The program for that cannot be installed everywhere.)
python3 - "$work/witness/db" "$vkey" <<'EOF'
import base64, hashlib, sqlite3, sys
path, vkey = sys.argv[1:]
origin, empty = vkey.split("+")[0], base64.b64encode(hashlib.sha256().digest()).decode()
with sqlite3.connect(path) as db:
    db.execute("insert into log (origin, tree_size, tree_hash) values (?, 0, ?)", (origin, empty))
    db.execute("insert into key (origin, key) values (?, ?)", (origin, vkey))
EOF
witness_key=$(sed -n 's/.*verifier key" vkey=//p' "$work/witness/out")
printf 'log %s\nwitness w1 %s http://127.0.0.1:%s\nquorum w1\n' "$vkey" "$witness_key" "$port" >"$work/policy"
printf '[witness]\npolicy = "%s"\nevery_seconds = 1\nalert_after_seconds = 2\n' "$work/policy" >"$work/witness.toml"

serve "$work/witness.toml"
seq 300 | sed 's/^/line /' | curl -sf --data-binary @- "$intake/logs/nginx-error?source=interop" >/dev/null
until_true place quorum 'place["state"] == "witnessed" and place["size"] > 1'
curl -sf "$api/checkpoint" | grep -q '^— witness.example/interop ' || fail "the served checkpoint has no cosignature"
# What is served, cosigned checkpoint and tiles, is a log for others.
"$GOBIN/fsck" "$vkey" "$api/" 2>"$work/out" || fail "over HTTP: $(cat "$work/out")"

stop "$witness" || true # it says 143 of itself
until_true place quorum 'place["state"] == "unwitnessed"'
echo 'a line' | curl -sf --data-binary @- "$intake/logs/nginx-error?source=interop" || fail "intake waits for the witness"
start_witness
until_true place quorum 'place["state"] == "witnessed"'
stop "$server" || fail "the server did not end well: $(cat "$work/serve.log")"

"$counterfoil" verify --data "$work/data" --policy "$work/policy" >"$work/out" || fail "verify: $(cat "$work/out")"
grep '^witnessed' "$work/out"
python3 "$root/verify.py" "$work/data/ledger" --policy "$work/policy" >"$work/out" || fail "verify.py: $(cat "$work/out")"
# A quorum that is not there is never passed over.
other=$(python3 -c 'import json, sys; print(json.loads(open(sys.argv[1]).readline())["witness_vkey"])' \
    "$root/crates/ledger/tests/fixtures/reference/witness-exchange.jsonl")
sed "s|^quorum.*|witness w2 $other\ngroup both all w1 w2\nquorum both|" "$work/policy" >"$work/both"
code=0
"$counterfoil" verify --data "$work/data" --policy "$work/both" >"$work/out" || code=$?
[ "$code" = 2 ] || fail "a missing quorum gives status $code: $(cat "$work/out")"
echo "interop: witness: cosigned, served, verified; unwitnessed while the witness was away"
