"""A revision that fails halfway. Only the release "bad-migration" contains it."""

from alembic import op

revision = "d5bb"
down_revision = "c40e"


def upgrade() -> None:
    """Create a table, then fail on a table that does not exist."""
    op.execute("CREATE TABLE half_done (id INTEGER PRIMARY KEY)")
    op.execute("ALTER TABLE no_such_table ADD COLUMN nothing INTEGER")


def downgrade() -> None:
    """Drop the table that the first statement created."""
    op.drop_table("half_done")
