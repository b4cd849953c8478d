#!/usr/bin/env python3
"""Verifies a transparency log's folder without any of the program's own code. Exit: 0 verified, 1 refuted, 2 could not check.

DIR holds `checkpoint` and `tile/` (C2SP tlog-tiles); for a Counterfoil data folder that is DIR/ledger. Needs Python 3.8 and the
programs `openssl` and, for payloads, `zstd`. Checks the checkpoint's Ed25519 signature, every entry bundle and hash tile, earlier
partial tiles, the root hash, and payload blocks against their entries; with a policy also witnesses (verify_witnesses.py).
"""
import argparse, base64, hashlib, json, os, pathlib, shutil, struct, subprocess, sys, tempfile

class Refuted(Exception): """Something is not as it was signed."""
class Unknown(Exception): """It cannot be decided."""

def sha(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def root_of(hashes):
    """RFC 9162, 2.1.1: split at the largest power of two below the length."""
    k = 1 << (len(hashes) - 1).bit_length() >> 1
    return sha(b"\1", root_of(hashes[:k]), root_of(hashes[k:])) if hashes[1:] else hashes[0]

def read(*path):
    path = pathlib.Path(*path)
    return path.read_bytes() if path.exists() else None

def parse_vkey(text, kind=1):
    """name+key id+base64(kind || public key) -> (name, key id, public key); kind 1 is a log, 4 a witness"""
    try:
        name, key_id, key = text.strip().split("+", 2)
        key, key_id = base64.b64decode(key, validate=True), bytes.fromhex(key_id)
    except ValueError:
        raise Unknown("not a verifier key: %r" % text)
    if len(key) != 33 or key[0] != kind or sha(name.encode(), b"\n", key)[:4] != key_id:
        raise Unknown("not an Ed25519 verifier key, or its id does not fit: %r" % text)
    return name, key_id, key[1:]

def find_keys(directory, given):
    """Keys as given, or (with the sizes for which each of them has to sign) those in the folder."""
    if given:
        return [parse_vkey(read(text).decode() if os.path.isfile(text) else text) + (None,) for text in given]
    listed, origin = read(directory, "keys", "vkeys"), read(directory, "origin")
    if not listed or not origin:
        raise Unknown("no keys/vkeys here: give the log's key with --vkey")
    try:
        rows = (line.split(" ", 2) for line in listed.decode().splitlines())
        keys = [parse_vkey(key) + (range(int(first), sys.maxsize if end == "-" else int(end)),) for first, end, key in rows]
    except (Unknown, ValueError) as error:
        raise Refuted("keys/vkeys: %s" % error)
    return [key for key in keys if key[0].encode() + b"\n" == origin]

def signature_fits(public, message, signature):
    with tempfile.TemporaryDirectory() as folder:
        key, text, sig = (os.path.join(folder, name) for name in ("key", "text", "sig"))
        for name, content in ((key, bytes.fromhex("302a300506032b6570032100") + public), (text, message), (sig, signature)):
            pathlib.Path(name).write_bytes(content)
        command = ["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", key, "-rawin", "-in", text, "-sigfile", sig]
        return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0

def check_checkpoint(note, keys):
    """Signed note -> (origin, size, root)"""
    try:
        text, signatures = note.decode().rsplit("\n\n", 1)
        lines, text, known = text.split("\n"), text + "\n", set()
        size, root = int(lines[1]), base64.b64decode(lines[2], validate=True)
        if str(size) != lines[1] or size < 0 or len(root) != 32:
            raise ValueError
        keys = [key for key in keys if key[3] is None or size in key[3]]
        for line in signatures.split("\n")[:-1]:
            dash, name, blob = line.split(" ")
            blob = base64.b64decode(blob, validate=True)
            if dash != "\u2014" or signatures[-1] != "\n":
                raise ValueError
            for key in (key for key in keys if key[:2] == (name, blob[:4])):
                known.add(key)
                if not signature_fits(key[2], text.encode(), blob[4:]):
                    raise Refuted("checkpoint: the signature is wrong")
    except (ValueError, IndexError):
        raise Refuted("checkpoint: not a signed note of origin, size and root")
    if not known or lines[0] not in [key[0] for key in keys] or any(key[3] and key not in known for key in keys):
        raise Refuted("checkpoint: not signed by a known key of %r, or not by all that keys/vkeys has for this size" % lines[0])
    return lines[0], size, root

def tile(directory, level, n, width):
    """Path and bytes of a tile or bundle; the full one serves where the partial one has been cleaned away."""
    name, rest = "%03d" % (n % 1000), n // 1000
    while rest:
        name, rest = "x%03d/%s" % (rest % 1000, name), rest // 1000
    full = "tile/%s/%s" % (level, name)
    for path in [full] if width == 256 else ["%s.p/%d" % (full, width), full]:
        if (content := read(directory, path)) is not None:
            return path, content
    raise Refuted("%s: missing; first damaged entry at most %d" % (path, n * 256))

def split_bundle(content):
    entries, at = [], 0
    while at + 2 <= len(content) and (end := at + 2 + int.from_bytes(content[at:at + 2], "big")) <= len(content):
        entries.append(content[at + 2:end])
        at = end
    return entries, at == len(content)

def check_tree(directory, size, root, visit):
    """Every entry and every tile; `visit(index, entry)` sees each entry. Gives the bytes of each file, and all leaf hashes."""
    checked, hashes, level, rest = {}, [], 0, None
    for n in range((size + 255) // 256):
        width = min(256, size - n * 256)
        (path, content), (tile_path, stored) = tile(directory, "entries", n, width), tile(directory, "0", n, width)
        entries, exact = split_bundle(content)
        leaves = [sha(b"\0", entry) for entry in entries[:width]]
        for i in range(width):
            if i >= len(leaves) or leaves[i] != stored[32 * i:32 * i + 32]:
                raise Refuted("%s: does not agree with %s; first damaged entry %d" % (path, tile_path, n * 256 + i))
            visit(n * 256 + i, entries[i])
        if not exact or len(entries) not in (width, 256):
            raise Refuted("%s: holds more than its %d entries" % (path, width))
        checked[path] = content
        hashes += leaves
    all_leaves = hashes
    while hashes:
        above = []
        for n in range((len(hashes) + 255) // 256):
            part = hashes[n * 256:n * 256 + 256]
            path, content = tile(directory, level, n, len(part))
            if content[:32 * len(part)] != b"".join(part) or len(content) not in (32 * len(part), 8192):
                raise Refuted("%s: is not the tile of what lies below it" % path)
            checked[path] = content
            above += [root_of(part)] if len(part) == 256 else []
        edge = hashes[len(above) * 256:] + ([rest] if rest else [])
        hashes, level, rest = above, level + 1, root_of(edge) if edge else None
    if (rest or sha(b"")) != root:
        raise Refuted("checkpoint: the entries do not have the root that was signed")
    return checked, all_leaves

def check_earlier(directory, checked):
    """Partial tiles of earlier checkpoints have to be beginnings of the present ones."""
    present = {path.split(".p/")[0]: content for path, content in checked.items()}
    for folder, _, names in os.walk(os.path.join(directory, "tile")):
        for path in (os.path.relpath(os.path.join(folder, name), directory) for name in names):
            now, old = present.get(path.split(".p/")[0]), read(directory, path)
            if None not in (now, old) and not (now.startswith(old) or old.startswith(now)):
                raise Refuted("%s: does not agree with the present tile" % path)

def check_payloads(directory, wanted, pruned):
    """`wanted`: entry -> (commitment, class, day); `pruned`: (entry, class, last day). Counts the payloads found in blocks."""
    found = set()
    for folder, _, names in os.walk(os.path.join(directory, "payload")):
        for path in (os.path.join(folder, name) for name in names if name.endswith(".blk")):
            block = read(path)
            frame, plain_length, count, magic = struct.unpack("<III12x8s", block[-32:].rjust(32))
            run = subprocess.run(["zstd", "-dcq"], input=block[:frame], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if magic != b"CFLPAY01" or frame + 16 * count + 32 != len(block) or run.returncode or len(run.stdout) != plain_length:
                raise Refuted("%s: not a payload block, or it cannot be unpacked" % path)
            for entry, offset, length in struct.iter_unpack("<QII", block[frame:-32]):
                digest = hashlib.sha256(run.stdout[offset:offset + 32 + length]).hexdigest()
                if wanted.get(entry, (digest,))[0] != digest:
                    raise Refuted("%s: not the payload that was named; first damaged entry %d" % (path, entry))
                found.add(entry)
    gone = [(entry, *wanted[entry][1:]) for entry in set(wanted) - found]
    count = sum(any(entry < by and of == cls and day <= last for by, of, last in pruned) for entry, cls, day in gone)
    return "%d verified in blocks, %d pruned, %d elsewhere" % (len(wanted) - len(gone), count, len(gone) - count)

def main(arguments):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", metavar="DIR")
    parser.add_argument("--vkey", action="append", default=[], help="verifier key, or a file that holds it")
    parser.add_argument("--policy", help="file with a policy (C2SP tlog-policy): its quorum must have cosigned")
    given, wanted, pruned, policy = parser.parse_args(arguments), {}, [], None
    directory, ours = given.directory, os.path.exists(os.path.join(given.directory, "format"))
    if given.policy:
        import verify_witnesses
        policy = verify_witnesses.Policy(read(given.policy) or b"", directory if ours else None)
    if (note := read(directory, "checkpoint")) is None:
        raise Unknown("no checkpoint in %s" % directory)
    keys = policy.logs if policy and policy.logs and not given.vkey else find_keys(directory, given.vkey)
    origin, size, root = check_checkpoint(note, keys)

    def visit(index, entry):
        if ours:  # a Counterfoil leaf: the ledger's stamp, then the body
            first = dict(object_pairs_hook=lambda pairs: dict(pairs[::-1]))  # of several members of a name
            stamp, body = (json.loads(line, **first) for line in entry.split(b"\n", 1))
            if stamp["append"] + stamp["part"][0] - 1 != index:
                raise Refuted("an entry's stamp is another one's; first damaged entry %d" % index)
            payload, prune = (body.get(name) if isinstance(body, dict) else 0 for name in ("payload", "pruned"))
            if isinstance(payload, dict):
                wanted[stamp["append"]] = payload.get("commit"), payload.get("class"), stamp["recorded_at"][:10]
            if isinstance(prune, dict):
                pruned.append((index, prune["class"], prune["through"]))
    checked, leaves = check_tree(directory, size, root, visit)
    check_earlier(directory, checked)
    payloads = check_payloads(directory, wanted, pruned) if shutil.which("zstd") else "not checked: no zstd program"
    witnessed = policy.check(keys, note, (origin, size), leaves) if policy else []
    print("\n".join(["checkpoint  %s size %d root %s" % (origin, size, root.hex())] + witnessed))
    print("entries     %d verified\npayloads    %d named, %s\nVERIFIED" % (size, len(wanted), payloads))

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Refuted, ValueError, KeyError, TypeError) as trouble:
        sys.exit(print("REFUTED: %s" % trouble) or 1)
    except (Unknown, OSError) as trouble:
        sys.exit(print("COULD NOT CHECK: %s" % trouble) or 2)
