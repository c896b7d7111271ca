"""A live client in twenty lines: sends 16-bit PCM at 16 kHz from standard input, prints text as it comes.

ffmpeg -re -i talk.mp3 -f s16le -ar 16000 -ac 1 - | python examples/stream.py ws://127.0.0.1:8000
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect


async def main(server: str) -> None:
    async with connect(f"{server}/v1/listen?encoding=linear16&sample_rate=16000&interim_results=true") as socket:

        async def speak() -> None:
            while data := await asyncio.to_thread(sys.stdin.buffer.read, 3200):
                await socket.send(data)
            await socket.send('{"type": "CloseStream"}')

        speaking = asyncio.create_task(speak())
        async for message in socket:
            result = json.loads(message)
            if result["type"] == "Results" and (text := result["channel"]["alternatives"][0]["transcript"]):
                print(text, end="\n" if result["is_final"] else "\r", flush=True)
        await speaking


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000"))
