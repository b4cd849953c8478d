# Sourced by ./run: Tessera's fsck library over folders of our own.
go build -o "$GOBIN/fsck" ./fsck

# Flips the bit number $2 (from the end, if negative) of a file.
flip() {
    local bit=$2 byte
    [ "$bit" -ge 0 ] || bit=$((bit + 8 * $(stat -c %s "$1")))
    byte=$(od -An -tu1 -j $((bit / 8)) -N 1 "$1")
    printf '%b' "\\x$(printf %02x $((byte ^ 1 << bit % 8)))" | dd of="$1" bs=1 seek=$((bit / 8)) conv=notrunc status=none
}

refused=0
for size in 1 255 256 257 65536 70000; do
    key=$("$root/target/debug/examples/fill" "$work/log-$size" "$size")
    log=$work/log-$size/ledger
    "$GOBIN/fsck" "$key" "$log" 2>"$work/out" || fail "size $size: $(cat "$work/out")"
    # One bit in the checkpoint, and in the first and last file of each level and of the entry bundles.
    files=$(for level in "$log"/tile/*; do find "$level" -type f | sort | sed -n '1p;$p'; done | sort -u)
    for file in "$log/checkpoint" $files; do
        for bit in 3 -5; do
            # A checkpoint's last byte is a line feed that nobody signs.
            [ "$file" != "$log/checkpoint" ] || bit=$((bit + 160))
            flip "$file" "$bit"
            if "$GOBIN/fsck" "$key" "$log" 2>"$work/out"; then fail "size $size: bit $bit of $file is not seen"; fi
            refused=$((refused + 1))
            flip "$file" "$bit"
        done
    done
    "$GOBIN/fsck" "$key" "$log" 2>"$work/out" || fail "size $size after all bits are back: $(cat "$work/out")"
    echo "interop: fsck: $size entries are sound"
    rm -rf "$work/log-$size"
done
echo "interop: fsck: $refused flipped bits, all refused"
