"""A patient's name, planted wherever it can stand, is nowhere afterwards but in the label that was its file's name."""

import base64
import io
import json
import re
import traceback
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import uuid4

import pytest
import redis
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from api.access import open_to_all
from db import batches, tenancy
from db.batches import Item
from db.database import Database
from db.tables import Lane, Table
from tests import receiver
from tests.dicoms import radiograph, written
from tests.planted import NAME, PATIENT, planted
from tests.receiver import Receiver
from tests.service import Service, until
from tests.uploading import Api

ZIPPED = {"Content-Type": "application/zip"}
LABELS = [("idempotency_keys", "body"), ("images", "custom_id")]  # the answers kept for keys name what was refused


def refused() -> dict[str, bytes]:
    """Files that get no further than the door."""
    name = NAME.decode()
    return {
        "ct.dcm": written(radiograph(Modality="CT", PatientName=name)),
        "notes.txt": NAME,
        "damaged.dcm": written(radiograph(PatientName=name))[:-2000],
    }


def files() -> dict[str, bytes]:
    return planted() | refused()


def archive() -> bytes:
    """A zip that names the patient in its comment, in its entries' comments, extra fields and names."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as made:
        made.comment = NAME
        for number, (_, data) in enumerate(planted().items()):
            entry = zipfile.ZipInfo(f"{NAME.decode()}/{number}-{NAME.decode()}")
            entry.comment = NAME
            entry.extra = b"\xfe\xca" + len(NAME).to_bytes(2, "little") + NAME
            made.writestr(entry, data)
        for name, data in refused().items():
            made.writestr(name, data)
    return buffer.getvalue()


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Receiver]:
    with receiver.running(tmp_path) as one:
        yield one


def test_a_patient_is_named_in_no_table_blob_log_ticket_or_answer_but_in_labels(
    service: Service, there: Receiver
) -> None:
    with redis.Redis(unix_socket_path=service.settings.redis_url.partition("://")[2]) as broker:
        broker.config_set("appendonly", "yes")  # for once it writes down what it is told
    webhook = service.http.post("/v1/webhooks", json={"url": f"{there.url}/ok"}).json()
    sent = [as_a_zip(service), as_files(service), as_a_draft(service), as_an_import(service)]
    for batch_id in sent:
        lines = service.wait(batch_id)
        assert {line.code for line in lines} == {None, "wrong_modality", "unsupported_type", "truncated"}
        assert all(NAME.decode() in line.custom_id for line in lines if line.code is None)  # the label is given back
    broken = service.http.post("/v1/batches", content=archive()[:-60], headers=ZIPPED | keyed())
    assert broken.status_code == 422
    for query in ({"accession": NAME.decode()}, {"limit": NAME.decode()}):  # found nothing, and refused
        assert service.http.get("/v1/results", params=query).status_code in {200, 400}
    assert named_in_tables(service) == LABELS
    assert named_in_files(service) == []
    for path in ("/readyz", "/metrics", "/v1/batches", *(f"/v1/batches/{batch_id}" for batch_id in sent)):
        answer = service.http.get(path)
        assert answer.is_success
        assert not PATIENT.search(answer.content), path
    until(lambda: len(there.got("/ok")) >= len(sent), "each batch was told of")
    assert not PATIENT.search(json.dumps(there.got("/ok")).encode())
    assert service.http.delete(f"/v1/webhooks/{webhook['id']}").is_success


@pytest.mark.usefixtures("champion")
def test_what_a_database_says_of_a_failure_quotes_no_row(database: Database) -> None:
    twice = [Item(NAME.decode(), "0" * 64, 1, "image/png")] * 2
    with pytest.raises(IntegrityError) as stored, database.of(tenancy.DEFAULT).write() as session:
        batches.add(session, twice, lane=Lane.ROUTINE, actor="test")
    unfit = {"sqlite": "SELECT json(:name)", "postgresql": "SELECT CAST(:name AS INTEGER)"}[database.engine.name]
    with pytest.raises(DBAPIError) as asked, database.read() as session:
        session.execute(text(unfit), {"name": NAME.decode()})
    for caught, words in ((stored, "custom_id"), (asked, "fit|JSON")):
        told = "".join(traceback.format_exception(caught.value))
        assert not PATIENT.search(told.encode())
        assert re.search(words, str(caught.value.orig))


@pytest.mark.parametrize("error", [ValueError(NAME.decode()), KeyError(NAME), OSError(5, "broken", NAME.decode())])
def test_the_log_of_a_failure_says_where_and_not_what(
    api: Api, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    @open_to_all
    def fail() -> str:
        raise error from LookupError(NAME.decode())

    api.client.application.view_functions["health.livez"] = fail
    assert api.client.get("/livez").status_code == 500
    assert {"LookupError", type(error).__name__, "in fail"} <= set(re.findall(r"in fail|\w+Error", caplog.text))
    assert not PATIENT.search(caplog.text.encode())


def as_a_zip(service: Service) -> str:
    answer = service.http.post("/v1/batches", content=archive(), headers=ZIPPED | keyed())
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def as_files(service: Service) -> str:
    """With the name in the file names of the parts."""
    parts = [("images", (f"{NAME.decode()}/{place}", data)) for place, data in files().items()]
    answer = service.http.post("/v1/batches", files=parts, headers=keyed())
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def as_a_draft(service: Service) -> str:
    """With the name in each address."""
    draft = service.http.post("/v1/batches", json={}, headers=keyed())
    for place, data in files().items():
        name = quote(f"{NAME.decode()}/{place}")
        assert service.http.put(f"{draft.headers['Location']}/images/{name}", content=data).is_success
    answer = service.http.post(f"{draft.headers['Location']}/submit", headers=keyed())
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def as_an_import(service: Service) -> str:
    """With the name in the directory, in the files' names."""
    ward = Path(service.settings.import_root) / tenancy.DEFAULT / NAME.decode()
    ward.mkdir(parents=True)
    for place, data in files().items():
        (ward / place).write_bytes(data)
    asked = {"import": [NAME.decode()], "lane": "routine"}
    answer = service.http.post("/v1/batches", json=asked, headers=keyed())
    assert answer.status_code == 202, answer.text
    for wrong in (f"{NAME.decode()}/gone.png", f"../{NAME.decode()}"):
        refused = service.http.post("/v1/batches", json={"import": [wrong]}, headers=keyed())
        assert refused.status_code == 422, refused.text
    return str(answer.json()["id"])


