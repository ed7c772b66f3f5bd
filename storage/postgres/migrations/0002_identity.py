"""sign-in, profiles, tokens and API keys."""

from storage.postgres.alembic_run import apply_sql

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Apply the SQL beside."""
    apply_sql(__file__)
