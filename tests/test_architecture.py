"""The architecture, held by tests: layers, circles, where libraries stand, sizes, what imports cost."""

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "speechpipe"
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)

LAYERS: tuple[tuple[str, ...], ...] = (
    ("types", "errors"),
    ("foundation",),
    ("config",),
    ("monitor",),
    ("cascade",),
    ("serving",),
    ("control",),
    ("app",),
    ("bench",),
    ("interfaces",),
    ("__main__",),
)
"""Bottom first. A module imports its own layer and those below, wherever in the file the import stands."""

INSIDE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "foundation": (
        (
            "addresses",
            "times",
            "background",
            "deprecation",
            "registry",
            "state_files",
            "stats",
            "system",
            "tenants",
            "text_files",
        ),
        ("outgoing", "storage"),
        ("setting_checks",),
    ),
    "cascade": (
        ("audio", "asr", "vad"),
        ("workers",),
        ("catalog", "evaluation"),
        ("recognition",),
        ("session",),
        ("request",),
    ),
    "serving": (
        ("automation", "biasing", "gauges", "pools", "refusals", "signing", "telemetry", "text"),
        ("assignment", "hooks"),
        ("record_sink", "routing"),
        ("engine", "readiness"),
        ("admission",),
        ("service",),
        ("recorder",),
        ("health", "live", "transcription"),
    ),
    "control": (("review", "rollout"), ("training",)),
    "interfaces": (("web",), ("api",), ("cli",)),
}
"""The same inside a wing: its subjects and modules, bottom first."""

READERS = {"source", "stream_decoder", "wav_stream", "ffmpeg_stream", "live_formats", "parts", "ffmpeg", "libsndfile"}
"""Modules of `audio` that are made of the others."""

FREE = {"numpy", "fastapi", "pydantic", "pydantic_settings", "starlette"}  # used wherever their part is
SAME_PART = {
    "rich": {"interfaces.cli"},
    "typer": {"interfaces.cli"},
    "prometheus_client": {"monitor"},
    "anyio": {"interfaces.api"},
    "uvicorn": {"interfaces.api"},
    "jinja2": {"interfaces.web"},
    # One store: its tables are in `foundation/storage/schema.py`, what each subject asks of them in its repositories.
    "sqlalchemy": {"foundation.storage", "monitor", "control.rollout", "control.review", "control.training"},
    "alembic": {"foundation.storage"},
    "orjson": {"foundation.storage", "monitor"},
    "httpx": {"foundation.outgoing", "interfaces.cli", "bench"},  # `report --url` asks a server
    "soundfile": {"cascade.audio"},
    "websockets": {"bench"},
    "torch": {"cascade.asr", "control.training"},
    "safetensors": {"cascade.asr"},
    "networkx": {"bench"},  # the graph and the tables that the peers of the fault benchmark read
    "pandas": {"bench"},
}
"""Libraries that several files of one subject use."""


def dotted(path: Path) -> str:
    """`speechpipe/cascade/vad/silero.py` -> `cascade.vad.silero`; of a package its own name."""
    return ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip(".")


NAMES = {dotted(path): path for path in MODULES}


@cache
def parsed(path: Path) -> ast.Module:
    """Return the syntax tree of a file."""
    return ast.parse(path.read_text())


