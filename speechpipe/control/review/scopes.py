"""Scopes of automation policies: `default` and known tenants. An API key is never stored as a scope."""

from collections.abc import Callable, Iterable

from sqlalchemy import Engine, func, select

from speechpipe.errors import InvalidParameter, UnknownName
from speechpipe.foundation.storage.schema import automation, hotword_lists, records, review_tasks
from speechpipe.foundation.tenants import ANONYMOUS, tenant_of
from speechpipe.monitor.windows import UNSERVED
from speechpipe.serving.automation.policy import EVERYBODY

FIND = "`speechpipe automation tenant` prints the tenant of a key"


class Scopes:
    """Reads the store. Every method raises SQLAlchemyError if it cannot be used.

    Args:
        engine: of the store.
        keys: all API keys of the server.
        tenants: names of tenants that may have no data in the store yet.
    """

    def __init__(self, engine: Callable[[], Engine], keys: Iterable[str] = (), tenants: Iterable[str] = ()) -> None:
        self._engine = engine
        self._keys = frozenset(keys)
        self._tenants = {EVERYBODY, ANONYMOUS, *tenants, *map(tenant_of, self._keys)}

    def resolve(self, given: str, *, force: bool = False) -> str:
        """Return the scope that `given` names; an API key names its tenant.

        Args:
            given: a tenant's name or key.
            force: accept a name that is not known.

        Raises:
            UnknownName: there is no such tenant. The message does not repeat `given`, which may be a key.
        """
        if given in self._keys or self._known(tenant_of(given)):
            return tenant_of(given)
        if force or self._known(given):
            return given
        if near := next((name for name in self._tenants if name.casefold() == given.casefold()), ""):
            raise UnknownName(f"no such tenant; names are case-sensitive: {near!r}?", cause="unknown_tenant")
        message = f"no tenant of that name has sent anything; {FIND}, and force (`--force`) sets it anyway"
        raise UnknownName(message, cause="unknown_tenant", param="scope")

    def check(self, text: str) -> None:
        """Refuse a text that contains an API key.

        Raises:
            InvalidParameter: it contains one.
        """
        if any(key in text for key in self._keys if len(key) >= 4):
            raise InvalidParameter("the reason contains an API key", param="reason")

    def served(self, since: float) -> dict[str, int]:
        """Return the number of sessions since a time, by channel, of tenants without a policy of their own."""
        named = select(automation.c.scope)
        query = select(records.c.channel, func.count()).where(
            records.c.kind == "session",
            records.c.at >= since,
            records.c.arm != UNSERVED,
            records.c.tenant.not_in(named),
        )
        with self._engine().connect() as connection:
            return {channel: int(count) for channel, count in connection.execute(query.group_by(records.c.channel))}

    def _known(self, name: str) -> bool:
        if name in self._tenants:
            return True
        columns = (automation.c.scope, hotword_lists.c.scope, records.c.tenant, review_tasks.c.tenant)
        with self._engine().connect() as connection:
            return any(connection.execute(select(column).where(column == name).limit(1)).first() for column in columns)
