"""HTTP routes of the health report, the dashboard, feedback and alarms."""

import json
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, model_validator

from speechpipe.cascade.evaluation.scores import edit_share
from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.service import reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.interfaces.api.access import Body, Role, access, also, name, who
from speechpipe.interfaces.api.errors import shown_failure
from speechpipe.interfaces.api.pages import HEADERS
from speechpipe.interfaces.web import health as health_page
from speechpipe.monitor.report import Filters, Report
from speechpipe.serving.health import documents as health_documents
from speechpipe.serving.health.service import Feedback, monitoring_of
from speechpipe.serving.service import Service

SENT_POLICY = "default-src 'none'; style-src 'unsafe-inline'"
"""For a page that is sent as a file: inline styles only, no scripts."""

MOST_MINUTES = 400 * 1440

Minutes = Annotated[float, Query(gt=0, le=MOST_MINUTES)]
Caller = Annotated[Reviewer, Depends(who)]


class FeedbackBody(BaseModel):
    """A user's feedback on an utterance or a session."""

    model_config = ConfigDict(extra="forbid")

    kind: Literal["redo", "switch_to_typing", "abandon", "correction", "rating"]
    utterance_id: str = Field("", max_length=80)
    session_id: str = Field("", max_length=64)
    text: str | None = Field(None, max_length=20_000, description="For a correction: what was said.")
    was: str | None = Field(None, max_length=20_000, description="For a correction: the transcript that is corrected.")
    value: float | None = Field(None, ge=0, le=5, allow_inf_nan=False, description="For a rating.")

    @model_validator(mode="after")
    def _fits(self) -> "FeedbackBody":
        if bool(self.utterance_id) == bool(self.session_id):
            raise ValueError("give either utterance_id or session_id")
        if self.kind == "rating" and self.value is None:
            raise ValueError("a rating needs a value")
        if self.kind == "correction" and self.text is None:
            raise ValueError("a correction needs the text")
        return self


class Asked:
    """The query parameters of a report. A dependency."""

    def __init__(
        self,
        minutes: Minutes = 60,
        tenant_class: Annotated[str, Query(max_length=16)] = "",
        channel: Annotated[str, Query(max_length=16)] = "",
        bundle: Annotated[str, Query(max_length=97)] = "",
        arm: Annotated[str, Query(max_length=16)] = "",
    ) -> None:
        self.seconds = minutes * 60
        self.filters = Filters(tenant_class or None, channel or None, bundle or None, arm or None)


def router(service: Service) -> APIRouter:
    """Return the routes. Those under /v1 require a key, if any are configured."""
    routes = APIRouter()

    def report(asked: Annotated[Asked, Depends()]) -> Report:
        return monitoring_of(service).operations.report(asked.seconds, asked.filters)

    @routes.get("/v1/health/report", response_model=None, responses=also("text/html"))
    @access(Role.REVIEWER, 503)
    def health_report(
        found: Annotated[Report, Depends(report)],
        caller: Caller,
        format: Literal["json", "html"] = "json",  # noqa: A002
    ) -> Response:
        """Return the report as JSON, or with `format=html` as a self-contained page."""
        if format == "html":
            file = "speechpipe-health.html"
            headers = {"Content-Disposition": f"inline; filename={file}", "Content-Security-Policy": SENT_POLICY}
            return HTMLResponse(health_page.whole(found, _people(service, found, caller)), headers=headers)
        document = health_documents.document(found, _people(service, found, caller))
        if document["server"].get("store_failure"):
            document["server"]["store_failure"] = shown_failure(document["server"]["store_failure"])
        return JSONResponse(document)

    @routes.get("/v1/health/page", include_in_schema=False)
    @access(Role.REVIEWER, 503)
    def page(found: Annotated[Report, Depends(report)], caller: Caller) -> Response:
        bundles = json.dumps(sorted({row.bundle for row in found.bundles}))
        return HTMLResponse(
            health_page.body(found, _people(service, found, caller), live=True),
            headers={"x-speechpipe-bundles": bundles},
        )

    @routes.get("/", include_in_schema=False)
    @access(Role.OPEN)
    def dashboard() -> Response:
        return HTMLResponse(health_page.dashboard("dashboard", 15, rollouts=True), headers=HEADERS)

    @routes.get("/health", include_in_schema=False)
    @access(Role.OPEN)
    def health() -> Response:
        return HTMLResponse(health_page.dashboard("health"), headers=HEADERS)

    _alarms(routes, service)
    _feedback(routes, service)
    return routes


def _alarms(routes: APIRouter, service: Service) -> None:
    @routes.get("/v1/alarms")
    @access(Role.REVIEWER, 503)
    def alarms(asked: Annotated[Asked, Depends()]) -> dict[str, Any]:
        """List open alarms, and those resolved within the period."""
        found = monitoring_of(service).operations.report(asked.seconds, asked.filters)
        return {"alarms": [health_documents.alarm(alarm) for alarm in found.facts.alarms]}

    @routes.post("/v1/alarms/{alarm_id}/acknowledge")
    @access(Role.OPERATOR, 404, 503)
    def acknowledge(
        alarm_id: Annotated[str, Path(max_length=200)], actor: Annotated[str, Depends(name)]
    ) -> dict[str, Any]:
        """Acknowledge an alarm. For operators, because it affects all users of the server."""
        found = monitoring_of(service).operations.acknowledge(alarm_id, actor)
        return health_documents.alarm(found[0])

    @routes.post("/v1/incidents/{incident_id}/acknowledge")
    @access(Role.OPERATOR, 404, 503)
    def acknowledge_all(
        incident_id: Annotated[str, Path(max_length=200)], actor: Annotated[str, Depends(name)]
    ) -> dict[str, Any]:
        """Acknowledge all open alarms of an incident; they are listed in the answer."""
        found = monitoring_of(service).operations.acknowledge(incident_id, actor)
        return {"alarms": [health_documents.alarm(alarm) for alarm in found]}


def _feedback(routes: APIRouter, service: Service) -> None:
    @routes.post("/v1/feedback", status_code=201)
    @access(Role.CALLER, 404, 503, body=Body.JSON)
    def feedback(body: FeedbackBody, tenant: Annotated[str, Depends(name)]) -> dict[str, Any]:
        """Store feedback on an utterance or session before answering."""
        value = body.value
        if body.kind == "correction" and body.text is not None and body.was is not None:
            value = edit_share(body.text, body.was)
        given = Feedback(body.kind, body.utterance_id, body.session_id, value, tenant)
        record = monitoring_of(service).feedback(given)
        return {
            "id": record.id,
            "kind": record.outcome,
            "session_id": record.session_id,
            "bundle": f"{record.bundle}@{record.bundle_version}",
            "stages": dict(record.versions),
            "value": value,
        }


def _people(service: Service, found: Report, who: Reviewer) -> dict[str, Any] | None:
    """Return the review statistics since the report's start. They contain words, so a tenant gets only its own."""
    if service.reviews is None:
        return None
    reviewing = reviewing_of(service)
    policy = reviewing.policy_cache.policy(who.tenant or "")
    asked = {"bound": policy.bound, "delta": policy.delta}
    return review_documents.people(reviewing.operations.people(found.facts.since, **asked, tenant=who.tenant))
