"""Degrees of automation and reviews over HTTP, on a real server with real audio."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import Server, StartServer
from tests.control.review.service import SAMPLE, ReviewClient, wav
from tests.live_client import whole
from tests.patience import PATIENCE_S


def until(reached: Callable[[], Any]) -> Any:
    limit = time.monotonic() + PATIENCE_S
    while not (found := reached()):
        assert time.monotonic() < limit, "not in time"
        time.sleep(0.05)
    return found


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1", enterprise_tenants='["acme"]')


@pytest.fixture
def reviews(server: Server) -> Iterator[ReviewClient]:
    found = ReviewClient(server)
    with found.http:
        while (held := found.claim("the broom")) is not None:  # what another test left
            found.submit(held)
        yield found


def test_where_nobody_has_said_anything_the_machine_answers(start_server: StartServer) -> None:
    fresh = ReviewClient(start_server(bundle="scripted", workers="1", live_workers="1"))
    with fresh.http:
        answer = fresh.upload(response_format="verbose_json")
        assert answer.status_code == 200
        said = answer.json()["speechpipe"]
        assert (said["degree"], said["author"]) == ("full", "machine")
        assert answer.headers["x-speechpipe-degree"] == "full"
        assert fresh.http.get("/v1/automation").json() == {"scopes": [], "failure": ""}
        assert sum(sum(by.values()) for by in fresh.overview()["counts"].values()) == 0
        assert fresh.claim() is None


@pytest.mark.parametrize(
    ("degree", "author", "drafted"), [("human_only", "human", 0), ("shadow", "human", 1), ("assist", "both", 1)]
)
def test_a_person_answers_first(reviews: ReviewClient, degree: str, author: str, drafted: int) -> None:
    assert reviews.policy(degree=degree, audit_share=0.0).status_code == 200
    answer = reviews.upload()
    assert answer.status_code == 202
    body = answer.json()
    assert body["status"] == "waiting"
    assert "text" not in body, "nothing looks like silence"
    assert answer.headers["location"] == body["status_url"]
    assert reviews.http.get(body["status_url"]).status_code == 202
    held = reviews.claimed()
    assert (held["degree"], held["why"], held["waited_for"]) == (degree, "degree", True)
    assert (len(held["segments"]) > 0) == bool(drafted)
    assert bool(held["segments"] and held["segments"][0]["text"]) == (degree == "assist")
    audio = reviews.http.get(f"/v1/reviews/{held['id']}/audio")
    assert (audio.status_code, audio.content[:4]) == (200, b"fLaC")
    part = reviews.http.get(f"/v1/reviews/{held['id']}/audio", headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"fLaC")
    assert reviews.submit(held).status_code == 200
    done = reviews.http.get(body["status_url"])
    assert done.status_code == 200
    assert done.json()["text"] == "typed by hand"
    assert (done.json()["speechpipe"]["degree"], done.json()["speechpipe"]["author"]) == (degree, author)
    assert done.headers["x-speechpipe-author"] == author


@pytest.mark.parametrize("form", ["json", "text", "srt", "vtt", "verbose_json"])
def test_the_answer_comes_in_the_format_that_was_asked_for(reviews: ReviewClient, form: str) -> None:
    reviews.policy(degree="assist")
    url = reviews.upload(response_format=form).json()["status_url"]
    reviews.submit(reviews.claimed(), "eins & <zwei>")
    answer = reviews.http.get(url)
    if form == "text":
        assert answer.text == "eins & <zwei>\n"
    elif form in ("srt", "vtt"):
        assert "eins & <zwei>" in answer.text
        assert "-->" in answer.text
    else:
        assert answer.json()["text"] == "eins & <zwei>"
        assert ("segments" in answer.json()) == (form == "verbose_json")


def test_both_channels_are_answered_before_the_upload_is(reviews: ReviewClient) -> None:
    reviews.policy(degree="assist")
    stereo = SAMPLE.with_name("stereo.flac").read_bytes()
    url = reviews.upload(stereo, multichannel="true").json()["status_url"]
    first, second = reviews.claimed("ann"), reviews.claimed("bob")
    assert {first["id"][-3:], second["id"][-3:]} == {"-c0", "-c1"}
    reviews.submit(first, *["links"] * len(first["segments"]))
    waiting = reviews.http.get(url)
    assert (waiting.status_code, waiting.json()["speechpipe"]["answered"]) == (202, 1)
    reviews.submit(second, *["rechts"] * len(second["segments"]))
    found = reviews.http.get(url).json()
    assert {segment["channel"] for segment in found["speechpipe"]["segments"]} == {0, 1}


def test_partial_delivers_nothing_unseen_before_anything_is_known(reviews: ReviewClient) -> None:
    reviews.policy(degree="partial", bound=0.3, audit_share=1.0)
    assert reviews.upload().status_code == 202


def test_partial_delivers_what_is_sure_once_enough_was_reviewed(start_server: StartServer) -> None:
    server = start_server(bundle="scripted", workers="2", live_workers="1")
    reviews = ReviewClient(server)
    with reviews.http:
        reviews.policy(degree="assist", audit_share=0.0, bound=0.3)
        clips = [wav(0.5 + 0.02 * number, 0.1) for number in range(60)]
        for clip in clips:
            assert reviews.upload(clip).status_code == 202
        for _ in clips:
            held = reviews.claimed()
            reviews.submit(held, *[piece["text"] for piece in held["segments"]])
        reviews.policy(degree="partial")

        def delivered() -> httpx.Response | None:
            found = reviews.upload(clips[0], response_format="verbose_json")
            return found if found.status_code == 200 else None

        answer = until(delivered)
        said = answer.json()["speechpipe"]
        assert (said["degree"], said["author"]) == ("partial", "machine")
        assert said["segments"][0]["accepted"]
        assert said["segments"][0]["calibrated_confidence"] == pytest.approx(1.0)
        report = reviews.http.get("/v1/reviews/report").json()["bundles"][0]
        assert report["wer"]["value"] == 0.0
        assert report["partial"]["threshold"] is not None
        assert report["partial"]["high"] <= 0.3
        streamed = reviews.upload(clips[0], stream="true")
        assert streamed.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in streamed.text.splitlines() if line.startswith("data: ")]
        assert events[-1]["speechpipe"]["author"] == "machine"
        health = until(
            lambda: _metric(reviews, "people.auto_accept_share")["value"] is not None and _metric(reviews, "people.wer")
        )
        assert health["value"] == 0.0
        assert health["count"] >= 60


def _metric(reviews: ReviewClient, name: str) -> dict[str, Any]:
    report = reviews.http.get("/v1/health/report").json()
    return next(metric for stage in report["stages"] for metric in stage["metrics"] if metric["name"] == name)


def test_at_full_a_share_is_looked_at_afterwards_and_nobody_waits(reviews: ReviewClient) -> None:
    reviews.policy(degree="full", audit_share=1.0)
    assert reviews.upload().status_code == 200
    held = reviews.claimed()
    assert (held["why"], held["blind"], held["waited_for"]) == ("audit", True, False)
    assert all(piece["text"] == "" for piece in held["segments"])
    reviews.submit(held)
    streamed = reviews.upload(stream="true")
    assert "transcript.text.done" in streamed.text
    assert reviews.claimed()["why"] == "audit"


@pytest.mark.anyio
async def test_live_text_says_whose_it_is_and_is_reviewed_afterwards(reviews: ReviewClient, server: Server) -> None:
    reviews.policy(degree="assist", audit_share=0.0)
    client = await whole(server, wav()[44:])
    said = [message.get("speechpipe") for message in client.messages if message.get("is_final")]
    finals = [one for one in said if one]
    assert {(final["degree"], final["author"], final["accepted"]) for final in finals} == {("assist", "machine", False)}
    held = until(reviews.claim)
    assert (held["channel"], held["waited_for"]) == ("listen", False)
    assert reviews.http.get(f"/v1/reviews/{held['id']}/audio").status_code == 200


@pytest.mark.anyio
@pytest.mark.parametrize("degree", ["human_only", "shadow"])
async def test_live_text_is_refused_where_only_people_may_write(
    reviews: ReviewClient, server: Server, degree: str
) -> None:
    reviews.policy(degree=degree)
    with pytest.raises(Exception, match="409"):
        await whole(server, b"")
    assert server.metric("speechpipe_requests_refused_total", cause="person_required") >= 1


def test_the_official_client_is_not_told_that_there_was_silence(reviews: ReviewClient, server: Server) -> None:
    reviews.policy(degree="assist")
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="x")
    raw = client.audio.transcriptions.with_raw_response.create(model="default", file=("a.wav", wav()))
    assert raw.http_response.status_code == 202
    assert getattr(raw.parse(), "text", None) is None


class Listener:
    """A client's server that fails at first."""

    def __init__(self, failures: int) -> None:
        self.bodies: list[dict[str, Any]] = []
        left = [failures]
        bodies = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                left[0] -= 1
                self.send_response(500 if left[0] >= 0 else 200)
                self.end_headers()
                if left[0] < 0:
                    bodies.append(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/done"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


def test_a_client_is_called_when_its_text_is_there(start_server: StartServer) -> None:
    listener = Listener(failures=1)
    server = start_server(
        bundle="scripted", workers="1", live_workers="1", callbacks=json.dumps([listener.url.removesuffix("/done")])
    )
    reviews = ReviewClient(server)
    with reviews.http:
        reviews.policy(degree="assist")
        body = reviews.upload(callback=listener.url).json()
        assert listener.bodies == []
        reviews.submit(reviews.claimed())
        until(lambda: listener.bodies)
        told = {"id": body["id"], "status": "done", "cause": None, "status_url": body["status_url"]}
        assert listener.bodies == [told]
        assert server.metric("speechpipe_callbacks_total", cause="status") == 1
        for url in ("http://127.0.0.1:1/", "file:///etc/passwd", f"{listener.url} x", "http://a@127.0.0.1/"):
            refused = reviews.upload(callback=url)
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "callback_not_allowed")
    listener.http.shutdown()
    listener.http.server_close()


