"""Rename the text column.

Contract: every release that still selects ``text`` stops working. Only the release
"migration-contract" carries it.
"""

from alembic import op

revision = "d5aa"
down_revision = "c40e"


def upgrade() -> None:
    """Rename; PostgreSQL and SQLite spell it alike."""
    op.execute("ALTER TABLE memories RENAME COLUMN text TO body")


def downgrade() -> None:
    """Rename back."""
    op.execute("ALTER TABLE memories RENAME COLUMN body TO text")
