"""Curation: revise harmless texts so that they carry safety-related wording (D2D, arXiv 2410.02220; CTRL, arXiv 2405.19358).

`curator` is the search over many texts, one file each beside it for what it calls: drafts of revisions (`drafting`, `revise`),
`gates`, `helpfulness`, the beam (`search`), `settings`, and what is left at the end (`record`, `dataset_card`).
"""
