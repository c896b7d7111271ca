"""The tables of the store. Each change needs a migration; a test compares the two."""

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    text,
)

metadata = MetaData()

Sequence = BigInteger().with_variant(Integer, "sqlite")  # in SQLite only INTEGER PRIMARY KEY increments by itself

records = Table(
    "records",
    metadata,
    Column("seq", Sequence, primary_key=True, autoincrement=True),  # the order in which they were written
    Column("id", String(80), nullable=False, unique=True),
    Column("kind", String(16), nullable=False),
    Column("session_id", String(64), nullable=False),
    Column("at", Float, nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("bundle_version", String(32), nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("tenant_class", String(16), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("versions", JSON, nullable=False),
    Column("measures", JSON, nullable=False),
    Index("records_by_time", "kind", "at"),
    Index("records_by_session", "session_id"),
    sqlite_autoincrement=True,  # numbers are never reused, even after all records have expired
)

windows = Table(
    "windows",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("start", BigInteger, nullable=False),  # unix seconds
    Column("width_s", Integer, nullable=False),
    Column("tenant_class", String(16), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(97), nullable=False),  # name@version
    Column("arm", String(16), nullable=False),
    Column("records", Integer, nullable=False),
    Column("units", Integer, nullable=False, server_default="0"),
    Column("payload", LargeBinary, nullable=False),
    Index("windows_by_time", "start"),
    Index("windows_by_group", "tenant_class", "tenant", "channel", "bundle", "arm", "start"),
)

cursors = Table(
    "cursors",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("seq", BigInteger, nullable=False),  # the last record that was processed
    Column("state", LargeBinary, nullable=False),
)

pinned = Table(
    "reference_sets",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("created_at", Float, nullable=False),
    Column("tenant_class", String(16), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(97), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("records", Integer, nullable=False),
    Column("status", String(16), nullable=False),  # proposed | pinned | retired
    Column("approved_at", Float),
    Column("approved_by", String(128)),
    Column("payload", LargeBinary, nullable=False),
)

alarms = Table(
    "alarms",
    metadata,
    Column("id", String(80), primary_key=True),
    Column("fingerprint", String(400), nullable=False),  # identifies the condition; one open alarm for each
    Column("rule", String(80), nullable=False),
    Column("metric", String(80), nullable=False),
    Column("stage", String(32), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("group_label", String(320), nullable=False),
    Column("state", String(16), nullable=False),  # pending | firing | resolved
    Column("reason", Text, nullable=False),
    Column("value", Float),
    Column("expected", Float),
    Column("pending_at", Float, nullable=False),
    Column("firing_at", Float),
    Column("resolved_at", Float),
    Column("acknowledged_at", Float),
    Column("acknowledged_by", String(128)),
    Column("blame", Text, nullable=False, server_default=""),
    Column("gone_at", Float),  # when the condition was first seen to have ended; null while it lasts
    Column("since", Float),  # when the change began, as far as the metric tells; null if it does not
    Column("incident", String(16), nullable=False, server_default=""),  # empty: the alarm belongs to none
    Index("alarms_by_state", "state"),
    Index("alarms_by_incident", "incident"),
    Index(
        "alarms_open",
        "fingerprint",
        unique=True,
        sqlite_where=text("state <> 'resolved'"),
        postgresql_where=text("state <> 'resolved'"),
    ),
)

alarm_notices = Table(  # the outbox: written in one transaction with the alarm, delivered from here
    "alarm_notices",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("alarm_id", String(80), nullable=False),
    Column("event", String(16), nullable=False),  # firing | raised (it has become a page) | resolved
    Column("sink", String(32), nullable=False),
    Column("state", String(16), nullable=False),  # due | told | lost
    Column("created_at", Float, nullable=False),
    Column("due_at", Float, nullable=False),  # not delivered earlier
    Column("tries", Integer, nullable=False),
    Column("claimed_by", String(64), nullable=False),  # the process that is delivering it now
    Column("claimed_until", Float, nullable=False),
    Column("told_at", Float),
    Column("failure", Text, nullable=False),  # of the last try
    Index("alarm_notices_once", "alarm_id", "event", "sink", unique=True),
    Index("alarm_notices_due", "state", "sink", "due_at"),
)

leases = Table(  # tasks that one server process does for all that share this store
    "leases",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("owner", String(64), nullable=False),
    Column("until", Float, nullable=False),
)

watched_tenants = Table(  # enterprise tenants, each of which is watched separately
    "watched_tenants", metadata, Column("tenant", String(128), primary_key=True), Column("since", Float, nullable=False)
)

changes = Table(
    "announced_changes",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("tenant", String(128), nullable=False),  # empty: all tenants
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("note", Text, nullable=False),
)

pinned_cases = Table(  # cases of a reference for blame; they are kept after their records have expired
    "pinned_cases",
    metadata,
    Column("reference_id", BigInteger, primary_key=True, autoincrement=False),
    Column("payload", LargeBinary, nullable=False),
)

seasons = Table(  # what is usual at each hour of the week, of pinned references with two weeks of traffic
    "reference_seasons",
    metadata,
    Column("reference_id", BigInteger, primary_key=True, autoincrement=False),
    Column("since", Float, nullable=False),
    Column("until", Float, nullable=False),
    Column("days", Float, nullable=False),  # of healthy traffic between the two
    Column("rhythms", JSON, nullable=False),  # by metric, in the order of `payload`
    Column("payload", LargeBinary, nullable=False),  # distributions of the residuals
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("tenant_class", String(16), nullable=False),
    Column("tenant", String(128), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(97), nullable=False),
    Column("arm", String(16), nullable=False),
    Column("label", String(32), nullable=False),
    Column("document", JSON, nullable=False),
    Index("verdicts_by_time", "at"),
)

routes = Table(  # routing state, written by compare-and-swap on `revision`
    "routes",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
)

rollout_history = Table(  # append-only
    "rollout_history",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("route", String(64), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("rollout", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("bundle", String(97), nullable=False),
    Column("evidence", JSON, nullable=False),
)

automation = Table(  # degree of automation by tenant, written by compare-and-swap on `revision`
    "automation",
    metadata,
    Column("scope", String(128), primary_key=True),  # a tenant; `default`: all others
    Column("revision", Integer, nullable=False),
    Column("document", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
)

automation_history = Table(  # append-only
    "automation_history",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("scope", String(128), nullable=False),
    Column("revision", Integer, nullable=False),
    Column("at", Float, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("action", String(16), nullable=False),
    Column("degree", String(16), nullable=False),
    Column("was", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("document", JSON, nullable=False),
)

hotword_lists = Table(  # words that recognizers are drawn to, by tenant; written by compare-and-swap on `revision`
    "hotword_lists",
    metadata,
    Column("scope", String(128), primary_key=True),  # a tenant; `default`: all others
    Column("revision", Integer, nullable=False),
    Column("terms", JSON, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("actor", String(128), nullable=False),  # who changed it last
)

review_jobs = Table(  # uploads whose clients wait for a reviewed answer
    "review_jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("tenant", String(128), nullable=False),
    Column("created_at", Float, nullable=False),
    Column("state", String(16), nullable=False),  # waiting | done | failed
    Column("cause", String(64), nullable=False),
    Column("finished_at", Float),
    Column("document", JSON, nullable=False),  # format and fields of the answer
    Column("callback", Text, nullable=False),
    Column("callback_state", String(16), nullable=False),  # none | due | sent | failed
    Column("callback_tries", Integer, nullable=False),
    Column("callback_at", Float, nullable=False),  # time of the next attempt
    Index("review_jobs_due", "callback_state", "callback_at"),
)

review_tasks = Table(  # one session for a reviewer
    "review_tasks",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("job", String(64), nullable=False),  # empty: no client waits for it
    Column("tenant", String(128), nullable=False),
    Column("channel", String(16), nullable=False),
    Column("bundle", String(97), nullable=False),
    Column("degree", String(16), nullable=False),
    Column("why", String(16), nullable=False),
    Column("priority", Float, nullable=False),
    Column("state", String(16), nullable=False),  # open | leased | done | skipped | expired
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("duration_s", Float, nullable=False),
    Column("audio_hash", String(64), nullable=False),
    Column("lease", String(32), nullable=False),
    Column("reviewer", String(128), nullable=False),
    Column("leased_until", Float, nullable=False),
    Column("draft", JSON, nullable=False),
    Column("work", JSON, nullable=False),  # in progress, or as submitted
    Column("compared", JSON, nullable=False),
    Column("skips", JSON, nullable=False),
    Column("work_s", Float, nullable=False),
    Column("finished_at", Float),
    Index("review_tasks_open", "state", "priority"),
    Index("review_tasks_job", "job"),
    Index("review_tasks_finished", "finished_at"),
)

retrainings = Table(
    "retrainings",
    metadata,
    Column("id", Sequence, primary_key=True, autoincrement=True),
    Column("kind", String(16), nullable=False),  # lm | ctc | vad
    Column("bundle", String(97), nullable=False),  # name@version that is retrained
    Column("state", String(16), nullable=False),  # waiting | running | done | failed | stopped
    Column("revision", Integer, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Column("owner", String(128), nullable=False),
    Column("beat_at", Float, nullable=False),  # last heartbeat of its owner
    Column("request", JSON, nullable=False),
    Column("outcome", JSON, nullable=False),
    Column("history", JSON, nullable=False),
    Index("retrainings_by_state", "state"),
    Index(  # one open retraining for each bundle and kind
        "retrainings_open",
        "bundle",
        "kind",
        unique=True,
        sqlite_where=text("state IN ('waiting', 'running')"),
        postgresql_where=text("state IN ('waiting', 'running')"),
    ),
    sqlite_autoincrement=True,  # ids must not be reused: folders are named by them
)

about = Table("about", metadata, Column("key", String(32), primary_key=True), Column("value", String(64)))
