"""The frames between a client and the daemon, version 1. No I/O.

docs/protocol.md of the project gives every byte and is the specification.

What a reader can rely on:

- What comes in is read as the page says or refused with `Unreadable`; nothing is made room for
  that a count in a frame asks for before the bytes behind it were seen.
- What goes out is put together once for each requirement, and kept: a question about one digest
  is one concatenation.
"""

from __future__ import annotations

import builtins
import re
from collections.abc import Sequence
from functools import lru_cache
from struct import Struct
from typing import Callable, NamedTuple, TypeVar

from ._errors import ERRORS, Refused, Unreadable

#: Bytes before a body: its length.
PREFIX_BYTES = 4
#: The longest body that a daemon sends.
REPLY_BYTES_MAX = 1 << 20
#: What every daemon takes in a body.
FRAME_BYTES_MIN = 1 << 16
#: Bytes of a length or count inside a body.
LENGTH_BYTES = 8
#: Bytes of a digest.
DIGEST_BYTES = 32
#: The longest text that a daemon looks at as a token.
TOKEN_BYTES_MAX = 4096

HELLO_REQUEST = bytes.fromhex("08000000 00000000 01000000")
STATUS_REQUEST = bytes.fromhex("04000000 03000000")

VERDICTS = (
    "unavailable",
    "malformed",
    "unknown",
    "caller_not_allowed",
    "revoked",
    "not_yet_valid",
    "expired",
    "wrong_kind",
    "wrong_audience",
    "insufficient_scope",
    "valid",
)
_VALID = VERDICTS.index("valid")
#: Verdicts that never come with a record.
_NEVER_WITH_RECORD = ("unavailable", "malformed", "unknown")

_VERSION = 1
_VERIFY, _VERIFY_TOKENS = 1, 2
_HELLO_REPLY, _VERDICTS_REPLY, _STATUS_REPLY, _ERROR_REPLY = range(4)
_KIND_BYTES_MAX, _AUDIENCE_BYTES_MAX, _SCOPE_BYTES_MAX, _SCOPES_MAX = 8, 255, 128, 64
_FOREIGN_MAX = 4
#: RFC 6749, 3.3. No token has a scope with other characters.
_SCOPE = re.compile(r"[\x21\x23-\x5B\x5D-\x7E]+")
_NO_RECORD = 255
#: The first number that 14 base62 digits cannot write.
_ID_LIMIT = 62**14
#: 2020-01-01T00:00:00Z, from which a row counts.
_EXPIRES_EPOCH_UNIX_S = 1577836800

_U32 = Struct("<I")
_U64 = Struct("<Q")
_COUNT_ONE = _U64.pack(1)
# Reply, flags, epoch, generation, revocations, age, count of rows.
_VERDICTS_HEAD = Struct("<IIQQQQQ")
# Verdict, id, table, expires, grant.
_ROW = Struct("<I11sBII")
# The body of a reply about one token, up to the count of claims.
_ONE_ROW = Struct("<IIQQQQQI11sBIIQ")
_SERVED_AND_LIMITS = Struct("<QQIIII")

_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#: All pairs of digits: half as many divisions.
_PAIRS = [high + low for high in _DIGITS for low in _DIGITS]

T = TypeVar("T")


class Hello(NamedTuple):
    """Who the daemon is and what it takes."""

    key: bytes
    prefix: str
    foreign: tuple[str, ...]
    epoch: int
    generation: int
    frame_bytes_max: int
    digests_max: int
    tokens_max: int
    claims_rows_max: int


class Row(NamedTuple):
    """What a reply says of one token."""

    verdict: str
    token_id: str | None
    expires_unix_s: int | None


class Claims(NamedTuple):
    """What a token may do and whose it is. Empty text: nothing."""

    kind: str
    audience: str
    scopes: tuple[str, ...]
    subject: str
    meta: str


class Verdicts(NamedTuple):
    """The reply to one question."""

    stale: bool
    generation: tuple[int, int, int]
    age: int
    rows: Sequence[Row]
    #: Empty unless asked for; else one for each row.
    claims: Sequence[Claims | None]


# What goes out.


