"""A model and a file of rows become a study in a folder of its own: its YAML files, its run, and what it ends with.

May import all packages below it; only the console script imports it. Start with :mod:`aletheia.fit.options` (what is
asked), then :mod:`aletheia.fit.survey` (what the data are), :mod:`aletheia.fit.choices` (what follows for a run) and
:mod:`aletheia.fit.study_files` (the YAML files).
"""
