"""The engine: bundles, VADs and worker pools, of which it makes sessions.

It knows the services beside sessions, which keep or copy their audio, by the protocols of `hooks.py` and
`cascade/request.py`. `speechpipe.app` makes it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from speechpipe.cascade.audio.retention import AudioRetention
from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.factories import recognizer, segmenter
from speechpipe.cascade.recognition import OnUtterance
from speechpipe.cascade.request import Mirror, SessionRequest, both, new_session_id
from speechpipe.cascade.session import Session, SessionOptions, Taps
from speechpipe.cascade.vad import Vad
from speechpipe.cascade.vad.loaded import LoadedVads
from speechpipe.cascade.workers.pool import RecognizerPool
from speechpipe.config import Settings
from speechpipe.errors import NotReady
from speechpipe.foundation.storage.record import Record
from speechpipe.serving.assignment import CHAMPION_NAMES
from speechpipe.serving.hooks import Reviews
from speechpipe.serving.pools import PoolManager
from speechpipe.serving.routing import Assignment, Router
from speechpipe.types import Bundle, Component, Scalar


@dataclass(frozen=True)
class Cascade:
    """The parts of which sessions are made."""

    catalogue: Catalogue
    pools: PoolManager
    vads: LoadedVads
    router: Router
    kept_audio: AudioRetention


class Engine:
    """Opens sessions. Thread-safe, and unchanged once it is made."""

    def __init__(
        self, settings: Settings, cascade: Cascade, mirror: Mirror | None = None, reviews: Reviews | None = None
    ) -> None:
        """Make sessions of the parts of `cascade`. `mirror` is offered a copy of each, `reviews` the audio of some."""
        self._settings = settings
        self.catalogue = cascade.catalogue
        self.pools = cascade.pools
        self._vads = cascade.vads
        self.router = cascade.router
        self.kept_audio = cascade.kept_audio
        self._mirror = mirror
        self._reviews = reviews

    def bundle(self, name: str, changes: Mapping[str, Scalar] | None = None) -> Bundle:
        """Return the bundle that a client names, with changed parameters.

        The champion's name returns the champion, even if there are other versions of that name.

        Raises:
            UnknownName: there is no such bundle, or its weights are missing.
            InvalidParameter: a parameter is unknown, or a value is out of bounds.
        """
        bundle = self.champion if name in (*CHAMPION_NAMES, self.champion.name) else self.catalogue.bundle(name)
        self.catalogue.require(bundle)
        return self.catalogue.changed(bundle, changes) if changes else bundle

    @property
    def champion(self) -> Bundle:
        """The bundle for `default` and `whisper-1`, except in canary sessions."""
        return self.router.snapshot.champion

    def pin(self, tenant: str, user: str = "", session_id: str = "") -> Assignment:
        """Return the assignment of a new session. Sessions of the same user of a tenant get the same arm."""
        return self.router.pin(f"{tenant}:{user}" if user else session_id or new_session_id(), returns=bool(user))

    def vad(self, component: Component) -> Vad:
        """Return the VAD of a component; loaded once for equal options.

        Raises:
            StageFailed, ImportError: it cannot be loaded.
        """
        return self._vads.get(component)

    def session(self, bundle: Bundle, request: SessionRequest, on_utterance: OnUtterance = lambda _: None) -> Session:
        """Open a session on `bundle`. `on_utterance` is called on the session's thread for each utterance."""
        vad = self.vad(bundle.vad)
        session_id = request.session_id or new_session_id()
        spec = recognizer(bundle.asr)
        pool = self.pools.pool(spec, offline=request.decode.offline, session_id=request.session_id or "")
        kept = self.kept_audio.open(session_id) if request.session_id else None
        copy = self._mirror.open(bundle, request) if self._mirror is not None and request.session_id else None
        held = self._reviews.hold(session_id) if self._reviews is not None and request.held else None
        if copy is not None:
            on_utterance = both(copy.heard, on_utterance)
        return Session(
            SessionOptions(
                id=session_id,
                vad=vad,
                segmenter=segmenter(bundle, vad.frame_samples, spans_s=request.spans_s, manual=request.manual),
                open_job=lambda decode, before: pool.open(spec, decode, session_id, before),
                decode=request.decode,
                max_pending_s=self._settings.max_pending_s,
                feed_step=request.feed_step,
                listener=request.listener,
                tap=Taps([tap for tap in (kept, copy, held) if tap is not None]),
            ),
            on_utterance,
        )

    def ended(self, record: Record) -> None:
        """The session of this record has ended: its pool may be retired, and its copy can be compared."""
        self.pools.release(record.session_id)
        if self._mirror is not None:
            self._mirror.end(record)

    @property
    def pool(self) -> RecognizerPool:
        """The champion's pool for uploads and files."""
        return self.pools.pair(recognizer(self.champion.asr)).files

    @property
    def live_pool(self) -> RecognizerPool:
        """The champion's pool for live audio.

        Raises:
            NotReady: the engine was made without live audio.
        """
        pool = self.pools.pair(recognizer(self.champion.asr)).live
        if pool is None:
            raise NotReady("this service does not support live audio")
        return pool
