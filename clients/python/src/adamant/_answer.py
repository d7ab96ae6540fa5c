"""What a daemon answered, in the words of a service."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import NamedTuple

from . import _wire


class Generation(NamedTuple):
    """A state of the token set. Later ones are greater: the fields are in the order that counts."""

    epoch: int
    number: int
    #: The sequence of the revocations note; 0: none.
    revocations: int

    def __str__(self) -> str:
        return f"generation {self.epoch}.{self.number}, revocations {self.revocations}"


class Answer(NamedTuple):
    """The answer about one token. True if the token is valid, and only then.

    `kind`, `audience`, `scopes`, `subject` and `meta` are those of a valid token, if claims were
    asked for. A token that is not valid has none: nothing may be concluded from them.
    """

    #: `valid`, or why not: `malformed`, `unknown`, `caller_not_allowed`, `revoked`,
    #: `not_yet_valid`, `expired`, `wrong_kind`, `wrong_audience` or `insufficient_scope`.
    verdict: str
    #: The public name of the token: what logs and rate limits should call it by. `None` when
    #: there is no such token, or this caller may not know of it.
    token_id: str | None = None
    #: When it expires, Unix seconds; `None`: never. It may be revoked before.
    expires_unix_s: int | None = None
    kind: str | None = None
    audience: str | None = None
    scopes: tuple[str, ...] = ()
    subject: str | None = None
    meta: str | None = None
    #: What the answer comes from. `None` for a text that is no token, about which nobody was asked.
    generation: Generation | None = None
    #: Seconds from the issue of that generation's manifest to the answer.
    age: int | None = None
    #: The manifest has expired, and the daemon's policy says to serve it nevertheless.
    stale: bool = False

    @property
    def valid(self) -> bool:
        """Whether the token is trusted now and has all that was asked for."""
        return self.verdict == "valid"

    @property
    def expires(self) -> datetime | None:
        """When it expires; `None`: never. It may be revoked before."""
        if self.expires_unix_s is None:
            return None
        return datetime.fromtimestamp(self.expires_unix_s, timezone.utc)

    # A tuple with fields is always true, and `if client.verify(token):` would let everybody in.
    def __bool__(self) -> bool:
        return self.verdict == "valid"


#: About a text that is no token, for which nobody has to be asked.
MALFORMED = Answer("malformed")


def answer_of(
    row: _wire.Row,
    claims: _wire.Claims | None,
    generation: Generation,
    verdicts: _wire.Verdicts,
) -> Answer:
    """The answer that a row of a reply gives."""
    if row.verdict != "valid" or claims is None:
        return Answer(
            row.verdict,
            row.token_id,
            row.expires_unix_s,
            generation=generation,
            age=verdicts.age,
            stale=verdicts.stale,
        )
    return Answer(
        row.verdict,
        row.token_id,
        row.expires_unix_s,
        claims.kind,
        claims.audience or None,
        claims.scopes,
        claims.subject or None,
        claims.meta or None,
        generation,
        verdicts.age,
        verdicts.stale,
    )
