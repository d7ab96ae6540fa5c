#!/usr/bin/env python3
"""Makes page-*.json of the examples in docs/protocol.md.

The bytes are those of the page. What they mean is said here a second time, so that a change on
either side is seen: `--check` writes nothing and fails if a file is not what would be written.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any, Optional

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent.parent / "docs" / "protocol.md"

TOKEN = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj"
DIGEST = "0f11c0172995a8dc5c5362fcdd02851b85775ba554c39a4efe00efe62c3f16b3"
ANSWER = {"verdict": "valid", "id": "V6T2UmxQamt62t", "expires": 1798761600}
EVIDENCE = {"epoch": 1, "generation": 42, "revocations": 7, "age": 3600, "stale": False}


def examples(page: str) -> dict[str, str]:
    """The hex blocks of the page by their title, without spaces and remarks."""
    found = {}
    for title, block in re.findall(r"^```hex (.+?)\n(.*?)^```", page, re.MULTILINE | re.DOTALL):
        lines = (line.split(";")[0] for line in block.splitlines())
        found[title] = "".join("".join(lines).split())
    return found


def conversations(page: str) -> dict[str, dict[str, Any]]:
    """The files by their names."""
    frames = examples(page)
    hello = {"request": frames["HELLO request"], "reply": frames["HELLO reply"]}

    def file(about: str, request: str, reply: str, **meaning: Any) -> dict[str, Any]:
        digests: Optional[list] = [DIGEST] if request == "VERIFY request" else None
        call: dict[str, Any] = {
            "kind": "live",
            "audience": None,
            "scopes": ["orders:read"],
            "claims": False,
            "as": "digests" if digests else "tokens",
            "tokens": [TOKEN],
        }
        if digests:
            call["digests"] = digests
        exchange = {"request": frames[request], "reply": frames[reply]}
        return {"about": about, "hello": dict(hello), "call": call, **exchange, **meaning}

    # Between the version and the limits: no key, no prefix, no algorithms, no generation.
    unknown = frames["HELLO reply"][8:24] + "00" * (32 + 8 + 8 + 8 + 8)
    no_domain = file(
        "A HELLO without a prefix, as the page describes it. Nothing can be asked after it.",
        "VERIFY_TOKENS request",
        "VERDICTS reply",
        answers=[{"verdict": "unavailable", "id": None, "expires": None}],
    )
    no_domain["hello"]["reply"] = "58000000" + unknown + frames["HELLO reply"][-32:]
    no_domain.update(request=None, reply=None)
    valid = {"evidence": EVIDENCE, "answers": [ANSWER]}
    error = {"error": {"number": 4, "name": "hello first"}}
    return {
        "page-digests.json": file(
            "The examples of VERIFY and VERDICTS on the protocol's page.",
            "VERIFY request",
            "VERDICTS reply",
            **valid,
        ),
        "page-tokens.json": file(
            "The examples of VERIFY_TOKENS and VERDICTS on the protocol's page.",
            "VERIFY_TOKENS request",
            "VERDICTS reply",
            **valid,
        ),
        "page-error.json": file(
            "The example of ERROR on the protocol's page, in the place of the verdicts.",
            "VERIFY_TOKENS request",
            "ERROR reply",
            **error,
        ),
        "page-no_domain.json": no_domain,
    }


def main() -> None:
    wrong = []
    for name, conversation in conversations(PAGE.read_text()).items():
        text = json.dumps(conversation, indent=1) + "\n"
        if "--check" not in sys.argv[1:]:
            (HERE / name).write_text(text)
        elif not (HERE / name).is_file() or (HERE / name).read_text() != text:
            wrong.append(name)
    if wrong:
        sys.exit("not what docs/protocol.md says: " + ", ".join(wrong))


if __name__ == "__main__":
    main()
