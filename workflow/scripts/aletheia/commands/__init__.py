"""The console script ``aletheia``: a module a command, each a call of the library or of a program of workflow/scripts.

Start with :mod:`aletheia.commands.main`. May import every package of the library; nothing imports it.
"""
