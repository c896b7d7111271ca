"""Settings: what is written is what is meant, and what cannot be meant is said in one line that names the variable."""

import importlib
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


CHECKED = {"allowed_hosts", "allowed_origins", "callbacks", "callback_networks"}
"""Lists whose items have a form of their own."""


@pytest.mark.parametrize("name", [name for name in LISTS if name not in CHECKED])
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
@pytest.mark.parametrize(
    "value",
    [
        "a,,b",
        ",",
        "a,",
        '["a", ""]',
        '["a"',
        '["a", 3]',
        '{"a": 1}',
        '"a"',
        "[[1]]",
        "null",
        "'a','b'",
        '"a",b',
        "a,'",
        "[" * 5000,
    ],
)
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
        ("STORE_URL", "sqlite+foo:///x.db"),
        ("STORE_URL", "sqlite+aiosqlite:///x.db"),
        ("STORE_URL", "sqlite+pysqlcipher:///x.db"),
        ("STORE_URL", "sqlite://"),
        ("STORE_URL", "sqlite:///"),
        ("STORE_URL", "sqlite:///:memory:"),
        ("STORE_URL", "sqlite:///file:x?mode=memory&uri=true"),
        ("STORE_URL", "sqlite:////tmp"),
        ("STORE_URL", "sqlite://host/x.db"),
        ("STORE_URL", "sqlite:///x.db?foo=1"),
        ("STORE_URL", "postgresql+asyncpg://127.0.0.1/x"),
        ("STORE_URL", "postgresql+psycopg_async://127.0.0.1/x"),
        ("STORE_URL", "postgresql+psycopg://127.0.0.1:0/x"),
        ("STORE_URL", "mysql://127.0.0.1/x"),
        ("STATE_DIR", ""),
        ("STATE_DIR", " "),
        ("HOST", ""),
        ("BUNDLE", ""),
        ("ALLOWED_HOSTS", "https://b.example.org"),
        ("ALLOWED_HOSTS", "b.example.org/path"),
        ("ALLOWED_HOSTS", "b.example.org:0"),
        ("ALLOWED_HOSTS", "b.example.org:port"),
        ("ALLOWED_HOSTS", "b.example.org:"),
        ("ALLOWED_HOSTS", "a.*.example.org"),
        ("ALLOWED_HOSTS", "*example.org"),
        ("ALLOWED_HOSTS", "a b"),
        ("ALLOWED_HOSTS", "b\u00fccher.example"),
        ("ALLOWED_HOSTS", "a..b"),
        ("ALLOWED_ORIGINS", "https://*.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com:443"),
        ("ALLOWED_ORIGINS", "https://u@app.example.com"),
        ("ALLOWED_ORIGINS", "https://app.example.com#x"),
        ("ALLOWED_ORIGINS", "https://b\u00fccher.example"),
        ("ALLOWED_ORIGINS", "https://a b"),
        ("ROOT_PATH", "/a/../b"),
        ("ROOT_PATH", "/."),
        ("ROOT_PATH", "/a/"),
        ("ROOT_PATH", "a"),
        ("ROOT_PATH", "/a b"),
        ("ALARM_WEBHOOK", "http://a b/"),
        ("ALARM_WEBHOOK", "http://a/\tb"),
        ("ALARM_WEBHOOK", "http://a..b/"),
        ("ALARM_WEBHOOK", "http://a:0/"),
        ("ALARM_WEBHOOK", "ftp://a/"),
        ("EXTERNAL_URL", "http://x?q"),
        ("EXTERNAL_URL", "http://x/#f"),
        ("EXTERNAL_URL", "http://u@x/"),
        ("SIGNING_SECRET", " "),
        ("ALLOWED_ORIGINS", "https://127.1:3000"),
        ("ALLOWED_ORIGINS", "https://a.example.com:0443"),
        ("ALLOWED_ORIGINS", "https://a.example.com:0"),
        ("ALLOWED_ORIGINS", "https://[fe80::1%eth0]"),
        ("STORE_URL", "sqlite:///x.db?timeout=abc"),
        ("STORE_URL", "sqlite:///x.db?timeout=nan"),
        ("STORE_URL", "sqlite:///x.db?timeout=-1"),
        ("STORE_URL", "sqlite:///x.db?timeout=1e9"),
        ("STORE_URL", "sqlite:///x.db?timeout=1&timeout=2"),
        ("STORE_URL", "sqlite:///x.db?isolation_level=FOO"),
        ("STORE_URL", "sqlite:///x.db?detect_types=x"),
        ("STORE_URL", "sqlite:///x.db?check_same_thread=true"),
        ("STORE_URL", "sqlite:///x.db?check_same_thread=maybe"),
        ("STORE_URL", "sqlite:///x.db?cached_statements=-5"),
        ("CALLBACKS", "nonsense"),
        ("CALLBACKS", "https://a.example/?q"),
        ("CALLBACKS", "http://*.example.com/"),
        ("CALLBACKS", "http://{host}/"),
        ("CALLBACKS", "http://127.1/"),
        ("ALARM_WEBHOOK", "http://999.1.1.1/"),
        ("ALARM_WEBHOOK", "http://[::1%25lo]/"),
        ("ALARM_WEBHOOK", "http://[v1.a]/"),
        ("EXTERNAL_URL", "http://127.1"),
        ("CALLBACK_NETWORKS", "nonsense"),
        ("CALLBACK_NETWORKS", "10.0.0.1/8"),
        ("DEFAULT_DEGREE", "none"),
    ],
)
def test_what_can_never_work_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    refused(monkeypatch, f"SPEECHPIPE_{name}", value)


