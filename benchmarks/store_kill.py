"""`kill -9` of the server at random moments under load: nothing that was acknowledged may be missing afterwards.

Uploads run and feedback is posted for each, acknowledged when it is in the store. After every kill the store
is opened and everything acknowledged so far is looked up.

python benchmarks/store_kill.py AUDIO... [--kills 100] [--record]
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
from contextlib import closing
from pathlib import Path

import httpx
from measure import Figure, add_record, record

from speechpipe.bench.capacity import hand_on
from speechpipe.foundation.storage.store import Store


def port_of(process: "subprocess.Popen[str]") -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if "running on" in line:
            return line.split("running on ")[1].split()[0]
    raise RuntimeError("the server did not start")


def load(url: str, files: list[Path], acknowledged: list[str], stop: threading.Event) -> None:
    with httpx.Client(base_url=url, timeout=20) as client:
        while not stop.is_set():
            try:
                with random.choice(files).open("rb") as file:
                    answer = client.post(
                        "/v1/audio/transcriptions",
                        files={"file": file},
                        data={"model": "default", "response_format": "verbose_json"},
                    )
                session = answer.json()["speechpipe"]["id"]
                for _ in range(20):
                    told = client.post("/v1/feedback", json={"kind": "redo", "session_id": session})
                    if told.status_code == 201:
                        acknowledged.append(told.json()["id"])
            except (httpx.HTTPError, ValueError, KeyError):
                time.sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("audio", nargs="+", type=Path)
    parser.add_argument("--kills", type=int, default=100)
    add_record(parser)
    asked = parser.parse_args()
    missing = unclean = 0
    acknowledged: list[str] = []
    with tempfile.TemporaryDirectory() as state:
        variables = {"SPEECHPIPE_STATE_DIR": state, "SPEECHPIPE_PORT": "0", "SPEECHPIPE_BUNDLE": "scripted"}
        variables |= {"SPEECHPIPE_WORKERS": "1", "SPEECHPIPE_LIVE_WORKERS": "1"}
        for number in range(asked.kills):
            command = [sys.executable, "-m", "speechpipe", "serve"]
            process = subprocess.Popen(command, env=hand_on(variables), stderr=subprocess.PIPE, text=True)
            url, stop = port_of(process), threading.Event()
            threading.Thread(target=lambda p=process: p.stderr.read(), daemon=True).start()
            threads = [
                threading.Thread(target=load, args=(url, asked.audio, acknowledged, stop), daemon=True)
                for _ in range(2)
            ]
            for thread in threads:
                thread.start()
            before = len(acknowledged)
            while len(acknowledged) == before:
                time.sleep(0.01)
            time.sleep(random.uniform(0.0, 1.0))
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            stop.set()
            for thread in threads:
                thread.join()
            with closing(sqlite3.connect(f"{state}/speechpipe.db")) as connection:
                unclean += connection.execute("PRAGMA integrity_check").fetchone()[0] != "ok"
            store = Store(f"sqlite:///{state}/speechpipe.db")
            missing += sum(not store.find(id_=name) for name in acknowledged[-500:])
            store.close()
            if number % 20 == 19:
                print(f"{number + 1} kills: {len(acknowledged)} acknowledged, {missing} missing", flush=True)
        store = Store(f"sqlite:///{state}/speechpipe.db")
        there = {record.id for record in store.read("feedback")}
        store.close()
        missing += len(set(acknowledged) - there)
    print(f"{asked.kills} kills: {len(acknowledged)} acknowledged, {missing} missing, {unclean} stores not clean")
    if asked.record:
        what = f"server killed {asked.kills} times under load: acknowledged feedback missing; stores not clean"
        found = f"{missing} of {len(acknowledged):,}; {unclean}"
        record([Figure(what, "0; 0", found, not (missing or unclean))])
    sys.exit(bool(missing or unclean))


if __name__ == "__main__":
    main()
