"""Import by reference: files below the import root, and no way out of it."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from settings import SettingInvalid, Settings
from tests.service import zipped
from tests.uploading import Api, Radiograph


@pytest.fixture
def share(tmp_path: Path, radiograph: Radiograph) -> Path:
    """What the hospital mounts, beside something that it does not."""
    root = tmp_path / "share" / "default"
    root.mkdir(parents=True)
    (root.parent / "secret.png").write_bytes(radiograph(99))
    (root / "night" / "ward-3").mkdir(parents=True)
    (root / "night" / "1.png").write_bytes(radiograph(1))
    (root / "night" / "ward-3" / "2.png").write_bytes(radiograph(2))
    (root / "day.zip").write_bytes(zipped({"3.png": radiograph(3)}))
    return root


@pytest.fixture
def api(settings: Settings, share: Path) -> Iterator[Api]:
    api = Api(replace(settings, import_root=str(share.parent), max_images=10))
    yield api
    api.parts.database.close()


def ask(api: Api, *paths: str, **more: object) -> Any:
    return api.client.post("/v1/batches", json={"import": list(paths), **more})


def names(api: Api) -> list[str]:
    return [image.custom_id for image in api.images()]


def test_files_directories_and_zips_are_taken_under_their_paths(api: Api) -> None:
    answer = ask(api, "night", "day.zip", lane="urgent", synthetic=True)
    told = answer.json
    assert (answer.status_code, told["lane"], told["synthetic"], told["total"]) == (202, "urgent", True, 3)
    assert names(api) == ["night/1.png", "night/ward-3/2.png", "3.png"]
    assert len(api.blobs()) == 3
    assert answer.headers["Retry-After"]


def test_the_whole_root_and_a_single_file_can_be_named(api: Api) -> None:
    assert ask(api, "night/ward-3/2.png").status_code == 202
    assert ask(api, "").json["total"] == 3
    assert ask(api, "./night//").json["total"] == 2
    assert names(api)[0] == "night/ward-3/2.png"


def test_the_same_door_judges_what_is_imported(api: Api, share: Path, radiograph: Radiograph) -> None:
    (share / "night" / "half.png").write_bytes(radiograph(4)[:-30])
    (share / "night" / "notes.txt").write_bytes(b"notes")
    told = ask(api, "night").json
    assert {one["custom_id"]: one["code"] for one in told["rejected"]} == {
        "night/half.png": "truncated",
        "night/notes.txt": "unsupported_type",
    }


@pytest.mark.parametrize(
    "path",
    [
        "../secret.png",
        "night/../../secret.png",
        "/etc/passwd",
        "..",
        "night/..",
        "link.png",
        "linked/secret.png",
        "linked",
        "inside/1.png",
        "with-link",
        "pipe",
        "with-pipe",
        "nothing",
        "night/1.png/more",
        "night\\1.png",
        "a\0b",
    ],
)
def test_no_path_leads_out_of_the_root_or_to_anything_but_files(api: Api, share: Path, path: str) -> None:
    (share / "link.png").symlink_to(share.parent / "secret.png")
    (share / "linked").symlink_to(share.parent, target_is_directory=True)
    (share / "inside").symlink_to(share / "night", target_is_directory=True)
    for name in ("with-link", "with-pipe"):
        (share / name).mkdir()
    (share / "with-link" / "a.png").symlink_to(share / "night" / "1.png")
    os.mkfifo(share / "pipe")
    os.mkfifo(share / "with-pipe" / "pipe")
    api.refuses(ask(api, "night/1.png", path), 422, "import_path")


def test_a_directory_that_turns_into_a_link_meanwhile_is_not_followed(
    api: Api, share: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the look at a directory and the opening of what is in it."""
    real = os.scandir

    def swapping(directory: int) -> Any:
        entries = real(directory)
        if (share / "night" / "ward-3").is_dir() and not (share / "night" / "ward-3").is_symlink():
            (share / "night" / "ward-3").rename(share / "moved")
            (share / "night" / "ward-3").symlink_to(share.parent, target_is_directory=True)
        return entries

    monkeypatch.setattr(os, "scandir", swapping)
    api.refuses(ask(api, "night"), 422, "import_path")


def test_limits_hold_for_what_is_imported(api: Api, share: Path) -> None:
    for number in range(11):
        (share / f"{number}.txt").write_bytes(b"x")
    api.refuses(ask(api, ""), 413, "too_many_images")
    api.refuses(ask(api, "night", "night/1.png"), 422, "custom_id_twice")
    assert ask(api, *["x"] * 1_001).json["code"] == "invalid_request"
    assert ask(api).json["code"] == "invalid_request"
    assert ask(api, "day.zip", total=3).json["code"] == "invalid_request"


def test_a_zip_beyond_the_limit_is_not_read_to_its_end(settings: Settings, share: Path) -> None:
    with (share / "huge.zip").open("wb") as huge:
        huge.write((share / "day.zip").read_bytes())
        huge.truncate(1 << 30)
    api = Api(replace(settings, import_root=str(share.parent), max_batch_bytes=5_000_000))
    before = _bytes_read()
    api.refuses(ask(api, "huge.zip"), 413, "too_large")
    assert _bytes_read() - before < 50_000_000
    api.nothing_unfinished()
    api.parts.database.close()


def _bytes_read() -> int:
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])


def test_a_name_that_is_no_utf8_is_refused(api: Api, share: Path) -> None:
    with open(os.path.join(os.fsencode(share), b"night", b"\xff.png"), "wb"):  # noqa: PTH118, PTH123 - bytes
        pass
    assert "\\" not in api.refuses(ask(api, "night"), 422, "import_path")["detail"]


def test_a_repeated_import_is_one_batch(api: Api) -> None:
    keyed = {"headers": {"Idempotency-Key": "k1"}, "json": {"import": ["night"]}}
    first, second = (api.client.post("/v1/batches", **keyed) for _ in range(2))
    assert first.data == second.data
    assert len(api.images()) == 2


def test_it_is_off_unless_it_is_set(settings: Settings, tmp_path: Path) -> None:
    off = Api(settings)
    off.refuses(ask(off, "night"), 403, "import_off")
    off.parts.database.close()
    with pytest.raises(SettingInvalid, match="CXR_IMPORT_ROOT"):
        Settings.from_environment({"CXR_HOME": str(tmp_path), "CXR_IMPORT_ROOT": "share"})
    assert Settings.from_environment({"CXR_HOME": str(tmp_path)}).environment()["CXR_IMPORT_ROOT"] == ""
