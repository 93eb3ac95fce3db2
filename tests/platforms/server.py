"""A WebSocket server that echoes short messages, for a client of another system.

    python3 server.py [CERTIFICATES KEY]

CERTIFICATES and KEY are PEM files, and have it serve TLS. It sends all certificates of the file, its own first. It prints its
port, and then a line about how each client has left: "close frame 1000", or "no close frame".
"""

import base64
import hashlib
import socket
import ssl
import sys
import threading

MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


def serve(stream):
    """Answers the upgrade request and echoes. Returns how the client has left, or None if it has asked for no WebSocket."""
    with stream, stream.makefile("rb") as reader:
        headers = {}
        for line in iter(lambda: reader.readline().strip(), b""):
            name, _, value = line.partition(b":")
            headers[name.lower()] = value.strip()
        key = headers.get(b"sec-websocket-key")
        if key is None:
            return None
        stream.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Accept: " + base64.b64encode(hashlib.sha1(key + MAGIC).digest()) + b"\r\n\r\n"
        )
        # A frame of a client with less than 126 bytes: first byte, length, mask, payload.
        while len(frame := reader.read(6)) == 6:
            payload = reader.read(frame[1] & 0x7F)
            payload = bytes(byte ^ frame[2 + n % 4] for n, byte in enumerate(payload))
            opcode = frame[0] & 0x0F
            # A pong answers a ping. Text, binary and a close frame come back as they are.
            stream.sendall(bytes([0x8A if opcode == 9 else frame[0], len(payload)]) + payload)
            if opcode == 8:
                return f"close frame {int.from_bytes(payload[:2], 'big')}"
        return "no close frame"


def attend(raw, context):
    try:
        how = serve(context.wrap_socket(raw, server_side=True) if context else raw)
    except OSError as error:
        # A client that does not like the certificate leaves in the handshake.
        print(error, file=sys.stderr, flush=True)
        return
    finally:
        raw.close()
    if how:
        print(how, flush=True)


def main():
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(sys.argv[1], sys.argv[2])
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    while True:
        raw, _ = listener.accept()
        threading.Thread(target=attend, args=(raw, context), daemon=True).start()


main()
