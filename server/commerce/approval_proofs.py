"""When a person's token is not enough to pay, and what proves that they saw what they approve.

Above `above_minor` of the reference currency, or where a currency has no rate to it, a signature of the device that the
token names, over `approval_text`. Its public key is in the token: the chat knows the keys of its devices.
"""

from __future__ import annotations

import base64
from uuid import UUID

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from protocol.commerce.contract import Approval, approval_text
from server.commerce.asker import Asker
from storage.commerce.terms import Terms


class ApprovalProofs:
    """The rule, and the check of a signature."""

    def __init__(self, terms: Terms, *, above_minor: int) -> None:
        self._terms = terms
        self._above_minor = above_minor

    async def is_needed(self, tenant: int, currency: str, amount_minor: int) -> bool:
        """Whether a payment of so much needs a proof."""
        rate = await self._terms.read_reference_rate(tenant, currency)
        return rate is None or amount_minor * rate > self._above_minor

    def is_proven(self, asker: Asker, payment: UUID, approval: Approval) -> bool:
        """Whether the device of the token has signed this approval."""
        proof = approval.proof
        if proof is None or proof.signature is None or proof.device is None or asker.device_key is None:
            return False
        if proof.device.bytes != asker.device:
            return False
        try:
            signature = base64.b64decode(proof.signature, validate=True)
            Ed25519PublicKey.from_public_bytes(asker.device_key).verify(signature, approval_text(payment, approval))
        except (ValueError, InvalidSignature):
            return False
        return True
