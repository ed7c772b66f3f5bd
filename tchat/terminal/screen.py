"""The screen of the terminal client: dialogs on the left, the open one on the right, the connection below."""

from __future__ import annotations

import time
from typing import ClassVar

import httpx
from textual import work
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import Key, Paste
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from protocol.bodies import TimelineEvent
from tchat.actions import ClientError, ConnectionState, Notification, Refused, RefusedError, StoppedError
from tchat.crypto.verification import Phase
from tchat.encryption.notices import Standing, VerificationStep
from tchat.shell import Client
from tchat.store import OutboxFullError
from tchat.terminal.account import ApiError
from tchat.terminal.lines import Line, clean, clean_line, dialog_line, title, transcript
from tchat.terminal.pages import Page
from tchat.terminal.slash import SlashError
from tchat.terminal.talk import Directory, Talk

_REDRAW_EVERY_S = 0.1
_EXPIRE_EVERY_S = 5.0
_STEP_SHOWN_S = 10
_WARNING_SHOWN_S = 30
_SHOWN_AT_FIRST = 100
_SHOWN_MORE = 100
_EXPECTED = (SlashError, ApiError, ClientError, OutboxFullError, httpx.TransportError)
_NOTHING_OPEN = "Begin with /new +NUMBER, or choose a dialog on the left."
_NOT_CONNECTED = "The server does not answer yet; the dialogs appear when it does."


class Composer(Input):
    """The input line. It keeps lines apart, however fast a person types.

    The library handles the enter key in a binding, after the key went up to the app and back; by then the input may
    have letters of the next line. Here the enter key is handled in order with the other keys.
    """

    class Entered(Message):
        """A line is complete."""

        def __init__(self, text: str) -> None:
            super().__init__()
            self.text = text

    def on_key(self, event: Key) -> None:
        """Pass a complete line on, and clear the input."""
        if event.key == "enter":
            event.stop()
            event.prevent_default()
            self.post_message(self.Entered(self.value.strip()))
            self.clear()

    def on_paste(self, event: Paste) -> None:
        """Insert all lines of a pasted text as one; the library drops those after the first."""
        event.stop()
        event.prevent_default()
        self.insert_text_at_cursor(" ".join(event.text.split()))


