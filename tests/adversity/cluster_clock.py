"""A wall clock that steps: a library that is loaded before libc, and adds what a file says to what the kernel says.

It needs a C compiler. Only the wall clock steps, as with a real one; durations go on.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

_SOURCE = r"""
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile long long *offset_s;

static void __attribute__((constructor)) begin(void) {
    const char *path = getenv("STEPPED_CLOCK");
    int file = path ? open(path, O_RDONLY) : -1;
    if (file < 0) return;
    void *page = mmap(NULL, sizeof *offset_s, PROT_READ, MAP_SHARED, file, 0);
    if (page != MAP_FAILED) offset_s = page;
    close(file);
}

int clock_gettime(clockid_t id, struct timespec *at) {
    int failed = syscall(SYS_clock_gettime, id, at);
    if (!failed && offset_s && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) at->tv_sec += *offset_s;
    return failed;
}

int gettimeofday(struct timeval *at, void *zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    at->tv_sec = precise.tv_sec;
    at->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec precise;
    clock_gettime(CLOCK_REALTIME, &precise);
    if (at) *at = precise.tv_sec;
    return precise.tv_sec;
}
"""
_LIBRARY, _OFFSET = "clock.so", "offset"


def find_compiler() -> str | None:
    """The path of a C compiler, if there is one."""
    return shutil.which("cc")


class SteppedClock:
    """The clock of the programs that are started with `variables`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        (folder / "clock.c").write_text(_SOURCE)
        compiler = find_compiler()
        assert compiler is not None
        command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(folder / _LIBRARY), str(folder / "clock.c")]
        subprocess.run(command, check=True)
        self.step_to(0)
        for path in (folder, *folder.iterdir()):
            path.chmod(0o755)  # PostgreSQL may run as another user

    def step_to(self, offset_s: int) -> None:
        """From now on the clock differs by so much from that of the machine."""
        with (self.folder / _OFFSET).open("r+b" if (self.folder / _OFFSET).exists() else "wb") as file:
            file.write(offset_s.to_bytes(8, "little", signed=True))

    @staticmethod
    def variables(folder: str) -> list[str]:
        """What the environment of a program must have that finds the clock's folder under this path."""
        return [f"LD_PRELOAD={folder}/{_LIBRARY}", f"STEPPED_CLOCK={folder}/{_OFFSET}"]
