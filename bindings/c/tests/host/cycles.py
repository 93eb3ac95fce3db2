"""A host in Python that loads a plugin and unloads it, and uses TLS of its own: cycles.py PLUGIN URL COUNT COPY CA"""

import _ctypes
import ctypes
import os
import socket
import ssl
import sys
import threading
import time
from urllib.parse import urlsplit

OK, TERMINATE = 0, 1
plugin, url, count, copy, authority = sys.argv[1:]
count = int(count)


class Plugin:
    def __init__(self, path):
        self.library = ctypes.CDLL(path, mode=os.RTLD_NOW | os.RTLD_LOCAL)
        assert self.library.plugin_begin(url.encode()) == OK
        self.talk()

    def talk(self):
        assert self.library.plugin_talk(5000) == OK

    def end(self):
        assert self.library.plugin_end(TERMINATE, 5000) == OK
        _ctypes.dlclose(self.library._handle)


def cycle():
    Plugin(plugin).end()


def name(task):
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return file.read()
    except OSError:
        return ""


def threads():
    return sum(name(task).startswith("tautline") for task in os.listdir("/proc/self/task"))


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def resident_kib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE") // 1024


def settle(allowed):
    """The system lists a thread that was joined for some ms."""
    until = time.monotonic() + 5
    while threads() > allowed:
        assert time.monotonic() < until, f"{threads()} threads"
        time.sleep(0.001)


def cycle_on_a_thread():
    failures = []
    thread = threading.Thread(target=lambda: failures.append(cycle()))
    thread.start()
    thread.join()
    assert failures == [None], "a cycle on a thread failed"


def use_tls():
    context = ssl.create_default_context()
    context.load_verify_locations(authority)
    server = urlsplit(url)
    if server.scheme == "wss":
        with socket.create_connection((server.hostname, server.port), 10) as plain:
            with context.wrap_socket(plain, server_hostname=server.hostname) as secured:
                return secured.version()
    # Nobody answers: what is made and freed is a session alone.
    session = context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="h")
    try:
        session.do_handshake()
    except ssl.SSLWantReadError:
        return "a session"


other = Plugin(copy)
# That of its attempt may not have ended yet. The timer's is one that all share.
settle(2)
settled = memory = 0
early = min(100, count // 10 + 1)
for at in range(count):
    cycle() if at % 2 == 0 else cycle_on_a_thread()
    settle(2)
    if at == early:
        settled, memory = descriptors(), resident_kib()
    assert at <= early or descriptors() <= settled, f"{descriptors()} descriptors, {settled} before"

with open("/proc/self/maps") as maps:
    mapped = maps.read()
assert "libtautline_c.so" in mapped and os.path.basename(plugin) not in mapped
grown = resident_kib() - memory
assert count < 1000 or grown < 1024, f"{grown} KiB"
other.talk()
said = use_tls()
other.talk()
other.end()
settle(0)
print(f"{count} cycles, {grown:+} KiB since the first {early}; TLS of the host's own: {said}")
