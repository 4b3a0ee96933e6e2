"""Judges: one verdict an answer, from rules, rubrics or guard models, and how far they agree with people.

`named` goes from a name to a judge (`JudgeSpec`), `base` says what a judge is; `labels`, `agreement` and `card` measure one.
"""
