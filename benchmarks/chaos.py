"""A server under upload and live load, to which something bad happens again and again, in random order.

After every fault: is it ready again within 30 s, is everything there that was acknowledged (records of answers with
200, feedback with 201, promises with 202), are the texts of answers and of finished live sessions those of an
undisturbed server, has every request ended within its bound, has the server ended by itself?

python benchmarks/chaos.py [AUDIO] [--faults 100] [--seed 1] [--only KIND] [--bundle scripted] [--postgresql]
[--record]
"""

import argparse
import random
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from chaos_faults import FAULTS, Fault
from chaos_load import Load
from chaos_subject import READY_S, Postgres, Subject, places
from measure import Figure, add_record, record
from rich.console import Console
from rich.table import Table

SETTLE_S = 5.0
"""Records are written within this time, or they are lost: the server is ready and nothing is wrong with the store."""

KILLED_S = 3.0
"""Records of answers that were given so shortly before a kill may never have been written."""

SAMPLES = Path(__file__).parents[1] / "audio_samples"


@dataclass
class Row:
    """What came of the faults of one kind."""

    count: int = 0
    ready_s: list[float] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    counted: float = 0.0  # records that the server says it lost
    wrong: list[str] = field(default_factory=list)
    hangs: list[str] = field(default_factory=list)
    deaths: list[str] = field(default_factory=list)

    @property
    def good(self) -> bool:
        """Whether nothing broke."""
        return not (self.lost or self.wrong or self.hangs or self.deaths) and max(self.ready_s, default=0) <= READY_S


class Trial:
    """One server, its load, and the rows."""

    def __init__(self, subject: Subject, load: Load, dice: random.Random) -> None:
        self._subject = subject
        self._load = load
        self._dice = dice
        self._lost_before = 0.0
        self.rows: defaultdict[str, Row] = defaultdict(Row)

    def suffer(self, name: str, fault: Fault) -> None:
        """Do one fault, and look at everything afterwards."""
        subject, load, row = self._subject, self._load, self.rows[name]
        row.count += 1
        began = time.monotonic()
        with fault.do(subject, self._dice):
            if fault.forgets:
                self._forget()
        ended = time.monotonic()
        row.ready_s.append(subject.wait_ready(2 * READY_S))
        if fault.forgets:
            self._restore(ended)
        time.sleep(self._dice.uniform(1, 3))
        row.deaths += subject.deaths
        row.hangs += load.hangs
        row.wrong += load.wrong
        subject.deaths, load.hangs, load.wrong = [], [], []
        self._check(row, (began - KILLED_S, ended) if fault.kills or row.deaths else None)

    def _forget(self) -> None:
        with self._load.lock:
            for acknowledged in (self._load.acknowledged.sessions, self._load.acknowledged.feedback):
                acknowledged.clear()
            self._load.acknowledged.jobs.clear()

    def _restore(self, deleted: float) -> None:
        """Make the server's settings again that were in the store, and forget what went into the one that is gone."""
        until = time.monotonic() + READY_S
        while not self._subject.follow() and time.monotonic() < until:
            time.sleep(0.5)
        time.sleep(max(0.0, deleted + SETTLE_S - time.monotonic()))
        self._forget()

    def _check(self, row: Row, excused: tuple[float, float] | None) -> None:
        """Look up what was acknowledged since the last look."""
        with self._load.lock:
            found = self._load.acknowledged
            sessions, feedback = dict(found.sessions), list(found.feedback)
        looked_at = list(sessions)
        if excused is not None:
            sessions = {id_: at for id_, at in sessions.items() if not excused[0] <= at <= excused[1]}
        missing: dict[str, set[str]] = {}
        until = time.monotonic() + READY_S
        while True:  # what is written a moment later is not lost
            missing = {
                "session": self._subject.missing("session", list(sessions)),
                "feedback": self._subject.missing("feedback", feedback),
            }
            if not any(missing.values()) or time.monotonic() > until:
                break
            time.sleep(0.5)
        row.lost += [f"{kind} {id_}" for kind, ids in missing.items() for id_ in ids]
        row.lost += [f"job {id_}" for id_ in self._load.lost_jobs()]
        lost = self._subject.metric("speechpipe_records_lost_total")
        row.counted += max(0.0, lost - self._lost_before) if lost >= self._lost_before else lost
        self._lost_before = lost
        with self._load.lock:
            for id_ in looked_at:
                found.sessions.pop(id_, None)
            found.feedback[:] = found.feedback[-200:]

    def show(self) -> bool:
        """Print the table; return whether all is good."""
        table = Table("fault", "times", "ready after (s): median, most", "lost", "said lost", "wrong", "hangs", "died")
        for name, row in self.rows.items():
            median, most = np.median(row.ready_s), max(row.ready_s)
            counts = (len(row.lost), f"{row.counted:.0f}", len(row.wrong), len(row.hangs), len(row.deaths))
            style = None if row.good else "red"
            table.add_row(name, str(row.count), f"{median:.1f}, {most:.1f}", *map(str, counts), style=style)
        console = Console(width=120)
        console.print(table)
        for name, row in self.rows.items():
            for what in (*row.lost[:5], *row.wrong[:5], *row.hangs[:5], *row.deaths[:5]):
                console.print(f"{name}: {what}", style="red", highlight=False)
        console.print(", ".join(f"{what} {count}" for what, count in sorted(self._load.counts.items())))
        return all(row.good for row in self.rows.values())

    def figures(self) -> list[Figure]:
        """What is recorded: all kinds of faults together."""
        rows = list(self.rows.values())
        lost, wrong, hangs, deaths = (
            sum(len(getattr(row, name)) for row in rows) for name in ("lost", "wrong", "hangs", "deaths")
        )
        most = max(max(row.ready_s, default=0.0) for row in rows)
        many = f"{sum(row.count for row in rows)} faults of {len(rows)} kinds under load"
        what = f"{many}: acknowledged and lost; wrong answers; requests without an end; deaths of the server"
        found = f"{lost}; {wrong}; {hangs}; {deaths}"
        return [
            Figure(what, "0; 0; 0; 0", found, not (lost or wrong or hangs or deaths)),
            Figure("the same: ready again after, at most", f"<= {READY_S:.0f} s", f"{most:.1f} s", most <= READY_S),
        ]


