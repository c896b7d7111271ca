"""Add the outbox of alarms, leases, the number of units of windows, and the list of watched tenants."""

import struct
import time

import orjson
import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

READ = 500


def upgrade() -> None:
    """Create the tables and fill the new columns from existing rows."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("alarms", sa.Column("gone_at", sa.Float))
    op.execute(  # two servers may have opened the same alarm
        "UPDATE alarms SET state = 'resolved', resolved_at = COALESCE(firing_at, pending_at) WHERE state <> 'resolved' "
        "AND id NOT IN (SELECT MAX(id) FROM alarms WHERE state <> 'resolved' GROUP BY fingerprint)"
    )
    is_open = sa.text("state <> 'resolved'")
    op.create_index(
        "alarms_open", "alarms", ["fingerprint"], unique=True, sqlite_where=is_open, postgresql_where=is_open
    )
    op.create_table(
        "alarm_notices",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("alarm_id", sa.String(80), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("sink", sa.String(32), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("due_at", sa.Float, nullable=False),
        sa.Column("tries", sa.Integer, nullable=False),
        sa.Column("claimed_by", sa.String(64), nullable=False),
        sa.Column("claimed_until", sa.Float, nullable=False),
        sa.Column("told_at", sa.Float),
        sa.Column("failure", sa.Text, nullable=False),
    )
    op.create_index("alarm_notices_once", "alarm_notices", ["alarm_id", "event", "sink"], unique=True)
    op.create_index("alarm_notices_due", "alarm_notices", ["state", "sink", "due_at"])
    op.create_table(
        "leases",
        sa.Column("name", sa.String(32), primary_key=True),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("until", sa.Float, nullable=False),
    )
    _tenants()
    _units()
    op.execute("INSERT INTO about (key, value) VALUES ('record_order', '')")  # row lock of the writers of records


def _tenants() -> None:
    op.create_table(
        "watched_tenants",
        sa.Column("tenant", sa.String(128), primary_key=True),
        sa.Column("since", sa.Float, nullable=False),
    )
    insert = sa.text(
        "INSERT INTO watched_tenants (tenant, since) SELECT DISTINCT tenant, :now FROM windows "
        "WHERE tenant_class = 'enterprise' AND tenant <> '(other)'"
    )
    op.get_bind().execute(insert, {"now": time.time()})


def _units() -> None:
    """Fill in the number of units of existing windows, which is in the head of the payload."""
    op.add_column("windows", sa.Column("units", sa.Integer, nullable=False, server_default="0"))
    bind, last = op.get_bind(), -1
    select = sa.text("SELECT id, payload FROM windows WHERE id > :last ORDER BY id LIMIT :most")
    while rows := bind.execute(select, {"last": last, "most": READ}).all():
        last = rows[-1].id
        counted = [{"id": row.id, "units": _counted(bytes(row.payload))} for row in rows]
        bind.execute(sa.text("UPDATE windows SET units = :units WHERE id = :id"), counted)
    op.create_index(
        "windows_by_group", "windows", ["tenant_class", "tenant", "channel", "bundle", "arm", "start"], unique=False
    )


def _counted(payload: bytes) -> int:
    (length,) = struct.unpack_from("<I", payload)
    return sum(orjson.loads(payload[4 : 4 + length])["outcomes"].values())
