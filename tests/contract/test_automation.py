"""Degrees of automation over HTTP: nobody switches the service off with one click, and a key is no tenant's name."""

import re
from collections.abc import Iterator

import httpx
import pytest

from speechpipe.foundation.tenants import tenant_of
from tests.conftest import Server, StartServer
from tests.control.review.service import ReviewClient
from tests.patience import PATIENCE_S


@pytest.fixture(scope="module")
def running(start_server: StartServer) -> Server:
    return start_server(
        bundle="scripted", workers="1", live_workers="1", api_keys='["acme-key"]', operator_keys='["operator-key"]'
    )


@pytest.fixture
def operator(running: Server) -> Iterator[httpx.Client]:
    with httpx.Client(
        base_url=running.url, timeout=PATIENCE_S, headers={"Authorization": "Bearer operator-key"}
    ) as client:
        yield client


def put(client: httpx.Client, scope: str, **wanted: object) -> tuple[int, str, str]:
    """Return status, code and message or scope."""
    answer = client.put(f"/v1/automation/{scope}", json=wanted)
    error = answer.json().get("error", {})
    return answer.status_code, error.get("code", ""), error.get("message", "") or answer.json()["scope"]


def test_less_automation_for_everybody_takes_a_reason_and_a_second_look(
    operator: httpx.Client, running: Server
) -> None:
    reviews = ReviewClient(running, "acme-key")
    assert reviews.upload().status_code == 200
    assert put(operator, "default", degree="human_only")[:2] == (400, "missing_reason")
    status, code, message = put(operator, "default", degree="human_only", reason="a drill")
    assert (status, code) == (400, "unconfirmed")
    assert "from full to human_only" in message
    assert re.search(r"[1-9]\d* uploads \(all wait for a reviewer\) and \d+ live sessions \(refused\)", message)
    assert reviews.upload().status_code == 200, "nothing was changed"
    asked = operator.get("/v1/automation/effect", params={"scope": "default", "degree": "human_only"}).json()
    assert asked["confirm"] is True
    assert "from full to human_only" in asked["effect"]
    calm = operator.get("/v1/automation/effect", params={"scope": "default", "degree": "full"}).json()
    assert calm == {"effect": "", "confirm": False}
    assert operator.get("/v1/automation/effect", params={"scope": "default", "degree": "alone"}).status_code == 400
    assert put(operator, "default", degree="human_only", reason="a drill", confirm=True)[0] == 200
    assert reviews.upload().status_code == 202
    assert put(operator, "default", degree="full")[0] == 200, "more automation needs no second look"
    assert reviews.upload().status_code == 200
    reviews.http.close()


def test_a_key_as_scope_is_its_tenant_and_stands_nowhere(operator: httpx.Client, running: Server) -> None:
    assert put(operator, "acme-key", degree="assist") == (200, "", tenant_of("acme-key"))
    reviews = ReviewClient(running, "acme-key")
    assert reviews.upload().status_code == 202
    status, code, message = put(operator, "some-key-of-nobody", degree="assist")
    assert (status, code) == (404, "unknown_tenant")
    assert "some-key-of-nobody" not in message
    assert put(operator, "DEFAULT", degree="full")[:2] == (404, "unknown_tenant")
    assert put(operator, "new-tenant", degree="assist", force=True) == (200, "", "new-tenant")
    assert put(operator, "default", degree="full", reason="as acme-key asked")[:2] == (400, "invalid_parameter")
    for path in ("/v1/automation", "/v1/automation/history", "/v1/automation/panel"):
        assert "acme-key" not in operator.get(path).text
    assert put(operator, tenant_of("acme-key"), degree="full")[0] == 200
    reviews.http.close()


def test_the_form_offers_what_holds(operator: httpx.Client) -> None:
    def offered() -> str:
        page = operator.get("/v1/automation/panel").text
        (found,) = re.findall(r'<option value="(\w+)" selected>', page)
        assert 'name="why"' in page
        assert re.search(r'<input name="why"[^>]* required>', page)
        return str(found)

    assert put(operator, "default", degree="full")[0] == 200
    assert offered() == "full"
    assert put(operator, "default", degree="partial", reason="a drill", confirm=True)[0] == 200
    assert offered() == "partial"
    assert put(operator, "default", degree="full")[0] == 200
