"""A PostgreSQL server of one's own, from Debian's package, in a folder that goes with it."""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

import psycopg

OPTIONS = {
    # Only a power cut would tell the difference; what a killed process has written stays.
    "fsync": "off",
    "full_page_writes": "off",
    "listen_addresses": "",
    "max_connections": "60",
    "shared_buffers": "16MB",
}

START_S = 60
PRCTL = ctypes.CDLL(None).prctl
PR_SET_PDEATHSIG = 1


def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, if it is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    on_path = shutil.which("initdb")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


def _end_with_parent() -> None:
    """Have this process ended when the one that started it ends, even if that is killed."""
    PRCTL(PR_SET_PDEATHSIG, signal.SIGQUIT)


class Postgres:
    """A running server, asked through a socket in its folder."""

    def __init__(self, bin_folder: Path) -> None:
        self._bin = bin_folder
        # Not below pytest's own folder: only its owner may enter that, and the server is another.
        self.folder = Path(tempfile.mkdtemp(prefix="xent-postgres-", dir="/tmp"))
        # The server refuses to be root.
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            entry = pwd.getpwnam("postgres")
            shutil.chown(self.folder, "postgres", entry.pw_gid)
            self._who = {"user": "postgres", "group": entry.pw_gid, "extra_groups": []}
        data = ["--pgdata", str(self.folder / "data"), "--username=xent", "--auth=trust"]
        subprocess.run(
            [str(self._bin / "initdb"), *data, "--encoding=UTF8", "--locale=C", "--no-sync"],
            check=True,
            capture_output=True,
            cwd=self.folder,
            **self._who,
        )
        self.start()

    @property
    def runs(self) -> bool:
        return self._server.poll() is None

    def start(self) -> None:
        options = [f"-c{name}={value}" for name, value in OPTIONS.items()]
        with (self.folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [
                    self._bin / "postgres",
                    "-D",
                    self.folder / "data",
                    "-k",
                    self.folder,
                    *options,
                ],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                preexec_fn=_end_with_parent,
                **self._who,
            )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        last = time.monotonic() + START_S
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                if self._server.poll() is not None or time.monotonic() > last:
                    raise AssertionError((self.folder / "log").read_text()) from None
                time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop: by default as ``pg_ctl stop -m fast`` does, with SIGQUIT as after a crash."""
        self._server.send_signal(how)
        self._server.wait(timeout=START_S)

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def url(self, name: str) -> str:
        return f"postgresql://xent@/{name}?host={self.folder}"

    def execute(self, statement: str) -> None:
        with psycopg.connect(self.url("postgres"), autocommit=True) as connection:
            connection.execute(statement)
