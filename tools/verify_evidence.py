#!/usr/bin/env python3
"""Checks what a ledger says of itself, without a line of the code that wrote it.

PATH is a store (a folder with `ledger/checkpoint`), a `.tlog-proof` file, or an evidence archive
(`.tar`, `.tar.gz`). Written from docs/ledger.md, docs/format.md and the text of a manifest, with
Ed25519, Merkle tree and BLAKE3 of its own: to go unseen, a mistake must be made twice.
Python 3.9. Exit: 0 clean, 64 usage, 65 something is wrong, 66 a file is missing."""
import argparse, base64, collections, datetime, functools, hashlib, io, itertools, json, os.path
import re, struct, sys, tarfile
from pathlib import Path
from types import SimpleNamespace as Facts

EXIT_CLEAN, EXIT_USAGE, EXIT_WRONG, EXIT_MISSING = 0, 64, 65, 66
TILE = 256  # hashes or entries in a full file (C2SP tlog-tiles)
NOTE_BYTES_MAX, SIGNATURES_MAX, MEMBER_BYTES_MAX, TOKENS_NAMED_MAX = 65_536, 64, 1 << 20, 20
ED25519, COSIGNATURE, FLAG_REVOKED, FLAG_IMPORTED = 1, 4, 1, 2  # types of keys, flags of records
EPOCH_2020, KEPT_AFTER_EXPIRY, NEVER = 1_577_836_800, 30 * 86_400, float("inf")  # seconds
ROLES = ("build", "revoke", "ledger", "witness")
REASONS = ("compromised", "superseded", "unused", "owner-request", "policy", "absent", "other")
NUMBER, HEX = "(0|[1-9][0-9]{0,19})", "([0-9a-f]{64})"
BASE62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

def need(fine, text):
    if not fine:
        raise ValueError(text)

class Report:
    """What was found wrong, what was seen, and what nobody looked at."""
    def __init__(self):
        self.findings, self.lines, self.unchecked = [], [], []
    def check(self, fine, text):
        self.findings += [] if fine else [text]
    def attempt(self, place, check):
        """Runs a check; whatever it cannot make sense of is a finding about `place`."""
        try:
            return check()
        except Exception as error:  # of any kind: no input may end in a traceback, or as clean
            self.findings.append(f"{place}: {str(error) or type(error).__name__}")
    def show(self, as_json):
        texts = self.lines + [f"not checked: {text}" for text in self.unchecked]
        texts += [f"WRONG  {text}" for text in self.findings] or ["clean"]
        if as_json:
            texts = [json.dumps({"clean": not self.findings, **vars(self)})]
        shown = ("".join(c if c.isprintable() else f"<{ord(c):x}>" for c in text) for text in texts)
        print("\n".join(shown))

def main(arguments):
    options, report = read_options(arguments), Report()
    complete = report.attempt(options.path, lambda: [examine(options, report)])
    report.unchecked += [] if complete else ["whatever the last finding keeps from being checked"]
    report.show(options.json)
    return EXIT_WRONG if report.findings else EXIT_CLEAN

def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.error = lambda text: parser.exit(EXIT_USAGE, f"verify_evidence: {text}\n")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("--key", action="append", default=[], type=parse_key, help="a key to trust")
    parser.add_argument("--policy", metavar="FILE", help="the policy.toml that says who is trusted")
    parser.add_argument("--checkpoint", metavar="KEPT", help="of a store, a checkpoint of before")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args(arguments)
    head = os.path.join(options.path, "ledger/checkpoint") if os.path.isdir(options.path) else None
    for path in (options.path, options.policy, options.checkpoint, head):
        if path is not None and not os.path.exists(path):
            parser.exit(EXIT_MISSING, f"verify_evidence: {path}: no such file\n")
    if options.checkpoint is not None and head is None:
        parser.error("--checkpoint goes with a store")
    return options

def examine(options, report):
    """Finds out what PATH is, and checks it."""
    path, policy = Path(options.path), options.policy and Path(options.policy).read_bytes()
    trust = trust_of(policy, options.key)
    report.lines += [] if trust.required else ["self-consistent, signers not pinned"]
    report.unchecked.append("valid_from and _until of signers" if trust.required else "who signed")
    if path.is_dir():
        return audit_store(path, trust, options.checkpoint, report)
    report.unchecked.append("whatever happened to a token in events that are not proven here")
    if path.name.endswith((".tar", ".tar.gz", ".tgz")):
        return audit_archive(path, trust, report)
    return check_proof(path.read_bytes(), path, trust, report)

