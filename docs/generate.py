"""MkDocs hook: writes the reference pages from the code, so that they cannot differ from it.

A page that contains ``<!-- generated: NAME -->`` gets the text of the function of that name in ``GENERATED``.
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import click

import rhombus_dataset.api
from rhombus_dataset.cli.group import leaf_commands
from rhombus_dataset.plan.template import plan_json_schema
from rhombus_dataset.sources.recordings.site import FAULT_KINDS
from rhombus_dataset.store.annotations import Annotation

_MARKER: Final = re.compile(r"<!-- generated: (\w+) -->")


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return the page with its markers replaced. MkDocs calls this for each page."""
    return _MARKER.sub(lambda match: GENERATED[match[1]](), markdown)


# -- plan reference


def plan_reference() -> str:
    """Return one section for each type of the plan's schema, with a table of its keys."""
    schema = plan_json_schema()
    types = {"Plan": schema, **schema["$defs"]}
    titles = {"Plan": "The plan", **dict(_titles("Plan", "", types))}
    parts = []
    for name, title in titles.items():
        model = types[name]
        rows = [
            f"| `{key}` | {_type(field, types)} | {_default(key, field, model)} | {_meaning(field, types)} "
            f"| {_example(key, field)} |"
            for key, field in model["properties"].items()
        ]
        head = f"## {title} {{#{name.lower()}}}\n\n{model['description']}\n\n"
        parts.append(
            head + "| key | type | default | meaning | example |\n|---|---|---|---|---|\n" + "\n".join(rows)
        )
    return "\n\n".join(parts)


