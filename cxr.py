"""The command line: `cxr`."""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from db.blobs import BlobDamaged
from settings import SettingInvalid, Settings
from terminal import Exit, fail, words

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

WHERE: Final = {
    "api": "instance_commands:api_",
    "audit": "api.audit_commands:audit",
    "beat": "instance_commands:beat",
    "cancel": "api.commands:cancel",
    "classify": "training.commands:classify",
    "completion": "completion:completion",
    "doctor": "doctor.command:doctor",
    "draft": "api.draft_commands:draft",
    "evaluate": "training.commands:evaluate",
    "history": "api.retrieval:history",
    "images": "api.retrieval:images",
    "import": "api.commands:import_",
    "judge": "training.judging:judge",
    "key": "api.key_commands:key",
    "label": "api.labelling:label",
    "labels": "api.labelling:labels",
    "limits": "api.retrieval:limits",
    "migrate": "instance_commands:migrate",
    "models": "api.model_commands:models",
    "monitoring": "api.model_commands:monitoring",
    "operating-point": "training.points:operating_point",
    "promote": "api.succession:promote",
    "purge": "api.commands:purge",
    "reclassify": "api.recall_command:reclassify",
    "result": "api.retrieval:result",
    "results": "api.retrieval:results",
    "retrain": "api.succession:retrain",
    "retry": "api.commands:retry",
    "rollback": "api.succession:rollback",
    "shadow": "training.shadowing:shadow",
    "sign-in": "api.key_commands:sign_in",
    "status": "api.commands:status",
    "submit": "api.commands:submit",
    "tenant": "api.key_commands:tenant",
    "train": "training.commands:train",
    "trainer": "instance_commands:trainer",
    "up": "instance_commands:up_",
    "verify": "api.verify_command:verify",
    "webhook": "api.webhook_commands:webhook",
    "worker": "instance_commands:worker",
}
"""Each command, and the module that is loaded when it is asked for: who polls a server need not wait for SQLAlchemy."""


class _Commands(click.Group):
    """What a person can mend ends a command with one line, not with a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click names it
        return sorted(WHERE)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in WHERE:
            return None
        module, _, name = WHERE[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def invoke(self, context: click.Context) -> object:
        try:
            return super().invoke(context)
        except _database_errors() as error:
            message = f"the database cannot be used, check DATABASE_URL or run `cxr migrate`: {error.orig}"
            fail(message, code="database_away", retryable=True)
        except BrokenPipeError:
            raise  # the reader has had enough, as in `cxr results | head`; click ends quietly
        except (BlobDamaged, OSError) as error:
            fail(f"{type(error).__name__}: {error}", code=type(error).__name__)
        except KeyboardInterrupt:
            words.print("interrupted")
            sys.exit(Exit.INTERRUPTED)


def _database_errors() -> "tuple[type[DBAPIError], ...]":
    """None where SQLAlchemy was not loaded: then it raised none."""
    errors = sys.modules.get("sqlalchemy.exc")
    return (errors.OperationalError, errors.ProgrammingError) if errors else ()


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="cxr-batch")
@click.pass_context
def main(context: click.Context) -> None:
    """Classify batches of chest X-rays. Research software, not a medical device."""
    try:
        context.obj = Settings.from_environment()
    except SettingInvalid as error:
        fail(str(error), code="setting_invalid", status=Exit.USAGE)


if __name__ == "__main__":
    main()
