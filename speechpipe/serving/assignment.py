"""The request of a client, and the choice of a bundle for its session: bundle, arm, tenant and record measures."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from speechpipe.cascade.asr import HOTWORDS, PROMPT, DecodeOptions
from speechpipe.cascade.request import new_session_id
from speechpipe.foundation.storage.record import Measure
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.biasing import MOST_TERMS, merged, plain
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
    hotwords: tuple[str, ...] = field(default=(), kw_only=True)  # the client's, checked
    listed: tuple[str, ...] = field(default=(), kw_only=True)  # those of the tenant's list
    translate: bool = field(default=False, kw_only=True)
    tenant: str = field(default="", kw_only=True)
    id: str = field(default_factory=new_session_id, kw_only=True)
    arm: str = field(default=CHAMPION, kw_only=True)
    route: Mapping[str, Measure] = field(default_factory=dict, kw_only=True)
    terms: EffectivePolicy = field(default=NOT_FOLLOWED, kw_only=True)

    def session_ids(self, sessions: int) -> list[str]:
        """Return the ids of the request's sessions; `sessions` is their number."""
        return [self.id] if sessions == 1 else [f"{self.id}-c{number}" for number in range(sessions)]

    def decode(self, *, offline: bool) -> DecodeOptions:
        """Return the options for the recognizer, with what it takes of the prompt and the hotwords."""
        takes = self.bundle.asr.takes
        return DecodeOptions(
            offline=offline,
            language=self.language,
            prompt=plain(self.prompt) if self.prompt and PROMPT in takes else None,
            translate=self.translate,
            hotwords=merged(self.hotwords, self.listed) if HOTWORDS in takes else (),
        )

    @property
    def biasing(self) -> Mapping[str, Measure]:
        """Measures for the record: how many hotwords the recognizer got, and whether a prompt; never the words."""
        decode = self.decode(offline=True)
        prompted, translated = int(decode.prompt is not None), int(decode.translate)
        return {"asr.hotwords": len(decode.hotwords), "asr.prompted": prompted, "asr.translated": translated}

    @property
    def not_honoured(self) -> list[Notice]:
        """Notices about parameters that this bundle does not support."""
        notices = []
        known = self.bundle.languages
        if self.language and "*" not in known and self.language.lower().split("-")[0] not in known:
            message = f"{self.bundle.name} supports {', '.join(known)}; language {self.language!r} was ignored"
            notices.append(Notice("language_not_supported", message))
        takes = self.bundle.asr.takes
        if self.prompt and PROMPT not in takes:
            notices.append(Notice("prompt_ignored", f"{self.bundle.asr.name} takes no prompts"))
        if self.hotwords and HOTWORDS not in takes:
            notices.append(Notice("parameter_ignored", f"{self.bundle.asr.name} takes no hotwords"))
        elif len(merged(self.hotwords, self.listed)) < len({*self.hotwords, *self.listed}):
            message = f"of the hotwords of the request and of the tenant only the first {MOST_TERMS} were used"
            notices.append(Notice("parameter_ignored", message))
        return notices


def unit(key: str) -> str:
    """Return the digest of a routing key for records, which must not contain the key itself."""
    return hashlib.blake2b(key.encode(), digest_size=8).hexdigest()
