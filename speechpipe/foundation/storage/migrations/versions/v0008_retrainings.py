"""Allow one waiting or running retraining for each bundle and kind."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the unique index; of several that already wait or run, the oldest stays."""
    op.execute(
        "UPDATE retrainings SET state = 'stopped', revision = revision + 1 WHERE state IN ('waiting', 'running') "
        "AND id NOT IN (SELECT MIN(id) FROM retrainings WHERE state IN ('waiting', 'running') GROUP BY bundle, kind)"
    )
    is_open = sa.text("state IN ('waiting', 'running')")
    op.create_index(
        "retrainings_open",
        "retrainings",
        ["bundle", "kind"],
        unique=True,
        sqlite_where=is_open,
        postgresql_where=is_open,
    )
