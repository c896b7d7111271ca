"""The pages in a real Chromium behind a proxy that serves them under a prefix, with no network but that."""

from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from tests.conftest import Server, StartServer
from tests.contract.test_health import SPOKEN, upload
from tests.interfaces.web.chromium import needs_chromium
from tests.interfaces.web.proxy import proxy
from tests.patience import PATIENCE_S

pytestmark = needs_chromium
WAIT_MS = 60_000
PEOPLE_ONLY = {"degree": "human_only", "reason": "a test", "confirm": True}


@pytest.fixture(scope="module")
def behind(start_server: StartServer) -> Iterator[tuple[Server, str]]:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    upload(server, SPOKEN[0])
    with proxy(server.url, "/tools/asr") as url:
        yield server, f"{url}/tools/asr"


@pytest.fixture
def page(browser: Browser, behind: tuple[Server, str]) -> Iterator[Page]:
    own = behind[1]
    problems: list[str] = []

    def only_own(route: Route) -> None:
        if route.request.url.startswith((own, "data:", "blob:")):
            route.continue_()
        else:
            problems.append(f"asked for {route.request.url}")
            route.abort()

    context = browser.new_context()
    page = context.new_page()
    page.route("**/*", only_own)
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    yield page
    context.close()
    icons = [problem for problem in problems if "favicon" in problem]
    assert problems == icons


def test_the_dashboard_fills_itself(behind: tuple[Server, str], page: Page) -> None:
    page.goto(f"{behind[1]}/")
    expect(page.locator("#verdict")).not_to_be_empty(timeout=WAIT_MS)
    expect(page.locator("#rollout [data-alias]").first).not_to_be_empty(timeout=WAIT_MS)
    page.click("#people a")
    expect(page).to_have_url(f"{behind[1]}/review")


def test_the_live_page_lists_bundles_and_opens_a_websocket(behind: tuple[Server, str], page: Page) -> None:
    page.goto(f"{behind[1]}/live")
    expect(page.locator("#model option")).not_to_have_count(1, timeout=WAIT_MS)
    closed = page.evaluate(
        "new Promise((done) => import('./live/connection.js').then(({ Connection }) => new Connection({"
        " query: { encoding: 'linear16', sample_rate: 16000 }, onMessage: () => {}, onState: done })))"
    )
    assert closed == "listening"


def test_the_review_page_asks_its_own_server(behind: tuple[Server, str], page: Page) -> None:
    page.goto(f"{behind[1]}/review")
    with page.expect_response(f"{behind[1]}/v1/reviews**", timeout=WAIT_MS) as answered:
        page.get_by_role("button").first.click()
    assert answered.value.status in (200, 204)


def test_the_api_document_is_shown_without_a_network(behind: tuple[Server, str], page: Page) -> None:
    page.goto(f"{behind[1]}/docs")
    expect(page.locator(".opblock").first).to_be_visible(timeout=WAIT_MS)
    expect(page.locator("[data-path='/v1/audio/transcriptions']").first).to_be_visible(timeout=WAIT_MS)
    page.click(".opblock:has([data-path='/livez']) button.opblock-summary-control")
    page.click(".opblock:has([data-path='/livez']) .try-out__btn")
    page.click(".opblock:has([data-path='/livez']) .execute")
    expect(page.locator(".opblock:has([data-path='/livez']) .live-responses-table")).to_contain_text(
        "alive", timeout=WAIT_MS
    )


def test_waiting_uploads_say_where_their_answers_will_be(behind: tuple[Server, str]) -> None:
    server, url = behind
    assert httpx.put(f"{server.url}/v1/automation/default", json=PEOPLE_ONLY).status_code == 200
    from tests.sounds import EXPECTED, SAMPLES

    files = {"file": (SAMPLES / EXPECTED[SPOKEN[0]]["file"]).read_bytes()}
    answer = httpx.post(f"{url}/v1/audio/transcriptions", data={"model": "default"}, files=files, timeout=PATIENCE_S)
    assert answer.status_code == 202
    assert answer.headers["location"] == answer.json()["status_url"]
    assert answer.json()["status_url"].startswith("/tools/asr/v1/audio/transcriptions/")
    assert httpx.get(httpx.URL(url).join(answer.json()["status_url"])).status_code == 202
