"""One blocking connection: a frame out, a frame in, within a deadline.

There is never more than one question in flight. So waiting to write is safe: no reply is
outstanding, and the daemon reads.
"""

from __future__ import annotations

import socket
import time
from time import monotonic

from . import _wire
from ._errors import Broken, Failure, NotConnected, TimedOut, Unreadable
from ._session import Greeting

#: What is read at once: the reply about one token, claims and all, nearly always fits.
_READ_BYTES = 4096
#: Seconds between two tries while the daemon's backlog is full.
BACKLOG_PAUSE = 0.001


def connect(path: str) -> socket.socket:
    """Connects without waiting; `BlockingIOError` when the daemon's backlog is full."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.connect(path)
    except BaseException:
        sock.close()
        raise
    return sock


def say_hello(sock: socket.socket) -> None:
    """Sends HELLO on a new connection. A daemon that closes without having been asked says why
    first."""
    try:
        sock.send(_wire.HELLO_REQUEST)
    except OSError as error:
        raise _last_words(sock) or Broken(error) from None


def _last_words(sock: socket.socket) -> Failure | None:
    try:
        return _wire.refusal(sock.recv(_READ_BYTES))
    except OSError:
        return None


class Link:
    """A connection that has said HELLO."""

    __slots__ = ("_is_hurried", "_sock", "_timeout", "greeting")

    def __init__(self, path: str, timeout: float, deadline: float) -> None:
        self._timeout = timeout
        self._sock = self._connected(path, deadline)
        try:
            say_hello(self._sock)
            asked_at = monotonic()
            self.hurry(deadline)
            self.greeting = Greeting(_wire.decode_hello(self._receive(deadline)), asked_at)
        except BaseException:
            self._sock.close()
            raise

    def ask(self, frame: bytes, deadline: float) -> bytes:
        """Sends a frame and gives the body of the reply. For the first frame of a call the whole
        timeout is left, which the socket was told long before; for any other, `hurry` first."""
        try:
            self._sock.sendall(frame)
        except socket.timeout:
            raise TimedOut(self._timeout) from None
        except OSError as error:
            raise Broken(error) from None
        return self._receive(deadline)

    def close(self) -> None:
        """Ends the connection."""
        self._sock.close()

    def hurry(self, deadline: float) -> None:
        """From now on waits no longer than until then."""
        left = deadline - monotonic()
        if left <= 0:
            raise TimedOut(self._timeout)
        self._sock.settimeout(left)
        self._is_hurried = True

    def rest(self) -> None:
        """The next call has the whole timeout again."""
        if self._is_hurried:
            self._sock.settimeout(self._timeout)
            self._is_hurried = False

    def _connected(self, path: str, deadline: float) -> socket.socket:
        while True:
            try:
                return connect(path)
            except BlockingIOError:
                if monotonic() >= deadline:
                    raise TimedOut(self._timeout) from None
                time.sleep(BACKLOG_PAUSE)
            except OSError as error:
                raise NotConnected(error) from None

    def _receive(self, deadline: float) -> bytes:
        received = self._read(_READ_BYTES)
        while len(received) < _wire.PREFIX_BYTES:
            self.hurry(deadline)
            received += self._read(_READ_BYTES)
        missing = _wire.body_bytes(received) + _wire.PREFIX_BYTES - len(received)
        if missing:
            received = self._all(received, missing, deadline)
        return received[_wire.PREFIX_BYTES :]

    def _all(self, received: bytes, missing: int, deadline: float) -> bytes:
        chunks = [received]
        while missing > 0:
            self.hurry(deadline)
            chunk = self._read(missing)
            chunks.append(chunk)
            missing -= len(chunk)
        if missing:
            raise Unreadable("more than what was asked for")
        return b"".join(chunks)

    def _read(self, count: int) -> bytes:
        try:
            chunk = self._sock.recv(count)
        except socket.timeout:
            raise TimedOut(self._timeout) from None
        except OSError as error:
            raise Broken(error) from None
        if not chunk:
            raise Broken
        return chunk
