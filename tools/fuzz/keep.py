#!/usr/bin/env python3
"""Chooses the kept corpus of targets from what runs have gathered: keep.py [TARGET...]

Beside what is kept already it looks at target/fuzz/corpus, where run.sh leaves what was new. Of
each target those few files stay that reach most of the code, each for what the ones before it do
not reach; the seeds of `src/bin/seeds.rs` are only files among them. Needs a build by run.sh.
"""

import hashlib
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WORK = HERE / "../../target/fuzz"
FILES_MAX = 8
# A table begins with a header of 4 KiB, and nothing else that is kept needs to be long.
BYTES_MAX = 12 << 10


def reach(binary, files):
    """The code that each file reaches, as libFuzzer notes it down while it merges."""
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        (scratch / "in").mkdir()
        (scratch / "out").mkdir()
        for name, data in files.items():
            (scratch / "in" / name).write_bytes(data)
        control = scratch / "control"
        # So merged, all features of each file are noted; without counters, a feature is an edge.
        subprocess.run([binary, "-set_cover_merge=1", "-use_counters=0",
                        f"-merge_control_file={control}", scratch / "out", scratch / "in"],
                       check=True, capture_output=True, cwd=scratch)
        lines = control.read_text().splitlines()
    count = int(lines[0])
    names = [pathlib.Path(line).name for line in lines[2:2 + count]]
    reached = {}
    for line in lines[2 + count:]:
        kind, number, *edges = line.split()
        if kind == "FT":
            reached[names[int(number)]] = set(edges)
    return reached


def choose(files, reached):
    """Most first; of two that reach as much, the shorter."""
    kept, seen = [], set()
    while len(kept) < FILES_MAX:
        gain = lambda name: (len(reached[name] - seen), -len(files[name]), name)
        best = max((name for name in reached if name not in kept), key=gain, default=None)
        if best is None or not reached[best] - seen:
            break
        kept.append(best)
        seen |= reached[best]
    return kept


def main():
    targets = sys.argv[1:] or sorted(path.stem for path in (HERE / "targets").glob("*.rs"))
    for target in targets:
        folders = [HERE / "corpus" / target, WORK / "corpus" / target]
        found = [path.read_bytes() for folder in folders for path in folder.glob("*")]
        files = {hashlib.sha1(data).hexdigest(): data for data in found if len(data) <= BYTES_MAX}
        (binary,) = WORK.glob(f"*/release/{target}")
        kept = choose(files, reach(binary.resolve(), files))
        folders[0].mkdir(parents=True, exist_ok=True)
        for path in folders[0].glob("*"):
            path.unlink()
        for name in kept:
            (folders[0] / name[:16]).write_bytes(files[name])
        print(f"{target}: {len(kept)} of {len(files)}")


main()
