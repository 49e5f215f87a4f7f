"""The OpenAPI document: what APIFlask makes of the code, and what it cannot know from it."""

from collections.abc import Iterator
from typing import Any, Final

from api import labels, once
from api.drafts import Draft
from api.submissions import Import
from api.uploads import LONGEST_NAME

_FILE: Final = {"type": "string", "format": "binary"}
_PROBLEM: Final = {
    "type": "object",
    "description": "RFC 9457; `code` is stable, `detail` is for people",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "code": {"type": "string"},
        "detail": {"type": "string"},
        "retryable": {"type": "boolean", "description": "Whether the same request may succeed later"},
    },
    "required": ["type", "title", "status", "code", "detail", "retryable"],
}
_BATCH = "/v1/batches/{batch_id}"
_IMAGE = f"{_BATCH}/images/{{custom_id}}"


def complete(spec: Any) -> Any:
    """Add the bodies and headers that views read themselves, and the one form that every refusal has."""
    components = spec.setdefault("components", {})
    components.setdefault("schemas", {})["Problem"] = _PROBLEM
    refusal = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    components.setdefault("responses", {})["Problem"] = {"description": "Refused, with a code", "content": refusal}
    spec["tags"] = list({tag["name"]: tag for tag in spec.get("tags", [])}.values())
    for method, operation in _operations(spec):
        _refuse_queries(method, operation["responses"], operation.get("parameters", []))
        _refuse_alike(operation)
        _name_parameters(operation)
        if method == "post":
            operation.setdefault("parameters", []).append(_header(once.HEADER, once.PATTERN, "Makes it repeatable"))
    for unused in ("ValidationError", "HTTPError"):
        components["schemas"].pop(unused, None)
    _describe_batches(spec, components["schemas"])
    ready = spec["paths"]["/readyz"]["get"]["responses"]
    ready["503"] = ready["200"]
    for path in ("/livez", "/metrics"):
        spec["paths"][path]["get"]["responses"]["200"] = _answer("Text", ("text/plain", {"type": "string"}))
    return labels.describe(spec)


def _operations(spec: Any) -> Iterator[tuple[str, Any]]:
    for path in spec["paths"].values():
        for method, operation in path.items():
            if method != "parameters":
                yield method, operation


def _refuse_queries(method: str, responses: Any, parameters: Any) -> None:
    """APIFlask takes a wrong query for a wrong body."""
    if any(parameter["in"] == "query" for parameter in parameters):
        responses["400"] = responses.pop("422") if method == "get" else responses["422"]


def _refuse_alike(operation: Any) -> None:
    refused = [status for status in operation["responses"] if status[0] in "45"]
    for status in (*refused, "default"):
        operation["responses"][status] = {"$ref": "#/components/responses/Problem"}


def _name_parameters(operation: Any) -> None:
    """A parameter is there or it is not: it is never null."""
    for parameter in operation.get("parameters", []):
        schema = parameter["schema"]
        kinds = [kind for kind in schema.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del schema["anyOf"]
            schema.update(kinds[0])
        if schema.get("default", "") is None:
            del schema["default"]
        if parameter["name"] == "custom_id":
            schema |= {"minLength": 1, "maxLength": LONGEST_NAME}
        if parameter["name"] == "suffix":
            schema["enum"] = ["json", "ndjson", "csv"]


def _describe_batches(spec: Any, schemas: Any) -> None:
    for model in (Draft, Import):
        schemas[model.__name__] = model.model_json_schema(ref_template="#/components/schemas/{model}")
        schemas |= schemas[model.__name__].pop("$defs", {})
    asked = {"oneOf": [{"$ref": f"#/components/schemas/{model.__name__}"} for model in (Import, Draft)]}
    files = {"type": "array", "items": _FILE, "minItems": 1}
    form = {"type": "object", "properties": {"images": files}, "additionalProperties": files, "minProperties": 1}
    submit, put = spec["paths"]["/v1/batches"]["post"], spec["paths"][_IMAGE]["put"]
    submit["requestBody"] = _body(
        ("multipart/form-data", form), ("application/zip", _FILE), ("application/json", asked)
    )
    submit["responses"]["201"] = _answer("A draft", ("application/json", {"$ref": "#/components/schemas/BatchAnswer"}))
    put["requestBody"] = _body(("application/octet-stream", _FILE))
    put["responses"]["200"] = {**put["responses"]["201"], "description": "The same image was there already"}
    put["parameters"].append(_header("Content-Digest", None, "RFC 9530: sha-256 or sha-512 of the body"))
    status = spec["paths"][_BATCH]["get"]
    status["responses"]["304"] = {"description": "As it was at `If-None-Match`"}
    status["parameters"] += [
        _header("If-None-Match", None, "The `ETag` of the answer before"),
        _header("Prefer", None, "`wait=20`: answer when something changed"),
    ]
    lines = ("application/x-ndjson", {"type": "string"}), ("text/csv", {"type": "string"})
    whole = ("application/json", {"$ref": "#/components/schemas/ResultList"})
    for path in (f"{_BATCH}/results", f"{_BATCH}/results.{{suffix}}"):
        spec["paths"][path]["get"]["responses"]["200"] = _answer("The results, streamed", whole, *lines)


def _body(*kinds: tuple[str, Any]) -> dict[str, Any]:
    return {"required": True, "content": {kind: {"schema": schema} for kind, schema in kinds}}


def _answer(description: str, *kinds: tuple[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {kind: {"schema": schema} for kind, schema in kinds}}


def _header(name: str, pattern: str | None, description: str) -> dict[str, Any]:
    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return {"name": name, "in": "header", "required": False, "schema": schema, "description": description}