def audit_store(store, trust, kept, report):
    """The whole audit of docs/ledger.md: leaves, tiles, root, laws, manifests, tables."""
    path, folder = store / "ledger/checkpoint", store / "ledger/tile"
    head = parse_checkpoint(path.read_bytes(), path, trust, report)
    report.lines.append(f"{head.origin}: {head.size} entries, {head.witnesses} witnesses")
    report.unchecked += [] if head.witnesses else ["whether others see another ledger"]
    entries = load_entries(folder, head.size)
    leaves = [sha256(b"\0", entry) for entry in entries]
    check_tiles(folder, tree_levels(leaves), entries, report)
    report.check(tree_root(leaves) == head.root, f"{path}: its root is not that of the entries")
    report.attempt(kept, lambda: check_kept(kept, head, leaves, trust, report))
    events = [report.attempt(f"event {index}", lambda: parse_event(index, entry))
              for index, entry in enumerate(entries)]
    check_laws(events, report)
    check_manifests(store, head, leaves, events, trust, report)

def tile_files(folder, level, first):
    """Files by width, partial ones first, of the tile whose first item is `first` (tlog-tiles)."""
    *high, low = [group.zfill(3) for group in f"{first // TILE:,}".split(",")]
    path = folder.joinpath(str(level), *["x" + group for group in high], low)
    paths = [(width, Path(f"{path}.p/{width}")) for width in range(1, TILE)] + [(TILE, path)]
    return {width: path for width, path in paths if path.exists()}

def load_entries(folder, size):
    """The entries that the checkpoint counts; each stands behind its length, two bytes."""
    entries = []
    for first in range(0, size, TILE):
        width, files = min(TILE, size - first), tile_files(folder, "entries", first)
        path = files.get(width) or files.get(max(files, default=0))
        stream = io.BytesIO(path.read_bytes() if path else b"")
        for index in range(first, first + width):
            length = int.from_bytes(stream.read(2), "big")
            entries.append(stream.read(length))
            need(0 < length == len(entries[-1]), f"entry {index} is missing: no more is checked")
    return entries

def check_tiles(folder, levels, entries, report):
    """Every file, byte for byte, against what the entries make it; and that none is missing."""
    framed = [len(entry).to_bytes(2, "big") + entry for entry in entries]
    for level, row in [("entries", framed), *enumerate(levels)]:
        for first in range(0, len(row), TILE):
            files, items = tile_files(folder, level, first), row[first:first + TILE]
            report.check(len(items) in files or TILE in files,
                         f"{folder}: level {level} has no tile with item {first + len(items) - 1}")
            for width, path in files.items():
                if width <= len(items):
                    report.attempt(path, lambda: check_tile(path, items[:width], first))
    report.unchecked.append("files of ledger/tile that the checkpoint does not reach")

def check_tile(path, items, first):
    """One file; names the first item that differs."""
    stream = io.BytesIO(path.read_bytes())
    for index, item in enumerate(items, first):
        need(stream.read(len(item)) == item, f"item {index} is not what the entries make it")
    need(not stream.read(1), "is longer than the entries make it")

def check_kept(path, head, leaves, trust, report):
    """A checkpoint of before: nothing that it covers was taken back or changed."""
    if path is None:
        return report.unchecked.append("whether entries were taken back: give a kept --checkpoint")
    kept = parse_checkpoint(Path(path).read_bytes(), path, trust, report)
    need(kept.origin == head.origin, f"is about another ledger, {kept.origin}")
    need(kept.size <= head.size, f"the ledger was cut: it had {kept.size} entries, now {head.size}")
    need(tree_root(leaves[:kept.size]) == kept.root, "two histories: it has other entries")
    return report.lines.append(f"the first {kept.size} entries are those of {path}")

def check_proof(data, place, trust, report):
    """C2SP tlog-proof with the entry as `extra`: inclusion, signatures, form of the entry."""
    top, _, note = data.decode().partition("\n\n")
    found = re.fullmatch(f"c2sp\\.org/tlog-proof@v1\nextra (.*)\nindex {NUMBER}((?:\n.*)*)", top)
    need(found, "is no .tlog-proof with an entry and an index")
    entry, index = unbase64(found[1]), int(found[2])
    path = [unbase64(line, 32) for line in found[3].split("\n")[1:]]
    head = parse_checkpoint(note.encode(), place, trust, report)
    need(path_root(index, head.size, sha256(b"\0", entry), path) == head.root,
         "its entry is not in the ledger: the path leads to another root")
    report.lines.append(f"{place}: event {index} of {head.origin} with {head.size} entries, "
                        f"{head.witnesses} witnesses: {describe(parse_event(index, entry))}")
    return head

