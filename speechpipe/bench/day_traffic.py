"""Healthy traffic with the rhythm of days and weeks: several groups, whose rate and mix change by the hour.

The figures of the stages are those of the laboratory's sessions (`laboratory.py`). Who speaks, how loud, beside what
noise, how long, how many at once, and so how long they wait, are drawn here. Nothing breaks.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from speechpipe.bench.faults.behaviour import Habits
from speechpipe.bench.laboratory import ClipResult
from speechpipe.cascade.evaluation.manifest import Clip
from speechpipe.foundation.storage.record import Measure, Record
from speechpipe.serving.telemetry.records import feedback_record

HOUR_S, DAY_S = 3_600.0, 86_400.0
SYSTEM_EVERY_S = 10.0

WORKING = (0, 0, 0, 0, 0, 0, 2, 10, 45, 95, 110, 90, 55, 60, 95, 105, 80, 40, 10, 3, 1, 0, 0, 0)
"""Relative rates of the hours of a working day in an office."""
PRIVATE = (6, 3, 2, 1, 1, 4, 20, 50, 60, 40, 35, 40, 55, 45, 40, 45, 60, 80, 95, 100, 90, 65, 35, 15)
"""Those of people at home and on the way."""

CLIPS_A_SESSION = 1.6
PEAK_LOAD = 0.6
"""Share of the workers that is busy in the busiest hour of a usual week."""

DAY_SPREAD, HOUR_SPREAD = 0.10, 0.08
"""Standard deviations of the logarithm of a day's and an hour's traffic."""


@dataclass(frozen=True)
class Part:
    """One group of traffic. `share` is of the utterances of a working day; `weekend` is the factor of its rate then."""

    tenant_class: str
    tenant: str
    channel: str
    share: float
    hours: tuple[int, ...]
    weekend: float
    people: int


PARTS = (
    Part("consumer", "", "upload", 0.35, PRIVATE, 1.1, 2_000),
    Part("consumer", "", "listen", 0.25, PRIVATE, 1.2, 1_500),
    Part("enterprise", "acme", "upload", 0.25, WORKING, 0.05, 60),
    Part("enterprise", "globex", "realtime", 0.15, WORKING, 0.3, 40),
)


class People:
    """Those who speak in a part of the traffic: each has a voice, a level, a room, and hours at which they come."""

    def __init__(self, part: Part, speakers: Sequence[str], random: np.random.Generator) -> None:
        count = part.people
        self.speaker = random.choice(len(speakers), count, p=random.dirichlet(np.full(len(speakers), 5.0)))
        self.level_db = random.normal(0.0, 3.0, count)
        self.snr_db = random.normal(0.0, 3.0, count)
        self.confidence = random.normal(0.0, 0.01, count)
        self.clips = random.random(count) < 0.01  # an overdriven microphone
        self._often = random.lognormal(0.0, 0.7, count)
        self._hour = random.uniform(0.0, 24.0, count)
        self._random = random

    def draw(self, hour: float, count: int) -> npt.NDArray[np.int64]:
        """Return who comes at an hour of the day (0..24)."""
        near = np.exp(1.5 * np.cos((self._hour - hour) * math.pi / 12))
        weights = self._often * near
        return np.asarray(self._random.choice(len(weights), count, p=weights / weights.sum()))


class Traffic:
    """Draws the records of a time span. Times are unix seconds, hours those of UTC."""

    def __init__(
        self, clips: Sequence[Clip], healthy: Sequence[ClipResult], utterances_a_day: float, seed: int
    ) -> None:
        """Draw from these sessions of the laboratory, at so many utterances on a working day of all parts together."""
        self._random = np.random.default_rng(seed)
        speakers = sorted({clip.speaker for clip in clips})
        self._of_speaker = [[one for one in healthy if clips[one.clip].speaker == name] for name in speakers]
        self._people = [People(part, speakers, self._random) for part in PARTS]
        self._a_day = utterances_a_day
        self._days: dict[tuple[int, int], npt.NDArray[np.float64]] = {}
        self._number = 0
        self._busiest = max(sum(self._usual(part, float(hour), weekend=False) for part in PARTS) for hour in range(24))
        self._load_noise = 0.0
        self._systems_until = 0.0
        self._later: list[Record] = []  # what people will say of utterances

    def _usual(self, part: Part, hour: float, *, weekend: bool) -> float:
        """Return the usual utterances a second of a part at an hour of the day (0..24)."""
        rates = [*part.hours, part.hours[0]]
        relative = float(np.interp((hour - 0.5) % 24, np.arange(25), rates))
        rate = self._a_day * part.share * relative / sum(part.hours) / HOUR_S
        return rate * part.weekend if weekend else rate

    def _rate(self, number: int, at: float) -> float:
        """Return the utterances a second of part `number` at a time, with what differs from day to day."""
        day = int(at // DAY_S)
        if (number, day) not in self._days:
            hours = self._random.normal(0.0, HOUR_SPREAD, 24) + self._random.normal(0.0, DAY_SPREAD)
            self._days[number, day] = np.exp(hours)
        weekend = (day + 3) % 7 >= 5  # the first of January 1970 was a Thursday
        hour = at % DAY_S / HOUR_S
        return self._usual(PARTS[number], hour, weekend=weekend) * float(self._days[number, day][int(hour)])

    def load(self, at: float) -> float:
        """Return the share of the workers that is busy at a time."""
        rate = sum(self._rate(number, at) for number in range(len(PARTS)))
        return min(0.95, max(0.01, rate / self._busiest * PEAK_LOAD * (1 + self._load_noise)))

    def between(self, since: float, until: float) -> list[Record]:
        """Return the records of a time span, by time. Call with spans that follow each other, of minutes at most."""
        self._load_noise = 0.9 * self._load_noise + self._random.normal(0.0, 0.03)
        load = self.load(since)
        found = self._systems(since, until, load)
        for number, part in enumerate(PARTS):
            count = int(self._random.poisson(self._rate(number, since) / CLIPS_A_SESSION * (until - since)))
            hour = since % DAY_S / HOUR_S
            for person in self._people[number].draw(hour, count).tolist() if count else ():
                at = float(self._random.uniform(since, until))
                found += self._session(part, self._people[number], person, at, load)
        due = [record for record in self._later if record.at < until]
        self._later = [record for record in self._later if record.at >= until]
        return sorted(found + due, key=lambda record: record.at)

    def _systems(self, since: float, until: float, load: float) -> list[Record]:
        self._systems_until = max(self._systems_until, since)
        found = []
        while self._systems_until < until:
            self._number += 1
            found.append(self._system(self._systems_until, load))
            self._systems_until += SYSTEM_EVERY_S
        return found

    def _system(self, at: float, load: float) -> Record:
        random = self._random
        measures: dict[str, Measure] = {
            "system.records_lost": 0.0,
            "system.webhooks_lost": 0.0,
            "software.restarts": 0.0,
            "software.hung": 0.0,
            "software.refused": 0.0,
            "software.queue_depth": float(random.poisson(2 * load**4)),
            "software.loop_lag_s": float(0.002 * (1 + 3 * load) * random.lognormal(0.0, 0.5)),
            "software.cpu_share": min(1.0, max(0.0, load + float(random.normal(0.0, 0.05)))),
            "software.load_share": min(1.0, max(0.0, load + float(random.normal(0.0, 0.03)))),
            "software.rss_mb": 880.0 + 120.0 * load + float(random.normal(0.0, 20.0)),
            "software.open_streams": float(random.poisson(8 * load)),
        }
        return Record("system", f"y{self._number}", "", at, "", "", "", tenant_class="", measures=measures)

    # ---- sessions ----

    def _session(self, part: Part, people: People, person: int, at: float, load: float) -> list[Record]:
        """Return a session's record and those of its utterances; what is said of them later is kept until then."""
        random = self._random
        self._number += 1
        name = f"s{self._number}"
        hour = at % DAY_S / HOUR_S
        longer = 1.0 + 0.5 * math.cos((hour - 21.0) * math.pi / 12)  # people talk longest in the evening
        if part.channel == "upload" and random.random() < 0.003:
            return [self._named(part, self._of_speaker[0][0].session, name, name, at, "undecodable_audio", {})]
        mine = self._of_speaker[int(people.speaker[person])]
        count = 1 + int(random.poisson((CLIPS_A_SESSION - 1) * longer))
        chosen = [mine[index] for index in random.integers(0, len(mine), count).tolist()]
        noise_db = float(random.normal(0.0, 1.5) + self._street_db(hour, part) - people.snr_db[person])
        level_db = float(people.level_db[person] + random.normal(0.0, 2.0))
        heard = {"level": level_db, "noise": noise_db, "confidence": float(people.confidence[person])}
        if random.random() < 0.015:  # a pocket, or a person who has changed their mind
            chosen = []
        units: list[Record] = []
        waits = 0.0
        begun_s = 0.0  # of the recording in the session
        for one in chosen:
            for unit in one.units:
                unit_at = at + 0.5 * len(units)
                wait, measures = self._unit(part, unit, heard, load)
                waits = max(waits, wait)
                empty = random.random() < 0.012 * math.exp(noise_db / 8)
                measures["vad.start_s"] = begun_s + unit.number("vad.start_s")
                gone = {key: None for key in measures if key.startswith("asr.") and _of_text(key)} if empty else {}
                made = f"{name}-{len(units)}"
                outcome = "empty" if empty else unit.outcome
                units.append(self._named(part, unit, made, name, unit_at, outcome, {**measures, **gone}))
                self._say(units[-1], 1.0 if empty else one.wrong)
            begun_s += one.session.number("input.duration_s")
        left = part.channel == "upload" and random.random() < (0.08 if waits > 3.0 else 0.003)
        base = chosen or [mine[0]]
        measures = self._whole(part, base, heard, load, silent=not chosen)
        measures["input.clipped_share"] = 0.004 if people.clips[person] and random.random() < 0.7 else 0.0
        session = self._named(
            part, base[0].session, name, name, at + 0.5 * len(units), "client_gone" if left else "ok", measures
        )
        return [*units, session]

    def _street_db(self, hour: float, part: Part) -> float:
        """Return how much louder the surroundings are at an hour: on the way to work and back, people are outside."""
        if part.tenant_class == "enterprise":
            return 1.0 if 10 <= hour < 16 else 0.0
        return 4.0 * math.exp(-((hour - 8.0) ** 2) / 2) + 3.0 * math.exp(-((hour - 18.0) ** 2) / 3)

    def _unit(
        self, part: Part, unit: Record, heard: Mapping[str, float], load: float
    ) -> tuple[float, dict[str, Measure]]:
        """Return how long the text of an utterance was waited for, and its measures."""
        random = self._random
        cpu = unit.number("asr.cpu_s", 0.3)
        wall = cpu * float(random.lognormal(0.15, 0.12)) * (1 + 0.4 * load)
        queue = float(random.exponential(0.02))
        if random.random() < load**4 / 2:
            queue += float(random.exponential(0.4 * load / (1 - load)))
        confidence = unit.measures.get("asr.confidence")
        noisy = 0.004 * heard["noise"]
        measures: dict[str, Measure] = {
            **unit.measures,
            "asr.wall_s": wall,
            "asr.queue_s": queue,
            **self._shifted(unit.measures, heard),
            "vad.mean_probability": min(
                0.999, unit.number("vad.mean_probability", 0.95) - noisy / 2 + float(random.normal(0.0, 0.008))
            ),
        }
        for name, spread in (("vad.segment_s", 0.08), ("asr.words_per_s", 0.05), ("asr.characters_per_s", 0.05)):
            measures[name] = unit.number(name) * float(random.lognormal(0.0, spread))
        if isinstance(confidence, float | int):
            value = confidence - noisy + heard["confidence"] + float(random.normal(0.0, 0.02))
            measures["asr.confidence"] = min(0.995, max(0.05, value))
        wait = wall + queue
        if part.channel != "upload":
            wait = 0.06 + 0.2 * wall + 0.5 * queue
            measures |= {
                "live.endpoint_to_final_s": wait,
                "live.endpoint_delay_s": float(random.choice([0.5, 0.5, 0.55, 0.6]) + random.exponential(0.01)),
                "live.resumed": int(random.random() < 0.02),
                "live.partial_lag_s": 0.1 + float(random.exponential(0.05)) + 0.3 * queue,
                "live.churn": float(random.beta(1.0, 8.0)),
            }
        return wait, measures

    def _whole(
        self, part: Part, chosen: Sequence[ClipResult], heard: Mapping[str, float], load: float, *, silent: bool
    ) -> dict[str, Measure]:
        """Return the measures of a session that consists of these."""
        random = self._random
        first = chosen[0].session
        duration_s = sum(one.session.number("input.duration_s") for one in chosen) * float(random.lognormal(0.0, 0.05))
        units = 0 if silent else sum(len(one.units) for one in chosen)
        speech_s = 0.0 if silent else sum(one.session.number("vad.speech_s") for one in chosen)
        work_s = sum(unit.number("asr.cpu_s") for one in chosen for unit in one.units) * (1 + 0.4 * load)
        received = round(duration_s * 16_000)
        more: dict[str, Measure] = {}
        if part.channel != "upload":
            more["live.unended"] = int(random.random() < 0.03)
        return {
            **first.measures,
            **more,
            **self._shifted(first.measures, heard),
            "input.duration_s": duration_s,
            "input.claimed_s": duration_s,
            "input.stretches": 0 if silent else sum(one.session.number("input.stretches") for one in chosen),
            "input.decode_wall_s": 0.004 * duration_s * float(random.lognormal(0.0, 0.3)),
            "software.real_time_factor": 1.0 if part.channel != "upload" else work_s / duration_s,
            "vad.segments": units,
            "vad.speech_s": speech_s,
            "vad.speech_ratio": min(1.0, speech_s / duration_s),
            "vad.triggers_per_minute": units * 60 / duration_s,
            "vad.flips_per_minute": units * 60 / duration_s,
            "vad.wall_s": 0.008 * duration_s * float(random.lognormal(0.0, 0.2)) * (1 + 0.3 * load),
            "system.received_samples": received,
            "system.in_utterances_samples": round(received * 0.7),
            "system.dropped_by_vad_samples": received - round(received * 0.7),
        }

    def _shifted(self, measures: Mapping[str, Measure], heard: Mapping[str, float]) -> dict[str, Measure]:
        """Return level, noise and band of a recording, as this person in this place makes them."""
        random = self._random
        known = {name: float(value) for name, value in measures.items() if isinstance(value, int | float)}
        return {
            "input.level_dbfs": known.get("input.level_dbfs", -26.0) + heard["level"],
            "input.snr_db": max(0.0, known.get("input.snr_db", 30.0) - heard["noise"] + float(random.normal(0.0, 1.0))),
            "input.bandwidth_hz": known.get("input.bandwidth_hz", 3500.0) * float(random.lognormal(0.0, 0.08)),
            "input.high_band_share": known.get("input.high_band_share", 0.01) * float(random.lognormal(0.0, 0.3)),
            "input.dc_offset": known.get("input.dc_offset", 0.0) + float(random.normal(0.0, 1e-4)),
        }

    def _say(self, unit: Record, wrong: float) -> None:
        for kind in Habits().draw(wrong, self._random):
            at = unit.at + 2.0 + float(self._random.exponential(20.0))
            self._later.append(feedback_record(unit, kind, f"{unit.id}-{kind}", at))

    @staticmethod
    def _named(
        part: Part, record: Record, name: str, session: str, at: float, outcome: str, measures: Mapping[str, Measure]
    ) -> Record:
        return replace(
            record,
            id=name,
            session_id=session,
            at=at,
            outcome=outcome,
            tenant=part.tenant,
            tenant_class=part.tenant_class,
            channel=part.channel,
            measures=measures,
        )


def _of_text(name: str) -> bool:
    """Whether a measure of the recognizer tells of the text, and not of the time that it took."""
    return name.removeprefix("asr.").partition("_")[0] in (
        *("confidence", "words", "characters", "compression", "oov", "edge"),
    )
