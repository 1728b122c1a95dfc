"""The loss of a language model: cross-entropy of the tokens that count, each predicted from those before it."""

IGNORE = -100  # the label of a token that does not count; torch's cross-entropy leaves it out