def audit_archive(path, trust, report):
    """Every proof of an archive, and that all are about one ledger with one history."""
    members, roots = read_members(path), {}
    if not trust.required and "policy.toml" in members:
        report.lines.append("the archive's own policy.toml is followed, which pins nothing")
        trust = trust_of(members["policy.toml"], [])
    report.unchecked += ["summary.txt, own policy.toml", "whether other sizes are one ledger"]
    lacks = {"checkpoint", "policy.toml", "summary.txt"} - members.keys()
    report.check(not lacks and any("/" in name for name in members),
                 f"{path}: lacks {lacks or 'proofs'}")
    for name in sorted(name for name in members if name == "checkpoint" or "/" in name):
        check = parse_checkpoint if name == "checkpoint" else check_proof
        head = report.attempt(name, lambda: check(members[name], name, trust, report))
        if head:
            for what, value in ("origin", head.origin), (f"root of {head.size} entries", head.root):
                same = roots.setdefault(what, value) == value
                report.check(same, f"{name}: two histories: another {what} than in the others")

def read_members(path):
    """The files of a tar archive; links, other names and two of one name are refused."""
    allowed = r"proofs/[^/]+\.tlog-proof|checkpoint|policy\.toml|summary\.txt|verify_evidence.py"
    members = {}
    with tarfile.open(fileobj=io.BytesIO(path.read_bytes())) as archive:
        for member in itertools.filterfalse(tarfile.TarInfo.isdir, archive):
            name = re.sub(r"^\./", "", member.name)
            need(re.fullmatch(allowed, name) and member.isreg() and name not in members
                 and member.size <= MEMBER_BYTES_MAX, f"{name!r} does not belong here, or twice")
            members[name] = archive.extractfile(member).read()
    return members

def trust_of(policy, keys):
    """Keys of a policy (`origin`; `key` and `roles` of each [[signer]]), and given ones."""
    text = re.sub("#.*", "", (policy or b"").decode())
    top, *signers = re.split(r"(?m)^\s*\[\[signer\]\]\s*$", text)
    origins = re.findall(r'(?m)^\s*origin\s*=\s*"([^"\\]+)"\s*$', top)
    need(policy is None or len(origins) == 1, "the policy has no origin, or more than one")
    pairs = [(key, ROLES) for key in keys]
    for signer in signers:
        texts = re.findall(r'(?m)^\s*key\s*=\s*"([^"\\]*)"\s*$', signer)
        roles = re.findall(r"(?m)^\s*roles\s*=\s*\[([^\]]*)\]\s*$", signer)
        need(len(texts) == len(roles) == 1, "a signer of the policy has no one key and roles")
        pairs.append((parse_key(texts[0]), re.findall('"([^"]*)"', roles[0])))
    known = {(role.replace("witness", "ledger"), key.name, key.id): key for key, roles in pairs
             for role in roles if (role == "witness") == (key.kind == COSIGNATURE)}
    return Facts(keys=known, origin="".join(origins), required=policy is not None or bool(keys))

def parse_key(text):
    """C2SP signed-note: `name+id+base64`, the id being made from name and key."""
    found = re.fullmatch(r"([^\s+]+)\+([0-9a-f]{8})\+(\S+)", text)
    need(found, f"{text[:80]!r} is no verifier key")
    data = unbase64(found[3], 33)
    key_id = sha256(found[1].encode(), b"\n", data)[:4]
    need(key_id.hex() == found[2] and data[0] in (ED25519, COSIGNATURE), "a key of bad id or type")
    return Facts(name=found[1], id=key_id, kind=data[0], public=data[1:])

def parse_note(data):
    """C2SP signed-note: the text that is signed, and name, key id and signature of each line."""
    text, gap, block = data.decode().rpartition("\n\n")
    lines = [re.fullmatch("\u2014 ([^\\s+]+) (\\S+)\n", line) for line in block.splitlines(True)]
    need(gap and lines and None not in lines and not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", text)
         and len(data) <= NOTE_BYTES_MAX and len(lines) <= SIGNATURES_MAX, "is no signed note")
    signed = [(line[1], unbase64(line[2])) for line in lines]
    return text + "\n", [(name, both[:4], both[4:]) for name, both in signed]

