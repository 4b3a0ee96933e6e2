"""Judges: one verdict an answer, from rules, rubrics or guard models."""
