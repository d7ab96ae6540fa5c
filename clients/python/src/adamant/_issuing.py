"""What the issuing service tells: tokens, events, and why it does not do what it was asked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple, Union

#: Prefix, kind, version and id of a token of ours: what may be shown of it.
_SHOWN = re.compile(r"([a-z][a-z0-9]{1,9}_[a-z0-9]{1,8}_1[0-9A-Za-z]{14})[0-9A-Za-z]{36}")


class Secret:
    """A new token. It shows only its id, in `repr`, `str` and formats alike; `expose()` gives the
    token itself, for its owner and for nobody else."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def expose(self) -> str:
        """The token itself."""
        return self._text

    def __repr__(self) -> str:
        shown = _SHOWN.fullmatch(self._text)
        return f"{shown[1]}..." if shown else "..."


@dataclass(frozen=True)
class Issued:
    """A token that was made."""

    #: Told here and nowhere else.
    token: Secret
    #: Its public name.
    id: str
    #: The event of the ledger that records it.
    event: int
    generation: int
    #: The local daemon answers from a generation that has it. Otherwise it was waited for in vain;
    #: the token is recorded all the same.
    served: bool
    expires: datetime | None
    #: The token in whose place it is, after `rotate`.
    predecessor: str | None = None


@dataclass(frozen=True)
class Revoked:
    """A token that was revoked."""

    id: str
    event: int
    #: It was revoked before.
    already: bool
    generation: int | None
    #: The local daemon answers from a generation in which it is revoked.
    served: bool


@dataclass(frozen=True)
class TokenRecord:
    """What is known of a token; never the token itself."""

    id: str
    #: `valid`, `revoked`, `expired` or `not_yet_valid`.
    state: str
    kind: str
    audience: str | None
    scopes: tuple[str, ...]
    subject: str | None
    meta: str | None
    issued: datetime
    not_before: datetime | None
    expires: datetime | None
    revoked_at: datetime | None
    reason: str | None
    predecessor: str | None
    successor: str | None
    event: int


@dataclass(frozen=True)
class HistoryEvent:
    """An event of the ledger about a token."""

    index: int
    #: The leaf, as it stands in the ledger.
    event: dict[str, Any]
    #: That it stands there.
    proof: str


@dataclass(frozen=True)
class History:
    """All events about a token, and the checkpoint that their proofs belong to."""

    id: str
    checkpoint: str
    events: tuple[HistoryEvent, ...]


class IssuerError(Exception):
    """The issuing service did not do what it was asked. `code` says why, for programs; each code
    of the service has a class of its own here."""

    def __init__(self, code: str, message: str, problem: Mapping[str, Any] | None = None):
        super().__init__(message)
        self.code = code
        #: The status of the answer; `None` when there was none.
        self.status: int | None = (problem or {}).get("status")
        #: With `Repeated` and `Dead`: the token that it is about, and its event.
        self.id: str | None = (problem or {}).get("id")
        self.event: int | None = (problem or {}).get("event")


class InvalidRequest(IssuerError):
    """`invalid_request`: mend the request."""


class Forbidden(IssuerError):
    """`forbidden`: the policy does not let this user do that."""


class NotFound(IssuerError):
    """`not_found`: there is no such token."""


class Repeated(IssuerError):
    """`repeated`: the request id was used. `id` names the token; it is never told again."""


class Dead(IssuerError):
    """`dead`: the token is revoked, and cannot be rotated."""


class Busy(IssuerError):
    """`busy`: nothing was recorded. Ask again after `retry_after` seconds."""

    retry_after = 1


class Unreachable(IssuerError):
    """`unreachable`: the service could not be asked. Nothing was recorded."""


class OutcomeUnknown(IssuerError):
    """`outcome_unknown`: asked, and not answered. It may be recorded, or not: ask again with the
    same `request_id`, which then changes nothing twice."""


_CLASSES: dict[str, type[IssuerError]] = {
    "invalid_request": InvalidRequest,
    "forbidden": Forbidden,
    "not_found": NotFound,
    "repeated": Repeated,
    "dead": Dead,
    "busy": Busy,
}


def error_of(problem: Mapping[str, Any], retry_after: str | None) -> IssuerError:
    """The error that a problem document (RFC 9457) tells."""
    code = str(problem.get("code", "unknown"))
    title, detail = problem.get("title", "error"), problem.get("detail")
    error = _CLASSES.get(code, IssuerError)(
        code, f"the issuing service says {code}: {detail or title}", problem
    )
    if isinstance(error, Busy) and retry_after and retry_after.isdecimal():
        error.retry_after = int(retry_after)
    return error


Expiry = Union[datetime, timedelta, str]


def time_text(value: Expiry) -> str:
    """A time, or a span from now, as the service reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, timedelta):
        return f"{int(value.total_seconds())}s"
    if value.tzinfo is None:
        raise ValueError("a time without a time zone: say datetime.now(timezone.utc), for example")
    return value.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _time(value: str) -> datetime:
    return datetime.strptime(value, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)


def _time_or_none(value: str | None) -> datetime | None:
    return None if value is None else _time(value)


# The answers. A `KeyError` or so is caught where they are called: then it is no such service.


def issued_of(told: Mapping[str, Any]) -> Issued:
    """The answer to issue and rotate."""
    return Issued(
        Secret(told["token"]),
        told["id"],
        told["event"],
        told["generation"],
        told["served"],
        _time_or_none(told["expires"]),
        told.get("predecessor"),
    )


def revoked_of(told: Mapping[str, Any]) -> Revoked:
    """The answer to revoke."""
    return Revoked(told["id"], told["event"], told["already"], told["generation"], told["served"])


def record_of(told: Mapping[str, Any]) -> TokenRecord:
    """The answer to get, and each of list."""
    return TokenRecord(
        told["id"],
        told["state"],
        told["kind"],
        told["audience"],
        tuple(told["scopes"]),
        told["subject"],
        told["meta"],
        _time(told["issued"]),
        _time_or_none(told["not_before"]),
        _time_or_none(told["expires"]),
        _time_or_none(told["revoked_at"]),
        told["reason"],
        told.get("predecessor"),
        told.get("successor"),
        told["event"],
    )


class Page(NamedTuple):
    """Some tokens, and where the next page begins."""

    records: tuple[TokenRecord, ...]
    next: str | None


def page_of(told: Mapping[str, Any]) -> Page:
    """The answer to list."""
    return Page(tuple(record_of(token) for token in told["tokens"]), told["next"])


def history_of(told: Mapping[str, Any]) -> History:
    """The answer to history."""
    events = (HistoryEvent(each["index"], each["event"], each["proof"]) for each in told["events"])
    return History(told["id"], told["checkpoint"], tuple(events))
