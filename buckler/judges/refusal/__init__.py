"""The rule-based refusal judge `keyword`: it reads the grammar of an answer's opening.

`keyword` is the judge; `grammar` gives sentences their roles with the patterns of `english` and `languages.json`; `moralizing`,
`false_premise` and `partial_compliance` read what follows or stands in for "I cannot".
"""