def check_signatures(note, role, trust):
    """Unknown keys are ignored, a known one that does not fit spoils the note; counts witnesses."""
    signed = {ED25519: set(), COSIGNATURE: set()}
    for name, key_id, signature in note[1]:
        key, text = trust.keys.get((role, name, key_id)), note[0].encode()
        if key and key.kind == COSIGNATURE:
            text = b"cosignature/v1\ntime %d\n" % int.from_bytes(signature[:8], "big") + text
            signature = signature[8:]
        if key:
            need(ed25519_verify(key.public, text, signature), f"a bad signature of {name}")
            signed[key.kind].add(key.public)
    need(signed[ED25519] or not trust.required, f"is signed by no key that is trusted as {role}")
    return len(signed[COSIGNATURE])

def parse_checkpoint(data, place, trust, report):
    """C2SP tlog-checkpoint: origin, size, root. A bad signature is reported, not raised."""
    note = parse_note(data)
    found = re.fullmatch(f"(.+)/ledger\n{NUMBER}\n(.+)\n(?:.+\n)*", note[0])
    need(found and trust.origin in ("", found[1]), "is no checkpoint, or not of the trusted ledger")
    witnesses = report.attempt(place, lambda: check_signatures(note, "ledger", trust)) or 0
    size, root = int(found[2]), unbase64(found[3], 32)
    return Facts(origin=found[1], size=size, root=root, witnesses=witnesses)

CHARACTER = r'(?:[^"\\\x00-\x1f\x7f-\x9f]|\\["\\])'  # escaped only where it must be
TEXT, WHEN, HASH, ID = f'"{CHARACTER}*"', '"[0-9TZ:-]{20}"', '"[0-9a-f]{64}"', '"[0-9A-Za-z]{14}"'
FORMS = {  # the fields of a leaf in their order, and the JSON text of their values
    "schema": "1", "type": TEXT, "time": WHEN, "actor": TEXT, "on_behalf_of": TEXT, "request": TEXT,
    "id": ID, "digest": HASH, "algorithm": '"sha256"', "kind": '"[a-z0-9]{1,8}"',
    "audience": r'"(?:[!#-\[\]-~]|\\["\\]){1,255}"',
    "scopes": r'\[(?:"[!#-\[\]-~]{1,128}",?){1,64}\]',
    "not_before": WHEN, "expires": WHEN, "commitment": HASH, "predecessor": ID, "at": WHEN,
    "reason": f'"(?:{"|".join(REASONS)})"', "successor": ID, "ticket": TEXT, "previous": NUMBER,
    "epoch": NUMBER, "generation": NUMBER, "manifest": HASH, "key": TEXT,
    "roles": rf'\[(?:"(?:{"|".join(ROLES)})",?)+\]'}
one_text = functools.partial(json.dumps, ensure_ascii=False, separators=(",", ":"))
EVERY, ANY = {"schema", "type", "time", "actor"}, {"on_behalf_of", "request", "ticket"}
CLAIMS = {"audience", "scopes", "not_before", "expires", "commitment"}
ALLOWED = {"issue": CLAIMS | {"predecessor"}, "import": CLAIMS}
NEEDED = {"issue": "id digest kind", "import": "id digest kind algorithm",
          "revoke": "id digest at reason previous", "erase": "id digest previous",
          "rotate": "id digest at reason previous successor", "signer-added": "key roles",
          "publish": "epoch generation manifest", "signer-retired": "key at"}

def parse_event(index, entry):
    """One leaf: its form, and that it is the one text of its event."""
    fields = json.loads(entry.decode())
    need(type(fields) is dict and fields.get("type") in list(NEEDED), "is no event of a known type")
    needed = EVERY | set(NEEDED[fields["type"]].split())
    unfit = needed ^ (fields.keys() - ANY - ALLOWED.get(fields["type"], ANY))
    need(not unfit, f"fields that are missing or do not belong: {' '.join(sorted(unfit))}")
    for name, value in fields.items():
        need(re.fullmatch(FORMS[name], one_text(value)), f"{name} cannot be {one_text(value)[:80]}")
    ordered = {name: fields[name] for name in FORMS if name in fields}
    need(one_text(ordered).encode() == entry, "is not written in the one form of its event")
    scopes = fields.get("scopes", [])
    need(scopes == sorted(set(scopes)), "scopes are not ascending")
    if "key" in fields:
        parse_key(fields["key"])
    number = fields.get("epoch", 0), fields.get("generation", 0)
    times = {name: unix(value) for name, value in fields.items() if FORMS[name] is WHEN}
    return Facts(index=index, type=fields["type"], id=fields.get("id", ""), fields=fields,
                 times=times, time=times["time"], number=number)

