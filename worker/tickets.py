"""Tickets: a word to the workers that a lane holds work. They carry no image and may be lost."""

import logging
from typing import Any

import redis
from celery import Celery
from kombu.entity import Exchange, Queue
from kombu.exceptions import OperationalError

from db.tables import Lane
from settings import Settings

log = logging.getLogger(__name__)

WORK = "cxr.work"
SUCCESSION = "cxr.succession"
SCHEDULE_QUEUE = "schedule"
EXPLAIN = "cxr.explain"
VERIFY = "cxr.verify"
EXPLAIN_QUEUE = "explain"

RETRAIN = "cxr.retrain"
TRAIN = "cxr.train"
RETRAINING_QUEUE = "retraining"

# A worker that takes a ticket works until its lane is empty, so more would only be answered with "nothing left".
_MOST = 64

_TRANSPORT = {
    "visibility_timeout": 300,
    "socket_timeout": 10,  # without it a publish waits for ever on a dead link
    "socket_connect_timeout": 3,
    "socket_keepalive": True,
    "health_check_interval": 25,
    "max_retries": 1,  # of a publish; a worker's own connection is kept trying by the broker_connection settings
    "interval_start": 0.1,
    "queue_order_strategy": "priority",  # the queues in the order given: urgent first
}


def celery_app(settings: Settings) -> Celery:
    """Return the Celery application that API, worker and beat share."""
    app = Celery("cxr", broker=settings.redis_url)
    app.conf.update(
        accept_content=["json"],
        broker_connection_max_retries=None,
        broker_connection_retry_on_startup=True,
        broker_transport_options=_transport(settings.redis_url),
        enable_utc=True,
        task_queues=[_queue(name) for name in (*Lane, SCHEDULE_QUEUE, EXPLAIN_QUEUE, RETRAINING_QUEUE)],
        task_ignore_result=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,  # threads cannot be, and Celery raises over it
        worker_hijack_root_logger=False,
        worker_prefetch_multiplier=1,
        worker_soft_shutdown_timeout=60,
    )
    return app


def _queue(name: str) -> Queue:
    """Nothing in it is acknowledged: a ticket may be lost.

    kombu 5.7 acknowledges and gives back over the connection that broke, and that ends the whole worker.
    """
    return Queue(name, Exchange(name), routing_key=name, no_ack=True)  # type: ignore[no-untyped-call]


def _transport(url: str) -> dict[str, Any]:
    unix_socket = url.startswith("redis+socket")
    return {name: value for name, value in _TRANSPORT.items() if not (unix_socket and name == "socket_keepalive")}


class Tickets:
    """Rings after the commit, best effort: a broker that is down costs seconds, since the sweeper rings again."""

    def __init__(self, app: Celery, *, batch_size: int) -> None:
        self._app = app
        self._batch_size = batch_size

    def ring(self, lane: Lane, images: int) -> None:
        """Put one ticket for each micro-batch into the lane; a failure is logged, never raised."""
        self._publish(lane, self._wanted(images))

    def ring_again(self, lane: Lane, images: int) -> None:
        """Ring only for what the tickets that are still there do not cover."""
        wanted = self._wanted(images)
        if not wanted:
            return
        try:
            with self._app.connection_for_read() as connection, connection.channel() as channel:
                present = channel.client.llen(lane)
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("the broker is away: %s", type(error).__name__)
            return
        self._publish(lane, wanted - present)

    def explain(self, result_id: str) -> None:
        """Ask for a result's heatmap, best effort: who waits for it asks again."""
        try:
            self._app.send_task(EXPLAIN, args=[result_id], queue=EXPLAIN_QUEUE, retry=False)
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("no ticket for a heatmap: %s", type(error).__name__)

    def verify(self, result_id: str, asked: int) -> None:
        """Ask for a result to be computed again, best effort as well; `asked` is the row of the audit that holds the request."""
        try:
            self._app.send_task(VERIFY, args=[result_id, asked], queue=EXPLAIN_QUEUE, retry=False)
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("no ticket for a verification: %s", type(error).__name__)

    def ring_succession(self) -> None:
        """Tell a worker at once that a version waits to become champion; the sweeps look for it too."""
        self._send(SUCCESSION, SCHEDULE_QUEUE)

    def ring_trainer(self) -> None:
        """Tell the trainer that a run waits; it looks by itself too."""
        self._send(TRAIN, RETRAINING_QUEUE)

    def _wanted(self, images: int) -> int:
        return min(-(-images // self._batch_size), _MOST)

    def _publish(self, lane: Lane, number: int) -> None:
        for _ in range(number):
            if not self._send(WORK, lane):
                return

    def _send(self, task: str, queue: str) -> bool:
        try:
            self._app.send_task(task, queue=queue, retry=False)
        except (OperationalError, redis.RedisError, OSError) as error:
            log.warning("no ticket for %s, the sweeper will ring: %s", queue, type(error).__name__)
            return False
        return True
