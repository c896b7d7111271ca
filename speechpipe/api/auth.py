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


def of_socket(authorization: str | None, offered: Sequence[str]) -> tuple[str | None, str | None]:
    """Return (authorization, subprotocol to accept) of a websocket: browsers can send a key as a subprotocol only.

    `token, KEY` and `bearer, KEY` are Deepgram's; `realtime, openai-insecure-api-key.KEY` is OpenAI's.
    """
    if authorization is None and len(offered) >= 2 and offered[0].lower() in ("token", "bearer"):
        return f"Token {offered[1]}", offered[0]
    prefix = "openai-insecure-api-key."
    key = next((item.removeprefix(prefix) for item in offered if item.startswith(prefix)), None)
    chosen = "realtime" if "realtime" in offered else None
    return (authorization or (f"Bearer {key}" if key else None)), chosen
