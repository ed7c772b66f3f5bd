"""One-time codes: sent to a phone number at somebody's request, and checked against their guesses.

A code belongs to its requester: to the network that requested it, or to the client that has its `code_id`. So a
stranger cannot spend the guesses of the owner's code, and one neighbourhood of networks alone cannot spend the codes of
the owner's number. Every guess is counted before it is compared. All wrong ones get the same answer: it does not reveal
whether a code is pending.

The odds of a stranger: a code has `code_attempts_max` guesses of a million, and a number gets at most
`codes_per_number_per_day` codes that are not used, of which one neighbourhood of networks may request a quarter. By
default these are 5, 40 and 10: one neighbourhood guesses right once in 20,000 days, and any number of them together
once in 5,000. The price: somebody with four neighbourhoods can stop new codes for a number for hours; a pending code
stays valid.
"""

from __future__ import annotations

import logging
import secrets

from protocol import ids
from protocol.errors import ErrorCode
from server.identity.code_sender import CodeNotSentError, CodeSender
from server.identity.context import OWN_TENANT, IdentityContext
from server.identity.phone_numbers import PhoneNumber
from server.identity.rates import take_or_refuse
from server.identity.vault import equal
from server.networks import neighbourhood_of, network_of
from server.refusals import RequestRefusedError
from storage.identity_rows import PendingCode
from storage.postgres.sign_ins import SignInStore
from storage.rates import Bucket, Rate

_log = logging.getLogger(__name__)

CODE_DIGITS = 6
NEIGHBOURHOODS_TO_EXHAUST_A_NUMBER = 4
"""One neighbourhood may request this part of the codes that a number gets in a day."""
_SEND_AGAIN_AFTER_S = 10.0


class OneTimeCodes:
    """Sends codes and checks guesses."""

    def __init__(self, sign_ins: SignInStore, sender: CodeSender | None, context: IdentityContext) -> None:
        """`sender` None: nobody signs in by phone number here."""
        self._sign_ins = sign_ins
        self._sender = sender
        self._context = context
        rates = context.rates
        share = max(1, rates.codes_per_number_per_day // NEIGHBOURHOODS_TO_EXHAUST_A_NUMBER)
        self._of_pair = (
            Rate.per_hour("codes of number and neighbourhood", rates.codes_per_number_per_h),
            Rate.per_day("codes of number and neighbourhood, a day", share),
        )
        self._of_number = Rate.per_day("codes of number", rates.codes_per_number_per_day)
        self._of_address = Rate.per_hour("codes of address", rates.codes_per_address_per_h)
        self._of_neighbourhood = Rate.per_hour("codes of neighbourhood", rates.codes_per_neighbourhood_per_h)
        self._of_country = Rate.per_hour_evenly("codes of country", rates.codes_per_country_per_h)
        self._of_node = Rate.per_hour_evenly("codes of node", rates.codes_per_h)
        self._guesses_of_pair = Rate.per_hour("guesses of number and network", rates.wrong_codes_per_number_per_h)
        self._guesses_of_address = Rate.per_hour("guesses of address", rates.wrong_codes_per_address_per_h)

    async def send(self, number: PhoneNumber, phone_hash: bytes, address: str) -> bytes:
        """Send a new code to a number, registered or not; returns its id. Raises RequestRefusedError."""
        if self._sender is None:
            raise RequestRefusedError(ErrorCode.NOT_ALLOWED, "sign-in by phone number is switched off here")
        context, network = self._context, network_of(address)
        await take_or_refuse(
            context.limiter,
            [
                *self._buckets_of_number(phone_hash, network),
                (self._of_address, network),
                (self._of_neighbourhood, neighbourhood_of(address)),
                (self._of_country, number.country),
                (self._of_node, ""),
            ],
        )
        code = new_code()
        pending = PendingCode(ids.new_id(), network, context.vault.hash_code(phone_hash, code))
        expires_at_ms = context.clock.wall_ms() + context.settings.code_ttl_s * 1000
        await self._sign_ins.put_code(
            OWN_TENANT, phone_hash, pending, attempts=context.settings.code_attempts_max, expires_at_ms=expires_at_ms
        )
        try:
            await self._sender.send(number.e164, code)
        except CodeNotSentError as error:
            _log.warning("a sign-in code could not be sent: %s", error)
            raise RequestRefusedError(
                ErrorCode.UNAVAILABLE, "the code could not be sent", retry_after_s=_SEND_AGAIN_AFTER_S
            ) from error
        return pending.code_id

    async def check(self, phone_hash: bytes, guess: str, address: str, code_id: bytes | None) -> PendingCode:
        """The code that the guess is right about; raises RequestRefusedError. Only a wrong guess counts."""
        network = network_of(address)
        buckets: list[Bucket] = [
            (self._guesses_of_pair, _pair(phone_hash, network)),
            (self._guesses_of_address, network),
        ]
        await take_or_refuse(self._context.limiter, buckets)
        pending = await self._sign_ins.spend_attempt(
            self._context.clock.wall_ms(), OWN_TENANT, phone_hash, network=network, code_id=code_id
        )
        guessed = self._context.vault.hash_code(phone_hash, guess)
        if pending is None or not equal(pending.hash, guessed):
            raise RequestRefusedError(ErrorCode.CODE_WRONG)
        await self._context.limiter.give_back(buckets)
        return pending

    async def forgive(self, phone_hash: bytes, used: PendingCode) -> None:
        """Do not count a code against its number: it was used, so the owner requested it."""
        await self._context.limiter.give_back(self._buckets_of_number(phone_hash, used.network))

    def _buckets_of_number(self, phone_hash: bytes, network: str) -> list[Bucket]:
        # An attacker has as many networks of IPv6 as they like, in one neighbourhood.
        pair = _pair(phone_hash, neighbourhood_of(network))
        return [*((rate, pair) for rate in self._of_pair), (self._of_number, phone_hash)]


def new_code() -> str:
    """A random one-time code of CODE_DIGITS digits."""
    return f"{secrets.randbelow(10**CODE_DIGITS):0{CODE_DIGITS}}"


def _pair(phone_hash: bytes, network: str) -> bytes:
    return phone_hash + network.encode()
