"""The reference pages of the documentation site, made of what the code declares. Nothing in them is written by hand.

`tools/site.py` calls `pages` at each build. Sources: the OpenAPI document, the websocket modules, the command line's
own help, `Settings`, the catalogue of metrics and the rows of `/metrics`, the exception tree, public modules.
"""

import ast
import inspect
import re
import tempfile
from collections.abc import Iterator
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from speechpipe.app import build
from speechpipe.config import PREFIX, Settings
from speechpipe.errors import CLOSE_CODE, HTTP_STATUS
from speechpipe.interfaces.api.app import create_app
from speechpipe.interfaces.cli import FAMILIES
from speechpipe.interfaces.cli import app as command_line
from speechpipe.monitor.spec import Metric
from speechpipe.serving.live.manager import StreamManager
from speechpipe.serving.telemetry.cascade_metrics import CASCADE
from speechpipe.serving.telemetry.failure_modes import failure_modes
from speechpipe.serving.telemetry.prometheus_rules import EXPRESSIONS
from tools.markdown import page, table
from tools.reference_http import http
from tools.reference_live import websockets

ROOT = Path(__file__).resolve().parents[1]

PUBLIC_MODULES = (
    "speechpipe",
    "speechpipe.types",
    "speechpipe.errors",
    "speechpipe.cascade.vad",
    "speechpipe.cascade.asr",
    "speechpipe.monitor.spec",
)
"""What `docs/compatibility.md` calls public."""

KINDS = {
    "str": "text",
    "int": "whole number",
    "float": "number",
    "bool": "true or false",
    "Path": "path",
    "list": "text",
    "datetime": "time",
}
"""Types in words."""


PAGES = ("http.md", "websockets.md", "cli.md", "settings.md", "metrics.md", "errors.md", "python.md")


def pages() -> dict[str, str]:
    """Return the text of each page by its file name (`PAGES`)."""
    document, exposition = _server()
    return {
        "http.md": http(document),
        "websockets.md": websockets(),
        "cli.md": command_line_page(),
        "settings.md": settings_page(),
        "metrics.md": metrics_page(exposition),
        "errors.md": errors_page(),
        "python.md": python_page(),
    }


def _server() -> tuple[dict[str, Any], str]:
    """Return the OpenAPI document and the text of `/metrics` of a server that is not started."""
    with tempfile.TemporaryDirectory() as folder:
        service = build(Settings(state_dir=Path(folder)), live=True)
        application = create_app(service, StreamManager(service), lambda _: None)
        return application.openapi(), service.exposition.text().decode()


# ---- the command line ----


def command_line_page() -> str:
    """Return the page of commands, from their own help."""
    for family in FAMILIES:
        import_module(f"speechpipe.interfaces.cli.{family}")
    root = typer.main.get_command(command_line)
    lines = [
        "`speechpipe COMMAND --help` prints the same. Exit codes: 0 all went well, 1 something failed, 2 wrong usage;",
        "`report --check` exits with 3 (degraded) or 4 (failing).",
        "",
    ]
    for names, command in _commands(root, ("speechpipe",)):
        lines += _command(names, command)
    return page("Command line", "the commands' own help", lines)


