"""Retrainings over HTTP: what was done and why, asking for one, stopping one."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Header
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from speechpipe import health_page
from speechpipe.api import auth
from speechpipe.monitor.database import reachable
from speechpipe.retrain import Kind, Request
from speechpipe.retrain_document import row
from speechpipe.retraining import Retraining
from speechpipe.service import Service

Authorization = Annotated[str | None, Header()]


class Asked(BaseModel):
    """What is to be retrained, from reviews. Manifests are for the command line: a client names no files here."""

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    bundle: str = Field("", max_length=97)
    tenant: str = Field("", max_length=128)
    since: float = Field(0.0, ge=0)
    reason: str = Field("", max_length=500)


class Why(BaseModel):
    """Why somebody does it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)


def router(service: Service, retraining: Retraining) -> APIRouter:
    """Return the routes. Looking needs an API key, asking and stopping an operator's, where the server has any."""
    routes = APIRouter(prefix="/v1/retrain")

    def reader(authorization: Authorization = None) -> str:
        settings = service.settings
        return auth.caller(authorization, [*settings.api_keys, *settings.operator_keys] if settings.api_keys else [])

    def operator(authorization: Authorization = None) -> str:
        return auth.caller(authorization, service.settings.operator_keys or service.settings.api_keys)

    def shown() -> dict[str, Any]:
        with reachable():
            jobs = retraining.desk.jobs.listed()
        return {"retrainings": [row(job) for job in jobs], **retraining.facts()}

    @routes.get("")
    def listed(_: Annotated[str, Depends(reader)]) -> dict[str, Any]:
        """List retrainings, the newest first, and say what the policy decides now."""
        return shown()

    @routes.get("/panel", include_in_schema=False)
    def panel(_: Annotated[str, Depends(reader)]) -> Response:
        return HTMLResponse(health_page.retraining_panel(shown()))

    @routes.post("", status_code=201)
    def ask(asked: Asked, who: Annotated[str, Depends(operator)]) -> dict[str, Any]:
        """Ask for a retraining from reviews; what comes out enters at shadow."""
        bundle = asked.bundle or service.champion.id
        request = Request(
            asked.kind, bundle, tenant=asked.tenant, since=asked.since, by=who or "operator", reason=asked.reason
        )
        return row(retraining.desk.ask(request))

    @routes.post("/{number}/stop")
    def stop(number: int, why: Why, who: Annotated[str, Depends(operator)]) -> dict[str, Any]:
        """Stop one; it keeps its last checkpoint."""
        with reachable():
            return row(retraining.desk.jobs.stop(number, who or "operator", why.reason))

    @routes.post("/{number}/resume")
    def resume(number: int, who: Annotated[str, Depends(operator)]) -> dict[str, Any]:
        """Go on with one that was stopped or has failed."""
        with reachable():
            return row(retraining.desk.jobs.again(number, who or "operator"))

    return routes
