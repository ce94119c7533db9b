"""Create the memories table.

Expand: older releases do not use the new table.
"""

import sqlalchemy as sa
from alembic import op

revision = "8c1f"
down_revision = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "memories",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("text", sa.Text, nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), server_default=sa.func.now()),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("memories")
