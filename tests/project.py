"""Where the project lies, and what it says of itself."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.lock": ("cpu", "notebook", "dev"),
    "requirements-cpu.lock": ("cpu",),
    "requirements-gpu.lock": ("gpu",),
}
