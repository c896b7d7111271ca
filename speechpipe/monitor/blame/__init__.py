"""Blame: which stage of a cascade degraded, from records and probes, as a verdict that says what would refute it.

    cases -> normal.py (model of each stage, given its inputs) -> evidence.py (what changed) -> verdict.py
             onset.py (since when)            probe records ->  evidence.py

`docs/blame.md` has the method, its assumptions and its figures.
"""
