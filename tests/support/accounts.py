"""Accounts of bots and businesses, for the suites of the stores."""

from __future__ import annotations

from protocol.ids import NIL, new_id
from storage.identity_rows import ExternalSignIn, NewDevice, SignInTerms
from storage.postgres.accounts import AccountStore
from storage.postgres.webhooks import WebhookStore
from storage.rows import PrincipalType
from tests.support.identity_people import NOW, TENANT

TERMS = SignInTerms(NOW + 1000, 2, 0)


async def create(store: AccountStore, key_hash: bytes, *, owner: bytes = NIL, accounts_max: int = 100) -> bytes | None:
    """A new bot; None if its owner has enough."""
    bot = new_id()
    created = await store.create(
        NOW,
        TENANT,
        owner,
        owner,
        kind=PrincipalType.BOT,
        principal=bot,
        name="bot",
        locale="en",
        timezone="UTC",
        device=new_id(),
        key_hash=key_hash,
        accounts_max=accounts_max,
    )
    return bot if created else None


async def sign_in_by_key(
    store: AccountStore, key_hash: bytes, principal: bytes, device: bytes, now_ms: int = NOW
) -> ExternalSignIn:
    """A sign-in of a device of a bot."""
    installation = NewDevice(device, device, "bot", "1", "", "203.0.113.7")
    return await store.sign_in_by_key(now_ms, key_hash, principal, sign_in=new_id(), device=installation, terms=TERMS)


async def exercise_accounts(store: AccountStore, webhooks: WebhookStore) -> None:
    """Call everything that reads and writes accounts, and their webhooks."""
    old, new, owner = new_id(), new_id(), new_id()
    bot = await create(store, old, owner=owner)
    assert bot is not None
    await sign_in_by_key(store, old, bot, new_id())
    await store.list(TENANT, owner, after=NIL, limit=10)
    assert await store.renew_key(NOW, TENANT, owner, owner, principal=bot, key_hash=new)
    await exercise_webhooks(webhooks, bot)
    assert await store.delete(NOW, TENANT, owner, owner, bot)


async def exercise_webhooks(store: WebhookStore, bot: bytes) -> None:
    """Call everything that reads and writes webhooks."""
    dialog = new_id()
    await store.set(NOW, bot, "https://bots.example")
    await store.read(bot)
    await store.list_active(new_id(), limit=10)
    await store.look(NOW, bot, NIL)
    await store.note_sent(bot, dialog, 1, sent=1)
    failing = {"tries": 1, "next_at_ms": NOW, "webhook_next_at_ms": NOW, "pause_if_since_ms": NOW}
    await store.note_failed(NOW, bot, dialog, 2, "no", give_up=False, **failing)
    await store.resume(bot)
    await store.remove(bot)
