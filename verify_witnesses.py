"""The part of verify.py that looks at witnesses: `verify.py DIR --policy FILE`.

A policy (C2SP tlog-policy) names witnesses and how many of them are enough. The quorum must have cosigned (C2SP
tlog-cosignature) a checkpoint of the tree that verify.py checks: `checkpoint`, or `published/cosigned` beside DIR.
"""
import base64, os
from __main__ import Refuted, Unknown, check_checkpoint, parse_vkey, read, root_of, sha, signature_fits

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

class Policy:
    """What a policy asks for, and the cosigned checkpoint that is there."""

    def __init__(self, text, directory):
        self.logs, self.witnesses, self.quorum = parse_policy(text.decode())
        # Read before the checkpoint, which therefore is not older.
        self.note = read(directory, os.pardir, "published", "cosigned") if directory else None

    def check(self, keys, note, log, leaves):
        """`note` is the log's checkpoint, `log` its origin and size, `leaves` the hashes of its entries -> lines to print"""
        found = [(log[1], cosigned_by(note, self.witnesses))]
        if self.note:
            origin, size, root = check_checkpoint(self.note, keys)
            if origin != log[0] or size > log[1]:
                raise Refuted("published/cosigned: it is of %r with %d entries, the log here is %r with %d" % ((origin, size) + log))
            if (root_of(leaves[:size]) if size else sha(b"")) != root:
                raise Refuted("published/cosigned: the log here had another root at size %d" % size)
            found.append((size, cosigned_by(self.note, self.witnesses)))
        enough = [(size, who) for size, who in found if self.quorum(set(who))]
        if not enough:
            raise Unknown("no checkpoint here has the quorum: %s" % found)
        size, who = max(enough, key=lambda pair: pair[0])
        return ["witnessed   %d entries by %s" % (size, who or "nobody: the policy asks for no witness")]
