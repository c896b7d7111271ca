"""The health report as HTML: its body for the dashboard, or a self-contained page."""

from collections.abc import Mapping, Sequence
from typing import Any

from speechpipe.interfaces.web import charts
from speechpipe.interfaces.web import people as people_page
from speechpipe.interfaces.web.render import STATIC, environment, percent
from speechpipe.monitor.report import Report, StageRow
from speechpipe.serving.health.documents import document, progress_text

PERIODS = ((15, "15 minutes"), (60, "1 hour"), (360, "6 hours"), (1440, "1 day"), (10080, "7 days"), (43200, "30 days"))


def body(report: Report, people: Mapping[str, Any] | None = None, *, live: bool) -> str:
    """Return the body; `live` includes buttons. `people`: the review statistics."""
    data = document(report, people)
    return (
        environment()
        .get_template("health_body.html.jinja")
        .render(
            data=data,
            cascade=charts.cascade(report),
            cards=_cards(data),
            notices=_notices(data),
            stages=[
                {"row": row, "plots": _plots(report, row), "metrics": shown["metrics"]}
                for row, shown in zip(report.stages, data["stages"], strict=True)
            ],
            live=live,
            people=people_page.body(people) if people is not None and people["bundles"] else "",
        )
    )


def whole(report: Report, people: Mapping[str, Any] | None = None) -> str:
    """Return a self-contained page, with style and charts inside and without scripts."""
    style = (STATIC / "health.css").read_text()
    return _page("health report", body(report, people, live=False), style, 60)


def dashboard(title: str, minutes: int = 60, *, rollouts: bool = False) -> str:
    """Return the page that loads its body by script; `rollouts` adds the panels with actions."""
    return _page(title, "", "", minutes, rollouts=rollouts)


def rollout_panel(data: dict[str, Any], history: Sequence[dict[str, Any]]) -> str:
    """Return the rollout panel of the dashboard; `data` is `status_document.status`."""
    active = data["rollout"] is not None and data["rollout"]["status"] in ("running", "paused", "waiting")
    return environment().get_template("rollout.html.jinja").render(data=data, history=history, active=active)


def retraining_panel(data: dict[str, Any]) -> str:
    """Return the retraining panel of the dashboard; `data` is the answer of `GET /v1/retrain`."""
    return environment().get_template("retraining.html.jinja").render(data=data)


def _page(title: str, inside: str, style: str, minutes: int, *, rollouts: bool = False) -> str:
    template = environment().get_template("health.html.jinja")
    values = {"title": title, "body": inside, "style": style, "periods": PERIODS, "chosen": minutes}
    return template.render(values, rollouts=rollouts)


def _plots(report: Report, row: StageRow) -> list[tuple[str, str]]:
    facts = report.facts
    found = []
    for metric in row.metrics:
        if not metric.metric.key:
            continue
        alarms = [
            (alarm.firing_at, alarm.resolved_at)
            for alarm in facts.alarms
            if alarm.condition.metric == metric.metric.name and alarm.firing_at is not None
        ]
        unit = f" ({metric.metric.unit})" if metric.metric.unit else ""
        picture = charts.series(metric, facts.since, facts.until, alarms)
        found.append((f"{metric.metric.help}{unit}: {charts.number(metric.value)}", picture))
    for shown in report.distributions:
        known = next((metric for metric in row.metrics if metric.metric.name == shown.name), None)
        if known is not None:
            title = f"{known.metric.help}: distribution"
            found.append((title, charts.distribution(shown, title, known.metric.unit)))
    return found


def _cards(data: dict[str, Any]) -> list[tuple[str, str, str]]:
    traffic, accounts, server = data["traffic"], data["accounting"], data["server"]
    balanced = {None: "–", True: "adds up", False: "does NOT add up"}[accounts["balanced"]]
    cards = [
        ("sessions", str(traffic["sessions"]), "traffic.sessions"),
        ("utterances", str(traffic["utterances"]), "traffic.utterances"),
        ("null output", percent(data["nulls"]["share"]), "nulls.share"),
        ("input with fields missing", percent(data["missing_input"]["share"]), "missing_input.share"),
        ("audio accounting", balanced, "accounting.balanced"),
    ]
    if "software.load_share" in server:
        cards.append(("server load", percent(server["software.load_share"]), "server.load"))
        cards.append(("room for live sessions", charts.number(server["software.room"]), "server.room"))
    return cards


def _notices(data: dict[str, Any]) -> list[str]:
    server, found = data["server"], []
    if server.get("store_failure"):
        found.append(f"The store is failing, records are being lost: {server['store_failure']}")
    if data["records_lost"]:
        found.append(f"{data['records_lost']:.0f} records were lost in this period: figures are too low.")
    if (server.get("records_behind") or 0) > 10_000:
        found.append(f"{server['records_behind']} records have not been processed yet.")
    proposed = data["references"]["proposed"]
    if proposed:
        numbers = ", ".join(str(item["id"]) for item in proposed)
        found.append(
            f"References wait for approval: {numbers} (speechpipe reference show, speechpipe reference approve)."
        )
    if data["without_reference"] and not proposed:
        waiting = data["references"]["progress"]
        so_far = "; ".join(f"{one['group_label']}: {progress_text(one)}" for one in waiting)
        found.append(
            "Some of this traffic has no reference yet: only its limits are checked, not its changes"
            + (f" ({so_far})." if so_far else ".")
        )
    return found
