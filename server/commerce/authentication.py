"""Who asks: by a token of the chat, or by an API key; where they are staff; and how often they may."""

from __future__ import annotations

import msgspec

from protocol.errors import ErrorCode
from server.commerce.asker import Asker
from server.commerce.request_tokens import AskedRequest, RequestTokens
from server.identity.rates import take_or_refuse
from server.identity.vault import hash_token, is_api_key
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import ApiKeyStore
from storage.commerce.shops.businesses import Businesses
from storage.rates import Rate, RateLimiter


class Authentication:
    """By tokens of the chat, or by API keys. Each process counts the requests of a caller by itself."""

    def __init__(
        self,
        tokens: RequestTokens,
        api_keys: ApiKeyStore,
        businesses: Businesses,
        limiter: RateLimiter,
        *,
        per_caller_s: int,
        per_service_s: int,
    ) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._businesses = businesses
        self._limiter = limiter
        self._per_caller = Rate.per_second("requests of caller", per_caller_s)
        self._per_service = Rate.per_second("requests of service", per_service_s)

    async def identify(self, bearer: str, request: AskedRequest) -> Asker:
        """Who asks; raises RequestRefusedError."""
        asker = await self._recognise(bearer, request)
        rate = self._per_service if asker.is_service else self._per_caller
        await take_or_refuse(self._limiter, [(rate, f"{asker.tenant} ".encode() + asker.principal)])
        return asker

    async def _recognise(self, bearer: str, request: AskedRequest) -> Asker:
        if not is_api_key(bearer):
            asker = await self._tokens.verify(bearer, request)
            roles = await self._businesses.read_roles(asker.tenant, asker.principal)
            return msgspec.structs.replace(asker, roles=roles) if roles else asker
        row = await self._api_keys.find(hash_token(bearer))
        if row is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "there is no such API key")
        return Asker(tenant=row.tenant, principal=row.caller, businesses=row.businesses, rights=row.rights)
