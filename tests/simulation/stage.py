"""Where a run happens: the database, one node after another, people with devices, the dialogs they have."""

from __future__ import annotations

import random

from msgspec.structs import replace

from protocol import bodies
from protocol.bodies import TimelineEvent
from protocol.codec import ServerMessage
from protocol.dialog_types import DIALOG_TYPES, DialogType, Mode, Role
from protocol.events import CaughtUp, DialogState, HeartbeatReply, MissedChanges
from protocol.ids import created_dialog_id, direct_dialog_id
from protocol.replies import Acked, Failed, Synced
from server.clock import Clock
from server.config.settings import (
    ClusterSettings,
    Config,
    GatewaySettings,
    PipelineSettings,
    RoomSettings,
    SessionSettings,
    SyncSettings,
)
from server.identity.claims import Claims
from storage.rows import ChangeEntry, PrincipalType, VerdictCode
from tests.adversity.restart_server import SignIn
from tests.adversity.restart_verify import Violations
from tests.simulation.archive import SimulatedArchive
from tests.simulation.changes import judge_change
from tests.simulation.database import Database, Transaction
from tests.simulation.device import Device
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Link
from tests.simulation.node import SimulatedNode
from tests.simulation.redis import SimulatedRedis
from tests.simulation.weather import Weather
from tests.support.world import UNCHECKED

_NAMES = ("Ann", "Bo", "Cy", "Di", "Eve")
_EPOCH_MS = 1_767_225_600_000
_TOKEN_S = 10**9


