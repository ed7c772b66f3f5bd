"""The key under which the answer of a step is kept: whose it is, and a digest of what was asked.

The digest is of the decoded fields that differ from their defaults, so a field that a later version appends changes no
digest of before. It is keyed: bodies have few possible values, and whoever copies the database must not find them.
"""

from __future__ import annotations

import functools
import hashlib
from typing import Any
from uuid import UUID

import msgspec

from server.commerce.asker import KeyedRequest
from storage.commerce.money_rows import StepKey, key_id_of

_DIGEST_BYTES = 16


class StepKeys:
    """Makes keys with the secret of the deployment."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def make(self, request: KeyedRequest, operation: str, body: msgspec.Struct | None = None) -> StepKey:
        """The key of a request; `operation` names what is done, and to which object."""
        content = msgspec.json.encode([operation, _said(body)], order="sorted")
        digest = hashlib.blake2b(content, key=self._secret, digest_size=_DIGEST_BYTES, person=b"step body")
        return StepKey(key_id_of(request.asker.tenant, request.asker.principal, request.key), digest.digest())


def name_operation(name: str, subject: UUID) -> str:
    """An operation on an object."""
    return f"{name} {subject}"


def _said(value: Any) -> Any:
    if isinstance(value, msgspec.Struct):
        return {
            name: _said(said) for name, default in _defaults(type(value)) if (said := getattr(value, name)) != default
        }
    return [_said(each) for each in value] if isinstance(value, list | tuple) else value


@functools.cache  # looking a struct up took an eighth of the time of a request
def _defaults(kind: type[msgspec.Struct]) -> tuple[tuple[str, Any], ...]:
    return tuple((field.name, _default(field)) for field in msgspec.structs.fields(kind))


def _default(field: msgspec.structs.FieldInfo) -> Any:
    return field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