def describe(event):
    """An event in plain words."""
    words = [f"{name.replace('_', ' ')} {' '.join(value) if type(value) is list else value}"
             for name, value in event.fields.items() if name not in EVERY | {"digest"}]
    return f"at {event.fields['time']}, {event.type} by {event.fields['actor']}: {', '.join(words)}"

def check_laws(events, report):
    """Laws 1 to 6, and of law 7 the order of publications, event by event."""
    seen = Facts(tokens={}, digests=set(), time=0, published=(0, 0))
    for before, event, after in zip([None] + events, events, events[1:] + [None]):
        if event is None:
            continue
        for broken, text in laws(event, before, after, seen):
            report.check(not broken, f"event {event.index} ({event.type} {event.id}): law {text}")
        seen.time, seen.published = max(seen.time, event.time), max(seen.published, event.number)
        seen.digests.add(event.fields.get("digest"))
        replay(seen.tokens, event)
    kinds = collections.Counter(event.type for event in filter(None, events))
    report.lines.append(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))

def laws(event, before, after, seen):
    """Of each law whether this event breaks it, held against what was seen before it."""
    fields, token, at = event.fields, seen.tokens.get(event.id), event.times.get("at")
    yield event.time < seen.time, "1: its time is before that of an earlier event"
    if event.type in ("issue", "import"):
        yield token or fields["digest"] in seen.digests, "2: this id or digest was issued before"
    elif event.type in ("revoke", "rotate", "erase"):
        yield not token, "3: the token was not issued"
        if token:
            yield fields["digest"] != token.issue.fields["digest"], "3: that is another digest"
            yield fields["previous"] != token.last, f"3: `previous` must be {token.last}"
            yield at is not None and (token.at_once or at >= token.at), "4: it was to end before"
            yield event.type == "erase" and token.erased, "6: the subject was erased before"
    yield "predecessor" in fields and not is_rotation(event, after), "5: no rotation follows"
    yield event.type == "rotate" and not is_rotation(before, event), "5: no issue comes before"
    yield event.type == "publish" and event.number <= seen.published, "7: a newer one was published"

def is_rotation(issue, rotate):
    """Whether these two neighbours are the two halves of one rotation."""
    return issue and rotate and rotate.type == "rotate" and issue.id == rotate.fields["successor"] \
        and issue.fields.get("predecessor") == rotate.id

def replay(tokens, event):
    """Takes one event into `tokens`: what the events so far say of each id."""
    token, at = tokens.get(event.id), event.times.get("at")
    if event.type in ("issue", "import"):
        tokens.setdefault(event.id, Facts(issue=event, last=event.index, at=NEVER, at_once=False,
                                          reason=0, erased=False))
    elif token:
        token.last, token.erased = event.index, token.erased or event.type == "erase"
        if at is not None and at < token.at:
            token.at, token.at_once = at, at <= event.time
            token.reason = 1 + REASONS.index(event.fields["reason"])

TABLE_LINE = f"table {HEX} {NUMBER} {NUMBER} {NUMBER} {NUMBER} subjects {HEX} {NUMBER}\n"
MANIFEST = re.compile(
    f"(.+)/manifest\nepoch {NUMBER}\ngeneration {NUMBER}\n((?:table .*\n){{1,3}})issued (.*)\n"
    f"expires (.*)\nledger {NUMBER} (.*)\nprevious {HEX}\nrevocations {NUMBER}\n")

def check_manifests(store, head, leaves, events, trust, report):
    """Law 7 for every manifest that is kept, law 8 for the tables of the current one."""
    published = {event.fields["manifest"]: event.number
                 for event in filter(None, events) if event.type == "publish"}
    kept = [path for path in (store / "manifests").iterdir() if not path.name.startswith(".new-")]
    paths = [store / "manifest"] + sorted(kept)
    read = {path: report.attempt(path, lambda: check_manifest(
        path, head, leaves, published, trust, report)) for path in paths}
    current = read.pop(paths[0])
    need(current, "without a current manifest, the tables cannot be checked")
    for path, kept in read.items():
        if kept:
            report.check(kept.hash == path.name, f"{path}: its BLAKE3 is not its name")
            report.check(kept.hash == current.hash or kept.number < current.number,
                         f"{path}: law 7: the current one is older")
    report.check(current.number >= max(published.values(), default=(0, 0)),
                 "manifest: law 7: an event says that a newer one was published")
    check_tables(store, current, events, report)

