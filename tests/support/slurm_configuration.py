"""CINECA's Leonardo as SLURM's own configuration: partitions, QOS and limits by name, a few nodes with dummy GPUs."""

from __future__ import annotations

import contextlib
import getpass
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

CLUSTER = "leonardo"
ACCOUNT = "IscrC_test"


@dataclass(frozen=True)
class Node:
    """A node as SLURM believes it to be, whatever this machine has."""

    name: str
    cpus: int
    memory_mb: int
    gpus: int = 0


NODES = (
    Node("lrdn0001", cpus=32, memory_mb=494000, gpus=4),
    Node("lrdn0002", cpus=32, memory_mb=494000, gpus=4),
    Node("lrdn3001", cpus=112, memory_mb=494000),
    Node("serial01", cpus=4, memory_mb=30800),
)

# The charge of a Booster node is its largest share of cores, GPUs (8 cores each) and memory, counted in cores.
PARTITIONS = {
    "boost_usr_prod": "Nodes=lrdn[0001-0002] MaxTime=1-00:00:00 DefaultTime=00:30:00"
    " AllowQos=normal,boost_qos_dbg,boost_qos_lprod,boost_qos_bprod,urgent"
    ' TRESBillingWeights="CPU=1,Mem=0.000064778,GRES/gpu=8"',
    "lrd_all_serial": "Nodes=serial01 Default=YES MaxTime=04:00:00 DefaultTime=00:30:00 AllowQos=normal MaxNodes=1"
    ' MaxCPUsPerNode=4 MaxMemPerNode=30800 TRESBillingWeights="CPU=0"',
    "dcgp_usr_prod": "Nodes=lrdn3001 MaxTime=1-00:00:00 DefaultTime=00:30:00 AllowQos=normal"
    ' TRESBillingWeights="CPU=1,Mem=0.000226720"',
}

# DenyOnLimit refuses a job that could never start; without it such a job pends for ever. ``urgent`` is not Leonardo's:
# its jobs put those of the others back into the queue.
QOS = {
    "normal": "Priority=40 Flags=DenyOnLimit",
    "boost_qos_dbg": "Priority=80 Flags=DenyOnLimit MaxWall=00:30:00 MaxJobsPerUser=2 MaxTRESPerUser=node=2,gres/gpu=8",
    "boost_qos_lprod": "Priority=40 Flags=DenyOnLimit,PartitionTimeLimit MaxWall=4-00:00:00"
    " MaxTRESPerUser=node=3,gres/gpu=12",
    "boost_qos_bprod": "Priority=60 Flags=DenyOnLimit MaxWall=1-00:00:00 MinTRESPerJob=node=65",
    "urgent": "Priority=100 Flags=DenyOnLimit Preempt=normal,boost_qos_dbg,boost_qos_lprod PreemptMode=requeue",
}

# proctrack/linuxproc and task/none leave the machine's cgroups alone: nothing is confined to its cores or its memory.
# config_overrides lets a node claim more than the machine has. cred_expire is also what a requeued job waits before it
# starts again (120 s by default). A stock cluster has the same plugins for accounts, limits and preemption.
_SLURM = """\
ClusterName={cluster}
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=10
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log

SlurmdParameters=config_overrides
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
MpiDefault=none
ReturnToService=1
SlurmctldTimeout=30
SlurmdTimeout=60
KillWait=2
MinJobAge=600

SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=1,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=1000
EnforcePartLimits=ALL
PriorityType=priority/multifactor
PriorityWeightQOS=10000
PriorityFlags=MAX_TRES
PreemptType=preempt/qos
PreemptMode=REQUEUE

AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[1]}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
AccountingStoreFlags=job_comment

GresTypes=gpu
{nodes}
{partitions}
"""

_SLURMDBD = """\
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={ports[1]}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser={user}
StorageLoc=slurm
AllowNoDefAcct=yes
CommitDelay=0
"""


def write_configuration(path: Path) -> None:
    """Write SLURM's configuration to ``path``, and beside it what belongs to it: other files, folders, GPUs."""
    folder = path.parent
    ports = _free_ports(2 + len(NODES))
    places = {"folder": folder, "ports": ports, "user": getpass.getuser(), "cluster": CLUSTER}
    nodes = [_node(node, port) for node, port in zip(NODES, ports[2:], strict=True)]
    partitions = [f"PartitionName={name} State=UP {limits}" for name, limits in PARTITIONS.items()]
    slurm = _SLURM.format(**places, nodes="\n".join(nodes), partitions="\n".join(partitions))
    path.write_text(slurm)
    (folder / "slurmdbd.conf").touch(mode=0o600)
    (folder / "slurmdbd.conf").write_text(_SLURMDBD.format(**places))
    (folder / "cgroup.conf").write_text("CgroupPlugin=disabled\n")
    devices = f"{folder}/nvidia[0-3]"
    gpus = [f"NodeName={node.name} Name=gpu Type=a100 File={devices}\n" for node in NODES if node.gpus]
    (folder / "gres.conf").write_text("".join(gpus))
    for number in range(4):
        # SLURM takes only a device for a GPU; this is /dev/null by another name.
        os.mknod(folder / f"nvidia{number}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (folder / "state").mkdir()
    for node in NODES:
        (folder / node.name).mkdir()


def accounts() -> list[str]:
    """Return the commands to sacctmgr that make the cluster, its QOS, and an account that this user has to name."""
    user, qos = getpass.getuser(), ",".join(QOS)
    return [
        f"add cluster {CLUSTER}",
        *(f"add qos {name}" for name in QOS if name != "normal"),
        f"add account {ACCOUNT} cluster={CLUSTER}",
        f"add user {user} account={ACCOUNT} qos={qos} defaultqos=normal",
        # As on Leonardo, a job has to name its account. SLURM gives root one of the same name.
        f"modify user {user} set defaultaccount=",
        *(["delete user root account=root"] if user == "root" else []),
    ]


def limits() -> list[str]:
    """Return the commands to sacctmgr that limit the QOS; a GPU is known only after slurmctld has started."""
    return [f"modify qos {name} set {settings}" for name, settings in QOS.items()]


def _node(node: Node, port: int) -> str:
    gres = f"Gres=gpu:a100:{node.gpus} " if node.gpus else ""
    shape = f"CPUs={node.cpus} Boards=1 SocketsPerBoard=1 CoresPerSocket={node.cpus} ThreadsPerCore=1"
    address = f"NodeHostname=localhost NodeAddr=127.0.0.1 Port={port}"
    return f"NodeName={node.name} {address} {shape} RealMemory={node.memory_mb} {gres}State=UNKNOWN"


def _free_ports(count: int) -> list[int]:
    """Return ports of the loopback interface that nobody listens on, below those that the kernel gives to callers."""
    free = []
    for port in range(20000, 30000):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            free.append(port)
        if len(free) == count:
            return free
    raise RuntimeError(f"only {len(free)} free ports from 20000 to 29999, {count} are needed")
