"""Bodies of requests, put together at random: zips by their records, JSON and CSV: answered, and never with 5xx."""

import csv
import io
import json
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import archives
from api.problems import Problem
from settings import Settings
from tests.examples import fuzzed
from tests.test_fuzz import LENGTH, SHORT
from tests.uploading import Api, Radiograph

# A zip, by its records: entries, a directory, an end that tells where that begins

MOST = 100_000  # bytes out of one zip
METHODS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99]
ZIP_64 = st.builds(lambda *sizes: struct.pack("<HHQQ", 1, 16, *sizes), LENGTH, st.integers(0, 2**64 - 1))
ENTRY = st.fixed_dictionaries(
    {
        "name": st.one_of(st.sampled_from([b"a.png", b"../a", b"/a", b"b/", b"\xff\xfe", b""]), SHORT),
        "data": st.one_of(SHORT, st.just(bytes(5_000))),
        "method": st.one_of(st.sampled_from(METHODS[:2]), st.sampled_from(METHODS)),
        "flags": st.one_of(st.sampled_from([0, 0, 1, 8, 0x20, 0x40, 0x800, 0x2000]), st.integers(0, 0xFFFF)),
        "extra": st.one_of(st.just(b""), ZIP_64, SHORT),
        "size": st.one_of(st.none(), st.none(), LENGTH),
        "checked": st.booleans(),
        "mode": st.sampled_from([0, 0o100644, 0o120777, 0o060644]),
        "offset": st.one_of(st.none(), st.none(), LENGTH),
    }
)


def archive(entries: list[dict[str, Any]], told: dict[str, int], comment: bytes) -> bytes:
    """The records of these entries; `told` says other numbers in the end than the right ones."""
    body = directory = b""
    for one in entries:
        packed = zlib.compress(one["data"])[2:-4] if one["method"] == zipfile.ZIP_DEFLATED else one["data"]
        check = zlib.crc32(one["data"]) if one["checked"] else 7
        size = len(one["data"]) if one["size"] is None else one["size"]
        numbers = (one["flags"], one["method"], 0, 33, check, len(packed), size, len(one["name"]), len(one["extra"]))
        place = len(body) if one["offset"] is None else one["offset"]
        head = struct.pack("<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, *numbers, 0, 0, 0, one["mode"] << 16, place)
        directory += head + one["name"] + one["extra"]
        body += struct.pack("<4sH4H3L2H", b"PK\3\4", 20, *numbers) + one["name"] + one["extra"] + packed
    right = {"count": len(entries), "size": len(directory), "at": len(body)} | told
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, right["count"] & 0xFFFF, right["count"] & 0xFFFF, right["size"], right["at"], len(comment))  # fmt: skip
    return body + directory + end + comment


@fuzzed(120)
@given(
    entries=st.lists(ENTRY, max_size=4),
    told=st.one_of(st.just({}), st.dictionaries(st.sampled_from(["count", "size", "at"]), LENGTH, max_size=2)),
    comment=SHORT,
)
def test_a_zip_of_any_records_is_read_or_refused(
    settings: Settings, tmp_path: Path, entries: list[dict[str, Any]], told: dict[str, int], comment: bytes
) -> None:
    path = tmp_path / "strange.zip"
    path.write_bytes(archive(entries, told, comment))
    few = replace(settings, max_images=3, max_batch_bytes=MOST)
    with path.open("rb") as file, suppress(Problem):
        for name, data in archives.entries(file.fileno(), few):
            assert ".." not in name.split("/")
            assert sum(map(len, data)) <= MOST


def test_a_zip_of_sound_records_is_read(settings: Settings, tmp_path: Path) -> None:
    sound = {"name": b"a.png", "data": b"some bytes", "method": zipfile.ZIP_DEFLATED, "flags": 0, "extra": b"",
             "size": None, "checked": True, "mode": 0, "offset": None}  # fmt: skip
    path = tmp_path / "sound.zip"
    path.write_bytes(archive([sound], {}, b""))
    with path.open("rb") as file:
        found = [(name, b"".join(data)) for name, data in archives.entries(file.fileno(), settings)]
    assert found == [("a.png", b"some bytes")]


# JSON that asks for a draft or an import, and labels as JSON and CSV

