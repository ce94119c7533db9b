"""Rename the text column.

Contract: every release that still selects ``text`` stops working. Only the release
"migration-contract" contains it.
"""

from alembic import op

revision = "d5aa"
down_revision = "c40e"


def upgrade() -> None:
    """Rename the column; the statement is the same for PostgreSQL and SQLite."""
    op.execute("ALTER TABLE memories RENAME COLUMN text TO body")


def downgrade() -> None:
    """Restore the old name."""
    op.execute("ALTER TABLE memories RENAME COLUMN body TO text")
