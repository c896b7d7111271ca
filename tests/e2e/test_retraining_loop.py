"""The loop, whole: traffic drifts, an alarm rings, blame names the recognizer, the policy retrains it from what people
reviewed, the candidate enters at shadow, climbs over a canary on evidence, is promoted, and the metric recovers.

Real recordings, a real server, a real training. The recognizer of a shop knows the digits from zero to five; then its
customers begin to say six to nine. docs/retraining.md tells the same story.
"""

import hashlib
import json
import os
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from speechpipe.cascade.catalog.bundles import Catalogue
from speechpipe.cascade.catalog.cards import shipped_models
from speechpipe.cascade.evaluation.scores import word_errors
from tests import preloaded
from tests.conftest import Server, StartServer
from tests.patience import PATIENCE_S
from tests.sounds import SHARED

BUSY = [  # figures of the machine: tests share theirs with each other, and would be blamed for it
    f"software.{name}"
    for name in (
        *("decode_s", "vad_s", "asr_s", "queue_s", "endpoint_to_final_s", "real_time_factor", "audio_s"),
        *("queue_depth", "loop_lag_s", "cpu_share", "rss_mb", "load_share", "stretch", "overdue_share"),
    )
]

KNOWN = ("zero", "one", "two", "three", "four", "five")
REVIEWS = 48

POLICY = """
mode = "auto"
least_reviews = 40
cooldown_h = 0
plan = "{plan}"
"""

PLAN = """
candidate = "what comes out"
approval = "none"
slow_s = 60.0
[[steps]]
mode = "shadow"
harm = 0.2
least_sessions = 20
[[steps]]
mode = "canary"
weight = 0.3
margin = 3.0
least_sessions = 20
[guards]
error = 0.1
empty = 0.2
no_trigger = 0.2
redo = 0.1
switch_to_typing = 0.1
abandon = 0.1
correction = 0.1
wrong = 0.1
slow = 0.5
"""


def narrow_models(folder: Path) -> Path:
    """Cards of a recognizer with the shipped weights that may say six digits only, as an earlier release would."""
    (weights, _) = Catalogue([shipped_models()]).bundle("digits").asr.files
    files = folder / "asr" / "files" / "counter-1.0.0"
    files.mkdir(parents=True)
    (files / "model.safetensors").write_bytes(weights.path.read_bytes())
    words = "".join(f"{word}\n" for word in KNOWN)
    (files / "words.txt").write_text(words)
    (folder / "asr" / "counter.toml").write_text(
        'kind = "asr"\nname = "counter"\nversion = "1.0.0"\nimplementation = "ctc"\ndescription = "zero to five"\n'
        'source = "a test"\nlicence = "CC-BY-SA-4.0"\nlanguages = ["en"]\n'
        f'[[files]]\nrole = "weights"\npath = "model.safetensors"\nsha256 = "{weights.sha256}"\n'
        f'[[files]]\nrole = "lexicon"\npath = "words.txt"\nsha256 = "{hashlib.sha256(words.encode()).hexdigest()}"\n'
    )
    shipped = (shipped_models() / "bundles" / "digits.toml").read_text()
    (folder / "shop.toml").write_text(shipped.replace('"digits"', '"shop"').replace('"digits-ctc"', '"counter"'))
    return folder


@dataclass
class Shop:
    """Its customers, its reviewer and its operator."""

    server: Server
    http: httpx.Client
    clips: dict[str, list[Path]]
    draw: random.Random = field(default_factory=lambda: random.Random(0))
    said: dict[str, str] = field(default_factory=dict)  # session -> what was said

    def say(self, words: tuple[str, ...], count: int) -> list[dict[str, Any]]:
        """Have customers say one digit each; return what came of each."""
        picked = [(word, self.draw.choice(self.clips[word])) for word in self.draw.choices(words, k=count)]

        def one(job: tuple[str, Path]) -> dict[str, Any]:
            word, path = job
            answer = self.http.post(
                "/v1/audio/transcriptions",
                files={"file": (path.name, path.read_bytes())},
                data={"model": "default", "response_format": "verbose_json"},
            )
            assert answer.status_code == 200, answer.text
            found: dict[str, Any] = answer.json()["speechpipe"] | {"said": word, "heard": answer.json()["text"]}
            self.said[found["id"]] = word
            return found

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, picked))

    def review(self, most: int) -> int:
        """Have a person write down what customers said; return how many there were."""
        done = 0
        while done < most:
            answer = self.http.post("/v1/reviews/claim", json={"reviewer": "ann"})
            if answer.status_code == 204:
                break
            task = answer.json()
            pieces = task["segments"] or [{"start": 0.0, "end": task["duration"], "id": None}]
            segments = [
                {
                    "start": piece["start"],
                    "end": piece["end"],
                    "text": self.said[task["id"]] if number == 0 else "",
                    "kind": "speech" if number == 0 else "no_speech",
                    "of": [piece["id"]] if piece["id"] else [],
                }
                for number, piece in enumerate(pieces)
            ]
            body = {"lease": task["lease"], "segments": segments, "step_s": 2.0}
            submitted = self.http.post(f"/v1/reviews/{task['id']}/submit", json=body)
            assert submitted.status_code == 200, submitted.text
            done += 1
        return done

    def until(self, what: Callable[[], Any], traffic: tuple[str, ...] = (), count: int = 32) -> Any:
        """Go on, with traffic or without, until something is so."""
        limit = time.monotonic() + PATIENCE_S
        while not (found := what()):
            assert time.monotonic() < limit, (self.get("/v1/retrain"), self.get("/v1/rollout"), self.server.log[-20:])
            if traffic:
                self.say(traffic, count)
            time.sleep(0.2)
        return found

    def get(self, path: str) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get(path).json()
        return found

    def command(self, *arguments: str, **environment: str) -> str:
        variables = {**os.environ, "SPEECHPIPE_STATE_DIR": str(self.server.state), **environment}
        done = preloaded.run(*arguments, env=variables, text=True)
        done.check_returncode()
        return str(done.stdout)

    def proposal(self) -> int | None:
        found = json.loads(self.command("reference", "show", "--json"))
        return next((one["id"] for one in found if one["status"] == "proposed" and "shop" in json.dumps(one)), None)

    def alarms(self) -> list[dict[str, Any]]:
        return [alarm for alarm in self.get("/v1/alarms")["alarms"] if alarm["state"] == "firing"]


