"""Authentication by API keys: `Authorization: Bearer KEY` or `Token KEY`, compared in constant time."""

import hmac
from collections.abc import Sequence

from speechpipe.config import Settings
from speechpipe.control.review.task_repository import Reviewer
from speechpipe.errors import Unauthorized
from speechpipe.foundation.tenants import ANONYMOUS, tenant_of


def caller(authorization: str | None, keys: Sequence[str]) -> str:
    """Return the caller: a digest of the key, or `anonymous` if no keys are configured.

    Raises:
        Unauthorized: keys are configured, and this is none of them.
    """
    if not keys:
        return ANONYMOUS
    scheme, _, given = (authorization or "").partition(" ")
    given = given.strip()
    if scheme.lower() not in ("bearer", "token") or not given:
        raise Unauthorized("no API key; send `Authorization: Bearer KEY`", cause="missing_api_key")
    # Every key is compared, so that the time taken reveals nothing.
    matches = [hmac.compare_digest(given.encode(), key.encode()) for key in keys]
    if not any(matches):
        raise Unauthorized("incorrect API key")
    return tenant_of(given)


def reviewer(authorization: str | None, settings: Settings, name: str = "") -> Reviewer:
    """Return the reviewer: of all tenants with a reviewer's or operator's key, of its own tenant with an API key.

    Raises:
        Unauthorized: keys are configured, and this is none of them.
    """
    everybody = [*settings.reviewer_keys, *settings.operator_keys]
    caller_ = caller(authorization, [*settings.api_keys, *everybody] if settings.api_keys or everybody else [])
    shown = f"{name} ({caller_})" if name else caller_
    if caller_ == ANONYMOUS or caller_ in {tenant_of(key) for key in everybody}:
        return Reviewer(shown)
    return Reviewer(shown, caller_)


def of_socket(authorization: str | None, offered: Sequence[str]) -> tuple[str | None, str | None]:
    """Return (authorization, subprotocol to accept) of a websocket. Browsers can send a key only as a subprotocol.

    `token, KEY` and `bearer, KEY` are Deepgram's forms; `realtime, openai-insecure-api-key.KEY` is OpenAI's.
    """
    if authorization is None and len(offered) >= 2 and offered[0].lower() in ("token", "bearer"):
        return f"Token {offered[1]}", offered[0]
    prefix = "openai-insecure-api-key."
    key = next((item.removeprefix(prefix) for item in offered if item.startswith(prefix)), None)
    chosen = "realtime" if "realtime" in offered else None
    return (authorization or (f"Bearer {key}" if key else None)), chosen
