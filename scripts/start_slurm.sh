#!/bin/sh
# A Slurm of one node with two task slots on this machine, for tests: munge, slurmctld and slurmd, without systemd.
#   scripts/start_slurm.sh start FOLDER    writes FOLDER/slurm.conf and starts it; then: export SLURM_CONF=FOLDER/slurm.conf
#   scripts/start_slurm.sh stop FOLDER     stops what was started there
# Needs root and Debian's packages slurm-wlm and munge. Listens on loopback addresses only.
set -eu
start_seconds=240 # a machine that does more is slow

action=${1:-}
[ "$action" = start ] || [ "$action" = stop ] || { echo "usage: $0 start|stop FOLDER" >&2; exit 2; }
mkdir -p "${2:?name a folder}"
folder=$(cd "$2" && pwd)
export SLURM_CONF="$folder/slurm.conf"

stop_one() { # $1: name of the process whose number stands in $1.pid
    [ -s "$folder/$1.pid" ] || return 0
    number=$(cat "$folder/$1.pid")
    kill "$number" 2>/dev/null || true
    for _ in $(seq 50); do
        kill -0 "$number" 2>/dev/null || break
        sleep 0.2
    done
    kill -9 "$number" 2>/dev/null || true
    rm -f "$folder/$1.pid"
}

if [ "$action" = stop ]; then
    if [ -s "$folder/slurmctld.pid" ]; then
        timeout 10 scancel --full --user=root 2>/dev/null || true
        for _ in $(seq 40); do # KillWait and a little more: without slurmctld, nobody would kill a job that stays
            [ -n "$(timeout 10 squeue --noheader 2>/dev/null)" ] || break
            sleep 1
        done
    fi
    for name in slurmd slurmctld munged; do stop_one "$name"; done
    exit 0
fi

for program in munged slurmctld slurmd sbatch python3; do
    command -v "$program" >/dev/null || { echo "no $program: apt-get install slurm-wlm munge" >&2; exit 1; }
done
trap '[ $? = 0 ] || "$0" stop "$folder"' EXIT # nothing is left of a start that failed
"$0" stop "$folder"
host=$(hostname -s)
set -- $(python3 -c 'import socket
ends = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(end.getsockname()[1] for end in ends))') # two free ports, so that several clusters can be on this machine
mkdir -p "$folder/state" "$folder/spool"
cat >"$folder/slurm.conf" <<END
ClusterName=tiebench
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
SlurmdUser=root
SlurmctldPort=$1
SlurmdPort=$2
SlurmctldAddr=127.0.0.1
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
AuthType=auth/munge
AuthInfo=socket=$folder/munge.socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=30
MinJobAge=300
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END

# munge wants folders that nobody else may write to; its key is made here, and is this cluster's alone
umask 077
[ -s "$folder/munge.key" ] || dd if=/dev/urandom of="$folder/munge.key" bs=128 count=1 2>/dev/null
munged --force --key-file="$folder/munge.key" --socket="$folder/munge.socket" --pid-file="$folder/munged.pid" \
    --log-file="$folder/munged.log" --seed-file="$folder/munge.seed"
slurmctld
slurmd -N "$host"
ends=$(($(date +%s) + start_seconds))
while [ "$(date +%s)" -lt "$ends" ]; do
    state=$(timeout 30 sinfo --noheader --format=%T 2>/dev/null || true)
    [ "$state" = idle ] && exit 0
    sleep 0.5
done
echo "Slurm did not start: its node is '${state:-not answering}'; what slurmctld and slurmd say last:" >&2
tail -n 10 "$folder/slurmctld.log" "$folder/slurmd.log" >&2
exit 1
