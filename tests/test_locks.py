"""The lock files: every direct dependency, a hash for everything, no host, the tested versions."""

import re

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.project import LOCKS, PYPROJECT, ROOT


def pins(lock: str) -> dict[str, set[str]]:
    """Name to versions; a name has two where the version depends on Python's."""
    found: dict[str, set[str]] = {}
    for name, version in re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / lock).read_text(), re.MULTILINE):
        found.setdefault(name, set()).add(version)
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_every_direct_dependency_in_the_range_asked_for(lock: str) -> None:
    extras = PYPROJECT["project"]["optional-dependencies"]
    wanted = [*PYPROJECT["project"]["dependencies"], *(line for extra in LOCKS[lock] for line in extras[extra])]
    pinned = pins(lock)
    for requirement in map(Requirement, wanted):
        versions = pinned[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_has_a_hash_for_everything_and_names_no_server(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert not re.search(r"https?://|git\+|file:|^-|--(index|extra-index|find-links|trusted)", text, re.MULTILINE)
    for entry in re.split(r"\n(?=\S)", text.strip()):
        assert re.match(r"[a-z0-9-]+==\S+( ;[^\\]+)? \\\n    --hash=sha256:[0-9a-f]{64}", entry), entry.splitlines()[0]


@pytest.mark.parametrize("lock", ["requirements-cpu.lock", "requirements-gpu.lock"])
def test_an_image_gets_the_versions_that_are_tested(lock: str) -> None:
    tested = pins("requirements.lock")
    assert {name: versions for name, versions in pins(lock).items() if tested.get(name, versions) != versions} == {}