def check_manifest(path, head, leaves, published, trust, report):
    """Form, signatures, the root of its part of the ledger, and its event."""
    data = path.read_bytes()
    note, identity = parse_note(data), blake3(data).hex()
    found = MANIFEST.fullmatch(note[0])
    rows = [re.fullmatch(TABLE_LINE, line) for line in found[4].splitlines(True)] if found else []
    need(rows and None not in rows and unix(found[5]) < unix(found[6]), "is no manifest")
    need(found[1] == head.origin, f"is of {found[1]!r}, not of this ledger")
    report.attempt(path, lambda: check_signatures(note, "build", trust))
    number, size = (int(found[2]), int(found[3])), int(found[7])
    need(size <= head.size, f"law 7: names {size} entries, the ledger has {head.size}")
    report.check(tree_root(leaves[:size]) == unbase64(found[8], 32),
                 f"{path}: law 7: its root is not that of the first {size} entries")
    pending = size == head.size and number > max(published.values(), default=(0, 0))
    report.check(pending or published.get(identity) == number,
                 f"{path}: law 7: no event says that it was published, and later ones do exist")
    return Facts(hash=identity, number=number, rows=rows, size=size)

HEADER, ROW, COLD = map(struct.Struct, ("<8s2I16s32s16s64s6Q16Q", "<32s11sB5I", "<I7sB"))
HEADER_START = (b"ADMT\r\n\x1a\n", 1, 0, b"blake3-keyed".ljust(16, b"\0"))
COLUMNS = "id flags grant not_before expires revoked_at issued_at issue_index reason".split()

def check_tables(store, manifest, events, report):
    """Law 8, table by table; their ranges together are the ledger of the manifest."""
    reached = 0
    for row in manifest.rows:
        table, subjects = (store / "tables" / name for name in (f"{row[1]}.tbl", f"{row[6]}.sub"))
        line = _, start, end = tuple(map(int, row.groups()[2:5]))
        report.check(reached == start <= end, f"manifest: law 8: no table begins at {reached}")
        reached = end
        found = report.attempt(table, lambda: parse_table(read_named(table, row[2]), line))
        if found is not None:
            compare(table, found, expected_records(events, start, end), report)
        report.attempt(subjects, lambda: read_named(subjects, row[7]))
    report.check(reached == manifest.size, f"manifest: law 8: its tables end at event {reached}")
    report.unchecked += ["whether the manifest has expired; tables that only older ones name",
                         "domain, directory and xxh3 sums of tables; the texts of subjects"]

def read_named(path, length):
    """A file of a table, which is named by its bytes."""
    data = path.read_bytes()
    need(len(data) == int(length), f"has {len(data)} bytes, the manifest says {length}")
    need(blake3(data).hex() == path.stem, "holds other bytes, their BLAKE3 is not its name")
    return data

