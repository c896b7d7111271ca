"""Lists of hotwords in a real database: whole lists, by tenant, with revisions."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from speechpipe.control.review.hotwords import HotwordLists, HotwordService
from speechpipe.control.review.scopes import Scopes
from speechpipe.errors import Conflict, InvalidParameter, UnknownName
from speechpipe.foundation.storage.store import Store
from tests.databases import DATABASES


@pytest.fixture(params=DATABASES, ids=str)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    with request.param.ready(tmp_path) as url:
        found = Store(url)
        yield found
        found.close()


def test_lists_are_replaced_as_a_whole_by_who_has_seen_them(store: Store) -> None:
    lists = HotwordLists(lambda: store.engine, lambda: 7.0)
    assert lists.lists() == {}
    first = lists.set("acme", ["Okonkwo", " Zoë  Ng ", "Okonkwo", ""], "ann")
    assert (first.terms, first.revision, first.changed_at, first.actor) == (("Okonkwo", "Zoë Ng"), 1, 7.0, "ann")
    assert lists.lists() == {"acme": first}
    second = lists.set("acme", [], "bob", revision=1)
    assert (second.terms, second.revision) == ((), 2)
    with pytest.raises(Conflict, match="has revision 2, not 1"):
        lists.set("acme", ["x"], "ann", revision=1)
    with pytest.raises(InvalidParameter, match="at most 100"):
        lists.set("acme", [f"{number}" for number in range(101)], "ann")
    with pytest.raises(InvalidParameter, match="a scope is a tenant"):
        lists.set("a\nb", ["x"], "ann")
    assert lists.lists() == {"acme": second}


def test_a_tenants_own_list_applies_also_if_it_is_empty(store: Store) -> None:
    lists = HotwordLists(lambda: store.engine)
    service = HotwordService(lists, Scopes(lambda: store.engine))
    assert service.of("acme") == ()
    lists.set("default", ["Okonkwo"], "another process")
    assert service.of("acme") == (), "from memory"
    service.refresh()
    assert service.of("acme") == ("Okonkwo",)
    with pytest.raises(UnknownName):
        service.set("acme", ["Ng"], "ann")
    assert service.set("acme", ["Ng"], "ann", force=True)[0] == "acme"
    assert (service.of("acme"), service.of("zeta")) == (("Ng",), ("Okonkwo",))
    service.set("acme", [], "ann")
    assert service.of("acme") == ()
