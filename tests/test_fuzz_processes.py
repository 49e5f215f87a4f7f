"""What `make fuzz` looks at while it runs: a check that cannot fail shows nothing."""

import subprocess
import sys
from types import SimpleNamespace
from typing import Any

from fuzzing.processes import Processes

HOARDS = "input(); kept = b'x' * (300 << 20); print(flush=True); input()  # as worker.decoder must not"


def test_a_decoding_child_that_gives_its_memory_not_back_is_told() -> None:
    with subprocess.Popen([sys.executable, "-c", HOARDS], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin
        assert child.stdout
        instance: Any = SimpleNamespace(pids=lambda part: [child.pid] * (part == "worker"))
        processes = Processes(instance)
        assert list(processes.problems()) == []
        child.stdin.write(b"\n")
        child.stdin.flush()
        child.stdout.readline()
        processes.look()
        (problem,) = processes.problems()
        assert problem.startswith("kept by a decoding child: 3")
        child.kill()
