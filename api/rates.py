"""How much one key may ask for: requests a minute, images and bytes a day; and a queue that is full takes no more."""

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, cast

from apiflask import APIFlask
from flask import Response, current_app, g, request
from flask_limiter import Limiter, RateLimitExceeded
from limits import RateLimitItem, RateLimitItemPerDay
from limits.strategies import FixedWindowRateLimiter
from redis import RedisError

from api import polling, problems
from api.problems import Problem
from api.wiring import parts
from db import heartbeats, queue
from db.batches import Item
from settings import Settings

if TYPE_CHECKING:
    from db.keys import Caller

_TRIES_A_MINUTE: Final = 20  # of one address to sign in
_EMBEDDED, _SOCKET = "redis+socket://", "redis+unix://"  # as Celery and as limits call it
_PATIENCE: Final = {"socket_connect_timeout": 1, "socket_timeout": 1}


class Rates:
    """Counts in the broker's Redis; where it is away each process counts by itself, and nobody is refused for it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        address = settings.redis_url.replace(_EMBEDDED, _SOCKET, 1)
        self.limiter = Limiter(
            _who,
            default_limits=[f"{settings.requests_per_minute}/minute"] if settings.requests_per_minute else [],
            storage_uri=address,
            storage_options={} if address.startswith("memory") else dict(_PATIENCE),
            strategy="fixed-window",
            key_prefix="cxr",
            in_memory_fallback_enabled=True,
            swallow_errors=True,
        )

    def guard(self, app: APIFlask) -> None:
        """Count every request that showed a key; called after what asks for the key."""
        self.limiter.init_app(app)
        self.limiter.request_filter(lambda: "caller" not in g and request.endpoint != "sign_in.enter")
        enter: Any = app.view_functions["sign_in.enter"]
        counted: Any = self.limiter.limit(f"{_TRIES_A_MINUTE}/minute")(enter)
        app.view_functions["sign_in.enter"] = counted
        app.register_error_handler(RateLimitExceeded, _refused)

    def check_room(self) -> None:
        """Raise Problem where nothing more can be taken, before a body is read that nobody wants."""
        for what, limit in self._quotas():
            self._check(what, limit, 1)
        most = self._settings.max_waiting
        if not most:
            return
        with parts().system.read() as session:
            waiting = sum(queue.waiting(session).values())
            pace = heartbeats.images_per_second(session)
        if waiting >= most:
            seconds = int(polling.pause((waiting - most + 1) / pace if pace else None))
            words = f"{waiting} images wait already; send this again later."
            raise Problem(429, "queue_full", words, retryable=True, retry_after=seconds)

    def take(self, items: Sequence[Item]) -> None:
        """Count what was read towards the key's day, or raise Problem."""
        self.check(items)
        self.count(items)

    def check(self, items: Sequence[Item]) -> None:
        """Raise Problem where what was read is more than is left of the key's day."""
        for what, limit, cost in self._wanted(items):
            self._check(what, limit, cost)

    def count(self, items: Sequence[Item]) -> None:
        """Count what was stored towards the key's day."""
        for what, limit, cost in self._wanted(items):
            try:
                self._strategy.hit(limit, what, _who(), cost=cost)
            except RedisError as error:
                _log(error)

    def _wanted(self, items: Sequence[Item]) -> list[tuple[str, RateLimitItem, int]]:
        kept = [item.bytes for item in items if not item.code]
        wanted = {"images": len(kept), "bytes": sum(kept)}
        return [(what, limit, wanted[what]) for what, limit in self._quotas() if wanted[what]]

    def _quotas(self) -> list[tuple[str, RateLimitItem]]:
        settings = self._settings
        a_day = (("images", settings.images_per_day), ("bytes", settings.bytes_per_day))
        return [(what, RateLimitItemPerDay(amount)) for what, amount in a_day if amount]

    def _check(self, what: str, limit: RateLimitItem, cost: int) -> None:
        if cost > limit.amount:
            words = f"This key may send {limit.amount} {what} a day, and this alone is more; send it in parts."
            raise Problem(413, "more_than_a_day", words)
        try:
            if self._strategy.test(limit, what, _who(), cost=cost):
                return
            ends = self._strategy.get_window_stats(limit, what, _who()).reset_time
        except RedisError as error:
            _log(error)
            return
        words = f"This key may send {limit.amount} {what} a day, and with this it would be more."
        raise Problem(429, "quota_used", words, retryable=True, retry_after=_until(ends))

    @property
    def _strategy(self) -> FixedWindowRateLimiter:
        return cast("FixedWindowRateLimiter", self.limiter.limiter)


def _who() -> str:
    """The key that is counted, or, where one signs in, the address."""
    caller: Caller | None = g.get("caller")
    return caller.key_id if caller else request.remote_addr or ""


def _refused(error: RateLimitExceeded) -> Response:
    breached = parts().rates.limiter.current_limit
    seconds = _until(breached.reset_at) if breached else 60
    words = f"More than {error.limit.limit if error.limit else 'is allowed'}; ask less often."
    return problems.answer(Problem(429, "too_many_requests", words, retryable=True, retry_after=seconds))


def _until(moment: float) -> int:
    return max(math.ceil(moment - time.time()), 1)


def _log(error: RedisError) -> None:
    current_app.logger.warning("quotas are not counted, the broker is away: %s", type(error).__name__)
