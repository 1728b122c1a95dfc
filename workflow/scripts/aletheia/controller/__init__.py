"""The process that runs Snakemake: messages, notes, targets, resources, checks before the first job.

May import all packages below it (paths, settings, wall times, what staging takes, what the bundle holds); no
step imports it. Start with :mod:`aletheia.controller.binding` (how rules call functions of the study), then
:mod:`aletheia.controller.inputs` and :mod:`aletheia.controller.startup`.
"""
