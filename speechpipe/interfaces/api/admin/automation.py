"""HTTP routes of automation policies."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import BaseModel, ConfigDict, Field

from speechpipe.control.review import documents as review_documents
from speechpipe.control.review.changes import PolicyChange
from speechpipe.control.review.service import reviewing_of
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.errors import InvalidParameter
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.interfaces.api.access import Body, Role, access, name, who
from speechpipe.interfaces.api.errors import shown_failure
from speechpipe.interfaces.web import people as people_page
from speechpipe.serving.service import Service

DAYS = 90.0
"""Reviews of this many days are shown in the panel."""


class Change(BaseModel):
    """A change of a policy; fields that are not named stay unchanged."""

    model_config = ConfigDict(extra="allow")  # the policy checks its own fields

    reason: str = Field("", max_length=500)
    revision: int | None = Field(None, description="The revision that the change is based on; 409 if it has changed.")
    force: bool = Field(False, description="Accept a tenant that is not known yet.")
    confirm: bool = Field(
        False, description="Required to lower the degree of `default`; without it, the 400 states the effect."
    )


class Effect(BaseModel):
    """The effect of a change; `confirm`: whether it needs a confirmation."""

    effect: str
    confirm: bool


def router(service: Service) -> APIRouter:
    """Return the routes. Reading accepts an API key; changes need an operator's, if any are configured."""
    routes = APIRouter(prefix="/v1/automation")

    @routes.get("")
    @access(Role.REVIEWER, 503)
    def show() -> dict[str, Any]:
        """List the policies by scope. Tenants that are not listed have that of `default`, or else `full`."""
        automation = reviewing_of(service).operations.automation
        with translating_store_errors():
            found = automation.policies()
        scopes = [review_documents.policy(scope, item) for scope, item in sorted(found.items())]
        return {"scopes": scopes, "failure": shown_failure(reviewing_of(service).failure)}

    @routes.get("/history")
    @access(Role.REVIEWER, 503)
    def history(most: Annotated[int, Query(ge=1, le=1000)] = 200) -> dict[str, Any]:
        """List changes of policies, newest first."""
        with translating_store_errors():
            found = reviewing_of(service).operations.automation.history(most)
        return {"history": [review_documents.entry(item) for item in found]}

    @routes.get("/effect")
    @access(Role.REVIEWER, 503)
    def effect(scope: Annotated[str, Query(max_length=128)], degree: Annotated[str, Query(max_length=32)]) -> Effect:
        """Describe the effect of a new degree, if it needs a confirmation."""
        found = reviewing_of(service).effect(scope, {"degree": degree})
        return Effect(effect=found, confirm=bool(found))

    @routes.get("/panel", include_in_schema=False)
    @access(Role.REVIEWER, 503)
    def panel(reviewer: Annotated[Reviewer, Depends(who)]) -> Response:
        operations = reviewing_of(service).operations
        base = operations.automation.base.degree
        with translating_store_errors():
            policies = sorted(operations.automation.policies().items())
            scopes = [review_documents.policy(scope, item) for scope, item in policies]
            lines = [review_documents.entry(item) for item in operations.automation.history(20)]
        found = review_documents.people(operations.people(service.clock() - DAYS * 86_400.0, tenant=reviewer.tenant))
        return HTMLResponse(
            people_page.panel(scopes, lines, found, (base, shown_failure(reviewing_of(service).failure)))
        )

    @routes.put("/{scope}")
    @access(Role.OPERATOR, 404, 409, 503, body=Body.JSON)
    def change(
        scope: Annotated[str, Path(max_length=128)], body: Change, actor: Annotated[str, Depends(name)]
    ) -> dict[str, Any]:
        """Change the automation policy of a tenant or of `default`; it applies to new sessions at once.

        An API key as scope names its tenant. Lowering the degree of `default` requires `reason` and `confirm`.
        """
        changes = body.model_extra or {}
        if not changes:
            raise InvalidParameter("name at least one field to change, such as degree", param="degree")
        wanted = PolicyChange(changes, actor, body.reason, body.revision, body.force, body.confirm)
        meant, found = reviewing_of(service).change(scope, wanted)
        return review_documents.policy(meant, found)

    return routes
