"""Daemons that are gone, stuck, out of reach or wrong, with both clients."""

import asyncio
import grp
import os
import socket
import struct
import threading
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from support import (
    CLIENTS,
    SOME_TOKEN,
    Daemon,
    Home,
    Peer,
    hello_reply,
    need,
    need_programs,
    receive,
    until_closed,
    verdicts_reply,
)

from adamant import AsyncClient, Unavailable, _session

UNKNOWN, UNAVAILABLE = 2, 0
SHORT = 0.2


class Failures(unittest.TestCase):
    @contextmanager
    def unavailable(self, reason: str, *parts: str) -> Iterator[None]:
        with self.assertRaises(Unavailable) as raised:
            yield
        self.assertEqual(raised.exception.reason, reason, raised.exception)
        for part in parts:
            self.assertIn(part, str(raised.exception))
        self.assertNotIn(SOME_TOKEN[-36:], str(raised.exception) + repr(raised.exception))

    def client(self, make: Any, where: Any, **options: Any) -> Any:
        client = make(where.socket if hasattr(where, "socket") else where, **options)
        self.addCleanup(client.close)
        return client


class RealDaemons(Failures):
    def setUp(self) -> None:
        need_programs("adamant")
        self.home = Home()
        self.addCleanup(self.home.remove)
        self.token = self.home.issue()["token"]
        self.daemon = Daemon(self.home)
        self.addCleanup(self.daemon.kill)

    def test_a_daemon_that_was_restarted_is_asked_on_a_new_connection(self) -> None:
        for make in CLIENTS:
            client = self.client(make, self.daemon)
            self.assertTrue(client.verify(self.token))
            self.daemon.kill()
            self.daemon.start()
            self.assertTrue(client.verify(self.token))
            self.assertEqual(self.daemon.status()["connections"], 3)

    def test_a_daemon_that_is_gone_is_unavailable_until_it_is_back(self) -> None:
        for make in CLIENTS:
            client = self.client(make, self.daemon)
            self.assertTrue(client.verify(self.token))
            self.daemon.kill()
            for _ in range(2):
                with self.unavailable("connect", self.daemon.socket, "start adamantd"):
                    client.verify(self.token)
            self.daemon.start()
            self.assertTrue(client.verify(self.token))

    def test_a_stuck_daemon_is_a_timeout_and_no_late_reply_answers_another_question(self) -> None:
        for make in CLIENTS:
            client = self.client(make, self.daemon, timeout=SHORT)
            self.assertTrue(client.verify(self.token))
            self.daemon.pause()
            began = time.monotonic()
            with self.unavailable("timeout", "200 ms"):
                client.verify(self.token)
            took = time.monotonic() - began
            self.daemon.resume()
            self.assertGreaterEqual(took, SHORT * 0.9)
            self.assertLess(took, SHORT + 1)
            self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")

    def test_many_tokens_share_one_timeout(self) -> None:
        for make in CLIENTS:
            client = self.client(make, self.daemon, timeout=SHORT)
            self.assertTrue(client.verify(self.token))
            self.daemon.pause()
            with self.unavailable("timeout"):
                client.verify_many([self.token] * 3000, claims=False)
            self.daemon.resume()
            self.assertTrue(client.verify(self.token))

    def test_no_permission_names_the_group_to_join(self) -> None:
        group = next(each for each in grp.getgrall() if each.gr_gid not in (0, 65534))
        if os.getuid() == 0:
            os.chown(self.daemon.socket, 0, group.gr_gid)
        else:
            group = grp.getgrgid(os.stat(self.daemon.socket).st_gid)
        os.chmod(self.daemon.socket, 0)
        for make in CLIENTS:
            self.as_nobody(make, f"to the group {group.gr_name} ")

    def test_a_folder_that_may_not_be_entered_names_its_group(self) -> None:
        group = grp.getgrgid(os.stat(self.home.folder).st_gid)
        os.chmod(self.home.folder, 0)
        self.addCleanup(os.chmod, self.home.folder, 0o755)
        for make in CLIENTS:
            self.as_nobody(make, f"to the group {group.gr_name} ")
        os.chmod(self.home.folder, 0o755)

    def as_nobody(self, make: Any, part: str) -> None:
        """In a child, since root may connect anywhere."""
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                if os.getuid() == 0:
                    os.setgroups([])
                    os.setgid(65534)
                    os.setuid(65534)
                make(self.daemon.socket).verify(SOME_TOKEN)
                said = "no error"
            except BaseException as error:
                said = f"{getattr(error, 'reason', '')}: {error}"
            os.write(writing, said.encode())
            os._exit(0)
        os.waitpid(child, 0)
        said = os.read(reading, 4096).decode()
        os.close(reading)
        os.close(writing)
        self.assertIn(part, said)
        self.assertTrue(said.startswith("permission: "), said)


