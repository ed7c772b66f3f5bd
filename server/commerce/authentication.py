"""Who asks, by what stands behind `Bearer`: a token of the chat, or an API key; and where a person is staff."""

from __future__ import annotations

import msgspec

from protocol.errors import ErrorCode
from server.commerce.asker import Asker
from server.commerce.request_tokens import AskedRequest, RequestTokens
from server.identity.vault import hash_token, is_api_key
from server.refusals import RequestRefusedError
from storage.commerce.api_key_store import ApiKeyStore
from storage.commerce.shops.businesses import Businesses


class Authentication:
    """By tokens of the chat, or by API keys."""

    def __init__(self, tokens: RequestTokens, api_keys: ApiKeyStore, businesses: Businesses) -> None:
        self._tokens = tokens
        self._api_keys = api_keys
        self._businesses = businesses

    async def identify(self, bearer: str, request: AskedRequest) -> Asker:
        """Who asks; raises RequestRefusedError."""
        if not is_api_key(bearer):
            asker = await self._tokens.verify(bearer, request)
            roles = await self._businesses.read_roles(asker.tenant, asker.principal)
            return msgspec.structs.replace(asker, roles=roles) if roles else asker
        row = await self._api_keys.find(hash_token(bearer))
        if row is None:
            raise RequestRefusedError(ErrorCode.TOKEN_INVALID, "there is no such API key")
        return Asker(tenant=row.tenant, principal=row.caller, businesses=row.businesses, rights=row.rights)
