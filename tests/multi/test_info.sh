#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# test_info.sh - gyre-info: what it shows of this machine and of made-up ones (trees of /sys, /proc and /dev
# below --root), each problem that the doctor knows, and that a fix it gives does away with its problem.
info=${top_builddir:?}/tools/gyre-info
page=$(realpath "${top_srcdir:-$(dirname "$0")/../..}/man/gyre-info.1")
# shellcheck source=expect.sh
. "${top_srcdir:-$(dirname "$0")/../..}/tests/multi/expect.sh"
limit=50 shown=60
for v in $(compgen -e GYRE_) SLURM_JOB_ID; do unset "$v"; done

# put FILE TEXT: a file of the tree
put() {
	[ -d "$t/${1%/*}" ] || mkdir -p "$t/${1%/*}"
	printf '%b\n' "$2" >"$t/$1"
}

# limits MEMLOCK-SOFT MEMLOCK-HARD FILES-SOFT FILES-HARD
limits() {
	put proc/self/limits "Limit                     Soft Limit           Hard Limit           Units     
$(printf '%-25s %-20s %-20s' "Max open files" "$3" "$4")files
$(printf '%-25s %-20s %-20s' "Max locked memory" "$1" "$2")bytes"
}

# tree CPUS: a machine in $t with nothing wrong and no RDMA device
tree() {
	rm -rf tree && t=$work/tree
	mkdir -p "$t/dev/shm"
	put sys/devices/system/cpu/online "0-$(($1 - 1))"
	put proc/self/status "Name:\tx\nCapEff:\t0000000000000000\nCpus_allowed_list:\t0-$(($1 - 1))"
	put proc/self/uid_map "0 0 4294967295"
	put proc/self/cgroup "0::/user.slice/session"
	put proc/meminfo "MemTotal:  67108864 kB\nMemAvailable: 60000000 kB\nHugepagesize: 2048 kB
HugePages_Total: 16\nHugePages_Free: 9"
	put proc/sys/kernel/hostname made-up
	put proc/sys/kernel/osrelease 6.1.0-test
	put proc/sys/kernel/yama/ptrace_scope 0
	put sys/kernel/mm/transparent_hugepage/enabled "always [madvise] never"
	limits 8388608 8388608 1048576 1048576
}

