"""What the shell offers after `cxr`: commands, options, values and batches."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.service import Service
from tests.test_cli import CXR, cxr
from tests.uploading import Radiograph


def completed(words: str, *, home: Path, shell: str = "bash") -> list[str]:
    """What the shell's own function offers after these words."""
    environment = os.environ | {"CXR_HOME": str(home), "PATH": f"{CXR.parent}:{os.environ['PATH']}"}
    script = f"""
        eval "$(cxr completion {shell})"
        COMP_WORDS=({words} "") COMP_CWORD={len(words.split())}
        [ "${{COMP_WORDS[-2]: -1}}" = - ] && unset 'COMP_WORDS[-1]' && COMP_CWORD=$((COMP_CWORD - 1))
        _cxr_completion cxr
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    command = ["bash", "--norc", "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


def test_bash_completes_commands_options_values_and_batches(service: Service, radiograph: Radiograph) -> None:
    home, batch = service.settings.home, service.submit({"a.png": radiograph(1)})
    assert {"submit", "status", "results"} <= set(completed("cxr", home=home))
    assert {"--wait", "--json"} <= set(completed("cxr submit -", home=home))
    assert set(completed("cxr results --label", home=home)) == {"positive", "negative", "inconclusive"}
    assert batch in completed("cxr status", home=home)


def test_without_a_server_completion_offers_no_batch_and_says_nothing(tmp_path: Path) -> None:
    assert completed("cxr status", home=tmp_path) == []


@pytest.mark.parametrize(("shell", "offered"), [("zsh", "plain\nstatus\n"), ("fish", "plain,status")])
def test_other_shells_get_their_script_and_their_words(tmp_path: Path, shell: str, offered: str) -> None:
    script = cxr("completion", shell, home=tmp_path).stdout
    assert f"_CXR_COMPLETE={shell}_complete" in script
    asked = {
        "_CXR_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": "cxr stat",
        "COMP_CWORD": "1" if shell == "zsh" else "stat",
    }
    assert offered in cxr(home=tmp_path, **asked).stdout
