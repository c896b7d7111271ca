"""API keys: `Authorization: Bearer KEY` or `Token KEY`, compared in constant time."""

import hashlib
import hmac
from collections.abc import Sequence

from speechpipe.errors import Unauthorized

ANONYMOUS = "anonymous"


def caller(authorization: str | None, keys: Sequence[str]) -> str:
    """Return who calls: a short digest of the key (never the key), or `anonymous` where no keys are set.

    Raises:
        Unauthorized: keys are set and this is none of them.
    """
    if not keys:
        return ANONYMOUS
    scheme, _, given = (authorization or "").partition(" ")
    given = given.strip()
    if scheme.lower() not in ("bearer", "token") or not given:
        raise Unauthorized("no API key; send `Authorization: Bearer KEY`", cause="missing_api_key")
    # Every key is compared, so that the time taken does not tell which one was nearly right.
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    if not any(matches):
        raise Unauthorized("incorrect API key")
    return "key-" + hashlib.sha256(given.encode()).hexdigest()[:12]
