"""When a person's token is not enough to pay, and what proves that they saw what they pay.

Above `above_minor` of the reference currency, or where a currency has no rate to it: a signature over `approval_text`
or `send_text` by the device that the token names, whose public key is in the token (the chat knows the keys of its
devices); or, without a signature, a step-up of the platform.
"""

from __future__ import annotations

import base64

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.commerce.contract import Proof
from server.commerce.asker import Asker
from server.commerce.step_ups import StepUps
from storage.commerce.money_rows import StepKey
from storage.commerce.terms import Terms


class ApprovalProofs:
    """The rule, and the check of a proof. `step_ups` None: the platform makes none."""

    def __init__(self, terms: Terms, step_ups: StepUps | None, *, reference: str, above_minor: int) -> None:
        self._terms = terms
        self._step_ups = step_ups
        self._reference = reference
        self._above_minor = above_minor

    async def are_right(
        self, asker: Asker, key: StepKey, text: bytes, proof: Proof | None, *, currency: str, amount_minor: int
    ) -> bool:
        """Whether this may be paid: no proof is needed, or it proves `text`. A signature that is there is right."""
        signature = None if proof is None else proof.signature
        if signature is None and not await self.is_needed(asker.tenant, currency, amount_minor):
            return True
        return proof is not None and await self.is_proven(asker, key, text, proof)

    async def is_needed(self, tenant: int, currency: str, amount_minor: int) -> bool:
        """Whether a payment of so much needs a proof."""
        if currency == self._reference:  # without a read for each payment
            return amount_minor > self._above_minor
        rate = await self._terms.read_reference_rate(tenant, currency)
        return rate is None or amount_minor * rate > self._above_minor

    async def is_proven(self, asker: Asker, key: StepKey, text: bytes, proof: Proof) -> bool:
        """Whether the device of the token has signed this text, or the platform has stepped up for it."""
        if proof.signature is not None:
            return _is_signed(asker, text, proof, proof.signature)
        if proof.step_up is None or self._step_ups is None:
            return False
        return await self._step_ups.is_valid(asker, key, text, proof.step_up)


def _is_signed(asker: Asker, text: bytes, proof: Proof, signature: str) -> bool:
    if proof.device is None or asker.device_key is None or proof.device.bytes != asker.device:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(asker.device_key).verify(base64.b64decode(signature, validate=True), text)
    except (ValueError, InvalidSignature):
        return False
    return True
