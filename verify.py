#!/usr/bin/env python3
"""Verifies a transparency log's folder without any of the program's own code.

    python3 verify.py DIR [--vkey FILE-OR-TEXT]... [--policy FILE]

DIR holds `checkpoint` and `tile/` (C2SP tlog-tiles); for a Counterfoil data folder that is DIR/ledger. Needs Python 3.8 and
the `openssl` program, and a `zstd` program to look into payloads. Exit status: 0 verified, 1 refuted, 2 could not check.
It checks the checkpoint's Ed25519 signature, every entry bundle, every hash tile, earlier partial tiles, the root hash, and
that each payload block holds what its entries have committed to. With a policy (C2SP tlog-policy) also that its quorum of
witnesses has cosigned a checkpoint of this tree: `checkpoint`, or `published/cosigned` beside DIR. Formats: docs/formats/ and https://c2sp.org.
"""
import base64, hashlib, json, os, pathlib, shutil, struct, subprocess, sys, tempfile

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
        rows = [line.split(" ", 2) for line in listed.decode().splitlines()]
        keys = [parse_vkey(key) + (range(int(first), sys.maxsize if end == "-" else int(end)),) for first, end, key in rows]
    except (Unknown, ValueError) as error:
        raise Refuted("keys/vkeys: %s" % error)
    return [key for key in keys if key[0].encode() + b"\n" == origin]

def parse_policy(text):
    """C2SP tlog-policy -> (keys of logs, {witness: key}, quorum: a function of the set of witnesses who cosigned)"""
    logs, witnesses, rules, taken, quorum = [], {}, {}, [], None
    for number, line in enumerate(text.split("\n"), 1):
        items = [item for item in line.replace("\t", " ").split(" ") if item]
        word, rest = (items or ["#"])[0], items[1:]
        try:
            if word.startswith("#"):
                continue
            name = rest[0]
            if word == "log" and len(rest) < 3:
                logs.append(parse_vkey(name) + (None,))
            elif word == "quorum" and len(rest) == 1 and quorum is None:
                quorum = (lambda who: True) if name == "none" else rules[name]
            elif word not in ("witness", "group") or name in rules or name == "none":
                raise ValueError
            elif word == "witness" and len(rest) < 4:
                witnesses[name], rules[name] = parse_vkey(rest[1], 4), lambda who, name=name: name in who
            elif word == "group":
                members = [rules[member] for member in rest[2:]]
                least = {"any": 1, "all": len(members)}.get(rest[1]) or int(rest[1] if rest[1].isdigit() else 0)
                taken += rest[2:]
                if not 1 <= least <= len(members) or len(taken) != len(set(taken)):
                    raise ValueError
                rules[name] = lambda who, members=members, least=least: sum(rule(who) for rule in members) >= least
            else:
                raise ValueError
        except (ValueError, KeyError, IndexError):
            raise Unknown("not a policy (line %d): %s" % (number, line))
    keys = [key[2] for key in logs], [key[2] for key in witnesses.values()]
    if quorum is None or any(len(set(list)) != len(list) for list in keys):
        raise Unknown("not a policy: no quorum line, or a key that is there twice")
    return logs, witnesses, quorum

def signature_fits(public, message, signature):
    with tempfile.TemporaryDirectory() as folder:
        key, text, sig = (os.path.join(folder, name) for name in ("key", "text", "sig"))
        der = bytes.fromhex("302a300506032b6570032100") + public  # RFC 8410
        for name, content in ((key, der), (text, message), (sig, signature)):
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

def cosigned_by(note, witnesses):
    """Those of the witnesses who have cosigned the note, whose own signature has been checked -> {name: Unix time}"""
    text, signatures = note.decode().rsplit("\n\n", 1)
    found = {}
    for _, key_name, blob in (line.split(" ") for line in signatures.split("\n")[:-1]):
        blob = base64.b64decode(blob)
        for name in (name for name, key in witnesses.items() if key[:2] == (key_name, blob[:4])):
            time = int.from_bytes(blob[4:12], "big")
            message = "cosignature/v1\ntime %d\n%s\n" % (time, text)
            if len(blob) != 76 or not signature_fits(witnesses[name][2], message.encode(), blob[12:]):
                raise Refuted("the cosignature of %r is wrong" % name)
            found[name] = max(time, found.get(name, 0))
    return found

def tile(directory, level, n, width):
    """Path and bytes of a tile or bundle; the full one serves where the partial one has been cleaned away."""
    name, rest = "%03d" % (n % 1000), n // 1000
    while rest:
        name, rest = "x%03d/%s" % (rest % 1000, name), rest // 1000
    full = "tile/%s/%s" % (level, name)
    for path in [full] if width == 256 else ["%s.p/%d" % (full, width), full]:
        content = read(directory, path)
        if content is not None:
            return path, content
    raise Refuted("%s: missing; first damaged entry at most %d" % (path, n * 256))

def split_bundle(content):
    entries, at = [], 0
    while at + 2 <= len(content):
        end = at + 2 + int.from_bytes(content[at:at + 2], "big")
        if end > len(content):
            break
        entries.append(content[at + 2:end])
        at = end
    return entries, at == len(content)

def check_tree(directory, size, root, visit):
    """Every entry and every tile; `visit(index, entry)` sees each entry. Gives the bytes of each file that was checked."""
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
    return checked

