"""Starts the chat: state folder, sign-in on the plain terminal, then the full-screen app."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from protocol.commands import Numbered, Send
from tchat.actions import Notification, SignInRequiredError, StoppedError, StoreIsBehindError, TokenUnavailableError
from tchat.crypto.store_errors import NoKeyError, NoKeyringError, SealedStoreError
from tchat.sealed_store import SealedStore
from tchat.shell import Client
from tchat.store_key import FileKey, KeyringKey
from tchat.terminal.account import ApiError, LocalAccount
from tchat.terminal.lines import clean, text_of
from tchat.terminal.screen import ChatApp

_WRONG_CODES_MAX = 3


class CannotStartError(Exception):
    """The chat cannot start; the text says why, and what to do. Parts of it that a server wrote are made safe."""

    def __init__(self, text: str) -> None:
        super().__init__(clean(text))


async def chat(server: str, phone_number: str, name: str, state: Path | None) -> int:
    """Chat until the person quits; raises CannotStartError."""
    if urlsplit(server).scheme not in ("http", "https"):
        raise CannotStartError(f"--server is a URL that begins with http:// or https://, not {server!r}")
    phone_number = re.sub(r"[\s().-]", "", phone_number)
    with _locked(_folder(state, server, phone_number)) as folder:
        async with httpx.AsyncClient(base_url=server) as http:
            account = LocalAccount(folder, http)
            account.load()
            try:
                await _signed_in(account, phone_number, name)
            except httpx.TransportError as error:
                raise CannotStartError(f"{server} does not answer ({error}); is the server running?") from error
            except TokenUnavailableError as error:
                raise CannotStartError(f"{server} cannot sign you in now: {error}") from error
            return await _run(server, folder, account, name or phone_number)


async def _run(server: str, folder: Path, account: LocalAccount, title: str) -> int:
    if not sys.stdout.isatty():
        raise CannotStartError("this needs a terminal to draw on")
    assert account.saved is not None
    store = _open_store(folder, str(account.saved.device))
    app: ChatApp | None = None

    def take(event: Notification) -> None:
        if app is not None:
            app.take(event)

    try:
        url = f"ws{server.removeprefix('http').rstrip('/')}/v1/ws"
        async with Client(url, account.token, store=store, on_event=take) as client:
            app = ChatApp(client, account, title)
            error = await app.run_async()
            waiting = client.pending()
        if isinstance(error, StoreIsBehindError):
            store.retire(error.n_max, error.generation)
            raise CannotStartError(_given_up(waiting))
    finally:
        store.close()
    if isinstance(error, StoppedError):
        raise CannotStartError(_why_ended(account, error))
    return 0


def _why_ended(account: LocalAccount, error: StoppedError) -> str:
    """What a person is told whose client has stopped; a sign-in that the server has ended is not used again."""
    if not isinstance(error, SignInRequiredError):
        return f"the chat ended: {error}"
    account.expire()
    return f"the chat ended: {error} Start it again to sign in."


def _given_up(waiting: Iterable[Numbered]) -> str:
    """What a person is told whose store was an older copy; these commands it had not sent."""
    texts = "".join(f"\n  {text_of(each.payload)}" for each in waiting if isinstance(each, Send))
    return (
        "the store of this device was an older copy, so it has new keys now. What waited in it was given up, since it"
        f" may have been sent before: look for it, and type it again if it is not there.{texts}\n"
        "Start the chat again, and confirm this device, if it asks for that."
    )


def _open_store(folder: Path, device: str) -> SealedStore:
    """The store of the device, under a key of the system's keyring; without a keyring, of a file beside it."""
    path, key_file = folder / f"outbox-{device}.sqlite", folder / f"key-{device}"
    try:
        no_keyring = None
        if not key_file.exists():
            try:
                return SealedStore(path, KeyringKey(f"tchat {device}"))
            except NoKeyringError as error:
                no_keyring = error
        return SealedStore(path, FileKey(key_file))
    except NoKeyError as error:
        where = f"no file {key_file}" if no_keyring is None else f"neither in a keyring that opens nor in {key_file}"
        raise CannotStartError(f"{error.sentence} ({where}; the store is {path})") from error
    except SealedStoreError as error:
        raise CannotStartError(f"{error} The store is {path}.") from error


async def _signed_in(account: LocalAccount, phone_number: str, name: str) -> None:
    """Use the sign-in of an earlier run, or ask for a code."""
    if account.saved is not None:
        try:
            await account.token(False)
        except SignInRequiredError as error:
            _say(f"You were signed out ({error}).")
        else:
            return
    try:
        await account.send_code(phone_number)
    except ApiError as error:
        raise CannotStartError(f"no code could be sent: {error}") from error
    _say(f"A code is on its way to {phone_number}. (A development server writes it to its log.)")
    for attempt in range(1, _WRONG_CODES_MAX + 1):
        code = await asyncio.to_thread(_ask, "Code: ")
        try:
            await account.sign_in(phone_number, code, name)
        except ApiError as error:
            if attempt == _WRONG_CODES_MAX or error.refusal.code != "code_wrong":
                raise CannotStartError(f"the sign-in was refused: {error}") from error
            _say(str(error))
        else:
            return


def _ask(question: str) -> str:
    _say(question, end="")
    line = sys.stdin.readline()
    if not line:
        raise CannotStartError("a code is needed to sign in")
    return line.strip()


def _say(text: str, end: str = "\n") -> None:
    sys.stdout.write(clean(text) + end)  # part of it may be a server's
    sys.stdout.flush()


def _folder(state: Path | None, server: str, phone_number: str) -> Path:
    """The folder for the state of one person at one server."""
    if state is None:
        base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
        state = Path(base) / "tchat"
    host = re.sub(r"[^\w.-]", "_", urlsplit(server).netloc)
    folder = state / host / re.sub(r"[^\d+]", "_", phone_number)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[Path]:
    """Refuse a second chat of the same person: both would be one device, and only one could be connected."""
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise CannotStartError(
                "a chat for this number is running already; a second device of yours has a --state folder of its own"
            ) from None
        yield folder
