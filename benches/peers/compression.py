"""compression.py URL FILE: how many of the lines of FILE a second Python's websockets sends and receives, compressed."""

import asyncio
import sys
import time

from websockets.asyncio.client import connect


async def main(url, file):
    with open(file, "rb") as lines:
        messages = lines.read().split(b"\n")
    options = {"compression": "deflate", "max_size": None, "ping_interval": None}
    async with connect(url + "sink", **options) as line:
        start = time.perf_counter()
        for message in messages:
            await line.send(message)
        await line.send("?")
        assert int(await line.recv()) == len(messages)
        print(len(messages) / (time.perf_counter() - start))
    async with connect(url + "replay", **options) as line:
        start = time.perf_counter()
        await line.send("?")
        for message in messages:
            assert len(await line.recv(decode=False)) == len(message)
        print(len(messages) / (time.perf_counter() - start))


asyncio.run(main(*sys.argv[1:]))
