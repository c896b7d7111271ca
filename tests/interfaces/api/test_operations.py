"""Every route: who may call it, what its body may be, and that the OpenAPI document says the same."""

import json
import re
from typing import Any

import pytest
from fastapi import APIRouter
from starlette.testclient import TestClient

from speechpipe.app import build
from speechpipe.config import Settings
from speechpipe.interfaces.api.access import Body, Operation, Role, operations_of
from speechpipe.interfaces.api.app import create_app
from speechpipe.interfaces.api.edge import Edge
from speechpipe.interfaces.api.openapi import statuses
from speechpipe.serving.live.manager import StreamManager

KEYS = {"api": "an-api-key", "operator": "an-operators-key", "reviewer": "a-reviewers-key"}
OPENS = {
    Role.OPEN: {"api", "operator", "reviewer", "none", "wrong"},
    Role.CALLER: {"api"},
    Role.READER: {"api", "operator"},
    Role.REVIEWER: {"api", "operator", "reviewer"},
    Role.OPERATOR: {"operator"},
}
PUBLIC = {"/", "/runbook", "/health", "/live", "/live/{name}", "/review", "/docs", "/docs/{name}", "/openapi.json"}
PROBES = {"/livez", "/readyz", "/metrics"}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> TestClient:
    """The application without its service: what is refused, is refused before that is needed."""
    settings = Settings(
        bundle="scripted",
        state_dir=tmp_path_factory.mktemp("state"),
        api_keys=[KEYS["api"]],
        operator_keys=[KEYS["operator"]],
        reviewer_keys=[KEYS["reviewer"]],
    )
    service = build(settings, live=True)
    return TestClient(create_app(service, StreamManager(service), lambda _: None), raise_server_exceptions=False)


def operations(client: TestClient) -> list[Operation]:
    """What the application's outermost layer knows of."""
    app: Any = client.app
    edge = next(item for item in app.user_middleware if item.cls is Edge)
    found: list[Operation] = edge.kwargs["operations"]
    return found


def ask(client: TestClient, operation: Operation, key: str = "none", **more: Any) -> Any:
    path = re.sub(r"\{number\}", "1", operation.template)
    path = re.sub(r"\{\w+\}", "x", path)
    headers = {} if key == "none" else {"authorization": f"Bearer {KEYS.get(key, 'no-such-key')}"}
    (method,) = operation.methods
    return client.request(method, path, headers=headers | more.pop("headers", {}), **more)


def test_every_role_opens_what_it_should_and_nothing_else(client: TestClient) -> None:
    for operation in operations(client):
        opens = OPENS[operation.access.role]
        for key in ("none", "wrong", *KEYS):
            status = ask(client, operation, key).status_code
            assert (status == 401) == (key not in opens), f"{operation.methods} {operation.template} as {key}: {status}"


def test_only_pages_and_probes_are_open(client: TestClient) -> None:
    found = {item.template for item in operations(client) if item.access.role is Role.OPEN}
    assert found == PUBLIC | PROBES


def test_what_changes_something_is_an_operators_or_about_ones_own(client: TestClient) -> None:
    about_ones_own = {"/v1/audio/transcriptions", "/v1/audio/translations", "/v1/feedback"}
    for operation in operations(client):
        if operation.methods & {"POST", "PUT", "DELETE", "PATCH"}:
            reviews = operation.template.startswith("/v1/reviews")
            wanted = Role.REVIEWER if reviews else Role.OPERATOR
            if operation.template in about_ones_own:
                wanted = Role.CALLER
            assert operation.access.role is wanted, operation.template


def test_documents_of_another_type_or_too_large_are_refused(client: TestClient) -> None:
    for operation in operations(client):
        rule = operation.access.body.value
        if rule.kind != "document":
            continue
        key = next(key for key in ("operator", "api") if key in OPENS[operation.access.role])
        for headers in ({}, {"content-type": "text/plain"}, {"content-type": "application/x-www-form-urlencoded"}):
            answer = ask(client, operation, key, content=b"{}", headers=headers)
            assert (answer.status_code, answer.json()["error"]["code"]) == (415, "unsupported_content_type")
        json_ = {"content-type": "application/json"}
        answer = ask(client, operation, key, content=b" " * (rule.most_bytes + 1), headers=json_)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "body_too_large"), operation.template
        answer = ask(client, operation, key, content=(b" " * 10_000 for _ in range(1000)), headers=json_)
        assert answer.status_code == 413, operation.template
        for broken in (b"[" * 10_000, b'{"reason": "\\u0000"}' if operation.access.body is not Body.IMPORT else b"{"):
            assert 400 <= ask(client, operation, key, content=broken, headers=json_).status_code < 500


def test_pages_of_other_origins_change_nothing(client: TestClient) -> None:
    for operation in operations(client):
        answer = ask(client, operation, headers={"origin": "https://evil.example"})
        changes = not operation.methods <= {"GET"}
        assert (answer.status_code == 403) == changes, operation.template


