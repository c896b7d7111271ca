"""Transcription of many files by one service: each yields its text or its error, independently of the others."""

import contextlib
import json
import shutil
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import BinaryIO

from speechpipe.cascade.evaluation import captions
from speechpipe.errors import SpeechpipeError, reason_of
from speechpipe.foundation.text_files import standard_input
from speechpipe.interfaces.cli.flags import Format
from speechpipe.interfaces.cli.progress import Progress
from speechpipe.serving.service import Service
from speechpipe.serving.text import TextOptions
from speechpipe.serving.transcription import documents
from speechpipe.serving.transcription.transcriber import Result, Transcription, TranscriptionRequest

SUFFIXES = {Format.TEXT: ".txt", Format.SRT: ".srt", Format.VTT: ".vtt"}


class Batch:
    """Transcribes as many files at once as there are workers, and reports them in the given order."""

    def __init__(
        self,
        format_: Format,
        output: Path | None,
        request: Callable[[], TranscriptionRequest],
        text: TextOptions = TextOptions(),
    ) -> None:
        self._format = format_
        self._output = output
        self._request = request
        self._text = text
        self._stop = threading.Event()
        self.results: list[tuple[str, Result]] = []

    def run(self, service: Service, files: list[str]) -> int:
        """Start the service and transcribe the files; return how many failed."""
        if self._output is not None:
            self._output.mkdir(parents=True, exist_ok=True)
        failed = 0
        targets = self._targets(files)
        missing = _missing(files)
        if all(file in missing for file in files):  # starting the service would take seconds for nothing
            with Progress(0) as progress:
                for file in files:
                    self._tell(file, missing[file], progress)
            return len(files)
        at_once = service.settings.worker_count
        with Progress(len(files)) as progress, service, self._threads(at_once) as threads:
            running: deque[Future[Result]] = deque()
            waiting = iter(files)
            for file, target in zip(files, targets, strict=True):
                # A sliding window, so that the results of thousands of files are not held in memory.
                for another in islice(waiting, 2 * at_once - len(running)):
                    running.append(threads.submit(self._transcribe, service, another, progress))
                try:
                    result = running.popleft().result()
                    text = self._render(file, result).rstrip("\n")
                    if target is not None:
                        target.write_text(text + "\n", encoding="utf-8")
                except (SpeechpipeError, OSError) as error:
                    failed += 1
                    self._tell(file, error, progress)
                    continue
                self._show(file, None if target is not None else text, result, progress, alone=len(files) == 1)
        return failed

    @contextmanager
    def _threads(self, count: int) -> Iterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(count) as threads:
            try:
                yield threads
            except BaseException:  # Ctrl-C must not wait for a long file
                self._stop.set()
                threads.shutdown(wait=False, cancel_futures=True)
                raise

    def _transcribe(self, service: Service, file: str, progress: Progress) -> Result:
        with _opened(file) as stream:
            request = self._request()
            transcription = Transcription(service, stream, request, self._stop.is_set)
            with progress.file(file, transcription.source.info.claimed_s) as advance:
                for _, utterance in transcription.run():
                    advance(utterance.end_s)
            return transcription.result.written(service.formatter(self._text, request))

    def _show(self, file: str, text: str | None, result: Result, progress: Progress, *, alone: bool) -> None:
        if text is not None and self._format is Format.TEXT and not alone:
            progress.print(f"{file}: {text}")
        elif text is not None:
            progress.print(text)
        if self._format in SUFFIXES and not result.text:  # JSON has the cause itself
            progress.say(f"speechpipe: {file}: {_why_no_text(result)}")
        for notice in result.notices:
            progress.say(f"speechpipe: {file}: {notice.message}")
        self.results.append((file, result))

    def _tell(self, file: str, error: SpeechpipeError | OSError, progress: Progress) -> None:
        reason = reason_of(error)
        progress.say(f"speechpipe: {file}: {reason}")
        if self._format is Format.JSON and self._output is None:
            cause = error.cause if isinstance(error, SpeechpipeError) else "unreadable_file"
            progress.print(json.dumps({"file": file, "error": {"cause": cause, "message": reason}}))

    def _render(self, file: str, result: Result) -> str:
        if self._format is Format.TEXT:
            return _spoken(result)
        if self._format is Format.JSON:
            return json.dumps(documents.file_document(file, result), ensure_ascii=False)
        if self._format is Format.VERBOSE_JSON:
            language = "en" if result.translated else result.bundle.languages[0]
            document = documents.verbose(result, language, frozenset({"segment", "word"}))
            return json.dumps({"file": file} | document, ensure_ascii=False)
        lines = captions.cues(utterance for _, utterance in result.utterances)
        return captions.srt(lines) if self._format is Format.SRT else captions.vtt(lines)

    def _targets(self, files: list[str]) -> list[Path | None]:
        """Return the output path of each file; inputs of the same name get different ones."""
        if self._output is None:
            return [None] * len(files)
        suffix = SUFFIXES.get(self._format, ".json")
        taken: dict[str, int] = {}
        targets: list[Path | None] = []
        for file in files:
            stem = "stdin" if file == "-" else Path(file).stem
            while (name := stem if stem not in taken else f"{stem}-{taken[stem]}") in taken:
                taken[stem] += 1
            taken[name] = 2
            targets.append(self._output / (name + suffix))
        return targets


def _spoken(result: Result) -> str:
    """Return the text; with several channels, one line for each."""
    if len(result.channels) == 1:
        return result.text
    lines = {channel.index: [one.transcript.text for one in channel.utterances] for channel in result.channels}
    return "\n".join(f"channel {index}: {' '.join(filter(None, texts))}" for index, texts in lines.items())


def _why_no_text(result: Result) -> str:
    causes = Counter(str(one.transcript.null_cause) for _, one in result.utterances)
    if not causes:
        return f"no speech was found in {result.duration_s:.1f} s"
    return "speech was found, but no text: " + ", ".join(f"{cause} ({count})" for cause, count in causes.items())


def _missing(files: list[str]) -> dict[str, OSError]:
    """Return the files that do not exist or cannot be looked up, each with the error."""
    found: dict[str, OSError] = {}
    for file in files:
        try:
            if file != "-":
                Path(file).stat()
        except OSError as error:
            found[file] = error
    return found


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """Open a file; a pipe is first copied to a temporary file, because some containers need seeking."""
    with contextlib.ExitStack() as held:
        # Without a buffer, a named pipe opens like a file and reports that it cannot seek.
        stream = standard_input() if file == "-" else held.enter_context(Path(file).open("rb", buffering=0))
        if file != "-" and stream.seekable():
            yield held.enter_context(Path(file).open("rb"))
            return
        copy = held.enter_context(tempfile.TemporaryFile())
        shutil.copyfileobj(stream, copy)
        yield copy
