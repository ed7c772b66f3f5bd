"""The smallest client that loses nothing, shows nothing twice and keeps its order. The page shows it; a test runs it.

It does no I/O: `transmit` sends one JSON message, `received` gets one, `reconnect` closes the connection and opens
another. What is marked "on disk" must survive a crash of the client, and be stored before anything is sent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

Message = dict[str, Any]


# begin
class SmallClient:
    """Receives and sends JSON messages of one device."""

    def __init__(self, token: str, transmit: Callable[[Message], None], reconnect: Callable[[], None]) -> None:
        self.token, self.transmit, self.reconnect = token, transmit, reconnect
        self.position = ""  # on disk: where to resume
        self.have: dict[str, int] = {}  # on disk: by dialog, the number up to which every event is applied
        self.visible: dict[str, list[list[int]]] = {}  # on disk: by dialog, the intervals that this member may read
        self.events: list[Message] = []  # on disk: what was applied
        self.n = 0  # on disk: the last number of this device
        self.outbox: list[Message] = []  # on disk: commands without a final answer; `n` rises
        self.under_way: Counter[str] = Counter()  # by dialog: commands that wait for their answer
        self.halted: set[str] = set()  # dialogs in which a command was refused for now
        self.live = False

    def connected(self) -> None:  # a websocket is open
        self.live = False
        self.transmit({"tag": "authenticate", "id": 1, "token": self.token})

    def send(self, dialog: str, payload: str) -> None:
        self.n += 1
        command = {"tag": "send", "id": self.n + 2, "dialog": dialog, "n": self.n, "payload": payload, "header": {}}
        self.outbox.append(command)
        if self.live and dialog not in self.halted:
            self.transmit_commands([command])

    def transmit_commands(self, commands: list[Message]) -> None:
        for command in commands:
            self.under_way[command["dialog"]] += 1
            self.transmit(command)

    def received(self, message: Message) -> None:
        match message["tag"]:
            case "authenticated":
                self.transmit({"tag": "sync", "id": 2, "position": self.position})
            case "synced":
                if not message["recovered"]:
                    self.have, self.visible, self.events = {}, {}, []
                self.live, self.halted, self.under_way = True, set(), Counter()
                self.transmit_commands(self.outbox)  # their fate is unknown: all again, unchanged
            case "dialog_state":
                self.have[message["dialog"]] = max(self.have.get(message["dialog"], 0), message["first_seq"] - 1)
                self.visible[message["dialog"]] = message["visible"]
            case "timeline_event":
                self.apply(message)
            case "caught_up" | "heartbeat_reply":
                self.position = message.get("position") or self.position
            case "acked" | "failed":
                self.answered(message)

    def apply(self, event: Message) -> None:
        after = self.have[event["dialog"]] + 1
        readable = [(first, last or event["seq"]) for first, last in self.visible[event["dialog"]]]
        awaited = min((max(first, after) for first, last in readable if last >= after), default=after)
        if event["seq"] == awaited:  # the next one that this member may read
            self.have[event["dialog"]] = event["seq"]
            self.events.append(event)
        elif event["seq"] > awaited:  # a gap: after a reconnect the server sends from the position on
            self.reconnect()

    def answered(self, reply: Message) -> None:
        command = next((command for command in self.outbox if command["id"] == reply["id"]), None)
        if command is None:
            return
        dialog, code = command["dialog"], reply.get("code")
        self.under_way[dialog] -= 1
        if code == "stale":
            command["header"]["keys_seq"] = reply["keys_seq"]
        if code in ("stale", "unavailable", "rate_limited", "earlier_first"):
            self.halted.add(dialog)
        else:  # acked, or refused for good: show that to the person
            self.outbox.remove(command)
        if dialog in self.halted and not self.under_way[dialog]:  # after `retry_after_s`: from the refused one on
            self.halted.remove(dialog)
            self.transmit_commands([command for command in self.outbox if command["dialog"] == dialog])


# end
