"""The web application, wired together."""

from apiflask import APIFlask
from flask import request
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import PathConverter

from api import (
    access,
    batches,
    bodies,
    browsers,
    document,
    drafts,
    findings,
    health,
    heatmaps,
    keys,
    labels,
    models,
    monitoring,
    once,
    pages,
    problems,
    provider,
    reclassification,
    reference,
    retraining,
    sign_in,
    submissions,
    trail,
    verifications,
    webhooks,
)
from api.looks import Looks
from api.polling import Patience
from api.rates import Rates
from api.wiring import Parts
from cxr_client.version import VERSION
from db import audit
from db.blobs import Blobs
from db.database import Database
from settings import Settings


class _AnyPath(PathConverter):
    """A custom id may begin with a slash, as an absolute path does, and hold two in a row."""

    regex = ".+?"
    part_isolating = False


def create_app(settings: Settings) -> APIFlask:
    """Return the web application; the wiring diagram of everything it uses."""
    from worker.tickets import Tickets, celery_app  # noqa: PLC0415 - Celery costs 0.2 s, which `import api` need not

    app = APIFlask("api", title="cxr-batch", version=VERSION, docs_path=None)
    app.config["OPENAPI_VERSION"] = "3.1.0"
    app.config["DESCRIPTION"] = "Batches of chest X-rays, classified. Research software, not a medical device."
    app.config["AUTO_OPERATION_ID"] = True
    app.json.sort_keys = False  # type: ignore[attr-defined]
    app.url_map.merge_slashes = False
    app.url_map.converters["path"] = _AnyPath
    database = Database(settings.database_url)
    rates = Rates(settings)
    app.extensions["cxr"] = Parts(
        settings=settings,
        system=database,
        database=database,
        blobs=Blobs(settings.blobs),
        tickets=Tickets(celery_app(settings), batch_size=settings.batch_size),
        patience=Patience(settings.api_threads // 2),
        looks=Looks(database),
        rates=rates,
    )
    if settings.trusted_proxies:  # so that the audit and the limits know where a request came from
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=settings.trusted_proxies, x_proto=0, x_host=0)  # type: ignore[method-assign]
    problems.register(app)
    bodies.limit(app, settings)
    app.before_request(_note_origin)
    app.teardown_request(_forget_origin)
    browsers.register(app)
    for module in (
        submissions,
        drafts,
        batches,
        findings,
        heatmaps,
        keys,
        labels,
        models,
        monitoring,
        reclassification,
        retraining,
        trail,
        verifications,
        webhooks,
        health,
        reference,
        pages,
        sign_in,
    ):
        app.register_blueprint(module.blueprint)
    once.guard(app)
    provider.connect(app, settings)
    access.register(app)
    rates.guard(app)
    app.spec_processor(lambda spec: document.complete(access.describe(spec)))  # there is place for one
    return app


def _note_origin() -> None:
    """What this request does is written down with its address."""
    audit.ORIGIN.set(request.remote_addr)


def _forget_origin(_error: BaseException | None) -> None:
    audit.ORIGIN.set(None)
