"""The vault: what it keeps cannot be read, and what it keeps under an old key still can."""

import base64

import pytest

from server.identity import vault as v
from server.identity.vault import Vault, VaultError

OLD, NEW = v.new_key(), v.new_key()
NUMBER = "+6591234567"


def test_a_number_comes_back_out_and_its_box_never_looks_the_same() -> None:
    vault = Vault.from_text(OLD)
    (key, one), (_, other) = vault.seal(NUMBER), vault.seal(NUMBER)
    assert one != other
    assert NUMBER.encode() not in one
    assert vault.open(key, one) == vault.open(key, other) == NUMBER


def test_a_new_key_in_front_encrypts_and_the_old_one_still_opens_and_finds() -> None:
    before, after = Vault.from_text(OLD), Vault.from_text(f"{NEW}\n{OLD}\n")
    key, box = before.seal(NUMBER)
    assert after.open(key, box) == NUMBER
    assert after.seal(NUMBER)[0] != key
    assert after.hash_phone(1, NUMBER) == before.hash_phone(1, NUMBER)
    assert after.hash_code(b"hash", "123456") == before.hash_code(b"hash", "123456")
    token = v.new_refresh_token(bytes(range(16)))
    assert after.derive_successor(token) == before.derive_successor(token)


def test_a_box_of_a_strange_key_or_altered_is_not_opened() -> None:
    vault = Vault.from_text(OLD)
    key, box = vault.seal(NUMBER)
    strange, theirs = Vault.from_text(NEW).seal(NUMBER)
    for name, content in ((strange, theirs), (key, theirs), (key, box[:-1] + bytes([box[-1] ^ 1])), (key, b"")):
        with pytest.raises(VaultError):
            vault.open(name, content)


def test_hashes_are_keyed_and_apart_by_tenant_number_and_use() -> None:
    one, other = Vault.from_text(OLD), Vault.from_text(NEW)
    hashes = [
        one.hash_phone(1, NUMBER),
        one.hash_phone(2, NUMBER),
        one.hash_phone(1, NUMBER + "0"),
        other.hash_phone(1, NUMBER),
        one.hash_code(one.hash_phone(1, NUMBER), "123456"),
        one.hash_code(one.hash_phone(2, NUMBER), "123456"),
        one.hash_code(one.hash_phone(1, NUMBER), "123457"),
        other.hash_code(one.hash_phone(1, NUMBER), "123456"),
    ]
    assert len(set(hashes)) == len(hashes)


@pytest.mark.parametrize(
    "text",
    ["", "  \n", "short", base64.b64encode(b"x" * 31).decode(), OLD + "\nnot base64", "ключ"],
    ids=["empty", "blank", "text", "short", "second line", "not ASCII"],
)
def test_keys_of_another_form_are_refused_without_showing_them(text: str) -> None:
    with pytest.raises(VaultError) as refused:
        Vault.from_text(text)
    assert OLD not in str(refused.value)


def test_a_successor_is_the_same_each_time_and_differs_by_key_and_token() -> None:
    vault, token = Vault.from_text(OLD), v.new_refresh_token(bytes(range(16)))
    first = vault.derive_successor(token)
    assert first == vault.derive_successor(token)
    assert v.sign_in_of(first) == v.sign_in_of(token) == bytes(range(16))
    assert len({token, first, vault.derive_successor(first), Vault.from_text(NEW).derive_successor(token)}) == 4


def test_tokens_say_what_they_are() -> None:
    key = v.new_api_key()
    assert v.is_api_key(key)
    assert not v.is_api_key(v.new_refresh_token(bytes(16)))
    assert v.sign_in_of(key) is None


def test_a_payment_is_hashed_with_the_key_of_the_deployment() -> None:
    one, other = Vault([bytes(range(32))]), Vault([bytes(range(1, 33))])
    assert one.hash_payment(b"device", b"what") == one.hash_payment(b"device", b"what")
    assert one.hash_payment(b"device", b"what") != one.hash_payment(b"device", b"who")
    assert one.hash_payment(b"device", b"what") != other.hash_payment(b"device", b"what")
