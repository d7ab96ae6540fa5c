#!/usr/bin/env python3
"""Checks what a ledger says of itself, without a line of the code that wrote it.

Give it a store (a folder with `ledger/checkpoint`), a `.tlog-proof` file, or an evidence archive
(`.tar`, `.tar.gz`). It was written from docs/ledger.md, docs/format.md and the text of a manifest,
with Ed25519, Merkle tree and BLAKE3 of its own: for a mistake to go unseen, it must be made twice.
Python 3.9, standard library alone. Exit: 0 clean, 64 usage, 65 something wrong, 66 file missing.
"""
import argparse, base64, collections, datetime, functools, hashlib, io, json, os, re, struct, sys
import tarfile, zlib

EXIT_CLEAN, EXIT_USAGE, EXIT_WRONG, EXIT_MISSING = 0, 64, 65, 66
TILE = 256  # hashes or entries in a full file (C2SP tlog-tiles)
NOTE_BYTES_MAX, SIGNATURES_MAX, MEMBER_BYTES_MAX, MEMBERS_MAX = 65_536, 64, 1 << 20, 100_000
ED25519, COSIGNATURE = 1, 4  # type bytes of keys (C2SP signed-note, tlog-cosignature)
EPOCH_2020 = 1_577_836_800  # where the times of tables begin
KEPT_AFTER_EXPIRY = 30 * 86_400  # for so long a base keeps an expired token
TOKENS_NAMED_MAX = 20  # of each table that differs
ROLES = ("build", "revoke", "ledger", "witness")
REASONS = ("compromised", "superseded", "unused", "owner-request", "policy", "absent", "other")
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

Key = collections.namedtuple("Key", "name id kind public")
Trust = collections.namedtuple("Trust", "keys origin required")  # keys by role, name and id
Checkpoint = collections.namedtuple("Checkpoint", "origin size root witnesses")
Event = collections.namedtuple("Event", "index type time fields")
Manifest = collections.namedtuple("Manifest", "hash origin number tables size root")
TableLine = collections.namedtuple("TableLine", "hash bytes records start end subjects length")
Record = collections.namedtuple(
    "Record", "id flags grant not_before expires revoked_at issued_at issue_index reason")

class Wrong(Exception):
    """Why the check of one thing ended."""

class Report:
    """What was found, what was seen, and what nobody looked at."""
    def __init__(self):
        self.findings, self.lines, self.unchecked = [], [], []
        self.wrong, self.say = self.findings.append, self.lines.append
        self.leave = self.unchecked.append

    def attempt(self, place, check, *given):
        """Runs one check; whatever it cannot make sense of is a finding about `place`."""
        try:
            return check(*given)
        except Wrong as wrong:
            return self.wrong(f"{place}: {wrong}")
        except OSError as error:
            return self.wrong(f"{place}: cannot be read: {error.strerror or error}")

    def show(self, as_json):
        if as_json:
            return print(json.dumps({"clean": not self.findings, "findings": self.findings,
                                     "lines": self.lines, "unchecked": self.unchecked}))
        texts = self.lines + [f"not checked: {text}" for text in self.unchecked]
        for text in texts + [f"WRONG  {text}" for text in self.findings]:
            print("".join(c if c.isprintable() else f"<{ord(c):x}>" for c in text))
        return print(f"{len(self.findings)} findings" if self.findings else "clean")

def main(arguments):
    options, report = read_options(arguments), Report()
    try:
        examine(options, report)
    except Exception as error:  # the last resort: no input may end in a traceback, or as clean
        report.wrong(f"{options.path}: makes no sense: {type(error).__name__}: {error}")
    report.show(options.json)
    return EXIT_WRONG if report.findings else EXIT_CLEAN

def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.error = lambda text: parser.exit(EXIT_USAGE, f"verify_evidence: {text}\n")
    parser.add_argument("path", help="a store, a .tlog-proof, or an evidence archive")
    parser.add_argument("--key", action="append", default=[], metavar="VKEY", help="a trusted "
                        "verifier key for checkpoints and manifests or, of type 4, cosignatures")
    parser.add_argument("--policy", metavar="FILE", help="the policy.toml that says who is trusted")
    parser.add_argument("--checkpoint", metavar="KEPT", help="of a store, a checkpoint of before")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    heads = [os.path.join(options.path, "ledger/checkpoint")] * os.path.isdir(options.path)
    for path in [options.path, options.policy, options.checkpoint] + heads:
        if path is not None and not os.path.exists(path):
            parser.exit(EXIT_MISSING, f"verify_evidence: {path}: no such file\n")
    if options.checkpoint is not None and not heads:
        parser.error("--checkpoint goes with a store")
    try:
        options.key = [parse_key(text) for text in options.key]
    except Wrong as wrong:
        parser.error(f"--key: {wrong}")
    return options

