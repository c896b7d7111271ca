"""The reference page of the HTTP routes, made of the OpenAPI document."""

import json
import re
from collections.abc import Iterator
from typing import Any

from tools.markdown import page, table


def http(document: dict[str, Any]) -> str:
    """Return the page of HTTP routes."""
    schemas = document.get("components", {}).get("schemas", {})
    lines = [
        "What the fields mean, limits and examples: [the API](../api.md). Every error has the body of",
        "[Error](#error); the causes are on the page of [errors](errors.md).",
        "",
    ]
    operations = [
        (path, method, shown)
        for path, methods in document["paths"].items()
        for method, shown in methods.items()
        if method in ("get", "post", "put", "delete", "patch")
    ]
    rows = [
        (f"[`{method.upper()} {path}`](#{_anchor(method, path)})", shown["x-speechpipe-role"], _first(shown))
        for path, method, shown in operations
    ]
    lines += table(("route", "who may call it", "what it does"), rows)
    lines += [
        "`open`: no key is asked for. `caller`: an API key. `reader`: an API key or an operator's. `reviewer`: an API",
        "key for its own tenant, a reviewer's or an operator's key for all. `operator`: an operator's key; an API key",
        "where there are no operator keys. A server without keys asks for none.",
        "",
    ]
    for path, method, shown in operations:
        lines += _operation(path, method, shown)
    lines += ["## Schemas", ""]
    for name, schema in sorted(schemas.items()):
        lines += [f"### {name} {{ #{name.lower()} }}", "", *_block(schema)]
    return page("HTTP", "the OpenAPI document (`/openapi.json` of a running server)", lines)


def _anchor(method: str, path: str) -> str:
    return f"{method}-{re.sub(r'[^a-z0-9]+', '-', path.lower()).strip('-')}"


def _first(shown: dict[str, Any]) -> str:
    return str(shown.get("description", shown.get("summary", ""))).split("\n\n")[0]


def _operation(path: str, method: str, shown: dict[str, Any]) -> Iterator[str]:
    yield from (f"## `{method.upper()} {path}` {{ #{_anchor(method, path)} }}", "")
    yield from (str(shown.get("description", "")), "", f"Who may call it: `{shown['x-speechpipe-role']}`.", "")
    if parameters := shown.get("parameters"):
        rows = [
            (
                f"`{item['name']}`" + (" (required)" if item.get("required") else ""),
                item["in"],
                _type(item.get("schema", {})),
                item.get("description") or item.get("schema", {}).get("description", ""),
            )
            for item in parameters
        ]
        yield from table(("parameter", "in", "type", "meaning"), rows)
    for kind, content in shown.get("requestBody", {}).get("content", {}).items():
        yield from (f"Body, `{kind}`:", "", *_body(content.get("schema", {})))
    answers = [
        (status, ", ".join(f"`{kind}`" for kind in answer.get("content", {})), answer.get("description", ""))
        for status, answer in shown["responses"].items()
    ]
    yield from table(("status", "type", "meaning"), answers)


def _body(schema: dict[str, Any]) -> list[str]:
    properties = schema.get("properties")
    if not properties:
        if reference := schema.get("$ref"):
            name = reference.rsplit("/", 1)[-1]
            return [f"[{name}](#{name.lower()})", ""]
        return _block(schema)
    required = schema.get("required", ())
    rows = [
        (f"`{name}`" + (" (required)" if name in required else ""), _type(item), item.get("description", ""))
        for name, item in properties.items()
    ]
    return table(("field", "type", "meaning"), rows)


def _block(schema: dict[str, Any]) -> list[str]:
    return ["```json", *json.dumps(schema, indent=1).split("\n"), "```", ""]


def _type(schema: dict[str, Any]) -> str:
    """Return a schema in few words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        return f"[{name}](#{name.lower()})"
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(item) for item in schema["anyOf"]))
    if "enum" in schema:
        return ", ".join(f"`{item}`" for item in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    kind = str(schema.get("type", "any"))
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    words = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
    bounds = [f"{word} {schema[name]}" for name, word in words.items() if name in schema]
    default = f", default `{json.dumps(schema['default'])}`" if schema.get("default") is not None else ""
    return ", ".join([kind, *bounds]) + default
