"""Mutated real files through a running server: never a 5xx, never a crash, no worker or descriptor lost.

Every mutation is made from its number, so a failure can be made again.
"""

import asyncio
import os

import httpx
import numpy as np

from tests.conftest import Server
from tests.patience import PATIENCE_S
from tests.sounds import encoded, encoded_by_ffmpeg, sample

MUTANTS = int(os.environ.get("SPEECHPIPE_FUZZ", "2400"))
AT_ONCE = 8
AUDIO = sample("digits")[6000:22_000]
STEREO = np.stack([AUDIO, -AUDIO], axis=1)

SEEDS = {
    "wav16": encoded(AUDIO),
    "wav24": encoded(AUDIO, subtype="PCM_24"),
    "wavfloat": encoded(AUDIO, subtype="FLOAT"),
    "wavulaw": encoded(AUDIO, 8000, subtype="ULAW"),
    "wavadpcm": encoded(AUDIO, subtype="IMA_ADPCM"),
    "wavstereo": encoded(STEREO, 44_100),
    "aiff": encoded(AUDIO, form="AIFF"),
    "au": encoded(AUDIO, form="AU"),
    "caf": encoded(AUDIO, form="CAF"),
    "flac": encoded(AUDIO, form="FLAC"),
    "flacstereo": encoded(STEREO, 48_000, form="FLAC"),
    "ogg": encoded(AUDIO, form="OGG"),
    "mp3": encoded(AUDIO, form="MP3"),
    "m4a": encoded_by_ffmpeg(AUDIO, "ipod", "aac"),
    "webm": encoded_by_ffmpeg(AUDIO, "webm", "libopus"),
    "aac": encoded_by_ffmpeg(AUDIO, "adts", "aac"),
    "wma": encoded_by_ffmpeg(AUDIO, "asf", "wmav2"),
    "mkv": encoded_by_ffmpeg(AUDIO, "matroska", "aac"),
}


def mutant(number: int) -> bytes:
    """Return the `number`-th mutation: flips, header damage, cuts, repeats, splices of two formats."""
    random = np.random.default_rng(number)
    names = sorted(SEEDS)
    data = bytearray(SEEDS[names[number % len(names)]])
    for _ in range(random.integers(1, 4)):
        size = len(data)
        match random.integers(0, 7):
            case 0:  # flip bytes anywhere
                for at in random.integers(0, size, random.integers(1, 40)):
                    data[at] = random.integers(0, 256)
            case 1:  # damage the header
                for at in random.integers(0, min(size, 120), random.integers(1, 8)):
                    data[at] = random.integers(0, 256)
            case 2:  # a length field that lies
                at = random.integers(0, max(1, min(size, 200) - 4))
                data[at : at + 4] = random.choice(
                    [b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff", b"\0\0\0\x80"]
                )
            case 3:  # cut the end
                del data[random.integers(1, size + 1) :]
            case 4:  # cut out of the middle
                at = random.integers(0, size)
                del data[at : at + random.integers(1, 2000)]
            case 5:  # repeat a piece
                at = random.integers(0, size)
                data[at:at] = data[at : at + random.integers(1, 2000)]
            case 6:  # go on as another format
                other = SEEDS[names[random.integers(0, len(names))]]
                data[random.integers(0, size) :] = other[random.integers(0, len(other)) :]
        if not data:
            data = bytearray(b"\0")
    return bytes(data)


async def post_all(server: Server) -> dict[int, httpx.Response]:
    """Send all mutants, a few at once."""
    answers: dict[int, httpx.Response] = {}
    numbers = iter(range(MUTANTS))

    async def sender(client: httpx.AsyncClient) -> None:
        for number in numbers:
            form = {"model": "default", "vad[min_speech_s]": "0"}
            files = {"file": ("a", mutant(number))}
            answers[number] = await client.post("/v1/audio/transcriptions", data=form, files=files)

    async with httpx.AsyncClient(base_url=server.url, timeout=PATIENCE_S) as client:
        await asyncio.gather(*(sender(client) for _ in range(AT_ONCE)))
    return answers


def test_mutated_files(server: Server) -> None:
    httpx.post(f"{server.url}/v1/audio/transcriptions", data={"model": "default"}, files={"file": SEEDS["wav16"]})
    pids = {process.pid for process in server.workers()}
    descriptors = server.descriptors()
    answers = asyncio.run(post_all(server))
    assert len(answers) == MUTANTS
    statuses: dict[int, int] = {}
    for number, answer in answers.items():
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 415), f"mutant {number}: {answer.status_code} {answer.text}"
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert statuses[200] > MUTANTS * 0.2, statuses
    assert statuses[415] > MUTANTS * 0.1, statuses
    assert {process.pid for process in server.workers()} == pids, "a worker was lost"
    assert server.descriptors() <= descriptors + 2 * AT_ONCE, "descriptors were lost"
    assert server.metric("speechpipe_uploads_in_progress") == 0
    assert server.metric("speechpipe_accounting_errors_total") == 0
    assert server.metric("speechpipe_requests_refused_total", cause="internal_error") == 0
