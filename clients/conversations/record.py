#!/usr/bin/env python3
"""Records conversations with real daemons, and writes them into this folder.

    ADAMANT_BIN=target/release python3 clients/conversations/record.py

What a token is and may do is said here, where it is issued, and never read from the reply. The
requests are put together here, too, so that no client is held to itself. Needs `blake3`.
"""

import hashlib
import json
import shutil
import socket
import struct
import time
from collections.abc import Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Optional

from blake3 import blake3
from programs import HELLO, Daemon, Home, receive

HERE = Path(__file__).resolve().parent

EXPIRES = 4085553600  # 2099-06-19T12:00:00Z
FOREIGN = "legacy-secret-1"


class Question:
    """What a client is asked to ask."""

    def __init__(
        self,
        tokens: Sequence[str],
        *,
        kind: Optional[str] = None,
        audience: Optional[str] = None,
        scopes: Sequence[str] = (),
        claims: bool = False,
    ) -> None:
        self.tokens, self.kind, self.audience = list(tokens), kind, audience
        self.scopes, self.claims = list(scopes), claims

    def call(self, digests: Optional[list[Optional[str]]]) -> dict[str, Any]:
        told = {
            "kind": self.kind,
            "audience": self.audience,
            "scopes": self.scopes,
            "claims": self.claims,
            "as": "tokens" if digests is None else "digests",
            "tokens": self.tokens,
        }
        return told if digests is None else {**told, "digests": digests}

    def frame(self, digests: Optional[list[Optional[str]]]) -> bytes:
        question = struct.pack("<II", 2 if digests is None else 1, self.claims)
        for text in (self.kind, self.audience):
            question += b"\0" if text is None else b"\1" + counted(text.encode())
        question += struct.pack("<Q", len(self.scopes))
        question += b"".join(counted(scope.encode()) for scope in self.scopes)
        if digests is None:
            items = [counted(token.encode()) for token in self.tokens]
        else:
            items = [bytes.fromhex(digest) for digest in digests if digest]
        body = question + struct.pack("<Q", len(items)) + b"".join(items)
        return struct.pack("<I", len(body)) + body


