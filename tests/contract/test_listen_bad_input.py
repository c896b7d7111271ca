"""`/v1/listen`: what bad clients get, and that nobody else notices."""

import asyncio
import contextlib
import json
import socket
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.conftest import Server, StartServer
from tests.live_client import CLIPS, TWO, listening, of_type, pcm, spoken, whole
from tests.patience import PATIENCE_S

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ({"sample_rate": 100}, 400, "INVALID_PARAMETER"),
        ({"sample_rate": None}, 400, "INVALID_PARAMETER"),
        ({"encoding": "speex"}, 400, "INVALID_PARAMETER"),
        ({"endpointing": "soon"}, 400, "INVALID_PARAMETER"),
        ({"utterance_end_ms": 1000}, 400, "INVALID_PARAMETER"),
        ({"interim_results": True, "utterance_end_ms": 10}, 400, "INVALID_PARAMETER"),
        ({"channels": 0}, 400, "INVALID_PARAMETER"),
        ({"colour": "blue"}, 400, "UNKNOWN_PARAMETER"),
        ({"redact": "pci"}, 400, "INVALID_PARAMETER"),
        ({"callback": "http://x"}, 400, "INVALID_PARAMETER"),
        ({"vad.threshold": 7}, 400, "INVALID_PARAMETER"),
        ({"vad.nonsense": 1}, 400, "INVALID_PARAMETER"),
        ({"vad.threshold": [0.4, 0.5]}, 400, "REPEATED_PARAMETER"),
        ({"model": "nova-3"}, 404, "MODEL_NOT_FOUND"),
        ({"resume": "no-such-token"}, 400, "RESUME_UNKNOWN"),
    ],
    ids=str,
)
async def test_a_query_that_means_nothing_is_refused_and_says_why(
    server: Server, query: dict[str, object], status: int, code: str
) -> None:
    refused = server.metric("speechpipe_requests_refused_total", cause=code.lower())
    with pytest.raises(InvalidStatus) as caught:
        async with listening(server, **query):
            pass
    body = json.loads(caught.value.response.body or b"{}")
    assert (caught.value.response.status_code, body["err_code"]) == (status, code)
    assert body["err_msg"]
    assert server.metric("speechpipe_requests_refused_total", cause=code.lower()) == refused + 1


async def test_a_browser_is_told_by_close_code(server: Server) -> None:
    url = server.url.replace("http", "ws") + "/v1/listen?colour=blue"
    async with connect(url, origin=server.url) as socket:  # type: ignore[arg-type]
        assert json.loads(await socket.recv())["variant"] == "unknown_parameter"
        with pytest.raises(ConnectionClosed):
            await socket.recv()
        assert socket.close_code == 1008


@pytest.mark.parametrize("garbage", [b"nothing of the kind" * 9, b"OggS" + bytes(range(256)) * 40, bytes(400)])
async def test_garbage_in_place_of_a_container_is_1008(server: Server, garbage: bytes) -> None:
    async with listening(server, encoding=None, sample_rate=None) as client:
        await client.send(garbage)
        with contextlib.suppress(ConnectionClosed):
            await client.say("CloseStream")
        code, _ = await client.close()
    assert code == 1008
    assert [message["variant"] for message in client.messages if message["type"] == "Error"] == ["undecodable_audio"]


async def test_odd_lengths_and_single_bytes_are_just_a_stream(server: Server) -> None:
    data = pcm(spoken(CLIPS[0]))
    expected = (await whole(server, data)).texts
    async with listening(server) as client:
        await client.send(data[:2000], step=1)
        await client.send(data[2000:], step=3333)
        await client.say("CloseStream")
        await client.close()
    assert client.texts == expected


async def test_one_huge_message_is_taken_and_a_larger_one_refused(server: Server) -> None:
    small = await whole(server, TWO)
    async with listening(server) as client:
        await client.socket.send(TWO)
        await client.say("CloseStream")
        await client.close()
    assert client.texts == small.texts
    async with listening(server) as client:
        with contextlib.suppress(ConnectionClosed):
            await client.socket.send(bytes(24 * 2**20))
        code, _ = await client.close()
    assert code == 1009


