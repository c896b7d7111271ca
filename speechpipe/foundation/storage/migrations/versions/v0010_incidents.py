"""Add to alarms when their change began, and the incident that they belong to."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns. Alarms from before belong to no incident."""
    op.add_column("alarms", sa.Column("since", sa.Float))
    op.add_column("alarms", sa.Column("incident", sa.String(16), nullable=False, server_default=""))
    op.create_index("alarms_by_incident", "alarms", ["incident"])
