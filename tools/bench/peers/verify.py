"""What the Python client adds to a question: verify.py SOCKET COUNT, a token on standard input.

Prints JSON: microseconds of a question with the frames of the client and nothing around them, and
of the client's `verify`, claims and all; rounds of both alternate.
"""

import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "clients/python/src"))

from adamant import Client  # noqa: E402


def raw(path, frames, count):
    """Sends `frames` of a question, and takes the reply."""
    hello, question = frames
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(path)
        sock.sendall(hello)
        sock.recv(65536)
        sock.sendall(question)
        reply_bytes, buffer = len(sock.recv(65536)), bytearray(4096)
        began = time.perf_counter()
        for _ in range(count):
            sock.sendall(question)
            received = 0
            while received < reply_bytes:
                received += sock.recv_into(buffer)
        return (time.perf_counter() - began) / count * 1e6


def client_frames(path, token):
    """HELLO and a question, as the client sends them: by a listener between it and the daemon."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as listener:
        between = f"{folder}/between"
        listener.bind(between)
        listener.listen()
        sent = []

        def relay():
            near, _ = listener.accept()
            with near, socket.socket(socket.AF_UNIX) as far:
                far.connect(path)
                for _ in range(2):
                    sent.append(near.recv(65536))
                    far.sendall(sent[-1])
                    near.sendall(far.recv(65536))

        thread = threading.Thread(target=relay)
        thread.start()
        assert Client(between, timeout=10).verify(token)
        thread.join()
    return sent


def through_client(client, token, count):
    began = time.perf_counter()
    for _ in range(count):
        client.verify(token)
    return (time.perf_counter() - began) / count * 1e6


def main():
    path, count, token = sys.argv[1], int(sys.argv[2]), sys.stdin.read().strip()
    frames = client_frames(path, token)
    client = Client(path, timeout=10)
    assert client.verify(token)
    rounds = [(raw(path, frames, count), through_client(client, token, count)) for _ in range(7)]
    bare, full = (statistics.median(each) for each in zip(*rounds))
    print(json.dumps({"raw_us": bare, "client_us": full}))


main()
