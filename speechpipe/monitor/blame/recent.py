"""The records that verdicts read: recent ones, once for all verdicts of a time, and those of references."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from speechpipe.foundation.storage.record import Record
from speechpipe.foundation.storage.sampling import sampled
from speechpipe.foundation.storage.store import Store
from speechpipe.monitor.cases import Cases, KnownRows, joined
from speechpipe.monitor.spec import CascadeSpec
from speechpipe.monitor.windows import OTHER_TENANTS, Group

MOST_RECORDS = 12_000


@dataclass
class RecentRecords:
    """Used on one thread. Methods raise `SQLAlchemyError` or `OSError` if the store cannot be read."""

    spec: CascadeSpec
    store: Store
    _known: KnownRows = field(default_factory=KnownRows)
    _from: float | None = None  # while records are read once: the time from which on they are
    _read: dict[tuple[str, float], list[Record]] = field(default_factory=dict)

    @contextmanager
    def read_once(self, since: float) -> Iterator[None]:
        """Within the block, read the records since `since` (unix seconds) once, and not for each verdict."""
        self._from = since
        try:
            yield
        finally:
            self._from = None
            self._read.clear()  # megabytes

    def of_bundle(self, bundle: str, since: float, until: float) -> list[Record]:
        """Return the newest records of a bundle (NAME@VERSION), the server and the probes, oldest first."""
        name, _, version = bundle.partition("@")
        if self._from is None or since < self._from:
            return self.store.latest(MOST_RECORDS, since, until, name, version)
        key = bundle, until
        if key not in self._read:
            self._read[key] = self.store.latest(MOST_RECORDS, self._from, until, name, version)
        return [record for record in self._read[key] if record.at >= since]

    def of_group(self, group: Group, since: float, until: float) -> list[Record]:
        """Return those among a bundle's newest records that are of this group, the server and the probes."""
        return [one for one in self.of_bundle(group.bundle, since, until) if one.kind == "system" or is_of(group, one)]

    def sampled(self, group: Group, most: int, since: float, until: float) -> list[Record]:
        """Return the records of at most `most` sessions of a group, spread over a span, and those of the server."""
        name, _, version = group.bundle.partition("@")
        columns = {"bundle": name, "bundle_version": version}
        columns |= {"channel": group.channel, "tenant_class": group.tenant_class}
        if group.tenant not in ("", OTHER_TENANTS):
            columns["tenant"] = group.tenant
        if group.arm != "champion":  # that of a canary's sessions is not the route's alone
            columns["arm"] = group.arm
        found = sampled(self.store.engine, most, since, until, **columns)
        return [one for one in found if one.kind == "system" or is_of(group, one)]

    def cases(self, records: list[Record]) -> Cases:
        """Return one case for each session among the records."""
        return joined(self.spec, records, self._known)


def is_of(group: Group, record: Record) -> bool:
    """Whether a record is of a group's traffic, or of a probe."""
    if record.kind == "probe":
        return True
    mine = (record.tenant_class, record.channel, record.arm) == (group.tenant_class, group.channel, group.arm)
    # A canary's sessions belong to the same traffic: the router decides how many there are.
    mine = mine or (record.tenant_class, record.channel, group.arm) == (group.tenant_class, group.channel, "champion")
    return mine and group.tenant in ("", OTHER_TENANTS, record.tenant)