def test_audio_that_is_gone_is_said_to_the_reviewer_and_costs_the_client_nothing(
    reviews: ReviewClient, server: Server
) -> None:
    reviews.policy(degree="assist")
    body = reviews.upload().json()
    audio = server.state / "reviews" / f"{body['id']}.flac"
    away = audio.rename(audio.with_suffix(".away"))
    before = server.metric("speechpipe_reviews_total", cause="audio_not_here")
    assert reviews.claim() is None
    assert server.metric("speechpipe_reviews_total", cause="audio_not_here") == before + 1
    assert [row["audio_here"] for row in reviews.overview()["waiting"] if row["id"] == body["id"]] == [False]
    answer = reviews.http.get(f"/v1/reviews/{body['id']}/audio")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "audio_not_here")
    assert reviews.http.get(body["status_url"]).status_code == 202
    away.rename(audio)
    held = reviews.claimed()
    assert reviews.submit(held).status_code == 200
    assert reviews.http.get(body["status_url"]).status_code == 200


def test_bad_audio_is_refused_as_ever_and_leaves_nothing(reviews: ReviewClient, server: Server) -> None:
    for degree in ("human_only", "assist"):
        reviews.policy(degree=degree)
        before = sorted((server.state / "reviews").glob("*"))
        assert reviews.upload(b"this is no audio").status_code == 415
        assert sorted((server.state / "reviews").glob("*")) == before


