"""Images by reference: paths below the hospital's import root, opened part by part, so that no name leads out of it."""

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Final

from api.problems import Problem
from api.uploads import Intake

MOST_PATHS: Final = 1_000
_CHUNK = 1024 * 1024
_DEEPEST = 32
_FOLLOW_NOTHING = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK  # which a pipe would wait for


def take(intake: Intake, root: Path | None, paths: Sequence[str]) -> None:
    """Add every file that the paths name, and every file below a directory among them. Raises Problem."""
    if root is None or not root.is_dir():
        raise Problem(403, "import_off", "The server has no import root for you; send the files themselves.")
    with _opened(str(root), None, os.O_RDONLY | os.O_CLOEXEC, told="import root") as top:
        for path in paths:
            _reach(intake, top, path, _parts(path), ())


def _parts(path: str) -> tuple[str, ...]:
    parts = PurePosixPath(path).parts
    if path.startswith("/") or ".." in parts or "\0" in path or "\\" in path:
        raise _refused(path, "give it relative to the import root, without ..")
    return parts


def _reach(intake: Intake, directory: int, path: str, left: Sequence[str], gone: tuple[str, ...]) -> None:
    """Open one part of the path after the other, each in the directory that was opened before."""
    name = left[0] if left else "."
    with _opened(name, directory, _FOLLOW_NOTHING, told=path) as found:
        here = (*gone, *left[:1])
        if len(left) > 1:
            _reach(intake, found, path, left[1:], here)
        else:
            _add(intake, found, here)


def _add(intake: Intake, found: int, here: tuple[str, ...]) -> None:
    name, kind = "/".join(here), os.fstat(found).st_mode
    if stat.S_ISREG(kind):
        intake.add(name, _read(found))
    elif not stat.S_ISDIR(kind):
        raise _refused(name, "it is no file and no directory")
    elif len(here) > _DEEPEST:
        raise _refused(name, "it lies too deep")
    else:
        for entry in _names(found, name, intake.most_images):
            with _opened(entry, found, _FOLLOW_NOTHING, told=f"{name}/{entry}") as inner:
                _add(intake, inner, (*here, entry))


def _names(directory: int, told: str, most: int) -> list[str]:
    names: list[str] = []
    with os.scandir(directory) as entries:
        for entry in entries:
            if len(names) == most:
                raise Problem(413, "too_many_images", f"A batch holds at most {most} images; import in parts.")
            if not entry.name.isprintable():
                raise _refused(f"{told}/{entry.name}", "its name is no printable UTF-8")
            names.append(entry.name)
    return sorted(names)


def _read(file: int) -> Iterator[bytes]:
    try:
        while chunk := os.read(file, _CHUNK):
            yield chunk
    except OSError as error:
        raise Problem(503, "import_broken_off", "A file stopped being readable; try again.", retryable=True) from error


@contextmanager
def _opened(name: str, directory: int | None, flags: int, *, told: str) -> Iterator[int]:
    try:
        found = os.open(name, flags, dir_fd=directory)
    except OSError as error:
        raise _refused(told, "it is not there, is a link, or cannot be read") from error
    try:
        yield found
    finally:
        os.close(found)


def _refused(path: str, why: str) -> Problem:
    shown = path.encode(errors="replace").decode()
    return Problem(422, "import_path", f"A path cannot be imported: {why}.", path=shown)
