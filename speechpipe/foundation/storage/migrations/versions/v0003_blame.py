"""Add pinned cases and verdicts, and the blamed stage to alarms."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and add the column."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")
    op.add_column("alarms", sa.Column("blame", sa.Text, nullable=False, server_default=""))
    op.create_table(
        "pinned_cases",
        sa.Column("reference_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "verdicts",
        sa.Column("id", number, primary_key=True, autoincrement=True),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("tenant_class", sa.String(16), nullable=False),
        sa.Column("tenant", sa.String(128), nullable=False),
        sa.Column("channel", sa.String(16), nullable=False),
        sa.Column("bundle", sa.String(97), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("label", sa.String(32), nullable=False),
        sa.Column("document", sa.JSON, nullable=False),
    )
    op.create_index("verdicts_by_time", "verdicts", ["at"])
