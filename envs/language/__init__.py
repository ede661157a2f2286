"""Language: text as tokens, tasks of language models, and the models themselves."""
