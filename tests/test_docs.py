"""The documents say what there is, and nothing that is gone."""

import ast
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import click
import pytest
from apiflask import APIFlask

import cxr
from api import app
from db import migrate
from db.duties import DUTIES
from settings import Settings
from tests.access import show_key
from worker import catalogue
from worker.rejection import CODES, NOTES, REASONS

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("training/shipped/*.md")])
NAMED = [document.relative_to(ROOT).as_posix() for document in DOCUMENTS]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """Everything from a heading of the second level to the next."""
    found = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text(name), re.MULTILINE | re.DOTALL)
    assert found, f"{name} has no heading {heading}"
    return found[1]


def rows(table: str) -> list[list[str]]:
    """The cells of every row that begins with something in backticks."""
    return [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| `")]


def first_column(table: str) -> list[str]:
    return [word for row in rows(table) for word in re.findall(r"`([^`]+)`", row[0])]


@pytest.fixture(scope="module")
def application(tmp_path_factory: pytest.TempPathFactory) -> Iterator[APIFlask]:
    given = {"CXR_OIDC_ISSUER": "https://id.example", "CXR_OIDC_CLIENT_ID": "cxr", "CXR_OIDC_CLIENT_SECRET": "s"}
    home = str(tmp_path_factory.mktemp("home"))
    made = app.create_app(Settings.from_environment({"CXR_HOME": home, "REDIS_URL": "memory://", **given}))
    yield made
    made.extensions["cxr"].database.close()


# Settings


def test_every_setting_is_documented_with_its_words_and_default() -> None:
    documented = {row[0].strip("`"): row[1:] for row in rows(text("docs/settings.md"))}
    assert list(documented) == [spec.metadata["name"] for spec in fields(Settings)]
    for spec in fields(Settings):
        default, words = documented[spec.metadata["name"]]
        assert words == spec.metadata["words"]
        if spec.default not in {"", Path()}:
            assert default == f"`{spec.default}`"


# Commands


def commands(group: click.Group, path: str = "cxr") -> Iterator[tuple[str, click.Command]]:
    yield path, group
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        elif command:
            yield f"{path} {name}", command


def spellings(command: click.Command) -> set[str]:
    context = click.Context(command, help_option_names=["-h", "--help"] if command is cxr.main else [])
    options = [option for option in command.get_params(context) if isinstance(option, click.Option)]
    return {spelling for option in options for spelling in option.opts}


LEAVES = dict(pair for pair in commands(cxr.main) if pair[1] is cxr.main or not isinstance(pair[1], click.Group))


def test_every_command_is_documented_and_none_that_is_gone() -> None:
    headings = re.findall(r"^## (.+)$", text("docs/commands.md"), re.MULTILINE)
    assert sorted(headings) == sorted(LEAVES)


@pytest.mark.parametrize("command", LEAVES)
def test_every_option_is_documented_and_none_that_is_gone(command: str) -> None:
    assert set(first_column(section("docs/commands.md", command))) == spellings(LEAVES[command])


# The API


def test_every_call_is_documented_and_none_that_is_gone(application: APIFlask) -> None:
    served = {
        f"{method} " + re.sub(r"<(?:[^:<>]+:)?(\w+)>", r"{\1}", rule.rule)
        for rule in application.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.endpoint != "static"
    }
    assert set(first_column(section("docs/integrating.md", "Calls"))) == served


def raised() -> Iterator[tuple[str, int]]:
    """(code, status) of every Problem that the API makes."""
    for module in sorted(ROOT.glob("api/*.py")):
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Problem":
                status, code = node.args[:2]
                assert isinstance(status, ast.Constant), f"{module.name}:{node.lineno}: a status is a plain number"
                assert isinstance(code, ast.Constant), f"{module.name}:{node.lineno}: a code is a plain word"
                assert isinstance(status.value, int)
                yield str(code.value), status.value


def answered(application: APIFlask) -> Iterator[tuple[str, int]]:
    """(code, status) where no view of ours was reached, or one failed."""
    client = application.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = "Bearer cxr_0123456789ab_" + "0" * 40
    no_tables: Any = client.get("/v1/batches")
    migrate.upgrade(application.extensions["cxr"].database)
    show_key(client)
    asked: tuple[Any, ...] = (
        client.get("/nowhere"),
        client.delete("/v1/batches"),
        client.get("/v1/batches?limit=0"),
        no_tables,
    )
    for answer in asked:
        yield answer.json["code"], answer.status_code
    parts = application.extensions.pop("cxr")
    broken: Any = client.get("/v1/limits")
    application.extensions["cxr"] = parts
    yield broken.json["code"], broken.status_code


def test_every_problem_is_documented_and_none_that_is_gone(application: APIFlask) -> None:
    documented = {
        (row[0].strip("`"), int(status))
        for row in rows(section("docs/integrating.md", "Errors"))
        for status in row[1].split(", ")
    }
    assert documented == {*raised(), *answered(application)}


def test_every_action_of_the_audit_is_documented_and_none_that_is_gone() -> None:
    documented = set(first_column(section("docs/audit.md", "What is written down")))
    written = set(_actions())
    begun = tuple(action for action in written if action.endswith("."))  # such as f"batch.{state}"
    assert written - set(begun) <= documented
    assert all(any(action.startswith(one) for action in documented) for one in begun)
    assert {action for action in documented - written if not action.startswith(begun)} == set()


def _actions() -> Iterator[str]:
    """What every `Entry(…)` of the product gives as its action; of an f-string, what stands before its value."""
    trees = [ast.parse(path.read_text()) for room in ("api", "db", "worker") for path in ROOT.glob(f"{room}/*.py")]
    constants = {
        str(target.id): node.value.value
        for tree in trees
        for node in tree.body
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for call in (node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args):
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name == "Entry":
            action = call.args[0]
            if isinstance(action, ast.JoinedStr):
                action = action.values[0]
            if isinstance(action, ast.FormattedValue):  # the kind of a run; of what befalls it, see below
                yield from (f"{kind.named}." for kind in DUTIES)
                continue
            named = getattr(action, "attr", getattr(action, "id", ""))
            yield str(action.value if isinstance(action, ast.Constant) else constants[named])
        if name == "_befell" and isinstance(call.args[2], ast.Constant):
            yield from (f"{kind.named}.{call.args[2].value!s}" for kind in DUTIES)


def test_every_code_of_an_image_is_documented_in_its_own_words() -> None:
    assert text("docs/rejections.md") == catalogue.document(), "it is stale: make docs"
    assert {row[0].strip("`") for row in rows(text("docs/rejections.md"))} == {*CODES, *REASONS, *NOTES}


# Threats


def test_every_test_that_the_threats_name_is_there() -> None:
    named = set(re.findall(r"`(test_\w+)`", text("docs/security.md")))
    there = {
        name
        for module in ROOT.glob("tests/test_*.py")
        for name in re.findall(r"^def (test_\w+)", module.read_text(), re.MULTILINE)
    }
    assert named
    assert sorted(named - there) == []


# Every document


def anchors(document: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", NAMED)
def test_every_relative_link_leads_somewhere(name: str) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", text(name)):
        target, _, anchor = link.partition("#")
        if "://" in target:
            continue
        document = (ROOT / name).parent / target if target else ROOT / name
        assert document.exists(), link
        assert not anchor or anchor in anchors(document), link


@pytest.mark.parametrize("name", NAMED)
def test_no_document_names_a_path_of_somebodys_machine(name: str) -> None:
    assert re.findall(r"(?<![\w.}])/(?:work|root|home|Users|tmp|var|etc)/\S*", text(name)) == []


def test_the_readme_names_the_two_commands() -> None:
    targets = re.findall(r"^([a-z]+):", text("Makefile"), re.MULTILINE)
    for command in ("run", "test"):
        assert command in targets
        assert f"    make {command}" in text("README.md")
