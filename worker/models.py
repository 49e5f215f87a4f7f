"""The model versions that this worker holds, loaded from the registry and checked against their SHA-256."""

import threading
import time
from collections import OrderedDict
from collections.abc import Collection
from dataclasses import dataclass

from db import operating_points, verdicts
from db.blobs import BlobDamaged, Blobs
from db.database import Database
from db.tables import Model
from worker import golden
from worker.decision import Decision, ModelUnusable
from worker.predictor import Predictor

_KEPT = 3  # the champion, the one that older batches are pinned to, the one that is to be champion
_TRY_AGAIN_SECONDS = 10


@dataclass(frozen=True)
class Loaded:
    """A predictor with what its results must name."""

    predictor: Predictor
    weights_sha256: str
    preprocessing: str
    decision: Decision


class Models:
    """Loads a version once and keeps the most recently used."""

    def __init__(self, database: Database, blobs: Blobs, *, batch_size: int) -> None:
        self._database = database
        self._blobs = blobs
        self._batch_size = batch_size
        self._loaded: OrderedDict[str, Loaded] = OrderedDict()
        self._failed: dict[str, float] = {}
        self._lock = threading.Lock()

    def get(self, version: str) -> Loaded:
        """Return the version ready to predict, or raise ModelUnusable."""
        with self._lock:
            if version not in self._loaded:
                self._loaded[version] = self._tried(version)
            self._loaded.move_to_end(version)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[version]

    def decisions(self, version: str, tenants: Collection[str]) -> dict[str, Decision]:
        """How the version decides at each of these hospitals: as it was registered, or at a point of their own."""
        own = self.get(version).decision

        def ask() -> dict[str, tuple[float, operating_points.Band]]:
            with self._database.read() as session:
                return operating_points.holding(session, version, tenants)

        points = self._database.patiently(ask)  # what was predicted is not thrown away in an outage
        return {name: own.at(*points[name]) if name in points else own for name in tenants}

    def decisions_ever(self, version: str, tenant: str) -> list[Decision]:
        """How the version has decided at the hospital: as it was registered, and at each point of its own."""
        own = self.get(version).decision
        with self._database.read() as session:
            return [own, *(own.at(*point) for point in operating_points.ever(session, version, tenant))]

    def unusable(self) -> frozenset[str]:
        """The versions that could not be loaded a moment ago; their batches are not for this worker."""
        since = time.monotonic() - _TRY_AGAIN_SECONDS
        return frozenset(version for version, failed in list(self._failed.items()) if failed > since)

    def give_up(self, version: str) -> None:
        """Forget a version that no longer works; it is loaded anew after a while."""
        with self._lock:
            self._failed[version] = time.monotonic()
            self._loaded.pop(version, None)

    def holds(self, version: str) -> bool:
        """Whether it is loaded."""
        with self._lock:
            return version in self._loaded

    def _tried(self, version: str) -> Loaded:
        try:
            loaded = self._load(version)
        except ModelUnusable:
            self._failed[version] = time.monotonic()
            raise
        self._failed.pop(version, None)
        return loaded

    def _load(self, version: str) -> Loaded:
        with self._database.read() as session:
            model = session.get_one(Model, version)
            recorded = verdicts.golden(session, version) or model.config.get(golden.RECORDED)
        try:
            weights = self._blobs.read(model.weights_sha256)
        except (OSError, BlobDamaged) as error:
            raise ModelUnusable(f"the weights of {version} are missing or damaged") from error
        decision = Decision.of(model)
        predictor = Predictor(weights, decision, preprocessing=model.preprocessing, batch_size=self._batch_size)
        if recorded:  # this worker may have another processor or library than the one that judged or trained it
            golden.check(predictor, version, recorded)
        return Loaded(predictor, model.weights_sha256, model.preprocessing, decision)
