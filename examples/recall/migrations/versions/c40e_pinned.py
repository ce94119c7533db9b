"""Add the pinned flag for a future release.

Expand: the column has a server default, because older releases insert without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "c40e"
down_revision = "b771"


def upgrade() -> None:
    """Add the column."""
    op.add_column("memories", sa.Column("pinned", sa.Boolean, nullable=False, server_default=sa.false()))


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("memories", "pinned")
