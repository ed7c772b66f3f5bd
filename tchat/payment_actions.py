"""What an app does with payments: each call is one command, whose answer comes from commerce.

Of money nothing is repeated by guessing. A call takes a number first; the same command with the same number gets the
first answer again. So an app that must not pay twice takes `take_number`, stores it with what it is about to do, and
passes it as `n`: after `unavailable`, `RequestLostError` or a crash it calls again with the same arguments.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from uuid import UUID

import msgspec

from protocol.command_rules import Command
from protocol.commerce.contract import Approval, NewPayment, approval_text, chat_key, send_text
from protocol.payment_commands import Pay, PayAction, ReadPayment
from protocol.replies import PaymentAnswer, Reply


class PaymentActions(ABC):
    """The calls about payments, of a client that sends commands. Errors are those of `request`."""

    @abstractmethod
    async def request(self, command: Command) -> Reply:
        """Send a command and wait for its reply; raises `RefusedError`."""

    @abstractmethod
    def take_number(self) -> int:
        """A number of this device that nothing else has; durable on return."""

    @property
    @abstractmethod
    def me(self) -> bytes:
        """The client's own principal; NIL until the first sign-in."""

    @property
    @abstractmethod
    def device(self) -> bytes:
        """The client's own device; NIL until the first sign-in."""

    @abstractmethod
    def _sign(self, text: bytes) -> bytes | None:
        """The signature of this device; None if it has no keys."""

    async def pay_request(
        self,
        dialog: bytes,
        payer: bytes,
        amount_minor: int,
        currency: str,
        *,
        payee: bytes | None = None,
        capture_later: bool = False,
        order: bytes | None = None,
        expires_in_s: int | None = None,
        n: int = 0,
    ) -> PaymentAnswer:
        """Ask a member of a dialog for money, for oneself or for the business `payee`."""
        asked = Pay(0, dialog, n, PayAction.REQUEST, None, payer, amount_minor, currency, capture_later, order)
        return await self._pay(msgspec.structs.replace(asked, payee=payee, expires_in_s=expires_in_s))

    async def pay_send(
        self,
        dialog: bytes,
        payee: bytes,
        amount_minor: int,
        currency: str,
        *,
        capture_later: bool = False,
        order: bytes | None = None,
        expires_in_s: int | None = None,
        step_up: str = "",
        n: int = 0,
    ) -> PaymentAnswer:
        """Send money to a member of a dialog; with `capture_later` it is held until it is captured.

        Signed by this device if it has keys: above an amount commerce asks for that, or for a `step_up`.
        """
        n = n or self.take_number()
        new = NewPayment(
            intent="send",
            payer=UUID(bytes=self.me),
            payee=UUID(bytes=payee),
            amount_minor=amount_minor,
            currency=currency,
            capture="later" if capture_later else "now",
            dialog=UUID(bytes=dialog),
            order=None if order is None else UUID(bytes=order),
            expires_in_s=expires_in_s,
        )
        signature = self._sign(send_text(chat_key(UUID(bytes=self.device), UUID(bytes=dialog), n), new))
        sent = Pay(0, dialog, n, PayAction.SEND, None, payee, amount_minor, currency, capture_later, order)
        proven = {"expires_in_s": expires_in_s, "signature": signature, "step_up": step_up}
        return await self._pay(msgspec.structs.replace(sent, **proven))

    async def approve_payment(
        self, dialog: bytes, shown: PaymentAnswer, *, step_up: str = "", n: int = 0
    ) -> PaymentAnswer:
        """Approve what the person was shown; signed by this device if it has keys. `changed`: show it again."""
        approval = Approval(
            version=shown.version,
            amount_minor=shown.amount_minor,
            currency=shown.currency,
            payee=UUID(bytes=shown.payee),
        )
        signature = self._sign(approval_text(UUID(bytes=shown.payment), approval))
        command = Pay(0, dialog, n, PayAction.APPROVE, shown.payment, None, shown.amount_minor, shown.currency)
        seen = {"version": shown.version, "payee": shown.payee, "signature": signature, "step_up": step_up}
        return await self._pay(msgspec.structs.replace(command, **seen))

    async def decline_payment(self, dialog: bytes, payment: bytes, *, n: int = 0) -> PaymentAnswer:
        """Decline a request for money."""
        return await self._pay(Pay(0, dialog, n, PayAction.DECLINE, payment))

    async def cancel_payment(self, dialog: bytes, payment: bytes, *, n: int = 0) -> PaymentAnswer:
        """Withdraw a request; or give back what is held."""
        return await self._pay(Pay(0, dialog, n, PayAction.CANCEL, payment))

    async def refund_payment(
        self, dialog: bytes, payment: bytes, amount_minor: int | None = None, *, n: int = 0
    ) -> PaymentAnswer:
        """Pay back a part of what was paid; None: all that is left."""
        return await self._pay(Pay(0, dialog, n, PayAction.REFUND, payment, None, amount_minor))

    async def capture_payment(
        self, dialog: bytes, payment: bytes, amount_minor: int | None = None, *, n: int = 0
    ) -> PaymentAnswer:
        """Take what is held for oneself, once: in full (None) or in part. The rest returns to the payer."""
        return await self._pay(Pay(0, dialog, n, PayAction.CAPTURE, payment, None, amount_minor))

    async def read_payment(self, payment: bytes) -> PaymentAnswer:
        """A payment as it is now; what an event in a sealed dialog does not say."""
        return await self._ask(ReadPayment(0, payment))

    async def _pay(self, command: Pay) -> PaymentAnswer:
        return await self._ask(command if command.n else msgspec.structs.replace(command, n=self.take_number()))

    async def _ask(self, command: Command) -> PaymentAnswer:
        reply = await self.request(command)
        assert isinstance(reply, PaymentAnswer)
        return reply
