"""The capacity bench: the next load begins when the server has worked off the one before."""

import pytest

from speechpipe.bench import capacity


class Server:
    """Answers `/metrics` with a backlog that shrinks each time it is asked."""

    def __init__(self, *late_s: float, sessions: int = 0) -> None:
        self.late_s = list(late_s)
        self.sessions = sessions
        self.asked = 0

    def get(self, url: str, timeout: float) -> "Server":
        assert url == "http://server/metrics"
        self.asked += 1
        return self

    @property
    def text(self) -> str:
        late_s = self.late_s[min(self.asked, len(self.late_s)) - 1]
        return f"speechpipe_live_sessions {self.sessions}.0\nspeechpipe_live_late_seconds {late_s}\n"


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [0.0]
    monkeypatch.setattr("speechpipe.bench.capacity.time.monotonic", lambda: now[0])
    monkeypatch.setattr("speechpipe.bench.capacity.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    return now


def test_it_waits_until_the_server_is_not_late(clock: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(3.2, 1.0, 0.0)
    monkeypatch.setattr("httpx.get", server.get)
    assert capacity.recover("http://server")
    assert server.asked == 3
    assert clock[0] == pytest.approx(2 * capacity.LOOK_EVERY_S)


@pytest.mark.parametrize("server", [Server(2.0), Server(0.0, sessions=1), Server(float("nan"))])
def test_it_says_when_the_server_does_not_recover(
    server: Server, clock: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("httpx.get", server.get)
    assert not capacity.recover("http://server")
    assert clock[0] >= capacity.RECOVER_S
