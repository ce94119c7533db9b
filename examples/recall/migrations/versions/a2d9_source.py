"""Add the source of a memory.

Expand: the column is nullable, and older releases do not use it.
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
