"""Number the records in the order of writing; add windows, references, alarms and announced changes."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NAMES = (
    "id, kind, session_id, at, channel, bundle, bundle_version, outcome, tenant, tenant_class, arm, versions, measures"
)


def upgrade() -> None:
    """Copy the records, by time, into a table that numbers them; create the other tables."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.drop_index("records_by_time", "records")
    op.drop_index("records_by_session", "records")
    op.rename_table("records", "records_before")
    op.create_table(
        "records",
        sa.Column("seq", number, primary_key=True, autoincrement=True),
        sa.Column("id", sa.String(80), nullable=False, unique=True),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("session_id", sa.String(64), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("bundle", sa.String(64), nullable=False),
        sa.Column("bundle_version", sa.String(32), nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("tenant_class", sa.String(16), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("versions", sa.JSON, nullable=False),
        sa.Column("measures", sa.JSON, nullable=False),
        sqlite_autoincrement=True,
    )
    op.execute(f"INSERT INTO records ({NAMES}) SELECT {NAMES} FROM records_before ORDER BY at, id")  # noqa: S608 - constants
    op.drop_table("records_before")
    op.create_index("records_by_time", "records", ["kind", "at"])
    op.create_index("records_by_session", "records", ["session_id"])
    _windows(number)
    _references(number)
    _alarms(number)


def _windows(number: "sa.types.TypeEngine[int]") -> None:
    op.create_table(
        "windows",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("start", sa.BigInteger, nullable=False),
        sa.Column("width_s", sa.Integer, nullable=False),
        sa.Column("tenant_class", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("bundle", sa.String(97), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("windows_by_time", "windows", ["start"])
    op.create_table(
        "cursors",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("state", sa.LargeBinary, nullable=False),
    )


def _references(number: "sa.types.TypeEngine[int]") -> None:
    op.create_table(
        "reference_sets",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("tenant_class", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("bundle", sa.String(97), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("records", sa.Integer, nullable=False),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("approved_at", sa.Float),
        sa.Column("approved_by", sa.String(128)),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "announced_changes",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("note", sa.Text, nullable=False),
    )


def _alarms(_: "sa.types.TypeEngine[int]") -> None:
    op.create_table(
        "alarms",
        sa.Column("id", sa.String(80), primary_key=True),
        sa.Column("fingerprint", sa.String(400), nullable=False),
        sa.Column("rule", sa.String(80), nullable=False),
        sa.Column("metric", sa.String(80), nullable=False),
        sa.Column("stage", sa.String(32), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("group_label", sa.String(320), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("value", sa.Float),
        sa.Column("expected", sa.Float),
        sa.Column("pending_at", sa.Float, nullable=False),
        sa.Column("firing_at", sa.Float),
        sa.Column("resolved_at", sa.Float),
        sa.Column("acknowledged_at", sa.Float),
        sa.Column("acknowledged_by", sa.String(128)),
    )
    op.create_index("alarms_by_state", "alarms", ["state"])
