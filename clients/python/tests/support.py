"""What the tests of the Python client have in common."""

import asyncio
import importlib
import importlib.util
import json
import os
import socket
import struct
import sys
import tempfile
import threading
import time
import unittest
from pathlib import Path
from typing import Any, Callable, Optional

ROOT = Path(__file__).resolve().parents[3]
CONVERSATIONS = ROOT / "clients" / "conversations"
sys.path[:0] = [str(ROOT / "clients" / "python" / "src"), str(CONVERSATIONS)]

from programs import Activated, Daemon, Home, Issuing, eventually, program, receive  # noqa: E402

__all__ = ["Daemon", "Home", "Issuing", "eventually", "program", "receive"]

#: Seconds. Long enough that a busy machine is no failure; what is tested for a timeout has its own.
TIMEOUT = 10.0

SOME_TOKEN = "acme_live_1V6T2UmxQamt62tVDZNVAg9lTphK2GsPOMyWeKb5058rZ4QIyYj"


def missing(what: str) -> None:
    """Skips the test and says why; where all tests must run, it fails."""
    if os.environ.get("CI"):
        raise AssertionError(f"{what}, and with CI set all tests must run")
    raise unittest.SkipTest(what)


def need(*modules: str) -> None:
    """The test needs these modules."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError:
            missing(f"not run: the module {module} is missing")


def need_programs(*names: str) -> None:
    """The test needs these programs."""
    if not os.environ.get("ADAMANT_BIN"):
        missing("not run: ADAMANT_BIN names no folder with programs")
    for name in names:
        if not program(name).is_file():
            missing(f"not run: {name} is not in ADAMANT_BIN")


def conversations() -> list[tuple[str, dict[str, Any]]]:
    """All recorded conversations by their names."""
    files = sorted(CONVERSATIONS.glob("*.json"))
    return [(file.stem, json.loads(file.read_text())) for file in files]


class Served(unittest.TestCase):
    """Tests that ask one real daemon."""

    home: Home
    daemon: Daemon

    @classmethod
    def setUpClass(cls) -> None:
        need_programs("adamant")
        cls.home = Home()
        cls.addClassCleanup(cls.home.remove)
        cls.daemon = Daemon(cls.home)
        cls.addClassCleanup(lambda: cls.daemon.kill())

    def issue(self, **claims: Any) -> dict[str, Any]:
        """A token that the daemon serves."""
        issued = self.home.issue(**claims)
        self.daemon.wait_for(issued["generation"])
        return issued


class Blocking:
    """A client, asked from the outside of any event loop."""

    def __init__(self, socket: str, timeout: float = TIMEOUT) -> None:
        from adamant import Client

        self.client = Client(socket, timeout=timeout)
        self.verify = self.client.verify
        self.verify_many = self.client.verify_many
        self.close = self.client.close


class Aio:
    """The asyncio client, with a loop of its own that runs in a thread."""

    def __init__(self, socket: str, timeout: float = TIMEOUT) -> None:
        from adamant import AsyncClient

        self.client = AsyncClient(socket, timeout=timeout)
        self._loop = self.new_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def new_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def verify(self, *arguments: Any, **more: Any) -> Any:
        return self._run(self.client.verify(*arguments, **more))

    def verify_many(self, *arguments: Any, **more: Any) -> Any:
        return self._run(self.client.verify_many(*arguments, **more))

    def verify_and_be_busy(self, token: str, seconds: float) -> Any:
        """Asks, and then keeps the loop from reading the reply."""

        async def run() -> Any:
            asked = asyncio.ensure_future(self.client.verify(token))
            await asyncio.sleep(0)
            time.sleep(seconds)
            return (await asked).verdict

        return self._run(run())

    def _run(self, call: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(2 * TIMEOUT)

    def close(self) -> None:
        self._run(self.client.aclose())
        # What was closed is told so in the next turn of the loop.
        self._run(asyncio.sleep(0.01))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT)
        self._loop.close()


class OnUvloop(Aio):
    """The same on the loop that web servers prefer."""

    def new_loop(self) -> asyncio.AbstractEventLoop:
        # libuv aborts where a container forbids io_uring.
        os.environ["UV_USE_IO_URING"] = "0"
        import uvloop

        return uvloop.new_event_loop()


#: Each test of failures is run with all of them.
CLIENTS: tuple[Any, ...] = (Blocking, Aio)
if importlib.util.find_spec("uvloop"):
    CLIENTS += (OnUvloop,)


Script = Callable[[socket.socket], None]


class Peer:
    """Something at a Unix socket that is no daemon: each connection runs the next of its scripts.
    What goes wrong in one is raised at the end of `with`."""

    def __init__(self, *scripts: Script) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self.socket = os.path.join(self._folder.name, "socket")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen()
        self._wrong: Optional[BaseException] = None
        self.connections = 0
        self._threads = [threading.Thread(target=self._accept, args=(scripts,), daemon=True)]
        self._threads[0].start()

    def _accept(self, scripts: tuple[Script, ...]) -> None:
        for script in scripts:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            thread = threading.Thread(target=self._serve, args=(script, sock), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, script: Script, sock: socket.socket) -> None:
        with sock:
            try:
                script(sock)
            except BaseException as error:
                self._wrong = error

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *_: object) -> None:
        # Wakes the thread that may still wait for a connection.
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(TIMEOUT)
        self._listener.close()
        self._folder.cleanup()
        if self._wrong is not None:
            raise self._wrong


def expect(sock: socket.socket, request: str) -> None:
    """The other side sends just these bytes."""
    found = receive(sock).hex()
    if found != request:
        raise AssertionError(f"asked {found}\nshould ask {request}")


def until_closed(sock: socket.socket) -> None:
    """The other side sends nothing more, and closes."""
    more = sock.recv(1)
    if more:
        raise AssertionError("more was sent")


def hello_reply(prefix: bytes = b"acme", generation: int = 42, foreign: int = 0) -> bytes:
    """A HELLO like that of the protocol's page."""
    body = struct.pack("<II", 0, 1) + bytes.fromhex(
        "58011646eefa53e0d97e26001d48e7950db48025268253e6a574848789ba47ab"
    )
    body += struct.pack("<Q", len(prefix)) + prefix + struct.pack("<Q", foreign)
    body += (struct.pack("<Q", 6) + b"sha256") * foreign
    body += struct.pack("<QQIIII", 1, generation, 1 << 20, 16384, 4096, 64)
    return struct.pack("<I", len(body)) + body


def verdicts_reply(*verdicts: int, generation: int = 42, revocations: int = 7) -> bytes:
    """Rows without records: of `unknown` and the like."""
    body = struct.pack("<IIQQQQQ", 1, 0, 1, generation, revocations, 1, len(verdicts))
    body += b"".join(struct.pack("<I11sBII", each, bytes(11), 255, 0, 0) for each in verdicts)
    body += struct.pack("<Q", 0)
    return struct.pack("<I", len(body)) + body
