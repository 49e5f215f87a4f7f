"""How long a fresh interpreter takes to import the web application, and that TensorFlow stays out of it."""

import statistics
import subprocess
import sys
import time

_PROGRAM = "import api, api.app, sys; sys.exit('tensorflow' in sys.modules)"


def figure() -> None:
    subprocess.run([sys.executable, "-c", _PROGRAM], check=True)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", _PROGRAM], check=True)
        times.append(time.perf_counter() - start)
    print(f"import of the web application: {statistics.median(times):.2f} s, without TensorFlow")