# gid DEVICE PORT INDEX ADDRESS TYPE [NETDEV]
gid() {
	local p=sys/class/infiniband/$1/ports/$2
	put "$p/gids/$3" "$4"
	put "$p/gid_attrs/types/$3" "$5"
	[ $# -lt 6 ] || put "$p/gid_attrs/ndevs/$3" "$6"
}

# device NAME NUMBER LINK STATE PHYSICAL: with one port and files that open
device() {
	local d=sys/class/infiniband/$1 p
	p=$d/ports/1
	put "$d/node_type" "1: CA"
	put "$d/fw_ver" 20.31.1014
	put "$d/board_id" MT_0000000224
	put "$d/node_guid" 0c42:a103:0065:4abc
	put "$d/device/numa_node" 1
	ln -sf ../../../bus/pci/drivers/mlx5_core "$t/$d/device/driver"
	put "$p/link_layer" "$3"
	put "$p/state" "$4"
	put "$p/phys_state" "$5"
	put "$p/rate" "100 Gb/sec (4X EDR)"
	put "$p/lid" 0x1f
	put "$p/sm_lid" 0x1
	put "sys/class/infiniband_verbs/uverbs$2/ibdev" "$1"
	put "dev/infiniband/uverbs$2" ""
	put dev/infiniband/rdma_cm ""
}

zero=0000:0000:0000:0000:0000:0000:0000:0000
local=fe80:0000:0000:0000:0e42:a1ff:fe65:4abc
ipv4=0000:0000:0000:0000:0000:ffff:0a01:0203

# roce: a healthy RoCE device in the tree
roce() {
	device mlx5_0 0 Ethernet "4: ACTIVE" "5: LinkUp"
	gid mlx5_0 1 0 $local "IB/RoCE v1" ens1
	gid mlx5_0 1 1 $local "RoCE v2" ens1
	gid mlx5_0 1 2 $ipv4 "IB/RoCE v1" ens1
	gid mlx5_0 1 3 $ipv4 "RoCE v2" ens1
	put sys/class/infiniband/mlx5_0/ports/1/gids/4 $zero
	put sys/class/net/ens1/mtu 4200
	limits 8388608 unlimited 1048576 1048576
}

# infiniband: likewise
infiniband() {
	device mlx5_0 0 InfiniBand "4: ACTIVE" "5: LinkUp"
	gid mlx5_0 1 0 fe80:0000:0000:0000:0c42:a103:0065:4abc "IB/RoCE v1"
	limits 8388608 unlimited 1048576 1048576
}

# doctor PROBLEMS WHAT [VARIABLE=VALUE]... [OPTION]...: so many problems in the tree, in out; besides, that this
# gyre lacks verbs is none of the tree's.
doctor() {
	local want=$1 what=$2 got
	local -a set=()
	shift 2
	while [[ ${1-} == *=* ]]; do
		set+=("$1")
		shift
	done
	timeout -k 5 50 env "${set[@]}" "$info" --doctor --root "$t" "$@" >all 2>err
	got=$?
	[ "$got" = $(($(grep -c '^problem: ' all) > 0)) ] || fail "$what: status $got"
	[ ! -s err ] || { fail "$what: standard error"; cat err; }
	grep -v 'was built without verbs' all >out
	[ "$(grep -c '^problem: ' out)" = "$want" ] || { fail "$what: not $want problems:"; cat out; }
}

# ---- options ----
expect 0 help "$info" --help
says help out "usage: gyre-info"
expect 0 version "$info" --version
says version out "gyre-info (gyre)"
expect 2 usage "$info" --nosuch
expect 2 usage "$info" argument
expect 2 usage "$info" -n 1
expect 2 usage "$info" -n 65536
expect 2 usage "$info" -n 2x
expect 2 usage "$info" --doctor --limits
expect 2 "no root" "$info" --root "$work/nosuch"
says "no root" err "--root: $work/nosuch: No such file or directory"
if [ -w /dev/full ]; then
	timeout 50 "$info" >/dev/full 2>err
	[ $? = 2 ] || fail "a full device is not noticed"
fi

# ---- this machine ----
expect 0 "this machine" "$info"
[ ! -s err ] || { fail "this machine: standard error"; cat err; }
for s in System Transports "RDMA devices" Network Limits Topology Settings Algorithms; do
	grep -qx "$s" out || fail "this machine: no section $s"
done
says "this machine" out "$(uname -r)"
says "this machine" out "127.0.0.1"
online=$(tr ',' '\n' </sys/devices/system/cpu/online | awk -F- '{ n += NF > 1 ? $2 - $1 + 1 : 1 } END { print n }')
grep -qE "^  Processors +$online\$" out || fail "this machine: processors"
grep -qE '^  tcp +yes +yes' out || fail "this machine: tcp does not open"
expect 0 "one section" "$info" --limits
[ "$(head -n 1 out)" = Limits ] || fail "one section: $(head -n 1 out)"
lacks "one section" out Settings
ulimit -S -n 512
expect 0 "one limit" "$info" -l
grep -qE '^  Open files +512$' out || { fail "one limit"; cat out; }
timeout 50 "$info" --doctor >out 2>err
rc=$?
[ $rc = $(($(grep -c '^problem: ' out) > 0)) ] || fail "this machine's doctor: status $rc"

# ---- settings ----
printf '# settings\ntcp_streams = 3\npool_bytes = 32m\n' >conf
expect 0 settings env GYRE_CONFIG="$work/conf" GYRE_TCP_STREAMS=5 GYRE_JOB_KEY=00112233445566778899aabbccddeeff \
	"$info" -c
grep -qE '^  GYRE_TCP_STREAMS +5 +environment$' out || fail "settings: environment"
grep -qE "^  GYRE_POOL_BYTES +33554432 +$work/conf:3\$" out || fail "settings: file"
grep -qE '^  GYRE_SPIN_US +-1 +default$' out || fail "settings: default"
lacks settings out 0011223344

# ---- algorithms: each choice that is shown is what the library says ----
expect 0 algorithms "$info" --algorithms -n 9
cp out nine
expect 0 algorithms "$info" --algorithms
grep -qE '^  allreduce +node +5 to 8 +4 KiB +flat +' out || fail "algorithms of 5 to 8"
[ "$(awk '$1 == "broadcast" && $2 == "network" && /scatter_allgather/' out | wc -l)" = 1 ] || fail "algorithms: scatter"
grep -qE '^  allreduce +node +9 +unlimited +direct ' nine || { fail "algorithms of 9 ranks"; cat nine; }
expect 0 "algorithm asked for" env GYRE_ALGORITHM=allreduce=ring "$info" -a -n 4
[ "$(grep '^  allreduce ' out | awk '{ print $4, $5 }' | sort -u)" = "unlimited ring" ] ||
	{ fail "algorithm asked for"; cat out; }

# ---- made-up machines: what is shown ----
tree 8
roce
device mlx4_0 1 InfiniBand "2: INIT" "5: LinkUp"
expect 0 devices "$info" --devices --root "$t"
grep -qE '^  mlx5_0 +CA +mlx5_core +20\.31\.1014 +MT_0000000224 +0c42:a103:0065:4abc +1 +uverbs0 +yes' out ||
	fail "devices: device"
grep -qE '^  mlx5_0 +1 +Ethernet +ACTIVE +LinkUp +100 Gb/sec \(4X EDR\) +4096 +- +- +- +ens1$' out || fail "devices: port"
grep -qE '^  mlx4_0 +1 +InfiniBand +INIT +LinkUp .* 31 +1 +-$' out || fail "devices: InfiniBand"
grep -qE '^  mlx5_0 +1 +3 +RoCE v2 +ens1 +10\.1\.2\.3$' out || fail "devices: GID"
grep -qE '^  mlx5_0 +1 +0 +RoCE v1 +ens1 +fe80::e42:a1ff:fe65:4abc$' out || fail "devices: first GID"
lacks devices out "  ::"
expect 0 "made-up system" "$info" -s --root "$t"
says "made-up system" out made-up
grep -qE '^  Processors +8$' out || fail "made-up system: processors"
grep -qE '^  Memory +64 GiB$' out || fail "made-up system: memory"
grep -qE '^  Huge pages free +9$' out || fail "made-up system: huge pages"

# ---- doctor: nothing wrong ----
tree 8
doctor 0 "healthy"
says healthy out "no problems"
roce
doctor 0 "healthy RoCE"
tree 8
infiniband
doctor 0 "healthy InfiniBand"

# ---- doctor: RDMA ----
tree 4
roce
limits 65536 8388608 1048576 1048576
doctor 1 memlock
says memlock out "problem: memlock: 8 MiB may be locked, but each rank takes 20 MiB for RDMA, with 4 on this machine; fix:"
says memlock out "'* - memlock unlimited\\nroot - memlock unlimited\\n' | sudo tee /etc/security/limits.d/gyre-memlock.conf"
doctor 0 "memlock, small pool" GYRE_POOL_BYTES=4m
doctor 1 "memlock, many ranks" GYRE_POOL_BYTES=4m -n 200
touch "$t/.dockerenv"
doctor 1 "memlock, docker"
says "memlock, docker" out "fix: docker run --ulimit memlock=-1 ..."
rm "$t/.dockerenv"
doctor 1 "memlock, Slurm" SLURM_JOB_ID=7
says "memlock, Slurm" out "LimitMEMLOCK=infinity"
put proc/self/status "CapEff:\t0000000000004000\nCpus_allowed_list:\t0-3"
doctor 0 "memlock, CAP_IPC_LOCK"
put proc/self/uid_map "0 1000 1"
doctor 1 "memlock, CAP_IPC_LOCK of a user namespace"

tree 4
roce
put sys/class/infiniband/mlx5_0/ports/1/state "1: DOWN"
put sys/class/infiniband/mlx5_0/ports/1/phys_state "3: Disabled"
doctor 1 "RoCE port down"
says "RoCE port down" out "problem: rdma: port mlx5_0/1 is DOWN, its link Disabled; fix: sudo ip link set dev ens1 up"
device mlx5_1 1 Ethernet "4: ACTIVE" "5: LinkUp"
gid mlx5_1 1 0 $ipv4 "RoCE v2" ens2
doctor 0 "a second port down"
says "a second port down" out "note: rdma: port mlx5_0/1 is DOWN, its link Disabled; others are active; fix: "

tree 4
infiniband
put sys/class/infiniband/mlx5_0/ports/1/state "2: INIT"
doctor 1 "no subnet manager"
says "no subnet manager" out "no subnet manager has set it up; fix: sudo systemctl start opensm"
put sys/class/infiniband/mlx5_0/ports/1/state "1: DOWN"
put sys/class/infiniband/mlx5_0/ports/1/phys_state "2: Polling"
doctor 1 "no cable"
says "no cable" out "fix: ibstat mlx5_0 1"
put sys/class/infiniband/mlx5_0/ports/1/phys_state "3: Disabled"
doctor 1 "disabled"
says "disabled" out "fix: sudo ibportstate -C mlx5_0 -P 1 -D 0 1 enable"

tree 4
roce
rm -r "$t"/sys/class/infiniband/mlx5_0/ports/1/gids/[13]
doctor 1 "RoCE v1 only"
says "RoCE v1 only" out "has GIDs of RoCE v1 only"
says "RoCE v1 only" out "fix: sudo cma_roce_mode -d mlx5_0 -p 1 -m 2"
ln -sfn ../mlx4_core "$t/sys/class/infiniband/mlx5_0/device/driver"
doctor 1 "RoCE v1 only, mlx4"
says "RoCE v1 only, mlx4" out "options mlx4_core roce_mode=2"
tree 4
roce
rm -r "$t"/sys/class/infiniband/mlx5_0/ports/1/gids/[23]
doctor 1 "no IP GID"
says "no IP GID" out "has no GID of an IP address: ens1 has none; fix: sudo ip address add ADDRESS/PREFIX dev ens1"
tree 4
roce
put sys/class/net/ens1/mtu 1500
doctor 0 "small MTU"
says "small MTU" out "note: rdma: port mlx5_0/1 sends packets of 1024 bytes"
says "small MTU" out "fix: sudo ip link set dev ens1 mtu 4200"
tree 4
device iw0 0 Ethernet "4: ACTIVE" "5: LinkUp"
gid iw0 1 0 0c42:a165:4abc:0000:0000:0000:0000:0000 "IB/RoCE v1" ens3
put sys/class/infiniband/iw0/node_type "4: RNIC"
limits 8388608 unlimited 1048576 1048576
doctor 0 iWARP
says iWARP out "note: rdma: iw0 speaks iWARP, which gyre does not use"

tree 4
roce
rm "$t/dev/infiniband/uverbs0"
doctor 1 "no uverbs file"
says "no uverbs file" out "/dev/infiniband/uverbs0 is missing"
put run/.containerenv ""
doctor 1 "no uverbs file, podman"
says "no uverbs file, podman" out "fix: podman run --device=/dev/infiniband/uverbs0 ..."
rm -r "$t/sys/class/infiniband_verbs"
doctor 1 "no ib_uverbs"
says "no ib_uverbs" out "fix: sudo modprobe ib_uverbs"
tree 4
roce
rm "$t/dev/infiniband/rdma_cm"
doctor 1 "no rdma_cm"
says "no rdma_cm" out "fix: sudo modprobe rdma_ucm"
# A file that may not be opened, which root may all the same.
if [ "$(id -u)" != 0 ]; then
	tree 4
	roce
	chmod 0 "$t/dev/infiniband/uverbs0"
	doctor 1 "closed uverbs file"
	says "closed uverbs file" out "fix: sudo chmod 0666 /dev/infiniband/uverbs0"
fi
tree 4
roce
timeout 50 "$info" --doctor --root "$t" >out
if "$info" -t | grep '^  verbs ' | grep -qv "built without verbs"; then
	lacks "built with verbs" out "built without verbs"
else
	says "built without verbs" out "problem: rdma: mlx5_0 is there, but this gyre was built without verbs; fix: "
fi

# ---- doctor: memory, files, processors ----
tree 4
put proc/sys/vm/memfd_noexec 2
doctor 0 "/dev/shm that is large enough" GYRE_POOL_BYTES=1m -n 2
doctor 2 "/dev/shm too small" GYRE_POOL_BYTES=512g
says "/dev/shm too small" out "problem: shm: memfd_create is not allowed here, and /dev/shm has "
says "/dev/shm too small" out "fix: sudo mount -o remount,size="
touch "$t/.dockerenv"
doctor 2 "/dev/shm, docker" GYRE_POOL_BYTES=512g
says "/dev/shm, docker" out "fix: docker run --shm-size="
rm -r "$t/dev/shm"
doctor 1 "no /dev/shm"
put proc/sys/vm/memfd_noexec 1
doctor 0 "memfd does for /dev/shm"

tree 4
limits unlimited unlimited 40 4096
doctor 1 "few files"
says "few files" out "a process may have 40 files open, but each of 4 ranks may need 44; fix: ulimit -n 44"
limits unlimited unlimited 40 42
doctor 1 "few files at all"
says "few files at all" out "'* - nofile 66\\nroot - nofile 66\\n' | sudo tee /etc/security/limits.d/gyre-nofile.conf"
limits unlimited unlimited 1024 4096
doctor 0 "enough files"
doctor 1 "few files for many ranks" GYRE_POOL_BYTES=1m -n 400

tree 8
put sys/fs/cgroup/user.slice/session/memory.max max
put sys/fs/cgroup/user.slice/memory.max 134217728
doctor 1 "memory of a control group"
says "memory of a control group" out "pools of 8 ranks take up to 128 MiB, and this control group may use only 128 MiB"
says "memory of a control group" out "fix: export GYRE_POOL_BYTES=4m"
doctor 0 "memory: its fix" GYRE_POOL_BYTES=4m
put sys/fs/cgroup/user.slice/memory.max 16777216
doctor 1 "little memory"
says "little memory" out "fix: gyrerun -n 4 ..."
tree 8
put proc/self/cgroup "4:memory:/docker/7\n3:cpu,cpuacct:/docker/7\n0::/"
put sys/fs/cgroup/memory/memory.limit_in_bytes 134217728
put sys/fs/cgroup/memory/docker/7/memory.limit_in_bytes 9223372036854771712
doctor 1 "memory, first version of control groups"
put sys/fs/cgroup/memory/memory.limit_in_bytes 9223372036854771712
doctor 0 "no limit, first version of control groups"
put sys/fs/cgroup/cpu/cpu.cfs_quota_us 250000
put sys/fs/cgroup/cpu/cpu.cfs_period_us 100000
doctor 1 "processors, first version of control groups"
says "processors, first version of control groups" out "the control group allows 2.50 of 8; fix: gyrerun -n 2 ..."
tree 8
doctor 1 "memory of the machine" GYRE_POOL_BYTES=8g
says "memory of the machine" out "pools of 8 ranks take up to 64 GiB, and this machine has only 64 GiB"

tree 8
put sys/fs/cgroup/user.slice/cpu.max "300000 100000"
doctor 1 "processors"
says processors out "problem: cpu: 8 ranks spin as if each had a processor; the control group allows 3.00 of 8; fix: gyrerun -n 3 ..."
doctor 0 "processors: its fix" -n 3
doctor 1 "processors, ranks asked for" -n 4
says "processors, ranks asked for" out "fix: export GYRE_SPIN_US=0"
doctor 0 "processors: its other fix" GYRE_SPIN_US=0 -n 4
doctor 0 "more ranks than processors" -n 9
tree 8
put proc/self/status "CapEff:\t0\nCpus_allowed_list:\t2-3,6"
doctor 0 "bound"
doctor 1 "bound, more ranks" -n 8
says "bound, more ranks" out "the binding allows 3.00 of 8"

# ---- doctor: reading other ranks' memory ----
tree 4
put proc/sys/kernel/yama/ptrace_scope 1
doctor 0 "CMA off"
doctor 1 "CMA, scope 1" GYRE_CMA=auto
says "CMA, scope 1" out "kernel.yama.ptrace_scope = 1 keeps ranks from reading each other's memory"
says "CMA, scope 1" out "fix: export GYRE_CMA=on"
doctor 0 "CMA, scope 1: its fix" GYRE_CMA=on
put proc/sys/kernel/yama/ptrace_scope 2
doctor 1 "CMA, scope 2" GYRE_CMA=auto
says "CMA, scope 2" out "fix: sudo sysctl -w kernel.yama.ptrace_scope=0"
put proc/self/status "CapEff:\t0000000000080000\nCpus_allowed_list:\t0-3"
doctor 0 "CMA, scope 2, CAP_SYS_PTRACE" GYRE_CMA=auto
put proc/sys/kernel/yama/ptrace_scope 3
doctor 1 "CMA, scope 3" GYRE_CMA=auto
says "CMA, scope 3" out "fix: export GYRE_CMA=off"
doctor 0 "CMA, scope 3: its fix" GYRE_CMA=off

# ---- doctor: settings, transports, interfaces ----
tree 4
doctor 1 "unknown variable" GYRE_TRANSPROT=tcp
says "unknown variable" out "environment: GYRE_TRANSPROT is no setting; the nearest is GYRE_TRANSPORT; fix: export GYRE_TRANSPORT=\"\$GYRE_TRANSPROT\"; unset GYRE_TRANSPROT"
doctor 1 "variable like no other" GYRE_COFFEE_MACHINE=1
says "variable like no other" out "fix: unset GYRE_COFFEE_MACHINE"
doctor 1 "variable that is no word" 'GYRE_X;false=1'
lacks "variable that is no word" out "fix: "
doctor 3 "bad values" GYRE_POOL_BYTES=lots GYRE_TRANSPORT=udp GYRE_RANK=-7
says "bad values" out 'GYRE_POOL_BYTES = "lots" is not valid for pool_bytes: allowed is bytes'
says "bad values" out "fix: unset GYRE_TRANSPORT"
doctor 1 "bad algorithm" GYRE_ALGORITHM=allreduce=magic
says "bad algorithm" out 'unknown algorithm "magic"; known: flat'
doctor 1 "bad key" GYRE_JOB_KEY=xyz
lacks "bad key" out xyz
doctor 1 "rank beyond size" GYRE_RANK=4 GYRE_SIZE=4 GYRE_ROOT=127.0.0.1:4711
says "rank beyond size" out "GYRE_RANK is 4, but GYRE_SIZE 4"
doctor 1 "no root" GYRE_RANK=0 GYRE_SIZE=4
says "no root" out "GYRE_ROOT does not say where ranks meet; fix: export GYRE_ROOT=HOST:PORT"
doctor 1 "bad root" GYRE_RANK=0 GYRE_SIZE=4 GYRE_ROOT=localhost:4711,localhost
says "bad root" out 'GYRE_ROOT: "localhost" is not host:port'
doctor 0 "a job" GYRE_RANK=0 GYRE_SIZE=4 "GYRE_ROOT=[::1]:4711,a:4711" GYRE_JOB_KEY=00112233445566778899aabbccddeeff
printf 'tcp_streams = 3\ntcp_steams = 4\npool_bytes = lots\n' >conf
doctor 2 "bad file" GYRE_CONFIG="$work/conf"
says "bad file" out "fix: sed -i '2s/^[^=]*/tcp_streams /' '$work/conf'"
says "bad file" out "fix: sed -i '3s/^/# /' '$work/conf'"
sed -n 's/^problem: .*; fix: \(sed .*\)/\1/p' out >fixes
bash fixes || fail "bad file: its fixes do not run"
doctor 0 "bad file: its fixes" GYRE_CONFIG="$work/conf"
doctor 1 "no file" GYRE_CONFIG="$work/nosuch"
says "no file" out "cannot open $work/nosuch"
says "no file" out "fix: unset GYRE_CONFIG"
doctor 1 "interfaces: none left" GYRE_TCP_INTERFACES=nosuch0
says "interfaces: none left" out "fix: unset GYRE_TCP_INTERFACES"
doctor 1 "interfaces: no list" GYRE_TCP_INTERFACES=10.0.0.0/99
doctor 0 "interfaces: the loopback only" GYRE_TCP_INTERFACES=lo
says "interfaces: the loopback only" out "note: network: no address but the loopback's is used"
doctor 1 "the simulator" GYRE_TRANSPORT=sim
says "the simulator" out "fix: unset GYRE_TRANSPORT"

# Each fix by unset, run.
for v in GYRE_TRANSPROT=tcp GYRE_COFFEE_MACHINE=1 GYRE_POOL_BYTES=lots GYRE_ALGORITHM=allreduce=magic \
	GYRE_JOB_KEY=xyz GYRE_TCP_INTERFACES=nosuch0 GYRE_TRANSPORT=sim; do
	doctor 1 "$v" "$v"
	fix=$(sed -n 's/^problem: .*; fix: //p' out)
	if [ "${v%%=*}" != GYRE_JOB_KEY ] || command -v openssl >/dev/null; then
		expect 0 "$v, then $fix" env "$v" bash -c "$fix; exec \"\$0\" --doctor --root \"\$1\"" "$info" "$t"
	fi
done

# ---- doctor: namespaces of our own, where they may be made ----
if unshare -rn true 2>/dev/null; then
	timeout 50 unshare -rn "$info" --doctor --root "$t" >out
	[ $? = 1 ] || fail "no interface: status"
	says "no interface" out "problem: network: no interface has an address"
	says "no interface" out "fix: sudo ip link set dev lo up"
else
	echo "not tested: no interface at all (unshare -rn is not allowed)"
fi
if unshare -rm sh -c "mount -t tmpfs -o size=8m none $t/dev/shm" 2>/dev/null; then
	put proc/sys/vm/memfd_noexec 2
	timeout 50 unshare -rm sh -c "mount -t tmpfs -o size=8m none $t/dev/shm && \
		exec $info --doctor --root $t" >out
	[ $? = 1 ] || fail "small /dev/shm: status"
	says "small /dev/shm" out "/dev/shm has 8 MiB free, but 4 ranks share 64.3 MiB; fix: sudo mount -o remount,size=128m /dev/shm"
	# Its fix, at the place where the tree has /dev/shm.
	timeout 50 unshare -rm sh -c "mount -t tmpfs -o size=8m none $t/dev/shm && \
		{ mount -o remount,size=128m $t/dev/shm || exit 7; } && exec $info --doctor --root $t" >out 2>err
	case $? in
	0) ;;
	7) echo "not tested: the fix for a small /dev/shm (remount is not allowed)" ;;
	*) fail "small /dev/shm: its fix"; cat out ;;
	esac
