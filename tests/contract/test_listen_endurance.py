"""`/v1/listen` when something goes away: connections, workers, the server, room; and many sessions at once."""

import asyncio
import contextlib
import signal

import numpy as np
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from tests.conftest import Server, StartServer
from tests.live_client import CLIPS, is_final, listening, of_type, pcm, spoken, transcript, whole

pytestmark = pytest.mark.anyio


async def test_isolation_many_sessions_at_once_never_exchange_text(server: Server) -> None:
    """Each session's words are a digest of its own samples: one foreign sample would show."""
    random = np.random.default_rng(7)
    audios = [pcm(spoken(*random.choice(CLIPS, 2)) * np.float32(random.uniform(0.3, 0.9))) for _ in range(12)]
    alone = [(await whole(server, audio)).texts for audio in audios]
    assert len({tuple(texts) for texts in alone}) == len(audios)
    together = await asyncio.gather(*(whole(server, audio, interim_results=True) for audio in audios))
    assert [client.texts for client in together] == alone


async def test_a_dropped_connection_is_resumed_without_losing_or_repeating_a_final(server: Server) -> None:
    audio = pcm(spoken(*CLIPS[:4]))
    expected = (await whole(server, audio)).texts
    random = np.random.default_rng(3)
    finals: dict[int, str] = {}
    token, last_seq, sent = "true", 0, 0
    for attempt in range(6):
        query: dict[str, object] = {"resume": token} | ({"last_seq": last_seq} if attempt else {})
        async with listening(server, **query) as client:
            session = await client.until(of_type("Session"))
            assert session["resumed"] == (attempt > 0)
            token, sent = session["resume_token"], session["received_bytes"]
            until = len(audio) if attempt == 5 else min(len(audio), sent + int(random.integers(20_000, 90_000)))
            await client.send(audio[sent:until])
            if attempt == 5:
                await client.say("CloseStream")
                await client.close()
            elif attempt % 2:
                with contextlib.suppress(TimeoutError):  # leave in the middle of reading, too
                    await asyncio.wait_for(client.until(is_final), 0.3)
            client.socket.transport.abort()
            for message in client.messages:
                if "seq" in message.get("speechpipe", {}):
                    seq = message["speechpipe"]["seq"]
                    assert seq > last_seq, "said twice"
                    last_seq = seq
                    if is_final(message) and transcript(message):
                        finals[seq] = transcript(message)
    assert list(finals.values()) == expected


async def test_a_session_is_not_resumed_for_somebody_else_or_from_the_future(server: Server) -> None:
    async with listening(server, resume=True) as client:
        token = (await client.until(of_type("Session")))["resume_token"]
        client.socket.transport.abort()
    async with listening(server, resume=token, last_seq=99) as client:
        code, _ = await client.close()
    assert code == 1008
    assert client.messages[0]["variant"] == "resume_impossible"


async def test_the_finals_of_killed_workers_arrive_and_are_the_same(start_server: StartServer) -> None:
    # A slow machine decodes long, and may lose more than the usual three workers over one segment.
    fragile = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="2", segment_attempts="10"
    )
    audio = pcm(spoken(*CLIPS[:3]))
    expected = (await whole(fragile, audio)).texts

    async def kill_now_and_then() -> None:
        for _ in range(4):
            await asyncio.sleep(0.25)
            for process in fragile.workers()[-1:]:
                process.send_signal(signal.SIGKILL)

    killing = asyncio.create_task(kill_now_and_then())
    clients = await asyncio.gather(*(whole(fragile, audio) for _ in range(6)))
    await killing
    assert [client.texts for client in clients] == [expected] * 6
    assert fragile.metric("speechpipe_worker_restarts_total", cause="crash") >= 2
    assert fragile.metric("speechpipe_live_missing_finals_total") == 0
    assert fragile.metric("speechpipe_live_out_of_order_finals_total") == 0


async def test_a_server_that_stops_sends_the_finals_first(start_server: StartServer) -> None:
    leaving = start_server(bundle="scripted", live_load_limit="100", workers="1", live_workers="1")
    async with listening(leaving) as client:
        await client.send(pcm(spoken(CLIPS[0], gap_s=0.0)))
        leaving.process.send_signal(signal.SIGTERM)
        code, _ = await client.close()
    assert client.texts
    assert code == 1012


async def test_keys_are_asked_for_in_every_way_that_clients_send_them(start_server: StartServer) -> None:
    locked = start_server(
        bundle="scripted", live_load_limit="100", workers="1", live_workers="1", api_keys='["secret"]'
    )
    url = locked.url.replace("http", "ws") + "/v1/listen?encoding=linear16&sample_rate=16000"
    for headers in ({}, {"Authorization": "Token wrong"}):
        with pytest.raises(InvalidStatus) as caught:
            async with connect(url, additional_headers=headers):
                pass
        assert caught.value.response.status_code == 401
    for scheme in ("Token", "Bearer"):
        async with connect(url, additional_headers={"Authorization": f"{scheme} secret"}):
            pass
    async with connect(url, subprotocols=["token", "secret"]) as socket:  # type: ignore[list-item]
        assert socket.subprotocol == "token"


async def test_when_there_is_no_room_a_new_session_is_told_when_to_come_back(start_server: StartServer) -> None:
    full = start_server(bundle="scripted", live_load_limit="100", workers="1", live_workers="1", live_max_sessions="1")
    async with listening(full):
        with pytest.raises(InvalidStatus) as caught:
            async with listening(full):
                pass
    assert caught.value.response.status_code == 503
    assert int(caught.value.response.headers["Retry-After"]) >= 1
    assert full.metric("speechpipe_requests_refused_total", cause="overloaded") == 1
