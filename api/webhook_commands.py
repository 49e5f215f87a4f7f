"""The commands on webhooks: add, list, remove, and what they were told."""

from collections.abc import Sequence

import click

from api.connection import connected, plain_data
from cxr_client import Delivery, Webhook
from settings import Settings
from terminal import answer, answers, fail, json_option, minute, plain, table, words


@click.group()
def webhook() -> None:
    """Addresses that are told how batches end."""


@webhook.command()
@click.argument("url")
@click.option("--event", "events", multiple=True, help="Only this event; give it once for each.")
@json_option
@click.pass_obj
def add(settings: Settings, url: str, events: tuple[str, ...]) -> None:
    """Register an address, and print the secret that signs its messages: this once."""
    with connected(settings) as client:
        made = client.webhooks.add(url, events=events)
    if made.secret is None:
        fail(f"the answer was lost on its way, and the secret with it: cxr webhook remove {made.id}, and add another")

    def show() -> None:
        answers.print(f"id: {made.id}")
        answers.print(f"secret: {made.secret}", markup=False, soft_wrap=True)

    answer(plain_data(made), show)


@webhook.command("list")
@json_option
@click.pass_obj
def list_(settings: Settings) -> None:
    """Show every webhook, without its secret."""
    with connected(settings) as client:
        found = client.webhooks.all()
    answer([plain_data(one) for one in found], lambda: _show(found))


@webhook.command()
@click.argument("webhook_id", metavar="ID")
@json_option
@click.pass_obj
def remove(settings: Settings, webhook_id: str) -> None:
    """Tell it nothing more."""
    with connected(settings) as client:
        client.webhooks.remove(webhook_id)
    answer({"id": webhook_id, "state": "removed"}, lambda: words.print(f"{webhook_id} is removed"))


@webhook.command()
@click.argument("webhook_id", metavar="ID")
@json_option
@click.pass_obj
def deliveries(settings: Settings, webhook_id: str) -> None:
    """Show what a webhook was told, newest first, and how far each message got."""
    with connected(settings) as client:
        found = list(client.webhooks.deliveries(webhook_id))
    answer([plain_data(one) for one in found], lambda: _show_deliveries(found))


def _show(found: Sequence[Webhook]) -> None:
    shown = table("id", "since (UTC)", "events", "address", whole={"id", "since (UTC)"})
    for one in found:
        shown.add_row(one.id, minute(one.created_at), " ".join(one.events), plain(one.url))
    answers.print(shown)


def _show_deliveries(found: Sequence[Delivery]) -> None:
    shown = table("made (UTC)", "event", "batch", "state", "attempts", "last", right={"attempts"}, whole={"made (UTC)"})
    for one in found:
        last = str(one.last_status or one.last_error or "")
        shown.add_row(minute(one.created_at), one.event, one.batch_id, one.state, str(one.attempts), last)
    answers.print(shown)