@pytest.mark.parametrize(
    ("what", "body", "status"),
    [
        ("submit", {"segments": "x"}, 400),
        ("submit", {"segments": []}, 400),
        ("submit", {"segments": [{"start": 0, "end": 1, "text": "a\u0000", "of": []}]}, 400),
        ("submit", {"segments": [], "lease": "not mine"}, 400),
        ("submit", {"segments": [], "more": 1}, 400),
        ("renew", {"lease": "not mine"}, 409),
        ("renew", {"step_s": -1}, 400),
        ("release", {"lease": "not mine"}, 409),
        ("skip", {"reason": "tired"}, 400),
    ],
)
def test_what_means_nothing_is_refused_and_the_task_stays(
    reviews: ReviewClient, what: str, body: dict[str, Any], status: int
) -> None:
    reviews.policy(degree="assist")
    reviews.upload()
    held = reviews.claimed()
    answer = reviews.act(held, what, **body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]["code"]
    assert reviews.http.get(f"/v1/reviews/{held['id']}", params={"lease": held["lease"]}).status_code == 200


def test_an_unknown_review_or_upload_is_not_found(reviews: ReviewClient) -> None:
    nobody = {"id": "nobody", "lease": "x"}
    assert reviews.act(nobody, "release").status_code == 404
    assert reviews.http.get("/v1/audio/transcriptions/nobody").status_code == 404
    assert reviews.http.get("/v1/reviews/nobody/audio").status_code == 404
    assert reviews.http.get("/v1/reviews/..%2f..%2fetc%2fpasswd/audio").status_code == 404


