"""principals, dialogs, members, journal and the flush function."""

from storage.postgres.alembic_run import apply_sql

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Apply the SQL beside."""
    apply_sql(__file__)
