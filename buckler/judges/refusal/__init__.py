"""The rule-based refusal judge: it reads the grammar of an answer's opening."""
