"""Model versions: who made a number, pinned by the SHA-256 of the weights."""

from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import ForeignKey, Text, insert, select
from sqlalchemy.orm import Mapped, Session, mapped_column

from db import audit
from db.blobs import Blobs
from db.clock import now
from db.tables import Model, Table

CHAMPION = "champion"
CHALLENGER = "challenger"


class NoChampion(Exception):
    """No model is registered as champion; `cxr migrate` registers the one that is shipped."""


class VersionUnknown(Exception):
    """No model of this version is registered."""


class ModelAlias(Table):
    """A name such as `champion` that points at one model version."""

    __tablename__ = "model_aliases"
    alias: Mapped[str] = mapped_column(Text, primary_key=True)
    version: Mapped[str] = mapped_column(ForeignKey("models.version"))


@dataclass(frozen=True)
class Card:
    """What stands beside the weights: enough to know what they are and to use them alike everywhere."""

    version: str
    preprocessing: str
    threshold: float
    calibration_slope: float
    calibration_intercept: float
    data_fingerprint: str
    config: dict[str, Any]
    metrics: dict[str, Any]
    band_low: float | None = None
    band_high: float | None = None
    """From the first to the second probability no label is given; None in versions from before there was a band."""


def register(session: Session, blobs: Blobs, card: Card, weights: bytes, *, actor: str) -> Model:
    """Keep the weights and the card under `card.version`; a version that stands is returned as it is."""
    known = session.get(Model, card.version)
    if known:
        return known
    sha256 = blobs.put(weights)
    session.execute(insert(Model).values(weights_sha256=sha256, registered_at=now(), **vars(card)))
    detail = {"weights_sha256": sha256, "data_fingerprint": card.data_fingerprint}
    audit.append(session, actor, [audit.Entry("model.registered", card.version, None, detail)])
    return session.get_one(Model, card.version)


def appoint(session: Session, alias: str, version: str, *, actor: str) -> None:
    """Point `alias` at `version` from now on; batches keep the version they were submitted with."""
    current = session.get(ModelAlias, alias)
    detail = {"alias": alias, "before": current.version if current else None}
    if current:
        current.version = version
    else:
        session.add(ModelAlias(alias=alias, version=version))
    audit.append(session, actor, [audit.Entry("model.appointed", version, None, detail)])


def champion(session: Session) -> Model:
    """Return the model that new batches are classified with, or raise NoChampion."""
    model = session.scalar(select(Model).join(ModelAlias).where(ModelAlias.alias == CHAMPION))
    if model is None:
        raise NoChampion("no model is registered: run `cxr migrate`")
    return model


def has_champion(session: Session) -> bool:
    return session.get(ModelAlias, CHAMPION) is not None


def aliases(session: Session) -> dict[str, list[str]]:
    """The names of every version that has one."""
    found: dict[str, list[str]] = {}
    for alias in session.scalars(select(ModelAlias).order_by(ModelAlias.alias)):
        found.setdefault(alias.version, []).append(alias.alias)
    return found


def pointed_at(session: Session, alias: str) -> str | None:
    """Return the version that the alias names, or None."""
    return session.scalar(select(ModelAlias.version).where(ModelAlias.alias == alias))


def find(session: Session, version: str) -> Model:
    """Return the model of this version, or raise VersionUnknown."""
    model = session.get(Model, version) if version.isprintable() else None  # PostgreSQL takes no NUL
    if model is None:
        raise VersionUnknown(f"{version} is not registered: `cxr models` lists what is")
    return model


def cards(session: Session) -> list[Card]:
    """Return every registered version, oldest first."""
    return [card_of(model) for model in session.scalars(select(Model).order_by(Model.registered_at))]


def newest(session: Session) -> list[Model]:
    """Return every registered version, newest first."""
    return list(session.scalars(select(Model).order_by(Model.registered_at.desc(), Model.version)))


def card_of(model: Model) -> Card:
    return Card(**{field.name: getattr(model, field.name) for field in fields(Card)})
