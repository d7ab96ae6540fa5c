"""One asyncio connection that many tasks share: replies come in the order of the questions.

Whoever asks stands in that order before the frame is written, and stays in it when giving up: the
reply is then dropped, and nobody gets the reply of another. When the connection ends, all who
wait get `Broken`.

asyncio writes without waiting and reads all the time, so a daemon that waits until its replies are
read never waits for long.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from time import monotonic
from typing import NamedTuple, cast

from . import _wire
from ._errors import Broken, Failure, NotConnected, TimedOut, Unreadable
from ._link import BACKLOG_PAUSE, connect, say_hello
from ._session import Greeting


class _Waiting(NamedTuple):
    reply: asyncio.Future[bytes]
    deadline: float


class Link(asyncio.Protocol):
    """A connection that has said HELLO."""

    greeting: Greeting

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._transport: asyncio.Transport | None = None
        self._waiting: deque[_Waiting] = deque()
        self._outgoing: list[bytes] = []
        self._incoming = b""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_retired = False
        self.is_open = True

    @staticmethod
    async def open(path: str, timeout: float) -> Link:
        """Connects and says HELLO."""
        deadline = monotonic() + timeout
        while True:
            try:
                sock = connect(path)
                break
            except BlockingIOError:
                if monotonic() >= deadline:
                    raise TimedOut(timeout) from None
                await asyncio.sleep(BACKLOG_PAUSE)
            except OSError as error:
                raise NotConnected(error) from None
        link = Link(sock, timeout)
        try:
            # Before the socket is asyncio's, which would close it without reading why.
            say_hello(sock)
            asked_at = monotonic()
            hello = link._expect(deadline)
            await link._loop.create_unix_connection(lambda: link, sock=sock)
        except BaseException:
            sock.close()
            raise
        try:
            link.greeting = Greeting(_wire.decode_hello(await hello), asked_at)
        except BaseException:
            link.close()
            raise
        return link

    def ask(self, frame: bytes, deadline: float) -> asyncio.Future[bytes]:
        """Sends a frame; what it gives becomes the body of the reply."""
        if self._transport is None or not self.is_open:
            raise Broken
        # Alone, a question goes at once. While others are on their way, what is asked in one turn
        # of the loop is written together, and the daemon answers it as one batch.
        if not self._waiting:
            self._transport.write(frame)
        else:
            if not self._outgoing:
                self._loop.call_soon(self._flush)
            self._outgoing.append(frame)
        return self._expect(deadline)

    def retire(self) -> None:
        """Closes when those who wait have their replies."""
        self._is_retired = True
        if not self._waiting:
            self.close()

    def close(self) -> None:
        """Ends the connection."""
        self._end(Broken())

    def abandon(self) -> None:
        """Ends the connection when its loop has ended, which no transport can do any more."""
        self.is_open = False
        self._sock.close()

    def _expect(self, deadline: float) -> asyncio.Future[bytes]:
        reply = self._loop.create_future()
        self._waiting.append(_Waiting(reply, deadline))
        if self._timer is None or deadline < self._timer_at:
            self._set_timer(deadline)
        return reply

    def _flush(self) -> None:
        if self._transport is not None and self.is_open:
            self._transport.write(b"".join(self._outgoing))
        self._outgoing.clear()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not asserted: the transports of uvloop are of no class of asyncio.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        if self._incoming:
            data = self._incoming + data
        try:
            self._incoming = self._take_replies(data)
        except Unreadable as failure:
            self._end(failure)
            return
        if self._is_retired and not self._waiting:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(Broken(exc))

    def _take_replies(self, data: bytes) -> bytes:
        """Hands on the replies that are there as a whole, and gives what is left."""
        start = 0
        while len(data) - start >= _wire.PREFIX_BYTES:
            body = start + _wire.PREFIX_BYTES
            end = body + _wire.body_bytes(data[start:body])
            if len(data) < end:
                break
            if not self._waiting:
                raise Unreadable("a reply to nothing")
            reply = self._waiting.popleft().reply
            # One that is done was given up.
            if not reply.done():
                reply.set_result(data[body:end])
            start = end
        return data[start:]

    # The timer: one for all who wait, since nearly always the first of them is the first to end.

    def _set_timer(self, deadline: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = deadline
        self._timer = self._loop.call_later(deadline - monotonic(), self._ring)

    def _ring(self) -> None:
        # It may be this process that was busy: what has arrived by now is read first.
        self._timer = self._loop.call_later(0, self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self._waiting:
            return
        earliest = min(waiting.deadline for waiting in self._waiting)
        if earliest <= monotonic():
            self._end(Broken())
        else:
            self._set_timer(earliest)

    def _end(self, failure: Failure) -> None:
        """A late reply must not answer a later question, so the connection ends with the first
        timeout. Those whose time is not over may ask again elsewhere."""
        self.is_open = False
        now = monotonic()
        while self._waiting:
            reply, deadline = self._waiting.popleft()
            if not reply.done():
                reply.set_exception(TimedOut(self._timeout) if deadline <= now else failure)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()
