"""Whether attention improves accuracy: studies, and what they measured.

- `plans`: the studies.
- `results`: what was measured, `results.jsonl`.
- `tables`: that, as tables of the pages; `results.md` has them all.
- `published`: what others have published, `published.csv`, pooled.
- `agreement`: on how many test images two networks disagree.
- `__main__`: trains the studies, and stores what they measured.
"""
