"""Shares: slices that a device uploads before the message that names them, and confirms when it has got them."""

from __future__ import annotations

from protocol.errors import ErrorCode
from protocol.replies import SlicesUploaded
from protocol.share_commands import ConfirmSlices, UploadSlices
from server.clock import Clock
from server.delivery.confirmations import Confirmations
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.shares import Shares, StagedSlices, StagingOutcome

_REFUSED: dict[StagingOutcome, tuple[ErrorCode, str]] = {
    StagingOutcome.NOT_FOUND: (ErrorCode.DIALOG_NOT_FOUND, ""),
    StagingOutcome.OPEN: (ErrorCode.INVALID_ARGUMENT, "the dialog is not sealed"),
    StagingOutcome.LEFT: (ErrorCode.CONFLICT, "this device has left the session: begin another one"),
    StagingOutcome.STRANGER: (ErrorCode.INVALID_ARGUMENT, "a slice is for a device that may not read, or has no keys"),
    StagingOutcome.CONFLICT: (ErrorCode.CONFLICT, "this share was used for something else"),
    StagingOutcome.UNLISTED: (ErrorCode.KEYS_MISSING, "this device has no keys here, or is not in its device log"),
}


class ShareHandlers:
    """Handlers of the commands about shares."""

    def __init__(self, shares: Shares, clock: Clock) -> None:
        self._shares = shares
        self._confirmations = Confirmations(shares)
        self._clock = clock

    async def upload_slices(self, session: Session, command: UploadSlices) -> None:
        """Store slices, and say what the share lacks."""
        if len({each.device for each in command.slices}) < len(command.slices):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "two slices are for one device")
        staged = StagedSlices(
            principal=session.principal,
            device=session.device,
            share=command.share,
            dialog=command.dialog,
            session=command.session,
            keys_seq=command.keys_seq,
            slices=[(each.device, each.body) for each in command.slices],
            more=command.more,
        )
        answer = await self._shares.stage(staged, self._clock.wall_ms())
        if answer.outcome is StagingOutcome.STALE:
            session.fail(command.id, ErrorCode.STALE, keys_seq=answer.keys_seq)
        elif answer.outcome is not StagingOutcome.OK:
            raise RequestRefusedError(*_REFUSED[answer.outcome])
        else:
            session.push(SlicesUploaded(command.id, answer.complete, list(answer.missing), list(answer.extra)))

    async def confirm_slices(self, session: Session, command: ConfirmSlices) -> None:
        """Delete slices that the device has."""
        await self._confirmations.confirm(session.device, command.numbers)
        session.done(command.id)
