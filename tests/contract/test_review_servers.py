"""Reviews where two servers share a store, and each has a state directory of its own or one folder of reviews."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartServer
from tests.control.review.service import ReviewClient
from tests.databases import DATABASES

SMALL = {"bundle": "scripted", "workers": "1", "live_workers": "1"}


@pytest.fixture(params=[DATABASES[0], pytest.param(DATABASES[1], marks=pytest.mark.long)], ids=str)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with request.param.ready(tmp_path) as found:
        yield found


@pytest.mark.parametrize("degree", ["assist", pytest.param("human_only", marks=pytest.mark.long)])
def test_a_server_without_the_audio_hands_nothing_out_and_takes_nothing_away(
    start_server: StartServer, url: str, degree: str
) -> None:
    one, two = (ReviewClient(start_server(store_url=url, **SMALL)) for _ in range(2))
    with one.http, two.http:
        one.policy(degree=degree)
        body = one.upload().json()
        assert two.claim() is None
        audio = two.http.get(f"/v1/reviews/{body['id']}/audio")
        assert (audio.status_code, audio.json()["error"]["code"]) == (404, "audio_not_here")
        assert [row["audio_here"] for row in two.overview()["waiting"]] == [False]
        for reviews in (one, two):
            assert reviews.http.get(body["status_url"]).status_code == 202
        exported = two.http.get("/v1/reviews/export").json()
        assert [item["data"]["speechpipe_id"] for item in exported] == [body["id"]]
        held = one.claimed()
        assert one.http.get(f"/v1/reviews/{held['id']}/audio").status_code == 200
        with ThreadPoolExecutor(4) as pool:  # an answer is taken anywhere, and is one however often it comes
            answers = list(pool.map(lambda reviews: reviews.submit(held), (one, two, one, two)))
        assert [answer.status_code for answer in answers] == [200] * 4
        assert [answer.json() for answer in answers] == [answers[0].json()] * 4
        other = two.submit(held, *(["something else"] * max(1, len(held["segments"]))))
        assert (other.status_code, other.json()["error"]["code"]) == (409, "review_over")
        for reviews in (one, two):
            assert reviews.http.get(body["status_url"]).status_code == 200


def test_servers_that_share_the_folder_hand_out_each_others_tasks(
    start_server: StartServer, url: str, tmp_path: Path
) -> None:
    shared = tmp_path / "shared"
    desks = []
    for name in ("one", "two"):
        state = tmp_path / name
        state.mkdir()
        shared.mkdir(exist_ok=True)
        (state / "reviews").symlink_to(shared)
        desks.append(ReviewClient(start_server(store_url=url, state_dir=str(state), **SMALL)))
    one, two = desks
    with one.http, two.http:
        one.policy(degree="assist")
        one.upload()
        held = two.claimed()
        assert two.http.get(f"/v1/reviews/{held['id']}/audio").status_code == 200
        assert two.submit(held).status_code == 200