else
	echo "not tested: a small /dev/shm (unshare -rm is not allowed)"
fi

# ---- JSON ----
if "$info" --json >json 2>err; then
	command -v python3 >/dev/null || { echo "not tested: JSON (no python3)"; exit $failed; }
	tree 8
	roce
	limits 65536 8388608 1048576 1048576
	GYRE_TRANSPROT=1 GYRE_TCP_STREAMS=5 timeout 50 "$info" --json --root "$t" >made 2>err ||
		fail "JSON: status"
	timeout 50 "$info" --doctor --json --root "$t" >judged
	[ $? = 1 ] || fail "JSON, doctor: status"
	python3 - <<-'END' || fail JSON
		import json
		here, made, judged = (json.load(open(f)) for f in ("json", "made", "judged"))
		sections = {"system", "transports", "rdma", "network", "limits", "topology", "settings", "algorithms",
			    "doctor"}
		assert set(here) == set(made) == sections, (set(here), set(made))
		assert set(judged) == {"doctor"}
		port = made["rdma"]["ports"][0]
		assert (port["device"], port["port"], port["active_mtu"], port["lid"]) == ("mlx5_0", 1, 4096, None), port
		assert [g["index"] for g in made["rdma"]["gids"]] == [0, 1, 2, 3]
		assert made["rdma"]["gids"][3]["address"] == "10.1.2.3"
		assert made["limits"]["memlock_hard"] == 8388608
		assert made["system"]["memory_limit"] == -1
		assert {s["name"]: s for s in made["settings"]["settings"]}["GYRE_TCP_STREAMS"]["where"] == "GYRE_TCP_STREAMS"
		areas = [f["area"] for f in made["doctor"]["findings"] if f["problem"]]
		assert "memlock" in areas and "settings" in areas, areas
		assert made["doctor"]["problems"] == len(areas)
		assert any(t["name"] == "tcp" and t["opens"] for t in here["transports"]["transports"])
		assert any(a["max_ranks"] == 65535 for a in here["algorithms"]["algorithms"])
		assert here["topology"]["objects"][0]["depth"] == 0
	END
	# The manual's example, of the machine that is made up: its one port is active.
	sed -n 's/^\.Dl \$ gyre-info --json | \(jq .*\)/\1/p' "$page" | sed 's/\\(dq/"/g' >example
	if command -v jq >/dev/null; then
		expect 0 "example with jq" bash -c '[ -s example ] && . ./example <made'
		says "example with jq" out '"device": "mlx5_0"'
	else
		echo "not tested: the example with jq (no jq)"
	fi
else
	says "no JSON" err "built without jansson"
fi
exit $failed
