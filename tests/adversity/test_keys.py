"""A short run of claimers who race over kills and a restore; and that the tool sees what it looks for."""

from pathlib import Path

import pytest

from protocol.ids import new_id
from protocol.key_commands import NamedKey, UploadKeys
from protocol.replies import ClaimedKey, ClaimedKeys
from tests.adversity.keys import Ledger, claim_keys

pytestmark = pytest.mark.anyio

ANN, BO, CY = (new_id() for _ in range(3))
KEYS = [NamedKey(f"AAAAAAAAAA{letter}", b'{"key":"%d"}' % number) for number, letter in enumerate("AEI")]


async def test_no_key_goes_out_twice_and_none_is_burnt(tmp_path: Path) -> None:
    said = await claim_keys(claims=500, kills=1, seed=7, folder=tmp_path)
    assert (said["issued_twice"], said["burnt_by_retry"]) == (0, 0)
    assert (said["kills"], said["restores"]) == (1, 1)
    assert said["claims"] - said["fallbacks"] > 250


def given(key: NamedKey) -> ClaimedKeys:
    return ClaimedKeys(1, [ClaimedKey(ANN, key.id, key.key)])


def test_a_key_that_two_claims_got_is_seen_also_in_another_history() -> None:
    ledger = Ledger()
    ledger.note_claimed(BO, 1, given(KEYS[0]))
    ledger.settle(set())
    ledger.note_claimed(CY, 1, given(KEYS[0]))
    assert ledger.issued_twice == 1


def test_a_claim_that_gets_another_key_and_a_key_that_nobody_got_are_seen() -> None:
    ledger = Ledger()
    ledger.note_uploaded(UploadKeys(1, 1, b"{}", KEYS))
    ledger.note_claimed(BO, 1, given(KEYS[0]))
    ledger.note_claimed(BO, 1, given(KEYS[0]))
    assert ledger.burnt_by_retry == 0
    ledger.note_claimed(BO, 1, given(KEYS[1]))
    assert ledger.burnt_by_retry == 1
    ledger.settle({KEYS[1].key})
    assert ledger.burnt_by_retry == 2
