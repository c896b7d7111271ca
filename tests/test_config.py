"""Settings: what is written is what is meant, and what cannot be meant is said in one line that names the variable."""

from pathlib import Path

import pytest

from speechpipe.config import Settings, load
from speechpipe.errors import BadInput

LISTS = [name for name, field in Settings.model_fields.items() if "list" in str(field.annotation)]
KEYS = ["api_keys", "operator_keys", "reviewer_keys"]


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    for name in [name for name in os.environ if name.upper().startswith("SPEECHPIPE_")]:
        monkeypatch.delenv(name)


def refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> str:
    monkeypatch.setenv(name, value)
    with pytest.raises(BadInput) as caught:
        load()
    assert "\n" not in caught.value.message
    assert name in caught.value.message
    return caught.value.message


def test_all_lists_are_known() -> None:
    assert {*KEYS, "preload", "callbacks", "enterprise_tenants", "metrics_off"} <= set(LISTS)


@pytest.mark.parametrize("name", [name for name in LISTS if name != "allowed_origins"])
@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("one", ["one"]),
        ("one,two", ["one", "two"]),
        (" one , two ", ["one", "two"]),
        ('["one", "a,b"]', ["one", "a,b"]),
    ],
)
def test_lists_are_written_with_commas_or_as_json(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, found: list[str]
) -> None:
    monkeypatch.setenv(f"SPEECHPIPE_{name.upper()}", value)
    assert getattr(load(), name) == found


@pytest.mark.parametrize("name", LISTS)
@pytest.mark.parametrize("value", ["a,,b", ",", "a,", '["a", ""]', '["a"', '["a", 3]', '{"a": 1}', '"a"', "[[1]]"])
def test_lists_that_mean_nothing_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    refused(monkeypatch, f"SPEECHPIPE_{name.upper()}", value)


@pytest.mark.parametrize("name", KEYS)
def test_a_list_of_keys_that_is_set_is_never_empty_by_accident(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value in ("", "  ", "two words", "schl\u00fcssel"):
        refused(monkeypatch, f"SPEECHPIPE_{name.upper()}", value)
    monkeypatch.setenv(f"SPEECHPIPE_{name.upper()}", "[]")
    assert getattr(load(), name) == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("SPEECHPIPE_API_KEY", "SPEECHPIPE_API_KEYS"),
        ("SPEECHPIPE_PROT", "SPEECHPIPE_PORT"),
        ("speechpipe_operator_key", "SPEECHPIPE_OPERATOR_KEYS"),
        ("SPEECHPIPE_STATEDIR", "SPEECHPIPE_STATE_DIR"),
        ("SPEECHPIPE_XYZZY", "docs/api.md"),
    ],
)
def test_unknown_names_are_refused(monkeypatch: pytest.MonkeyPatch, name: str, meant: str) -> None:
    assert meant in refused(monkeypatch, name, "x")


def test_what_is_no_setting_and_belongs_here_is_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TEST_NO_SKIP", "FUZZ", "KEY", "SERVICE_HOST", "SERVICE_PORT_HTTP", "PORT_8000_TCP_ADDR"):
        monkeypatch.setenv(f"SPEECHPIPE_{name}", "tcp://10.0.0.1:8000")
    load()
    assert "Kubernetes" in refused(monkeypatch, "SPEECHPIPE_PORT", "tcp://10.0.0.1:8000")


@pytest.mark.parametrize("name", [name for name in Settings.model_fields if name not in LISTS])
def test_no_value_of_any_setting_ends_in_a_traceback(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    for value in ("", "nonsense", "-1", "1e400", "nan", "inf", "9" * 400, "[]", "tcp://x", "\u20ac", "/dev/null/x"):
        monkeypatch.setenv(f"SPEECHPIPE_{name.upper()}", value)
        message = ""
        try:
            load()
        except BadInput as error:
            message = error.message
        assert not message or message.startswith(f"SPEECHPIPE_{name.upper()}: ")
        assert "\n" not in message


def test_files_and_folders_are_what_they_should_be(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for name in ("STATE_DIR", "MODELS_DIR"):
        assert "not a folder" in refused(monkeypatch, f"SPEECHPIPE_{name}", str(file))
        monkeypatch.delenv(f"SPEECHPIPE_{name}")
    for name in ("PROBES", "RETRAIN_POLICY"):
        assert "no file" in refused(monkeypatch, f"SPEECHPIPE_{name}", str(tmp_path / "absent"))
        monkeypatch.delenv(f"SPEECHPIPE_{name}")


def test_a_flag_is_named_as_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadInput, match="--log-level"):
        load(log_level="loud")
    monkeypatch.setenv("SPEECHPIPE_LOG_LEVEL", "WARNING")
    assert load().log_level == "warning"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE_URL", "postgresql://u:pw@127.0.0.1:notaport/x"),
        ("STORE_URL", "postgresql://[::1/x"),
        ("ALARM_WEBHOOK", "http://[::1"),
        ("ALARM_WEBHOOK", "http://:80/x"),
        ("EXTERNAL_URL", "https://host:99999"),
        ("ALLOWED_ORIGINS", "app.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com/path"),
        ("LIVE_MAX_BUFFER_S", "1e-9"),
        ("KEEP_RECORDS_DAYS", "1e300"),
        ("MAX_UPLOAD_BYTES", "9" * 40),
    ],
)
def test_what_can_never_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    refused(monkeypatch, f"SPEECHPIPE_{name}", value)


def test_origins_are_taken_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHPIPE_ALLOWED_ORIGINS", "https://app.example.com,http://127.0.0.1:3000,*")
    assert len(load().allowed_origins) == 3
