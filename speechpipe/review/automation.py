"""Degrees of automation in the store, with their history. A change is written only onto the revision it came from."""

import json
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from speechpipe.errors import InUse, InvalidParameter, SpeechpipeError
from speechpipe.monitor.schema import automation, automation_history
from speechpipe.review import Degree
from speechpipe.review.degrees import EVERYBODY, Policy
from speechpipe.state_files import write_file

log = logging.getLogger(__name__)

MOST_SCOPE = 128

DEMOTE_AGAIN_S = 3600.0
"""What one degree less has not mended by then is worth another."""


@dataclass(frozen=True)
class Entry:
    """A line of the history."""

    scope: str
    revision: int
    at: float
    actor: str
    action: str  # set | demote
    degree: str
    was: str
    reason: str
    policy: Mapping[str, Any]


@dataclass(frozen=True)
class Scoped:
    """A policy as it stands."""

    policy: Policy
    revision: int
    changed_at: float


class Automation:
    """Thread-safe as the database is. Every method raises SQLAlchemyError if it cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def policies(self) -> dict[str, Scoped]:
        """Return what was said, by scope."""
        with self._engine().connect() as connection:
            rows = connection.execute(select(automation)).all()
        return {row.scope: Scoped(Policy().changed(row.document), row.revision, row.changed_at) for row in rows}

    def set(
        self, scope: str, changes: Mapping[str, Any], actor: str, reason: str, *, revision: int | None = None
    ) -> Scoped:
        """Change the policy of a scope; what is not named stays. `revision`: that which the change was made from.

        Raises:
            InvalidParameter: a value that means nothing.
            InUse: somebody else has changed it meanwhile.
        """
        if not scope or len(scope) > MOST_SCOPE or not scope.isprintable():
            raise InvalidParameter(f"a scope is a tenant, or {EVERYBODY!r}", param="scope")
        found = self.policies()
        old = found.get(scope) or Scoped(found[EVERYBODY].policy if EVERYBODY in found else Policy(), 0, 0.0)
        if revision is not None and revision != old.revision:
            raise InUse(f"{scope} was changed meanwhile: it has revision {old.revision}, not {revision}")
        return self._write(scope, old, old.policy.changed(changes), ("set", actor, reason))

    def demote(self, scope: str, actor: str, reason: str) -> Scoped | None:
        """Take a scope down by one degree.

        None if its policy does not want that, it is at *assist* or below, or it was demoted a moment ago: the alarms
        of one degradation come one after the other.

        Raises:
            InUse: somebody else has changed it meanwhile.
        """
        old = self.policies().get(scope)
        if old is None or not old.policy.demote or old.policy.degree.waits:
            return None  # below assist the machine says nothing that could be wrong
        last = next((entry for entry in self.history() if entry.scope == scope), None)
        if last is not None and last.action == "demote" and self._clock() - last.at < DEMOTE_AGAIN_S:
            return None
        new = old.policy.changed({"degree": old.policy.degree.below})
        return self._write(scope, old, new, ("demote", actor, reason))

    def _write(self, scope: str, old: Scoped, policy: Policy, said: tuple[str, str, str]) -> Scoped:
        new = Scoped(policy, old.revision + 1, self._clock())
        row = {"revision": new.revision, "document": policy.document(), "changed_at": new.changed_at}
        action, actor, reason = said
        message = f"{scope} was changed by somebody else at the same time"
        try:
            with self._engine().begin() as connection:
                if old.revision == 0:
                    connection.execute(insert(automation), {"scope": scope, **row})
                else:
                    mine = (automation.c.scope == scope) & (automation.c.revision == old.revision)
                    if connection.execute(update(automation).where(mine).values(**row)).rowcount != 1:
                        raise InUse(message)
                line = {
                    "scope": scope,
                    "revision": new.revision,
                    "at": new.changed_at,
                    "actor": actor,
                    "action": action,
                    "degree": policy.degree,
                    "was": old.policy.degree if old.revision else "",
                    "reason": reason,
                    "document": policy.document(),
                }
                connection.execute(insert(automation_history), line)
        except IntegrityError as error:
            raise InUse(message) from error
        return new

    def history(self, most: int = 200) -> list[Entry]:
        """Return what was said, the newest first."""
        query = select(automation_history).order_by(automation_history.c.id.desc()).limit(most)
        with self._engine().connect() as connection:
            rows = connection.execute(query).all()
        return [
            Entry(row.scope, row.revision, row.at, row.actor, row.action, row.degree, row.was, row.reason, row.document)
            for row in rows
        ]


def resolve(policies: Mapping[str, Scoped], tenant: str) -> Policy | None:
    """Return the policy of a tenant: its own, or that of everybody; None if nobody has said anything."""
    found = policies.get(tenant) or policies.get(EVERYBODY)
    return found.policy if found is not None else None


def keep(path: Path, policies: Mapping[str, Scoped]) -> None:
    """Keep a copy beside the store: a server that starts without it does not become more automatic than it was."""
    try:
        write_file(path, json.dumps({scope: found.policy.document() for scope, found in policies.items()}).encode())
    except OSError as error:
        log.warning("the copy of the degrees of automation cannot be written: %s", error)


def kept(path: Path) -> dict[str, Scoped]:
    """Return the copy.

    A copy that cannot be read asks a person for everything: it may have asked for that.
    """
    try:
        found = json.loads(path.read_text())
        return {scope: Scoped(Policy().changed(document), 0, 0.0) for scope, document in found.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError, TypeError, SpeechpipeError) as error:
        log.error("the copy of the degrees of automation cannot be read, people are asked for everything: %s", error)
        return {EVERYBODY: Scoped(Policy(Degree.ASSIST), 0, 0.0)}
