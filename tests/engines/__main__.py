"""`python -m tests.engines`, which is `make services`: PostgreSQL, Redis and Cassandra for development, until Ctrl-C.

Writes the configuration to use them beside their data, and prints it. Their ports are others at each start; their data
stays, except that of Redis, which is about who is connected. What this machine lacks is left out, with a line that says
how to get it. They end with this process, also when it is killed.
"""

import argparse
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from server.identity.signing_keys import new_pem
from server.identity.vault import new_key
from storage.embedded.cluster import EmbeddedPostgres
from storage.embedded.data_folder import DataFolderError
from tests.engines.cassandra_server import CassandraServer
from tests.engines.redis_server import RedisServer
from tests.engines.server_process import HOST, EngineError, EngineMissingError, Watcher

_DATA = Path(".tchat") / "services"
_SERVICES = ("postgres", "redis", "cassandra")


def main() -> int:
    """Start the services, say how to use them, wait for Ctrl-C or SIGTERM; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.engines", description=__doc__)
    parser.add_argument("services", nargs="*", metavar="SERVICE", help=f"of {', '.join(_SERVICES)}; default: all")
    parser.add_argument("--data", type=Path, default=_DATA, help=f"folder for their data; default: {_DATA}")
    arguments = parser.parse_args()
    if unknown := set(arguments.services) - set(_SERVICES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.ExitStack() as running, contextlib.suppress(KeyboardInterrupt):
        try:
            config = start(arguments.services or _SERVICES, arguments.data.resolve(), running)
        except (EngineError, DataFolderError) as error:
            print(error, file=sys.stderr)
            return 1
        path = arguments.data / "config.toml"
        path.write_text(config)
        serve = f".venv/bin/tchat serve --config {path}"
        print(f"{config}\nA node:        {serve}")
        other = "TCHAT__SERVER__PORT=7430 TCHAT__SERVER__ADMIN_PORT=7431 TCHAT__SERVER__DATA_DIR=.tchat/other"
        print(f"One more:      {other} {serve}")
        print("The services end with Ctrl-C.", flush=True)
        while True:
            signal.pause()
    return 0


def start(services: Sequence[str], data: Path, running: contextlib.ExitStack) -> str:
    """Start the services, to end with `running`; returns the configuration of a node that uses them."""
    data.mkdir(parents=True, exist_ok=True)
    sections: dict[str, list[str]] = {"storage": [], "cluster": [], "identity": []}
    if "postgres" in services:
        postgres = EmbeddedPostgres(data / "postgres")
        postgres.start()
        watcher = Watcher.killing(postgres.pid, signal.SIGQUIT)
        running.callback(watcher.dismiss)
        running.callback(postgres.stop)
        sections["storage"].append(f'postgres_url = "{postgres.url}"')
    if "redis" in services:
        with _said_if_missing():
            redis = running.enter_context(RedisServer(data / "redis"))
            sections["cluster"].append(f'redis_urls = ["{redis.url}"]')
            sections["identity"] += [
                f'signing_key_file = "{_keep(data / "signing_key", new_pem)}"',
                f'phone_key_file = "{_keep(data / "phone_key", new_key)}"',
            ]
    if "cassandra" in services:
        with _said_if_missing():
            cassandra = CassandraServer(data / "cassandra")
            running.callback(cassandra.stop)
            cassandra.start()
            sections["storage"] += [f'cql_hosts = ["{HOST}"]', f"cql_port = {cassandra.port}"]
    return "version = 1\n" + "".join(
        f"\n[{name}]\n" + "\n".join(lines) + "\n" for name, lines in sections.items() if lines
    )


def _keep(path: Path, make: Callable[[], str]) -> Path:
    """A file with a key, the same at each start: nodes that share a database share their keys."""
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(make())
    return path


@contextlib.contextmanager
def _said_if_missing() -> Iterator[None]:
    try:
        yield
    except EngineMissingError as error:
        print(error, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
