"""Messages from device to device: stored, pushed to whom they are for, and deleted when they are confirmed."""

from __future__ import annotations

from protocol.device_commands import ConfirmToDevice, SendToDevice
from protocol.errors import ErrorCode
from server.clock import Clock
from server.config.settings import RateSettings
from server.delivery.device_messages import DeviceMessageDelivery
from server.refusals import RequestRefusedError
from server.session.session import Session
from storage.device_messages import SendOutcome, SentMessages
from storage.rates import Rate, RateLimiter

_REFUSED: dict[SendOutcome, tuple[ErrorCode, str]] = {
    SendOutcome.NOT_FOUND: (ErrorCode.DIALOG_NOT_FOUND, ""),
    SendOutcome.STRANGER: (ErrorCode.INVALID_ARGUMENT, "one of the devices is no member's, or has no keys"),
    SendOutcome.BLOCKED: (ErrorCode.BLOCKED, ""),
    SendOutcome.BOUND: (ErrorCode.MESSAGES_BOUND, ""),
}


class DeviceMessageHandlers:
    """Handlers of the commands about messages to devices."""

    def __init__(
        self, device_messages: DeviceMessageDelivery, limiter: RateLimiter, settings: RateSettings, clock: Clock
    ) -> None:
        self._device_messages = device_messages
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
        sent = SentMessages(
            principal=session.principal,
            device=session.device,
            message=command.message,
            dialog=command.dialog,
            messages=[(each.device, each.body) for each in command.messages],
        )
        outcome = await self._device_messages.store.send(sent, self._clock.wall_ms())
        if outcome is not SendOutcome.OK:
            raise RequestRefusedError(*_REFUSED[outcome])
        self._device_messages.note_stored(devices)
        session.done(command.id)

    async def confirm_to_device(self, session: Session, command: ConfirmToDevice) -> None:
        """Delete what the device has, and push what follows."""
        await self._device_messages.store.confirm(session.device, command.number)
        self._device_messages.push(session)
        session.done(command.id)
