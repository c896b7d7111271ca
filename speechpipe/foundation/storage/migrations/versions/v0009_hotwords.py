"""Add lists of hotwords by tenant."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "hotword_lists",
        sa.Column("scope", sa.String(128), primary_key=True),
        sa.Column("revision", sa.Integer, nullable=False),
        sa.Column("terms", sa.JSON, nullable=False),
        sa.Column("changed_at", sa.Float, nullable=False),
        sa.Column("actor", sa.String(128), nullable=False),
    )
