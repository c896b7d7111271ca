"""The form for degrees of automation, in a real Chromium: one click changes nothing that matters."""

import httpx
import pytest
from playwright.sync_api import Dialog, Page, expect

from tests.conftest import Server, StartServer
from tests.interfaces.web.chromium import needs_chromium

pytestmark = needs_chromium


@pytest.fixture
def fresh(start_server: StartServer) -> Server:
    return start_server(bundle="scripted", workers="1", live_workers="1")


def degrees(server: Server) -> dict[str, str]:
    return {row["scope"]: row["degree"] for row in httpx.get(f"{server.url}/v1/automation").json()["scopes"]}


@pytest.mark.long
def test_the_service_is_not_switched_off_with_one_click(fresh: Server, page: Page) -> None:
    page.goto(fresh.url + "/")
    form = page.get_by_role("form", name="Degree of automation")
    expect(form.get_by_label("degree")).to_have_value("full")
    form.get_by_role("button", name="Set").click()  # the browser asks for a reason first
    assert degrees(fresh) == {}
    form.get_by_label("degree").select_option("human_only")
    form.get_by_role("button", name="Set").click()
    assert degrees(fresh) == {}
    asked: list[str] = []

    def refuse(dialog: Dialog) -> None:
        asked.append(dialog.message)
        dialog.dismiss()

    page.once("dialog", refuse)
    form.get_by_label("reason").fill("a drill")
    form.get_by_role("button", name="Set").click()
    expect(form.locator("output")).to_have_text("nothing was changed")
    assert "default goes from full to human_only" in asked[0]
    assert degrees(fresh) == {}
    page.once("dialog", lambda dialog: dialog.accept())
    form.get_by_role("button", name="Set").click()
    expect(page.locator("[data-degree=default]")).to_have_text("human only")
    assert degrees(fresh) == {"default": "human_only"}
    expect(page.get_by_role("form", name="Degree of automation").get_by_label("degree")).to_have_value("human_only")
