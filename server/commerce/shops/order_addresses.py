"""Where an order goes: an address of its customer, kept with the order as it was, for the staff who ship it."""

from __future__ import annotations

import logging
from uuid import UUID

from protocol.errors import ErrorCode
from server.commerce.asker import Asker, KeyedRequest
from server.commerce.personal.addresses import Addresses, PostalAddress
from server.commerce.personal.legal_records import LegalRecords, NewLegalCopy
from server.refusals import RequestRefusedError

_log = logging.getLogger(__name__)


class OrderAddresses:
    """Addresses of customers, and the copies of them that orders keep."""

    def __init__(self, addresses: Addresses, legal: LegalRecords) -> None:
        self._addresses = addresses
        self._legal = legal

    async def is_known(self, asker: Asker, address: UUID | None) -> bool:
        """Whether it is an address of the asker; none at all is, too."""
        try:
            if address is not None:
                await self._addresses.read(asker, address.bytes)
        except RequestRefusedError as refused:
            if refused.code is not ErrorCode.RECORD_NOT_FOUND:
                raise
            return False
        return True

    async def keep(self, asker: Asker, order: UUID, address: UUID | None) -> None:
        """Copy the address, and who the customer is, for an order; once. What is gone by now is not copied."""
        if address is None or await self._is_kept(asker, order):
            return
        request = KeyedRequest(asker, f"copy for {order}")  # no key of a client has a space
        try:
            await self._legal.keep_copy(request, NewLegalCopy(order=order, address=address))
        except RequestRefusedError as refused:  # the order is placed: no other refusal may say that it is not
            if refused.code is ErrorCode.UNAVAILABLE:
                raise
            _log.warning("an order keeps no copy of its address: %s", refused.code)

    async def _is_kept(self, asker: Asker, order: UUID) -> bool:
        try:
            await self._legal.find_copy(asker.tenant, asker.principal, order)
        except RequestRefusedError as refused:
            if refused.code is not ErrorCode.RECORD_NOT_FOUND:
                raise
            return False
        return True

    async def read(self, tenant: int, customer: bytes, order: UUID) -> PostalAddress:
        """The copy that an order keeps; raises RequestRefusedError when there is none."""
        return (await self._legal.find_copy(tenant, customer, order)).address
