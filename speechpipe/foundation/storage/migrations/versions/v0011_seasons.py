"""Add what is usual at each hour of the week, by reference."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "reference_seasons",
        sa.Column("reference_id", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("since", sa.Float, nullable=False),
        sa.Column("until", sa.Float, nullable=False),
        sa.Column("days", sa.Float, nullable=False),
        sa.Column("rhythms", sa.JSON, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
