"""A revision that fails half-way. Only the release "bad-migration" carries it."""

from alembic import op

revision = "d5bb"
down_revision = "c40e"


def upgrade() -> None:
    """Do something harmless, then something impossible."""
    op.execute("CREATE TABLE half_done (id INTEGER PRIMARY KEY)")
    op.execute("ALTER TABLE no_such_table ADD COLUMN nothing INTEGER")


def downgrade() -> None:
    """Drop what the first half made."""
    op.drop_table("half_done")
