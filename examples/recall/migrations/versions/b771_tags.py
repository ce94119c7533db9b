"""Create the tags table for a future release.

Expand: the table is created one release before the code that writes to it.
"""

import sqlalchemy as sa
from alembic import op

revision = "b771"
down_revision = "a2d9"


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "tags",
        sa.Column(
            "memory_id", sa.Integer, sa.ForeignKey("memories.id", ondelete="CASCADE"), primary_key=True
        ),
        sa.Column("tag", sa.String(40), primary_key=True),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("tags")