def check_earlier(directory, checked):
    """Partial tiles of earlier checkpoints have to be beginnings of the present ones."""
    present = {path.split(".p/")[0]: content for path, content in checked.items()}
    for folder, _, names in os.walk(os.path.join(directory, "tile")):
        for path in (os.path.relpath(os.path.join(folder, name), directory) for name in names):
            now, old = present.get(path.split(".p/")[0]), read(directory, path)
            if now is not None and old is not None and not (now.startswith(old) or old.startswith(now)):
                raise Refuted("%s: does not agree with the present tile" % path)

def check_payloads(directory, wanted, pruned):
    """`wanted`: entry -> (commitment, class, day); `pruned`: (entry, class, last day). Counts the payloads found in blocks."""
    found = set()
    for folder, _, names in os.walk(os.path.join(directory, "payload")):
        for path in (os.path.join(folder, name) for name in names if name.endswith(".blk")):
            block = read(path)
            frame, plain_length, count, magic = struct.unpack("<III12x8s", block[-32:].rjust(32))
            if magic != b"CFLPAY01" or frame + 16 * count + 32 != len(block):
                raise Refuted("%s: not a payload block" % path)
            run = subprocess.run(["zstd", "-dcq"], input=block[:frame], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            if run.returncode != 0 or len(run.stdout) != plain_length:
                raise Refuted("%s: cannot be unpacked" % path)
            for entry, offset, length in struct.iter_unpack("<QII", block[frame:-32]):
                digest = hashlib.sha256(run.stdout[offset:offset + 32 + length]).hexdigest()
                if wanted.get(entry, (digest,))[0] != digest:
                    raise Refuted("%s: not the payload that was named; first damaged entry %d" % (path, entry))
                found.add(entry)
    gone = [(entry, *wanted[entry][1:]) for entry in set(wanted) - found]
    count = sum(any(entry < by and of == cls and day <= last for by, of, last in pruned) for entry, cls, day in gone)
    return "%d verified in blocks, %d pruned, %d elsewhere" % (len(wanted) - len(gone), count, len(gone) - count)

def options(arguments, name):
    """The values of an option; it and they are taken out of the arguments."""
    values = [arguments.pop(i + 1) for i in range(len(arguments) - 2, -1, -1) if arguments[i] == name]
    arguments[:] = [argument for argument in arguments if argument != name]
    return values

def main(arguments):
    given, policies = options(arguments, "--vkey"), options(arguments, "--policy")
    if len(arguments) != 1 or arguments[0].startswith("-") or len(policies) > 1:
        raise Unknown(__doc__)
    directory, wanted, pruned, prefix = arguments[0], {}, [], []
    ours = os.path.exists(os.path.join(directory, "format"))
    # Read before the checkpoint, which therefore is not older.
    kept = read(directory, os.pardir, "published", "cosigned") if ours and policies else None
    note = read(directory, "checkpoint")
    if note is None:
        raise Unknown("no checkpoint in %s" % directory)
    logs, witnesses, quorum = parse_policy((read(policies[0]) or b"").decode()) if policies else ([], {}, None)
    keys = logs if logs and not given else find_keys(directory, given)
    origin, size, root = check_checkpoint(note, keys)
    cosigned = check_checkpoint(kept, keys) if kept else (origin, 0, sha(b""))
    if cosigned[0] != origin or cosigned[1] > size:
        raise Refuted("published/cosigned: it is of %r with %d entries, the log here is %r with %d" % (cosigned[:2] + (origin, size)))

    def visit(index, entry):
        if index < cosigned[1]:
            prefix.append(sha(b"\0", entry))
        if ours:  # a Counterfoil leaf: the ledger's stamp, then the body
            stamp, body = (json.loads(line) for line in entry.split(b"\n", 1))
            if stamp["append"] + stamp["part"][0] - 1 != index:
                raise Refuted("an entry's stamp is another one's; first damaged entry %d" % index)
            payload, prune = (body.get(name) if isinstance(body, dict) else 0 for name in ("payload", "pruned"))
            if isinstance(payload, dict):
                wanted[stamp["append"]] = payload.get("commit"), payload.get("class"), stamp["recorded_at"][:10]
            if isinstance(prune, dict):
                pruned.append((index, prune["class"], prune["through"]))

    check_earlier(directory, check_tree(directory, size, root, visit))
    payloads = check_payloads(directory, wanted, pruned) if shutil.which("zstd") else "not checked: no zstd program"
    if (root_of(prefix) if prefix else sha(b"")) != cosigned[2]:
        raise Refuted("published/cosigned: the log here had another root at size %d" % cosigned[1])
    found = [(size, cosigned_by(note, witnesses))] + ([(cosigned[1], cosigned_by(kept, witnesses))] if kept else [])
    enough = [(size, who) for size, who in found if quorum and quorum(set(who))]
    if quorum and not enough:
        raise Unknown("no checkpoint here has the quorum: %s" % found)
    print("checkpoint  %s size %d root %s" % (origin, size, root.hex()))
    if quorum:
        print("witnessed   %d entries by %s" % (max(enough)[0], max(enough)[1] or "nobody: the policy asks for no witness"))
    print("entries     %d verified\npayloads    %d named, %s\nVERIFIED" % (size, len(wanted), payloads))

if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except (Refuted, ValueError, KeyError, TypeError) as trouble:
        print("REFUTED: %s" % trouble)
        sys.exit(1)
    except (Unknown, OSError) as trouble:
        print("COULD NOT CHECK: %s" % trouble)
        sys.exit(2)
