"""The licences of what a lock file pins, out of the packages' own metadata: `make licences`.

Red, in `make check`, where a licence is neither of the permissive ones nor named with a reason in `licences.toml`.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

_LOCKS = ("requirements.lock", "requirements-gpu.lock")
_SERVES = "requirements-cpu.lock"
_NAMED = Path(__file__).with_name("licences.toml")
_PINNED = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)
_PERMISSIVE = re.compile(
    r"\b(MIT|BSD|0BSD|Apache|ISC|PSF|Python Software Foundation|Python-2\.0|Zlib|MIT-CMU|HPND|Unlicense|CC0|Boost|BSL-1\.0|W3C)\b",
    re.IGNORECASE,
)
_COPYLEFT = re.compile(r"GPL|MPL|Mozilla|EPL|CDDL|Proprietary|NVIDIA", re.IGNORECASE)


@dataclass(frozen=True)
class Licence:
    """Of one pinned package; `text` is None where it is not installed on this machine."""

    package: str
    version: str
    text: str | None
    serves: bool

    @property
    def permissive(self) -> bool:
        return bool(self.text and _PERMISSIVE.search(self.text) and not _COPYLEFT.search(self.text))


def licences() -> Iterator[Licence]:
    """Every package of the lock files, by name."""
    pinned = {name: version for lock in _LOCKS for name, version in _pins(lock).items()}
    serving = _pins(_SERVES)
    for name, version in sorted(pinned.items()):
        yield Licence(name, version, _text(name), name in serving)


def named() -> dict[str, str]:
    """Packages under other licences, and why they may be here."""
    found: dict[str, str] = tomllib.loads(_NAMED.read_text(encoding="utf-8"))["reasons"]
    return found


def unexplained() -> list[Licence]:
    reasons = named()
    return [one for one in licences() if one.text is not None and not one.permissive and one.package not in reasons]


def _pins(lock: str) -> dict[str, str]:
    return dict(_PINNED.findall(Path(lock).read_text(encoding="utf-8")))


def _text(name: str) -> str | None:
    try:
        found = distribution(name)
    except PackageNotFoundError:
        return None
    return _told(found)


def _told(found: Distribution) -> str:
    metadata = found.metadata
    classifiers = [line.split(" :: ")[-1] for line in metadata.get_all("Classifier", []) if line.startswith("License")]
    first, expression = (str(metadata.get_all(name, [""])[0]).strip() for name in ("License", "License-Expression"))
    return expression or "; ".join(classifiers) or first.partition("\n")[0] or "none named"


def main(options: list[str]) -> int:
    """Print the list, or with --check only what nobody has explained."""
    if "--check" in options:
        unknown = unexplained()
        for one in unknown:
            print(
                f"licences: {one.package} is under {one.text}: name it in {_NAMED.name} with a reason", file=sys.stderr
            )
        return int(bool(unknown))
    reasons = named()
    print("| package | version | licence | part of | |\n| --- | --- | --- | --- | --- |")
    for one in licences():
        part = "the service" if one.serves else "development or GPU"
        print(
            f"| {one.package} | {one.version} | {one.text or 'not installed here'} | {part} | {reasons.get(one.package, '')} |"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
