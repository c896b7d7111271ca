"""Rollouts over HTTP: where one is, on what evidence, and what an operator may do."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from speechpipe import health_page, rollout_document
from speechpipe.api import auth
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.rollout import plan as plans
from speechpipe.rollout.desk import RolloutDesk
from speechpipe.rollout_guards import GUARDS
from speechpipe.rollouts import Rollouts
from speechpipe.service import Service

MOST_PLAN_BYTES = 64 * 1024

Authorization = Annotated[str | None, Header()]


class Said(BaseModel):
    """Why somebody does it."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)


ACTIONS: Mapping[str, Callable[[RolloutDesk, str, str], object]] = {
    "approve": RolloutDesk.approve,
    "pause": RolloutDesk.pause,
    "resume": RolloutDesk.resume,
    "promote": RolloutDesk.promote,
    "rollback": RolloutDesk.roll_back,
}


def router(service: Service, rollouts: Rollouts) -> APIRouter:
    """Return the routes. Looking needs an API key, changing an operator's, where the server has any."""
    routes = APIRouter(prefix="/v1/rollout")

    def reader(authorization: Authorization = None) -> str:
        settings = service.settings
        keys = [*settings.api_keys, *settings.operator_keys] if settings.api_keys else []
        return auth.caller(authorization, keys)

    def operator(authorization: Authorization = None) -> str:
        return auth.caller(authorization, service.settings.operator_keys or service.settings.api_keys)

    @routes.get("")
    def status(_: Annotated[str, Depends(reader)]) -> dict[str, Any]:
        """Answer with the arms, their weights, the evidence, and how many sessions are still needed."""
        return _shown(rollouts)

    @routes.get("/panel", include_in_schema=False)
    def panel(_: Annotated[str, Depends(reader)]) -> Response:
        found = _shown(rollouts)
        with rollouts.locked():
            lines = [rollout_document.entry(entry) for entry in rollouts.desk.history(20)]
        return HTMLResponse(health_page.rollout_panel(found, lines))

    @routes.get("/history")
    def history(_: Annotated[str, Depends(reader)]) -> dict[str, Any]:
        """List what was done, by whom and on what evidence, the newest first."""
        with rollouts.locked():
            return {"history": [rollout_document.entry(entry) for entry in rollouts.desk.history()]}

    @routes.get("/plan")
    def plan(_: Annotated[str, Depends(reader)], candidate: str, case: str = "replace") -> dict[str, Any]:
        """Return a plan for a deployment case, as TOML to edit."""
        return {"plan": plans.template(case, candidate, GUARDS.rates)}

    @routes.post("/start", status_code=201)
    async def start(request: Request, who: Annotated[str, Depends(operator)]) -> dict[str, Any]:
        """Begin the rollout of a plan: TOML, or the same as JSON."""
        found = await _plan(request)
        return await to_thread.run_sync(_do, rollouts, lambda desk: desk.start(found, who))

    @routes.post("/{action}")
    def act(action: str, said: Said, who: Annotated[str, Depends(operator)]) -> dict[str, Any]:
        """Do one of approve, pause, resume, promote, rollback."""
        reason = said.reason.strip()
        if action not in ACTIONS:
            raise InvalidParameter(f"unknown action {action!r}; one of {', '.join(ACTIONS)}", param="action")
        if action == "rollback" and not reason:
            raise InvalidParameter("say why: a rollback needs a reason", param="reason", cause="missing_reason")
        return _do(rollouts, lambda desk: ACTIONS[action](desk, who, reason))

    return routes


def _shown(rollouts: Rollouts) -> dict[str, Any]:
    with rollouts.locked():
        state = rollouts.desk.state()
        return rollout_document.status(state, rollouts.desk.shown(state), rollouts.facts())


def _do(rollouts: Rollouts, act: Callable[[RolloutDesk], object]) -> dict[str, Any]:
    with rollouts.locked():
        act(rollouts.desk)
    rollouts.nudge()
    return _shown(rollouts)


async def _plan(request: Request) -> plans.Plan:
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > MOST_PLAN_BYTES:
            raise InvalidParameter(f"a plan has {MOST_PLAN_BYTES} bytes at most", param="plan", cause="too_large")
    try:
        text = body.decode()
        if "json" not in request.headers.get("content-type", ""):
            return plans.parse(text, GUARDS.rates)
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the plan cannot be read: {error}", cause="bad_plan") from error
    if not isinstance(data, dict):
        raise BadInput("a plan is an object", cause="bad_plan")
    return plans.read(data, GUARDS.rates)
