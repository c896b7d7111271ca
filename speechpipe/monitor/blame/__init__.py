"""Which stage degraded? Passive evidence from records, golden probes, and a verdict that says what would refute it.

    cases -> normal.py (what each stage does, given what it is fed) -> evidence.py (what changed) -> verdict.py
             onset.py (since when)            probe records ->  evidence.py

`docs/blame.md` has the method, its assumptions and its figures.
"""
