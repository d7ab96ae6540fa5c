"""Why there is no answer: for the caller `Unavailable`, and inside of a call a `Failure`."""

from __future__ import annotations

import errno
import grp
import os

#: What an ERROR reply is about.
ERRORS = {
    1: "malformed frame",
    2: "frame too large",
    3: "version",
    4: "hello first",
    5: "not permitted",
    6: "busy",
    7: "too many",
    8: "internal",
}
#: After these the daemon closes the connection.
_ERRORS_THAT_CLOSE = (1, 2, 3, 4)


class Unavailable(Exception):
    """The question was not answered. It says nothing about the token.

    Answer 503 and tell the operator: the message says what happened, where, and what to do. It
    never holds any part of a token. For programs there is `reason`:

    - `connect`: nobody listens at the socket
    - `permission`: this user may not connect, or the daemon's rules refuse it
    - `timeout`: no answer in time
    - `broken`: the connection failed, and opening it anew did not help
    - `no_generation`: the daemon has nothing that it may answer from
    - `refused`: the daemon does not answer this, or not now
    - `protocol`: the reply is not one of this protocol
    - `went_back`: the daemon answered from an earlier generation than before
    """

    def __init__(self, reason: str, message: str, socket: str) -> None:
        super().__init__(reason, message, socket)
        self.reason = reason
        self.socket = socket

    def __str__(self) -> str:
        return f"could not ask about tokens at {self.socket}: {self.args[1]}"


class Failure(Exception):
    """How one attempt of a call failed. None leaves this package."""

    reason = ""
    #: Whether a new connection may help.
    helped_by_reconnecting = False
    #: Whether the connection can serve the next call.
    leaves_link_usable = False

    def told(self, socket: str) -> Unavailable:
        """What the caller is told."""
        return Unavailable(self.reason, str(self), socket)


class NotConnected(Failure):
    """Nobody could be reached."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error

    def told(self, socket: str) -> Unavailable:
        if self.error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            message = "no daemon listens there; start adamantd, or set ADAMANT_SOCKET to its socket"
            return Unavailable("connect", message, socket)
        if self.error.errno in (errno.EACCES, errno.EPERM):
            message = (
                "no permission to connect; add the user of this process to the group "
                f"{group_of(socket)} and start the process anew"
            )
            return Unavailable("permission", message, socket)
        message = f"cannot connect: {self.error.strerror or self.error}"
        return Unavailable("connect", message, socket)


class TimedOut(Failure):
    """The answer did not come in time."""

    reason = "timeout"

    def __init__(self, timeout: float) -> None:
        super().__init__(
            f"no answer within {timeout * 1000:.0f} ms; see `adamant status` and the daemon's log"
        )


class Broken(Failure):
    """The other side is gone."""

    reason = "broken"
    helped_by_reconnecting = True

    def __init__(self, error: BaseException | None = None) -> None:
        why = getattr(error, "strerror", None)
        message = "the connection was closed" + (f" ({why})" if why else "")
        super().__init__(f"{message}; see the daemon's log")


class OldHello(Failure):
    """The HELLO of this connection is too old to say that a text is no token. One of the same
    call never is, so nobody is told."""

    helped_by_reconnecting = True


class NoGeneration(Failure):
    """The verdict `unavailable`, or a HELLO without a domain."""

    reason = "no_generation"
    leaves_link_usable = True

    def __init__(self) -> None:
        super().__init__(
            "the daemon has no generation that it may answer from; `adamant status` says why"
        )


class Refused(Failure):
    """An ERROR in the place of the reply."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"the daemon does not answer this ({ERRORS[number]}): {message}")
        self.reason = "permission" if ERRORS[number] == "not permitted" else "refused"
        self.leaves_link_usable = number not in _ERRORS_THAT_CLOSE


class Unreadable(Failure):
    """The bytes are no reply of this protocol, or of another version of it."""

    reason = "protocol"

    def __init__(self, why: str) -> None:
        super().__init__(f"the reply cannot be read ({why}); upgrade the daemon or this client")


class WentBack(Failure):
    """The answer is of an earlier generation."""

    reason = "went_back"

    def __init__(self, found: object, seen: object) -> None:
        super().__init__(
            f"the daemon answers from {found}, after {seen}; an old state was put back, "
            "or two daemons take turns at the socket"
        )


def group_of(socket: str) -> str:
    """Who owns the socket, or the folder on the way to it that may not be entered."""
    path = os.path.abspath(socket)
    while True:
        try:
            gid = os.stat(path).st_gid
            break
        except OSError:
            path = os.path.dirname(path)
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
