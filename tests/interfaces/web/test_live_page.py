"""The live page in a real Chromium whose microphone is a wav file."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.conftest import Server, StartServer
from tests.interfaces.web.chromium import needs_chromium
from tests.patience import PATIENCE_S

pytestmark = needs_chromium
WAIT_MS = PATIENCE_S * 1000


@pytest.fixture(scope="module")
def speaking(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1")


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context()
    made = context.new_page()
    made.set_default_timeout(WAIT_MS)
    made.add_init_script(
        "window.problems = []; for (const kind of ['error', 'unhandledrejection', 'securitypolicyviolation'])"
        " window.addEventListener(kind, (event) => window.problems.push(String(event.message ?? event.type)));"
    )
    yield made
    context.close()


def test_speech_becomes_text_with_levels_states_and_figures(page: Page, speaking: Server) -> None:
    page.goto(f"{speaking.url}/live")
    expect(page.locator("#model option")).not_to_have_count(1)
    page.click("#toggle")
    expect(page.locator("#state")).to_have_text("Listening", timeout=WAIT_MS)
    expect(page.locator("#vad")).to_have_text("speech", timeout=WAIT_MS)
    expect(page.locator("#partial")).not_to_be_empty(timeout=WAIT_MS)
    assert page.evaluate("document.getElementById('level').value") > -60
    expect(page.locator("#finals li").first).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#vad")).to_have_text("silence", timeout=WAIT_MS)
    for cell in ("input-last", "vad-last", "asr-last", "final-last", "lag-last"):
        assert float(page.locator(f"#{cell}").inner_text()) is not None
    page.click("#toggle")
    expect(page.locator("#state")).to_have_text("Done", timeout=WAIT_MS)
    assert page.evaluate("window.problems") == []


def test_a_lost_connection_is_resumed(page: Page, speaking: Server) -> None:
    page.add_init_script(
        "const Plain = WebSocket; window.sockets = [];"
        "window.WebSocket = class extends Plain { constructor(...a) { super(...a); window.sockets.push(this); } };"
    )
    page.goto(f"{speaking.url}/live")
    page.click("#toggle")
    expect(page.locator("#vad")).to_have_text("speech", timeout=WAIT_MS)
    page.evaluate("window.sockets[0].close()")  # the page sees 1005: nobody said goodbye
    expect(page.locator("#resumed")).to_have_text("1", timeout=WAIT_MS)
    expect(page.locator("#finals li").first).not_to_be_empty(timeout=WAIT_MS)
    assert speaking.metric("speechpipe_live_resumed_total") >= 1


def test_a_refusal_is_said(page: Page, start_server: StartServer) -> None:
    locked = start_server(bundle="scripted", workers="1", live_workers="1", api_keys='["secret"]')
    page.goto(f"{locked.url}/live")
    page.click("#toggle")
    expect(page.locator("#state")).to_contain_text("API key", timeout=WAIT_MS)
    page.fill("#key", "secret")
    page.click("#toggle")
    expect(page.locator("#state")).to_have_text("Listening", timeout=WAIT_MS)


def test_nothing_but_its_own_files_may_run(speaking: Server) -> None:
    answer = httpx.get(f"{speaking.url}/live")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "://" not in answer.text, "nothing from elsewhere"
    assert httpx.get(f"{speaking.url}/live/live.js").headers["Content-Type"].startswith("text/javascript")
    for other in ("live.html", "..%2Fconfig.py", "nothing.js"):
        assert httpx.get(f"{speaking.url}/live/{other}").status_code == 404
