"""A telephone: 8 kHz mu-law in packets of 20 ms, as they come off RTP; prints what was said, and when a turn is over.

ffmpeg -i call.wav -f mulaw -ar 8000 -ac 1 - | python examples/telephone.py ws://127.0.0.1:8000
"""

import asyncio
import json
import sys

from websockets.asyncio.client import connect

QUERY = "encoding=mulaw&sample_rate=8000&interim_results=true&utterance_end_ms=1000&endpointing=300"


async def main(server: str) -> None:
    async with connect(f"{server}/v1/listen?{QUERY}") as socket:

        async def call() -> None:
            while packet := sys.stdin.buffer.read(160):
                await socket.send(packet)
                await asyncio.sleep(0.02)
            await socket.send('{"type": "CloseStream"}')

        calling = asyncio.create_task(call())
        async for message in socket:
            result = json.loads(message)
            if result["type"] == "UtteranceEnd":
                print("-- the caller has finished")
            elif result["type"] == "Results" and result["is_final"]:
                print(result["channel"]["alternatives"][0]["transcript"], flush=True)
        await calling


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "ws://127.0.0.1:8000"))
