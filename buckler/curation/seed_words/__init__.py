"""Seed words: the lexicon that ships, and terms extracted from papers."""
