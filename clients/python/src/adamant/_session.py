"""One attempt of a call, without I/O: hash, ask, and hold the answers to the order of generations.

The blocking and the asyncio client are the same here; `_link.py` and `_aio_link.py` are what
differs.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from time import monotonic
from typing import Any, Union

from . import _wire
from ._answer import Answer, Generation, answer_of
from ._digest import Domain, ImportedLater
from ._errors import NoGeneration, OldHello, Unreadable, WentBack

#: The environment variable that names the socket, and where a packaged daemon listens.
SOCKET_VARIABLE = "ADAMANT_SOCKET"
DEFAULT_SOCKET = "/run/adamant/adamant.sock"
#: Seconds. A daemon answers within microseconds; one that needs this long is not well, and a
#: request that waits for it is not helped by waiting on.
DEFAULT_TIMEOUT = 0.05

#: Most rows of a frame: little enough that every daemon takes it, and that the first rows come
#: back while the last ones are hashed.
_ROWS_A_FRAME = 1024
#: Seconds. How old a HELLO may be that makes us call a text malformed which an import could make
#: a token. Long enough that a flood of such texts does not become a flood of connections.
_HELLO_AGE_MAX = 1.0

Token = Union[str, bytes]


def socket_from_env() -> str:
    """Where to ask unless told otherwise."""
    return os.environ.get(SOCKET_VARIABLE) or DEFAULT_SOCKET


def question(
    kind: str | None, audience: str | None, scopes: Iterable[str], claims: bool
) -> _wire.Question:
    """The question of a call. Raises `ValueError` for what no daemon takes."""
    if isinstance(scopes, str):
        raise TypeError("scopes are several texts: scopes=[...], not one text")
    return _wire.question(kind, audience, tuple(scopes), claims)


def text_of(token: Token) -> bytes:
    """The bytes of a presented token."""
    # A text with halves of characters is not UTF-8, and no token; it is asked about all the same.
    return token if isinstance(token, bytes) else token.encode("utf-8", "surrogatepass")


def status_of(body: bytes) -> dict[str, Any]:
    """The status in a reply."""
    try:
        status: dict[str, Any] = json.loads(_wire.decode_status(body))
    except ValueError:
        raise Unreadable("a status that is not JSON") from None
    return status


class Greeting:
    """What the HELLO of a connection says, and when it was asked for."""

    __slots__ = ("_asked_at", "_domain", "_hello")

    def __init__(self, hello: _wire.Hello, asked_at: float) -> None:
        self._hello = hello
        self._asked_at = asked_at
        self._domain = Domain.of(hello) if hello.prefix else None

    @property
    def hello(self) -> _wire.Hello:
        """The HELLO itself."""
        return self._hello

    def frame(self, asked: _wire.Question, text: bytes, fresh: bool) -> bytes | None:
        """The question about one token; `None` for a text that is no token. `fresh`: the HELLO is
        of this call."""
        if self._domain is None:
            self._check_there_is_a_domain(fresh)
            return asked.about_tokens((text,)) if len(text) <= _wire.TOKEN_BYTES_MAX else None
        digest = self._digest(self._domain, text, fresh)
        return None if digest is None else asked.about_digest(digest)

    def frames(
        self, asked: _wire.Question, texts: Sequence[bytes], fresh: bool
    ) -> Iterator[tuple[bytes, list[int]]]:
        """The questions about many, made as they are taken, and whose places their rows have."""
        if self._domain is None:
            self._check_there_is_a_domain(fresh)
            return self._frames_of_tokens(asked, texts)
        return self._frames_of_digests(self._domain, asked, texts, fresh)

    def _frames_of_digests(
        self, domain: Domain, asked: _wire.Question, texts: Sequence[bytes], fresh: bool
    ) -> Iterator[tuple[bytes, list[int]]]:
        rows_max = self._rows_max(asked, self._hello.digests_max)
        digests: list[bytes] = []
        places: list[int] = []
        for place, text in enumerate(texts):
            digest = self._digest(domain, text, fresh)
            if digest is None:
                continue
            digests.append(digest)
            places.append(place)
            if len(digests) == rows_max:
                yield asked.about_digests(digests), places
                digests, places = [], []
        if digests:
            yield asked.about_digests(digests), places

    def _frames_of_tokens(
        self, asked: _wire.Question, texts: Sequence[bytes]
    ) -> Iterator[tuple[bytes, list[int]]]:
        rows_max = self._rows_max(asked, self._hello.tokens_max)
        bytes_max = asked.token_bytes()
        places: list[int] = []
        used = 0
        for place, text in enumerate(texts):
            if len(text) > _wire.TOKEN_BYTES_MAX:
                continue
            more = _wire.LENGTH_BYTES + len(text)
            if len(places) == rows_max or used + more > bytes_max:
                yield asked.about_tokens([texts[at] for at in places]), places
                places, used = [], 0
            places.append(place)
            used += more
        if places:
            yield asked.about_tokens([texts[at] for at in places]), places

    def _rows_max(self, asked: _wire.Question, theirs: int) -> int:
        if asked.claims:
            return min(_ROWS_A_FRAME, theirs, self._hello.claims_rows_max)
        return min(_ROWS_A_FRAME, theirs)

    def _check_there_is_a_domain(self, fresh: bool) -> None:
        if not self._hello.prefix:
            raise NoGeneration if fresh else OldHello

    def _digest(self, domain: Domain, text: bytes, fresh: bool) -> bytes | None:
        try:
            return domain.digest(text)
        except ImportedLater:
            if fresh or monotonic() - self._asked_at < _HELLO_AGE_MAX:
                return None
            raise OldHello from None


class Order:
    """The latest generation that a client has seen, on any connection. Answers never go back."""

    def __init__(self) -> None:
        self.seen = Generation(0, 0, 0)
        self._lock = threading.Lock()

    def accept_hello(self, hello: _wire.Hello, since: Generation) -> None:
        """Takes the generation of a HELLO, which does not name the revocations."""
        found = (hello.epoch, hello.generation)
        if found not in ((0, 0), since[:2]):
            self._advance(Generation(*found, 0), since)

    def accept(self, verdicts: _wire.Verdicts, since: Generation) -> Generation:
        """Takes the generation of a reply, unless it is before what was seen when the call began:
        later ones may have overtaken it on other connections."""
        found = verdicts.generation
        if found[0] == 0 and found[1] == 0:
            raise NoGeneration
        if found == since:
            return since
        return self._advance(Generation(*found), since)

    def _advance(self, found: Generation, since: Generation) -> Generation:
        if found < since:
            raise WentBack(found, since)
        with self._lock:
            self.seen = max(self.seen, found)
        return found

    def answer(self, verdicts: _wire.Verdicts, asked: _wire.Question, since: Generation) -> Answer:
        """The answer in the reply about one token."""
        row = verdicts.rows[0]
        if row.verdict == "unavailable":
            raise NoGeneration
        generation = self.accept(verdicts, since)
        claims = verdicts.claims[0] if verdicts.claims else None
        return _answer(row, claims, asked, generation, verdicts)

    def answers(
        self, verdicts: _wire.Verdicts, asked: _wire.Question, since: Generation
    ) -> list[Answer]:
        """The answers in the reply about many."""
        if any(row.verdict == "unavailable" for row in verdicts.rows):
            raise NoGeneration
        generation = self.accept(verdicts, since)
        claims = verdicts.claims or (None,) * len(verdicts.rows)
        return [
            _answer(row, of_row, asked, generation, verdicts)
            for row, of_row in zip(verdicts.rows, claims)
        ]


def _answer(
    row: _wire.Row,
    claims: _wire.Claims | None,
    asked: _wire.Question,
    generation: Generation,
    verdicts: _wire.Verdicts,
) -> Answer:
    if asked.claims and claims is None and row.verdict == "valid":
        raise Unreadable("a valid token without the claims that were asked for")
    return answer_of(row, claims, generation, verdicts)
