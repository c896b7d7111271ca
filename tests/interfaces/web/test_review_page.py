"""The review page in a real Chromium, from the claim to the export."""

import json
import re
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.conftest import Server, StartServer
from tests.interfaces.web.chromium import needs_chromium
from tests.patience import PATIENCE_S

pytestmark = needs_chromium

SAMPLES = Path(__file__).parents[3] / "audio_samples"


@pytest.fixture
def server(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1")


def upload(server: Server, name: str, **fields: str) -> str:
    """Upload a file that a person must answer; return where the answer will be."""
    path = next(SAMPLES.glob(f"{name}.*"))
    answer = httpx.post(
        f"{server.url}/v1/audio/transcriptions",
        files={"file": (path.name, path.read_bytes())},
        data={"model": "default", **fields},
        timeout=PATIENCE_S,
    )
    assert answer.status_code == 202, answer.text
    return f"{server.url}{answer.json()['status_url']}"


def policy(server: Server, **changes: object) -> None:
    assert (
        httpx.put(
            f"{server.url}/v1/automation/default", json={"reason": "a test", "confirm": True, **changes}
        ).status_code
        == 200
    )


def texts(page: Page) -> list[str]:
    return [field.input_value() for field in page.locator("#segments textarea").all()]


def test_a_person_reviews_from_the_claim_to_the_export(server: Server, page: Page) -> None:
    policy(server, degree="assist", audit_share=0.0, doubt=0.7)
    first = upload(server, "sentence_slt")
    second = upload(server, "digits", response_format="text")
    page.goto(f"{server.url}/review")
    page.get_by_label("Name").fill("Ann <b>")
    page.get_by_role("button", name="Take the next").click()
    task = page.locator("#task[data-id]")
    expect(task).to_be_visible(timeout=PATIENCE_S * 1000)
    expect(page.locator("#progress")).to_have_text("0 done, 1 in work, 1 waiting")
    # The machine's draft, its doubtful words marked and jumped to.
    drafted = texts(page)
    assert all(drafted)
    marked = page.locator(".machine button.doubtful")
    assert marked.count() > 0
    page.keyboard.press("Alt+KeyD")
    word = marked.first.inner_text()
    expect(page.locator("#status")).to_contain_text(f": {word}")
    assert page.evaluate("document.activeElement.tagName") == "TEXTAREA"
    chosen = page.evaluate(
        "(() => { const t = document.activeElement; return t.value.slice(t.selectionStart, t.selectionEnd) })()"
    )
    assert chosen == word
    selected = page.evaluate("document.activeElement.selectionStart")
    assert texts(page)[0][:selected].split() == [] or texts(page)[0][selected - 1] == " ", "a whole word"
    # It sounds: the cursor moves, at another speed.
    page.get_by_label("speed").select_option("2")
    page.keyboard.press("Alt+KeyR")
    expect(page.locator("#play")).to_have_text("Pause")
    expect(page.locator("#clock")).to_have_text(re.compile(r"^[1-9]"), timeout=PATIENCE_S * 1000)
    assert page.evaluate("document.querySelector('#audio').playbackRate") == 2
    expect(page.locator("#play")).to_have_text("Play", timeout=PATIENCE_S * 1000)
    # Split in the middle, merge again: no word is lost.
    page.evaluate("document.querySelector('#audio').currentTime = 1.0")
    page.keyboard.press("Alt+KeyS")
    halves = texts(page)
    assert len(halves) == len(drafted) + 1
    assert " ".join(halves).split() == " ".join(drafted).split()
    page.keyboard.press("Alt+KeyM")
    assert texts(page) == drafted
    page.locator("#segments textarea").first.fill("what <i>was</i> said")
    # What is typed is kept: leave in the middle, come back.
    with page.expect_response(re.compile("/renew$")) as kept:
        pass
    assert kept.value.ok
    page.reload()
    expect(page.locator("#segments textarea").first).to_have_value("what <i>was</i> said", timeout=PATIENCE_S * 1000)
    identity = task.get_attribute("data-id")
    page.locator("#segments textarea").first.focus()
    page.keyboard.press("Control+Enter")
    expect(page.locator("#progress")).to_have_text("1 done, 1 in work, 0 waiting", timeout=PATIENCE_S * 1000)
    assert task.get_attribute("data-id") != identity
    # The second: nothing may be left without an answer; then it is marked as no speech.
    page.locator("#segments textarea").first.fill("")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#status")).to_contain_text("has no text")
    for number in range(len(texts(page))):
        page.locator("#segments textarea, #segments select").nth(2 * number).focus()
        page.locator("#segments select").nth(number).select_option("no_speech")
    page.get_by_role("button", name="Submit").click()
    expect(page.locator("#status")).to_have_text("there is nothing to review", timeout=PATIENCE_S * 1000)
    # What the client gets, and what is exported.
    answers = {url: httpx.get(url) for url in (first, second)}
    assert [answer.status_code for answer in answers.values()] == [200, 200]
    whole = answers[first].json()
    assert whole["text"].startswith("what <i>was</i> said")
    assert (whole["speechpipe"]["degree"], whole["speechpipe"]["author"]) == ("assist", "both")
    assert answers[second].text == "\n"
    lines = httpx.get(f"{server.url}/v1/reviews/export?format=manifest").text.splitlines()
    assert json.loads(lines[0])["text"] == "what <i>was</i> said"
    assert json.loads(lines[0])["reviewer"] == "Ann <b> (anonymous)"
    report = httpx.get(f"{server.url}/v1/reviews/report").json()
    assert report["work_s"] > 0
    assert report["bundles"][0]["bundle"] == "scripted@1.0.0"
    wer = report["bundles"][0]["wer"]["value"]
    assert wer > 0
    page.goto(f"{server.url}/")
    shown = page.locator("[data-people=wer]")
    expect(shown).to_have_text(f"{wer:.1%}", timeout=PATIENCE_S * 1000)
    assert float(shown.get_attribute("data-exact") or "nan") == pytest.approx(wer)


def test_the_dashboard_shows_and_sets_the_degree(server: Server, page: Page) -> None:
    page.goto(f"{server.url}/")
    expect(page.locator("#people")).to_contain_text("No degree was set", timeout=PATIENCE_S * 1000)
    page.locator("#people [name=degree]").select_option("assist")
    page.locator("#people [name=why]").fill("the first <week>")
    page.once("dialog", lambda dialog: dialog.accept())  # less automation for everybody is asked about
    page.get_by_role("button", name="Set").click()
    expect(page.locator("[data-degree=default]")).to_have_text("assist", timeout=PATIENCE_S * 1000)
    upload(server, "digits")
    expect(page.locator("[data-reviews=open]")).to_have_text("1", timeout=PATIENCE_S * 1000)
    page.get_by_text("history of degrees").click()
    expect(page.get_by_role("cell", name="the first <week>")).to_be_visible()
