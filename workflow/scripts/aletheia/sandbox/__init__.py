"""Running generated programs: judged in two interpreters apart, without network, files or processes.

May import :mod:`aletheia.provenance`. Start with :mod:`aletheia.sandbox.judge` (a verdict), then
:mod:`aletheia.sandbox.command` (what shuts a program in) and :mod:`aletheia.sandbox.runner` (what runs inside).
"""
