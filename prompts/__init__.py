"""Words and sentence templates, as data: `words/` what can be named, `templates/` how to say it."""
