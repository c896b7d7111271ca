"""Stores of other versions: older ones are brought up to date, newer ones refused."""

import json
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine, insert, text

from speechpipe.control.review.hotwords import HotwordLists
from speechpipe.control.review.policy_repository import Automation
from speechpipe.foundation.storage.database import StoreTooNew, connect
from speechpipe.foundation.storage.migrations.versions import v0001_records
from speechpipe.foundation.storage.schema import automation, metadata
from speechpipe.foundation.storage.store import Store
from tests.databases import DATABASES, Database
from tests.records import unit

FIRST_RELEASE = """
CREATE TABLE records (id VARCHAR(80) PRIMARY KEY, kind VARCHAR(16) NOT NULL, session_id VARCHAR(64) NOT NULL,
  at FLOAT NOT NULL, channel VARCHAR(16) NOT NULL, bundle VARCHAR(64) NOT NULL, bundle_version VARCHAR(32) NOT NULL,
  outcome VARCHAR(64) NOT NULL, tenant VARCHAR(128) NOT NULL, tenant_class VARCHAR(16) NOT NULL,
  arm VARCHAR(16) NOT NULL, versions JSON NOT NULL, measures JSON NOT NULL);
CREATE INDEX records_by_time ON records (kind, at);
CREATE INDEX records_by_session ON records (session_id);
CREATE TABLE about (key VARCHAR(32) PRIMARY KEY, value VARCHAR(64));
INSERT INTO about VALUES ('schema', '1')
"""


@pytest.mark.parametrize("database", DATABASES, ids=str)
def test_a_store_of_the_first_release_keeps_its_records(database: Database, tmp_path: Path) -> None:
    with database.empty(tmp_path) as url:
        engine = create_engine(url)
        with engine.begin() as connection:
            for statement in FIRST_RELEASE.split(";"):
                connection.execute(text(statement))
            insert = text(
                "INSERT INTO records VALUES (:id, 'unit', 's', :at, 'upload', 'b', '1', 'ok', '', 'consumer',"
                " 'champion', '{}', :measures)"
            )
            for number in (2, 1, 3):
                connection.execute(
                    insert, {"id": f"u{number}", "at": float(number), "measures": json.dumps({"x": number})}
                )
        engine.dispose()
        store = Store(url)
        assert [record.measures["x"] for record in store.read()] == [1, 2, 3]
        store.open()
        store.append(unit(9, 9.0))
        store.close()
        again = Store(url)
        assert [number for number, _ in again.after(0, 10)] == [1, 2, 3, 4]
        again.close()


@pytest.mark.parametrize("database", DATABASES, ids=str)
def test_a_store_without_lists_of_hotwords_gets_them_and_keeps_its_policies(database: Database, tmp_path: Path) -> None:
    with database.empty(tmp_path) as url:
        engine = connect(url)
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE hotword_lists"))
            connection.execute(text("DROP TABLE reference_seasons"))
            connection.execute(text("DROP INDEX alarms_by_incident"))
            for column in ("since", "incident"):
                connection.execute(text(f"ALTER TABLE alarms DROP COLUMN {column}"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0008'"))
            row = {"scope": "acme", "revision": 3, "document": {"degree": "assist"}, "changed_at": 1.0}
            connection.execute(insert(automation), row)
        engine.dispose()
        again = connect(url)
        lists = HotwordLists(lambda: again)
        assert lists.set("acme", ["Okonkwo"], "ann").revision == 1
        assert Automation(lambda: again).policies()["acme"].revision == 3
        again.dispose()


@pytest.mark.parametrize("database", DATABASES, ids=str)
def test_a_store_of_a_newer_release_is_refused_and_left_alone(database: Database, tmp_path: Path) -> None:
    with database.empty(tmp_path) as url:
        connect(url).dispose()
        engine = create_engine(url)
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(StoreTooNew, match=r"9999.*update speechpipe"):
            connect(url)
        store = Store(url)
        store.open()
        store.append(unit(1, 1.0))
        store.close()
        assert store.lost["store_error"] == 1
        assert "9999" in store.failure
        with engine.connect() as connection:
            assert connection.execute(text("SELECT count(*) FROM records")).scalar() == 0
        engine.dispose()


@pytest.mark.parametrize("database", DATABASES, ids=str)
def test_the_migrations_end_at_the_tables_that_the_code_uses(database: Database, tmp_path: Path) -> None:
    with database.empty(tmp_path) as url:
        engine = connect(url)
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []
        engine.dispose()
    assert v0001_records.down_revision is None