def test_no_route_answers_for_a_foreign_host(client: TestClient) -> None:
    for operation in operations(client):
        assert ask(client, operation, headers={"host": "evil.example"}).status_code == 421, operation.template


def test_every_answer_forbids_frames_and_guesses(client: TestClient) -> None:
    for operation in operations(client):
        headers = ask(client, operation).headers
        assert "frame-ancestors 'none'" in headers["content-security-policy"], operation.template
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"


def test_errors_of_all_kinds_have_the_same_shape(client: TestClient) -> None:
    answers = [client.get("/nothing"), client.delete("/livez"), client.get("/v1/models", headers={"host": "a b"})]
    answers += [client.get("/" + "a" * 5000), client.get("/live/" + "a" * 500 + ".js"), client.get("/v1/a%00b")]
    answers += [client.get("/docs/../../etc/passwd"), client.get("/docs/core.py"), client.get("/v1/models/%FF%FE")]
    answers += [client.get("/livez?x=%00"), client.get("/v1/models/")]
    for answer in answers:
        assert 400 <= answer.status_code < 500
        assert set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_numbers_out_of_range_are_no_failure_of_the_server(client: TestClient) -> None:
    headers = {"authorization": f"Bearer {KEYS['operator']}"}
    for number in ("9" * 30, str(2**63), "-1", "0", "1.5", "x", "٣"):
        for act in ("stop", "resume"):
            answer = client.post(f"/v1/retrain/{number}/{act}", headers=headers, json={"reason": ""})
            assert answer.status_code in (400, 404) or number == "٣", number


def test_options_and_head(client: TestClient) -> None:
    answer = client.options("/v1/retrain")
    assert (answer.status_code, answer.headers["allow"]) == (204, "GET, HEAD, OPTIONS, POST")
    assert client.options("/nothing").status_code == 404
    preflight = {"origin": "https://app.example", "access-control-request-method": "POST"}
    assert client.options("/v1/retrain", headers=preflight).status_code == 403
    for operation in operations(client):
        if operation.access.role is Role.OPEN and "{" not in operation.template and operation.template != "/readyz":
            assert client.head(operation.template).status_code == client.get(operation.template).status_code == 200


def test_every_route_declares_its_access() -> None:
    router = APIRouter()
    router.add_api_route("/x", lambda: None)
    with pytest.raises(ValueError, match=r"\['GET'\] /x declares no access"):
        operations_of([router])


def test_the_document_has_every_status_and_who_may_call(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    assert document["components"]["securitySchemes"]["apiKey"]["scheme"] == "bearer"
    listed = {(path, method) for path, methods in document["paths"].items() for method in methods}
    for operation in operations(client):
        for method in operation.methods:
            if not operation.shown:
                assert operation.template in PUBLIC or operation.template.endswith(("/panel", "/page"))
                continue
            listed.remove((operation.template, method.lower()))
            shown = document["paths"][operation.template][method.lower()]
            assert {str(status) for status in statuses(operation)} <= set(shown["responses"])
            assert "422" not in shown["responses"]
            assert (shown["security"] == []) == (operation.access.role is Role.OPEN)
            assert (operation.access.body is Body.NONE) == ("requestBody" not in shown), operation.template
    assert not listed
    assert set(document["paths"]["/metrics"]["get"]["responses"]["200"]["content"]) == {"text/plain"}


def test_nothing_in_the_document_points_nowhere(client: TestClient) -> None:
    document = client.get("/openapi.json").json()
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document))):
        found: Any = document
        for part in reference.split("/"):
            found = found[part]
        assert found


def test_the_document_stands_under_the_prefix_of_a_proxy(client: TestClient) -> None:
    assert "servers" not in client.get("/openapi.json").json()
    answer = client.get("/openapi.json", headers={"x-forwarded-prefix": "/asr/"})
    assert answer.json()["servers"] == [{"url": "/asr"}]
    for bad in ("//evil.example", "/a b", "/<script>", "asr", "/" + "a" * 300):
        assert "servers" not in client.get("/openapi.json", headers={"x-forwarded-prefix": bad}).json()
    assert "servers" not in client.get("/openapi.json").json()


def test_a_path_that_a_route_names_fits_no_other_route(client: TestClient) -> None:
    headers = {"authorization": f"Bearer {KEYS['operator']}"}
    for method, path in (("GET", "/v1/reviews/claim"), ("PUT", "/v1/automation/history"), ("POST", "/v1/rollout/plan")):
        answer = client.request(method, path, headers=headers, json={})
        assert (answer.status_code, answer.json()["error"]["code"]) == (405, "method_not_allowed")
        assert answer.headers["allow"] == client.options(path).headers["allow"]
        assert method not in answer.headers["allow"].split(", ")
