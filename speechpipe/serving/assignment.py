"""The request of a client, and the choice of a bundle for its session: bundle, arm, tenant and record measures."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.cascade.request import new_session_id
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.types import Bundle, Notice

CHAMPION_NAMES = ("default", "whisper-1")
"""Model names that resolve to the bundle that the router selects."""

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
"""Arms, as they appear in records."""

NAMED = "named"
"""Arm of sessions whose client named a bundle other than the champion; they are in no experiment."""

ROLLOUT, STEP, UNIT = "route.rollout", "route.step", "route.unit"
"""Measures of a record: the rollout, its step, and the randomised unit (a digest of a user or session)."""

MIRRORED = "route.mirrored"
"""Measure: a candidate in shadow receives a copy of the session."""

FAILOVER = "route.failover"
"""Measure: the other arm's bundle answered, because this one's had no worker."""


@dataclass(frozen=True)
class Choice:
    """The bundle of a session, its arm, and the `route.*` measures of its records."""

    bundle: Bundle
    arm: str = CHAMPION
    route: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientRequest:
    """What a client asks, of a file or of live audio, with what was decided when it came: bundle, arm and policy.

    An upload or a stream has one session for all channels, or one for each.
    """

    bundle: Bundle
    channel: str = field(kw_only=True)  # the interface: upload | listen | realtime | cli
    language: str | None = field(default=None, kw_only=True)
    prompt: str | None = field(default=None, kw_only=True)
    tenant: str = field(default="", kw_only=True)
    id: str = field(default_factory=new_session_id, kw_only=True)
    arm: str = field(default=CHAMPION, kw_only=True)
    route: Mapping[str, Measure] = field(default_factory=dict, kw_only=True)
    terms: EffectivePolicy = field(default=NOT_FOLLOWED, kw_only=True)

    def session_ids(self, sessions: int) -> list[str]:
        """Return the ids of the request's sessions; `sessions` is their number."""
        return [self.id] if sessions == 1 else [f"{self.id}-c{number}" for number in range(sessions)]

    @property
    def not_honoured(self) -> list[Notice]:
        """Notices about parameters that this bundle does not support."""
        notices = []
        known = self.bundle.languages
        if self.language and "*" not in known and self.language.lower().split("-")[0] not in known:
            message = f"{self.bundle.name} supports {', '.join(known)}; language {self.language!r} was ignored"
            notices.append(Notice("language_not_supported", message))
        if self.prompt:
            notices.append(Notice("prompt_ignored", f"{self.bundle.name} does not support prompts"))
        return notices


def unit(key: str) -> str:
    """Return the digest of a routing key for records, which must not contain the key itself."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
