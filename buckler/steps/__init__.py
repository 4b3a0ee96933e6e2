"""The steps of an experiment: each reads files of its input steps and writes files of its own.

    draw -> attack -> screen -> train -> answer -> judge -> summarise
    texts -> curate ----------^            documents -> crosstask -^

A step's function is a name, parameters and inputs (`buckler.workflow.store.Step`); `buckler.plan.spell` spells them.
"""
