"""flush, change and mark: the write path."""

from storage.postgres.alembic_run import apply_sql

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Apply the SQL beside."""
    apply_sql(__file__)
