"""Is it alive, is it ready, what does it accept."""

from apiflask import APIBlueprint
from flask import Response
from sqlalchemy.exc import DBAPIError

from api import imports, labels, once, polling, uploads
from api.access import needs, open_to_all
from api.schemas import Limits, Ready
from api.wiring import parts
from cxr_client.version import VERSION
from db import heartbeats, migrate, registry, webhooks
from db.keys import Scope

blueprint = APIBlueprint("health", __name__, tag="Health")


@blueprint.get("/livez")
@open_to_all
@blueprint.doc(summary="The process answers")
def livez() -> Response:
    return Response("ok\n", content_type="text/plain")


@blueprint.get("/readyz")
@open_to_all
@blueprint.output(Ready)
@blueprint.doc(summary="Database, schema, model and disk allow a submission; 503 says what does not", responses=[503])
def readyz() -> tuple[Ready, int]:
    problems, workers = [], 0
    own = parts()
    try:
        if not migrate.is_current(own.database):
            problems.append("the database has another schema: run cxr migrate")
        else:
            with own.database.read() as session:
                registry.champion(session)
                workers = sum(sign.alive for sign in heartbeats.signs(session))
    except registry.NoChampion as error:
        problems.append(str(error))
    except DBAPIError:
        problems.append("the database does not answer")
    if own.blobs.free_bytes() < own.settings.min_free_bytes:
        problems.append("the disk is nearly full")
    # No worker is no reason to refuse images: they wait in the queue of record.
    return Ready(ready=not problems, problems=problems, workers=workers, version=VERSION), 503 if problems else 200


@blueprint.get("/v1/limits")
@needs(Scope.SUBMIT, Scope.READ)
@blueprint.output(Limits)
@blueprint.doc(summary="What a submission may hold")
def limits() -> Limits:
    settings = parts().settings
    return Limits(
        images_per_batch=settings.max_images,
        bytes_per_image=settings.max_image_bytes,
        bytes_per_request=settings.max_batch_bytes,
        pixels_per_image=settings.max_pixels,
        bytes_per_json=settings.max_json_bytes,
        bytes_per_form=settings.max_form_bytes,
        bytes_per_custom_id=uploads.LONGEST_NAME,
        characters_per_idempotency_key=once.LONGEST_KEY,
        paths_per_import=imports.MOST_PATHS if settings.import_root else 0,
        labels_per_request=labels.MOST_ROWS,
        webhooks=webhooks.MOST_WEBHOOKS,
        attempts_per_message=webhooks.MOST_ATTEMPTS,
        seconds_to_wait=polling.LONGEST_WAIT_SECONDS,
        hours_until_expiry=settings.expire_hours,
        growth_in_zip=settings.max_zip_growth,
        seconds_to_decode=settings.decode_seconds,
        bytes_to_decode=settings.decode_bytes,
        requests_per_minute=settings.requests_per_minute or None,
        images_per_day=settings.images_per_day or None,
        bytes_per_day=settings.bytes_per_day or None,
        images_waiting=settings.max_waiting or None,
        formats=["image/png", "image/jpeg", "application/dicom", "application/zip"],
    )
