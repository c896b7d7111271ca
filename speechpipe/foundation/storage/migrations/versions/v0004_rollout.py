"""Add routes and the history of rollouts, whose rows cannot be changed or deleted."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and triggers that keep the history append-only."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.create_table(
        "routes",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "rollout_history",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("route", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("rollout", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("bundle", sa.String(97), nullable=False),
        sa.Column("evidence", sa.JSON, nullable=False),
    )
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER rollout_history_no_{what.lower()} BEFORE {what} ON rollout_history "
                "BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END"
            )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE FUNCTION rollout_history_refuse() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the history is only added to'; END $$"
        )
        op.execute(
            "CREATE TRIGGER rollout_history_kept BEFORE UPDATE OR DELETE ON rollout_history "
            "FOR EACH ROW EXECUTE FUNCTION rollout_history_refuse()"
        )