def examine(options, report):
    """Finds out what PATH is, and checks it."""
    policy = options.policy and report.attempt(options.policy, read, options.policy)
    trust = report.attempt(options.policy or "--key", trust_of, policy, options.key)
    if trust is None:
        return report.leave("everything else, as it is not known who is trusted")
    if policy is not None:
        report.leave("valid_from and valid_until of signers")
    if not trust.required:
        report.say("self-consistent, signers not pinned")
        report.leave("who signed: give --policy FILE or --key VKEY")
    if os.path.isdir(options.path):
        return audit_store(options.path, trust, options.checkpoint, report)
    if options.path.endswith((".tar", ".tar.gz", ".tgz")):
        return audit_archive(options.path, trust, report)
    report.leave("whatever happened to the token in events that are not proven here")
    data = report.attempt(options.path, read, options.path)
    return data is not None and report.attempt(
        options.path, check_proof, data, options.path, trust, report)

# A store

def audit_store(store, trust, kept, report):
    """The whole audit of docs/ledger.md: leaves, tiles, root, laws, manifests, tables."""
    path, folder = (os.path.join(store, "ledger", name) for name in ("checkpoint", "tile"))
    head = report.attempt(path, read_checkpoint, path, trust, report)
    if head is None:
        return report.leave("everything else, for want of a checkpoint")
    report.say(f"{head.origin}: {head.size} entries, {head.witnesses} witnesses")
    if not head.witnesses:
        report.leave("whether somebody was shown another ledger: no known witness has cosigned")
    entries = report.attempt(folder, load_entries, folder, head.size)
    if entries is None:
        return report.leave("tiles, root, laws and tables, for want of entries")
    leaves = [sha256(b"\0", entry) for entry in entries]
    check_tiles(folder, tree_levels(leaves), entries, report)
    if tree_root(leaves) != head.root:
        report.wrong(f"{path}: its root is not that of the entries")
    check_kept(kept, head, leaves, trust, report)
    events = [report.attempt(f"event {index}", parse_event, index, entry)
              for index, entry in enumerate(entries)]
    check_laws(events, report)
    return check_manifests(store, head, leaves, events, trust, report)

def tile_files(folder, level, number):
    """Files of one tile by width: the full one, and partial ones (C2SP tlog-tiles)."""
    name = f"{number % 1000:03}"
    while number >= 1000:
        number //= 1000
        name = f"x{number % 1000:03}/{name}"
    path = os.path.join(folder, str(level), name)
    widths = os.listdir(path + ".p") if os.path.isdir(path + ".p") else []
    files = {int(width): os.path.join(path + ".p", width)
             for width in widths if re.fullmatch("[1-9][0-9]{0,2}", width)}
    return {**files, TILE: path} if os.path.exists(path) else files

