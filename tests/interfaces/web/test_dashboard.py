"""The dashboard in a real Chromium: what it shows is what the API says."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server, StartServer
from tests.contract.test_health import SPOKEN, report, until, upload
from tests.interfaces.web.chromium import needs_chromium
from tests.patience import PATIENCE_S

pytestmark = needs_chromium


@pytest.fixture(scope="module")
def watched(start_server: StartServer) -> Server:
    server = start_server(bundle="scripted", workers="1", live_workers="1")
    for name in SPOKEN[:2]:
        upload(server, name)
    until(lambda: report(server)["traffic"]["sessions"] == 2)
    return server


def test_the_numbers_are_the_apis(watched: Server, page: Page) -> None:
    page.goto(watched.url + "/")
    expect(page.locator("#verdict")).to_have_text("not watched")
    page.uncheck("[name=follow]")
    until(lambda: page.locator("[data-metric='vad.segment_s']").count() == 1)
    since, until_ = (page.locator("section[data-since]").get_attribute(f"data-{name}") for name in ("since", "until"))
    assert float(until_ or 0) - float(since or 0) == pytest.approx(900)
    api = report(watched, minutes=15)
    metrics = {metric["name"]: metric for stage in api["stages"] for metric in stage["metrics"]}
    shown = page.locator("td[data-metric]")
    assert shown.count() == len(metrics)
    for cell in shown.all():
        metric = metrics[cell.get_attribute("data-metric") or ""]
        exact = cell.get_attribute("data-exact")
        if metric["name"].startswith(("software.", "system.")):
            continue  # what the server says of itself moves on between the two requests
        assert (None if exact == "None" else float(exact or "nan")) == pytest.approx(metric["value"])
    assert page.locator("[data-value='traffic.utterances']").text_content() == str(api["traffic"]["utterances"])


def test_it_updates_by_itself_and_filters(watched: Server, page: Page) -> None:
    page.goto(watched.url + "/")
    utterances = page.locator("[data-value='traffic.utterances']")
    expect(utterances).to_have_text(re.compile(r"\d"))
    before = int(utterances.text_content() or 0)
    upload(watched, SPOKEN[2])
    expect(utterances).not_to_have_text(str(before), timeout=PATIENCE_S * 1000)
    page.select_option("[name=channel]", "listen")
    expect(page.locator("#verdict")).to_have_text("no data")
    page.select_option("[name=channel]", "upload")
    expect(page.locator("#verdict")).to_have_text("not watched")
    expect(page.locator("[name=bundle] option")).to_have_count(2)


def test_it_fits_a_phone_and_works_with_the_keyboard(watched: Server, page: Page) -> None:
    page.goto(watched.url + "/health")
    expect(page.locator("#verdict")).to_have_text("not watched")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator("summary").first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("details").first).to_have_attribute("open", "")
    assert page.locator("svg[role=img][aria-label]").count() > 5
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != dark


def test_the_policy_lets_nothing_else_in(watched: Server) -> None:
    for path in ("/", "/health"):
        policy = httpx.get(watched.url + path).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe-inline" not in policy