def parse_table(data, line):
    """docs/format.md, "Table, version 1": the columns of each record by its digest."""
    head = HEADER.unpack_from(data)
    need(head[:4] == HEADER_START, "has no header of a table, version 1")
    need((head[7], *head[10:12]) == line, "has records or a range other than the manifest says")
    rows, _, texts, cold = (data[at:at + length] for at, length in zip(head[13::4], head[14::4]))
    first = 4 * (head[9] + 1)
    need((len(rows), len(cold)) == (head[7] * ROW.size, head[7] * COLD.size)
         and first <= len(texts), "has sections of other lengths than its records make")
    ends, texts, found = struct.unpack_from(f"<{head[9] + 1}I", texts), texts[first:], {}
    for row, more in zip(ROW.iter_unpack(rows), COLD.iter_unpack(cold)):
        grant, number = texts[ends[row[4]]:ends[row[4] + 1]].hex(), int.from_bytes(row[1], "big")
        token_id = "".join(BASE62[number // 62**place % 62] for place in range(14, -1, -1))
        found[row[0].hex()] = (token_id.removeprefix("0"), row[2] | row[3] << 8, grant, *row[5:],
                               more[0], int.from_bytes(more[1], "little"), more[2])
    need(len(found) == head[7] and list(found) == sorted(found), "has records out of order")
    return found

def expected_records(events, start, end):
    """Law 8: tokens issued or changed in events `start` to `end`, as they are after the last."""
    tokens, past = {}, [event for event in events[:end] if event]
    for event in past:
        replay(tokens, event)
    changed = {event.id for event in past if event.index >= start} & tokens.keys()
    return {token.issue.fields["digest"]: record_of(token) for token in map(tokens.get, changed)
            if start or token.issue.times.get("expires", NEVER) + KEPT_AFTER_EXPIRY > past[-1].time}

def record_of(token):
    """docs/ledger.md, "What a record of a table says"."""
    fields, times = token.issue.fields, token.issue.times
    begin = max(0, times.get("not_before", EPOCH_2020) - EPOCH_2020)
    expires, revoked_at = (0 if at == NEVER else max(1, at - EPOCH_2020)
                           for at in (times.get("expires", NEVER), token.at))
    flags = FLAG_REVOKED * token.at_once | FLAG_IMPORTED * (token.issue.type == "import")
    sized = lambda text: struct.pack("<H", len(text)) + text.encode()
    kind, scopes = fields["kind"], fields.get("scopes", [])
    grant = struct.pack("<B", len(kind)) + kind.encode() + sized(fields.get("audience", ""))
    grant += struct.pack("<H", len(scopes)) + b"".join(map(sized, scopes))
    return (token.issue.id, flags, grant.hex(), begin, expires, revoked_at,
            max(0, token.issue.time - EPOCH_2020), token.issue.index, token.reason)

def compare(place, found, expected, report):
    """Names each token that a table has too much, too little, or otherwise."""
    wrong = []
    for digest in sorted(found.keys() | expected.keys()):
        has, must = found.get(digest), expected.get(digest)
        columns = zip(COLUMNS, has or (), must or ())
        texts = [f"{name} is {a}, not {b}" for name, a, b in columns if a != b]
        if has != must:
            texts = texts or ["is missing from it" if must else "no event of its range makes it"]
            wrong.append(f"token {(has or must)[0]}: {'; '.join(texts)}")
    report.findings += [f"{place}: law 8: {text}" for text in wrong[:TOKENS_NAMED_MAX]]
    report.lines.append(f"{place}: {len(found)} records compared, {len(wrong)} tokens differ")

def tree_root(hashes):
    """RFC 6962, 2.1: pair by pair, an odd one moves up; so it splits at a power of two."""
    while len(hashes) > 1:
        pairs = [sha256(b"\1", *pair) for pair in zip(hashes[::2], hashes[1::2])]
        hashes = pairs + hashes[len(pairs) * 2:]
    return hashes[0] if hashes else sha256()

def tree_levels(row):
    """The hashes in each level of tiles: one for each full tile of the level below."""
    while row:
        yield row
        row = [tree_root(row[end - TILE:end]) for end in range(TILE, len(row) + 1, TILE)]

def path_root(index, size, leaf, path):
    """The root that an inclusion path leads to (RFC 6962, 2.1.1, from the root down)."""
    if size <= 1:
        need(size == 1 and index == 0 and not path, "its index or path fits no ledger of this size")
        return leaf
    *rest, sibling = path or [b""]
    split = 1 << (size - 1).bit_length() - 1
    if index < split:
        return sha256(b"\1", path_root(index, split, leaf, rest), sibling)
    return sha256(b"\1", sibling, path_root(index - split, size - split, leaf, rest))

# Ed25519 (RFC 8032, 5.1), strict: one encoding of each point, s below L, nothing of small order
P, L, NEUTRAL = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493, (0, 1, 1, 0)
D, ROOT_OF_MINUS_1 = -121665 * pow(121666, -1, P) % P, pow(2, (P - 1) // 4, P)

@functools.lru_cache(maxsize=4096)
def ed25519_verify(public, message, signature):
    """RFC 8032, 5.1.7, without the cofactor."""
    need(len(signature) == 64, "a signature that is not 64 bytes long")
    a, r, s = point(public), point(signature[:32]), int.from_bytes(signature[32:], "little")
    if None in (a, r) or s >= L or any(same(multiply(8, p), NEUTRAL) for p in (a, r)):
        return False
    k = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % L
    return same(multiply(s, BASE), add(r, multiply(k, a)))

def point(data):
    """RFC 8032, 5.1.3: a point in extended coordinates, None for any other encoding."""
    y, sign = int.from_bytes(data, "little") & (1 << 255) - 1, data[31] >> 7
    u, v = (y * y - 1) % P, (D * y * y + 1) % P
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    x = x if v * x * x % P == u else x * ROOT_OF_MINUS_1 % P
    if y >= P or v * x * x % P != u or (x == 0 and sign):
        return None
    x = P - x if x & 1 != sign else x
    return x, y, 1, x * y % P

def add(p, q):
    """RFC 8032, 5.1.4; it holds for doubling as well."""
    a, b = (p[1] - p[0]) * (q[1] - q[0]) % P, (p[1] + p[0]) * (q[1] + q[0]) % P
    c, d = 2 * p[3] * q[3] * D % P, 2 * p[2] * q[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return e * f % P, g * h % P, f * g % P, e * h % P

def multiply(scalar, p):
    total = NEUTRAL
    while scalar:
        total = add(total, p) if scalar & 1 else total
        p, scalar = add(p, p), scalar >> 1
    return total

def same(p, q):
    return (p[0] * q[2] - q[0] * p[2]) % P == 0 and (p[1] * q[2] - q[1] * p[2]) % P == 0
BASE = point((4 * pow(5, -1, P) % P).to_bytes(32, "little"))

# BLAKE3, hash mode. Chunks are hashed side by side: a word of each, in lanes of 64 bits of a number
IV = struct.unpack(
    ">8I", bytes.fromhex("6a09e667bb67ae853c6ef372a54ff53a510e527f9b05688c1f83d9ab5be0cd19"))
PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
MIXED = [[4 * row + (i + row * j) % 4 for row in range(4)] for j in (0, 1) for i in range(4)]
CHUNK_START, CHUNK_END, PARENT, ROOT, CHUNK, BLOCK = 1, 2, 4, 8, 1024, 64

def blake3(data):
    """Chunks, then parents, pair by pair; an odd one moves up."""
    *full, last = [data[at:at + CHUNK] for at in range(0, len(data) or 1, CHUNK)]
    nodes = chunk_nodes(full, 0, 0) + chunk_nodes([last], len(full), 0 if full else ROOT)
    while len(nodes) > 1:
        pairs = [left + right for left, right in zip(nodes[::2], nodes[1::2])]
        count, flags = len(pairs), PARENT | (ROOT if len(nodes) == 2 else 0)
        nodes = compress([IV] * count, pairs, [0] * count, BLOCK, flags) + nodes[count * 2:]
    return struct.pack("<8I", *nodes[0])

def chunk_nodes(chunks, first, root):
    """Values of chunks of one length, which are numbered from `first`."""
    nodes, size = [IV] * len(chunks), max(map(len, chunks), default=0)
    for at in range(0, size or len(chunks), BLOCK):
        cut = [chunk[at:at + BLOCK] for chunk in chunks]
        blocks = [struct.unpack("<16I", part.ljust(BLOCK, b"\0")) for part in cut]
        flags = CHUNK_START * (at == 0) | (CHUNK_END | root) * (at + BLOCK >= size)
        nodes = compress(nodes, blocks, range(first, first + len(chunks)), len(cut[0]), flags)
    return nodes

def compress(nodes, blocks, counters, length, flags):
    """The compression function, for one block in each lane; counters stay below 2^32."""
    form = struct.Struct(f"<{len(blocks)}Q")
    pack = lambda words: int.from_bytes(form.pack(*words), "little")
    ones = pack([1] * len(blocks))
    mask, words = ones * 0xFFFFFFFF, [pack(column) for column in zip(*blocks)]
    v = [pack(column) for column in zip(*nodes)] + [word * ones for word in IV[:4]]
    v += [pack(counters), 0, length * ones, flags * ones]
    for _ in range(7):
        for (a, b, c, d), *pair in zip(MIXED, words[::2], words[1::2]):
            for word, turn_d, turn_b in zip(pair, (16, 8), (12, 7)):
                v[a] = v[a] + v[b] + word & mask
                v[d] ^= v[a]
                v[d] = (v[d] >> turn_d | v[d] << 32 - turn_d) & mask
                v[c] = v[c] + v[d] & mask
                v[b] ^= v[c]
                v[b] = (v[b] >> turn_b | v[b] << 32 - turn_b) & mask
        words = [words[i] for i in PERMUTATION]
    made = [(v[i] ^ v[i + 8]).to_bytes(form.size, "little") for i in range(8)]
    return list(zip(*map(form.unpack, made)))

def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()

def unbase64(text, length=None):
    """RFC 4648, 4: the one text of these bytes."""
    data = base64.b64decode(text, validate=True)
    need(base64.b64encode(data).decode() == text and len(data) == (length or len(data)),
         f"{text[:60]!r} is not base64 of {length or 'so many'} bytes")
    return data

def unix(text):
    """RFC 3339 in UTC to the second, as Unix seconds."""
    need(re.fullmatch("[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}:){2}[0-9]{2}Z", text), f"no time: {text!r}")
    return round(datetime.datetime.fromisoformat(text[:-1] + "+00:00").timestamp())

if __name__ == "__main__":
    sys.stdout.reconfigure(errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))
