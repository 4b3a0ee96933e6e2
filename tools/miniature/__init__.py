"""The miniature's workshop: how the embedded models were made and measured. Nothing in `buckler` imports it.

* `corpus`, `tokens`, `training`, `muon`: what a model reads, in which tokens, and how it is trained
* `build`: makes one model from nothing; `rebuild`: makes the shipped ones again and compares every byte
* `exam`, `trials`, `card`: what a model can do, what it does under attack and defence, and the tables of `CARD.md`
"""
