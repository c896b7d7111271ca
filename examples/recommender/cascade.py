"""The recommender cascade in the monitor's terms. This, and records, is all that the monitor is given."""

from speechpipe.foundation.storage.record import Record
from speechpipe.monitor.spec import CascadeSpec, Direction, Metric, MetricKind, Read, Severity, Stage

STAGES = (
    Stage("user", "User data"),
    Stage("profile", "User profile", ("user",)),
    Stage("recommender", "Recommender", ("profile",)),
    Stage("product", "Product recommendation", ("recommender",)),
    Stage("people", "People", ("recommender", "product"), blame="client"),
)


def _of(name: str) -> Read:
    def read(record: Record) -> float | None:
        value = record.measures.get(name)
        return float(value) if isinstance(value, int | float) else None

    return read


def _row(name: str, unit: str, text: str, catches: str, **more: object) -> Metric:
    return Metric(name, unit, text, catches, "unit", _of(name), **more)  # type: ignore[arg-type]


METRICS = (
    _row("user.missing_share", "", "share of attributes missing", "forms and trackers that broke", direction=Direction.UP, key=True, least=0.05),
    _row("user.events", "", "events in the history", "a tracker that lost events", key=True, mix=True),
    _row("user.variety", "", "categories in the history", "", mix=True, severity=Severity.SHOWN),
    _row("profile.unknown_share", "", "share of the profile that is unknown", "a mapping that broke", direction=Direction.UP, severity=Severity.PAGE, key=True, least=0.05),
    _row("profile.agreement", "", "agreement of profile and last events", "a stale profile store", direction=Direction.DOWN, key=True, least=0.03),
    _row("profile.focus", "", "weight of the strongest category", "profiles that say nothing", key=True, least=0.02),
    _row("recommender.affinity", "", "agreement of list and profile", "a model trained on wrong labels", direction=Direction.DOWN, severity=Severity.PAGE, key=True, least=0.02),
    _row("recommender.popularity", "", "mean popularity of what is recommended", "collapse to what is popular", key=True, least=0.02),
    _row("recommender.variety", "", "categories in a list", "lists of one kind", least=0.3),
    _row("recommender.score", "", "mean score of a list", "a model that is less sure", key=True, least=0.02),
    _row("product.missing_share", "", "share of recommended items that cannot be shown", "items missing from the catalogue", direction=Direction.UP, severity=Severity.PAGE, key=True, least=0.05, limit=0.5),
    Metric("product.null_share", "", "share of lists that are empty", "nothing to show", "unit", lambda record: float(record.outcome != "ok"), MetricKind.SHARE, Direction.UP, Severity.PAGE, key=True, limit=0.5),
    Metric("people.click_rate", "", "share of lists with a click", "recommendations nobody wants", "unit", _of("people.click"), MetricKind.SHARE, Direction.DOWN, key=True),
)  # fmt: skip

CASCADE = CascadeSpec("recommender", STAGES, METRICS, distributions=("recommender.affinity",))