def keyed() -> dict[str, str]:
    """With the name in it, for nobody hinders a sender."""
    return {"Idempotency-Key": f"{NAME.decode()}-{uuid4()}"}


def named_in_tables(service: Service) -> list[tuple[str, str]]:
    found = []
    with service.database.read() as session:
        for table in Table.metadata.sorted_tables:
            for column in table.columns:
                values = session.execute(text(f"SELECT CAST({column.name} AS TEXT) FROM {table.name}")).scalars()
                if any(PATIENT.search((value or "").encode()) for value in values):
                    found.append((table.name, column.name))
    return found


def named_in_files(service: Service) -> list[str]:
    """Blobs, logs, and the broker's file of all that it was told; the database's own hold the labels."""
    home = service.settings.home
    files = {path: path.read_bytes() for path in home.rglob("*") if path.is_file() and not path.match("cxr.db*")}
    kinds = {path.relative_to(home).parts[0] for path in files}
    assert {"blobs", "logs"} <= kinds
    tickets = [body for data in files.values() for body in re.findall(rb'"body": ?"([\w+/=]+)"', data)]
    assert tickets  # Celery writes them in base64
    assert not any(PATIENT.search(base64.b64decode(body)) for body in tickets)
    return [str(path) for path, data in files.items() if PATIENT.search(data)]
