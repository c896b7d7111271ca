"""The review panel of the dashboard: automation policies, waiting tasks, review statistics."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechpipe.interfaces.web import charts
from speechpipe.interfaces.web.render import environment
from speechpipe.serving.automation import Degree
from speechpipe.serving.automation.policy import EVERYBODY

SHOWN_CONFUSIONS = 12


def panel(
    scopes: Sequence[Mapping[str, Any]],
    history: Sequence[Mapping[str, Any]],
    people: Mapping[str, Any],
    server: tuple[Degree, str] = (Degree.FULL, ""),
) -> str:
    """Return the panel; the first arguments are documents of `control.review.documents`.

    `server`: the degree of tenants without a policy, and why the policies cannot be read at present.
    """
    base, failure = server
    held = {row["scope"]: str(row["degree"]) for row in scopes}
    held.setdefault(EVERYBODY, str(base))
    template = environment().get_template("people.html.jinja")
    return template.render(
        scopes=scopes, history=history, people=people, degrees=list(Degree), failure=failure, held=held
    )


def body(people: Mapping[str, Any]) -> str:
    """Return the review statistics as a read-only part of the health report."""
    template = environment().get_template("people_body.html.jinja")
    return template.render(people=people, most=SHOWN_CONFUSIONS, **_plots(people))


def _plots(people: Mapping[str, Any]) -> dict[str, Any]:
    return {"agreement": {one["bundle"]: charts.agreement(one["agreement"]) for one in people["bundles"]}}
