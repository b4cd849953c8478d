# Sourced by ./run: versitygw keeps checkpoints under Object Lock.
tool github.com/versity/versitygw/cmd/versitygw@v1.8.0

new_ledger log.example/interop
mkdir -p "$work/s3/objects" "$work/s3/versions"
s3_port=$(free_port)
s3=http://127.0.0.1:$s3_port
ROOT_ACCESS_KEY=interop ROOT_SECRET_KEY=interop-secret "$GOBIN/versitygw" --port "127.0.0.1:$s3_port" --quiet \
    posix --versioning-dir "$work/s3/versions" "$work/s3/objects" >"$work/s3/out" 2>&1 &
pids+=("$!")
nothing=$(sha256sum </dev/null | cut -d' ' -f1)
# A request without a body; curl does not send its digest by itself before version 8.
signed() { curl -s --aws-sigv4 aws:amz:us-east-1:s3 --user interop:interop-secret -H "x-amz-content-sha256: $nothing" "$@"; }
# Gives the status; the body is in the file `answer`.
status() { signed -o "$work/s3/answer" -w '%{http_code}' "$@"; }
until_true curl -s "$s3/"
[ "$(status -X PUT -H 'x-amz-bucket-object-lock-enabled: true' "$s3/locked")" = 200 ] || fail "bucket: $(cat "$work/s3/answer")"
[ "$(status -X PUT "$s3/open")" = 200 ] || fail "bucket: $(cat "$work/s3/answer")"

printf interop >"$work/s3/id"
printf interop-secret >"$work/s3/secret"
printf '[publish]\nevery_seconds = 1\n' >"$work/s3.toml"
for of in 'locked compliance' 'open bucket'; do
    cat >>"$work/s3.toml" <<EOF
[[publish.s3]]
name = "${of% *}"
bucket = "${of% *}"
endpoint = "$s3"
prefix = "a/"
lock = "${of#* }"
retain_days = 1
access_key_file = "$work/s3/id"
secret_key_file = "$work/s3/secret"
EOF
done
serve "$work/s3.toml"
until_true place s3 'place["name"] == "locked" and place.get("size", 0) > 0'
# A bucket without Object Lock takes the object, and that is not success.
not_locked() { curl -sf "$api/api/v1/doctor" | grep -q '"not_locked: '; }
until_true not_locked
stop "$server" || fail "the server did not end well: $(cat "$work/serve.log")"

objects=$(cd "$work/s3/objects/locked" && find . -type f -name 'checkpoint-*' | sort | sed 's|^./||')
[ -n "$objects" ] || fail "there is no object in the bucket"
last=$(echo "$objects" | tail -1)
cmp "$work/s3/objects/locked/$last" "$work/data/ledger/checkpoint" || fail "the last checkpoint is not there"
version=$(signed -I "$s3/locked/$last" | tr -d '\r' | sed -n 's/^[Xx]-[Aa]mz-[Vv]ersion-[Ii]d: //p')
[ -n "$version" ] || fail "the object has no version"
code=$(status -X DELETE "$s3/locked/$last?versionId=$version")
[ "$code" = 403 ] || fail "a locked object was deleted: status $code, $(cat "$work/s3/answer")"
code=$(status -X DELETE -H 'x-amz-bypass-governance-retention: true' "$s3/locked/$last?versionId=$version")
[ "$code" = 403 ] || fail "a locked object was deleted by force: status $code"
[ "$(status "$s3/locked/$last?versionId=$version")" = 200 ] || fail "the locked object is gone"
cmp "$work/s3/answer" "$work/data/ledger/checkpoint" || fail "the locked object has changed"
"$counterfoil" verify --data "$work/data" --checkpoint "$work/s3/answer" >"$work/out" || fail "verify: $(cat "$work/out")"
echo "interop: s3: $(echo "$objects" | wc -l) checkpoints under COMPLIANCE retention; deleting is refused"
