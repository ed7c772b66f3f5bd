"""An Apache Cassandra of our own: one node on free ports, with its data in a folder, gone with its owner.

It speaks the same CQL as the ScyllaDB of production, and refuses smaller batches than that. `launch` returns at once,
so the seconds that it takes to start pass while other tests run.
"""

import json
from pathlib import Path

from tests.engines.cassandra_jars import fetch_jars, find_java
from tests.engines.certificates import write_certificates
from tests.engines.server_process import HOST, RestartableServer, ServerProcess, free_port

START_TIMEOUT_S = 100.0
_JVM = [
    "-Xms256m",
    "-Xmx768m",
    "-XX:+UseSerialGC",
    "-XX:+ExitOnOutOfMemoryError",
    "-XX:TieredStopAtLevel=1",  # half the CPU time until it is up, and fast enough for tests
    "-Djdk.attach.allowAttachSelf=true",
    "-Dcassandra-foreground=yes",
    # A single node waits for no other.
    "-Dcassandra.skip_wait_for_gossip_to_settle=0",
    "-Dcassandra.ring_delay_ms=0",
    "-Dcassandra.superuser_setup_delay_ms=0",
    # A thread of its own keeps a rough clock: looked at five hundred times a second, it costs a part of a core.
    "-Dcassandra.approximate_time_precision_ms=50",
]
# What the file jvm17-server.options of a Cassandra package opens to it.
_EXPORTED = {
    "java.base": ("jdk.internal.misc", "jdk.internal.ref", "sun.nio.ch"),
    "java.management.rmi": ("com.sun.jmx.remote.internal.rmi",),
    "java.rmi": ("sun.rmi.registry", "sun.rmi.server"),
    "java.sql": ("java.sql",),
}
_OPENED = {
    "java.base": (
        *("java.io", "java.lang", "java.lang.module", "java.net", "java.nio", "java.util", "java.util.concurrent"),
        *("java.util.concurrent.atomic", "jdk.internal.loader", "jdk.internal.math", "jdk.internal.misc"),
        *("jdk.internal.module", "jdk.internal.ref", "jdk.internal.reflect", "jdk.internal.util.jar", "sun.nio.ch"),
    ),
    "jdk.management": ("com.sun.management.internal",),
}
_LOGBACK = """<configuration>
  <appender name="OUT" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%d %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <root level="INFO"><appender-ref ref="OUT"/></root>
</configuration>
"""


class CassandraServer(RestartableServer):
    """A Cassandra that keeps its data and its port over restarts."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder.resolve()
        self._storage_port = free_port()

    @property
    def tls_ca(self) -> Path:
        """The certificate of the authority that has signed its own: it takes connections with and without TLS."""
        return self._folder / "ca.pem"

    @property
    def pid(self) -> int:
        """The process id of the running Cassandra."""
        assert self._process is not None, "not launched"
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it was started, and neither stopped nor killed since."""
        return self._process is not None

    def launch(self) -> None:
        """Start it and return at once, once its jars are there; raises EngineMissingError or EngineError."""
        assert self._process is None, "already launched"
        java, jars = find_java(), fetch_jars()
        self._folder.mkdir(parents=True, exist_ok=True)
        if not self.tls_ca.exists():
            write_certificates(self.tls_ca, self._folder / "host.pem", HOST)
        (self._folder / "cassandra.yaml").write_text(json.dumps(self._settings()))  # JSON is YAML
        (self._folder / "logback.xml").write_text(_LOGBACK)
        command = [java, *_JVM]
        for option, modules in (("--add-exports", _EXPORTED), ("--add-opens", _OPENED)):
            for module, packages in modules.items():
                command += [f"{option}={module}/{package}=ALL-UNNAMED" for package in packages]
        command += [
            f"-Dcassandra.config=file:{self._folder}/cassandra.yaml",
            f"-Dcassandra.storagedir={self._folder}/data",
            f"-Dlogback.configurationFile={self._folder}/logback.xml",
        ]
        command += ["-cp", f"{jars}/*", "org.apache.cassandra.service.CassandraDaemon"]
        self._process = ServerProcess(command, self._folder / "cassandra.log")

    def await_ready(self) -> None:
        """Wait until it accepts clients; raises EngineError, and then it does not run."""
        assert self._process is not None, "not launched"
        try:
            self._process.await_ready("Startup complete", START_TIMEOUT_S)
        except BaseException:
            self.kill()
            raise

    def start(self) -> None:
        self.launch()
        self.await_ready()

    def _settings(self) -> dict[str, object]:
        seeds = {"seeds": f"{HOST}:{self._storage_port}"}
        return {
            "cluster_name": "tchat",
            "partitioner": "org.apache.cassandra.dht.Murmur3Partitioner",
            "endpoint_snitch": "SimpleSnitch",
            "num_tokens": 1,
            "listen_address": HOST,
            "rpc_address": HOST,
            "storage_port": self._storage_port,
            "native_transport_port": self._port,
            "client_encryption_options": {
                "enabled": True,
                "optional": True,
                "ssl_context_factory": {"class_name": "org.apache.cassandra.security.PEMBasedSslContextFactory"},
                "keystore": str(self._folder / "host.pem"),
            },
            "seed_provider": [{"class_name": "org.apache.cassandra.locator.SimpleSeedProvider", "parameters": [seeds]}],
            # This node stands for a quorum: what it acknowledged survives its kill (periodic sync can lose 100 ms).
            "commitlog_sync": "batch",
            "commitlog_segment_size": "8MiB",
            "memtable_heap_space": "128MiB",
            "memtable_offheap_space": "64MiB",
            "file_cache_size": "32MiB",
            "auto_snapshot": False,
            "hinted_handoff_enabled": False,
        }
