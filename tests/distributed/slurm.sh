#!/bin/bash
# A real Slurm of one node from Debian's packages, and a sweep of two runs through it that is interrupted in two ways:
# by the signal that comes before a time limit, and by a job of higher priority. Both runs must end as the same sweep
# without Slurm. Then one run of two ranks.
#
#   apt-get install --no-install-recommends slurmctld slurmd slurm-client munge
#   tests/distributed/slurm.sh          # as root, in the environment of the project; minutes
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH=$PWD:$PWD/tests OMP_NUM_THREADS=1
PYTHON=$(command -v python)
STEPS=${STEPS:-200}
for program in slurmctld slurmd sbatch munged; do
    command -v $program > /dev/null || { echo "$program is missing; see the first lines of this file"; exit 2; }
done

WORK=$(mktemp -d)
cd "$WORK"
mkdir state spool
stop() {
    for name in slurmd slurmctld munged; do
        [ ! -s $name.pid ] || kill "$(cat $name.pid)" 2> /dev/null || true
    done
    sleep 1
    rm -rf "$WORK"
}
trap stop EXIT

head -c 1024 /dev/urandom > munge.key
chmod 400 munge.key
munged --force --key-file="$WORK/munge.key" --socket="$WORK/munge.socket" --pid-file="$WORK/munged.pid" \
    --log-file="$WORK/munged.log" --seed-file="$WORK/munge.seed" 2> /dev/null
NODE=$(hostname -s)
cat > slurm.conf << END
ClusterName=test
SlurmctldHost=$NODE(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$WORK/munge.socket,cred_expire=5
StateSaveLocation=$WORK/state
SlurmdSpoolDir=$WORK/spool
SlurmctldLogFile=$WORK/slurmctld.log
SlurmdLogFile=$WORK/slurmd.log
SlurmctldPidFile=$WORK/slurmctld.pid
SlurmdPidFile=$WORK/slurmd.pid
SlurmctldPort=16817
SlurmdPort=16818
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
JobRequeue=1
KillWait=30
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName=$NODE NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES PriorityTier=1 GraceTime=30
PartitionName=high Nodes=ALL PriorityTier=9 PreemptMode=OFF
END
export SLURM_CONF=$WORK/slurm.conf
slurmctld
slurmd
until sinfo --noheader --format=%T | grep -q idle; do sleep 1; done
say() { echo "$(date +%T) $*"; }
queue() { squeue --noheader --array --sort=i --format='%.8i %.6P %.10T' | sed 's/ *$//'; }
sbatch --version

mapfile -t JOB < <("$PYTHON" -c "
from pathlib import Path
from helpers import encoder_file
from soak import arguments
print('\n'.join(arguments(encoder_file(Path('.').absolute()), $STEPS)))" | grep -v '^name=')
train() { "$PYTHON" -m restoration.train "$@"; }
SLURM=(hydra/launcher=slurm hydra.launcher.cpus_per_task=1 hydra.launcher.partition=low)

say "two runs without Slurm"
train -m "${JOB[@]}" name=whole seed=0,1 > whole.txt 2>&1

say "the same as a sweep through Slurm"
train -m "${JOB[@]}" "${SLURM[@]}" name=sweep seed=0,1 > sweep.txt 2>&1 &
LAUNCHER=$!
checkpoints() { find outputs/blur_erase/sweep -name last.ckpt 2> /dev/null | wc -l; }
until [ "$(checkpoints)" = 2 ]; do sleep 0.5; done
queue
ID=$(squeue --noheader --format=%A | sort -n | head -1)
say "scancel --signal=USR2 ${ID}_0: what comes before a time limit"
scancel --signal=USR2 "${ID}_0"
until squeue --noheader --array --states=PENDING | grep -q "${ID}_0"; do sleep 0.5; done
queue
until grep -q -s "stage .: " <(sed '1,/resuming from/d' outputs/blur_erase/sweep/.submitit/"${ID}"_0_0_log.err); do sleep 0.5; done
queue
say "a job of higher priority needs both processors"
sbatch --quiet --partition=high --ntasks=2 --output=/dev/null --wrap='sleep 3'
until squeue --noheader --states=RUNNING --partition=high | grep -q .; do sleep 0.5; done
queue
wait $LAUNCHER
say "the sweep has ended"
for job in 0 1; do
    grep -h -o -E "Caught signal SIGUSR2|Requeued job [0-9_]*|DUE TO [A-Z ]*|WARNING stopped|resuming from|completed successfully" \
        outputs/blur_erase/sweep/.submitit/"${ID}_${job}"_0_log.err | uniq | sed "s/^/    job $job: /"
done
"$PYTHON" - << 'END'
from pathlib import Path
from soak import end
for whole, swept in zip(*(sorted(Path("outputs/blur_erase", name).glob("*/metrics.json")) for name in ("whole", "sweep")), strict=True):
    ours, theirs = end(swept.parent), end(whole.parent)
    for name in ours:
        print(f"    seed {swept.parent.name[-1]}, {name}: {theirs[name][:16]} {'=' if ours[name] == theirs[name] else 'DIFFERS FROM'} {ours[name][:16]}")
    assert ours == theirs
END

say "one run of two ranks, by srun"
train "${JOB[@]}" name=one data.batch_size=8 trainer.max_steps=20 trainer.val_check_interval=10 > one.txt 2>&1
srun --quiet --ntasks-per-node=2 --ntasks=2 "$PYTHON" -m restoration.train "${JOB[@]}" name=two trainer=ddp \
    trainer.devices=2 data.batch_size=4 trainer.max_steps=20 trainer.val_check_interval=10 > two.txt 2>&1
"$PYTHON" - << 'END'
from pathlib import Path
from helpers import last
one, two = (last(Path("outputs/blur_erase", name))["state_dict"] for name in ("one", "two"))
worst = max(float((one[name] - two[name]).double().norm() / one[name].double().norm().clamp(min=1e-9)) for name in one)
print(f"    largest relative difference of a weight from one rank of twice the batch: {worst:.1e}")
assert worst < 1e-4
END
say "equal"
