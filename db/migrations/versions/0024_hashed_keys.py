"""Idempotency keys are kept as their SHA-256 alone."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

COLUMNS = ("tenant", "key", "fingerprint", "batch_id", "status", "location", "body", "at")
KEYS = sa.table("idempotency_keys", *map(sa.column, COLUMNS))
SHA256 = re.compile("[0-9a-f]{64}")


def upgrade() -> None:
    connection = op.get_bind()
    rows = hashed(connection.execute(sa.select(KEYS)).mappings().all())
    connection.execute(sa.delete(KEYS))
    if rows:
        connection.execute(sa.insert(KEYS), rows)


def hashed(rows: Sequence[Mapping[Any, Any]]) -> list[dict[str, Any]]:
    """The rows under the SHA-256 of each key; one that looks like a SHA-256 may be one already, and stays too."""
    kept = {(row["tenant"], row["key"]): row for row in rows if SHA256.fullmatch(row["key"])}
    kept |= {(row["tenant"], hashlib.sha256(row["key"].encode()).hexdigest()): row for row in rows}
    return [{**row, "key": key} for (_, key), row in kept.items()]


def downgrade() -> None:
    """The code before this knows both."""
