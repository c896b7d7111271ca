"""The service: the parts of a server or of a command that transcribes, and their life. `speechpipe.app` makes it."""

import contextlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from speechpipe.cascade.catalog.download import Listener
from speechpipe.cascade.catalog.first_use import ensure
from speechpipe.cascade.request import Mirror
from speechpipe.config import Settings
from speechpipe.errors import SpeechpipeError
from speechpipe.foundation.background import BackgroundTask, BackgroundTasks
from speechpipe.monitor.exposition import Exposition
from speechpipe.serving.admission import Admission
from speechpipe.serving.assignment import ClientRequest
from speechpipe.serving.automation.policy import NOT_FOLLOWED, EffectivePolicy
from speechpipe.serving.engine import Engine
from speechpipe.serving.hooks import Reviews, Watcher
from speechpipe.serving.readiness import Readiness
from speechpipe.serving.record_sink import RecordSink
from speechpipe.serving.refusals import Refusals
from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.formatter import TextFormatter
from speechpipe.serving.text.profanity import ProfanityLists
from speechpipe.types import Bundle

if TYPE_CHECKING:  # importing SQLAlchemy would slow the start of the command line
    from speechpipe.foundation.storage.store import Store


@dataclass(frozen=True, eq=False, repr=False)  # the settings have keys, which no text should show
class Service:
    """The parts. Thread-safe; sessions are accepted between `open` and `close`.

    Attributes:
        settings: the server's settings.
        clock: returns Unix seconds.
        tasks: all background threads.
        engine: opens sessions.
        records: takes the records of sessions and of the server.
        exposition: the Prometheus rows.
        readiness: whether sessions are accepted.
        admission: limits uploads.
        refusals: counts requests without a result.
        preloaded: the bundles whose VADs are loaded before sessions are accepted.
        audio_sweep: deletes kept audio whose time is over.
        store: None if records are not kept.
        mirror: receives copies of sessions for a candidate in shadow, if there is one.
        reviews: the review service, if there is one.
        watcher: the monitoring service, if there is one.
        fetches: counts files of weights asked for, by kind of source and outcome.
        profanity: the words that each tenant wants masked.
    """

    settings: Settings
    clock: Callable[[], float]
    tasks: BackgroundTasks
    engine: Engine
    records: RecordSink
    exposition: Exposition
    readiness: Readiness
    admission: Admission
    refusals: Refusals
    preloaded: tuple[Bundle, ...]
    audio_sweep: BackgroundTask
    store: "Store | None" = None
    mirror: Mirror | None = None
    reviews: Reviews | None = None
    watcher: Watcher | None = None
    fetches: Counter[tuple[str, str]] = field(default_factory=Counter)
    profanity: ProfanityLists = field(default_factory=ProfanityLists)

    def fetch_weights(self, listener: Listener) -> None:
        """Fetch the weights that the preloaded bundles lack. Called before `open`; blocks, possibly for minutes.

        Raises:
            BadInput, FetchFailed: they cannot be had, or the settings do not allow fetching.
        """
        cards = [card for bundle in self.preloaded for card in self.engine.catalogue.parts(bundle)]
        ensure(cards, self.settings, listener, self.fetches)

    def open(self, before_ready: Callable[[], None] = lambda: None) -> None:
        """Start workers, store and services, load the preloaded bundles' VADs, and wait until all are ready.

        `before_ready` is called last; sessions are accepted after it has returned.

        Raises:
            WorkerLoadFailed: a recognizer cannot be loaded.
            StageFailed: a VAD cannot be loaded.
        """
        try:
            self.engine.pools.start()
            if self.store is not None:
                self.store.open()
            if self.watcher is not None:
                self.watcher.start()
            if self.reviews is not None:
                self.reviews.start()
            self.audio_sweep.start()
            for bundle in self.preloaded:
                self.engine.vad(bundle.vad)
            self.engine.pools.wait_ready()
            before_ready()
        except BaseException:
            self.close()
            raise
        self.readiness.begin()

    def close(self, drain_s: float = 0.0) -> None:
        """Finish running work for up to `drain_s` seconds, then close all parts.

        Every part is closed even if closing another raises; that error is raised at the end.
        """
        self.readiness.end()
        with contextlib.ExitStack() as steps:  # called in reverse order
            for part in (self.store, self.records, self.reviews, self.watcher, self.audio_sweep):
                if part is not None:
                    steps.callback(part.close)
            steps.callback(self.engine.pools.close, drain_s)

    def __enter__(self) -> "Service":
        self.open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def terms(self, tenant: str, bundle: Bundle) -> EffectivePolicy:
        """Return the automation policy for a new session."""
        found = self.reviews.terms(tenant, bundle.id) if self.reviews is not None else NOT_FOLLOWED
        return replace(found, table=self.engine.catalogue.confidence(bundle))

    def hotwords(self, tenant: str) -> tuple[str, ...]:
        """Return the hotwords of a tenant's list, for a new session."""
        return self.reviews.hotwords(tenant) if self.reviews is not None else ()

    def formatter(self, options: TextOptions, request: ClientRequest) -> TextFormatter:
        """Return what writes the texts of a request as its client asked."""
        bundle = request.bundle
        unpunctuated = "" if bundle.asr.punctuated else bundle.asr.name
        written = "en" if request.translate else ""
        return TextFormatter(
            options, bundle.languages, request.language, self.profanity, request.tenant, unpunctuated, written
        )

    def unready_reasons(self) -> list[str]:
        """Return why this server should get no sessions now; empty when ready."""
        full = ["the limit of uploads in progress is reached"] if self.admission.full else []
        return self.readiness.reasons() + full

    def refuse(self, error: SpeechpipeError) -> None:
        """Count a request without a result, by its cause."""
        self.refusals.add(error)
