"""Who answers a session, and what a client asks of it: the bundle, the arm of an experiment, whose it is."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.cascade.request import new_session_id
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.types import Bundle, Notice

CHAMPION_NAMES = ("default", "whisper-1")
"""Model names that clients send without choosing; both mean whoever the route says."""

CHAMPION, CANARY, SHADOW = "champion", "canary", "shadow"
"""Arms, as records carry them."""

NAMED = "named"
"""The arm of sessions whose client named a bundle that is not the champion: of no experiment."""

ROLLOUT, STEP, UNIT = "route.rollout", "route.step", "route.unit"
"""Measures by which a record says to which experiment it belongs; `UNIT` is who was randomised."""

MIRRORED = "route.mirrored"
"""A candidate in shadow hears a copy."""

FAILOVER = "route.failover"
"""The other arm answered: this one had no worker."""


@dataclass(frozen=True)
class Choice:
    """The bundle that a session is pinned to, the arm it is on, and what its records say of that."""

    bundle: Bundle
    arm: str = CHAMPION
    route: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class ClientRequest:
    """What a client asks, of a file or of live audio, with what was decided when it came: bundle, arm and policy.

    An upload or a stream has one session for all channels, or one for each.
    """

    bundle: Bundle
    channel: str = field(kw_only=True)  # the interface it came through: upload | listen | realtime | cli
    language: str | None = field(default=None, kw_only=True)
    prompt: str | None = field(default=None, kw_only=True)
    tenant: str = field(default="", kw_only=True)
    id: str = field(default_factory=new_session_id, kw_only=True)
    arm: str = field(default=CHAMPION, kw_only=True)
    route: Mapping[str, Measure] = field(default_factory=dict, kw_only=True)
    terms: EffectivePolicy = field(default=NOT_FOLLOWED, kw_only=True)

    def session_ids(self, sessions: int) -> list[str]:
        """Return the ids of its sessions, of which there are so many."""
        return [self.id] if sessions == 1 else [f"{self.id}-c{number}" for number in range(sessions)]

    @property
    def not_honoured(self) -> list[Notice]:
        """What was asked and this bundle cannot honour."""
        notices = []
        spoken = self.bundle.languages
        if self.language and "*" not in spoken and self.language.lower().split("-")[0] not in spoken:
            message = f"{self.bundle.name} knows {', '.join(spoken)}; language {self.language!r} was not honoured"
            notices.append(Notice("language_not_supported", message))
        if self.prompt:
            notices.append(Notice("prompt_ignored", f"{self.bundle.name} takes no prompt"))
        return notices


def unit(key: str) -> str:
    """Return the digest by which records say who was randomised: never the key."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