@cache
def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, and however: `if TYPE_CHECKING` is no back door."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def own_imports(path: Path) -> set[str]:
    """The modules of speechpipe that a file imports, by dotted name; a package only if something of itself is meant."""
    found = set()
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.Import):
            found |= {alias.name.removeprefix("speechpipe.") for alias in node.names if "speechpipe." in alias.name}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "speechpipe":
            base = (node.module or "").removeprefix("speechpipe").lstrip(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".lstrip(".")
                found.add(full if full in NAMES else base)
    return {name for name in found if name in NAMES and name}


def layer(name: str) -> int:
    """Return the number of a module's layer."""
    return next(number for number, names in enumerate(LAYERS) if name.split(".", maxsplit=1)[0] in names)


def place_inside(name: str) -> int | None:
    """Return the number of a module's row inside its wing; None for the wing's own face."""
    wing, _, rest = name.partition(".")
    if not rest:
        return None
    return next(number for number, names in enumerate(INSIDE[wing]) if rest.split(".")[0] in names)


def subject(name: str) -> str:
    """`cascade.vad.silero` -> `cascade.vad`; `monitor.watch` -> `monitor`, which is one subject."""
    parts = name.split(".")
    return parts[0] if parts[0] in ("monitor", "bench") else ".".join(parts[:2])


def wrong_imports(name: str) -> Iterator[str]:
    """Say what a module imports that is above it."""
    for other in own_imports(NAMES[name]):
        if not name:
            yield f"the package itself imports {other}"
            continue
        if layer(other) > layer(name):
            yield f"{name} imports {other}, which is above it"
        wing = name.split(".", maxsplit=1)[0]
        if other.split(".")[0] == wing and wing in INSIDE and subject(other) != subject(name):
            own, others = place_inside(name), place_inside(other)
            if own is not None and others is not None and others >= own:
                yield f"{name} imports {other}, which is not below it in `{wing}`"


def test_a_module_imports_only_what_is_not_above_it() -> None:
    assert [wrong for name in NAMES for wrong in wrong_imports(name)] == []


def test_every_module_has_a_layer() -> None:
    tops = {name.split(".")[0] for name in NAMES if name}
    assert tops == {name for names in LAYERS for name in names}
    for wing, rows in INSIDE.items():
        inside = {name.split(".")[1] for name in NAMES if name.startswith(f"{wing}.")}
        assert inside == {name for names in rows for name in names}, wing


def test_the_top_is_read_in_ten_seconds() -> None:
    modules = [path for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")]
    folders = [path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()]
    assert len(modules) <= 10
    assert len(folders) <= 10


@pytest.mark.parametrize("door", ["cascade.vad", "cascade.asr", "cascade.audio"])
def test_implementations_of_one_contract_do_not_import_each_other(door: str) -> None:
    implementations = {name for name in NAMES if name.rpartition(".")[0] == door}
    for name in implementations:
        if name.rpartition(".")[2] in READERS:
            continue
        siblings = own_imports(NAMES[name]) & implementations - {name}
        assert not siblings or door == "cascade.audio" or siblings <= SHARED_BY_ASR, f"{name} imports {siblings}"


SHARED_BY_ASR = {"cascade.asr.torchaudio_import"}


def test_the_monitor_knows_nothing_of_speech() -> None:
    for name, path in NAMES.items():
        if name.split(".")[0] == "monitor":
            assert {other.split(".")[0] for other in own_imports(path)} <= {"monitor", "errors", "foundation"}, name


def test_a_third_party_library_has_one_importing_file() -> None:
    users: dict[str, set[str]] = {}
    for name, path in NAMES.items():
        if path.name == "doctor.py":  # it makes its own test sound
            continue
        for library in {item.split(".")[0] for item in imports(path)}:
            if library not in sys.stdlib_module_names and library != "speechpipe":
                users.setdefault(library, set()).add(name)
    for library, names in users.items():
        if library in SAME_PART:
            assert {subject(name) for name in names} == SAME_PART[library], library
        elif library not in FREE:
            assert len(names) <= 1 or library == "python_multipart", f"{library} is imported by {sorted(names)}"


def circles(graph: Mapping[str, Iterable[str]]) -> list[str]:
    """Return a circle of a graph, if there is one."""
    state: dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> list[str]:
        if state.get(name) == 1:
            return [*trail[trail.index(name) :], name]
        if name in state:
            return []
        state[name] = 1
        for other in graph[name]:
            if found := visit(other, (*trail, name)):
                return found
        state[name] = 2
        return []

    return next((found for name in graph if (found := visit(name, ()))), [])


def test_no_circle_of_imports_between_files_or_subjects() -> None:
    files = {name: own_imports(path) - {name} for name, path in NAMES.items()}
    # A package's face is loaded with every module in it: what it imports of its own modules is no circle.
    files = {name: {other for other in found if not name.startswith(f"{other}.")} for name, found in files.items()}
    assert circles(files) == []
    subjects: dict[str, set[str]] = {}
    for name, found in files.items():
        subjects.setdefault(subject(name), set()).update(subject(other) for other in found)
    assert circles({name: found - {name} for name, found in subjects.items()}) == []


def test_sizes() -> None:
    assert [dotted(path) for path in MODULES if len(path.read_text().splitlines()) > 400] == []
    functions = [
        (f"{dotted(path)}:{node.name}", (node.end_lineno or 0) - node.lineno)
        for path in MODULES
        for node in ast.walk(parsed(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1000
    assert [name for name, lines in functions if lines >= 60] == []


STATE_OF_OTHERS = {
    "current_part.content_disposition",  # of a parser that is subclassed
    "conn.max_message_size",  # likewise
    "config.timeout_graceful_shutdown",  # of a server that is subclassed
    "codec_context.thread_count",  # FFmpeg is set up so
    "codec_context.flags2",  # likewise
    "app.openapi",  # FastAPI is extended so
    "loader.load_lib",  # of a library that is imported without a part of it
    "watchdog.daemon",
    "drop.atexit",  # of weakref.finalize
    "cycle.disconnected",  # of uvicorn, for a request whose client is gone
    "server.should_exit",  # uvicorn is stopped so
    "options.intra_op_num_threads",  # onnxruntime is set up so
    "options.inter_op_num_threads",
    "options.log_severity_level",
    "packet.pts",
    "packet.dts",  # FFmpeg's packets and frames are written anew
    "earlier.pts",
    "earlier.dts",
    "frame.pts",
}
"""Attributes of other people's libraries, which are set as their documentation says."""


def is_self(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def declared(tree: ast.AST) -> set[str]:
    """Return the attributes that the classes of a file declare or set on themselves, without leading underscores."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            found.add(node.target.id.strip("_"))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            found.add(node.attr.strip("_"))
    return found


def test_no_object_sets_an_attribute_of_an_object_of_another_subject() -> None:
    """State is set by its own class, or by the one class of its folder that works with it (a pool and its jobs).

    Through an attribute (`self.other.state = ...`) it is set in the file of its class only.
    """
    trees = {path: parsed(path) for path in MODULES}
    of_folder: dict[Path, set[str]] = {}
    for path, tree in trees.items():
        of_folder.setdefault(path.parent, set()).update(declared(tree))
    for path, tree in trees.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
                continue
            if isinstance(node.value, ast.Name) and node.value.id in ("self", "cls"):
                continue
            through = node.value.attr if isinstance(node.value, ast.Attribute) else ""
            owner = (through or getattr(node.value, "id", "")).strip("_")
            known = declared(tree) if through else of_folder[path.parent]
            if f"{owner}.{node.attr.strip('_')}" not in STATE_OF_OTHERS:
                assert node.attr.strip("_") in known, f"{path.relative_to(PACKAGE)}:{node.lineno}: {owner}.{node.attr}"


def test_only_the_settings_read_the_environment() -> None:
    readers = {path.name for path in MODULES if "os.environ" in path.read_text()}
    assert readers <= {"config.py", "process.py", "capacity.py", "system.py"}  # the others hand it on to others


def test_broad_excepts_stand_only_where_the_house_allows() -> None:
    allowed = {
        "background.py",
        "session.py",
        "worker.py",
        "decoding.py",  # what one segment raises is the result of that segment
        "app.py",
        "doctor.py",  # a broken library fails in any way
        "edge.py",  # the last handler of a request
        "ending.py",  # one line for people, whatever broke
        "executor.py",
        "sockets.py",  # the last handler of a websocket: its client is told in its protocol
        "manager.py",  # a defect in one stream must not stop the tick of the others
        "ffmpeg_stream.py",  # reports to its stream what FFmpeg raised
        "service.py",
        "shadow.py",
        "process.py",  # whatever ends a thread of a worker ends that worker
        "supervisor.py",  # a start that fails, why ever, is counted and tried again
        "checkpoint.py",  # a broken file raises whatever its bytes make the reader raise
    }
    for path in MODULES:
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception":
                assert path.name in allowed, f"{path.name}:{node.lineno}"


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = ["torch", "torchaudio", "onnxruntime", "pocketsphinx", "av", "soundfile", "numpy", "sqlalchemy", "fastapi"]
    families = ["transcribe", "stream", "evaluate", "serve", "bundles", "bench", "doctor"]
    code = (
        "import sys, speechpipe.interfaces.cli\n"
        + "".join(f"import speechpipe.interfaces.cli.{family}\n" for family in families)
        + f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_process_never_imports_a_recognizer() -> None:
    code = (
        "import sys, speechpipe.interfaces.api.server\n"
        "names = ('pocketsphinx', 'torch', 'speechpipe.cascade.asr.pocketsphinx')\n"
        "print([name for name in names if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
