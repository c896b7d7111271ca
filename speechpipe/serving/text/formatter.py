"""The formatter of one session: writes its texts as the client asked, and says what it could not do."""

from collections.abc import Sequence
from dataclasses import replace

from speechpipe.serving.text import TextOptions
from speechpipe.serving.text.numerals import numerals, settled
from speechpipe.serving.text.plain import plain
from speechpipe.serving.text.profanity import ProfanityLists, Words
from speechpipe.serving.text.tokens import Token, aligned, joined, of_text, of_words
from speechpipe.types import Notice, NullCause, Transcript, Utterance


def is_english(language: str) -> bool:
    """Whether a language code is one of English."""
    return language.lower().replace("_", "-").split("-")[0] == "en"


def rewritten(tokens: Sequence[Token], options: TextOptions, words: Words, *, english: bool) -> list[Token]:
    """Return tokens as `options` say. Punctuation goes last: until then it says which numbers belong together."""
    found = list(tokens)
    if options.digits and english:
        found = numerals(found, smart=options.smart_format)
    if options.profanity_filter:
        found = words.mask(found)
    return plain(found) if options.punctuate is False else found


class TextFormatter:
    """Formats texts of one session. Called by one thread at a time."""

    def __init__(
        self,
        options: TextOptions,
        languages: Sequence[str],
        language: str | None,
        lists: ProfanityLists,
        tenant: str,
        unpunctuated: str = "",
        written: str = "",
    ) -> None:
        """Format texts.

        Args:
            options: what the client asked.
            languages: those that the bundle knows; "*" = many.
            language: the language that the client named.
            lists: the words that tenants want masked.
            tenant: whose session it is.
            unpunctuated: the name of the recognizer, if it writes no punctuation.
            written: the language of the texts, if it is known and not the one that is spoken.
        """
        self.options = options
        self._unpunctuated = unpunctuated
        self._words = {english: lists.of(tenant, english=english) for english in (True, False)}
        known = [item.lower().split("-")[0] for item in languages]
        named = (language or "").lower().split("-")[0]
        supported = named if named in known or "*" in known else ""
        self._written = written
        self._language = written or supported or (known[0] if len(known) == 1 and known[0] != "*" else "")
        self._others: set[str] = set()  # languages, other than English, that were spoken

    def transcript(self, transcript: Transcript) -> Transcript:
        """Return a transcript written as asked; one whose text was nothing but punctuation may have none."""
        if not self.options.changes or not transcript.text:
            return transcript
        language = self._written or transcript.language or self._language
        self._heard(language)
        tokens = aligned(transcript.text, transcript.words)
        if tokens is None:
            text = joined(self._rewritten(of_text(transcript.text), language))
            tokens = self._rewritten(of_words(transcript.words), language)
        else:
            tokens = self._rewritten(tokens, language)
            text = joined(tokens)
        if not text:
            detail = "the recognizer wrote punctuation alone"
            return replace(transcript, text="", words=(), confidence=None, null_cause=NullCause.EMPTY, detail=detail)
        return replace(transcript, text=text, words=tuple(token.word for token in tokens if token.word is not None))

    def utterance(self, utterance: Utterance) -> Utterance:
        """Return an utterance with its transcript written as asked."""
        transcript = self.transcript(utterance.transcript)
        return utterance if transcript is utterance.transcript else replace(utterance, transcript=transcript)

    def text(self, text: str) -> str:
        """Return a text without word times, written as asked."""
        return joined(self._rewritten(of_text(text), self._language)) if self.options.changes else text

    def partial(self, text: str, stable: int) -> tuple[str, int]:
        """Return an unfinished text written as asked, and how many of its characters later ones begin with.

        `stable`: the same of `text`. Numbers at its end do not count: "twenty" may become "25".
        """
        if not self.options.changes:
            return text, stable
        tokens = of_text(text[:stable])
        if self.options.digits and self._counts_as_english(self._language):
            tokens = tokens[: settled(tokens)]
        whole, beginning = self.text(text), joined(self._rewritten(tokens, self._language))
        return whole, len(beginning) if whole.startswith(beginning) else 0

    def _rewritten(self, tokens: Sequence[Token], language: str) -> list[Token]:
        words = self._words[not language or is_english(language)]
        return rewritten(tokens, self.options, words, english=self._counts_as_english(language))

    def _counts_as_english(self, language: str) -> bool:
        return bool(language) and is_english(language)

    def _heard(self, language: str) -> None:
        if not self._counts_as_english(language):
            self._others.add(language)

    @property
    def notices(self) -> list[Notice]:
        """Notices about what was asked and could not be done, as far as it is known."""
        options, found = self.options, []
        others = self._others | ({self._language} if self._language and not is_english(self._language) else set())
        what = ", ".join(sorted(other for other in others if other)) or "a language that is not known"
        if options.digits and others:
            name = "smart_format" if options.smart_format else "numerals"
            found.append(_ignored(f"{name} was not honoured: it knows English alone, and this was {what}"))
        if options.profanity_filter and {other for other in others if other}:
            found.append(_ignored(f"profanity_filter masked only words added by the operator: this was {what}"))
        if (options.punctuate or options.smart_format) and self._unpunctuated:
            found.append(_ignored(f"no punctuation was added: {self._unpunctuated} writes none"))
        return found


def _ignored(message: str) -> Notice:
    return Notice("parameter_ignored", message)
