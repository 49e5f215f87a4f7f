"""The tables of the audit: a chain of rows for each hospital, one for what belongs to none, and where each ends."""

from sqlalchemy import BigInteger, CheckConstraint, Index, PrimaryKeyConstraint, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from db.tables import Table
from db.tenancy import Belonging

_SEARCHES = text("action = 'results.searched'")


class AuditRow(Belonging, Table):
    """Append-only; each row's hash covers the one before it in its chain. Triggers refuse UPDATE, DELETE and REPLACE.

    `origin` is the address that a request came from, None where a worker acted.
    """

    __tablename__ = "audit"
    seq: Mapped[int] = mapped_column(BigInteger)
    at: Mapped[str] = mapped_column(Text)
    actor: Mapped[str] = mapped_column(Text)
    origin: Mapped[str | None] = mapped_column(Text)
    action: Mapped[str] = mapped_column(Text)
    subject: Mapped[str] = mapped_column(Text)
    batch_id: Mapped[str | None] = mapped_column(Text)
    detail: Mapped[str] = mapped_column(Text)
    previous_hash: Mapped[str] = mapped_column(Text)
    hash: Mapped[str] = mapped_column(Text)
    __table_args__ = (
        PrimaryKeyConstraint("tenant", "seq"),
        UniqueConstraint("hash"),
        Index("ix_audit_batch_id", "batch_id"),
        # A search shows results of many batches, so no batch leads to its row.
        Index("ix_audit_searches", "seq", sqlite_where=_SEARCHES, postgresql_where=_SEARCHES),
    )


class AuditHead(Belonging, Table):
    """Where a hospital's chain ends; holding it makes writers of that chain take turns, and of no other.

    Rows up to `pruned` may be removed, which the database refuses for all others; it grows only to what the chain's last
    row, an `audit.pruned`, names.
    """

    __tablename__ = "audit_heads"
    seq: Mapped[int] = mapped_column(BigInteger)
    hash: Mapped[str] = mapped_column(Text)
    pruned: Mapped[int] = mapped_column(BigInteger, default=0)
    __table_args__ = (
        PrimaryKeyConstraint("tenant"),
        CheckConstraint("pruned >= 0 AND pruned <= seq", name="pruned_in_chain"),
    )
