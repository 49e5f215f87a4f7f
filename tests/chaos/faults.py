"""Every fault, done once."""

import contextlib
import signal
import threading
import time
from hashlib import sha256
from pathlib import Path

import httpx
import redis
from sqlalchemy import func, select

from db import registry
from db.heartbeats import Worker
from db.slots import Slot
from db.tables import OPEN, Batch, Image
from tests.chaos import power, processes
from tests.chaos.field import LEASE_SECONDS, VERSIONS
from tests.chaos.load import even
from tests.chaos.predictor import POISONS
from tests.chaos.scene import Scene
from tests.service import until
from worker.schedule import TIDY

CLOCK = "{home}/clock"
_HOUR_SECONDS = 3600
_BATCH = 10
_ACCEPTED, _CONFLICT = 202, 409


def kill_worker(scene: Scene) -> str:
    name = scene.worker()
    scene.wait_for(name)
    scene.wait_for_work()
    scene.field.kill(name)
    scene.mark_held()
    scene.field.spawn(name)
    return name


def kill_real_worker(scene: Scene) -> None:
    """With TensorFlow a worker takes its time to start: wait until the killed one works again."""
    scene.wait_for(kill_worker(scene))


def stop_worker_past_its_lease(scene: Scene) -> None:
    name = scene.worker()
    scene.wait_for(name)
    scene.catch_at_work(name)
    scene.mark_held()
    time.sleep(LEASE_SECONDS + 1.5)
    scene.field.kill(name, signal.SIGCONT)


def tell_worker_to_stop(scene: Scene) -> None:
    """SIGTERM under load: it ends with 0 within 30 s and holds nothing any more."""
    name = scene.worker()
    scene.wait_for(name)
    scene.catch_at_work(name)
    start = time.monotonic()
    scene.field.kill(name, signal.SIGCONT)
    code = scene.field.kill(name, signal.SIGTERM)
    seconds = time.monotonic() - start
    scene.recoveries.append(seconds)
    if code != 0 or seconds > 30:
        scene.notes.append(f"{name} ended with {code} after {seconds:.1f} s")
    scene.field.spawn(name)


def kill_api_in_mid_upload(scene: Scene) -> None:
    upload = threading.Thread(target=scene.load.submit, args=[scene.load.batch(40)], kwargs={"slowly": 0.02})
    upload.start()
    time.sleep(scene.dice.uniform(0.05, 0.7))
    scene.field.kill("api")
    start = time.monotonic()
    scene.field.spawn("api")
    until(scene.field.ready, "the API is back")
    scene.recoveries.append(time.monotonic() - start)
    upload.join()


def nothing_was_delayed(scene: Scene) -> None:
    """No worker left a lease behind: no image had to be claimed twice."""
    with scene.field.database.read() as session:
        again = session.scalars(select(func.count()).select_from(Image).where(Image.attempts > 1)).one()
    if again:
        scene.notes.append(f"{again} images had to be claimed again after a SIGTERM")


def kill_broker(scene: Scene) -> None:
    """A batch that comes while it is down rings nobody; the sweep must."""
    with scene.load.silence():
        until(lambda: not scene.field.waiting(), "nobody has anything to do")
        scene.field.kill("valkey")
        batch_id = scene.load.submit(scene.load.batch(_BATCH))
        time.sleep(scene.dice.uniform(0, 1))
        scene.field.spawn("valkey")
        until(scene.field.broker_answers, "the broker answers")
        _until_done(scene, batch_id)


def wipe_broker(scene: Scene) -> None:
    """Between the ring and the worker that would have heard it."""
    with scene.load.silence():
        for name in scene.field.workers():
            scene.field.kill(name)
        batch_id = scene.load.submit(scene.load.batch(_BATCH))
        with redis.Redis(port=scene.field.broker_port) as client:
            client.flushall()
        for name in scene.field.workers():
            scene.field.spawn(name)
        _until_done(scene, batch_id)


def _until_done(scene: Scene, batch_id: str) -> None:
    start = time.monotonic()
    with contextlib.suppress(AssertionError):  # which is for the checker to say
        until(lambda: scene.done(batch_id) == _BATCH, "the batch is done", seconds=60)
    scene.recoveries.append(time.monotonic() - start)


def crash_postgresql(scene: Scene) -> None:
    scene.wait_for_work()
    server = scene.field.server
    if server is None:
        raise AssertionError
    scene.mark_held()
    server.stop(signal.SIGQUIT)
    time.sleep(scene.dice.uniform(0, 2))
    server.start()
    scene.mark_moves()


def wait_for_a_death_in_mid_commit(scene: Scene) -> None:
    """The processes kill themselves; see standin."""
    deaths = len(scene.field.deaths)
    until(lambda: len(scene.field.deaths) > deaths, "a process dies in mid-commit")


def disturb_network(scene: Scene) -> None:
    """Cut, or half-open: then old connections are reset, or (the broker's) stay silent until someone's time-out."""
    where = scene.dice.choice(sorted(scene.field.proxies))
    proxy, how = scene.field.proxies[where], scene.dice.choice(("cut", "reset", "silent"))
    (proxy.cut if how == "cut" else proxy.stall)()
    time.sleep(scene.dice.uniform(0.5, 5))
    proxy.heal(silent=how == "silent" and where == "broker")
    scene.mark_moves()
    until(scene.field.ready, "the API reaches its database")


