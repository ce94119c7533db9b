"""Where a memory came from.

Expand: a column that may be null, which an older release never names.
"""

import sqlalchemy as sa
from alembic import op

revision = "a2d9"
down_revision = "8c1f"


def upgrade() -> None:
    """Add the column."""
    op.add_column("memories", sa.Column("source", sa.String(80), nullable=True))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("memories", "source")
