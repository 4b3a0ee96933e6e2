"""Seed words: the lexicon that ships, and terms extracted from papers (`papers` -> `extract` -> a YAML file like it)."""
