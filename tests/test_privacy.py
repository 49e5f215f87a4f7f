"""A patient's name, planted wherever it can stand, is nowhere afterwards but in the label that was its file's name."""

import base64
import io
import re
import zipfile
from urllib.parse import quote
from uuid import uuid4

import redis
from sqlalchemy import text

from db.tables import Table
from tests.dicoms import radiograph, written
from tests.planted import NAME, PATIENT, planted
from tests.service import Service

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


def test_a_patient_is_named_in_no_table_blob_log_ticket_or_answer_but_in_labels(service: Service) -> None:
    with redis.Redis(unix_socket_path=service.settings.redis_url.partition("://")[2]) as broker:
        broker.config_set("appendonly", "yes")  # for once it writes down what it is told
    batches = [as_a_zip(service), as_files(service), as_a_draft(service)]
    for batch_id in batches:
        lines = service.wait(batch_id)
        assert {line.code for line in lines} == {None, "wrong_modality", "unsupported_type", "truncated"}
        assert all(NAME.decode() in line.custom_id for line in lines if line.code is None)  # the label is given back
    broken = service.http.post("/v1/batches", content=archive()[:-60], headers=ZIPPED | keyed())
    assert broken.status_code == 422
    for query in ({"accession": NAME.decode()}, {"limit": NAME.decode()}):  # found nothing, and refused
        assert service.http.get("/v1/results", params=query).status_code in {200, 400}
    assert named_in_tables(service) == LABELS
    assert named_in_files(service) == []
    for path in ("/readyz", "/metrics", "/v1/batches", *(f"/v1/batches/{batch_id}" for batch_id in batches)):
        answer = service.http.get(path)
        assert answer.is_success
        assert not PATIENT.search(answer.content), path


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


def keyed() -> dict[str, str]:
    return {"Idempotency-Key": str(uuid4())}


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
