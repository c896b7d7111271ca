"""`kill -9` of the server at random moments while people review: nothing that was acknowledged may be missing.

Clients upload what a person must answer; reviewers claim, type, save and submit, and say it again when an answer of the
server does not come. Every lease that a reviewer was given is written down: no two of them may hold one task at once.

python benchmarks/review_kill.py AUDIO... [--kills 100] [--reviewers 4] [--record]
"""

import argparse
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from contextlib import closing
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
from measure import Figure, add_record, record

from speechpipe.bench.capacity import hand_on
from speechpipe.control.review import TaskState
from speechpipe.control.review.operations import ReviewOperations
from speechpipe.foundation.storage.store import Store


@dataclass
class Held:
    """One lease as a reviewer knew it: until it ran out, or was given up."""

    reviewer: str
    since: float
    until: float


@dataclass
class World:
    """What the clients have been told, whatever the server knows of it."""

    url: str = ""
    stop: bool = False
    uploads: list[str] = field(default_factory=list)
    answers: dict[str, str] = field(default_factory=dict)
    leases: dict[str, list[Held]] = field(default_factory=lambda: defaultdict(list))
    resent: int = 0
    lost: int = 0  # leases that ran out while the server was away


def again(world: World, client: httpx.Client, path: str, body: dict[str, Any]) -> httpx.Response | None:
    """Post until something answers."""
    while not world.stop:
        try:
            answer = client.post(f"{world.url}{path}", json=body)
        except httpx.HTTPError:
            world.resent += 1
            time.sleep(0.05)
            continue
        if answer.status_code != 503:
            return answer
        time.sleep(0.05)
    return None


def upload(world: World, files: list[Path]) -> None:
    with httpx.Client(timeout=20) as client:
        while not world.stop:
            if len(world.uploads) - len(world.answers) > 60:
                time.sleep(0.05)
                continue
            path = random.choice(files)
            try:
                answer = client.post(
                    f"{world.url}/v1/audio/transcriptions",
                    files={"file": (path.name, path.read_bytes())},
                    data={"model": "default"},
                )
                if answer.status_code == 202:
                    world.uploads.append(answer.json()["id"])
            except (httpx.HTTPError, ValueError):
                time.sleep(0.05)


def review(world: World, name: str) -> None:
    with httpx.Client(timeout=20) as client:
        while not world.stop:
            try:
                answer = client.post(f"{world.url}/v1/reviews/claim", json={"reviewer": name})
            except httpx.HTTPError:
                time.sleep(0.05)  # it may have been handed to us: then it waits until that lease is over
                continue
            if answer.status_code == 200:
                work(world, client, name, answer.json())
            else:
                time.sleep(0.05)


def work(world: World, client: httpx.Client, name: str, task: dict[str, Any]) -> None:
    held = Held(name, time.time(), task["leased_until"])
    world.leases[task["id"]].append(held)
    segments = [
        {"start": piece["start"], "end": piece["end"], "text": f"{name} {random.randrange(10**9)}", "of": [piece["id"]]}
        for piece in task["segments"]
    ]
    if not segments:
        segments = [{"start": 0.0, "end": task["duration"], "text": f"{name} {random.randrange(10**9)}", "of": []}]
    for _ in range(random.randrange(3)):
        time.sleep(random.uniform(0.0, 0.3))
        body = {"lease": task["lease"], "segments": segments[:1]}
        kept = again(world, client, f"/v1/reviews/{task['id']}/renew", body)
        if kept is None or kept.status_code != 200:
            world.lost += 1
            return
        held.until = kept.json()["leased_until"]
    body = {"lease": task["lease"], "segments": segments}
    done = again(world, client, f"/v1/reviews/{task['id']}/submit", body)
    if done is not None and done.status_code == 200:
        held.until = min(held.until, time.time())
        world.answers[task["id"]] = " ".join(segment["text"] for segment in segments)
    else:
        world.lost += 1


def serve(state: str) -> "tuple[subprocess.Popen[str], str]":
    variables = {"SPEECHPIPE_STATE_DIR": state, "SPEECHPIPE_PORT": "0", "SPEECHPIPE_BUNDLE": "scripted"}
    variables |= {"SPEECHPIPE_WORKERS": "1", "SPEECHPIPE_LIVE_WORKERS": "1"}
    command = [sys.executable, "-m", "speechpipe", "serve"]
    process = subprocess.Popen(command, env=hand_on(variables), stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = next(line.split("running on ")[1].split()[0] for line in process.stderr if "running on" in line)
    threading.Thread(target=process.stderr.read, daemon=True).start()
    while httpx.get(f"{url}/readyz").status_code != 200:
        time.sleep(0.05)
    return process, url


def twice(leases: dict[str, list[Held]]) -> int:
    """Count pairs of leases of one task that different people held at the same time."""
    found = 0
    for mine in leases.values():
        ordered = sorted(mine, key=lambda held: held.since)
        for first, second in pairwise(ordered):
            found += second.since < first.until and second.reviewer != first.reviewer
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--reviewers", type=int, default=4)
    add_record(parser)
    asked = parser.parse_args()
    world, unclean = World(), 0
    with tempfile.TemporaryDirectory() as state:
        process, world.url = serve(state)
        assert httpx.put(f"{world.url}/v1/automation/default", json={"degree": "assist"}).status_code == 200
        names = [f"r{number}" for number in range(asked.reviewers)]
        people = [threading.Thread(target=review, args=(world, name), daemon=True) for name in names]
        people.append(threading.Thread(target=upload, args=(world, asked.audio), daemon=True))
        for thread in people:
            thread.start()
        for number in range(asked.kills):
            before, limit = len(world.answers), time.monotonic() + 60
            while len(world.answers) == before and time.monotonic() < limit:
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 1.0))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            with closing(sqlite3.connect(f"{state}/speechpipe.db")) as connection:
                unclean += connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
            process, world.url = serve(state)
            if number % 20 == 19:
                print(f"{number + 1} kills: {len(world.answers)} answers acknowledged", flush=True)
        world.stop = True
        process.send_signal(signal.SIGTERM)
        process.wait()
        for thread in people:
            thread.join(30.0)
        store = Store(f"sqlite:///{state}/speechpipe.db")
        operations = ReviewOperations(store)
        done = {task.id: " ".join(said.text for said in task.work) for task in operations.task_stats.finished()}
        everything = [task.id for task in operations.task_stats.listed(list(TaskState), most=10**6)]
        store.close()
    missing = sum(done.get(name) != text for name, text in world.answers.items())
    uploads = len(set(world.uploads) - set(everything))
    both = twice(world.leases)
    print(
        f"{asked.kills} kills, {world.resent} requests said again: of {len(world.answers)} acknowledged answers"
        f" {missing} missing or other; of {len(world.uploads)} uploads taken {uploads} missing; {both} tasks held by"
        f" two at once; {world.lost} leases lost; {unclean} stores not clean"
    )
    if asked.record:
        what = f"server killed {asked.kills} times while people review: acknowledged answers missing"
        found = f"{missing} of {len(world.answers):,}; {both}"
        record([Figure(f"{what}; tasks held by two at once", "0; 0", found, not (missing or both))])
    sys.exit(bool(missing or uploads or both or unclean))


if __name__ == "__main__":
    main()