def needed_tiles(size):
    """Number and width of the files that hold `size` entries or hashes."""
    return ((at // TILE, min(TILE, size - at)) for at in range(0, size, TILE))

def load_entries(folder, size):
    """The entries that the checkpoint counts; each stands behind its length (two bytes)."""
    entries = []
    for number, width in needed_tiles(size):
        files, some, at = tile_files(folder, "entries", number), [], 0
        path = files.get(width) or files.get(TILE)
        data = read(path) if path else b""
        while at < len(data):
            end = at + 2 + int.from_bytes(data[at:at + 2], "big")
            if end > len(data):
                raise Wrong(f"{path} is cut off in entry {len(entries) + len(some)}")
            some.append(data[at + 2:end])
            at = end
        if len(some) < width:
            raise Wrong(f"entry {len(entries) + len(some)} is missing, the checkpoint counts {size}")
        entries += some[:width]
    return entries

def check_tiles(folder, levels, entries, report):
    """Every file, byte for byte, against what the entries make it; and that none is missing."""
    framed = [len(entry).to_bytes(2, "big") + entry for entry in entries]
    for level, row in [("entries", framed), *enumerate(levels)]:
        for number, needed in needed_tiles(len(row)):
            files, first = tile_files(folder, level, number), number * TILE
            if needed not in files and TILE not in files:
                report.wrong(f"{folder}: tile {number} of level {level} is missing")
            for width, path in sorted(files.items()):
                if width <= needed:
                    report.attempt(path, check_tile, path, level, first, row[first:first + width])
    report.leave("files of ledger/tile that the checkpoint does not reach")

def check_tile(path, level, first, row):
    """One file; names the first item that differs."""
    data, at = read(path), 0
    for index, item in enumerate(row, first):
        if data[at:at + len(item)] != item:
            raise Wrong(f"level {level}: item {index} is not what the entries make it")
        at += len(item)
    if at != len(data):
        raise Wrong(f"is {len(data) - at} bytes too long")

def check_kept(path, head, leaves, trust, report):
    """A checkpoint of before: nothing that it covers was taken back or changed."""
    if path is None:
        return report.leave("whether entries were taken back: give a kept --checkpoint")
    kept = report.attempt(path, read_checkpoint, path, trust, report)
    if kept is None:
        return None
    if kept.origin != head.origin:
        return report.wrong(f"{path}: is about another ledger, {kept.origin}")
    if kept.size > head.size:
        return report.wrong(f"the ledger was cut: it had {kept.size} entries, now {head.size}")
    if tree_root(leaves[:kept.size]) != kept.root:
        return report.wrong(f"two histories: the first {kept.size} entries are not those of {path}")
    return report.say(f"the first {kept.size} entries are those of the kept checkpoint")

# Proofs, and archives of them

def check_proof(data, place, trust, report):
    """C2SP tlog-proof with the entry as `extra`: inclusion, signatures, form of the entry."""
    top, _, note = utf8(data).partition("\n\n")
    found = re.fullmatch(r"c2sp\.org/tlog-proof@v1\nextra ([^\n]*)\nindex ([^\n]*)((?:\n.*)*)", top)
    if not found:
        raise Wrong("is no .tlog-proof with an entry and an index")
    entry, index = unbase64(found[1]), decimal(found[2])
    path = [unbase64(line, 32) for line in found[3].split("\n")[1:]]
    head = parse_checkpoint(note.encode(), place, trust, report)
    if path_root(index, head.size, sha256(b"\0", entry), path) != head.root:
        raise Wrong("its entry is not in the ledger: the path leads to another root")
    report.say(f"{place}: event {index} of {head.origin} with {head.size} entries, "
               f"{head.witnesses} witnesses: {describe(parse_event(index, entry))}")
    return head

def audit_archive(path, trust, report):
    """Every proof of an archive, and that all are about one ledger with one history."""
    members = report.attempt(path, read_members, path)
    if members is None:
        return
    if not trust.required and "policy.toml" in members:
        report.say("signatures are held against the archive's own policy.toml, which pins nothing")
        trust = report.attempt("policy.toml", trust_of, members["policy.toml"], []) or trust
    report.leave("summary.txt, which is prose; events that are not proven here")
    for name in sorted({"checkpoint", "policy.toml", "summary.txt"} - members.keys()):
        report.wrong(f"{path}: {name} is missing")
    heads, roots = {}, {}
    for name in sorted(members.keys() - {"policy.toml", "summary.txt"}):
        check = parse_checkpoint if name == "checkpoint" else check_proof
        heads[name] = report.attempt(name, check, members[name], name, trust, report)
    if heads.keys() <= {"checkpoint"}:
        report.wrong(f"{path}: holds no proof")
    for name, head in heads.items():
        if head is not None and roots.setdefault("origin", head.origin) != head.origin:
            report.wrong(f"{name}: is about {head.origin}, others are about {roots['origin']}")
        elif head is not None and roots.setdefault(head.size, head.root) != head.root:
            report.wrong(f"{name}: two histories: another root for the same {head.size} entries")
    if len(roots) > 2:
        report.leave("whether ledgers of different sizes are one: that takes the store")

def read_members(path):
    """The files of a tar archive; links, other names and two of one name are refused."""
    allowed = re.compile(r"proofs/[^/]+\.tlog-proof|checkpoint|policy\.toml|summary\.txt")
    members, data = {}, read(path)
    mode = "r:gz" if data[:2] == b"\x1f\x8b" else "r:"
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode=mode) as archive:
            for member in archive:
                name = re.sub(r"^\./", "", member.name)
                if member.isdir():
                    continue
                if not allowed.fullmatch(name) or not member.isreg() or name in members:
                    raise Wrong(f"{name!r} does not belong in it, or is there twice")
                if member.size > MEMBER_BYTES_MAX or len(members) >= MEMBERS_MAX:
                    raise Wrong(f"{name!r} is too large, or one too many")
                members[name] = archive.extractfile(member).read()
    except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
        raise Wrong(f"is no whole tar archive: {error}") from error
    return members

# Trust, notes and checkpoints

POLICY_LINE = re.compile(
    r'\s*(?:(\[.*?\])|([\w-]+)\s*=\s*(\[[^\]#]*\]|"[^"\\]*"|[^"\[#]+?))?\s*(?:#.*)?')

def trust_of(policy, keys):
    """Keys of a policy (`origin`; `key` and `roles` of each [[signer]]), and given ones."""
    signers, top = [], {}
    here = top
    for line in utf8(policy or b"").splitlines():
        found = POLICY_LINE.fullmatch(line)
        if not found or found[2] in here:
            raise Wrong(f"line {line!r} of the policy is not understood")
        if found[1]:
            here = {}
            signers += [here] if found[1] == "[[signer]]" else []
        elif found[2]:
            here[found[2]] = re.findall('"([^"]*)"', found[3])
    if policy is not None and (len(top.get("origin", ())) != 1
                               or not all({"key", "roles"} <= signer.keys() for signer in signers)):
        raise Wrong("the policy lacks an origin, or the key or roles of a signer")
    pairs = [(parse_key("".join(signer["key"])), signer["roles"]) for signer in signers]
    known = {(role, key.name, key.id): key for key, roles in pairs + [(key, ROLES) for key in keys]
             for role in roles if (role == "witness") == (key.kind == COSIGNATURE)}
    return Trust(known, "".join(top.get("origin", [])), policy is not None or bool(keys))

def parse_key(text):
    """C2SP signed-note: `name+id+base64`, the id being made from name and key."""
    name, _, rest = text.partition("+")
    data = unbase64(rest[9:], 33)
    key_id = sha256(name.encode("utf-8", "replace"), b"\n", data)[:4]
    if not re.fullmatch(r"[^\s+]+", name) or rest[:9] != key_id.hex() + "+" \
            or data[0] not in (ED25519, COSIGNATURE):
        raise Wrong(f"{text[:80]!r} is no verifier key of a known type")
    return Key(name, key_id, data[0], data[1:])

def parse_note(data):
    """C2SP signed-note: the text that is signed, and name, key id and signature of each line."""
    text, gap, block = utf8(data).rpartition("\n\n")
    lines = [re.fullmatch("\u2014 ([^\\s+]+) (\\S+)\n", line) for line in block.splitlines(True)]
    if not gap or not lines or None in lines or CONTROL.search(text.replace("\n", "")):
        raise Wrong("is no signed note")
    if len(data) > NOTE_BYTES_MAX or len(lines) > SIGNATURES_MAX:
        raise Wrong("is too long for a signed note")
    signed = [(line[1], unbase64(line[2])) for line in lines]
    return text + "\n", [(name, both[:4], both[4:]) for name, both in signed]

def check_signatures(note, role, trust):
    """Unknown keys are ignored, a known one that does not fit spoils the note; counts witnesses."""
    text, signers, witnesses = note[0].encode(), set(), set()
    for name, key_id, signature in note[1]:
        key = trust.keys.get((role, name, key_id))
        if key is None and role == "ledger":
            key = trust.keys.get(("witness", name, key_id))
        if key is None:
            continue
        if key.kind == COSIGNATURE:  # over its time and the text
            time = b"cosignature/v1\ntime %d\n" % int.from_bytes(signature[:8], "big")
            fits = ed25519_verify(key.public, time + text, signature[8:])
        else:
            fits = ed25519_verify(key.public, text, signature)
        if not fits:
            raise Wrong(f"the signature of {name}+{key_id.hex()} does not fit")
        (witnesses if key.kind == COSIGNATURE else signers).add(key.public)
    if trust.required and not signers:
        raise Wrong(f"is signed by no key that is trusted as {role}")
    return len(witnesses)

def read_checkpoint(path, trust, report):
    return parse_checkpoint(read(path), path, trust, report)

def parse_checkpoint(data, place, trust, report):
    """C2SP tlog-checkpoint: origin, size, root. A bad signature is reported, and reading goes on."""
    note = parse_note(data)
    lines = note[0].split("\n")[:-1]
    if len(lines) < 3 or "" in lines:
        raise Wrong("is no checkpoint")
    if not lines[0].endswith("/ledger") or trust.origin not in ("", lines[0][:-len("/ledger")]):
        raise Wrong(f"is about {lines[0]!r}, which is not the trusted ledger")
    witnesses = report.attempt(place, check_signatures, note, "ledger", trust) or 0
    return Checkpoint(lines[0], decimal(lines[1]), unbase64(lines[2], 32), witnesses)

# Events

FIELD_ORDER = (
    "schema type time actor on_behalf_of request id digest algorithm kind audience scopes not_before "
    "expires commitment predecessor at reason successor ticket previous epoch generation manifest "
    "key roles").split()
EVERY, ANY = {"schema", "type", "time", "actor"}, {"on_behalf_of", "request", "ticket"}
CLAIMS = "audience scopes not_before expires commitment"
FIELDS = {kind: (EVERY | set(needed.split()), ANY | set(more.split())) for kind, needed, more in (
    ("issue", "id digest kind", CLAIMS + " predecessor"),
    ("import", "id digest kind algorithm", CLAIMS),
    ("revoke", "id digest at reason previous", ""),
    ("rotate", "id digest at reason previous successor", ""),
    ("erase", "id digest previous", ""),
    ("publish", "epoch generation manifest", ""),
    ("signer-added", "key roles", ""),
    ("signer-retired", "key at", ""))}
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
TEXTS = {
    **dict.fromkeys(("digest", "commitment", "manifest"), "[0-9a-f]{64}"),
    **dict.fromkeys(("id", "predecessor", "successor"), "[0-9A-Za-z]{14}"),
    **dict.fromkeys(("actor", "on_behalf_of", "request", "ticket"), r"[^\x00-\x1f\x7f-\x9f]+"),
    "type": "|".join(FIELDS), "algorithm": "[!-~]{1,16}", "kind": "[a-z0-9]{1,8}",
    "audience": "[!-~]{1,255}", "reason": "|".join(REASONS),
    "scopes": r"[!\x23-\x5b\x5d-\x7e]{1,128}", "roles": "|".join(ROLES)}

def parse_event(index, entry):
    """One leaf: its form, and that it is the one text of its event."""
    try:
        fields = json.loads(entry.decode())
    except (ValueError, RecursionError) as error:
        raise Wrong("is no JSON in UTF-8") from error
    if type(fields) is not dict or fields.get("type") not in list(FIELDS):
        raise Wrong("is no event of a known type")
    needed, more = FIELDS[fields["type"]]
    for name in sorted(needed - fields.keys()) + sorted(fields.keys() - needed - more):
        raise Wrong(f"field {name!r} is missing, or does not belong to {fields['type']!r}")
    for name, value in fields.items():
        if not field_fits(name, value):
            raise Wrong(f"field {name!r} has a value that it cannot have")
    ordered = {name: fields[name] for name in FIELD_ORDER if name in fields}
    text = json.dumps(ordered, ensure_ascii=False, separators=(",", ":"))
    if text.encode("utf-8", "surrogatepass") != entry:
        raise Wrong("is not written in the one form of its event")
    return Event(index, fields["type"], unix(fields["time"]), fields)

def field_fits(name, value):
    """One value against the table in docs/ledger.md."""
    if name in ("schema", "previous", "epoch", "generation"):
        return type(value) is int and 0 <= value < 1 << 64 and (name != "schema" or value == 1)
    if name in ("scopes", "roles"):
        return (type(value) is list and 0 < len(value) <= 64
                and all(type(item) is str and re.fullmatch(TEXTS[name], item) for item in value)
                and len(set(value)) == len(value) and (name == "roles" or value == sorted(value)))
    if type(value) is not str:
        return False
    try:
        return bool(re.fullmatch(TEXTS[name], value) if name in TEXTS else
                    parse_key(value) if name == "key" else unix(value) is not None)
    except Wrong:
        return False

def describe(event):
    """An event in plain words."""
    done = {"issue": "issued token {id}", "import": "imported token {id}", "revoke": "revoked "
            "token {id}", "rotate": "ended token {id}", "erase": "erased the subject of token {id}",
            "publish": "published generation {generation} of epoch {epoch}",
            "signer-added": "added a signer", "signer-retired": "retired a signer"}[event.type]
    told = EVERY | {"id", "digest", "commitment", "epoch", "generation", "previous"}
    more = [f"{name.replace('_', ' ')} {' '.join(value) if type(value) is list else value}"
            for name, value in event.fields.items() if name not in told]
    words = f"at {event.fields['time']}, {event.fields['actor']} {done.format(**event.fields)}"
    return ", ".join([words] + more)

# The laws

class Token:
    """What the events so far say of a token."""
    def __init__(self, issue):
        self.issue, self.last, self.erased = issue, issue.index, False
        self.at, self.at_once, self.reason = None, False, 0

    def follow(self, event):
        self.last, at = event.index, unix(event.fields.get("at", ""))
        self.erased |= event.type == "erase"
        if at is not None and (self.at is None or at < self.at):
            self.at, self.at_once = at, at <= event.time
            self.reason = 1 + REASONS.index(event.fields["reason"])

def replay(tokens, event):
    """Takes one event into `tokens`; returns the id that it is about, if any."""
    token_id = event.fields.get("id")
    if event.type in ("issue", "import"):
        tokens.setdefault(token_id, Token(event))
    elif token_id in tokens:
        tokens[token_id].follow(event)
    return token_id

def check_laws(events, report):
    """Laws 1 to 6, and of law 7 the order of publications, event by event."""
    tokens, digests, time, published = {}, set(), 0, (0, 0)
    known = [event for event in events if event is not None]
    for event in known:
        for text in broken_laws(event, events, tokens, digests):
            report.wrong(f"event {event.index} ({event.type} {event.fields.get('id', '')}): {text}")
        if event.time < time:
            report.wrong(f"event {event.index}: law 1: its time is before that of the one before")
        if event.type == "publish" and number_of(event) <= published:
            report.wrong(f"event {event.index}: law 7: {number_of(event)} after {published}")
        published = max(published, number_of(event) if event.type == "publish" else published)
        time = max(time, event.time)
        digests.add(event.fields.get("digest"))
        replay(tokens, event)
    kinds = collections.Counter(event.type for event in known)
    report.say(", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items())) or "no events")

def number_of(event):
    return event.fields["epoch"], event.fields["generation"]

def broken_laws(event, events, tokens, digests):
    """Laws 2 to 6 about one event, which `tokens` does not know yet."""
    fields, token = event.fields, tokens.get(event.fields.get("id"))
    if event.type in ("issue", "import") and (token or fields["digest"] in digests):
        yield "law 2: this id or digest was issued before"
    if "predecessor" in fields and not is_rotation(event, (events + [None])[event.index + 1]):
        yield "law 5: is not followed by the rotation of its predecessor"
    if event.type == "rotate" and not is_rotation(([None] + events)[event.index], event):
        yield "law 5: does not follow the issue of its successor"
    if event.type not in ("revoke", "rotate", "erase"):
        return
    if token is None:
        yield "law 3: is about a token that was not issued"
        return
    if fields["digest"] != token.issue.fields["digest"]:
        yield "law 3: names another digest than that of the token"
    if fields["previous"] != token.last:
        yield f"law 3: `previous` is {fields['previous']}, the event before is {token.last}"
    if event.type == "erase" and token.erased:
        yield "law 6: the subject was erased before"
    if event.type != "erase" and token.at is not None \
            and (token.at_once or unix(fields["at"]) >= token.at):
        yield "law 4: trust ended before, or was to end as early"

def is_rotation(issue, rotate):
    """Whether these two neighbours are the two halves of one rotation."""
    return (issue is not None and rotate is not None and issue.type == "issue"
            and rotate.type == "rotate" and issue.fields.get("predecessor") == rotate.fields["id"]
            and issue.fields["id"] == rotate.fields["successor"])
