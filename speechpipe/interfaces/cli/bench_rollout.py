"""`speechpipe bench rollout`: error rates and delays of rollout rules."""

import json
from typing import Annotated

import typer

from speechpipe.interfaces.cli.bench import bench


@bench.command()
def rollout(
    runs: Annotated[int, typer.Option(min=20, help="Simulated rollouts of each kind.")] = 500,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object.")] = False,
) -> None:
    """Simulate rollouts; compare our rules with a repeated z-test and the rules of Flagger and Kayenta."""
    from speechpipe.bench import rollout as benchmark

    found = benchmark.document(runs)
    print(json.dumps(found) if as_json else benchmark.text(found))
