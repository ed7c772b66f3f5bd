"""The backup: values that are sealed under a recovery key, stored and read."""

from __future__ import annotations

from protocol.device_commands import BackupValue, PutBackup, ReadBackup
from protocol.errors import ErrorCode
from protocol.replies import BackupPage
from server.clock import Clock
from server.config.settings import RateSettings
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.backups import BackupAddition, BackupOutcome, BackupRow, Backups

_REFUSED: dict[BackupOutcome, tuple[ErrorCode, str]] = {
    BackupOutcome.PASSED: (ErrorCode.LOG_PASSED, "this is not the present identity, or the device is not in its log"),
    BackupOutcome.BOUND: (ErrorCode.BACKUP_BOUND, ""),
}


class BackupHandlers:
    """Handlers of the commands about the backup."""

    def __init__(self, backups: Backups, settings: RateSettings, clock: Clock) -> None:
        self._backups = backups
        self._values_max = settings.backup_values_per_person
        self._clock = clock

    async def put_backup(self, session: Session, command: PutBackup) -> None:
        """Store values."""
        rows = [BackupRow(each.key, each.version, each.value) for each in command.values]
        if len({row.key for row in rows}) < len(rows):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "two values have one key")
        addition = BackupAddition(
            principal=session.principal, device=session.device, generation=command.generation, rows=rows
        )
        outcome = await self._backups.put(addition, self._clock.wall_ms(), values_max=self._values_max)
        if outcome is not BackupOutcome.OK:
            raise RequestRefusedError(*_REFUSED[outcome])
        session.done(command.id)

    async def read_backup(self, session: Session, command: ReadBackup) -> None:
        """A page of values."""
        rows = await self._backups.read(
            session.principal, command.generation, after=command.after or b"", limit=command.limit + 1
        )
        values = [BackupValue(row.key, row.version, row.value) for row in rows[: command.limit]]
        session.push(BackupPage(command.id, values, len(rows) > command.limit))
