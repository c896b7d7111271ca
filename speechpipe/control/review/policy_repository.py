"""Automation policies in the store, with their history. Writes compare-and-swap on the revision."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError

from speechpipe.errors import BadInput, Conflict, InvalidParameter, SpeechpipeError
from speechpipe.foundation.state_files import write_file
from speechpipe.foundation.storage.schema import automation, automation_history
from speechpipe.foundation.storage.swap import swap
from speechpipe.serving.automation.policy import EVERYBODY, Policy

log = logging.getLogger(__name__)

MOST_SCOPE = 128

DEMOTE_AGAIN_S = 3600.0
"""A scope is not demoted again within this time, because one degradation causes several alarms."""


@dataclass(frozen=True)
class Entry:
    """An entry of the history."""

    scope: str
    revision: int
    at: float
    actor: str
    action: str  # set | demote | restore
    degree: str
    was: str
    reason: str
    policy: Mapping[str, Any]


@dataclass(frozen=True)
class Scoped:
    """A stored policy with its revision and time of change (unix seconds)."""

    policy: Policy
    revision: int
    changed_at: float


class Automation:
    """Access to the tables. Thread-safe. Every method raises SQLAlchemyError if the database cannot be used."""

    def __init__(
        self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time, base: Policy | None = None
    ) -> None:
        """Take the database; `base` is the policy of tenants for which none is stored."""
        self.engine = engine
        self._clock = clock
        self.base = base or Policy()

    def policies(self) -> dict[str, Scoped]:
        """Return the stored policies by scope."""
        with self.engine().connect() as connection:
            rows = connection.execute(select(automation)).all()
        return {row.scope: Scoped(Policy().changed(row.document), row.revision, row.changed_at) for row in rows}

    def set(
        self, scope: str, changes: Mapping[str, Any], actor: str, reason: str, *, revision: int | None = None
    ) -> Scoped:
        """Change fields of a scope's policy. `revision`: the one that the change is based on; None: the current one.

        Raises:
            InvalidParameter: a value is invalid.
            Conflict: the policy was changed meanwhile.
        """
        if not scope or len(scope) > MOST_SCOPE or not scope.isprintable():
            raise InvalidParameter(f"a scope is a tenant, or {EVERYBODY!r}", param="scope")
        found = self.policies()
        old = found.get(scope) or Scoped(found[EVERYBODY].policy if EVERYBODY in found else self.base, 0, 0.0)
        if revision is not None and revision != old.revision:
            raise Conflict(f"{scope} was changed meanwhile: it has revision {old.revision}, not {revision}")
        return self._write(scope, old, old.policy.changed(changes), ("set", actor, reason))

    def demote(self, scope: str, actor: str, reason: str) -> Scoped | None:
        """Lower the degree of a scope by one. A scope without a policy of its own starts from the default policy.

        Returns None if the policy does not allow demotion, the degree is *assist* or below, or the scope was demoted
        less than `DEMOTE_AGAIN_S` ago.

        Raises:
            Conflict: the policy was changed meanwhile.
        """
        found = self.policies()
        old = found.get(scope) or (Scoped(found[EVERYBODY].policy, 0, 0.0) if EVERYBODY in found else None)
        if old is None or not old.policy.demote or old.policy.degree.waits:
            return None  # at assist and below, nothing is delivered without a reviewer
        last = next((entry for entry in self.history() if entry.scope == scope), None)
        if last is not None and last.action == "demote" and self._clock() - last.at < DEMOTE_AGAIN_S:
            return None
        new = old.policy.changed({"degree": old.policy.degree.below})
        return self._write(scope, old, new, ("demote", actor, reason))

    def restore(self, known: Mapping[str, Scoped]) -> None:
        """Write policies into a store that has lost them, or has older ones.

        Raises:
            Conflict: another process is doing it.
        """
        said = ("restore", "speechpipe", "the store had lost the policy; restored from the server's copy")
        found = self.policies()
        with self.engine().begin() as connection:
            for scope, item in known.items():
                old = found.get(scope) or Scoped(item.policy, 0, 0.0)
                self._write(scope, old, item.policy, said, connection, above=item.revision)

    def _write(
        self,
        scope: str,
        old: Scoped,
        policy: Policy,
        said: tuple[str, str, str],
        connection: Connection | None = None,
        *,
        above: int = 0,
    ) -> Scoped:
        """Write a policy with its line of the history; the new revision is larger than `above` and the old one."""
        new = Scoped(policy, max(old.revision, above) + 1, self._clock())
        message = f"the policy of {scope} was changed at the same time"
        try:
            with nullcontext(connection) if connection is not None else self.engine().begin() as mine:
                if not _changed(mine, scope, old, new):
                    raise Conflict(message)
                mine.execute(insert(automation_history), _line(scope, old, new, said))
        except IntegrityError as error:
            raise Conflict(message) from error
        return new

    def history(self, most: int = 200) -> list[Entry]:
        """Return the latest changes, newest first."""
        query = select(automation_history).order_by(automation_history.c.id.desc()).limit(most)
        with self.engine().connect() as connection:
            rows = connection.execute(query).all()
        return [
            Entry(row.scope, row.revision, row.at, row.actor, row.action, row.degree, row.was, row.reason, row.document)
            for row in rows
        ]


def _changed(connection: Connection, scope: str, old: Scoped, new: Scoped) -> bool:
    """Write a policy if the stored revision is still that of `old`; return whether it was."""
    row = {"revision": new.revision, "document": new.policy.document(), "changed_at": new.changed_at}
    if old.revision == 0:
        connection.execute(insert(automation), {"scope": scope, **row})
        return True
    return swap(connection, automation, {"scope": scope, "revision": old.revision}, row)


def _line(scope: str, old: Scoped, new: Scoped, said: tuple[str, str, str]) -> dict[str, Any]:
    action, actor, reason = said
    return {
        "scope": scope,
        "revision": new.revision,
        "at": new.changed_at,
        "actor": actor,
        "action": action,
        "degree": new.policy.degree,
        "was": old.policy.degree if old.revision else "",
        "reason": reason,
        "document": new.policy.document(),
    }


def resolve(policies: Mapping[str, Scoped], tenant: str) -> Policy | None:
    """Return the policy of a tenant: its own, or the default one; None if there is neither."""
    found = policies.get(tenant) or policies.get(EVERYBODY)
    return found.policy if found is not None else None


def keep(path: Path, policies: Mapping[str, Scoped]) -> None:
    """Write the copy of the policies, so that a server that starts without its store has the same automation."""
    try:
        write_file(path, json.dumps({scope: found.policy.document() for scope, found in policies.items()}).encode())
    except OSError as error:
        log.warning("the copy of the automation policies cannot be written: %s", error)


def kept(path: Path) -> dict[str, Scoped] | None:
    """Return the policies of the copy; None if there is no copy.

    Raises:
        BadInput: the copy cannot be read.
    """
    try:
        found = json.loads(path.read_text())
        return {scope: Scoped(Policy().changed(document), 0, 0.0) for scope, document in found.items()}
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError, SpeechpipeError) as error:
        raise BadInput(f"the copy of the automation policies cannot be read: {error}") from error
