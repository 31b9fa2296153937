"""Whether attention improves accuracy: studies, and what they measured.

- `plans`: the studies.
- `results`: what was measured, `results.jsonl`.
- `tables`: that, as tables of the pages; `results.md` has them all.
- `__main__`: trains the studies, and stores what they measured.
"""
