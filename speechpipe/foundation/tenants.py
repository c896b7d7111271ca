"""What a caller's key is called wherever it must be named: histories, records, policies. Never the key."""

import hashlib

ANONYMOUS = "anonymous"
"""The tenant of everybody where the server has no keys."""


def tenant_of(key: str) -> str:
    """Return the tenant of an API key."""
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:12]
