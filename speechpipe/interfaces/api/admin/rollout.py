"""HTTP routes of rollouts: status with evidence, history, plans, and actions of operators."""

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from speechpipe.control.rollout import documents
from speechpipe.control.rollout import plan as plans
from speechpipe.control.rollout.operations import RolloutOperations
from speechpipe.control.rollout.service import RolloutService
from speechpipe.control.rollout.speech_guards import GUARDS
from speechpipe.errors import BadInput, InvalidParameter
from speechpipe.interfaces.api.access import Body, Role, access, name
from speechpipe.interfaces.api.bodies import check_toml, check_values
from speechpipe.interfaces.api.errors import shown_failure
from speechpipe.interfaces.web import health as health_page
from speechpipe.serving.service import Service

Actor = Annotated[str, Depends(name)]


Case = Literal["new", "assist", "replace"]


class ActionBody(BaseModel):
    """The body of an action."""

    model_config = ConfigDict(extra="forbid")

    reason: str = Field("", max_length=500)
    to: str = Field("", max_length=97)  # for a rollback: the previous champion, to confirm a second rollback


ACTIONS: Mapping[str, Callable[[RolloutOperations, str, str], object]] = {
    "approve": RolloutOperations.approve,
    "pause": RolloutOperations.pause,
    "resume": RolloutOperations.resume,
    "promote": RolloutOperations.promote,
    "rollback": RolloutOperations.roll_back,
}


def router(service: Service, rollouts: RolloutService) -> APIRouter:
    """Return the routes. Reading accepts an API key; changes need an operator's, if any are configured."""
    routes = APIRouter(prefix="/v1/rollout")

    @routes.get("")
    @access(Role.READER, 503)
    def status() -> dict[str, Any]:
        """Return the route, the arms with their weights, the evidence, and the number of sessions still needed."""
        return _shown(rollouts)

    @routes.get("/panel", include_in_schema=False)
    @access(Role.READER, 503)
    def panel() -> Response:
        found = _shown(rollouts)
        with rollouts.locked():
            lines = [documents.entry(entry) for entry in rollouts.operations.history(20)]
        return HTMLResponse(health_page.rollout_panel(found, lines))

    @routes.get("/history")
    @access(Role.READER, 503)
    def history() -> dict[str, Any]:
        """List changes of the route, newest first, with their actors and evidence."""
        with rollouts.locked():
            return {"history": [documents.entry(entry) for entry in rollouts.operations.history()]}

    @routes.get("/plan")
    @access(Role.READER, 404)
    def plan(candidate: Annotated[str, Query(min_length=1, max_length=97)], case: Case = "replace") -> dict[str, Any]:
        """Return a plan for a deployment case, as TOML to edit."""
        service.engine.catalogue.bundle(candidate)  # UnknownName if there is none
        return {"plan": plans.template(case, candidate, GUARDS.rates)}

    @routes.post("/start", status_code=201)
    @access(Role.OPERATOR, 404, 409, 503, body=Body.PLAN)
    async def start(request: Request, who: Actor) -> dict[str, Any]:
        """Start the rollout of a plan, given as TOML or as the same in JSON."""
        json_ = request.headers["content-type"].partition(";")[0].strip().lower() == "application/json"
        found = await to_thread.run_sync(_plan, await request.body(), json_)
        return await to_thread.run_sync(_do, rollouts, lambda operations: operations.start(found, who))

    @routes.post("/{action}")
    @access(Role.OPERATOR, 404, 409, 503, body=Body.JSON)
    def act(action: str, said: ActionBody, who: Actor) -> dict[str, Any]:
        """Carry out one of approve, pause, resume, promote, rollback."""
        reason = said.reason.strip()
        if action not in ACTIONS:
            raise InvalidParameter(f"unknown action {action!r}; one of {', '.join(ACTIONS)}", param="action")
        if action == "rollback" and not reason:
            raise InvalidParameter("a rollback needs a reason", param="reason", cause="missing_reason")
        if said.to and action != "rollback":
            raise InvalidParameter("`to` is only for a rollback", param="to")
        if action == "rollback":
            return _do(rollouts, lambda operations: operations.roll_back(who, reason, said.to.strip()))
        return _do(rollouts, lambda operations: ACTIONS[action](operations, who, reason))

    return routes


def _shown(rollouts: RolloutService) -> dict[str, Any]:
    with rollouts.locked():
        state = rollouts.operations.state()
        facts = rollouts.facts()
        facts["failure"] = shown_failure(str(facts["failure"]))
        return documents.status(state, rollouts.operations.shown(state), facts)


def _do(rollouts: RolloutService, act: Callable[[RolloutOperations], object]) -> dict[str, Any]:
    with rollouts.locked():
        act(rollouts.operations)
    rollouts.wake()
    return _shown(rollouts)


def _plan(body: bytes, json_: bool) -> plans.Plan:
    """Return the plan in a body. Runs on a thread.

    Raises:
        BadInput: it is not a plan.
        TooLarge: it is longer than a plan may be.
    """
    try:
        text = body.decode()
        if not json_:
            check_toml(text)
            found = plans.parse(text, GUARDS.rates)
            check_values(found.document())
            return found
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadInput(f"the plan cannot be read: {error}", cause="bad_plan") from error
    if not isinstance(data, dict):
        raise BadInput("a plan must be a JSON object", cause="bad_plan")
    return plans.read(data, GUARDS.rates)
