"""Where jobs run and what they cost: sites, wall times, the queue, GPU-hours.

May import :mod:`aletheia.study` and :mod:`aletheia.provenance`. Start with :mod:`aletheia.cluster.site` (what a cluster
gives), then :mod:`aletheia.cluster.wall_time`.
"""
