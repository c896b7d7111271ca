"""HTTP routes of retrainings: list, request, stop, resume."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from speechpipe.control.training import Kind, Request
from speechpipe.control.training.documents import row
from speechpipe.control.training.service import TrainingService
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.interfaces.api.access import Body, Role, access, name
from speechpipe.interfaces.api.errors import shown_failure
from speechpipe.interfaces.web import health as health_page
from speechpipe.serving.service import Service

Actor = Annotated[str, Depends(name)]
Number = Annotated[int, Path(ge=1, lt=2**63)]


class Asked(BaseModel):
    """A request for a retraining from reviews. Manifests can only be given on the command line."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    bundle: str = Field("", max_length=97)
    tenant: str = Field("", max_length=128)
    since: float = Field(0.0, ge=0, le=1e11, allow_inf_nan=False)
    reason: str = Field("", max_length=500)


class StopBody(BaseModel):
    """The reason for stopping."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)


def router(service: Service, retraining: TrainingService) -> APIRouter:
    """Return the routes. Reading accepts an API key; changes need an operator's, if any are configured."""
    routes = APIRouter(prefix="/v1/retrain")

    def shown() -> dict[str, Any]:
        with translating_store_errors():
            jobs = retraining.operations.jobs.listed()
        facts = retraining.facts()
        facts["failure"] = shown_failure(str(facts["failure"]))
        return {"retrainings": [row(job) for job in jobs], **facts}

    @routes.get("")
    @access(Role.READER, 503)
    def listed() -> dict[str, Any]:
        """List retrainings, newest first, and the policy's present decision."""
        return shown()

    @routes.get("/panel", include_in_schema=False)
    @access(Role.READER, 503)
    def panel() -> Response:
        return HTMLResponse(health_page.retraining_panel(shown()))

    @routes.post("", status_code=201)
    @access(Role.OPERATOR, 404, 409, 503, body=Body.JSON)
    def ask(asked: Asked, who: Actor) -> dict[str, Any]:
        """Request a retraining from reviews. The candidate's rollout starts in shadow."""
        bundle = asked.bundle or service.engine.champion.id
        request = Request(
            asked.kind, bundle, tenant=asked.tenant, since=asked.since, by=who or "operator", reason=asked.reason
        )
        return row(retraining.operations.ask(request))

    @routes.post("/{number}/stop")
    @access(Role.OPERATOR, 404, 409, 503, body=Body.JSON)
    def stop(number: Number, why: StopBody, who: Actor) -> dict[str, Any]:
        """Stop a retraining; it keeps its last checkpoint."""
        with translating_store_errors():
            return row(retraining.operations.jobs.stop(number, who or "operator", why.reason))

    @routes.post("/{number}/resume")
    @access(Role.OPERATOR, 404, 409, 503)
    def resume(number: Number, who: Actor) -> dict[str, Any]:
        """Continue a retraining that was stopped or has failed."""
        with translating_store_errors():
            return row(retraining.operations.jobs.again(number, who or "operator"))

    return routes
