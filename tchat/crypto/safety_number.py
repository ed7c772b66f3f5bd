"""The safety number of two people: 60 digits that both see, and that differ if anybody swapped one of their identities.

Signal's numeric fingerprint: a hash of each person's master key and id, repeated so that finding another key with the
same digits costs ROUNDS times as much; 30 digits each, the lesser first, so that both see the same number.
"""

from __future__ import annotations

import hashlib

from protocol.canonical import frame

ROUNDS = 5200
_DOMAIN = b"tchat/safety-number/1"
_GROUPS, _GROUP_BYTES, _GROUP_DIGITS = 6, 5, 5


def safety_number(one: tuple[bytes, bytes], other: tuple[bytes, bytes]) -> str:
    """Twelve groups of five digits, of two people: each a principal and the master key that it is believed to have.

    Takes about 10 ms.
    """
    return " ".join(sorted((_digits(*one), _digits(*other))))


def _digits(principal: bytes, master: bytes) -> str:
    digest = hashlib.sha512(frame(_DOMAIN, principal, master)).digest()
    for _ in range(ROUNDS - 1):
        digest = hashlib.sha512(digest + master).digest()
    groups = (digest[start : start + _GROUP_BYTES] for start in range(0, _GROUPS * _GROUP_BYTES, _GROUP_BYTES))
    return " ".join(f"{int.from_bytes(group, 'big') % 10**_GROUP_DIGITS:0{_GROUP_DIGITS}}" for group in groups)
