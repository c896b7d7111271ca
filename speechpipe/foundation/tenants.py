"""Tenants: the name that stands for an API key in records, histories and policies."""

import hashlib

ANONYMOUS = "anonymous"
"""The tenant of all callers of a server without keys."""


def tenant_of(key: str) -> str:
    """Return the tenant of an API key: the first 12 hexadecimal digits of its SHA-256, after `key-`."""
    return "key-" + hashlib.sha256(key.encode()).hexdigest()[:12]
