"""Whose rows a session sees: every query filtered by hospital, in this one place."""

from typing import Any, Final

from sqlalchemy import Connection, ForeignKey, ForeignKeyConstraint, Text, event
from sqlalchemy.engine.interfaces import ExecutionContext
from sqlalchemy.orm import Mapped, ORMExecuteState, Session, mapped_column, with_loader_criteria

DEFAULT: Final = "default"
"""The hospital of an installation that has only one."""

OPTION: Final = "cxr_tenant"
"""Execution option of an engine that speaks for one hospital; without it, for the system and all of them."""

SYSTEM: Final = "*"
"""Who is no hospital: the workers and the operator, who see all of them."""

_SETTING = "cxr.tenant"


def _the_sessions(context: ExecutionContext) -> Any:
    """What a new row gets; NULL, which the database refuses, where the system does not say whose it is."""
    return context.execution_options.get(OPTION)


def of(session: Session) -> str | None:
    """The hospital that the session speaks for, None where it is the system's."""
    tenant: str | None = session.get_bind().get_execution_options().get(OPTION)
    return tenant


class Belonging:
    """A row that nobody but its hospital and the system sees."""

    tenant: Mapped[str] = mapped_column(Text, default=_the_sessions)


class Owned(Belonging):
    """The same of a hospital that must be there."""

    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.id"), default=_the_sessions)


def of_its_batch() -> ForeignKeyConstraint:
    """What belongs to a batch belongs to the batch's hospital."""
    return ForeignKeyConstraint(["batch_id", "tenant"], ["batches.id", "batches.tenant"])


@event.listens_for(Session, "do_orm_execute")
def _only_ones_own(state: ORMExecuteState) -> None:
    """SELECT, UPDATE and DELETE of whatever is owned."""
    tenant = of(state.session)
    if tenant is not None:
        own = with_loader_criteria(Belonging, lambda row: row.tenant == tenant, include_aliases=True)
        state.statement = state.statement.options(own)


def announce(connection: Connection) -> None:
    """Tell PostgreSQL, for this transaction, whose rows its policies may show; untold they show none."""
    tenant = connection.get_execution_options().get(OPTION, SYSTEM)
    connection.exec_driver_sql("SELECT set_config(%s, %s, true)", (_SETTING, tenant))


def wall(table: str) -> list[str]:
    """Row-level security for an owned table, in PostgreSQL's words; its owner is not exempt."""
    # In a subquery it is asked once, not for every row.
    told = f"(SELECT current_setting('{_SETTING}', true))"
    return [
        f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
        f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        f"CREATE POLICY {table}_of_one_tenant ON {table} USING ({told} = '{SYSTEM}' OR tenant = {told})",
    ]
