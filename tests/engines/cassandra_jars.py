"""Apache Cassandra's jars and the Java that runs them: found on this machine, fetched once by Maven.

Invariant: a folder of the cache is complete, because it is filled under another name first. Of several processes that
want it, one fetches and the others wait.
"""

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.engines.server_process import EngineMissingError

VERSION = "5.0.5"
_FETCH_TIMEOUT_S = 600.0
_HOW = "install a JDK 17 and Maven (on Debian and Ubuntu: apt-get install openjdk-17-jre-headless maven)"
_POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>tchat</groupId>
  <artifactId>cassandra</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId>
      <artifactId>cassandra-all</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


def find_java() -> str:
    """The path of a Java 17, the newest that Cassandra 5.0 runs on; raises EngineMissingError."""
    home = os.environ.get("JAVA_HOME")
    places = [Path(home) / "bin" / "java"] if home else []
    places += [Path(found) for found in [shutil.which("java")] if found]
    places += sorted(Path("/usr/lib/jvm").glob("*17*/bin/java"))
    for java in places:
        with contextlib.suppress(OSError):
            said = subprocess.run([java, "-version"], capture_output=True, text=True, check=False).stderr
            if re.search(r'version "17\b', said):
                return str(java)
    raise EngineMissingError(f"There is no Java 17 for Cassandra: {_HOW}.")


def fetch_jars() -> Path:
    """The folder with the jars, fetched from Maven Central if need be (66 MB); raises EngineMissingError."""
    folder = _folder()
    if folder.exists():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        raise EngineMissingError(f"There is no Maven to fetch Cassandra with: {_HOW}.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(folder.parent, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the end of the process gives it back, too
        if not folder.exists():
            _fetch(maven, folder)
    finally:
        os.close(lock)
    return folder


def _fetch(maven: str, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as fresh:
        (Path(fresh) / "pom.xml").write_text(_POM)
        command = [maven, "--batch-mode", "--quiet", "--strict-checksums", "dependency:copy-dependencies"]
        command += ["-DincludeScope=runtime", f"-DoutputDirectory={fresh}/jars"]
        done = _run(command, Path(fresh))
        if done.returncode != 0:
            raise EngineMissingError(f"Maven could not fetch Cassandra: {(done.stdout or done.stderr).strip()[-1000:]}")
        (Path(fresh) / "jars").rename(folder)


def _run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            command, cwd=folder, capture_output=True, text=True, check=False, timeout=_FETCH_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        raise EngineMissingError(f"Maven did not fetch Cassandra within {_FETCH_TIMEOUT_S:.0f} s.") from error


def _folder() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "tchat" / f"cassandra-{VERSION}"
