"""Records, as the first release wrote them."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables of the first release."""
    op.create_table(
        "records",
        sa.Column("id", sa.String(80), primary_key=True),
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
    )
    op.create_index("records_by_time", "records", ["kind", "at"])
    op.create_index("records_by_session", "records", ["session_id"])
    op.create_table("about", sa.Column("key", sa.String(32), primary_key=True), sa.Column("value", sa.String(64)))
