"""Mutated real files through a running server: never a 5xx, never a crash, no worker or descriptor lost.

Every mutation is made from its number, so a failure can be made again. `benchmarks/fuzz_files.py` sends thousands.
"""

import asyncio
import os

import httpx
import numpy as np
import pytest

from tests.conftest import Server
from tests.mutants import mutant, name_of, seeds
from tests.patience import PATIENCE_S
from tests.sounds import encoded, sample

MUTANTS = int(os.environ.get("SPEECHPIPE_FUZZ", "100"))
AT_ONCE = 8
AUDIO = sample("digits")[6000:22_000]


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
    httpx.post(f"{server.url}/v1/audio/transcriptions", data={"model": "default"}, files={"file": encoded(AUDIO)})
    pids = {process.pid for process in server.workers()}
    descriptors = server.descriptors()
    answers = asyncio.run(post_all(server))
    assert len(answers) == MUTANTS
    statuses: dict[int, int] = {}
    for number, answer in answers.items():
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        assert answer.status_code in (200, 400, 413, 415), f"mutant {number} ({name_of(number)}): {answer.text}"
        if answer.status_code != 200:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert statuses[200] > MUTANTS * 0.2, statuses
    assert statuses[415] > MUTANTS * 0.1, statuses
    assert {process.pid for process in server.workers()} == pids, "a worker was lost"
    assert server.descriptors() <= descriptors + 2 * AT_ONCE, "descriptors were lost"
    assert server.metric("speechpipe_uploads_in_progress") == 0
    assert server.metric("speechpipe_accounting_errors_total") == 0
    assert server.metric("speechpipe_requests_refused_total", cause="internal_error") == 0


@pytest.mark.parametrize("name", sorted(seeds()))
def test_what_is_damaged_was_whole(server: Server, name: str) -> None:
    form = {"model": "default", "vad[min_speech_s]": "0"}
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions", data=form, files={"file": seeds()[name]}, timeout=PATIENCE_S
    )
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["seconds"] >= 1


def test_a_number_is_always_the_same_file() -> None:
    assert [mutant(number) for number in range(20)] == [mutant(number) for number in range(20)]
    assert len({mutant(number) for number in range(200)}) > 190
    assert np.mean([len(mutant(number)) for number in range(50)]) > 1000