class Question:
    """A requirement as it stands in frames: all that comes before the digests or tokens."""

    __slots__ = ("_digests", "_one_digest", "_tokens", "claims", "scopes")

    def __init__(
        self, kind: str | None, audience: str | None, scopes: tuple[str, ...], claims: bool
    ) -> None:
        requirement = b"".join(
            (
                _U32.pack(1 if claims else 0),
                _optional(_checked("kind", kind, _KIND_BYTES_MAX)),
                _optional(_checked("audience", audience, _AUDIENCE_BYTES_MAX)),
                _U64.pack(len(scopes)),
                *(_text(_checked_scope(scope)) for scope in scopes),
            )
        )
        if len(scopes) > _SCOPES_MAX:
            raise ValueError(f"{len(scopes)} scopes, and no token has more than {_SCOPES_MAX}")
        self.claims = claims
        self.scopes = scopes
        self._digests = _U32.pack(_VERIFY) + requirement
        self._tokens = _U32.pack(_VERIFY_TOKENS) + requirement
        one = self._digests + _COUNT_ONE
        self._one_digest = _U32.pack(len(one) + DIGEST_BYTES) + one

    def about_digest(self, digest: bytes) -> bytes:
        """A VERIFY about one digest."""
        return self._one_digest + digest

    def about_digests(self, digests: Sequence[bytes]) -> bytes:
        """A VERIFY about many."""
        return _frame(self._digests, _U64.pack(len(digests)), *digests)

    def about_tokens(self, tokens: Sequence[bytes]) -> bytes:
        """A VERIFY_TOKENS."""
        return _frame(self._tokens, _U64.pack(len(tokens)), *map(_text, tokens))

    def token_bytes(self) -> int:
        """How many bytes of tokens, each with its length, any daemon takes in one frame."""
        return FRAME_BYTES_MIN - len(self._tokens) - _U64.size


#: Services ask with a few requirements, over and over.
@lru_cache(maxsize=256)
def question(
    kind: str | None, audience: str | None, scopes: tuple[str, ...], claims: bool
) -> Question:
    """The question with that requirement."""
    return Question(kind, audience, scopes, claims)


def _checked(name: str, text: str | None, bytes_max: int) -> bytes | None:
    if text is None:
        return None
    value = text.encode()
    if len(value) > bytes_max:
        raise ValueError(f"the {name} has {len(value)} bytes, and no token's has over {bytes_max}")
    return value


def _checked_scope(scope: str) -> bytes:
    if not _SCOPE.fullmatch(scope):
        raise ValueError(f"no token has the scope {scope!r}: see RFC 6749, 3.3 for its characters")
    value = _checked("scope", scope, _SCOPE_BYTES_MAX)
    assert value is not None
    return value


def _frame(*parts: bytes) -> bytes:
    body = b"".join(parts)
    return _U32.pack(len(body)) + body


def _text(value: bytes) -> bytes:
    return _U64.pack(len(value)) + value


def _optional(value: bytes | None) -> bytes:
    return b"\0" if value is None else b"\1" + _text(value)


# What comes in.


def body_bytes(start: bytes) -> int:
    """The length of the body whose frame begins with these four bytes."""
    (length,) = _U32.unpack_from(start)
    if not 0 < length <= REPLY_BYTES_MAX:
        raise Unreadable(f"a reply of {length} bytes")
    return int(length)


def decode_hello(body: bytes) -> Hello:
    """Reads the reply to HELLO."""
    reader = _begin(body, _HELLO_REPLY)
    version = reader.u32()
    if version != _VERSION:
        raise Unreadable(f"the daemon speaks version {version} and this client {_VERSION}")
    key, prefix, foreign = reader.take(DIGEST_BYTES), reader.text(), reader.texts(_FOREIGN_MAX)
    hello = Hello(key, prefix, foreign, *_SERVED_AND_LIMITS.unpack(reader.rest()))
    if hello.frame_bytes_max < FRAME_BYTES_MIN or 0 in hello[-3:]:
        raise Unreadable("limits that no daemon of this version sets")
    if not prefix and (any(key) or foreign):
        raise Unreadable("a domain without a prefix")
    return hello


def decode_status(body: bytes) -> str:
    """Reads the reply to STATUS: JSON."""
    reader = _begin(body, _STATUS_REPLY)
    status = reader.text()
    reader.end()
    return status


def decode_verdict(body: bytes) -> Verdicts:
    """Reads the reply to a question about one token."""
    if len(body) < _ONE_ROW.size:
        return decode_verdicts(body, 1)
    # Not `flags, *rest`: one unpacking of thirteen names is the fastest way in.
    fields = _ONE_ROW.unpack_from(body)
    reply, flags, epoch, number, revocations, age, count = fields[:7]
    if reply != _VERDICTS_REPLY or count != 1 or flags > 1:
        return decode_verdicts(body, 1)
    row = _row(*fields[7:12])
    claims: tuple[Claims | None, ...] = ()
    if len(body) > _ONE_ROW.size or fields[12]:
        claims = (_one_claims(body[_ONE_ROW.size - _U64.size :]),)
        _check_claims((row,), claims)
    return Verdicts(flags == 1, (epoch, number, revocations), age, (row,), claims)


def decode_verdicts(body: bytes, expected: int) -> Verdicts:
    """Reads the reply to a question about `expected` tokens."""
    _begin(body, _VERDICTS_REPLY)
    if len(body) < _VERDICTS_HEAD.size:
        raise Unreadable("verdicts cut short")
    _, flags, epoch, number, revocations, age, count = _VERDICTS_HEAD.unpack_from(body)
    if flags > 1:
        raise Unreadable(f"flags {flags:#x}")
    if count != expected:
        raise Unreadable(f"{count} rows for {expected} tokens")
    end = _VERDICTS_HEAD.size + count * _ROW.size
    if len(body) < end:
        raise Unreadable("rows cut short")
    rows = [_row(*fields) for fields in _ROW.iter_unpack(body[_VERDICTS_HEAD.size : end])]
    claims = _claims(body[end:])
    _check_claims(rows, claims)
    return Verdicts(flags == 1, (epoch, number, revocations), age, rows, claims)