@pytest.mark.parametrize(
    "options",
    [
        *("sslmode=verify-fulll", "gssencmode=x", "channel_binding=x", "target_session_attrs=x", "sslcertmode=x"),
        *("load_balance_hosts=x", "ssl_min_protocol_version=x", "ssl_max_protocol_version=TLSv1.9", "require_auth=x"),
        *("sslnegotiation=x", "sslnegotiation=direct", "sslrootcert=system&sslmode=require", "gssdelegation=x"),
        "ssl_min_protocol_version=TLSv1.3&ssl_max_protocol_version=TLSv1.2",
        *("connect_timeout=abc", "connect_timeout=1.5", "keepalives=abc", "keepalives_idle=x", "keepalives_count=x"),
        *("keepalives_interval=x", "tcp_user_timeout=9999999999", "sslcompression=x", "sslsni=x", "replication=true"),
        *("connect_timeot=3", "prepare_threshold=5", "sslmode=require&sslmode=disable", "service=absent"),
        *("host=a&port=x", "host=a:99999&host=b", "host=a,b&port=1,2,3"),
    ],
)
def test_options_that_libpq_refuses_are_refused(monkeypatch: pytest.MonkeyPatch, options: str) -> None:
    host = "" if "host=" in options else "db.example"
    message = refused(monkeypatch, "SPEECHPIPE_STORE_URL", f"postgresql+psycopg://u:hunter2@{host}/x?{options}")
    assert "hunter2" not in message


def durations() -> list[str]:
    return [f"SPEECHPIPE_{name.upper()}" for name in Settings.model_fields if name.endswith(("_s", "_days", "_hours"))]


@pytest.mark.parametrize("name", durations())
def test_durations_that_no_clock_knows_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    assert "must not be more than" in refused(monkeypatch, name, "1e12")
    assert "must not be more than" in refused(monkeypatch, name, "3e6")
    if name.endswith("_S"):
        refused(monkeypatch, name, "1e-9")


@pytest.mark.parametrize(
    ("written", "sent"),
    [
        ("https://a.example.com:08443", "https://a.example.com:8443"),
        ("https://[0::1]:3000", "https://[::1]:3000"),
        ("HTTPS://App.Example.com/", "https://app.example.com"),
        ("http://[::ffff:127.0.0.1]", "http://[::ffff:7f00:1]"),
        ("chrome-extension://abc", "chrome-extension://abc"),
    ],
)
def test_origins_are_compared_as_browsers_write_them(monkeypatch: pytest.MonkeyPatch, written: str, sent: str) -> None:
    monkeypatch.setenv("SPEECHPIPE_ALLOWED_ORIGINS", written)
    assert load().allowed_origins == [sent]


