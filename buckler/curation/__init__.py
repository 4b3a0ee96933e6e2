"""Curation: revise harmless texts so that they carry safety implication (D2D, arXiv 2410.02220; CTRL, arXiv 2405.19358)."""