def refusal(frame: bytes) -> Refused | None:
    """The ERROR that a daemon has sent unasked, if this is one."""
    try:
        _begin(frame[PREFIX_BYTES:], _ERROR_REPLY)
    except Refused as refused:
        return refused
    except Unreadable:
        return None
    raise AssertionError("an ERROR is always raised")


def _row(verdict: int, number: bytes, table: int, expires: int, grant: int) -> Row:
    if verdict > _VALID:
        raise Unreadable(f"verdict {verdict}")
    name = VERDICTS[verdict]
    if table == _NO_RECORD:
        if verdict == _VALID or expires or grant or any(number):
            raise Unreadable("a row that contradicts itself")
        return Row(name, None, None)
    if name in _NEVER_WITH_RECORD:
        raise Unreadable("a row that contradicts itself")
    return Row(name, _token_id(number), expires + _EXPIRES_EPOCH_UNIX_S if expires else None)


def _token_id(number: bytes) -> str:
    value = int.from_bytes(number, "big")
    if value >= _ID_LIMIT:
        raise Unreadable("an id that no token has")
    pairs = []
    for _ in range(7):
        value, pair = divmod(value, 62 * 62)
        pairs.append(_PAIRS[pair])
    return "".join(reversed(pairs))


def _check_claims(rows: Sequence[Row], claims: Sequence[Claims | None]) -> None:
    if claims and len(claims) != len(rows):
        raise Unreadable(f"claims of {len(claims)} tokens for {len(rows)} rows")
    for row, of_row in zip(rows, claims):
        if of_row is not None and row.token_id is None:
            raise Unreadable("claims of a token without a record")


#: Kept by their bytes: the same token comes again and again, and its claims never change.
@lru_cache(maxsize=1024)
def _one_claims(tail: bytes) -> Claims | None:
    claims = _claims(tail)
    if len(claims) != 1:
        raise Unreadable(f"claims of {len(claims)} tokens for 1 row")
    return claims[0]


def _claims(tail: bytes) -> list[Claims | None]:
    reader = _Reader(tail)
    claims = reader.list(lambda: reader.optional(reader.claims))
    reader.end()
    return claims


def _begin(body: bytes, expected: int) -> _Reader:
    """A reader behind the number of the reply, which must be the expected one or ERROR."""
    reader = _Reader(body)
    found = reader.u32()
    if found == _ERROR_REPLY:
        number, message = reader.u32(), reader.text()
        reader.end()
        if number not in ERRORS:
            raise Unreadable(f"error {number}")
        raise Refused(number, message)
    if found != expected:
        raise Unreadable(f"reply {found} instead of {expected}")
    return reader


class _Reader:
    """Takes fields off a body, from the front."""

    __slots__ = ("_at", "_body")

    def __init__(self, body: bytes) -> None:
        self._body = body
        self._at = 0

    def take(self, count: int) -> bytes:
        end = self._at + count
        if end > len(self._body):
            raise Unreadable("cut short")
        taken = self._body[self._at : end]
        self._at = end
        return taken

    def rest(self) -> bytes:
        if len(self._body) - self._at != _SERVED_AND_LIMITS.size:
            raise Unreadable("not as long as it should be")
        return self.take(_SERVED_AND_LIMITS.size)

    def end(self) -> None:
        if self._at != len(self._body):
            raise Unreadable("bytes after the last field")

    def u32(self) -> int:
        return int(_U32.unpack(self.take(4))[0])

    def u64(self) -> int:
        return int(_U64.unpack(self.take(8))[0])

    def text(self) -> str:
        try:
            return self.take(self.u64()).decode()
        except UnicodeDecodeError:
            raise Unreadable("text that is not UTF-8") from None

    def texts(self, count_max: int) -> tuple[str, ...]:
        texts = tuple(self.list(self.text))
        if len(texts) > count_max:
            raise Unreadable(f"{len(texts)} texts where {count_max} may be")
        return texts

    def list(self, item: Callable[[], T]) -> builtins.list[T]:
        count = self.u64()
        # An item takes one byte at least.
        if count > len(self._body) - self._at:
            raise Unreadable("cut short")
        return [item() for _ in range(count)]

    def optional(self, item: Callable[[], T]) -> T | None:
        there = self.take(1)
        if there not in (b"\0", b"\1"):
            raise Unreadable("neither there nor not")
        return item() if there == b"\1" else None

    def claims(self) -> Claims:
        return Claims(self.text(), self.text(), self.texts(_SCOPES_MAX), self.text(), self.text())
