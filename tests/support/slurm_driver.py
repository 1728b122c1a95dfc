"""Snakemake's command line, but it looks for ended jobs twice a second, and not up to every three minutes."""

from __future__ import annotations

import asyncio
import sys

from snakemake.cli import main
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor


async def short_sleep(_executor: RemoteExecutor) -> None:
    await asyncio.sleep(0.5)


RemoteExecutor.sleep = short_sleep

if __name__ == "__main__":
    sys.exit(main())
