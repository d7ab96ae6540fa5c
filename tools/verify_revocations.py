#!/usr/bin/env python3
"""Checks the revocations note of a store, without a line of the code that wrote it.

STORE has `revocations` and `tables/*.rev`. The note is signed by a key that the policy trusts with
revoking, names a list by its BLAKE3, and that list holds every earlier one that the store keeps: a
token that was revoked once stays revoked. Written from docs/format.md, beside verify_evidence.py.
Python 3.9. Exit: 0 clean, 64 usage, 65 something is wrong, 66 a file is missing."""
import argparse, re, struct, sys
from pathlib import Path

from verify_evidence import (
    EXIT_MISSING, EXIT_USAGE, EXIT_WRONG, HEX, NUMBER, Report, blake3, check_signatures, need,
    parse_note, trust_of)

MAGIC = b"ADMR\r\n\x1a\n"
HEADER, ROW = struct.Struct("<8sIIQQ"), struct.Struct("<32sIB3s")

def main(arguments):
    options, report = read_options(arguments), Report()
    store, policy = Path(options.store), options.policy and Path(options.policy).read_bytes()
    report.attempt("revocations", lambda: check_note(store, trust_of(policy, []), report))
    report.unchecked += ["xxh3 sums of lists"]
    report.show(as_json=False)
    return EXIT_WRONG if report.findings else 0

def read_options(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.error = lambda text: parser.exit(EXIT_USAGE, f"verify_revocations: {text}\n")
    parser.add_argument("store", metavar="STORE")
    parser.add_argument("--policy", metavar="FILE", help="the policy.toml that says who is trusted")
    options = parser.parse_args(arguments)
    for path in (Path(options.store) / "revocations", options.policy):
        if path is not None and not Path(path).exists():
            parser.exit(EXIT_MISSING, f"verify_revocations: {path}: no such file\n")
    return options

def check_note(store, trust, report):
    note = parse_note((store / "revocations").read_bytes())
    found = re.fullmatch(f"(.+)/revocations\nsequence {NUMBER}\ntable {HEX} {NUMBER} {NUMBER}\n", note[0])
    need(found and trust.origin in ("", found[1]), "is no revocations note, or of another deployment")
    check_signatures(note, "revoke", trust)
    path = store / "tables" / f"{found[3]}.rev"
    current = read_list(path)
    need((path.stat().st_size, len(current)) == (int(found[4]), int(found[5])),
         "the list is not as long as the note says")
    report.lines.append(f"{found[1]}: note {found[2]} revokes {len(current)} tokens")
    for other in sorted((store / "tables").glob("*.rev")):
        report.attempt(other.name, lambda other=other: check_held(other, current, report))

def check_held(path, current, report):
    """Every token of an earlier list is revoked by the current one, and no later."""
    for digest, at in read_list(path).items():
        report.check(digest in current and current[digest] <= at,
                     f"the note forgets a token that {path.stem[:16]} revokes")

def read_list(path):
    """docs/format.md, "The revocations list": when trust ends, by digest."""
    data = path.read_bytes()
    need(blake3(data).hex() == path.stem, "holds other bytes, their BLAKE3 is not its name")
    magic, version, reserved, count, _ = HEADER.unpack_from(data)
    need((magic, version, reserved) == (MAGIC, 1, 0), "is no revocations list")
    need(len(data) == HEADER.size + count * ROW.size, "is not as long as its header says")
    rows = [ROW.unpack_from(data, HEADER.size + at * ROW.size) for at in range(count)]
    digests = [row[0] for row in rows]
    need(digests == sorted(set(digests)), "its rows are out of order")
    need(all(1 <= row[2] <= 7 and row[3] == bytes(3) for row in rows), "a row has an unknown reason")
    return {row[0]: row[1] for row in rows}

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
