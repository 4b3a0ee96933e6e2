"""A language model behind two calls over lists: `generate` and `score`."""