@pytest.mark.parametrize("text", ["not json", "[]", '{"type": 5}', '{"type": "Dance"}', "{" * 5000])
async def test_text_that_means_nothing_is_told_and_the_stream_goes_on(server: Server, text: str) -> None:
    async with listening(server) as client:
        await client.socket.send(text)
        error = await client.until(of_type("Error"))
        assert error["variant"] == "SchemaError"
        await client.send(pcm(spoken(CLIPS[0])))
        await client.say("CloseStream")
        assert (await client.close())[0] == 1000
    assert client.texts


async def test_text_that_is_not_unicode_is_1007_and_writes_no_traceback(server: Server) -> None:
    address = urlsplit(server.url)
    query = "encoding=linear16&sample_rate=16000"
    head = f"GET /v1/listen?{query} HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    writer.write(head.encode())
    await reader.readuntil(b"\r\n\r\n")
    before = len(server.log)
    writer.write(b"\x81\x82\0\0\0\0\xff\xfe")
    assert (1007).to_bytes(2, "big") in await asyncio.wait_for(reader.read(), PATIENCE_S)
    writer.close()
    assert not any("Traceback" in line or "UTF-8" in line for line in server.log[before:])


async def test_neither_audio_nor_keep_alive_is_1011(start_server: StartServer) -> None:
    hasty = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="1", live_idle_timeout_s="4"
    )
    async with listening(hasty) as client:
        await client.send(pcm(spoken(CLIPS[0], gap_s=0.0)))
        for _ in range(6):
            await asyncio.sleep(0.8)  # longer than the limit in all, never at once
            await client.say("KeepAlive")
        assert not client.socket.close_code
        code, _ = await client.close()
    assert code == 1011
    assert client.texts, "what was said before is transcribed"
    assert client.messages[-2]["variant"] == "idle_timeout"


async def test_a_client_far_faster_than_real_time_is_held_back_and_loses_nothing(server: Server) -> None:
    long = pcm(np.concatenate([spoken(*CLIPS[:3])] * 6))  # more than the burst that is free
    fast = asyncio.create_task(whole(server, long))
    beside = await whole(server, TWO)
    alone = await whole(server, TWO)
    assert beside.texts == alone.texts
    client = await fast
    (accounting,) = client.messages[-1]["speechpipe"]["accounting"]
    assert accounting["received"] == len(long) // 2
    assert accounting["dropped_by_overload"] == 0


async def test_a_client_that_never_reads_is_let_go_and_holds_up_nobody(start_server: StartServer) -> None:
    impatient = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="1", live_send_timeout_s="3"
    )
    address = urlsplit(impatient.url)
    narrow = socket.socket()
    narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # or megabytes of answers would fit into buffers
    narrow.connect((address.hostname, address.port))
    narrow.setblocking(False)
    url = impatient.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    async with connect(url, sock=narrow, ping_interval=None, compression=None) as deaf:
        deaf.transport.pause_reading()

        async def flood() -> None:
            while True:  # each is answered
                await deaf.send('{"type": "Finalize"}')
                await asyncio.sleep(0)  # sending alone never gives way

        flooding = asyncio.create_task(flood())
        client = await whole(impatient, TWO)
        assert client.texts
        async with asyncio.timeout(PATIENCE_S):
            while not await asyncio.to_thread(
                impatient.metric, "speechpipe_sessions_total", outcome="client_not_reading"
            ):
                await asyncio.sleep(0.1)
        flooding.cancel()
        await asyncio.gather(flooding, return_exceptions=True)
        deaf.transport.abort()


async def test_silence_has_no_text_and_costs_no_memory(server: Server) -> None:
    client = await whole(server, bytes(32_000 * 60))
    assert client.texts == []
    assert all(final["channel"]["alternatives"][0]["words"] == [] for final in client.finals)
    assert len(client.finals) == 12  # told every five seconds that there is nothing
