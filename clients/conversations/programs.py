"""Runs the real programs: a home to issue from, and a daemon to ask.

For `record.py` and for the tests of the clients. The programs are in the folder that the
environment variable `ADAMANT_BIN` names.
"""

import atexit
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any, Optional

#: Seconds. Far longer than anything takes, even on a machine that is busy.
PATIENCE = 30.0

HELLO = bytes.fromhex("080000000000000001000000")
STATUS = bytes.fromhex("0400000003000000")


def program(name: str) -> Path:
    """A program of the project."""
    folder = os.environ.get("ADAMANT_BIN")
    if not folder:
        raise FileNotFoundError("set ADAMANT_BIN to the folder with adamant and adamantd")
    return Path(folder).resolve() / name


def eventually(what: str, holds: Any) -> None:
    """Looks again until it holds. Polled: it happens in another process, which tells nobody."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {PATIENCE} s: {what}")
        time.sleep(0.005)


def receive(sock: socket.socket) -> bytes:
    """One whole frame; empty when the other side has closed."""
    length = _exactly(sock, 4)
    return length + _exactly(sock, struct.unpack("<I", length)[0]) if length else b""


def _exactly(sock: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        chunk = sock.recv(count - len(found))
        if not chunk:
            return b""
        found += chunk
    return found


class Home:
    """A home of the prefix `acme`, in a temporary folder that every user can look into."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="adamant-"))
        self.folder.chmod(0o755)
        self.path = self.folder / "home"
        self.run("init", str(self.path), "--prefix", "acme", home=False)

    def run(self, command: str, *arguments: str, home: bool = True, text: str = "") -> str:
        """Runs `adamant`, and gives what it prints."""
        where = ["--home", str(self.path)] if home else []
        ran = subprocess.run(
            [str(program("adamant")), command, *where, *arguments],
            input=text,
            capture_output=True,
            text=True,
        )
        if ran.returncode != 0:
            raise RuntimeError(f"adamant {command} exits {ran.returncode}: {ran.stderr}")
        return ran.stdout

    def issue(self, *, kind: str = "live", **claims: Any) -> dict[str, Any]:
        """Issues a token: `token`, `id`, `event`, `generation`."""
        arguments = ["--json", "--kind", kind]
        for scope in claims.pop("scopes", ()):
            arguments += ["--scope", scope]
        for name, value in claims.items():
            arguments += [f"--{name.replace('_', '-')}", value]
        issued: dict[str, Any] = json.loads(self.run("issue", *arguments))
        return issued

    def revoke(self, token_id: str) -> int:
        """Revokes a token; gives the generation."""
        told = json.loads(self.run("revoke", "--json", token_id, "--reason", "other"))
        return int(told["generation"])

    def remove(self) -> None:
        """Removes it, daemon sockets and all."""
        shutil.rmtree(self.folder, ignore_errors=True)


class Process:
    """A program that listens at a Unix socket."""

    def __init__(self, socket: str) -> None:
        self.socket = socket
        self._child: Optional[subprocess.Popen[bytes]] = None
        # However the script ends, the program ends with it.
        atexit.register(self.kill)

    def run(self, command: list[str], **environment: str) -> None:
        """Starts it, and waits until it listens."""
        with open(f"{self.socket}.log", "ab") as log:
            self._child = subprocess.Popen(command, stderr=log, env={**os.environ, **environment})
        eventually(f"{command[0]} listens", self._listens)

    def pause(self) -> None:
        """From now on it answers nothing, and keeps its connections."""
        self._signal(signal.SIGSTOP)
        assert self._child is not None
        state = Path(f"/proc/{self._child.pid}/stat")
        # All its threads: until then it may answer on.
        eventually("it stands still", lambda: state.read_text().rsplit(")", 1)[1].split()[0] == "T")

    def resume(self) -> None:
        """Goes on."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """Ends it at once, as a crash would, and waits for that."""
        if self._child is not None:
            self._signal(signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _signal(self, number: int) -> None:
        assert self._child is not None
        self._child.send_signal(number)

    def _listens(self) -> bool:
        assert self._child is not None
        if self._child.poll() is not None:
            raise RuntimeError(f"it has ended: {Path(self.socket + '.log').read_text()}")
        with socket.socket(socket.AF_UNIX) as sock:
            return sock.connect_ex(self.socket) == 0


class Daemon(Process):
    """A daemon on a home."""

    def __init__(
        self, home: Home, *, settings: str = "", wait: bool = False, name: str = "adamant.sock"
    ) -> None:
        super().__init__(str(home.folder / name))
        self._home = home
        self._settings = settings
        self._wait = wait
        self.start()

    def start(self) -> None:
        """Starts it, and waits until it listens."""
        arguments = ["--home", str(self._home.path), "--socket", self.socket]
        if self._wait:
            arguments.append("--wait")
        if self._settings:
            config = self._home.folder / "adamantd.toml"
            config.write_text(self._settings)
            self.run([str(program("adamantd")), "--config", str(config), *arguments])
        else:
            self.run([str(program("adamant")), "serve", *arguments])

    def status(self) -> dict[str, Any]:
        """What it says of itself."""
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(self.socket)
            sock.sendall(HELLO + STATUS)
            receive(sock)
            reply = receive(sock)
        status: dict[str, Any] = json.loads(reply[16:])
        return status

    def wait_for(self, generation: int) -> None:
        """Waits until it serves that generation."""
        served = lambda: self.status().get("generation", 0) >= generation  # noqa: E731
        eventually(f"generation {generation} is served", served)


class Activated(Process):
    """A daemon on a home whose socket is held open for it, as systemd does: it can be started anew
    and no connection is refused meanwhile."""

    def __init__(self, home: Home) -> None:
        super().__init__(str(home.folder / "held.sock"))
        self._home = home
        self._held = socket.socket(socket.AF_UNIX)
        self._held.bind(self.socket)
        self._held.listen(128)
        self.start()

    def start(self) -> None:
        """Descriptor 3, for this process: sd_listen_fds(3)."""
        script = 'exec env LISTEN_PID=$$ LISTEN_FDS=1 "$@" 3<&0 < /dev/null'
        daemon = [str(program("adamantd")), "--home", str(self._home.path), "--socket", self.socket]
        with open(f"{self.socket}.log", "ab") as log:
            self._child = subprocess.Popen(
                ["sh", "-c", script, "sh", *daemon], stdin=self._held, stderr=log
            )

    def restart(self) -> None:
        """Ends it as systemd does, waits, and starts it anew."""
        self._signal(signal.SIGTERM)
        assert self._child is not None
        self._child.wait()
        self.start()


class Issuing(Process):
    """The issuing service on a home, with the daemon that serves what it issues."""

    def __init__(self, home: Home, daemon: Process) -> None:
        super().__init__(str(home.folder / "issuer.sock"))
        # Whoever runs the tests may do everything.
        (home.path / "issuer.toml").write_text(
            f"[[right]]\nusers = [{os.getuid()}]\nmay = [\"issue\", \"revoke\", \"read\"]\n"
            'kinds = ["*"]\naudiences = ["*"]\nscopes = ["*"]\n'
        )
        command = [str(program("adamant-issuer")), "--home", str(home.path)]
        self.run([*command, "--socket", self.socket], ADAMANT_SOCKET=daemon.socket)
