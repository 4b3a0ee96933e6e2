"""Language models behind one protocol: transformers models and OpenAI-compatible servers.

`protocol` says what a model is (`LM`, `ModelSpec`, `Request`, `Completion`), `registry.load` builds the one a spec names.
"""