TEXT = st.one_of(st.sampled_from(["", "urgent", "night/1.png", "../x", "\0", "\ud800", "positive", "=1+1"]), st.text(max_size=12))  # fmt: skip
PLAIN = st.one_of(st.none(), st.booleans(), st.integers(-2, 3), st.integers(), st.floats(), TEXT)
VALUE = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3), max_leaves=6)  # fmt: skip
ASKED = st.dictionaries(st.one_of(st.sampled_from(["lane", "synthetic", "total", "import"]), TEXT), VALUE, max_size=4)
BODY = st.one_of(
    st.one_of(ASKED, st.fixed_dictionaries({"import": st.lists(TEXT, max_size=4)}), VALUE).map(
        lambda asked: json.dumps(asked).encode()
    ),
    st.sampled_from([b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5_000, b"\xff\xfe{}", b'{"total": 1e999}', b"{}{}"]),
    SHORT,
)


@pytest.fixture
def open_to_imports(settings: Settings, tmp_path: Path, radiograph: Radiograph) -> Iterator[Api]:
    night = tmp_path / "share" / "default" / "night"
    night.mkdir(parents=True)
    (night / "1.png").write_bytes(radiograph(1))
    api = Api(replace(settings, import_root=str(tmp_path / "share")))
    yield api
    api.parts.database.close()


@fuzzed(40)
@given(body=BODY, key=st.one_of(st.none(), st.text(max_size=5)))
def test_any_json_opens_a_draft_imports_or_is_refused(open_to_imports: Api, body: bytes, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key.encode("ascii", "replace").decode().replace("\n", "")}
    with suppress(ValueError):  # werkzeug's own client sends no line's end in a header
        answer = open_to_imports.post(body, "application/json", headers=headers)
        assert answer.status_code in {201, 202, 400, 413, 422}, answer.text
    open_to_imports.nothing_unfinished()


COLUMNS = ["accession", "image_sha256", "result_id", "label", "source", "given_by", "found_at", "patient"]
CELL = st.one_of(
    st.sampled_from(["A-1", "a" * 64, "result_0", "positive", "negative", "rt_pcr", "=1+1", "2026-11-22T00:00:00Z"]),
    st.sampled_from(["9999-12-31T23:59:59-23:59", "1e999", "\0", "\r\n", '"', "x" * 300]),
    st.text(max_size=8),
)
ROW = st.one_of(
    st.dictionaries(st.one_of(st.sampled_from(COLUMNS), TEXT), st.one_of(CELL, VALUE), max_size=5),
    st.fixed_dictionaries({"accession": CELL, "label": st.just("positive"), "source": st.just("rt_pcr"), "given_by": CELL}),
    VALUE,
)  # fmt: skip


def table(columns: list[str], rows: list[list[str]], how: Literal[0, 1, 3]) -> bytes:
    written = io.StringIO()
    csv.writer(written, quoting=how, escapechar="\\", lineterminator="\n").writerows([columns, *rows])
    return written.getvalue().encode(errors="replace")


LABELS = st.one_of(
    st.tuples(
        st.just("application/json"),
        st.one_of(st.lists(ROW, max_size=3).map(lambda rows: json.dumps({"labels": rows}).encode()), BODY),
    ),
    st.tuples(
        st.just("text/csv"),
        st.one_of(
            st.builds(
                table,
                st.one_of(st.just(COLUMNS), st.lists(st.one_of(st.sampled_from(COLUMNS), CELL), max_size=6)),
                st.lists(st.lists(CELL, max_size=9), max_size=3),
                st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]),
            ),
            st.sampled_from([b'"' + b"x" * 200_000, b"label\n" * 11_000, b"\xef\xbb\xbflabel\n", b"\xff\n1"]),
            SHORT,
        ),
    ),
)


@fuzzed(50)
@given(given=LABELS)
def test_any_labels_are_kept_or_refused_row_by_row(api: Api, given: tuple[str, bytes]) -> None:
    kind, body = given
    answer = api.client.post("/v1/labels", data=body, content_type=kind)
    told: Any = answer.get_json(force=True)
    assert answer.status_code in {200, 400, 413, 422}, told
    if answer.status_code == 200:
        assert told["kept"] + told["refused"] == len(told["rows"])
    else:
        assert told["code"] in {"malformed_body", "labels_count", "labels_refused", "too_large"}, told
