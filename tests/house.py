"""The rooms of the house: `python -m tests.house` prints them and fails where the code leaves the drawing.

- A room is a folder of the product that holds modules, `__init__.py` included: `server/session`, `storage/postgres`.
  The modules directly in `server/` are the room `server`, its ground floor. A file that nothing can import by its name
  (a migration, `0001_core.py`) belongs to the nearest room above it.
- An arrow is an import from one room to another, wherever it stands: at the top, in a function, under `TYPE_CHECKING`.
  `from package import name` points to the module `name` if there is one, otherwise to the package's `__init__`.
- The drawing is the block with the info string `rooms` in docs/architecture.md, a line `room -> room room` for each
  room, from top to bottom; an indented line continues the one above. Arrows point down. The drawing has every room and
  every arrow of the code, and no other.
- Neither rooms nor modules import each other in a circle.
- A module, a folder and a class each have a name of their own. `SAME_MEANING` lists the names that several share.

Length is no rule here: split a file where a reader would look for its halves in two places.
"""

import ast
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("loadtest", "protocol", "server", "storage", "tchat")
DRAWING = "docs/architecture.md"

# The `tchat` command starts other programs, too: it may import these in a function, and that is no arrow.
ENTRY_POINT = "server/node/cli.py"
ENTRY_MAY_IMPORT = ("loadtest.cli", "tchat.terminal")

# Names that several have because they mean the same thing, and what that is. Anything else is renamed.
SAME_MEANING = {
    "cli": "The arguments of a command: of `tchat`, of `tchat loadtest`.",
    "cluster": "What runs as one: the nodes of a deployment, the databases of a PostgreSQL.",
    "archive": "Timelines outside the journal: the contract and its engines.",
    "backlog": "What the archive lacks: the contract and its engine.",
    "bus": "Messages between nodes: the contract and its engine.",
    "shops": "Shops: their part of the books in `storage`, what may be asked of them in `server`.",
    "commerce": "Money: what all sides tell each other in `protocol`, the books in `storage`, the service in `server`.",
    "commands": "What a client may ask: its structs in `protocol`, its handlers in the session.",
    "device_keys": "Keys of devices, and device logs: the contract and its engine.",
    "backups": "Sealed values that a person keeps here: the contract, its engine, its handlers.",
    "device_messages": "Messages from device to device: the contract, its engine, handlers, delivery, and the client.",
    "purged_authors": "What purged people wrote to others: the contract and its engine.",
    "deleted_dialogs": "What is left of deleted dialogs: the contract and its engine.",
    "errors": "What a client is refused with: the catalogue in `protocol`, its form over HTTP in the API.",
    "migrate": "Bringing a schema to this version by numbered files: of PostgreSQL, of a CQL server.",
    "nodes": "The nodes of a deployment, as one sees the others: the contract and its engine.",
    "sealed_rosters": "The rosters of sealed dialogs: the contract, its engine, its handlers.",
    "reports": "What members show moderators, with its proof: the contract, its engine, handlers, and `tchat reports`.",
    "shares": "The keys of sessions that devices hand to each other: the contract, its engine, its handlers.",
    "people": "Profiles and finding people: the HTTP resource and the engine of its store.",
    "presence": "Who is connected: pushed to followers on a node, kept for all nodes in Redis.",
    "rates": "How often and how fast: of the HTTP API and of sign-in, of devices and principals on a websocket.",
    "receipts": "How far a member has received and read: the client's own, and what the server delivers.",
    "reference": "The generator of a reference page: of the protocol, of the configuration.",
    "accounts": "Bots and businesses: the rules of their keys and owners, and the engine of their store.",
    "service_accounts": "Services and their keys: the HTTP resource, its rules, and the engine of their store.",
    "session": "The actor of one connection, and the room that is named after it.",
    "sign_in": "Signing in with a code: the HTTP resource and its rules.",
    "webhooks": "Where events of bots are posted: the HTTP resource, the room that posts, the engine of their store.",
    "timelines": "Reading timelines: the contract and its engine.",
    "trimming": "What leaves the journal because the archive has it: the contract and its engine.",
}

PLACES_SHOWN = 4

Graph = Mapping[str, Iterable[str]]


@dataclass(frozen=True, slots=True)
class Import:
    """One imported name, with its dots, and where it stands."""

    name: str
    line: int
    in_function: bool


@dataclass(frozen=True, slots=True)
class Module:
    """One file of the product."""

    path: str
    name: str
    room: str
    lines: int
    classes: tuple[str, ...]
    imports: tuple[Import, ...]


