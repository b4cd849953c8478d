# Sourced by ./run: versitygw keeps checkpoints under Object Lock. It speaks TLS with a certificate of our own making, so that
# this is also the check of whom the program trusts.
tool github.com/versity/versitygw/cmd/versitygw@v1.8.0

new_ledger log.example/interop
mkdir -p "$work/s3/objects" "$work/s3/versions"
s3_port=$(free_port)
s3=https://127.0.0.1:$s3_port
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=interop CA' \
    -keyout "$work/s3/ca.key" -out "$work/s3/ca.pem" 2>/dev/null
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj '/CN=interop S3' \
    -keyout "$work/s3/key.pem" -out "$work/s3/csr" 2>/dev/null
printf 'subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n' >"$work/s3/ext"
openssl x509 -req -in "$work/s3/csr" -CA "$work/s3/ca.pem" -CAkey "$work/s3/ca.key" -CAcreateserial \
    -extfile "$work/s3/ext" -out "$work/s3/cert.pem" 2>/dev/null
ROOT_ACCESS_KEY=interop ROOT_SECRET_KEY=interop-secret "$GOBIN/versitygw" --port "127.0.0.1:$s3_port" --quiet \
    --cert "$work/s3/cert.pem" --key "$work/s3/key.pem" \
    posix --versioning-dir "$work/s3/versions" "$work/s3/objects" >"$work/s3/out" 2>&1 &
pids+=("$!")
nothing=$(sha256sum </dev/null | cut -d' ' -f1)
# A request without a body; curl does not send its digest by itself before version 8.
signed() { curl -s --cacert "$work/s3/ca.pem" --aws-sigv4 aws:amz:us-east-1:s3 --user interop:interop-secret -H "x-amz-content-sha256: $nothing" "$@"; }
# Gives the status; the body is in the file `answer`.
status() { signed -o "$work/s3/answer" -w '%{http_code}' "$@"; }
until_true curl -s --cacert "$work/s3/ca.pem" "$s3/"
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
# Nothing is handed to a server that the machine does not trust.
serve "$work/s3.toml"
until_true place s3 '"ertificate" in place.get("trouble", "") and "size" not in place'
stop "$server" || fail "the server did not end well: $(cat "$work/serve.log")"
export SSL_CERT_FILE=$work/s3/ca.pem
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
unset SSL_CERT_FILE
echo "interop: s3: $(echo "$objects" | wc -l) checkpoints under COMPLIANCE retention; deleting is refused"