class VirtualClock(Clock):
    """The time of the loop."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def wall_ms(self) -> int:
        return _EPOCH_MS + round(self._loop.time() * 1000)

    def monotonic(self) -> float:
        return self._loop.time()

    def cpu_s(self) -> float:
        return 0.0


def draw_config(dice: random.Random) -> Config:
    """Small bounds, so that a short run meets them; as in `server/config/rules.py`, the queue fits one session."""
    drawn = Config(
        gateway=GatewaySettings(write_high_water_bytes=dice.choice((200, 1_000, 65_536))),
        sessions=SessionSettings(
            auth_timeout_s=5.0,
            heartbeat_s=dice.choice((2.0, 5.0)),
            position_interval_s=1.0,
            idle_timeout_s=15.0,
            outbox_bytes_max=dice.choice((300, 2_000, 100_000)),
            held_frames_max=dice.choice((1, 4, 256)),
            missed_dialogs_max=dice.choice((2, 100)),
            lag_timeout_s=5.0,
            in_flight_sends_max=dice.choice((1, 4, 64)),
            mailbox_max=dice.choice((2, 256)),
            sends_per_s=100.0,
        ),
        pipeline=PipelineSettings(
            lanes=dice.choice((1, 2)),
            batch_rows_max=dice.choice((1, 3, 500)),
            queue_rows_max=dice.choice((4, 1_000)),
            retry_total_s=dice.choice((1.0, 5.0)),
        ),
        sync=SyncSettings(
            window_events=dice.choice((1, 5, 50)),
            events_max=dice.choice((3, 20, 5_000)),
            page_events=dice.choice((1, 3, 200)),
        ),
        rooms=RoomSettings(rooms_max=dice.choice((1, 2, 100))),
        cluster=ClusterSettings(lease_s=3.0),
    )
    sends_max = min(drawn.sessions.in_flight_sends_max, drawn.pipeline.queue_rows_max)
    return replace(drawn, sessions=replace(drawn.sessions, in_flight_sends_max=sends_max))


class Stage:
    """See the module. `dice` decide everything."""

    def __init__(self, seed: int, *, traced: bool = False) -> None:
        self.shared = seed % 3 == 0
        """Whether several nodes share the database: in a third of the runs."""
        self.loses_history = seed % 5 == 2
        """Whether the database may fail over to a standby that is behind."""
        self.healing = False
        self.dice = random.Random(seed)
        self.loop = VirtualLoop(self.dice)  # type: ignore[abstract] # what is left out has sockets
        self.clock = VirtualClock(self.loop)
        self.weather = Weather(self.dice)
        self.database = Database(self.clock, self.weather)
        self.redis = SimulatedRedis(self.loop, self.weather, self.clock) if self.shared else None
        self.archive = SimulatedArchive(self.loop, self.weather) if seed % 4 == 1 else None
        self.config = draw_config(self.dice)
        self.violations = Violations()
        self.clients = Process("clients")
        self.trace: list[str] | None = [] if traced else None
        self.claims: dict[str, Claims] = {}
        self.nodes: list[SimulatedNode] = []
        self.people: list[bytes] = [self.new_id() for _ in range(self.dice.randint(3, 5))]
        for person in self.people:
            self.database.principals[person] = PrincipalType.PERSON
        self.devices = self._make_devices()
        self.dialogs = self._make_dialogs()

    def note(self, what: str) -> None:
        """A line of the trace."""
        if self.trace is not None:
            self.trace.append(f"{self.loop.time():8.3f} {what}")

    def new_id(self) -> bytes:
        """A drawn id."""
        return self.dice.randbytes(16)

    def name_of(self, person: bytes) -> str:
        """What a person is called in the trace."""
        return _NAMES[self.people.index(person)]

    def name_of_dialog(self, dialog: bytes) -> str:
        """What a dialog is called in the trace."""
        return f"{self.database.dialogs[dialog].look.name} {self.dialogs.index(dialog) + 1}"

    def with_names(self, text: str) -> str:
        """A text with names instead of ids."""
        names = {who: self.name_of(who) for who in self.people} | {
            dialog: self.name_of_dialog(dialog) for dialog in self.dialogs
        }
        for key, name in names.items():
            text = text.replace(repr(key), name).replace(key.hex(), name)
        return text

    def start_node(self) -> None:
        """One more life of the server; it ends those before it."""
        name = f"node {len(self.nodes) + 1}"
        self.note(f"{name} starts")
        made = SimulatedNode(
            name, self.loop, self.database, self.config, self.claims, redis=self.redis, archive=self.archive
        )
        self.nodes.append(made)
        made.begin()

    def find_node(self) -> SimulatedNode | None:
        """A node that takes connections: of two, one that has ended already and does not know it, perhaps."""
        serving = [node for node in self.nodes if node.serves]
        return self.dice.choice(serving) if serving else None

    def _connect(self, device: Device) -> Link | None:
        node = self.find_node()
        if node is None:
            return None
        return Link(
            self.loop,
            self.weather,
            clients=self.clients,
            server=node.process,
            receiver=device,
            open_server=node.open_connection,
        )

    def _note_heard(self, device: str, message: ServerMessage) -> None:
        """What a device receives, in the trace."""
        if self.trace is None:
            return
        match message:
            case TimelineEvent(dialog=dialog, seq=seq, body=body):
                what = f"{type(body).__name__} {seq} of {self.name_of_dialog(dialog)}"
            case DialogState(dialog=dialog, seq=seq, first_seq=first, member=member, visible=visible):
                seen = f"{first}..{seq}, member {member}, sees {visible}"
                what = f"the state of {self.name_of_dialog(dialog)}: {seen}"
            case MissedChanges(dialog=dialog, before_seq=before, complete=complete):
                what = f"missed changes of {self.name_of_dialog(dialog)} before {before}, complete {complete}"
            case Acked(dialog=dialog, n=n, seq=seq):
                what = f"ack of {n} at {seq} of {self.name_of_dialog(dialog)}"
            case Failed(code=code, awaited_n=awaited_n):
                what = f"{code} {awaited_n or ''}"
            case Synced(recovered=recovered):
                what = f"synced, recovered {recovered}"
            case CaughtUp(position=position) | HeartbeatReply(position=position):
                what = f"{type(message).__name__} {position}"
            case _:
                what = type(message).__name__
        self.note(f"    {device} <- {what}")

    def _make_devices(self) -> list[Device]:
        count = len(self.people) + self.dice.randint(0, 2)
        owners = [*self.people, *self.dice.choices(self.people, k=count - len(self.people))]
        return [self._make_device(f"{self.name_of(owner)} {number}", owner) for number, owner in enumerate(owners, 1)]

    def _make_device(self, name: str, owner: bytes) -> Device:
        signed_in = SignIn(name, owner, self.new_id(), self.new_id(), name)
        self.database.sign_ins[signed_in.sign_in] = owner
        expires_at_s = _EPOCH_MS // 1000 + _TOKEN_S
        self.claims[name] = Claims(1, owner, signed_in.device, signed_in.sign_in, expires_at_s)
        return Device(
            signed_in,
            loop=self.loop,
            clients=self.clients,
            dice=self.dice,
            database=self.database,
            violations=self.violations,
            connect=self._connect,
            shared=self.shared,
            heard=self._note_heard,
            note=self.note,
        )

    def _make_dialogs(self) -> list[bytes]:
        """A group of all but perhaps one, and one or two others."""
        some = self.people[: max(3, len(self.people) - self.dice.randint(0, 1))]
        kinds = self.dice.sample((DialogType.DIRECT, DialogType.GROUP, DialogType.CHANNEL), k=self.dice.randint(1, 2))
        others = [
            self._create(kind, self.dice.sample(self.people, 2 if kind is DialogType.DIRECT else 3)) for kind in kinds
        ]
        return [self._create(DialogType.GROUP, some), *others]

    def _create(self, kind: DialogType, members: list[bytes]) -> bytes:
        author, device, n = members[0], self.new_id(), 1
        dialog = direct_dialog_id(*members) if kind is DialogType.DIRECT else created_dialog_id(device, n)
        rule = DIALOG_TYPES[kind]
        founder = Role.ADMIN if rule.has_admins else Role.MEMBER
        body = bodies.DialogCreated(
            kind,
            self.dice.choice((Mode.OPEN, Mode.SEALED)) if kind is DialogType.GROUP else Mode.OPEN,
            kind.name.lower(),
            "",
            "",
            bodies.Settings(is_public=kind is DialogType.CHANNEL),
            [bodies.MemberRole(who, founder if who == author else Role.MEMBER) for who in members],
            UNCHECKED,
        )
        by = Transaction(self.database, 0)
        by.take_id()
        made = judge_change(self.database, ChangeEntry(dialog, author, device, n, body), by)
        assert made.verdict.code is VerdictCode.OK
        self.database.forget_id(by.xid, committed=True)
        return dialog

    def close(self) -> None:
        """End the run."""
        self.loop.close()


def text_of(count: int, dice: random.Random) -> bytes:
    """What somebody says: different each time, mostly short."""
    return b"%d " % count + b"x" * dice.choice((0, 10, 10, 10, 150))
