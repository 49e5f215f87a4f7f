"""Where the project lies, and what it says of itself."""

import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.lock": ("cpu", "notebook", "dev"),
    "requirements-cpu.lock": ("cpu",),
    "requirements-gpu.lock": ("gpu",),
}

_SHARED = ROOT.parent / "shared" / "data"
COVID_CXR = _SHARED / "covid-cxr"
"""Real radiographs with masks, beside the checkout; never in it."""
ORIGINALS = _SHARED / "originals"
"""Files as their sources published them."""
needs_radiographs = pytest.mark.skipif(not COVID_CXR.is_dir(), reason="../shared/data/covid-cxr is not here")
needs_originals = pytest.mark.skipif(not ORIGINALS.is_dir(), reason="../shared/data/originals is not here")
