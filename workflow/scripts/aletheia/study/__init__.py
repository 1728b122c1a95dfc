"""The experiment as data: campaigns, arms, registries, benchmarks, and which files they come to.

May import :mod:`aletheia.provenance`. Start with :mod:`aletheia.study.study` (which runs the campaigns ask for), then
:mod:`aletheia.study.arms` (what an arm is) and :mod:`aletheia.study.outputs` (which file each step leaves).
"""