@dataclass(frozen=True, slots=True)
class Arrow:
    """One import between two modules of the product."""

    source: Module
    target: str  # the name of a module
    room: str  # of the target
    line: int


def imports_of(tree: ast.AST, *, in_function: bool = False) -> Iterator[Import]:
    """Every import below `tree`; `from a import b` is `a.b`, which may be a module or a name within one."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno, in_function) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (Import(f"{node.module}.{alias.name}", node.lineno, in_function) for alias in node.names)
        else:
            deeper = in_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from imports_of(node, in_function=deeper)


def read_modules(root: Path, packages: Iterable[str] = PACKAGES) -> list[Module]:
    """Every Python file of the packages, in the order of their paths."""
    return [_read_module(root, path) for package in packages for path in sorted((root / package).rglob("*.py"))]


def _read_module(root: Path, path: Path) -> Module:
    text = path.read_text(encoding="utf-8")
    tree = ast.parse(text, str(path))
    inside = path.relative_to(root)
    folder = path.parent
    while folder.parent != root and not any(file.stem.isidentifier() for file in folder.glob("*.py")):
        folder = folder.parent
    return Module(
        path=inside.as_posix(),
        name=".".join(inside.with_suffix("").parts).removesuffix(".__init__"),
        room=folder.relative_to(root).as_posix(),
        lines=len(text.splitlines()),
        classes=tuple(node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)),
        imports=tuple(imports_of(tree)),
    )


def find_arrows(modules: Iterable[Module]) -> list[Arrow]:
    """Every import of a module of the product, or of the tests, by a module of the product."""
    known = {module.name: module for module in modules}
    roots = {name.split(".")[0] for name in known} | {"tests"}
    arrows = []
    for source in known.values():
        for found in source.imports:
            if found.name.split(".")[0] not in roots or _starts_another_program(source, found):
                continue
            target = found.name
            while target not in known and "." in target:
                target = target.rpartition(".")[0]
            room = known[target].room if target in known else target
            arrows.append(Arrow(source, target, room, found.line))
    return arrows


def _starts_another_program(source: Module, found: Import) -> bool:
    may_import = any(f"{found.name}.".startswith(f"{program}.") for program in ENTRY_MAY_IMPORT)
    return source.path == ENTRY_POINT and found.in_function and may_import


def find_circles(graph: Graph) -> list[list[str]]:
    """The largest groups of nodes in which every node reaches every other, each group sorted."""
    reached = {node: _reachable(graph, node) for node in graph}
    groups = {frozenset(other for other in reached[node] if node in reached.get(other, ())) for node in graph}
    return sorted(sorted(group) for group in groups if len(group) > 1)


def _reachable(graph: Graph, start: str) -> set[str]:
    found: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = set(graph.get(waiting.pop(), ())) - found
        found |= fresh
        waiting += fresh
    return found


def read_drawing(text: str) -> dict[str, list[str]]:
    """The rooms of the drawing, top to bottom, each with the rooms that it may import; empty if the page has none."""
    block = re.search(r"^```rooms\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    if block is None:
        return {}
    drawing = {}
    for line in re.sub(r"\n[ \t]+", " ", block[1]).splitlines():
        room, _, targets = line.partition("->")
        if room.strip():
            drawing[room.strip()] = targets.split()
    return drawing


def compare_with_drawing(
    modules: Iterable[Module], arrows: Iterable[Arrow], drawing: Mapping[str, list[str]]
) -> list[str]:
    """What is on one of drawing and code only, and the arrows of the drawing that point up."""
    rooms = {module.room for module in modules}
    order = list(drawing)
    drawn = {(room, target) for room, targets in drawing.items() for target in targets}
    imported: dict[tuple[str, str], list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        if arrow.source.room != arrow.room:
            imported[arrow.source.room, arrow.room].append(arrow)
    found = [f"{room}: a room that is not on the drawing" for room in sorted(rooms - set(order))]
    found += [f"{room}: on the drawing, but no such room" for room in order if room not in rooms]
    for room, target in sorted(drawn):
        if target not in order[order.index(room) + 1 :]:
            found.append(f"{room} -> {target}: on the drawing, but {target} is not below {room}")
        elif (room, target) not in imported:
            found.append(f"{room} -> {target}: on the drawing, but nothing imports it")
    for (room, target), against in sorted(imported.items()):
        if (room, target) not in drawn:
            found.append(f"{room} -> {target}: not on the drawing; imported by {_places(against)}")
    return found


def _places(arrows: list[Arrow]) -> str:
    places = list(dict.fromkeys(f"{arrow.source.path}:{arrow.line}" for arrow in arrows))
    more = [f"and {len(places) - PLACES_SHOWN} more"] if len(places) > PLACES_SHOWN else []
    return ", ".join([*places[:PLACES_SHOWN], *more])


def shared_names(modules: Iterable[Module]) -> dict[str, list[str]]:
    """The names of modules, folders and classes that more than one has, each with where they are."""
    files: dict[str, set[str]] = defaultdict(set)
    classes: dict[str, list[str]] = defaultdict(list)
    for module in modules:
        *_, last = module.name.split(".")
        if last.isidentifier() and last != "__main__":
            files[last].add(module.path)
        for name in module.classes:
            classes[name].append(module.path)
    found = {name: sorted(paths) for names in (files, classes) for name, paths in names.items() if len(paths) > 1}
    return dict(sorted(found.items()))


def compare_names(shared: Mapping[str, list[str]], same_meaning: Mapping[str, str]) -> list[str]:
    """Shared names that are not in the table, and entries of the table that nothing needs."""
    found = [f"{name}: shared by {', '.join(at)}" for name, at in shared.items() if name not in same_meaning]
    return found + [f"{name}: in SAME_MEANING, but not shared" for name in same_meaning if name not in shared]


@dataclass(frozen=True, slots=True)
class House:
    """What was read, and what is wrong with it."""

    modules: list[Module]
    arrows: list[Arrow]
    circles: list[str]
    against_drawing: list[str]
    against_names: list[str]

    @property
    def findings(self) -> list[str]:
        """Everything that makes the tool fail."""
        return self.circles + self.against_drawing + self.against_names


def inspect(
    root: Path = ROOT, packages: Iterable[str] = PACKAGES, same_meaning: Mapping[str, str] = SAME_MEANING
) -> House:
    """Read the tree below `root` and hold it to its drawing and to the table of shared names."""
    modules = read_modules(root, packages)
    arrows = find_arrows(modules)
    between_modules: dict[str, set[str]] = {module.name: set() for module in modules}
    between_rooms: dict[str, set[str]] = {module.room: set() for module in modules}
    for arrow in arrows:
        between_modules[arrow.source.name].add(arrow.target)
        between_rooms[arrow.source.room].add(arrow.room)
    circles = [f"rooms: {', '.join(circle)}" for circle in find_circles(between_rooms)]
    circles += [f"modules: {', '.join(circle)}" for circle in find_circles(between_modules)]
    drawing = read_drawing((root / DRAWING).read_text(encoding="utf-8"))
    return House(
        modules=modules,
        arrows=arrows,
        circles=circles,
        against_drawing=compare_with_drawing(modules, arrows, drawing),
        against_names=compare_names(shared_names(modules), same_meaning),
    )


def as_text(house: House) -> str:
    """The report: rooms with their arrows, circles, sizes, names, verdict."""
    rooms: dict[str, list[Module]] = defaultdict(list)
    targets: dict[str, set[str]] = defaultdict(set)
    for module in house.modules:
        rooms[module.room].append(module)
    for arrow in house.arrows:
        targets[arrow.source.room].add(arrow.room)
    lines = ["room                     files  lines  imports"]
    for room, inside in sorted(rooms.items()):
        total = sum(module.lines for module in inside)
        lines.append(f"{room:<24} {len(inside):>5} {total:>6}  {' '.join(sorted(targets[room] - {room}))}".rstrip())
    largest = max(house.modules, key=lambda module: module.lines)
    middle = statistics.median_low(module.lines for module in house.modules)
    total = sum(module.lines for module in house.modules)
    lines.append(f"{'all':<24} {len(house.modules):>5} {total:>6}")
    lines += ["", f"largest file {largest.path}, {largest.lines} lines; median {middle} lines"]
    for title, found in (
        ("circles", house.circles),
        ("against the drawing", house.against_drawing),
        ("names with several meanings", house.against_names),
    ):
        lines.append(f"{title}: {len(found) or 'none'}")
        lines += [f"  {line}" for line in found]
    verdict = f"{len(house.findings)} to mend" if house.findings else f"the code is as {DRAWING} draws it"
    return "\n".join([*lines, "", verdict, ""])


def main() -> int:
    """Print the report; 1 if there are findings."""
    house = inspect()
    sys.stdout.write(as_text(house))
    return 1 if house.findings else 0


if __name__ == "__main__":
    raise SystemExit(main())