def fill_disk(scene: Scene) -> None:
    refused = scene.load.answers[507]
    ballast = scene.field.home / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    until(lambda: scene.load.answers[507] > refused, "a 507", seconds=60)
    ballast.unlink()
    scene.mark_moves()


def set_clock(scene: Scene) -> None:
    """Once more images were finished by the clock as it is: else nobody could see that it was set.

    The file is replaced in one step: libfaketime ends a process that reads it half written.
    """
    before = scene.finished()
    until(lambda: scene.finished() > before, "an image is finished")
    clock = Path(CLOCK.format(home=scene.field.home))
    present = clock.read_text() if clock.exists() else "+0"
    offsets = [f"{hours * _HOUR_SECONDS:+d}" for hours in (-1, 0, 1)]
    following = clock.with_suffix(".next")
    following.write_text(scene.dice.choice([offset for offset in offsets if offset != present]))
    following.replace(clock)


def poison(scene: Scene) -> None:
    """One image of each kind among good ones."""
    mark = len(scene.poisoned)
    bad = {f"poison-{mark}-{level}.png": even(level, mark) for level in POISONS}
    scene.poisoned |= {sha256(data).hexdigest() for data in bad.values()}
    scene.load.submit(scene.load.batch(5) | bad | scene.load.batch(5))


def clocks_were_wrong(scene: Scene) -> None:
    """Or nothing was tried."""
    with scene.field.database.read() as session:
        first, last = session.execute(select(func.min(Image.finished_at), func.max(Image.finished_at))).one()
    if not (first and last) or (last - first).total_seconds() < _HOUR_SECONDS / 2:
        scene.notes.append("the clock was never set")


def swap_model(scene: Scene) -> None:
    field = scene.field
    with field.database.write() as session:
        present = registry.champion(session).version
        other = next(version for version in VERSIONS if version != present)
        registry.appoint(session, registry.CHAMPION, other, actor="chaos")


def corrupt_model(scene: Scene) -> None:
    """Damage the champion's weights: nothing is classified with them until they are whole again."""
    field = scene.field
    with field.database.read() as session:
        sha256_of_weights = registry.champion(session).weights_sha256
    for name in field.workers():
        field.kill(name)
    weights = field.blobs.path(sha256_of_weights)
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + b"x")
    for name in field.workers():
        field.spawn(name)
    batch_id = scene.load.submit(scene.load.batch(_BATCH))
    until(lambda: _somebody_complains(scene), "a worker says why it does not work")
    if scene.done(batch_id):
        scene.notes.append("images were classified with damaged weights")
    weights.write_bytes(whole)
    _until_done(scene, batch_id)


def _somebody_complains(scene: Scene) -> bool:
    with scene.field.database.read() as session:
        return any(session.scalars(select(Worker.problem)))


def change_minds(scene: Scene) -> None:
    """Cancel what was just sent, run it again, cancel it again or let it end, and purge what is done."""
    batch_id = scene.load.submit(scene.load.batch(_BATCH))
    time.sleep(scene.dice.uniform(0, 0.3))
    scene.cancelled.add(batch_id)
    _ask(scene, "POST", f"{batch_id}/cancel")
    until(lambda: _closed(scene, batch_id), "a cancelled batch comes to its end")
    way = scene.dice.choice(("stay", "again", "twice", "purge"))
    if way in {"again", "twice"} and _ask(scene, "POST", f"{batch_id}/retry") == _ACCEPTED:
        if way == "twice":
            _ask(scene, "POST", f"{batch_id}/cancel")
        else:
            scene.cancelled.discard(batch_id)  # it ran to its end once more, or it was lost
    if way == "purge":
        scene.purged.add(batch_id)
        _ask(scene, "DELETE", batch_id)


def _ask(scene: Scene, method: str, path: str) -> int:
    url = f"{scene.field.url}/v1/batches/{path}"
    code = httpx.request(method, url, headers=scene.field.headers, timeout=30, trust_env=False).status_code
    if code not in {_ACCEPTED, _CONFLICT}:
        scene.notes.append(f"{method} {path} was answered with {code}")
    return code


def _closed(scene: Scene, batch_id: str) -> bool:
    with scene.field.database.read() as session:
        return session.get_one(Batch, batch_id).state not in OPEN


def let_beats_meet(scene: Scene) -> None:
    time.sleep(1)
    scene.wait_for_work()


def one_run_for_each_slot(scene: Scene) -> None:
    """Two beats sent every task each second; it ran once in its hour."""
    with scene.field.database.read() as session:
        slots = session.scalars(select(func.count()).select_from(Slot).where(Slot.task == TIDY)).one()
    logs = [scene.field.logs / f"{name}.log" for name in scene.field.workers()]
    runs = sum(log.read_text().count("unfinished uploads") for log in logs)
    if not slots or runs != slots:
        scene.notes.append(f"{TIDY} ran {runs} times in {slots} slots")


def cut_power(scene: Scene) -> None:
    """End everything at once, and take away what was not yet on the disk."""
    scene.wait_for_work()
    names = ["api", *scene.field.workers()]
    for name in names:
        processes.freeze(scene.field.pid(name))
    for name in names:
        scene.field.kill(name, family=True)
    power.cut(scene.field.blobs.root, scene.field.journal, scene.before)
    scene.mark_held()
    for name in names:
        scene.field.spawn(name)
    until(scene.field.ready, "the API is back")
