"""Results by themselves: one by its id, and a search over all batches."""

from typing import Annotated

from apiflask import APIBlueprint
from pydantic import Field
from sqlalchemy.orm import Session

from api.access import needs
from api.batches import Query
from api.moments import When
from api.problems import Problem
from api.schemas import ResultAnswer, ResultPage
from api.wiring import parts, who
from db import results, retention
from db.keys import Scope
from db.results import Found, Search
from db.tables import Label

blueprint = APIBlueprint("findings", __name__, url_prefix="/v1/results", tag="Results")


class SearchQuery(Query):
    accession: str | None = Field(default=None, max_length=64, description="Accession number, exactly")
    model: str | None = Field(default=None, max_length=200, description="Model version")
    label: Label | None = None
    since: When | None = Field(default=None, alias="from", description="Results of then and later")
    until: When | None = Field(default=None, alias="to", description="Results before then")
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = Field(default=None, pattern="^result_[0-9a-f]+$", description="`after` of the page before")


@blueprint.get("")
@needs(Scope.READ)
@blueprint.input(SearchQuery, location="query", arg_name="query")
@blueprint.output(ResultPage)
@blueprint.doc(summary="Search the results of all batches, newest first")
def index(query: SearchQuery) -> ResultPage:
    search = Search(query.accession, query.model, query.label, query.since, query.until)
    with parts().database.read() as session:
        found = results.newest(session, search, limit=query.limit + 1, after=query.after)
        page = [ResultAnswer.of(one) for one in found[: query.limit]]
    parts().looks.at_search(who(), found[: query.limit], sorted(query.model_fields_set))
    more = len(found) > query.limit
    return ResultPage(data=page, has_more=more, after=page[-1].id if more else None)


@blueprint.get("/<result_id>")
@needs(Scope.READ)
@blueprint.output(ResultAnswer)
@blueprint.doc(summary="One result with all that made it", responses=[404])
def one(result_id: str) -> ResultAnswer:
    with parts().database.read() as session:
        found = find(session, result_id)
        answer = ResultAnswer.of(found)
    parts().looks.at_result(who(), found)
    return answer


def find(session: Session, result_id: str) -> Found:
    """Return the result, or raise the problem that tells why there is none."""
    known = result_id.isprintable()  # PostgreSQL takes no NUL
    found = results.one(session, result_id) if known else None
    if found is None and known and retention.was_purged(session, result_id):
        raise Problem(410, "results_purged", "The result was kept as long as it had to be, and is gone.")
    if found is None:
        raise Problem(404, "result_unknown", "There is no result of this id; GET /v1/results searches them.")
    return found