@pytest.mark.parametrize(
    ("scope", "changes", "status"),
    [
        ("default", {"degree": "alone"}, 400),
        ("default", {}, 400),
        ("default", {"speed": 3}, 400),
        ("default", {"bound": 2}, 400),
        ("x" * 200, {"degree": "full"}, 400),
        ("default", {"degree": "full", "revision": 0}, 409),
    ],
)
def test_a_policy_that_means_nothing_is_refused(
    reviews: ReviewClient, scope: str, changes: dict[str, Any], status: int
) -> None:
    reviews.policy(degree="assist")
    answer = reviews.policy(scope, **changes)
    assert answer.status_code == status, answer.text
    assert reviews.http.get("/v1/automation").json()["scopes"][0]["degree"] == "assist"


def test_tenants_reviewers_and_operators_see_what_they_may(start_server: StartServer) -> None:
    server = start_server(
        bundle="scripted", workers="1", live_workers="1",
        api_keys='["acme-key", "zeta-key"]', reviewer_keys='["reviewer-key"]', operator_keys='["operator-key"]',
    )  # fmt: skip
    acme, zeta, reviewer, operator, stranger = (
        ReviewClient(server, key) for key in ("acme-key", "zeta-key", "reviewer-key", "operator-key", "")
    )
    assert acme.policy(degree="full").status_code == 401
    assert operator.policy(degree="assist").status_code == 200
    body = acme.upload().json()
    assert zeta.http.get(body["status_url"]).status_code == 404
    assert zeta.claim() is None
    for path in (f"/v1/reviews/{body['id']}/audio", f"/v1/reviews/{body['id']}?lease=x"):
        assert zeta.http.get(path).status_code == 404
        assert stranger.http.get(path).status_code == 401
    assert zeta.overview()["waiting"] == []
    assert zeta.http.get("/v1/reviews/export").json() == []
    assert len(reviewer.overview()["waiting"]) == 1
    assert stranger.http.get("/v1/automation").status_code == 401
    held = reviewer.claimed("rita")
    assert zeta.act(held, "renew").status_code == 404
    assert reviewer.submit(held).status_code == 200
    assert acme.http.get(body["status_url"]).json()["text"] == "typed by hand"
    assert len(acme.http.get("/v1/reviews/export").json()) == 1
    words = [one.http.get("/v1/health/report").json()["people"]["bundles"] for one in (acme, zeta, reviewer, operator)]
    assert [bool(found) for found in words] == [True, False, True, True], "what was said is in it"
    for one in (acme, zeta, reviewer, operator, stranger):
        one.http.close()


def test_out_and_back_over_http(reviews: ReviewClient, server: Server) -> None:
    reviews.policy(degree="assist", audit_share=0.0)
    body = reviews.upload().json()
    rows = [row for row in reviews.http.get("/v1/reviews/export").json() if row["data"]["speechpipe_id"] == body["id"]]
    assert httpx.get(rows[0]["data"]["audio"]).content[:4] == b"fLaC"
    result = rows[0]["predictions"][0]["result"]
    given = [{**rows[0], "annotations": [{"id": 1, "completed_by": {"email": "x@y"}, "result": result}]}]
    answer = reviews.http.post("/v1/reviews/import", json=given)
    assert answer.json() == {"counts": {"imported": 1}, "refused": []}
    assert reviews.http.get(body["status_url"]).json()["speechpipe"]["author"] == "both"
    again = reviews.http.post("/v1/reviews/import", json=given).json()
    assert again["counts"] == {"repeated": 1}
    assert server.metric("speechpipe_reviews_total", cause="import_repeated") == 1
    json_ = {"content-type": "application/json"}
    for broken in (b"{", b"[{}", b"[{},]", b"[{}] x", b"[{} {}]", b"{}", b"[NaN]", b"\xff"):
        answer = reviews.http.post("/v1/reviews/import", content=broken, headers=json_)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "not_label_studio"), broken
    assert reviews.http.post("/v1/reviews/import", content=b"[]").status_code == 415
    lines = [json.loads(line) for line in reviews.http.get("/v1/reviews/export?format=manifest").text.splitlines()]
    assert body["id"] in {line["id"] for line in lines}
    assert reviews.http.get("/v1/reviews/export?format=csv").status_code == 400
