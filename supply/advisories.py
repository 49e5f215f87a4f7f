"""Ask for known vulnerabilities of what a lock file pins: `python -m supply.advisories`, in `make check`.

Red where one is found that `ignored.toml` does not name, or names with a day that is over. Where the advisory service
cannot be reached it says so, and is not red: a check that did not run must not pass for one that found nothing.
"""

import json
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

_LOCK = Path("requirements.lock")
_IGNORED = Path(__file__).with_name("ignored.toml")
_UNREACHED = ("ConnectionError", "ConnectTimeout", "ReadTimeout", "Could not connect", "Max retries exceeded")
_NAMED = 5


@dataclass(frozen=True)
class Ignored:
    """A vulnerability that is known and lived with, why, and until when."""

    id: str
    reason: str
    until: date


@dataclass(frozen=True)
class Verdict:
    red: bool
    words: str


def main(options: Sequence[str]) -> int:
    """Print the verdict; `options` go to pip-audit."""
    verdict = judged(asked(_LOCK, options), ignored(_IGNORED), today=datetime.now(UTC).date())
    print(f"vulnerabilities: {verdict.words}", file=sys.stderr if verdict.red else sys.stdout)
    return int(verdict.red)


def ignored(path: Path) -> list[Ignored]:
    """Return the list; an entry without id, reason or day is an error."""
    return [Ignored(**entry) for entry in tomllib.loads(path.read_text(encoding="utf-8")).get("ignored", [])]


def asked(lock: Path, options: Sequence[str]) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-W", "ignore", "-m", "pip_audit", "--requirement", str(lock), "--disable-pip"]
    output = ["--progress-spinner", "off", "--format", "json", "--timeout", "10"]
    return subprocess.run([*program, *output, *options], capture_output=True, text=True, check=False)


def judged(answer: subprocess.CompletedProcess[str], lived_with: Sequence[Ignored], *, today: date) -> Verdict:
    try:
        packages: list[dict[str, Any]] = json.loads(answer.stdout)["dependencies"]
    except (ValueError, KeyError):
        if any(words in answer.stderr for words in _UNREACHED):
            return Verdict(red=False, words="NOT CHECKED: the advisory service cannot be reached")
        return Verdict(red=True, words=f"pip-audit failed: {answer.stderr[-500:]}")
    looked_up = [package for package in packages if "vulns" in package]
    if not looked_up:  # a mirror without advisories knows no package, and pip-audit calls that all clear
        return Verdict(red=False, words="NOT CHECKED: what answers here knows no advisories")
    return _weighed(looked_up, len(packages), lived_with, today=today)


def _weighed(looked_up: Sequence[dict[str, Any]], asked: int, lived_with: Sequence[Ignored], *, today: date) -> Verdict:
    over = [f"{one.id}: ignored until {one.until}, look again" for one in lived_with if one.until < today]
    known = {one.id for one in lived_with if one.until >= today}
    found = [
        f"{package['name']} {package['version']}: {vulnerability['id']}, mended in {', '.join(vulnerability['fix_versions']) or 'none yet'}"
        for package in looked_up
        for vulnerability in package["vulns"]
        if not known & {vulnerability["id"], *vulnerability.get("aliases", [])}
    ]
    if found or over:
        return Verdict(red=True, words="\n  ".join(["found", *found, *over]))
    unknown = (
        f", {asked - len(looked_up)} NOT CHECKED: the service does not know them" if asked > len(looked_up) else ""
    )
    return Verdict(red=False, words=f"none in {len(looked_up)} packages ({len(known)} ignored){unknown}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
