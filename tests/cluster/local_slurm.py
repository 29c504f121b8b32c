"""A real Slurm on this one machine: Debian's daemons on loopback, without systemd.

    python tests/cluster/local_slurm.py start FOLDER
    python tests/cluster/local_slurm.py stop FOLDER

It needs root and the Debian packages in `PACKAGES`. Its GPUs are files that Slurm takes for devices.
"""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PACKAGES = ["slurm-wlm", "slurmdbd", "munge", "mariadb-server"]
ETC = Path("/etc/slurm")
HOST = socket.gethostname().partition(".")[0]

SLURM_CONF = """
ClusterName=local
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.log
MpiDefault=none
MailProg=/bin/true
SwitchType=switch/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
# Without cgroups this is what enforces the limit of memory.
JobAcctGatherParams=OverMemoryKill
ReturnToService=2
KillWait=10
MinJobAge=300
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,bf_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory} Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort=16819
AccountingStoreFlags=job_comment
"""
GRES_CONF = """
Name=gpu File=/dev/zero
Name=gpu File=/dev/full
"""
DBD_CONF = """
AuthType=auth/munge
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
LogFile={root}/slurmdbd.log
PidFile={root}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort=13306
StorageUser=slurm
StoragePass=local
StorageLoc=slurm_acct_db
"""


def installed() -> bool:
    """Whether the daemons are there and this process may start them."""
    commands = ["slurmctld", "slurmd", "slurmdbd", "munged", "mariadbd"]
    return os.getuid() == 0 and all(shutil.which(command) for command in commands)


def start(root: Path, cpus: int = 4, memory: int = 8000) -> None:
    """Start all daemons, keeping their state under `root`, and wait until the node is idle."""
    for folder in ("state", "spool", "db", "db-run"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for folder in [root, *root.parents]:
        # The database runs under a user of its own.
        if folder.stat().st_uid == os.getuid() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o011)
    files = {"slurm.conf": SLURM_CONF, "gres.conf": GRES_CONF, "slurmdbd.conf": DBD_CONF}
    for name, text in files.items():
        path = root / name
        path.write_text(text.format(root=root, host=HOST, cpus=cpus, memory=memory))
        path.chmod(0o600 if name == "slurmdbd.conf" else 0o644)
        # The default place: the plugin hides SLURM_CONF from the steps of a job.
        link = ETC / name
        link.unlink(missing_ok=True)
        link.symlink_to(path)
    _start_munge(root)
    _start_database(root)
    _call("slurmdbd")
    _wait("sacctmgr", "-n", "show", "cluster")
    # Before slurmctld, which does not start without a cluster in the database.
    _call("sacctmgr", "-i", "add", "cluster", "local", check=False)
    _call("slurmctld")
    _wait("scontrol", "ping")
    _call("slurmd", "-N", HOST)
    _wait("bash", "-c", "sinfo -h -o %T | grep -qx idle")


def stop(root: Path) -> None:
    """Stop all daemons that `start` started."""
    for name in ("slurmd", "slurmctld", "slurmdbd", "mariadb", "munged"):
        path = root / f"{name}.pid"
        if path.exists() and (pid := int(path.read_text().strip() or 0)):
            _end(pid)
    for name in ("slurm.conf", "gres.conf", "slurmdbd.conf"):
        link = ETC / name
        if link.is_symlink() and link.resolve() == (root / name).resolve():
            link.unlink()


def _start_munge(root: Path) -> None:
    if subprocess.run(["munge", "-n"], capture_output=True).returncode == 0:
        return
    _call("install", "-d", "-o", "munge", "-g", "munge", "-m", "755", "/run/munge")
    _call("su", "-s", "/bin/bash", "munge", "-c", "munged --pid-file=/run/munge/munged.pid")
    _wait("munge", "-n")
    shutil.copy("/run/munge/munged.pid", root / "munged.pid")


def _start_database(root: Path) -> None:
    data, run = root / "db", root / "db-run"
    sock = f"--socket={run}/socket"
    install = ["mysql_install_db", "--no-defaults", "--user=mysql", f"--datadir={data}"]
    _call(*install, "--auth-root-authentication-method=socket")
    _call("chown", "-R", "mysql", str(data), str(run))
    command = ["mariadbd", "--no-defaults", "--user=mysql", f"--datadir={data}", sock]
    command += ["--bind-address=127.0.0.1", "--port=13306", f"--pid-file={run}/pid"]
    command += ["--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"]
    database = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    (root / "mariadb.pid").write_text(str(database.pid))
    _wait("mysqladmin", sock, "ping")
    users = ["slurm@127.0.0.1", "slurm@localhost"]
    orders = ["CREATE DATABASE IF NOT EXISTS slurm_acct_db"]
    for user in users:
        name = "@".join(f"'{part}'" for part in user.split("@"))
        orders.append(f"CREATE USER IF NOT EXISTS {name} IDENTIFIED BY 'local'")
        orders.append(f"GRANT ALL ON slurm_acct_db.* TO {name}")
    _call("mysql", sock, "-e", "; ".join(orders))


def _call(*command: str, check: bool = True) -> None:
    answer = subprocess.run(command, capture_output=True, text=True)
    if check and answer.returncode:
        raise RuntimeError(f"{' '.join(command)}: {answer.stdout}{answer.stderr}")


def _wait(*command: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while (answer := subprocess.run(command, capture_output=True, text=True)).returncode:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{' '.join(command)}: {answer.stdout}{answer.stderr}")
        time.sleep(0.2)


def _end(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGTERM)
        for _ in range(100):
            os.kill(pid, 0)
            # A child of this process stays a zombie until it is waited for.
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


if __name__ == "__main__":
    {"start": start, "stop": stop}[sys.argv[1]](Path(sys.argv[2]).resolve())