def _commands(command: Any, names: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield names, command
    for name, below in getattr(command, "commands", {}).items():
        if not below.hidden:
            yield from _commands(below, (*names, name))


def _plain(text: str | None) -> str:
    """Return help without the marks that only terminals need."""
    return inspect.cleandoc(text or "").replace("\b", "").replace("\\[", "[").strip()


def _command(names: tuple[str, ...], command: Any) -> Iterator[str]:
    yield from (f"{'#' * min(len(names) + 1, 4)} {' '.join(names)}", "")
    context = command.make_context(" ".join(names), [], resilient_parsing=True)
    usage = " ".join((" ".join(names), *command.collect_usage_pieces(context)))
    yield from ("```", usage, "```", "", _plain(command.help), "")
    rows = []
    for parameter in command.params:
        if getattr(parameter, "hidden", False):
            continue
        is_flag = parameter.param_type_name == "option"
        label = ", ".join((*parameter.opts, *parameter.secondary_opts)) if is_flag else parameter.name.upper()
        rows.append((f"`{label}`", _values(parameter), _plain(getattr(parameter, "help", ""))))
    if rows:
        yield from table(("argument or flag", "value", "meaning"), rows)


def _values(parameter: Any) -> str:
    """Return what a flag or an argument takes, and its default."""
    if getattr(parameter, "is_flag", False):
        return "flag"
    taken = parameter.type_descriptor.annotation
    kind = getattr(taken, "__name__", str(taken))
    if inspect.isclass(taken) and issubclass(taken, Enum):
        kind = " or ".join(f"`{item.value}`" for item in taken)
    kind = KINDS.get(kind, kind) + (", may be repeated" if parameter.multiple or parameter.nargs == -1 else "")
    default = getattr(parameter.default, "value", parameter.default)
    return kind if default is None or callable(default) or default in ((), [], "") else f"{kind}, default `{default}`"


# ---- settings ----


def settings_page() -> str:
    """Return the page of settings."""
    rows = [
        (f"`{PREFIX}{name.upper()}`", _kind(field), _default(field), _bounds(field), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    lines = [
        'Environment variables. Lists are written `a,b` or as JSON (`["a", "b"]`). Durations (`..._S`) are in',
        "seconds, sizes in bytes unless the name says more. A value that does not fit, and a name that is none of",
        "these, is refused at the start in one line that names the variable (exit code 2). More on each of them:",
        "[settings in the API document](../api.md#settings).",
        "",
        *table(("variable", "type", "default", "bounds", "meaning"), rows),
    ]
    return page("Settings", "`speechpipe.config.Settings`", lines)


def _kind(field: FieldInfo) -> str:
    text = str(field.annotation)
    if "Literal" in text:
        return " or ".join(f"`{item}`" for item in re.findall(r"'([^']*)'", text))
    if "list" in text:
        return "list"
    if "Path" in text:
        return "path"
    return KINDS.get(getattr(field.annotation, "__name__", ""), text)


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True) if not field.is_required() else PydanticUndefined
    return "" if value in (None, "", PydanticUndefined) else f"`{value}`"


def _bounds(field: FieldInfo) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<", "pattern": "matches"}
    found = [
        (signs[name], value)
        for item in field.metadata
        for name in signs
        if (value := getattr(item, name, None)) is not None
    ]
    return ", ".join(f"`{sign} {value}`" if sign != "matches" else f"matches `{value}`" for sign, value in found)


# ---- metrics ----


def metrics_page(exposition: str) -> str:
    """Return the page of metrics: those that are watched, and those that Prometheus sees."""
    watched = {row.metric: row for row in failure_modes(CASCADE)}
    lines = [
        "## Watched metrics { #watched }",
        "",
        "Read off the records of sessions and segments, shown on the dashboard and in `speechpipe report`, and",
        "compared with the approved reference. A metric with an alarm links to its section of the runbook.",
        "",
    ]
    for stage in CASCADE.stages:
        lines += [f"### {stage.title} {{ #stage-{stage.name} }}", ""]
        lines += table(
            ("metric", "what it is", "which failure it catches", "worse when", "severity", "limit"),
            [_metric(metric, metric.name in watched) for metric in CASCADE.metrics if metric.stage == stage.name],
        )
    lines += ["## Metrics of blame alone { #joined }", "", "Read off a session together with its segments.", ""]
    lines += table(
        ("metric", "unit", "what it is", "which failure it catches"),
        [(f"`{metric.name}`", metric.unit, metric.help, metric.catches) for metric in CASCADE.joined],
    )
    lines += ["## `/metrics` { #prometheus }", ""]
    lines += ["Those of sessions and segments carry the labels `bundle`, `bundle_version` and `channel`.", ""]
    lines += table(("name", "type", "what it is"), _exposed(exposition))
    lines += ["## Watched metrics in PromQL { #promql }", ""]
    lines += ["As in `ops/`; the others need the store.", ""]
    lines += table(("metric", "expression"), [(f"`{name}`", f"`{text}`") for name, text in EXPRESSIONS.items()])
    return page(
        "Metrics", "the catalogue (`speechpipe/serving/telemetry/cascade_metrics.py`) and the rows of `/metrics`", lines
    )


def _metric(metric: Metric, has_alarm: bool) -> tuple[str, ...]:
    name = f"`{metric.name}`"
    if has_alarm:
        name = f"[{name}](../runbook.md#{metric.name.replace('.', '')})"
    meaning = f"{metric.help} ({metric.unit})" if metric.unit else metric.help
    limit = "" if metric.limit is None else f"{metric.limit:g}"
    return (name, meaning, metric.catches, metric.direction.value, metric.severity.value, limit)


def _exposed(text: str) -> list[tuple[str, str, str]]:
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    return [(f"`{name}`", kinds[name], helps.get(name, "")) for name in sorted(kinds) if not name.endswith("_created")]


# ---- errors ----


def errors_page() -> str:
    """Return the page of errors: the classes, and the causes that the code gives them."""
    causes = _causes()
    rows = []
    for kind, status in HTTP_STATUS.items():
        close = next(CLOSE_CODE[above] for above in kind.__mro__ if above in CLOSE_CODE)
        named = sorted({kind.cause, *causes.get(kind.__name__, ())})
        rows.append((f"`{kind.__name__}`", status, close, ", ".join(f"`{cause}`" for cause in named), _doc(kind)))
    lines = [
        "The `code` of an error body, the `variant` of a message on `/v1/listen`, and the label `cause` of",
        "`speechpipe_requests_refused_total` are the same word. What each cause means, with its status:",
        "[errors in the API document](../api.md#errors). A cause that is given at run time (a stage that failed:",
        "`vad_failed`, `asr_failed`) stands there alone.",
        "",
        *table(("class", "HTTP status", "close code of a websocket", "causes", "when"), rows),
    ]
    return page("Errors", "`speechpipe.errors` and the places that raise its classes", lines)


def _causes() -> dict[str, set[str]]:
    """Return the causes that the code gives each class of errors."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "speechpipe").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                for keyword in node.keywords:
                    if keyword.arg == "cause" and isinstance(keyword.value, ast.Constant):
                        found.setdefault(node.func.id, set()).add(str(keyword.value.value))
    return found


def _doc(thing: object) -> str:
    return inspect.cleandoc(getattr(thing, "__doc__", None) or "").split("\n\n")[0]


# ---- Python ----


def python_page() -> str:
    """Return the page of the public Python interface."""
    lines = [
        "Public are the names listed here, and those that a guide of this site imports. Everything else is private: it",
        "may move or change in any release ([what stays compatible](../compatibility.md)).",
        "",
    ]
    for name in PUBLIC_MODULES:
        module = import_module(name)
        lines += [f"## {name}", "", _doc(module), ""]
        rows = []
        for public in _public(module):
            value = getattr(module, public)
            rows.append((f"`{public}`", _sort(value), _doc(value) if inspect.isclass(value) or callable(value) else ""))
        lines += table(("name", "kind", "what it is"), rows) if rows else []
    return page("Python", "the public modules", lines)


def _public(module: Any) -> list[str]:
    if (declared := getattr(module, "__all__", None)) is not None:
        return sorted(declared)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    ]


def _sort(value: object) -> str:
    if inspect.isclass(value):
        return (
            "exception"
            if issubclass(value, Exception)
            else "protocol"
            if getattr(value, "_is_protocol", False)
            else "class"
        )
    return "function" if callable(value) else "constant"
