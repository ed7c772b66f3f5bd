"""What people do and what goes wrong: some tens of steps, drawn one after the other."""

from __future__ import annotations

from collections.abc import Callable

from protocol import commands as c
from protocol.bodies import Header, Posted
from tchat.actions import ConnectionState
from tests.simulation.database import Backup
from tests.simulation.device import Device
from tests.simulation.stage import Stage, text_of
from tests.simulation.verify import lose_history

_PAUSES_S = (0.0, 0.0, 0.01, 0.1, 0.5, 2.0)


class Script:
    """The steps of one run on a stage."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self._dice = stage.dice
        self._said = 0
        self._failed_over = False
        self._steps: dict[Callable[[], str], int] = {
            self._talk: 40,
            self._edit: 6,
            self._react: 6,
            self._delete: 4,
            self._read: 8,
            self._position: 6,
            self._add: 5,
            self._remove: 4,
            self._leave: 2,
            self._promote: 2,
            self._cut: 8,
            self._stall: 5,
            self._crash_device: 3,
            self._resume_older: 3,
            self._kill_node: 3,
            self._take_over: 2,
            self._crash_database: 2,
            self._lock_head: 2,
            self._change_weather: 6,
            self._hide_rosters: 1,
            self._wait: 6,
        }
        if stage.loses_history:
            self._steps[self._fail_over] = 4

    def run(self) -> None:
        """All steps."""
        stage, dice = self.stage, self._dice
        stage.start_node()
        if stage.redis is not None:
            stage.start_node()
            self._steps[self._pause_node] = 4
            if not stage.redis.absent:
                self._steps[self._break_redis] = 10
        for device in stage.devices:
            device.start()
        stage.loop.run_for(dice.choice((0.0, 1.0)))
        chosen = dice.choices(list(self._steps), list(self._steps.values()), k=dice.randint(20, 60))
        for step in chosen:
            said = step()
            if said:
                stage.note(f"* {said}")
            pause_s = dice.choice(_PAUSES_S)
            if pause_s:
                stage.loop.run_for(pause_s * dice.random())

    # -- what people do

    def _talk(self) -> str:
        device, dialog = self._someone(), self._some_dialog()
        count = self._dice.choice((1, 1, 2, 6))
        for _ in range(count):
            self._said += 1
            device.submit(c.Send(0, dialog, 1, text_of(self._said, self._dice), Header()))
        return f"{device.name} says {count} up to {self._said} in {self.stage.name_of_dialog(dialog)}"

    def _edit(self) -> str:
        return self._about("edits", own=True, make=self._make_edit)

    def _make_edit(self, dialog: bytes, seq: int) -> c.Numbered:
        self._said += 1
        return c.Edit(0, dialog, 1, seq, text_of(self._said, self._dice))

    def _react(self) -> str:
        return self._about("reacts to", own=False, make=lambda dialog, seq: c.React(0, dialog, 1, seq, b"+"))

    def _delete(self) -> str:
        return self._about("deletes", own=True, make=lambda dialog, seq: c.Delete(0, dialog, 1, seq))

    def _about(self, what: str, *, own: bool, make: Callable[[bytes, int], c.Numbered]) -> str:
        device, dialog = self._someone(), self._some_dialog()
        recent = [
            event.seq
            for event in device.witness.recent.get(dialog, ())
            if isinstance(event.body, Posted) and (not own or event.author == device.principal)
        ]
        if not recent:
            return ""
        seq = self._dice.choice(recent)
        device.submit(make(dialog, seq))
        return f"{device.name} {what} {seq} in {self.stage.name_of_dialog(dialog)}"

    def _read(self) -> str:
        device, dialog = self._someone(), self._some_dialog()
        seq = device.witness.reached.get(dialog, 0)
        if seq:
            device.say_receipt(dialog, seq)
        return f"{device.name} has read {seq} of {self.stage.name_of_dialog(dialog)}"

    def _position(self) -> str:
        device = self._someone()
        if device.live:
            device.ask_for_position()
        return f"{device.name} asks for a position"

    def _add(self) -> str:
        return self._over("adds", lambda dialog, who: c.Add(0, dialog, 1, [who]), member=False)

    def _remove(self) -> str:
        return self._over("removes", lambda dialog, who: c.Remove(0, dialog, 1, who), member=True)

    def _promote(self) -> str:
        return self._over("promotes", lambda dialog, who: c.Promote(0, dialog, 1, who), member=True)

    def _leave(self) -> str:
        device, dialog = self._someone(), self._some_dialog()
        device.submit(c.Leave(0, dialog, 1))
        return f"{device.name} leaves {self.stage.name_of_dialog(dialog)}"

    def _over(self, what: str, make: Callable[[bytes, bytes], c.Numbered], *, member: bool) -> str:
        """Somebody who mostly may do it does it to somebody to whom it mostly can be done."""
        dialog = self._some_dialog()
        found = self.stage.database.dialogs[dialog]
        admins = [device for device in self.stage.devices if found.role_of(device.principal)]
        device = self._dice.choice(admins) if admins and self._dice.random() < 0.9 else self._someone()
        fitting = [who for who in self.stage.people if (found.role_of(who) is not None) is member]
        who = self._dice.choice(fitting or self.stage.people)
        if who == device.principal and member:
            return ""
        device.submit(make(dialog, who))
        return f"{device.name} {what} {self.stage.name_of(who)} in {self.stage.name_of_dialog(dialog)}"

    # -- what goes wrong

    def _cut(self) -> str:
        device = self._someone()
        link = device.link
        if link is None:
            return ""
        if self._dice.random() < 0.3:
            device.drop()
            return f"{device.name} drops its connection"
        learns = [self._dice.choice((0.0, 0.1, 3.0, 30.0)) for _ in range(2)]
        link.cut(client_learns_s=learns[0], server_learns_s=learns[1])
        return f"the connection of {device.name} is cut; it learns of it in {learns[0]} s, the node in {learns[1]} s"

    def _stall(self) -> str:
        device = self._someone()
        link = device.link
        if link is None or link.stalled:
            return ""
        for_s = self._dice.choice((0.2, 2.0, 8.0))
        link.stalled = True
        stage = self.stage
        stage.loop.call_later(for_s, link.resume, context=stage.clients.context)
        return f"{device.name} reads nothing for {for_s} s"

    def _crash_device(self) -> str:
        device = self._someone()
        device.start()
        return f"{device.name} begins anew"

    def _resume_older(self) -> str:
        device = self._someone()
        positions = list(device.witness.held)
        if not positions:
            return ""
        if device.core.state is not ConnectionState.WAITING:
            device.drop()
        device.take_back(self._dice.choice(positions))
        return f"{device.name} resumes from an older position"

    def _kill_node(self) -> str:
        node = self.stage.find_node()
        if node is None:
            return ""
        node.kill()
        self._end_links(node.process)
        self._later(self._dice.choice((0.0, 0.1, 1.0)), self.stage.start_node)
        return f"{node.process} dies"

    def _take_over(self) -> str:
        if sum(node.process.alive for node in self.stage.nodes) > 1 + self.stage.shared:
            return ""
        self.stage.start_node()
        return "a node starts while another one serves"

    def _pause_node(self) -> str:
        node = self.stage.find_node()
        if node is None or node.process.paused is not None:
            return ""
        node.process.paused = []
        for_s = self._dice.choice((1.0, 6.0, 12.0))
        self._later(for_s, lambda: self.stage.loop.resume(node.process))
        return f"{node.process} stands still for {for_s} s"

    def _break_redis(self) -> str:
        redis, draw = self.stage.redis, self._dice.choice
        assert redis is not None
        match draw(("wipe", "restart", "drop", "cut", "silenced", "silenced", "away")):
            case "wipe":
                redis.contents.wipe()
                return "Redis is wiped"
            case "restart":
                redis.contents.restart()
                redis.drop_receivers()
                return "Redis begins with an old dump"
            case "drop":
                redis.drop_receivers()
                return "Redis loses its receivers"
            case "cut" | "silenced" as fault:
                node = self.stage.find_node()
                if node is None:
                    return ""
                if fault == "cut":
                    redis.cut_off(node.process, notices_s=draw((0.0, 1.0)))
                    said = f"{node.process} is cut off from Redis"
                else:
                    redis.lose_calls(node.process)
                    said = f"{node.process} asks Redis in vain"
            case _:
                redis.go_away(notices_s=draw((0.0, 1.0)))
                said = "Redis is away"
        self._later(draw((0.3, 3.0, 10.0)), redis.mend)
        return said

    def _crash_database(self) -> str:
        database = self.stage.database
        if database.down:
            return ""
        database.crash()
        self._later(self._dice.choice((0.1, 1.0, 4.0)), self._start_database)
        return "the database crashes"

    def _fail_over(self) -> str:
        if self._failed_over:
            return ""
        self._failed_over = True
        backup = self.stage.database.back_up()
        behind_s = self._dice.choice((0.02, 0.5, 4.0))
        self._later(behind_s, lambda: self._restore(backup))
        return f"the standby will be {behind_s} s behind"

    def _restore(self, backup: Backup) -> None:
        stage = self.stage
        if stage.healing or any(node.process.paused is not None for node in stage.nodes):
            return
        stage.note("the standby is promoted")
        lose_history(stage, backup)
        self._later(self._dice.choice((0.1, 1.0)), self._start_database)

    def _start_database(self) -> None:
        self.stage.note("the database is up")
        self.stage.database.down = False

    def _lock_head(self) -> str:
        dialog = self._some_dialog()
        for_s = self._dice.choice((0.5, 4.0, 12.0))
        database = self.stage.database
        self.stage.loop.create_task(database.hold_head(dialog, for_s), context=database.process.context)
        return f"somebody locks {self.stage.name_of_dialog(dialog)} for {for_s} s"

    def _change_weather(self) -> str:
        weather = self.stage.weather
        weather.calm = not weather.calm
        return "the weather is calm" if weather.calm else f"the weather is {weather.climate}"

    def _hide_rosters(self) -> str:
        weather = self.stage.weather
        weather.blind = not weather.blind
        return f"rosters cannot be read: {weather.blind}"

    def _wait(self) -> str:
        self.stage.loop.run_for(1.5)
        return ""

    # -- choosing

    def _someone(self) -> Device:
        return self._dice.choice(self.stage.devices)

    def _some_dialog(self) -> bytes:
        return self._dice.choice(self.stage.dialogs)

    def _end_links(self, server: object) -> None:
        for device in self.stage.devices:
            if device.link is not None and device.link.server is server:
                device.link.cut(client_learns_s=self._dice.choice((0.0, 0.5)), server_learns_s=0.0)

    def _later(self, delay_s: float, what: Callable[[], None]) -> None:
        self.stage.loop.call_later(delay_s, what, context=self.stage.clients.context)