class ChatApp(App[StoppedError | None]):
    """The app returns None if the person quits, else the error that stopped the client."""

    ENABLE_COMMAND_PALETTE = False
    TITLE = "tchat"
    CSS = """
    #warning { background: $warning; color: $text; padding: 0 1; height: auto; display: none; }
    #dialogs { width: 28; border: none; }
    #title { height: 1; padding: 0 1; text-style: bold; background: $panel; }
    #scroll { padding: 0 1; }
    #page { padding: 0 1; display: none; }
    #state { height: 1; padding: 0 1; background: $panel; }
    Toast { width: 76; max-width: 90%; }
    ToastRack { margin-bottom: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+q", "quit", "quit", priority=True),
        Binding("ctrl+n", "neighbour(1)", "next dialog", priority=True),
        Binding("ctrl+p", "neighbour(-1)", "previous dialog", priority=True),
        Binding("pageup", "page(-1)", "older", priority=True),
        Binding("pagedown", "page(1)", "newer", priority=True),
        Binding("escape", "close_page", "back to the dialog", priority=True),
    ]

    def __init__(self, client: Client, people: Directory, own_name: str) -> None:
        super().__init__()
        self.talk = Talk(client, people, own_name)
        self._client = client
        self._dirty = True
        self._loading = False
        self._shown = _SHOWN_AT_FIRST
        self._drawn: bytes | None = None
        self._stated: Line = []
        self._page: Page | None = None
        self._drawn_page: Page | None = None

    def compose(self) -> ComposeResult:
        """The parts of the screen."""
        yield Static(id="warning")
        with Horizontal():
            yield OptionList(id="dialogs")
            with Vertical():
                yield Static(id="title")
                with VerticalScroll(id="scroll", can_focus=False):
                    yield Static(id="transcript")
                with VerticalScroll(id="page", can_focus=False):
                    yield Static(id="page-text")
                yield Composer(placeholder="a message, or /help", id="composer")
        yield Static(id="state")

    def on_mount(self) -> None:
        """Start drawing at an interval."""
        self.query_one("#composer").focus()
        self.set_interval(_REDRAW_EVERY_S, self._tick)
        self.set_interval(_EXPIRE_EVERY_S, self._expire)
        self._await_end()

    def take(self, event: Notification) -> None:
        """Take an event of the client. It runs inside the client's call, so drawing waits for the next tick."""
        self._dirty = True
        said = self.talk.take(event)
        if isinstance(event, VerificationStep) and event.phase in (Phase.DONE, Phase.CANCELLED):
            self._close_page_about(event.transaction)
        if isinstance(said, Page):
            self._page = said
        elif said is not None and isinstance(event, Refused):
            self.notify(said, title="Refused", severity="error", markup=False)
        elif said is not None:
            step = isinstance(event, VerificationStep) and event.phase is not Phase.ASKED
            heading = "" if isinstance(event, TimelineEvent) else "Encryption"
            seconds = _STEP_SHOWN_S if step else _WARNING_SHOWN_S
            self.notify(said, title=heading, severity="warning", timeout=seconds, markup=False)

    # inputs of the person

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        """Open a dialog."""
        if event.option_id is not None:
            self._open(bytes.fromhex(event.option_id))

    def on_input_changed(self, event: Input.Changed) -> None:
        """Report that the person is writing."""
        if event.value and not event.value.startswith("/"):
            self.talk.report_typing()

    def on_composer_entered(self, event: Composer.Entered) -> None:
        """Send a message, or carry out a command."""
        typed = event.text
        self._close_page()
        if typed in ("/quit", "/exit"):
            self.exit(None)
        elif typed.startswith("/"):
            self._command(typed)
        elif typed:
            try:
                self.talk.say(typed)
            except _EXPECTED as error:
                self._complain(error)
            self._to_end()

    def action_neighbour(self, step: int) -> None:
        """Open the next or previous dialog of the list."""
        keys = [dialog.dialog for dialog in self.talk.list_dialogs()]
        if keys:
            at = keys.index(self.talk.current) + step if self.talk.current in keys else 0
            self._open(keys[at % len(keys)])

    def action_page(self, step: int) -> None:
        """Scroll what is on the right by a page."""
        scroll = self.query_one("#scroll" if self._page is None else "#page", VerticalScroll)
        (scroll.scroll_page_up if step < 0 else scroll.scroll_page_down)(animate=False)

    def action_close_page(self) -> None:
        """Show the dialog again, and put the notices away."""
        self.clear_notifications()
        self._close_page()

    def _close_page_about(self, transaction: str) -> None:
        if self._page is not None and self._page.about == transaction:
            self._page = None

    def _close_page(self) -> None:
        self._page = None
        self._dirty = True

    @work
    async def _command(self, typed: str) -> None:
        try:
            said = await self.talk.do(typed)
        except RefusedError:
            return  # `take` showed it already
        except _EXPECTED as error:
            self._complain(error)
            return
        self._dirty = True
        if isinstance(said, Page):
            self._page = said
        elif said is not None:
            self.notify(said, timeout=_STEP_SHOWN_S, markup=False)

    @work
    async def _older(self) -> None:
        try:
            await self.talk.load_older()
        except ClientError as error:
            self._complain(error)
        self._loading = False
        self._dirty = True

    @work
    async def _names(self) -> None:
        try:
            self._dirty |= await self.talk.look_up_names()
        except (ClientError, httpx.TransportError):
            self._dirty = True  # the next drawing requests them again

    @work
    async def _await_end(self) -> None:
        try:
            await self._client.wait_until(lambda: False)
        except StoppedError as error:
            self.exit(error)

    def _complain(self, error: Exception) -> None:
        said = clean(str(error)) or type(error).__name__
        if isinstance(error, httpx.TransportError):
            said = f"the server does not answer ({said}); try again later"
        self.notify(said, title="That did not work", severity="error", markup=False)

    def _open(self, dialog: bytes) -> None:
        self.talk.current = dialog
        self._page = None
        self._shown = _SHOWN_AT_FIRST
        self._dirty = True

    # drawing

    def _tick(self) -> None:
        if not self.is_running:
            return  # the app closes: its widgets may be gone already
        if self._dirty:
            self._dirty = False
            self._draw()
            self._names()
        self._state()
        self._more()

    def _expire(self) -> None:
        dialog = self.talk.open_dialog
        if dialog is not None and dialog.expire(time.time_ns() // 1_000_000):
            self._dirty = True

    def _draw(self) -> None:
        self._draw_dialogs()
        for dialog_part in ("#dialogs", "#scroll"):
            self.query_one(dialog_part).display = self._page is None
        self.query_one("#page").display = self._page is not None
        if self._page is not self._drawn_page:
            self._drawn_page = self._page
            self.query_one("#page", VerticalScroll).scroll_home(animate=False)
        if self._page is not None:
            self._draw_page(self._page)
            return
        if self.app_focus:
            self.talk.confirm_read()
        dialog, viewer = self.talk.open_dialog, self.talk.make_viewer()
        if dialog is None:
            known = self._client.state is ConnectionState.LIVE or self.talk.list_dialogs()
            self.query_one("#transcript", Static).update(_NOTHING_OPEN if known else _NOT_CONNECTED)
            return
        heading: Line = [(title(dialog, viewer), "bold"), (f"  {self.talk.about(dialog)}", "dim")]
        self.query_one("#title", Static).update(_content([heading]))
        self._draw_transcript(transcript(dialog, self.talk.pending(), viewer, self._shown))

    def _draw_dialogs(self) -> None:
        viewer = self.talk.make_viewer()
        dialogs = self.talk.list_dialogs()
        options = self.query_one("#dialogs", OptionList)
        invitations = len(self._client.view.invitations)
        lines = [
            dialog_line(each, viewer, typing=bool(self.talk.writers_in(each.dialog)), invitations=invitations)
            for each in dialogs
        ]
        options.set_options(
            Option(_content([line]), id=each.dialog.hex()) for each, line in zip(dialogs, lines, strict=True)
        )
        keys = [each.dialog for each in dialogs]
        if self.talk.current in keys:
            options.highlighted = keys.index(self.talk.current)

    def _draw_page(self, page: Page) -> None:
        heading: Line = [(clean_line(page.title), "bold"), ("  Escape closes this page", "dim")]
        self.query_one("#title", Static).update(_content([heading]))
        self.query_one("#page-text", Static).update(_content(page.lines))

    def _draw_transcript(self, lines: list[Line]) -> None:
        """Keep the distance to the end of the transcript, so that the visible lines stay visible."""
        scroll = self.query_one("#scroll", VerticalScroll)
        from_end = scroll.max_scroll_y - scroll.scroll_y
        if self._drawn != self.talk.current:
            self._drawn, from_end = self.talk.current, 0
        self.query_one("#transcript", Static).update(_content(lines))
        self.call_after_refresh(lambda: scroll.scroll_to(y=scroll.max_scroll_y - from_end, animate=False))

    def _to_end(self) -> None:
        self._drawn = None
        self._dirty = True

    def _state(self) -> None:
        state = self._client.state
        pieces: Line = [(state.value, "green" if state is ConnectionState.LIVE else "yellow")]
        if waiting := len(self._client.pending()):
            pieces.append((f"  {waiting} not sent yet", "yellow"))
        if self._page is not None and (unread := sum(each.unread for each in self.talk.list_dialogs())):
            pieces.append((f"  {unread} unread", "bold cyan"))
        if self.talk.current and (writers := self.talk.writers_in(self.talk.current)):
            pieces.append((f"  {', '.join(writers)} writing…", "green"))
        standing = self._client.encryption.standing
        warning = self.query_one("#warning", Static)
        warning.display = standing is Standing.UNVERIFIED
        warning.update(f"{standing.sentence} (/verify, /recover KEY, /new-identity)")
        if pieces != self._stated:
            self._stated = pieces
            self.query_one("#state", Static).update(_content([pieces]))

    def _more(self) -> None:
        """At the top of the transcript, show older messages, or load them from the server."""
        dialog = self.talk.open_dialog
        scroll = self.query_one("#scroll", VerticalScroll)
        if dialog is None or self._loading or self._client.state is not ConnectionState.LIVE:
            return
        if self._page is not None or scroll.scroll_y >= 1:
            return
        held = sum(entry.seq >= dialog.loaded_from for entry in dialog.timeline())
        if self._shown < held:
            self._shown += _SHOWN_MORE
            self._dirty = True
        elif not dialog.complete:
            self._loading = True
            self._shown += _SHOWN_MORE
            self._older()


def _content(lines: list[Line]) -> Content:
    return Content("\n").join([Content.assemble(*line) for line in lines])
