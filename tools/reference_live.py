"""The reference page of the websockets, read off the modules that speak the two protocols."""

import ast
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from speechpipe.interfaces.api.deepgram.query import IGNORED, REFUSED, ListenQuery
from speechpipe.interfaces.api.openai.realtime import QUERY
from speechpipe.interfaces.api.openai.session import Session
from speechpipe.interfaces.api.server import MESSAGE_BYTES

API = Path(__file__).resolve().parents[1] / "speechpipe" / "interfaces" / "api"


def websockets() -> str:
    """Return the page."""
    return "\n".join([*_listen(), *_realtime()]).rstrip() + "\n"


def _listen() -> Iterator[str]:
    yield "# Websockets\n"
    yield "Generated from the modules that speak the two protocols. What the messages mean, the order in which they"
    yield "come, resuming, and what is answered to each mistake:"
    yield "[live audio in the API document](../api.md#ws-v1listen-live-audio)."
    yield "Close codes by error: [errors](errors.md).\n"
    yield "## `/v1/listen` { #listen }\n"
    yield f"Deepgram's protocol. A message has {MESSAGE_BYTES['/v1/listen']} bytes at most.\n"
    yield "| query parameter | type | default |"
    yield "|---|---|---|"
    for name, schema in ListenQuery.model_json_schema()["properties"].items():
        yield f"| `{name}` | {_kind(schema)} | {_default(schema)} |"
    yield "| `vad.NAME` | number | as the bundle has it |\n"
    yield "Refused: " + ". ".join(f"`{name}`: {why}" for name, why in sorted(REFUSED.items())) + ".\n"
    yield "Taken with the warning `parameter_ignored`: " + ", ".join(f"`{name}`" for name in sorted(IGNORED)) + ".\n"
    yield from _messages("client", _client_listen())
    yield from _messages("server", _types("deepgram/listen.py", "deepgram/events.py"))


def _realtime() -> Iterator[str]:
    yield "## `/v1/realtime` { #realtime }\n"
    yield f"OpenAI's Realtime transcription sessions. A message has {MESSAGE_BYTES['/v1/realtime']} bytes at most.\n"
    yield "Query parameters: " + ", ".join(f"`{name}`" for name in QUERY) + ".\n"
    yield from _messages("client", _cases("openai/realtime.py"))
    yield from _messages("server", {*_types("openai/events.py", "openai/realtime.py"), *_kinds("openai/realtime.py")})
    yield "### The object `session` of `session.update`\n"
    yield "```json"
    yield json.dumps(Session.model_json_schema(), indent=1)
    yield "```"


def _messages(side: str, names: set[str]) -> Iterator[str]:
    yield f"Messages of the {side}: " + ", ".join(f"`{name}`" for name in sorted(names)) + ".\n"


def _kind(schema: dict[str, Any]) -> str:
    found = schema.get("anyOf", [schema])
    kinds = [f"list of {item['items']['type']}" if item.get("type") == "array" else item["type"] for item in found]
    bounds = [
        f"{word} {item[name]}"
        for item in found
        for name, word in (("minimum", "from"), ("maximum", "to"))
        if name in item
    ]
    return " or ".join(kind for kind in kinds if kind != "null") + (f", {' '.join(bounds)}" if bounds else "")


def _default(schema: dict[str, Any]) -> str:
    value = schema.get("default")
    return "" if value in (None, []) else f"`{json.dumps(value)}`"


def _tree(file: str) -> ast.Module:
    return ast.parse((API / file).read_text(encoding="utf-8"))


def _client_listen() -> set[str]:
    """Return the types that `Listening.obey` compares with."""
    compares = (node for node in ast.walk(_tree("deepgram/listen.py")) if isinstance(node, ast.Compare))
    return {
        side.value
        for node in compares
        if isinstance(node.left, ast.Name) and node.left.id == "kind"
        for side in node.comparators
        if isinstance(side, ast.Constant) and isinstance(side.value, str)
    }


def _cases(file: str) -> set[str]:
    """Return the texts that a module's `match` statements name."""
    patterns = (node.pattern for node in ast.walk(_tree(file)) if isinstance(node, ast.match_case))
    values = (pattern.value for pattern in patterns if isinstance(pattern, ast.MatchValue))
    return {value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)}


def _types(*files: str) -> set[str]:
    """Return the values of `"type"` in the messages that modules make; names of the module in them are filled in."""
    found: set[str] = set()
    for file in files:
        tree = _tree(file)
        known = {
            target.id: statement.value.value
            for statement in tree.body
            if isinstance(statement, ast.Assign) and isinstance(statement.value, ast.Constant)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == "type":
                        found |= _texts(value, known)
    return found - NOT_MESSAGES


NOT_MESSAGES = {"transcription_error", "message", "input_audio", "invalid_request_error"}
"""Types of objects inside messages."""


def _texts(value: ast.expr, known: dict[str, Any]) -> set[str]:
    """Return the texts that an expression can be; `kind` stands for both of `added` and `done`."""
    if isinstance(value, ast.Constant):
        return {str(value.value)}
    if not isinstance(value, ast.JoinedStr):
        return set()
    text = "".join(_part(part, known) for part in value.values)
    return {text.replace("{kind}", kind) for kind in ("added", "done")} if "{kind}" in text else {text}


def _part(part: ast.expr, known: dict[str, Any]) -> str:
    if isinstance(part, ast.Constant):
        return str(part.value)
    if isinstance(part, ast.FormattedValue) and isinstance(part.value, ast.Name):
        return str(known.get(part.value.id, "{" + part.value.id + "}"))
    return "{}"


def _kinds(file: str) -> set[str]:
    """Return the kinds of `greeting`: its default, and what it is called with."""
    found = set()
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.FunctionDef) and node.name == "greeting":
            found |= {item.value for item in node.args.defaults if isinstance(item, ast.Constant)}
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "greeting":
            found |= {item.value for item in node.args if isinstance(item, ast.Constant)}
    return {str(item) for item in found}
