"""The rules of the house, held: import order, one importing file per library, sizes, no work at import."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "speechpipe"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Top to bottom: a module imports only rows below its own; modules of one row may import each other only where
# they belong to one part. Siblings in a row are blind to each other.
ROWS: list[list[str]] = [
    ["cli"],
    ["bench"],
    ["api"],
    ["health_page"],
    ["people_page"],
    ["templates"],
    ["documents", "health_document", "plots", "blame_picture", "rollout_document", "retrain_document"],
    ["retraining"],
    ["retrain_desk"],
    ["rollouts", "assembly", "handing_over"],
    ["transcription", "live", "probing", "replay", "shadowing"],
    ["service"],
    ["reviewing"],
    ["retrain"],
    ["terms_book", "monitoring", "admission", "failure_modes", "prometheus_rules", "tracing"],
    ["shadow_comparison"],
    ["session_request"],
    ["fleet", "routing", "rollout_guards", "card_files", "fetching"],
    ["review_document", "review_exchange"],
    ["health_desk", "review_desk"],
    [
        "pipeline",
        "bundles",
        "cards",
        "speech_metrics",
        "speech_cascade",
        "gauges",
        "evaluation",
        "recipes",
        "recordings",
        "faults",
        "callbacks",
        "demotion",
        "listened",
        "captions",
    ],
    ["review"],
    ["hearing", "rollout"],
    ["workers"],
    ["vad", "asr", "monitor", "probes"],
    ["acoustic", "signing"],
    ["config", "audio"],
    ["containers"],
    ["registry"],
    ["background", "outgoing", "reading"],
    ["types", "errors", "machine", "state_files", "tenants", "torchaudio_import"],
]
READERS = {"source", "wire", "wav_stream", "ffmpeg_stream", "signatures"}  # of audio
MAY_IMPORT_SIDEWAYS = {("bundles", "cards")}
FREE = {"numpy", "fastapi", "pydantic", "pydantic_settings", "starlette"}  # used wherever their part is
SAME_PART = {
    "rich": {"cli"},
    "typer": {"cli"},
    "prometheus_client": {"monitor"},
    "anyio": {"api"},
    "uvicorn": {"api"},
    "sqlalchemy": {"monitor", "rollout", "review", "retrain"},  # one store, tables in `monitor/schema.py`
    "alembic": {"monitor"},
    "orjson": {"monitor"},
    "httpx": {"outgoing", "cli"},  # `report --url` asks a server
    "soundfile": {"audio"},
    "torch": {"acoustic", "asr", "retrain"},
    "safetensors": {"acoustic"},
}


def part(path: Path) -> str:
    """`speechpipe/vad/silero.py` -> `vad`; `speechpipe/pipeline.py` -> `pipeline`."""
    relative = path.relative_to(PACKAGE)
    return relative.parts[0].removesuffix(".py")


def row(name: str) -> int:
    return next(index for index, names in enumerate(ROWS) if name in names)


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imported_parts(path: Path) -> set[str]:
    names = {name.split(".")[1] for name in imports(path) if name.startswith("speechpipe.")}
    return {name for name in names if any(name in row_ for row_ in ROWS)}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_rows_below_its_own(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        assert not imported_parts(path)
        return
    for other in imported_parts(path) - {own}:
        allowed = row(other) > row(own) or (own, other) in MAY_IMPORT_SIDEWAYS
        assert allowed, f"{path.name} ({own}) imports {other}, which is not below it"


def test_every_module_has_a_row() -> None:
    known = {name for names in ROWS for name in names}
    assert {part(path) for path in MODULES} - known == {"__init__"}


@pytest.mark.parametrize("door", ["vad", "asr", "audio"])
def test_inhabitants_of_a_door_do_not_import_each_other(door: str) -> None:
    inhabitants = {path.stem for path in (PACKAGE / door).glob("*.py")} - {"__init__"}
    shared = {"audio": READERS}.get(door, set())  # readers compose the others
    for path in (PACKAGE / door).glob("*.py"):
        if path.stem == "__init__" or path.stem in shared:
            continue
        siblings = {name.split(".")[2] for name in imports(path) if name.startswith(f"speechpipe.{door}.")}
        assert not siblings & inhabitants - {path.stem}, f"{path.name} imports {siblings}"


def test_the_monitor_knows_nothing_of_speech() -> None:
    for path in (PACKAGE / "monitor").glob("*.py"):
        assert imported_parts(path) <= {"monitor", "errors", "background", "outgoing", "state_files"}, path.name


def test_a_third_party_library_has_one_importing_file() -> None:
    users: dict[str, set[Path]] = {}
    for path in MODULES:
        if path.name == "doctor.py":  # it makes its own test sound
            continue
        for name in {item.split(".")[0] for item in imports(path)}:
            if name not in sys.stdlib_module_names and name != "speechpipe":
                users.setdefault(name, set()).add(path)
    for name, paths in users.items():
        if name in SAME_PART:
            assert {part(path) for path in paths} == SAME_PART[name], name
        elif name not in FREE:
            files = {path.name for path in paths}
            assert len(files) <= 1 or name == "python_multipart", f"{name} is imported by {sorted(files)}"


def test_no_circle_of_imports() -> None:
    graph = {path: set[Path]() for path in MODULES}
    by_name = {".".join(("speechpipe", *path.relative_to(PACKAGE).with_suffix("").parts)): path for path in MODULES}
    by_name |= {name.removesuffix(".__init__"): path for name, path in by_name.items()}
    for path in MODULES:
        top = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        for node in top:
            if isinstance(node, ast.ImportFrom) and node.module in by_name:
                for alias in node.names:
                    graph[path].add(by_name.get(f"{node.module}.{alias.name}", by_name[node.module]))
    state: dict[Path, int] = {}

    def visit(path: Path, trail: tuple[Path, ...]) -> None:
        assert state.get(path) != 1, " -> ".join(item.stem for item in (*trail, path))
        if path in state:
            return
        state[path] = 1
        for other in graph[path] - {path}:
            visit(other, (*trail, path))
        state[path] = 2

    for path in MODULES:
        visit(path, ())


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_sizes(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 60, f"{path.name}:{node.name}"


def test_only_the_settings_read_the_environment() -> None:
    readers = {path.name for path in MODULES if "os.environ" in path.read_text()}
    assert readers <= {"config.py", "process.py", "capacity.py", "machine.py"}  # the others hand it on to others


def test_broad_excepts_stand_only_where_the_house_allows() -> None:
    allowed = {
        "background.py",
        "pipeline.py",
        "worker.py",
        "app.py",
        "doctor.py",  # a broken library fails in any way
        "edge.py",  # the last handler of a request
        "ending.py",  # one line for people, whatever broke
        "lanes.py",
        "sockets.py",  # the last handler of a websocket: its client is told in its protocol
        "hub.py",  # a defect in one stream must not stop the tick of the others
        "ffmpeg_stream.py",  # reports to its stream what FFmpeg raised
        "monitoring.py",
        "shadowing.py",
        "process.py",  # whatever ends a thread of a worker ends that worker
        "supervisor.py",  # a start that fails, why ever, is counted and tried again
        "checkpoint.py",  # a broken file raises whatever its bytes make the reader raise
    }
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ExceptHandler) and isinstance(node.type, ast.Name) and node.type.id == "Exception":
                assert path.name in allowed, f"{path.name}:{node.lineno}"


def test_importing_the_command_line_loads_nothing_heavy() -> None:
    heavy = ["torch", "torchaudio", "onnxruntime", "pocketsphinx", "av", "soundfile", "numpy", "sqlalchemy", "fastapi"]
    families = ["transcribe", "stream", "evaluate", "serve", "bundles", "bench", "doctor"]
    code = (
        "import sys, speechpipe.cli\n"
        + "".join(f"import speechpipe.cli.{family}\n" for family in families)
        + f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_server_process_never_imports_a_recognizer() -> None:
    code = (
        "import sys, speechpipe.api.server\n"
        "print([name for name in ('pocketsphinx', 'torch', 'speechpipe.asr.pocketsphinx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
