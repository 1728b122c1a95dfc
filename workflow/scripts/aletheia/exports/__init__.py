"""What leaves a study: its choice as another trainer's configuration, an adapter merged into its model, a conversation.

May import :mod:`aletheia.training`, :mod:`aletheia.staging` and what stands below these. Start with
:mod:`aletheia.exports.found_runs` (which run of a folder), :mod:`aletheia.exports.choice` (what it chose) and
:mod:`aletheia.exports.formats` (the tools); :mod:`aletheia.exports.merge` and :mod:`aletheia.exports.chat` use an
adapter.
"""