def counted(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


class Connection:
    """A connection that has said HELLO."""

    def __init__(self, daemon: Daemon) -> None:
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.connect(daemon.socket)
        self.hello = self.ask(HELLO)

    def ask(self, frame: bytes) -> bytes:
        self._sock.sendall(frame)
        return receive(self._sock)

    def key(self) -> bytes:
        return self.hello[12:44]

    def close(self) -> None:
        self._sock.close()


def digest(key: bytes, token: str) -> Optional[str]:
    """By the page; whether the text is a token is known here."""
    text = token.encode()
    if text.lower().startswith(b"secret-token:"):
        text = text[len("secret-token:") :]
    if token == FOREIGN:
        text = b"sha256\0" + hashlib.sha256(text).digest()
    elif not text.startswith(b"acme_"):
        return None
    return blake3(text, key=key).hexdigest()


def write(name: str, conversation: dict[str, Any]) -> None:
    (HERE / f"{name}.json").write_text(json.dumps(conversation, indent=1) + "\n")
    print(f"{name}.json")


def evidence(reply: bytes) -> dict[str, Any]:
    flags, epoch, generation, revocations, age = struct.unpack_from("<IQQQQ", reply, 8)
    return {
        "epoch": epoch,
        "generation": generation,
        "revocations": revocations,
        "age": age,
        "stale": flags == 1,
    }


def record(daemon: Daemon, name: str, about: str, asked: Question, answers: Any) -> None:
    """Asks, once with digests and once with tokens, and writes both."""
    for form in ("digests", "tokens"):
        connection = Connection(daemon)
        key = connection.key()
        digests = [digest(key, token) for token in asked.tokens] if form == "digests" else None
        is_asked = digests is None or any(digests)
        request = asked.frame(digests) if is_asked else None
        reply = connection.ask(request) if request else None
        connection.close()
        conversation = {
            "about": about,
            "hello": {"request": HELLO.hex(), "reply": connection.hello.hex()},
            "call": asked.call(digests),
            "request": request and request.hex(),
            "reply": reply and reply.hex(),
        }
        if reply:
            conversation["evidence"] = evidence(reply)
        write(f"{name}.{form}", {**conversation, "answers": answers})


def error(name: str, about: str, number: int, what: str, hello: bytes, reply: bytes) -> None:
    """An ERROR, in the place of the reply to an ordinary question, or of HELLO."""
    asked = Question(["acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj"])
    assert reply[4:12] == struct.pack("<II", 3, number), (name, reply)
    in_place_of_hello = hello == reply
    write(
        f"error-{name}",
        {
            "about": about,
            "hello": {"request": HELLO.hex(), "reply": hello.hex()},
            "call": asked.call(None),
            "request": None if in_place_of_hello else asked.frame(None).hex(),
            "reply": None if in_place_of_hello else reply.hex(),
            "error": {"number": number, "name": what},
        },
    )


def answer(verdict: str, issued: Optional[dict[str, Any]] = None, **more: Any) -> dict[str, Any]:
    known = issued or {"id": None}
    return {"verdict": verdict, "id": known["id"], "expires": known.get("expires"), **more}


def rfc3339(unix_s: int) -> str:
    return datetime.fromtimestamp(unix_s, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def issue(home: Home, expires: Optional[int] = EXPIRES, **claims: Any) -> dict[str, Any]:
    if expires is not None:
        claims["expires"] = rfc3339(expires)
    return {**home.issue(**claims), "expires": expires}


def record_verdicts(home: Home) -> None:
    """All verdicts that one home can give."""
    claims = {
        "audience": "api",
        "scopes": ["orders:read", "orders:write"],
        "subject": "customer-42",
    }
    full = issue(home, meta="a label", **claims)
    bare = issue(home, expires=None, kind="test")
    soon = int(time.time()) + 2
    expired = issue(home, expires=soon, scopes=["orders:read"])
    later = issue(home, not_before="2098-01-01T00:00:00Z")
    revoked = issue(home, subject="customer-43", scopes=["orders:read"])
    generation = home.revoke(revoked["id"])
    daemon = Daemon(home)
    daemon.wait_for(generation)
    time.sleep(max(0.0, soon + 1 - time.time()))

    token, told = full["token"], {"kind": "live", **claims, "meta": "a label"}
    need = {"kind": "live", "audience": "api", "scopes": ["orders:read"]}
    unknown = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj"
    nothing = {"kind": "test", "audience": "", "scopes": [], "subject": "", "meta": ""}

    def one(name: str, about: str, asked: Question, *answers: Any) -> None:
        record(daemon, name, about, asked, list(answers))

    one(
        "valid",
        "A valid token that has all that is asked for.",
        Question([token], **need),
        answer("valid", full),
    )
    one(
        "claims",
        "A valid token, with its claims.",
        Question([token], **need, claims=True),
        answer("valid", full, **told),
    )
    one(
        "claims-bare",
        "A valid token that never expires and has no claims but its kind.",
        Question([bare["token"]], claims=True),
        answer("valid", bare, **nothing),
    )
    one(
        "scheme",
        "A token after `secret-token:`, in mixed case.",
        Question(["Secret-Token:" + token]),
        answer("valid", full),
    )
    one(
        "unknown",
        "A token that was never issued, with claims asked for: there are none.",
        Question([unknown], claims=True),
        answer("unknown"),
    )
    one(
        "malformed",
        "A text that is no token. With digests nobody is asked.",
        Question(["no token at all"]),
        answer("malformed"),
    )
    one(
        "expired",
        "A token that has expired.",
        Question([expired["token"]]),
        answer("expired", expired),
    )
    one(
        "revoked",
        "A revoked token. Claims come for it too; no client hands on the scopes.",
        Question([revoked["token"]], claims=True),
        answer(
            "revoked",
            revoked,
            kind="live",
            audience="",
            scopes=["orders:read"],
            subject="customer-43",
            meta="",
        ),
    )
    one(
        "not_yet_valid",
        "A token whose not-before lies ahead.",
        Question([later["token"]]),
        answer("not_yet_valid", later),
    )
    one(
        "wrong_kind",
        "A trusted token of another kind.",
        Question([token], kind="test"),
        answer("wrong_kind", full),
    )
    one(
        "wrong_audience",
        "A trusted token for another audience.",
        Question([token], audience="billing"),
        answer("wrong_audience", full),
    )
    one(
        "wrong_audience-none",
        "A trusted token without an audience, where one is asked for.",
        Question([bare["token"]], audience="api"),
        answer("wrong_audience", bare),
    )
    one(
        "insufficient_scope",
        "A trusted token that lacks one of two scopes.",
        Question([token], scopes=["orders:read", "orders:delete"]),
        answer("insufficient_scope", full),
    )
    batch = [token, unknown, revoked["token"], "no token at all", bare["token"], token]
    rows = [
        answer("valid", full),
        answer("unknown"),
        answer("revoked", revoked),
        answer("malformed"),
        answer("valid", bare),
        answer("valid", full),
    ]
    one(
        "batch",
        "Six tokens at once, one twice. With digests, no row is for the fourth.",
        Question(batch),
        *rows,
    )
    one(
        "batch-claims",
        "Three tokens at once with claims; the one in the middle has none.",
        Question([token, unknown, bare["token"]], claims=True),
        answer("valid", full, **told),
        answer("unknown"),
        answer("valid", bare, **nothing),
    )
    record_errors(daemon)
    record_unavailable(home, daemon, token)
    daemon.kill()


def record_errors(daemon: Daemon) -> None:
    """What a daemon says to requests that no right client sends."""
    hello = Connection(daemon).hello
    stands = "The reply stands in the place of that to an ordinary question."

    def reply_to(frame: bytes) -> bytes:
        return Connection(daemon).ask(frame)

    error(
        "malformed_frame",
        f"A request of an unknown number. {stands}",
        1,
        "malformed frame",
        hello,
        reply_to(bytes.fromhex("0400000009000000")),
    )
    error(
        "frame_too_large",
        f"A length above the limit. {stands}",
        2,
        "frame too large",
        hello,
        reply_to(struct.pack("<I", (1 << 20) + 1)),
    )
    many = Question([]).frame([])[4:-8] + struct.pack("<Q", 16385) + bytes(32 * 16385)
    error(
        "too_many",
        f"A VERIFY of one digest too many. {stands}",
        7,
        "too many",
        hello,
        reply_to(struct.pack("<I", len(many)) + many),
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(daemon.socket)
        sock.sendall(struct.pack("<III", 8, 0, 2))
        version = receive(sock)
    error(
        "version",
        "A daemon that speaks another version than the client.",
        3,
        "version",
        version,
        version,
    )
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(daemon.socket)
        sock.sendall(bytes.fromhex("0400000003000000"))
        first = receive(sock)
    error("hello_first", f"A STATUS before HELLO. {stands}", 4, "hello first", hello, first)


def record_unavailable(home: Home, daemon: Daemon, token: str) -> None:
    """The daemon may not answer any more from what it has served."""
    connections = {form: Connection(daemon) for form in ("digests", "tokens")}
    policy = home.path / "policy.toml"
    before = policy.read_text()
    policy.write_text(before.replace("epoch = 1", "epoch = 2"))
    while daemon.status()["state"] != "unavailable":
        time.sleep(0.01)
    for form, connection in connections.items():
        asked = Question([token], scopes=["orders:read"])
        digests = [digest(connection.key(), token)] if form == "digests" else None
        request = asked.frame(digests)
        reply = connection.ask(request)
        write(
            f"unavailable.{form}",
            {
                "about": "A daemon that may not answer any more from what it has served.",
                "hello": {"request": HELLO.hex(), "reply": connection.hello.hex()},
                "call": asked.call(digests),
                "request": request.hex(),
                "reply": reply.hex(),
                "evidence": evidence(reply),
                "answers": [answer("unavailable")],
            },
        )
    policy.write_text(before)


def record_nothing() -> None:
    """A daemon that never had a generation."""
    home = Home()
    token = home.issue()["token"]
    shutil.rmtree(home.path / "state")
    (home.path / "store" / "manifest").unlink()
    daemon = Daemon(home, wait=True)
    record(
        daemon,
        "unavailable-from_the_start",
        "A daemon that never had a generation.",
        Question([token]),
        [answer("unavailable")],
    )
    daemon.kill()
    home.remove()


def record_callers(home: Home, token: str) -> None:
    """What the rules of a daemon keep from a caller."""
    rule = '[[caller]]\noperations = ["verify", "verify-tokens", "status"]\nkinds = ["test"]\n'
    daemon = Daemon(home, settings=rule, name="callers.sock")
    record(
        daemon,
        "caller_not_allowed",
        "A token of a kind that is kept from this caller.",
        Question([token]),
        [answer("caller_not_allowed")],
    )
    connection = Connection(daemon)
    reply = connection.ask(Question([token], claims=True).frame(None))
    error(
        "not_permitted",
        "This caller may not ask for claims. The connection goes on.",
        5,
        "not permitted",
        connection.hello,
        reply,
    )
    daemon.kill()
    stranger = '[[caller]]\nusers = [54321]\noperations = ["verify"]\n'
    daemon = Daemon(home, settings=stranger, name="callers.sock")
    error(
        "not_permitted-unasked",
        "No rule fits this caller: ERROR instead of HELLO.",
        5,
        "not permitted",
        *[unasked(daemon)] * 2,
    )
    daemon.kill()
    daemon = Daemon(home, settings="connections_max = 1\n", name="callers.sock")
    with socket.socket(socket.AF_UNIX) as first:
        first.connect(daemon.socket)
        error(
            "busy",
            "No more connections: ERROR instead of HELLO.",
            6,
            "busy",
            *[unasked(daemon)] * 2,
        )
    daemon.kill()


def unasked(daemon: Daemon) -> bytes:
    """What a daemon says to a new connection that asks nothing."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(daemon.socket)
        return receive(sock)


def record_foreign() -> None:
    """Tokens of another system."""
    home = Home()
    stored = hashlib.sha256(FOREIGN.encode()).hexdigest()
    told = home.run(
        "import",
        "--json",
        "--algorithm",
        "sha256",
        "--high-entropy",
        "--from",
        "-",
        text=json.dumps({"sha256": stored, "kind": "live", "subject": "s"}) + "\n",
    )
    daemon = Daemon(home)
    daemon.wait_for(json.loads(told)["generation"])
    connection = Connection(daemon)
    number = int(digest(connection.key(), FOREIGN) or "", 16) % 62**14
    connection.close()
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    token_id = "".join(digits[number // 62**place % 62] for place in reversed(range(14)))
    record(
        daemon,
        "foreign",
        "An imported token.",
        Question([FOREIGN]),
        [answer("valid", {"id": token_id})],
    )
    daemon.kill()
    home.remove()


def main() -> None:
    for stale in HERE.glob("*.json"):
        if not stale.name.startswith("page-"):
            stale.unlink()
    home = Home()
    record_verdicts(home)
    token = issue(home)["token"]
    record_callers(home, token)
    home.remove()
    record_foreign()
    record_nothing()


if __name__ == "__main__":
    main()