def _titles(name: str, path: str, types: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each type that is used in a type, and those used in it, with the title of its section.

    A title is the path of the key in a plan. If a key has several types, the title also names the key that decides.
    """
    for key, field in types[name]["properties"].items():
        here = f"{path}.{key}" if path else key
        inside = field.get("items") or field.get("additionalProperties") or field
        for option in inside.get("oneOf") or inside.get("anyOf") or [inside]:
            for ref in option.get("oneOf", [option]):
                if "$ref" in ref:
                    used = ref["$ref"].removeprefix("#/$defs/")
                    tag = _tag(types[used])
                    yield used, f"`{here}` with `{tag}`" if tag else f"`{here}`"
                    yield from _titles(used, f"{here}.NAME" if "additionalProperties" in field else here, types)


def _tag(model: dict[str, Any]) -> str | None:
    """Return the key and value that choose a type among several, such as "type: rhombus"."""
    tags = (f"{key}: {field['const']}" for key, field in model["properties"].items() if "const" in field)
    return None if "version" in model["properties"] else next(tags, None)


def _type(field: dict[str, Any], types: dict[str, Any]) -> str:
    """Return the type of a field in words, with its limits."""
    if (ref := field.get("$ref")) is not None:
        return _link(ref, types)
    if "oneOf" in field:
        return "one of " + ", ".join(_link(option["$ref"], types) for option in field["oneOf"])
    if "anyOf" in field:
        options = [option for option in field["anyOf"] if option.get("type") != "null"]
        words = [_type(option, types) for option in options]
        return "percent" if "percent" in words else " or ".join(words)
    if "const" in field:
        return f"`{field['const']}`"
    if "enum" in field:
        return ("one of " if len(field["enum"]) > 2 else "") + ", ".join(f"`{value}`" for value in field["enum"])
    match field.get("type"):
        case "array":
            if "prefixItems" in field:
                return f"[{', '.join(_type(item, types) for item in field['prefixItems'])}]"
            return f"list of {_type(field['items'], types)}".replace("of list", "of lists").replace(
                "of one of", "of"
            )
        case "object" if isinstance(field.get("additionalProperties"), dict):
            return f"mapping from names to {_type(field['additionalProperties'], types)}"
        case "integer" | "number" as kind:
            return kind + _limits(field)
        case "boolean":
            return "`true` or `false`"
        case "string" if "(ms|s|m|h|d)" in field.get("pattern", ""):
            return "duration"
        case "string" if field.get("pattern", "").startswith("^(now|"):
            return "time"
        case "string" if "%" in field.get("pattern", ""):
            return "percent"
        case "string" if ":" in field.get("pattern", ""):
            return "hours"
        case "string":
            return {"date": "date", "path": "path"}.get(field.get("format", ""), "text")
    raise ValueError(f"no words for the type of {field}")


def _limits(field: dict[str, Any]) -> str:
    low, above, high, below = (
        field.get(key) for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    )
    lower = f" from {low:g}" if low is not None else f" above {above:g}" if above is not None else ""
    upper = f" to {high:,}" if high is not None else " below 2^63" if below == 2**63 else ""
    return lower + upper


def _link(ref: str, types: dict[str, Any]) -> str:
    name = ref.removeprefix("#/$defs/")
    tag = _tag(types[name])
    words = f"`{tag}`" if tag else name.removesuffix("Input").lower()
    return f"[{words}](#{name.lower()})"


def _default(key: str, field: dict[str, Any], model: dict[str, Any]) -> str:
    if key in model.get("required", ()):
        return "required"
    default = field.get("default")
    return "" if default in (None, [], {}) else f"`{_flow(default)}`"


def _meaning(field: dict[str, Any], types: dict[str, Any]) -> str:
    text = field.get("description") or types[field["$ref"].removeprefix("#/$defs/")]["description"]
    return " ".join(text.split())


def _example(key: str, field: dict[str, Any]) -> str:
    return f"`{key}: {_flow(field['examples'][0])}`" if "examples" in field else ""


def _flow(value: Any) -> str:
    """Return a value as a plan writes it on one line."""
    match value:
        case dict():
            return "{" + ", ".join(f"{key}: {_flow(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_flow, value)) + "]"
        case str() if re.fullmatch(r"\d\d:\d\d-\d\d:\d\d", value):
            return f'"{value}"'
        case bool():
            return str(value).lower()
        case float():
            return f"{value:g}"
    return str(value)


# -- command line


def command_reference() -> str:
    """Return one section for each command, with its arguments and options."""
    parts = []
    for name, command in leaf_commands().items():
        context = click.Context(command, info_name=f"rhombus-dataset {name}")
        usage = command.get_usage(context).removeprefix("Usage: ")
        parts.append(f"## {name}\n\n```text\n{' '.join(usage.split())}\n```\n\n{_paragraphs(command.help)}")
        if command.epilog:
            parts.append(f"```console\n$ {command.epilog.splitlines()[-1].strip()}\n```")
        rows = [row for parameter in command.params for row in _option_rows(parameter, context)]
        if rows:
            parts.append("| option | default | meaning |\n|---|---|---|\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _paragraphs(text: str | None) -> str:
    return "\n\n".join(" ".join(part.split()) for part in (text or "").split("\n\n"))


def _option_rows(parameter: click.Parameter, context: click.Context) -> Iterator[str]:
    if not isinstance(parameter, click.Option):
        return
    names = ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))
    value = "" if parameter.is_flag else f" `{parameter.metavar or parameter.type.name.upper().split()[0]}`"
    default = parameter.get_default(context)
    plain = isinstance(default, str | int | Path) and not parameter.is_flag
    shown = "required" if parameter.required else f"`{default}`" if plain else ""
    yield f"| {names}{value} | {shown} | {parameter.help} |"


# -- Python API


def python_reference() -> str:
    """Return one mkdocstrings directive for each public name, and for each type that a public function returns."""
    parts = [f"::: rhombus_dataset.{name}" for name in rhombus_dataset.__all__]
    parts.append("## Results")
    parts += [f"::: {result.__module__}.{result.__qualname__}" for result in _results()]
    return "\n\n".join(parts)


def _results() -> list[type]:
    """Return the dataclasses of this package that public functions return, and those of annotations."""
    names = [getattr(rhombus_dataset, name) for name in rhombus_dataset.__all__]
    # The types of signatures are imported for type checkers only.
    tree = ast.parse(inspect.getsource(rhombus_dataset.api))
    types = {
        alias.name: getattr(importlib.import_module(node.module or ""), alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rhombus_dataset")
        for alias in node.names
    }
    hints = [
        typing.get_type_hints(function, vars(inspect.getmodule(function)), types).get("return")
        for function in names
        if inspect.isfunction(function)
    ]
    return [hint for hint in (*hints, Annotation) if dataclasses.is_dataclass(hint) and isinstance(hint, type)]


# -- server


def api_statuses() -> str:
    """Return the API's own statuses, which are kinds of faults too."""
    return "The statuses are " + ", ".join(f"`{kind}`" for kind in FAULT_KINDS if kind.isupper()) + "."


GENERATED: Final[dict[str, Callable[[], str]]] = {
    "plan_reference": plan_reference,
    "command_reference": command_reference,
    "python_reference": python_reference,
    "api_statuses": api_statuses,
}
