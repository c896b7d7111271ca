"""Calls to clients: whatever the other side does, everybody else is called, each call once, every failure counted."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from speechpipe.config import Settings, load
from speechpipe.control.review.callbacks import Callbacks
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.errors import BadInput, DeliveryFailed, InvalidParameter
from speechpipe.foundation.outgoing import SIGNATURE_HEADER, TIMESTAMP_HEADER, Sender, signature
from speechpipe.foundation.storage.store import Store
from speechpipe.serving.signing import signing_secret
from tests.control.review.tasks import said, task
from tests.databases import place_tables
from tests.foundation.test_outgoing import OK, peer
from tests.patience import PATIENCE_S

ANSWER = [said(0, 0.9, "one two", "p0"), said(2, 2.9, "three for", "p2")]
ALLOWED = ["http://127.0.0.1", "http://good.example", "http://slow.example"]


def until(true: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    limit = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < limit
        time.sleep(0.02)


class House:
    """A store with jobs whose clients are to be called, and a clock that is set by hand."""

    def __init__(self, url: str) -> None:
        self.now = 1_000_000.0
        self.store = Store(url)
        self.operations = ReviewOperations(self.store, lambda: self.now)
        self.count = 0

    def done(self, url: str, tenant: str = "acme") -> str:
        """Add a job that a person has answered."""
        self.count += 1
        name = f"j{self.count}"
        self.operations.add(
            [task(self.count, job=name)], Job(name, tenant, self.now, {"status_url": "/x"}, callback=url)
        )
        held = self.operations.queue.claim(Reviewer("ann"), lambda _: True)
        assert held is not None
        self.operations.submit(held.id, Reviewer("ann"), held.lease, ANSWER, 0.0)
        return name

    def job(self, name: str) -> Job:
        return self.operations.jobs.job(name, None)

    def callbacks(self, sender: Any, allowed: list[str] | None = None, jobs: Any = None) -> Callbacks:
        return Callbacks(
            jobs or self.operations.jobs, self.operations.callback_body, ALLOWED if allowed is None else allowed, sender
        )


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    found = House(place_tables(tmp_path / "records.db"))
    yield found
    found.store.close()


def look(callbacks: Callbacks) -> None:
    """Have the calls made that are due, and wait for them."""
    try:
        callbacks.look()
    finally:
        until(lambda: not callbacks.in_progress)


class Posts:
    """A sender that notes what it is asked to send, and fails as it is told to."""

    def __init__(self, **failures: Exception) -> None:
        self.urls: list[str] = []
        self.failures = failures

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        self.urls.append(url)
        for part, error in self.failures.items():
            if part in url:
                raise error


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (b"garbage\r\n\r\n", "protocol"),
        (b"", "protocol"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "status"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n", "redirect"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000, "protocol"),
        (None, "timeout"),
    ],
)
def test_the_next_client_is_called_whatever_one_answers(house: House, answer: bytes | None, cause: str) -> None:
    with peer(answer) as (bad, _), peer(OK) as (good, got):
        first, second = house.done(bad), house.done(good)
        timeout_s = 3.0 if cause == "timeout" else PATIENCE_S
        callbacks = house.callbacks(Sender(b"secret", timeout_s=timeout_s, guarded=True), [bad, good])
        callbacks.start()
        until(lambda: house.job(second).callback_state == "sent")
        callbacks.close()
    assert house.job(first).callback_state == "due"
    assert callbacks.counts == {cause: 1, "sent": 1}
    head, _, body = got[0].partition(b"\r\n\r\n")
    headers = dict(line.decode().lower().split(": ", 1) for line in head.split(b"\r\n")[1:])
    stamp = int(headers[TIMESTAMP_HEADER.lower()])
    assert headers[SIGNATURE_HEADER.lower()] == signature(b"secret", stamp, body)


def test_what_nobody_foresaw_stops_no_other_call(house: House) -> None:
    first, second = house.done("http://good.example/1"), house.done("http://good.example/2")
    callbacks = house.callbacks(Posts(**{"example/1": RuntimeError("unforeseen")}))
    callbacks.start()
    until(lambda: house.job(second).callback_state == "sent")
    until(lambda: callbacks.task.status.failures == 1)
    assert callbacks.task.status.alive
    callbacks.close()
    callbacks = house.callbacks(Posts(**{"example/1": RuntimeError("unforeseen")}))
    for _ in range(30):  # it is no call for ever: each try was counted before it was made
        house.now += 3600
        with contextlib.suppress(RuntimeError):
            look(callbacks)
    assert house.job(first).callback_state == "failed"


def test_of_two_servers_one_calls(house: House) -> None:
    url = "http://good.example/"
    house.done(url)
    posts = Posts()
    both = house.operations.jobs.due()  # the second has looked, too, before the first has claimed
    look(house.callbacks(posts))
    looked = type("", (), {"due": lambda _: both, "claim": house.operations.jobs.claim})()
    look(house.callbacks(posts, jobs=looked))
    assert posts.urls == [url]


def test_a_host_that_hangs_holds_up_nobody_else(house: House) -> None:
    for number in range(30):
        house.done(f"http://slow.example/{number}")
    house.done("http://good.example/")
    posts = Posts(slow=DeliveryFailed("no answer", cause="timeout"))
    callbacks = house.callbacks(posts)
    for _ in range(5):
        look(callbacks)
    assert sorted(posts.urls) == ["http://good.example/", "http://slow.example/0"]
    assert all(house.job(f"j{number}").callback_state == "due" for number in range(1, 31))


class Held:
    """A sender whose calls to slow receivers do not end until they may."""

    def __init__(self) -> None:
        self.urls: list[str] = []
        self.go_on = threading.Event()

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> None:
        self.urls.append(url)
        if "good" not in url:
            assert self.go_on.wait(PATIENCE_S)


def test_slow_receivers_of_one_tenant_delay_no_other_tenant(house: House) -> None:
    allowed = [f"http://slow{number}.example" for number in range(50)]
    for number in range(150):
        house.done(f"http://slow{number % 50}.example/{number}", "alice")
    house.now += 1
    names = [house.done(f"http://good.example/{number}", "bob") for number in range(5)]
    sender = Held()
    callbacks = house.callbacks(sender, [*allowed, "http://good.example"])
    callbacks.start()
    until(lambda: all(house.job(name).callback_state == "sent" for name in names))
    assert len([url for url in sender.urls if "slow" in url]) == 2
    sender.go_on.set()
    callbacks.close()


def test_a_receiver_gets_one_call_at_a_time_and_rests_however_its_address_is_spelt(house: House) -> None:
    spelt = ["slow.example:80", "SLOW.example", "slow.example.:080", "slow.example:0080", "slow.example."]
    for host in spelt:
        house.done(f"http://{host}/")
    posts = Posts(slow=DeliveryFailed("no answer", cause="timeout"), SLOW=DeliveryFailed("no answer", cause="timeout"))
    callbacks = house.callbacks(posts)
    for _ in range(len(spelt)):
        look(callbacks)
    assert len(posts.urls) == 1
    callbacks.close()


def test_an_address_that_is_no_longer_allowed_is_not_called(house: House) -> None:
    name = house.done("http://good.example/")
    posts = Posts()
    callbacks = house.callbacks(posts, ["http://other.example"])
    look(callbacks)
    assert posts.urls == []
    assert callbacks.counts == {"callback_not_allowed": 1}
    assert house.job(name).callback_tries == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com.evil.net/x",
        "http://hooks.example.com:8443/a",
        "https://hooks.example.com/a",
        "http://hooks.example.com/ab",
        "http://hooks.example.com/a/../b",
        "http://hooks.example.com/a%2f..%2fb",
        "http://user@hooks.example.com/a",
    ],
)
def test_an_address_that_only_begins_alike_is_refused(house: House, url: str) -> None:
    callbacks = house.callbacks(Posts(), ["http://hooks.example.com/a"])
    assert callbacks.checked("http://hooks.example.com/a/b") == "http://hooks.example.com/a/b"
    with pytest.raises(InvalidParameter) as refused:
        callbacks.checked(url)
    assert refused.value.cause == "callback_not_allowed"


@pytest.mark.parametrize(
    "settings", [{"callbacks": ["hooks.example.com"]}, {"callbacks": ["http://x/?a=1"]}, {"callback_networks": ["lan"]}]
)
def test_settings_that_mean_nothing_end_the_start(tmp_path: Path, settings: dict[str, list[str]]) -> None:
    with pytest.raises(BadInput, match=next(iter(settings)).replace("_", "-")):
        load(state_dir=tmp_path, **settings)


def test_the_signing_secret_is_made_once_or_set(tmp_path: Path) -> None:
    made = signing_secret(Settings(state_dir=tmp_path))
    assert len(made) >= 32
    assert signing_secret(Settings(state_dir=tmp_path)) == made
    assert (tmp_path / "signing.key").stat().st_mode & 0o077 == 0
    assert signing_secret(Settings(state_dir=tmp_path, signing_secret="mine")) == b"mine"
    (tmp_path / "signing.key").write_text("\n")
    with pytest.raises(InvalidParameter, match="is empty"):
        signing_secret(Settings(state_dir=tmp_path))
    (tmp_path / "signing.key").unlink()
    (tmp_path / "signing.key").mkdir()
    with pytest.raises(InvalidParameter, match="SPEECHPIPE_SIGNING_SECRET"):
        signing_secret(Settings(state_dir=tmp_path))


def test_a_listener_that_refuses_is_tried_again(house: House) -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}/"
    listening.close()
    name = house.done(url)
    callbacks = house.callbacks(Sender(timeout_s=2.0), [url])
    look(callbacks)
    assert callbacks.counts == {"unreachable": 1}
    assert house.job(name).callback_state == "due"
