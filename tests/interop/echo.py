"""An echo server on Python's websockets. What a text message asks for is done; anything else comes back as it is.

    close:CODE:REASON   closes the line; without a CODE, by a close frame with nothing in it
    abort               ends the stream without a close frame
    reset               resets the TCP connection
    ping                pings, waits for the pong, then sends "pong"
    latency             waits until a ping of --ping has been answered, then sends "latency"
    frag:N              sends "0 1 2 … " in N fragments, with a ping halfway
    flood:N             sends the texts 0 to N-1;  flood:N:SIZE  with spaces behind them, up to SIZE bytes
    raw:HEX             writes these bytes, below the protocol
    last-close:PATH     waits until the connection to PATH has ended, then sends CODE:REASON as they came from its client
    extensions          sends what it has answered about extensions

With --gateway PASSWORD it is a gateway that speaks JSON. The first message has to be
{"Type":"POST_LOGIN","Data":{"Password":PASSWORD}}; anything else makes it crash: the stream ends without a close frame.
It answers RTN_LOGIN or RTN_ERR, and takes another login after that. Then

    {"Type":"GET_X","n":N}   is answered, in order, by {"Type":"NOT_X","n":N}, every third time RTN_LOGIN once more, and
                             {"Type":"RTN_X","n":N}
    {"Type":"DROP"}          makes it crash
    {"type":"ping",…}        is ignored

and anything else is an RTN_ERR. Words in the path, joined by "+", change it: "slow" takes 0.3 s for a login, and crashes
over a message meanwhile; "beats" answers pings with {"type":"pong"}; "chatty" sends {"Type":"NOT_TICK"} every 20 ms.
"""

import argparse
import asyncio
import collections
import json
import os
import socket
import ssl
import struct

from websockets.asyncio.server import basic_auth, serve
from websockets.exceptions import ConnectionClosed
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory


async def fragments(line, count):
    for number in range(count):
        if number == count // 2:
            await line.ping()
        yield f"{number} "


class Echo:
    def __init__(self):
        # By path: what the client of a connection said at its end.
        self.ends = collections.defaultdict(asyncio.get_running_loop().create_future)

    async def serve(self, line):
        try:
            async for message in line:
                command, _, argument = message.partition(":") if isinstance(message, str) else ("", "", "")
                await self.obey(line, command, argument, message)
        except ConnectionClosed:
            pass
        end = self.ends[line.request.path]
        if not end.done():
            end.set_result(f"{line.close_code}:{line.close_reason}")

    async def obey(self, line, command, argument, message):
        if command == "close":
            code, _, reason = argument.partition(":")
            await line.close(int(code) if code else None, reason)
        elif command == "abort":
            line.transport.abort()
        elif command == "reset":
            linger = struct.pack("ii", 1, 0)
            line.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            line.transport.abort()
        elif command == "ping":
            await (await line.ping())
            await line.send("pong")
        elif command == "latency":
            while not line.latency:
                await asyncio.sleep(0.005)
            await line.send("latency")
        elif command == "frag":
            await line.send(fragments(line, int(argument)))
        elif command == "flood":
            count, _, size = argument.partition(":")
            for number in range(int(count)):
                await line.send(str(number).ljust(int(size or 0)))
        elif command == "raw":
            line.transport.write(bytes.fromhex(argument))
        elif command == "last-close":
            await line.send(await self.ends[argument])
        elif command == "extensions":
            await line.send(line.response.headers.get("Sec-WebSocket-Extensions", ""))
        else:
            await line.send(message)


class Gateway:
    def __init__(self, password):
        self.password = password

    async def serve(self, line):
        words = line.request.path.strip("/").split("+")
        chat = None
        try:
            await self.log_in(line, words)
            if "chatty" in words:
                chat = asyncio.create_task(self.chat(line))
            answers = 0
            async for message in line:
                answers += await self.obey(line, json.loads(message), answers, words)
        except ConnectionClosed:
            pass
        finally:
            if chat:
                chat.cancel()

    async def log_in(self, line, words):
        while True:
            login = json.loads(await line.recv())
            if login.get("Type") != "POST_LOGIN":
                await self.crash(line)
            if "slow" in words:
                try:
                    await asyncio.wait_for(line.recv(), 0.3)
                    await self.crash(line)
                except asyncio.TimeoutError:
                    pass
            if login["Data"]["Password"] == self.password:
                return await self.say(line, "RTN_LOGIN", Data={"Success": True})
            await self.say(line, "RTN_ERR", Data={"Error": "wrong password"})

    # Returns how many answers that made.
    async def obey(self, line, message, answers, words):
        command = message.get("Type", "")
        if command == "DROP":
            await self.crash(line)
        elif message.get("type") == "ping":
            if "beats" in words:
                await line.send('{"type":"pong"}')
        elif command.startswith("GET_"):
            about = command.removeprefix("GET_")
            await self.say(line, f"NOT_{about}", n=message["n"])
            if answers % 3 == 2:
                await self.say(line, "RTN_LOGIN", Data={"Success": True})
            await self.say(line, f"RTN_{about}", n=message["n"])
            return 1
        else:
            await self.say(line, "RTN_ERR", Data={"Error": "unknown command"})
        return 0

    async def chat(self, line):
        try:
            while True:
                await self.say(line, "NOT_TICK")
                await asyncio.sleep(0.02)
        except ConnectionClosed:
            pass

    async def say(self, line, kind, **rest):
        await line.send(json.dumps({"Type": kind, **rest}))

    async def crash(self, line):
        line.transport.abort()
        await line.wait_closed()
        await line.recv()  # Raises.


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port-file", required=True, help="where to write the port, once there is one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--cert", help="a certificate, for TLS")
    parser.add_argument("--key", help="its key")
    parser.add_argument("--client-ca", help="want a certificate of the client that this authority has signed")
    parser.add_argument("--ping", type=float, help="seconds between pings; ten times as long to answer")
    parser.add_argument("--basic", help="USER:PASSWORD")
    parser.add_argument("--subprotocol")
    parser.add_argument("--alone", choices=["client", "server"], help="whose messages are to be compressed each on its own")
    parser.add_argument("--gateway", help="be a gateway with this password")
    return parser.parse_args()


async def main():
    given = arguments()
    # Large messages are part of the tests.
    options = {"max_size": None, "ping_interval": given.ping, "ping_timeout": given.ping and given.ping * 10}
    if given.cert:
        options["ssl"] = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        options["ssl"].load_cert_chain(given.cert, given.key)
        if given.client_ca:
            options["ssl"].load_verify_locations(given.client_ca)
            options["ssl"].verify_mode = ssl.CERT_REQUIRED
    if given.basic:
        user, _, password = given.basic.partition(":")
        options["process_request"] = basic_auth(realm="interop", credentials=(user, password))
    if given.subprotocol:
        options["subprotocols"] = [given.subprotocol]
    if given.alone:
        options["extensions"] = [ServerPerMessageDeflateFactory(**{f"{given.alone}_no_context_takeover": True})]
    server = Gateway(given.gateway) if given.gateway else Echo()
    async with serve(server.serve, given.host, 0, **options) as listener:
        port = listener.sockets[0].getsockname()[1]
        # Renamed into place, so that nobody reads half of it.
        with open(given.port_file + ".new", "w") as file:
            print(port, file=file)
        os.replace(given.port_file + ".new", given.port_file)
        await listener.serve_forever()


asyncio.run(main())
