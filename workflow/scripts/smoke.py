"""Print which devices a job sees, and what else a first job on a cluster should show.

Ends with status 1 where torch was built for GPUs and sees another number of them than was asked for.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import socket
import sys
from pathlib import Path

from aletheia.errors import UserError, run_main
from aletheia.provenance import machine

# What decides whether jobs of this study stay offline and where they keep what they read.
VARIABLES = (
    "CUDA_VISIBLE_DEVICES",
    "SLURM_JOB_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_JOB_QOS",
    "HF_HUB_OFFLINE",
    "HF_HOME",
    "TMPDIR",
)


def main() -> None:
    """Write the lines to the file, and to standard output."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, required=True, help="how many GPUs the job asked for")
    parser.add_argument("--out", type=Path, required=True, help="text file to write")
    args = parser.parse_args()
    import torch

    text = "\n".join(f"{name:<22}{value}" for name, value in seen(args.gpus).items()) + "\n"
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(text, encoding="utf-8")
    print(text, end="")
    count = torch.cuda.device_count()
    if torch.version.cuda is not None and count != args.gpus:
        raise UserError(
            f"asked for {args.gpus} GPUs, and torch {torch.__version__} sees {count} on {socket.gethostname()}; "
            "compare nvidia-smi in such a job, the driver and the wheels' CUDA version"
        )


def seen(asked: int) -> dict[str, object]:
    """Return what this process sees, by name, in the order to print."""
    import torch

    devices = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    free = shutil.disk_usage(os.environ.get("TMPDIR", "/tmp")).free / 2**30
    return {
        "GPUs asked for": asked,
        "GPUs that torch sees": f"{len(devices)} ({', '.join(devices) or 'none'})",
        "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        "driver": machine.driver(),
        "host": f"{socket.gethostname()}, glibc {platform.libc_ver()[1]}",
        "python": sys.executable,
        "cores": machine.usable_cores(),
        "free in TMPDIR (GiB)": f"{free:.1f}",
        **{name: os.environ.get(name, "(unset)") for name in VARIABLES},
    }


if __name__ == "__main__":
    run_main(main)
