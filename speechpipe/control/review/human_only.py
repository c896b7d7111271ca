"""Uploads that only a reviewer answers: their audio is stored, and the cascade is not run."""

from typing import BinaryIO

from speechpipe.cascade.audio.source import AudioSource
from speechpipe.control.review.job_repository import Job
from speechpipe.control.review.service import reviewing_of
from speechpipe.errors import SpeechpipeError, StoreUnavailable
from speechpipe.serving.hooks import CompletedSession
from speechpipe.serving.service import Service
from speechpipe.serving.transcription.transcriber import TranscriptionRequest
from speechpipe.types import SAMPLE_RATE_HZ


def hand_over(service: Service, file: BinaryIO, asked: TranscriptionRequest, job: Job) -> None:
    """Store the audio of an upload and create the review tasks for its text.

    Raises:
        BadInput: the file cannot be read.
        StoreUnavailable: the audio or the tasks cannot be stored.
    """
    reviewing = reviewing_of(service)
    source = AudioSource(file, asked.choice, asked.max_s)
    ids = asked.session_ids(source.sessions)
    keepers = [reviewing.hold(session_id) for session_id in ids]
    try:
        if None in keepers:
            raise StoreUnavailable("the audio cannot be stored for a reviewer")
        samples = [0] * len(ids)
        for blocks in source.blocks():
            for channel, block in enumerate(blocks):
                keepers[channel].feed(block)  # type: ignore[union-attr]
                samples[channel] += len(block)
        source.check_not_empty()
    except SpeechpipeError:
        _close(keepers)
        reviewing.discard(ids)
        raise
    finally:
        source.close()
    _close(keepers)
    sessions = [
        CompletedSession(session_id, asked.tenant, "upload", None, count / SAMPLE_RATE_HZ)
        for session_id, count in zip(ids, samples, strict=True)
    ]
    reviewing.take(sessions, asked.terms, job, shadowed=False)


def _close(keepers: list) -> None:  # type: ignore[type-arg]
    for keeper in keepers:
        if keeper is not None:
            keeper.close()
