"""The asyncio client."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from time import monotonic
from typing import Any, Callable, TypeVar

from . import _session, _wire
from ._aio_link import Link
from ._answer import MALFORMED, Answer, Generation
from ._errors import Failure, TimedOut
from ._session import DEFAULT_TIMEOUT, Order, Token

T = TypeVar("T")


class AsyncClient:
    """Asks the daemon about tokens. All tasks of an event loop share one connection, and their
    questions its way to the daemon.

    It promises what `Client` promises. A task that is cancelled shifts no answer to another one.
    """

    def __init__(self, socket: str | None = None, *, timeout: float = DEFAULT_TIMEOUT) -> None:
        self._socket = socket or _session.socket_from_env()
        self._timeout = timeout
        self._order = Order()
        self._lanes: dict[asyncio.AbstractEventLoop, _Lane] = {}

    async def verify(
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
        return await self._call(self._verify, asked, _session.text_of(token))

    async def verify_many(
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
        texts = [_session.text_of(token) for token in tokens]
        return await self._call(self._verify_many, asked, texts)

    async def status(self) -> dict[str, Any]:
        """How the daemon is."""
        return await self._call(self._status)

    async def aclose(self) -> None:
        """Closes the connection of the running loop. A later call opens a new one."""
        lane = self._lanes.pop(asyncio.get_running_loop(), None)
        if lane is not None and lane.link is not None:
            lane.link.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        return f"AsyncClient({self._socket!r}, timeout={self._timeout})"

    async def _verify(
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
        body = await link.ask(frame, deadline)
        return self._order.answer(_wire.decode_verdict(body), asked, since)

    async def _verify_many(
        self,
        link: Link,
        fresh: bool,
        deadline: float,
        since: Generation,
        asked: _wire.Question,
        texts: list[bytes],
    ) -> list[Answer]:
        answers = [MALFORMED] * len(texts)
        replies = []
        try:
            for frame, places in link.greeting.frames(asked, texts, fresh):
                replies.append((link.ask(frame, deadline), places))
                # Other tasks have their turn between two frames: each is a thousand hashes.
                await asyncio.sleep(0)
            for reply, places in replies:
                verdicts = _wire.decode_verdicts(await reply, len(places))
                for place, answer in zip(places, self._order.answers(verdicts, asked, since)):
                    answers[place] = answer
                since = Generation(*verdicts.generation)
        finally:
            for reply, _ in replies:
                # What came too late, or failed like the first, is looked at by nobody else.
                if not reply.cancel() and not reply.cancelled():
                    reply.exception()
        return answers

    async def _status(
        self, link: Link, fresh: bool, deadline: float, since: Generation
    ) -> dict[str, Any]:
        return _session.status_of(await link.ask(_wire.STATUS_REQUEST, deadline))

    async def _call(self, run: Callable[..., Awaitable[T]], *arguments: Any) -> T:
        """Runs one call: on the connection that is there, or on a new one, and a second time on a
        new one if the first turns out to be broken or out of date. All requests may be repeated:
        none changes anything."""
        deadline = monotonic() + self._timeout
        since = self._order.seen
        lane = self._lane()
        link = lane.link
        try:
            if link is not None and link.is_open:
                try:
                    return await run(link, False, deadline, since, *arguments)
                except Failure as failure:
                    if not failure.helped_by_reconnecting:
                        raise
            link = await lane.other_than(link, deadline)
            self._order.accept_hello(link.greeting.hello, since)
            return await run(link, True, deadline, since, *arguments)
        except Failure as failure:
            # What was not understood may stand in the way of what comes next.
            if link is not None and not failure.leaves_link_usable:
                link.close()
            raise failure.told(self._socket) from None

    def _lane(self) -> _Lane:
        loop = asyncio.get_running_loop()
        lane = self._lanes.get(loop)
        if lane is None:
            for other in [other for other in self._lanes if other.is_closed()]:
                ended = self._lanes.pop(other).link
                if ended is not None:
                    ended.abandon()
            lane = self._lanes[loop] = _Lane(self._socket, self._timeout)
        return lane


class _Lane:
    """The connection of one event loop, and the opening of the next one."""

    __slots__ = ("_opening", "_socket", "_timeout", "link")

    def __init__(self, socket: str, timeout: float) -> None:
        self._socket = socket
        self._timeout = timeout
        self._opening: asyncio.Task[Link] | None = None
        self.link: Link | None = None

    async def other_than(self, old: Link | None, deadline: float) -> Link:
        """Another connection than the old one. Those who wait for one open it once."""
        if self.link is not None and self.link is not old and self.link.is_open:
            return self.link
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._open())
            self._opening.add_done_callback(self._opened)
        opening = self._opening
        # Whoever is cancelled, or out of time, leaves the opening to the others.
        await asyncio.wait({opening}, timeout=deadline - monotonic())
        if not opening.done():
            raise TimedOut(self._timeout)
        return opening.result()

    async def _open(self) -> Link:
        link = await Link.open(self._socket, self._timeout)
        if self.link is not None:
            self.link.retire()
        self.link = link
        return link

    def _opened(self, opening: asyncio.Task[Link]) -> None:
        self._opening = None
        # Looked at here, since there may be nobody left who waits for it.
        if not opening.cancelled():
            opening.exception()
