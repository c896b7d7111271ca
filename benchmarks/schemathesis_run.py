"""Schemathesis against a running server: no 5xx, no undocumented status, no answer that its document does not allow.

    python benchmarks/schemathesis_run.py [SECONDS] [--command schemathesis] [--record]

Starts a server with keys (scripted recognizer), has schemathesis (the extra `bench`) make requests out of
`/openapi.json` for SECONDS (600), and exits with 1 if it finds anything or the server logs a traceback.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

import httpx
from floods import serving
from measure import Figure, add_record, record

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("seconds", nargs="?", type=int, default=600)
    beside = Path(sys.executable).parent / "schemathesis"
    parser.add_argument("--command", default=str(beside) if beside.exists() else shutil.which("schemathesis"))
    add_record(parser)
    chosen = parser.parse_args()
    if not chosen.command:
        print("schemathesis is not installed: pip install 'speechpipe[bench]'")
        return 2
    with serving(api_keys='["sesame"]') as server:
        done = subprocess.run(
            [
                chosen.command,
                "run",
                f"{server.url}/openapi.json",
                "--header=Authorization: Bearer sesame",
                f"--max-time={chosen.seconds}",
                f"--checks={','.join(CHECKS)}",
                "--continue-on-failure",
                "--workers=1",
                "--request-timeout=60",
                "--suppress-health-check=all",
                "--warnings=off",
            ],
            check=False,
        )
        alive = httpx.get(f"{server.url}/livez", timeout=10).status_code == 200
        log = server.log()
    broken = len(re.findall(r"^Traceback", log, re.MULTILINE))
    print(f"schemathesis exited with {done.returncode}; server alive: {alive}; tracebacks in its log: {broken}")
    if broken:
        print(log[log.index("Traceback") :][:4000])
    bad = done.returncode != 0 or not alive or broken > 0
    if chosen.record:
        found = f"{'failures' if done.returncode else 'none'}; {broken}"
        what = f"schemathesis for {chosen.seconds} s on the whole API: failed checks; tracebacks in the log"
        record([Figure(what, "none; 0", found, not bad)])
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
