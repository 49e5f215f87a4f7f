"""What someone who holds the database can do to the audit."""

from sqlalchemy import text
from sqlalchemy.orm import Session

_TRIGGERS = {
    "sqlite": (
        "audit_refuses_UPDATE",
        "audit_refuses_DELETE",
        "audit_refuses_REPLACE",
        "audit_heads_INSERT",
        "audit_heads_UPDATE",
        "audit_heads_DELETE",
    ),
    "postgresql": (
        "audit_refuses_change ON audit",
        "audit_refuses_delete ON audit",
        "audit_heads_go_forward ON audit_heads",
        "audit_heads_stay ON audit_heads",
    ),
}


def lift(session: Session) -> None:
    """Take away what refuses changes."""
    for trigger in _TRIGGERS[session.get_bind().dialect.name]:
        session.execute(text(f"DROP TRIGGER IF EXISTS {trigger}"))
