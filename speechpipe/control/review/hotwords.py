"""Lists of hotwords by tenant, in the store beside the automation policies, and cached in a running server."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, insert, select
from sqlalchemy.exc import IntegrityError

from speechpipe.control.review.policy_repository import MOST_SCOPE
from speechpipe.control.review.scopes import Scopes
from speechpipe.errors import Conflict, InvalidParameter
from speechpipe.foundation.storage.database import translating_store_errors
from speechpipe.foundation.storage.schema import hotword_lists
from speechpipe.foundation.storage.swap import swap
from speechpipe.serving.automation.policy import EVERYBODY
from speechpipe.serving.biasing import checked


@dataclass(frozen=True)
class HotwordList:
    """A stored list with its revision, its last change (unix seconds) and who made it."""

    terms: tuple[str, ...] = ()
    revision: int = 0
    changed_at: float = 0.0
    actor: str = ""

    def document(self, scope: str) -> dict[str, Any]:
        """Return the list of a scope as plain data."""
        facts = {"scope": scope, "revision": self.revision, "changed_at": self.changed_at, "actor": self.actor}
        return {**facts, "terms": list(self.terms)}


class HotwordLists:
    """Access to the table. Thread-safe. Every method raises SQLAlchemyError if the database cannot be used."""

    def __init__(self, engine: Callable[[], Engine], clock: Callable[[], float] = time.time) -> None:
        self._engine = engine
        self._clock = clock

    def lists(self) -> dict[str, HotwordList]:
        """Return the stored lists by scope; a list without terms is one, too."""
        with self._engine().connect() as connection:
            rows = connection.execute(select(hotword_lists)).all()
        return {row.scope: HotwordList(tuple(row.terms), row.revision, row.changed_at, row.actor) for row in rows}

    def set(self, scope: str, terms: Sequence[str], actor: str, *, revision: int | None = None) -> HotwordList:
        """Replace the list of a scope. `revision`: the one that the change is based on; None: the current one.

        Raises:
            InvalidParameter: the terms are too many or too long, or this is no scope.
            Conflict: the list was changed meanwhile.
        """
        if not scope or len(scope) > MOST_SCOPE or not scope.isprintable():
            raise InvalidParameter(f"a scope is a tenant, or {EVERYBODY!r}", param="scope")
        old = self.lists().get(scope, HotwordList())
        if revision is not None and revision != old.revision:
            raise Conflict(f"{scope} was changed meanwhile: it has revision {old.revision}, not {revision}")
        new = HotwordList(checked(terms, "terms"), old.revision + 1, self._clock(), actor)
        row = {
            "revision": new.revision,
            "terms": list(new.terms),
            "changed_at": new.changed_at,
            "actor": new.actor,
        }
        message = f"the hotwords of {scope} were changed at the same time"
        try:
            with self._engine().begin() as connection:
                if not old.revision:
                    connection.execute(insert(hotword_lists), {"scope": scope, **row})
                elif not swap(connection, hotword_lists, {"scope": scope, "revision": old.revision}, row):
                    raise Conflict(message)
        except IntegrityError as error:
            raise Conflict(message) from error
        return new


class HotwordService:
    """The lists of a running server: the last ones that could be read apply. Thread-safe."""

    def __init__(self, lists: HotwordLists, scopes: Scopes) -> None:
        self._lists = lists
        self._scopes = scopes
        self._known: Mapping[str, HotwordList] = {}

    def refresh(self) -> None:
        """Read the lists; called every second. Raises SQLAlchemyError if the store cannot be read."""
        self._known = self._lists.lists()

    def of(self, tenant: str) -> tuple[str, ...]:
        """Return the hotwords of a tenant: its own list, also an empty one, or else that of `default`. From memory."""
        known = self._known
        return (known.get(tenant) or known.get(EVERYBODY) or HotwordList()).terms

    def lists(self) -> dict[str, HotwordList]:
        """Return the stored lists by scope.

        Raises:
            StoreUnavailable: the store cannot be read.
        """
        with translating_store_errors():
            return self._lists.lists()

    def known(self, given: str, *, force: bool = False) -> HotwordList:
        """Return the stored list of the scope that `given` names, see `set`; an empty one if there is none.

        Raises:
            UnknownName: there is no such tenant.
            StoreUnavailable: the store cannot be read.
        """
        with translating_store_errors():
            return self._lists.lists().get(self._scopes.resolve(given.strip(), force=force), HotwordList())

    def set(
        self, given: str, terms: Sequence[str], actor: str, *, revision: int | None = None, force: bool = False
    ) -> tuple[str, HotwordList]:
        """Replace the list of the scope that `given` names; return the scope and the list. It applies at once.

        Args:
            given: a tenant's name or key, or `default`.
            terms: the whole list.
            actor: the operator's name.
            revision: the one that the change is based on; None: the current one.
            force: accept a tenant that is not known yet.

        Raises:
            UnknownName: there is no such tenant.
            InvalidParameter: the terms are too many or too long.
            Conflict, StoreUnavailable: it cannot be changed now.
        """
        with translating_store_errors():
            scope = self._scopes.resolve(given.strip(), force=force)
            found = self._lists.set(scope, terms, actor, revision=revision)
            self.refresh()
        return scope, found