def greet(sock: socket.socket, hello: bytes = b"") -> None:
    receive(sock)
    sock.sendall(hello or hello_reply())


def answers(*replies: bytes, hello: bytes = b"") -> Any:
    """A script that answers each question with the next reply."""

    def script(sock: socket.socket) -> None:
        greet(sock, hello)
        for reply in replies:
            if not receive(sock):
                raise AssertionError("fewer questions than replies")
            sock.sendall(reply)
        until_closed(sock)

    return script


def error_reply(number: int) -> bytes:
    body = struct.pack("<IIQ", 3, number, 3) + b"why"
    return struct.pack("<I", len(body)) + body


class Peers(Failures):
    def test_the_loop_of_web_servers_is_among_the_clients(self) -> None:
        need("uvloop")
        self.assertIn("OnUvloop", [make.__name__ for make in CLIENTS])

    def test_a_loop_that_was_busy_is_no_late_daemon(self) -> None:
        """The reply comes in time, and is read after the timeout."""
        for make in CLIENTS[1:]:
            with Peer(answers(*[verdicts_reply(UNKNOWN)] * 2)) as peer:
                client = make(peer.socket, timeout=SHORT)
                client.verify(SOME_TOKEN)
                self.assertEqual(client.verify_and_be_busy(SOME_TOKEN, 2 * SHORT), "unknown")
                client.close()

    def test_a_connection_that_breaks_twice_is_unavailable(self) -> None:
        def breaks(sock: socket.socket) -> None:
            greet(sock)
            receive(sock)
            sock.sendall(verdicts_reply(UNKNOWN))
            receive(sock)

        for make in CLIENTS:
            with Peer(breaks, greet) as peer:
                client = make(peer.socket)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                with self.unavailable("broken", "see the daemon's log"):
                    client.verify(SOME_TOKEN)
                self.assertEqual(peer.connections, 2)
                client.close()

    def test_nobody_listening_is_told_at_once(self) -> None:
        for make in CLIENTS:
            client = self.client(make, "/nonexistent/adamant.sock")
            with self.unavailable("connect", "/nonexistent/adamant.sock", "ADAMANT_SOCKET"):
                client.verify(SOME_TOKEN)

    def test_a_full_backlog_is_a_timeout(self) -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            path = f"/tmp/adamant-backlog-{os.getpid()}"
            self.addCleanup(os.unlink, path)
            listener.bind(path)
            listener.listen(0)
            waiting = socket.socket(socket.AF_UNIX)
            self.addCleanup(waiting.close)
            waiting.connect(path)
            for make in CLIENTS:
                with self.unavailable("timeout"):
                    self.client(make, path, timeout=SHORT).verify(SOME_TOKEN)

    def test_generations_never_go_back(self) -> None:
        later, earlier = verdicts_reply(UNKNOWN), verdicts_reply(UNKNOWN, generation=41)
        without_note = verdicts_reply(UNKNOWN, revocations=6)
        for make in CLIENTS:
            for back in (earlier, without_note):
                scripts = (
                    answers(later, back),
                    answers(hello=hello_reply(generation=41)),
                    answers(verdicts_reply(UNKNOWN, generation=43)),
                )
                with Peer(*scripts) as peer:
                    client = make(peer.socket)
                    client.verify(SOME_TOKEN)
                    for _ in range(2):
                        with self.unavailable("went_back", "after generation 1.42, revocations 7"):
                            client.verify(SOME_TOKEN)
                    self.assertEqual(client.verify(SOME_TOKEN).generation, (1, 43, 7))
                    client.close()

    def test_an_unavailable_verdict_is_no_answer_and_keeps_the_connection(self) -> None:
        unavailable = verdicts_reply(UNAVAILABLE)
        for make in CLIENTS:
            with Peer(answers(unavailable, unavailable, verdicts_reply(UNKNOWN))) as peer:
                client = make(peer.socket)
                with self.unavailable("no_generation", "adamant status"):
                    client.verify(SOME_TOKEN)
                with self.unavailable("no_generation"):
                    client.verify_many([SOME_TOKEN])
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                client.close()

    def test_an_error_that_leaves_the_connection_open_keeps_it(self) -> None:
        for make in CLIENTS:
            with Peer(answers(error_reply(6), verdicts_reply(UNKNOWN))) as peer:
                client = make(peer.socket)
                with self.unavailable("refused", "(busy): why"):
                    client.verify(SOME_TOKEN)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                client.close()

    def test_after_an_error_that_closes_the_next_question_has_a_new_connection(self) -> None:
        for make in CLIENTS:
            with Peer(answers(error_reply(1)), answers(verdicts_reply(UNKNOWN))) as peer:
                client = make(peer.socket)
                with self.unavailable("refused", "(malformed frame): why"):
                    client.verify(SOME_TOKEN)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                client.close()

    def test_a_daemon_that_turns_a_caller_away_is_heard(self) -> None:
        """It says why without having been asked, and closes: before HELLO was read."""
        for make in CLIENTS:
            with Peer(lambda sock: sock.sendall(error_reply(5))) as peer:
                client = self.client(make, peer)
                with self.unavailable("permission", "(not permitted): why"):
                    client.verify(SOME_TOKEN)

    def test_a_reply_that_is_none_ends_the_connection(self) -> None:
        for make in CLIENTS:
            for wrong in (verdicts_reply(UNKNOWN, UNKNOWN), b"\0\0\0\0", hello_reply()):
                with Peer(answers(wrong), answers(verdicts_reply(UNKNOWN))) as peer:
                    client = make(peer.socket)
                    with self.unavailable("protocol"):
                        client.verify(SOME_TOKEN)
                    self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                    client.close()

    def test_a_reply_to_nothing_answers_no_later_question(self) -> None:
        both = verdicts_reply(UNKNOWN) + verdicts_reply(UNKNOWN)
        for make in CLIENTS:
            with Peer(answers(both), answers(verdicts_reply(4 - 1))) as peer:
                client = make(peer.socket)
                try:
                    self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                except Unavailable as error:
                    self.assertEqual(error.reason, "protocol")
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "caller_not_allowed")
                client.close()

    def test_a_reply_may_come_byte_by_byte_within_the_timeout(self) -> None:
        def dribble(pause: float) -> Any:
            def script(sock: socket.socket) -> None:
                greet(sock)
                receive(sock)
                for byte in verdicts_reply(UNKNOWN):
                    time.sleep(pause)
                    try:
                        sock.sendall(bytes([byte]))
                    except BrokenPipeError:
                        return

            return script

        for make in CLIENTS:
            with Peer(dribble(0.0)) as peer:
                client = make(peer.socket)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                client.close()
            with Peer(dribble(SHORT / 4)) as peer:
                client = make(peer.socket, timeout=SHORT)
                began = time.monotonic()
                with self.unavailable("timeout"):
                    client.verify(SOME_TOKEN)
                self.assertLess(time.monotonic() - began, 5 * SHORT)
                client.close()

    def test_a_hello_without_a_domain_is_asked_anew_for_the_next_question(self) -> None:
        none = hello_reply(prefix=b"").replace(hello_reply()[12:44], bytes(32))
        for make in CLIENTS:
            with Peer(answers(hello=none), answers(verdicts_reply(UNKNOWN))) as peer:
                client = make(peer.socket)
                with self.unavailable("no_generation"):
                    client.verify(SOME_TOKEN)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                client.close()

    def test_an_import_is_noticed_before_a_text_is_called_malformed(self) -> None:
        need("blake3")
        scripts = (
            answers(verdicts_reply(UNKNOWN)),
            answers(verdicts_reply(UNKNOWN), hello=hello_reply(foreign=1)),
        )
        for make in CLIENTS:
            with Peer(*scripts) as peer, mock.patch.object(_session, "_HELLO_AGE_MAX", 0):
                client = make(peer.socket)
                self.assertEqual(client.verify(SOME_TOKEN).verdict, "unknown")
                self.assertEqual(client.verify("of another system").verdict, "unknown")
                client.close()
            with Peer(answers()) as peer:
                client = make(peer.socket)
                for _ in range(2):
                    self.assertEqual(client.verify("of another system").verdict, "malformed")
                client.close()

    def test_many_calls_of_one_loop_survive_that_one_of_them_breaks_the_connection(self) -> None:
        """The first connection breaks with all their questions in flight."""
        ready = threading.Event()

        def breaks(sock: socket.socket) -> None:
            greet(sock)
            receive(sock)
            sock.sendall(verdicts_reply(UNKNOWN))
            ready.wait(10)
            receive(sock)

        def goes_on(sock: socket.socket) -> None:
            greet(sock)
            for _ in range(20):
                receive(sock)
                sock.sendall(verdicts_reply(UNKNOWN))
            until_closed(sock)

        async def ask(path: str) -> list[str]:
            async with AsyncClient(path, timeout=10) as client:
                await client.verify(SOME_TOKEN)
                calls = [asyncio.ensure_future(client.verify(SOME_TOKEN)) for _ in range(20)]
                await asyncio.sleep(0.05)
                ready.set()
                return [answer.verdict for answer in await asyncio.gather(*calls)]

        with Peer(breaks, goes_on) as peer:
            self.assertEqual(asyncio.run(ask(peer.socket)), ["unknown"] * 20)


if __name__ == "__main__":
    unittest.main()
