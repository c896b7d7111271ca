"""The rollout on the dashboard, in a real Chromium: what it shows is what the API says, and it can be ended there."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import StartServer
from tests.control.rollout.cards import write
from tests.control.rollout.test_serving import Client, canary, plan
from tests.interfaces.web.chromium import needs_chromium
from tests.patience import PATIENCE_S

pytestmark = needs_chromium


@pytest.fixture
def client(start_server: StartServer, tmp_path: Path) -> Client:
    write(tmp_path, "same")
    return Client(start_server(bundle="scripted", workers="1", live_workers="1", models_dir=str(tmp_path)))


def test_a_rollout_is_seen_and_rolled_back_with_one_click_and_a_reason(client: Client, page: Page) -> None:
    with client.http:
        page.goto(client.server.url + "/")
        expect(page.locator("[data-alias=champion]")).to_have_text("scripted@1.0.0")
        assert page.locator("[data-act]").count() == 0, "there is nothing to act on"
        client.start(plan("same", canary(0.5)).replace('approval = "none"', 'approval = "steps"'))
        client.warm("same@1.0.0")
        client.traffic(12)
        sessions = {
            arm["arm"]: arm["sessions"]
            for arm in client.until(lambda found: sum(arm["sessions"] for arm in found["rollout"]["arms"]) == 12)[
                "rollout"
            ]["arms"]
        }
        for arm, count in sessions.items():
            expect(page.locator(f"[data-arm-sessions={arm}]")).to_have_text(str(count), timeout=PATIENCE_S * 1000)
        expect(page.locator("[data-rollout=judgement]")).to_have_text("hold")
        more = client.status()["rollout"]["evidence"]["more_sessions"]
        expect(page.locator("[data-rollout=more]")).to_have_text("unknown" if more is None else str(more))
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator("#status")).to_contain_text("needs a reason")
        page.locator("#rollout").get_by_label("Reason").fill("it sounds odd")
        page.get_by_role("button", name="Roll back").click()
        expect(page.locator("[data-rollout=status]")).to_have_text("rolled back")
        expect(page.locator("[data-rollout=reason]")).to_have_text("it sounds odd")
        assert client.status()["rollout"]["status"] == "rolled_back"
        assert set(client.traffic(4)) == {"scripted@1.0.0"}
        page.get_by_text("history").click()
        expect(page.get_by_role("cell", name="it sounds odd")).to_be_visible()
        # Arms side by side, in the report below.
        expect(page.locator("[data-arm=canary]")).to_have_text(str(sessions["canary"]), timeout=PATIENCE_S * 1000)
