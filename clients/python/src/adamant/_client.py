"""The blocking client."""

from __future__ import annotations

import os
from collections.abc import Iterable
from time import monotonic
from typing import Any, Callable, TypeVar

from . import _session, _wire
from ._answer import MALFORMED, Answer, Generation
from ._errors import Failure
from ._link import Link
from ._session import DEFAULT_TIMEOUT, Order, Token

#: Connections that are kept between calls. More threads than that may ask at once.
_IDLE_MAX = 8

T = TypeVar("T")

#: How often this process is a child. Connections are not shared with the parent: each would
#: read the other's replies.
_forks = 0


def _forked() -> None:
    global _forks
    _forks += 1


os.register_at_fork(after_in_child=_forked)


class Client:
    """Asks the daemon about tokens. Threads may share it.

    - An `Answer` is what the daemon says about a token; it is true only for a valid one.
    - `Unavailable` is raised when the daemon could not be asked. So a daemon that is down is
      neither a yes nor a no.
    - A call ends within `timeout` seconds, connecting included.
    - A connection that broke is opened anew once in a call. After a timeout it is closed, so that
      a late reply never answers a later question.
    - No answer is of an earlier generation than one that was seen when the call began.

    It connects when it is first asked. `socket` is by default what `ADAMANT_SOCKET` names, or
    `/run/adamant/adamant.sock`.
    """

    def __init__(self, socket: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._socket = socket or _session.socket_from_env()
        self._timeout = timeout
        self._idle: list[Link] = []
        self._idle_forks = _forks
        self._order = Order()

    def verify(
        self,
        token: Token,
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> Answer:
        """Asks whether `token` is valid and has what is named: all of `scopes`, the audience, the
        kind. With `claims=False` the answer has no subject, scopes and so on, and is a bit
        faster."""
        asked = _session.question(kind, audience, scopes, claims)
        return self._call(self._verify, asked, _session.text_of(token))

    def verify_many(
        self,
        tokens: Iterable[Token],
        *,
        kind: str | None = None,
        audience: str | None = None,
        scopes: Iterable[str] = (),
        claims: bool = True,
    ) -> list[Answer]:
        """Asks about many tokens with one requirement. The answers come in their order; they may
        be of several generations, each of which is named. The timeout is for all of them
        together."""
        asked = _session.question(kind, audience, scopes, claims)
        return self._call(self._verify_many, asked, [_session.text_of(token) for token in tokens])

    def status(self) -> dict[str, Any]:
        """How the daemon is."""
        return self._call(self._status)

    def close(self) -> None:
        """Closes the connections that are kept. A later call opens a new one."""
        idle, self._idle = self._idle, []
        for link in idle:
            link.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Client({self._socket!r}, timeout={self._timeout})"

    def _verify(
        self,
        link: Link,
        fresh: bool,
        deadline: float,
        since: Generation,
        asked: _wire.Question,
        text: bytes,
    ) -> Answer:
        frame = link.greeting.frame(asked, text, fresh)
        if frame is None:
            return MALFORMED
        return self._order.answer(_wire.decode_verdict(link.ask(frame, deadline)), asked, since)

    def _verify_many(
        self,
        link: Link,
        fresh: bool,
        deadline: float,
        since: Generation,
        asked: _wire.Question,
        texts: list[bytes],
    ) -> list[Answer]:
        answers = [MALFORMED] * len(texts)
        for frame, places in link.greeting.frames(asked, texts, fresh):
            link.hurry(deadline)
            verdicts = _wire.decode_verdicts(link.ask(frame, deadline), len(places))
            for place, answer in zip(places, self._order.answers(verdicts, asked, since)):
                answers[place] = answer
            since = Generation(*verdicts.generation)
        return answers

    def _status(
        self, link: Link, fresh: bool, deadline: float, since: Generation
    ) -> dict[str, Any]:
        return _session.status_of(link.ask(_wire.STATUS_REQUEST, deadline))

    def _call(self, run: Callable[..., T], *arguments: Any) -> T:
        """Runs one call: on a connection that is kept, or on a new one, and a second time on a
        new one if the first turns out to be broken or out of date. All requests may be repeated:
        none changes anything."""
        deadline = monotonic() + self._timeout
        since = self._order.seen
        link = self._take()
        if link is not None:
            try:
                return self._attempt(link, run, False, deadline, since, arguments)
            except Failure as failure:
                if not failure.helped_by_reconnecting:
                    raise failure.told(self._socket) from None
                # What broke one connection has mostly broken them all.
                self.close()
        try:
            link = Link(self._socket, self._timeout, deadline)
            return self._attempt(link, run, True, deadline, since, arguments)
        except Failure as failure:
            raise failure.told(self._socket) from None

    def _attempt(
        self,
        link: Link,
        run: Callable[..., T],
        fresh: bool,
        deadline: float,
        since: Generation,
        arguments: Any,
    ) -> T:
        try:
            if fresh:
                link.hurry(deadline)
                self._order.accept_hello(link.greeting.hello, since)
            value = run(link, fresh, deadline, since, *arguments)
        except Failure as failure:
            if failure.leaves_link_usable:
                self._keep(link)
            else:
                link.close()
            raise
        self._keep(link)
        return value

    def _take(self) -> Link | None:
        if self._idle_forks != _forks:
            self.close()
            self._idle_forks = _forks
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _keep(self, link: Link) -> None:
        if len(self._idle) < _IDLE_MAX:
            link.rest()
            self._idle.append(link)
        else:
            link.close()
