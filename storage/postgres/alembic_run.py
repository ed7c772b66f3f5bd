"""What alembic does for us: order the revisions, keep `alembic_version`, run each file's own `upgrade`.

There is no `env.py`, alembic.ini or alembic command: `tchat migrate` is the one way in.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from alembic import op
from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def upgrade_in_transaction(connection: Connection, folder: Path, progress: Callable[[str], None]) -> list[str]:
    """Apply what is outstanding within the connection's open transaction; return the revisions, oldest first."""
    script = ScriptDirectory(str(folder), version_locations=[str(folder)])
    applied: list[str] = []

    def outstanding(current: Any, _context: MigrationContext) -> list[RevisionStep]:
        return script._upgrade_revs("head", current)  # noqa: SLF001  # as in alembic's documentation

    def note(*_: Any, **named: Any) -> None:
        revision = named["step"].up_revision
        applied.append(revision.revision)
        progress(f"{revision.revision} {revision.doc}")

    with EnvironmentContext(Config(), script, fn=outstanding, destination_rev="head") as environment:
        environment.configure(connection=connection, on_version_apply=note)
        environment.run_migrations()
    return applied


def apply_sql(migration: str) -> None:
    """Run the SQL files that share a migration file's number, by name; each is one message of many statements."""
    number = Path(migration).name[:4]
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None
    for path in sorted(Path(migration).parent.glob(f"{number}_*.sql")):
        text = path.read_text(encoding="utf-8")
        adapted.run_async(lambda driver, text=text: driver.execute(text))