def order(subject: Subject, asked: argparse.Namespace, dice: random.Random) -> list[str]:
    """Return the faults to come: every kind that can be made equally often, shuffled."""
    can = []
    for name, fault in FAULTS.items():
        if asked.only and name not in asked.only:
            continue
        if reason := fault.cannot(subject):
            print(f"skipped: {name}: {reason}")
        else:
            can.append(name)
    names = [can[index % len(can)] for index in range(asked.faults)]
    dice.shuffle(names)
    return names


def main() -> None:
    """Run the trial; exit 1 if anything was lost, hung, died or came back late."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="*", type=Path, default=[SAMPLES / "digits.flac"], help="the first is taken")
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", help="a kind of fault; may be repeated")
    parser.add_argument("--bundle", default="scripted")
    parser.add_argument("--uploaders", type=int, default=3)
    parser.add_argument("--speakers", type=int, default=2)
    parser.add_argument("--log", type=Path, help="where the server's log goes in the end")
    parser.add_argument("--postgresql", action="store_true", help="keep the records in a PostgreSQL of its own")
    add_record(parser)
    asked = parser.parse_args()
    dice = random.Random(asked.seed)
    audio = soundfile.read(asked.audio[0], dtype="float32")[0]
    postgres = Postgres() if asked.postgresql else None
    try:
        with places() as found:
            subject = Subject(found, asked.bundle, postgres)
            subject.start()
            try:
                if subject.wait_ready(120) == float("inf") or not subject.follow():
                    sys.exit(f"the server did not start:\n{(found.root / 'log').read_text()[-2000:]}")
                good = run(subject, audio, asked, dice)
            finally:
                subject.kill()
                if asked.log is not None:
                    asked.log.write_bytes((found.root / "log").read_bytes())
    finally:
        if postgres is not None:
            postgres.remove()
    sys.exit(0 if good else 1)


def run(subject: Subject, audio: np.ndarray, asked: argparse.Namespace, dice: random.Random) -> bool:
    """Put load on the server and do the faults; return whether all is good."""
    load = Load(subject, audio, asked.uploaders, asked.speakers)
    load.start()
    trial = Trial(subject, load, dice)
    for number, name in enumerate(order(subject, asked, dice), 1):
        trial.suffer(name, FAULTS[name])
        row = trial.rows[name]
        state = "good" if row.good else "BROKEN"
        print(f"{number}: {name}: ready after {row.ready_s[-1]:.1f} s, {state} so far", flush=True)
    load.stop()
    trial.rows["SIGTERM in the end"].count = 1
    took_s = subject.stop()
    row = trial.rows["SIGTERM in the end"]
    row.ready_s.append(took_s)
    row.hangs, row.wrong, row.deaths = load.hangs, load.wrong, subject.deaths
    good = trial.show()
    if asked.record:
        record(trial.figures(), variant="postgresql" if asked.postgresql else "")
    return good


if __name__ == "__main__":
    main()
