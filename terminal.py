"""How the command line speaks: answers on stdout, words about the work on stderr, one line for a failure."""

import getpass
import json
import socket
import sys
from collections.abc import Callable, Collection
from datetime import datetime
from enum import IntEnum
from typing import Any, NoReturn, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

_WIDE = 200
_AS_JSON = "cxr.json"
NOTICE = "Research software, not a medical device."

# What is piped is not folded to the 80 columns of a terminal that is not there.
answers = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
words = Console(stderr=True, highlight=False)

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Exit(IntEnum):
    """How a command ends; docs/commands.md says the same to people, and a test compares."""

    DONE = 0
    PROBLEM = 1  # it found a problem, or could not do its work
    USAGE = 2  # it was called wrongly, or a setting cannot be used; click's own number
    AWAY = 3  # no answer, or not now: the same may succeed later
    REFUSED = 4  # the server refused: the same will be refused again
    NOT_ALLOWED = 5  # the key is missing, unknown, expired, or may not do this
    GONE = 6  # what it needs is no longer there
    INTERRUPTED = 130  # Ctrl-C


def json_option(command: _Command) -> _Command:
    """Give a command `--json`; it must then answer through `answer`."""

    def note(context: click.Context, _: click.Parameter, chosen: bool) -> None:
        context.meta[_AS_JSON] = chosen

    words_ = "Print one JSON object: data, problem."
    return click.option("--json", is_flag=True, expose_value=False, is_eager=True, callback=note, help=words_)(command)


def speaks_json() -> bool:
    """Whether the present command was called with --json."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(_AS_JSON))


def answer(data: Any, show: Callable[[], object], *, bare: bool = False) -> None:
    """Print `data` as JSON where that was asked for, `bare` without what goes around it, else `show` it to a person."""
    if speaks_json() and bare:
        click.echo(json.dumps(data, default=str, ensure_ascii=False, indent=2))
    elif speaks_json():
        _print_json(data, None)
    else:
        show()


def fail(message: str, *, code: str = "failed", retryable: bool = False, status: Exit = Exit.PROBLEM) -> NoReturn:
    """Say what was wrong and what to do, and exit."""
    words.print(f"cxr: {message}", style="red", markup=False, soft_wrap=True)
    if speaks_json():
        _print_json(None, {"code": code, "detail": message, "retryable": retryable})
    sys.exit(status)


def bar(what: str, *columns: Any) -> Progress:
    """A progress bar on stderr, so that stdout can be piped."""
    return Progress(SpinnerColumn(), TextColumn(what), BarColumn(), *columns, TimeElapsedColumn(), console=words)


def table(*names: str, right: Collection[str] = (), whole: Collection[str] = ()) -> Table:
    """An empty table without lines: `right` are numbers, `whole` is never folded, everything else is where it must."""
    made = Table(box=None, header_style="bold", pad_edge=False)
    for name in names:
        made.add_column(name, justify="right" if name in right else "left", no_wrap=name in whole, overflow="fold")
    return made


def plain(text: str) -> str:
    """A name as it is, but for what would move the cursor or read as markup."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text).replace(
        "[", r"\["
    )


def minute(moment: datetime) -> str:
    """A moment (UTC) for a table."""
    return f"{moment:%Y-%m-%d %H:%M}"


def operator() -> tuple[str, str]:
    """Who works on the database itself, and from where, as the audit names them: the login and the machine."""
    return f"cli:{getpass.getuser()}", socket.gethostname()


def _print_json(data: Any, problem: dict[str, Any] | None) -> None:
    click.echo(json.dumps({"data": data, "problem": problem}, default=str, ensure_ascii=False, indent=2))
