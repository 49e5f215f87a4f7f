"""What the shells need to complete `cxr`: commands, options, values, and the newest batches."""

import click
from click.shell_completion import get_completion_class

_PROGRAM, _VARIABLE = "cxr", "_CXR_COMPLETE"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets a shell complete `cxr`."""
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    click.echo(kind(context.find_root().command, {}, _PROGRAM, _VARIABLE).source())
