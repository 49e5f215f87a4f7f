"""What PostgreSQL says when it fails, without the rows that it quotes: an error's words go to logs."""

from typing import Any, Final

from sqlalchemy.engine import ExceptionContext

_OF_DATA: Final = "22"  # the class of errors that quote a value in their first line already


def quieten(failed: ExceptionContext) -> None:
    """Leave the first line and the code, or, where that line quotes a value, the code alone; DETAIL has the whole row."""
    original: Any = failed.original_exception
    code = getattr(original, "sqlstate", None)
    if code is None:  # another database, or no connection
        return
    words = "a value does not fit" if code.startswith(_OF_DATA) else original.diag.message_primary
    original.args = (f"{words} ({code})",)
    if failed.sqlalchemy_exception:
        failed.sqlalchemy_exception.args = (f"({type(original).__name__}) {words} ({code})",)
