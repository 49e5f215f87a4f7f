"""How much is tried: examples of Hypothesis, edits, rows; `CXR_FUZZ_TIMES=10` makes it ten times as much."""

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

TIMES = int(os.environ.get("CXR_FUZZ_TIMES") or 1)
_ALLOWED = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """Mark a test of many examples, and say how many."""

    def mark(test: Any) -> Any:
        chosen = settings(max_examples=examples * TIMES, deadline=None, suppress_health_check=_ALLOWED)
        return pytest.mark.fuzz(chosen(test))

    return mark


def both_in_ci(fixture: str) -> pytest.MarkDecorator:
    """On SQLite in `make test`, and on PostgreSQL too in CI: for what takes long."""
    kinds = ["sqlite", pytest.param("postgresql", marks=pytest.mark.long)]
    return pytest.mark.parametrize(fixture, kinds, indirect=True)
