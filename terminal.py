"""How the command line speaks: answers on stdout, words about the work on stderr, one line for a failure."""

import getpass
import socket
import sys
from typing import Any, NoReturn

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

_WIDE = 200
NOTICE = "Research software, not a medical device."

# What is piped is not folded to the 80 columns of a terminal that is not there.
answers = Console(highlight=False, width=None if sys.stdout.isatty() else _WIDE)
words = Console(stderr=True, highlight=False)


def fail(message: str) -> NoReturn:
    """Say what was wrong and what to do, and exit with 1."""
    words.print(f"cxr: {message}", style="red", markup=False, soft_wrap=True)
    sys.exit(1)


def bar(what: str, *columns: Any) -> Progress:
    """A progress bar on stderr, so that stdout can be piped."""
    return Progress(SpinnerColumn(), TextColumn(what), BarColumn(), *columns, TimeElapsedColumn(), console=words)


def operator() -> tuple[str, str]:
    """Who works on the database itself, and from where, as the audit names them: the login and the machine."""
    return f"cli:{getpass.getuser()}", socket.gethostname()