def wrong(sessions: list[dict[str, Any]]) -> float:
    errors = [word_errors(session["said"], session["heard"]) for session in sessions]
    return float(sum(item.edits for item in errors) / sum(item.length for item in errors))


def sure(sessions: list[dict[str, Any]]) -> float:
    known = [segment["confidence"] for session in sessions for segment in session["segments"] if segment["confidence"]]
    return float(sum(known) / len(known))


@pytest.mark.long
@pytest.mark.shared_data
def test_drift_is_noticed_blamed_retrained_rolled_out_and_over(start_server: StartServer, tmp_path: Path) -> None:
    models = narrow_models(tmp_path / "models")
    (tmp_path / "plan.toml").write_text(PLAN)
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(plan=tmp_path / "plan.toml"))
    server = start_server(
        bundle="shop", models_dir=str(models), workers="2", retrain_policy=str(policy), false_alarms_per_day="20",
        false_looks_per_day="200", shadow_speed="0", metrics_off=json.dumps(BUSY),
    )  # fmt: skip
    clips: dict[str, list[Path]] = {}
    for line in (SHARED / "digits" / "manifest.jsonl").read_text().splitlines():
        row = json.loads(line)
        clips.setdefault(row["text"], []).append(SHARED / "digits" / row["audio"])
    everything = tuple(clips)
    shop = Shop(server, httpx.Client(base_url=server.url, timeout=PATIENCE_S), clips)
    with shop.http:
        # All is well: somebody looks at what was proposed as normal, and pins it.
        well = [session for _ in range(20) for session in shop.say(KNOWN, 32)]
        assert wrong(well) < 0.15
        proposal = shop.until(shop.proposal)
        shop.command("reference", "approve", str(proposal))
        assert shop.http.put("/v1/automation/default", json={"audit_share": 0.9, "demote": False}).status_code == 200

        # Customers begin to say six to nine.
        worse = shop.say(everything, 48)
        shop.until(shop.alarms, everything)
        worse += shop.say(everything, 32)
        assert wrong(worse) > 0.25
        assert sure(worse) < sure(well) - 0.05
        # Until blame names the recognizer nothing is retrained, and then not before people have looked.
        shop.until(lambda: shop.get("/v1/retrain")["policy"]["cause"] == "too_few_reviews", everything)
        assert shop.get("/v1/retrain")["retrainings"] == []

        # People write down what was said; the policy begins by itself, and nothing of it answers anybody yet.
        assert shop.review(REVIEWS) == REVIEWS
        job = shop.until(lambda: next(iter(shop.get("/v1/retrain")["retrainings"]), None))
        assert (job["kind"], job["bundle"], job["by"]) == ("ctc", "shop@1.0.0", "policy")
        assert "blame names asr" in job["asked"]
        done = shop.until(
            lambda: next((j for j in shop.get("/v1/retrain")["retrainings"] if j["state"] == "done"), None)
        )
        assert (done["candidate"], done["judgement"]) == ("shop@1.0.0-r1", "better"), done
        status = shop.until(lambda: shop.get("/v1/rollout")["aliases"].get("shadow") == "shop@1.0.0-r1")
        assert {
            session["bundle"]["name"] + "@" + session["bundle"]["version"] for session in shop.say(everything, 8)
        } == {"shop@1.0.0"}

        # Shadow, canary, promotion: each on the evidence of its own sessions.
        shop.until(lambda: shop.get("/v1/rollout")["champion"] == "shop@1.0.0-r1", everything)
        history = [entry["action"] for entry in shop.get("/v1/rollout/history")["history"]]
        assert history[:3] == ["promote", "advance", "start"], history
        again = shop.say(everything, 80)
        assert wrong(again) < 0.15 < wrong(worse)
        assert sure(again) > sure(worse) + 0.05
        assert {session["bundle"]["version"] for session in again} == {"1.0.0-r1"}
        assert status
    assert "shop@1.0.0-r1" in shop.command(
        "retrain", "list", SPEECHPIPE_MODELS_DIR=str(models), SPEECHPIPE_BUNDLE="shop"
    )
