"""What someone who holds the database can do to the audit."""

from sqlalchemy import text
from sqlalchemy.orm import Session

_TRIGGERS = {
    "sqlite": ("DROP TRIGGER IF EXISTS audit_refuses_UPDATE", "DROP TRIGGER IF EXISTS audit_refuses_DELETE"),
    "postgresql": (
        "DROP TRIGGER IF EXISTS audit_refuses_change ON audit",
        "DROP TRIGGER IF EXISTS audit_refuses_delete ON audit",
    ),
}


def lift(session: Session) -> None:
    """Take away what refuses changes."""
    for statement in _TRIGGERS[session.get_bind().dialect.name]:
        session.execute(text(statement))
