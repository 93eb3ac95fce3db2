"""websockets_sync.py HOST PORT ROOM: the blocking client of Python's websockets, which does what it is told, line by line, on its
standard input: `round_trip N`, `paced N`, `one_way N SIZE`, `echoes N` or `flood N SIZE`. It answers each with one line: the
seconds of each round trip, or the messages a second. Without compression, which the server does not speak. If PEERS_IO is set,
the threads of the client run on that processor."""

import os
import sys
import time

from websockets.sync.client import connect

IN_FLIGHT = 1024
PAUSE = 0.002


def round_trips(line, count, pause):
    payload = bytes([7] * 64)
    for _ in range(count):
        if pause:
            time.sleep(pause)
        start = time.perf_counter()
        line.send(payload)
        assert len(line.recv()) == 64
        yield time.perf_counter() - start


def one_way(line, count, size):
    payload = bytes([7] * size)
    line.send("?")
    before = int(line.recv())
    start = time.perf_counter()
    for _ in range(count):
        line.send(payload)
    line.send("?")
    assert int(line.recv()) - before == count
    yield count / (time.perf_counter() - start)


def echoes(line, count):
    payload = bytes([7] * 64)
    start = time.perf_counter()
    for _ in range(IN_FLIGHT):
        line.send(payload)
    for n in range(count):
        assert len(line.recv()) == 64
        if n + IN_FLIGHT < count:
            line.send(payload)
    yield count / (time.perf_counter() - start)


def flood(line, count, size):
    start = time.perf_counter()
    line.send(f"{size} {count}")
    for _ in range(count):
        assert len(line.recv()) == size
    yield count / (time.perf_counter() - start)


ORDERS = {
    "round_trip": lambda line, count: round_trips(line, count, 0),
    "paced": lambda line, count: round_trips(line, count, PAUSE),
    "one_way": one_way,
    "echoes": echoes,
    "flood": flood,
}


def main(host, port, room):
    options = {"compression": None, "max_size": None, "proxy": None}
    io = os.environ.get("PEERS_IO")
    if io:
        caller = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {int(io)})  # which threads inherit
    with connect(f"ws://{host}:{port}/{room}", **options) as line:
        if io:
            os.sched_setaffinity(0, caller)
        for order in sys.stdin:
            what, *numbers = order.split()
            print(*ORDERS[what](line, *map(int, numbers)), flush=True)


main(*sys.argv[1:])
