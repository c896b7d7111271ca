"""HTTP routes of the tenants' lists of hotwords."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import BaseModel, ConfigDict, Field

from speechpipe.cascade.asr import HOTWORDS
from speechpipe.control.review.service import reviewing_of
from speechpipe.interfaces.api.access import Body, Role, access, name
from speechpipe.interfaces.api.bodies import check_text
from speechpipe.serving.service import Service


class Terms(BaseModel):
    """The whole list of a tenant, or of `default`."""

    model_config = ConfigDict(extra="forbid")

    terms: list[str] = Field(description="Words and phrases: at most 100, of 64 characters each. Empty: none.")
    revision: int | None = Field(None, description="The revision that the change is based on; 409 if it has changed.")
    force: bool = Field(False, description="Accept a tenant that is not known yet.")


def router(service: Service) -> APIRouter:
    """Return the routes. They need an operator's key, if any are configured: terms may be names of persons."""
    routes = APIRouter(prefix="/v1/hotwords")

    @routes.get("")
    @access(Role.OPERATOR, 503)
    def show() -> dict[str, Any]:
        """List the lists by scope. Tenants that are not listed have that of `default`."""
        found = reviewing_of(service).hotword_lists.lists()
        return {"scopes": [item.document(scope) for scope, item in sorted(found.items())]}

    @routes.put("/{scope}")
    @access(Role.OPERATOR, 404, 409, 503, body=Body.JSON)
    def change(
        scope: Annotated[str, Path(max_length=128)], body: Terms, actor: Annotated[str, Depends(name)]
    ) -> dict[str, Any]:
        """Replace the list of a tenant or of `default`; it applies to new sessions at once.

        An API key as scope names its tenant. `taken`: whether the champion's recognizer takes hotwords.
        """
        for term in body.terms:
            check_text(term)
        lists = reviewing_of(service).hotword_lists
        meant, found = lists.set(scope, body.terms, actor, revision=body.revision, force=body.force)
        return found.document(meant) | {"taken": HOTWORDS in service.engine.champion.asr.takes}

    return routes