def test_origins_are_taken_as_browsers_send_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEECHPIPE_ALLOWED_ORIGINS", "https://app.example.com,http://127.0.0.1:3000,*")
    assert len(load().allowed_origins) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("STORE_URL", "sqlite:///x.db"),
        ("STORE_URL", "sqlite+pysqlite:////tmp/absent/x.db?timeout=5"),
        ("STORE_URL", "postgresql+psycopg://u:p@/x?host=/run/postgresql"),
        ("STORE_URL", "postgresql://u:p@db.example:5432/x"),
        (
            "STORE_URL",
            "sqlite:///x.db?timeout=1.5&isolation_level=immediate&check_same_thread=false&cached_statements=9",
        ),
        ("STORE_URL", "postgresql+psycopg://u:p@db.example/x?sslmode=verify-full&gssencmode=require&keepalives_idle=9"),
        (
            "STORE_URL",
            "postgresql+psycopg://u:p@/x?host=a:1&host=b:2&target_session_attrs=read-write&connect_timeout=3",
        ),
        ("STORE_URL", "postgresql+psycopg://u:p@db.example/x?application_name=x&options=-c%20statement_timeout=9s"),
        ("ALLOWED_HOSTS", "*"),
        ("ALLOWED_HOSTS", ".example.com,*.example.com,asr.example.com,asr.example.com.,a_b,localhost"),
        ("ALLOWED_HOSTS", "asr.example.com:8443,.lan.example:8000,10.0.0.1,10.0.0.1:80,::1,[::1],[::1]:8000"),
        (
            "ALLOWED_ORIGINS",
            "https://app.example.com/,https://app.example.com:8443,capacitor://localhost,http://[::1]:3",
        ),
        ("ROOT_PATH", "/a/b..c/~d"),
        ("ALARM_WEBHOOK", "https://user:pw@hooks.example.com:9/a?b=c"),
        ("ALARM_WEBHOOK", "http://b\u00fccher.example/"),
        ("ALARM_WEBHOOK", "http://[::1]:9093/x"),
        ("EXTERNAL_URL", "https://asr.example.com/speech/"),
        ("SIGNING_SECRET", "s"),
        ("CALLBACKS", "https://hooks.example.com/speech,http://127.0.0.1:3000"),
        ("CALLBACK_NETWORKS", "10.0.0.0/8,fd00::/8,192.0.2.7,::ffff:10.0.0.0/104"),
        ("API_KEYS", "nullable,a'b,truest"),
        ("API_KEYS", '["null", "\'quoted\'"]'),
    ],
)
def test_what_can_work_is_taken(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SPEECHPIPE_{name}", value)
    assert getattr(load(), name.lower())


def test_what_is_set_to_nothing_is_unset(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MODELS_DIR", "PROBES", "RETRAIN_POLICY"):
        monkeypatch.setenv(f"SPEECHPIPE_{name}", "")
    found = load()
    assert (found.models_dir, found.probes, found.retrain_policy) == (None, None, None)
    assert found.own_models_dir == found.state_dir / "models"


def test_a_driver_that_is_not_installed_is_named_and_the_password_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr("speechpipe.foundation.storage.urls.import_module", missing)
    for url in ("postgresql+psycopg2://u:secret@h/x", "postgresql+psycopg://u:secret@h/x"):
        message = refused(monkeypatch, "SPEECHPIPE_STORE_URL", url)
        assert "psycopg" in message
        assert "secret" not in message
    assert importlib.import_module("psycopg")


@pytest.mark.parametrize(
    "name", ["plain", "a?b", "a%41b", "a#b", "a b", "b\u00fccher", "a&uri=true", "file:x", "a\udcffb"]
)
def test_the_store_is_in_the_state_directory_whatever_its_name(tmp_path: Path, name: str) -> None:
    from contextlib import closing

    from speechpipe.foundation.storage.database import sqlite_path
    from speechpipe.foundation.storage.store import Store

    settings = Settings(state_dir=tmp_path / name)
    assert sqlite_path(settings.record_store_url) == tmp_path / name / "speechpipe.db"
    with closing(Store(settings.record_store_url)) as store:
        assert list(store.read()) == []
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name / "speechpipe.db").stat().st_size
