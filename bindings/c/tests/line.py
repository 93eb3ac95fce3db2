"""Drives the shared library by ctypes: line.py LIBRARY URL"""

import ctypes as c
import os
import signal
import ssl
import sys


class Client(c.Structure):
    _fields_ = [("id", c.c_uint64)]


class Event(c.Structure):
    _fields_ = [
        ("size", c.c_size_t),
        ("kind", c.c_int32),
        ("message_kind", c.c_int32),
        ("state", c.c_int32),
        ("close_code", c.c_uint16),
        ("http_status", c.c_uint16),
        ("count", c.c_uint64),
        ("retry_in_ms", c.c_int64),
        ("length", c.c_size_t),
    ]


OK, E_BUFFER, E_EMPTY, E_HANDLE, E_FORKED = 0, -12, -13, -4, -21
MESSAGE, BINARY = 3, 2

lib = c.CDLL(sys.argv[1])
lib.tautline_version.restype = c.c_char_p
lib.tautline_options_new.argtypes = [c.c_char_p, c.POINTER(c.c_void_p)]
lib.tautline_options_free.argtypes = [c.c_void_p]
lib.tautline_options_free.restype = None
lib.tautline_options_insecure.argtypes = [c.c_void_p, c.c_int32]
lib.tautline_open.argtypes = [c.c_void_p, c.POINTER(Client)]
lib.tautline_send_binary.argtypes = [Client, c.c_char_p, c.c_size_t]
lib.tautline_wait_event.argtypes = [Client, c.c_uint32]
lib.tautline_next_event.argtypes = [Client, c.POINTER(Event), c.c_char_p, c.c_size_t]
lib.tautline_shutdown.argtypes = [Client, c.c_int32, c.c_uint32, c.c_void_p]


def echo(client):
    """Sends a message, and takes events until it comes back."""
    assert lib.tautline_send_binary(client, b"\0from Python", 12) == OK
    event, buffer = Event(size=c.sizeof(Event)), c.create_string_buffer(0)
    while True:
        code = lib.tautline_next_event(client, c.byref(event), buffer, len(buffer))
        if code == E_EMPTY:
            assert lib.tautline_wait_event(client, 10_000) == OK
        elif code == E_BUFFER:
            buffer = c.create_string_buffer(event.length)
        else:
            assert code == OK, code
            if event.kind == MESSAGE:
                break
    assert event.message_kind == BINARY and buffer.raw[: event.length] == b"\0from Python"


options, client = c.c_void_p(), Client()
assert lib.tautline_options_new(sys.argv[2].encode(), c.byref(options)) == OK
assert lib.tautline_options_insecure(options, 1) == OK
assert lib.tautline_open(options, c.byref(client)) == OK
echo(client)

# A child has a client of its own.
child = os.fork()
if child == 0:
    signal.alarm(20)
    own = Client()
    try:
        assert lib.tautline_state(client) == E_FORKED
        assert lib.tautline_shutdown(client, 0, 2000, None) == E_FORKED
        assert lib.tautline_open(options, c.byref(own)) == OK
        echo(own)
        assert lib.tautline_shutdown(own, 0, 2000, None) == OK
        os._exit(0)
    finally:
        os._exit(1)
assert os.waitpid(child, 0)[1] == 0
lib.tautline_options_free(options)
echo(client)
assert lib.tautline_shutdown(client, 0, 2000, None) == OK
assert lib.tautline_shutdown(client, 0, 2000, None) == E_HANDLE

# Python's own TLS goes on, by the library that the client has used, too.
session = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="h")
try:
    session.do_handshake()
except ssl.SSLWantReadError:
    pass
del session
print(lib.tautline_version().decode(), "by ctypes")
