"""Messages from device to device: stored, pushed to whom they are for, and deleted when they are confirmed."""

from __future__ import annotations

from protocol.device_commands import ConfirmToDevice, SendToDevice
from protocol.errors import ErrorCode
from server.clock import Clock
from server.config.settings import RateSettings
from server.delivery.mailboxes import Mailboxes
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.device_messages import DevicePost, PostingOutcome
from storage.rates import Rate, RateLimiter

_REFUSED: dict[PostingOutcome, tuple[ErrorCode, str]] = {
    PostingOutcome.NOT_FOUND: (ErrorCode.DIALOG_NOT_FOUND, ""),
    PostingOutcome.STRANGER: (ErrorCode.INVALID_ARGUMENT, "one of the devices is no member's, or has no keys"),
    PostingOutcome.BLOCKED: (ErrorCode.BLOCKED, ""),
    PostingOutcome.BOUND: (ErrorCode.MESSAGES_BOUND, ""),
}


class ToDevices:
    """Handlers of the commands about messages to devices."""

    def __init__(self, mailboxes: Mailboxes, limiter: RateLimiter, settings: RateSettings, clock: Clock) -> None:
        self._mailboxes = mailboxes
        self._limiter = limiter
        self._clock = clock
        self._by_person = Rate.per_hour("device messages of person", settings.device_messages_per_person_per_h)

    async def send_to_device(self, session: Session, command: SendToDevice) -> None:
        """Store messages, and push them."""
        devices = {each.device for each in command.messages}
        if len(devices) < len(command.messages):
            raise RequestRefusedError(ErrorCode.INVALID_ARGUMENT, "two messages are for one device")
        wait_s = await self._limiter.take([(self._by_person, session.principal)], cost=len(devices))
        if wait_s:
            raise RequestRefusedError(ErrorCode.RATE_LIMITED, retry_after_s=round(wait_s, 3))
        post = DevicePost(
            principal=session.principal,
            device=session.device,
            message=command.message,
            dialog=command.dialog,
            messages=[(each.device, each.body) for each in command.messages],
        )
        outcome = await self._mailboxes.store.post(post, self._clock.wall_ms())
        if outcome is not PostingOutcome.OK:
            raise RequestRefusedError(*_REFUSED[outcome])
        self._mailboxes.note_stored(devices)
        session.done(command.id)

    async def confirm_to_device(self, session: Session, command: ConfirmToDevice) -> None:
        """Delete what the device has, and push what follows."""
        await self._mailboxes.store.confirm(session.device, command.number)
        self._mailboxes.push(session)
        session.done(command.id)
