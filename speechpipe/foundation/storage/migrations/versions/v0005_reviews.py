"""Add degrees of automation with an append-only history, and the queue of reviews."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, and triggers that keep the history append-only."""
    op.create_table(
        "automation",
        sa.Column("scope", sa.String(128), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
    )
    op.create_table(
        "automation_history",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("scope", sa.String(128), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
        sa.Column("action", sa.String(16), nullable=False),
        sa.Column("degree", sa.String(16), nullable=False),
        sa.Column("was", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text, nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    _reviews()
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER automation_history_no_{what.lower()} BEFORE {what} ON automation_history "
                "BEGIN SELECT RAISE(ABORT, 'the history is only added to'); END"
            )
    elif op.get_bind().dialect.name == "postgresql":
        op.execute(
            "CREATE TRIGGER automation_history_kept BEFORE UPDATE OR DELETE ON automation_history "
            "FOR EACH ROW EXECUTE FUNCTION rollout_history_refuse()"
        )


def _reviews() -> None:
    op.create_table(
        "review_jobs",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("cause", sa.String(64), nullable=False),
        sa.Column("finished_at", sa.Float),
        sa.Column("document", sa.JSON, nullable=False),
        sa.Column("callback", sa.Text, nullable=False),
        sa.Column("callback_state", sa.String(16), nullable=False),
        sa.Column("callback_tries", sa.Integer, nullable=False),
        sa.Column("callback_at", sa.Float, nullable=False),
    )
    op.create_index("review_jobs_due", "review_jobs", ["callback_state", "callback_at"])
    op.create_table(
        "review_tasks",
        sa.Column("id", sa.String(64), primary_key=True),
        sa.Column("job", sa.String(64), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("bundle", sa.String(97), nullable=False),
        sa.Column("degree", sa.String(16), nullable=False),
        sa.Column("why", sa.String(16), nullable=False),
        sa.Column("priority", sa.Float, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("duration_s", sa.Float, nullable=False),
        sa.Column("audio_hash", sa.String(64), nullable=False),
        sa.Column("lease", sa.String(32), nullable=False),
        sa.Column("reviewer", sa.String(128), nullable=False),
        sa.Column("leased_until", sa.Float, nullable=False),
        sa.Column("draft", sa.JSON, nullable=False),
        sa.Column("work", sa.JSON, nullable=False),
        sa.Column("compared", sa.JSON, nullable=False),
        sa.Column("skips", sa.JSON, nullable=False),
        sa.Column("work_s", sa.Float, nullable=False),
        sa.Column("finished_at", sa.Float),
    )
    op.create_index("review_tasks_open", "review_tasks", ["state", "priority"])
    op.create_index("review_tasks_job", "review_tasks", ["job"])
    op.create_index("review_tasks_finished", "review_tasks", ["finished_at"])
