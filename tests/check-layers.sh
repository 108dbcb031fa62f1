#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# check-layers.sh - who may include what: include <- lib <- { transports, collectives }.
#
# Names in quotes start with a layer's directory.  Only lib/registry.[ch] names implementations.
# Files begin with the licence, and are in a local.mk: others are missing in the distribution.
cd "${top_srcdir:-$(dirname "$0")/..}" || exit 1
mapfile -t files < <(find include lib transports collectives bench tools interop tests \
	-name '*.[ch]' 2>/dev/null | sort)
mapfile -t lists < <(find . -name local.mk -printf '%P\n' | sort)

awk '
BEGIN { system_header = "<[a-z0-9_/.-]+\\.h>" }

function complain(file, what) {
	print file ": " what
	bad++
}

function of(layers) { return system_header "|\"(" layers ")/.*\"" }

# A pattern of the #include operands that this file may have.
function allowed(file,   part) {
	split(file, part, "/")
	if (file ~ /^include\/gyre\//)
		return "<(gyre/[a-z0-9]+|std[a-z]+)\\.h>"
	if (part[1] == "transports")
		return of("lib|transports/" part[2])
	if (file ~ /^collectives\/delayed\//)
		return of("lib|collectives")
	if (part[1] == "collectives")	# planners: no sockets, no threads, only the contracts
		return "<(gyre/.*|std[a-z]+|string|limits|errno)\\.h>" \
			"|\"(lib/(coll|plan|util)|collectives/.*)\\.h\""
	if (file == "bench/kernels.c")	# measures what the API does not show
		return of("lib|collectives/delayed")
	if (file == "bench/predict.c")	# runs in the simulator
		return of("lib|transports/sim")
	if (part[1] == "tools")
		return of("lib|tools")
	if (part[1] == "tests")
		return of("lib|transports|collectives|tools|bench|tests")
	return of(part[1])
}

# Of a local.mk: the files that it lists, relative to its directory.
FILENAME ~ /local\.mk$/ {
	directory = FILENAME
	sub(/local\.mk$/, "", directory)
	lists[FILENAME]
	for (i = 1; i <= NF; i++)
		if (sub(/^%D%\//, directory, $i))
			listed[FILENAME, $i]
	next
}

FNR == 1 {
	nfiles++
	pattern = "^(" allowed(FILENAME) ")$"
	mk = FILENAME
	sub(/[^\/]*$/, "local.mk", mk)
	if (!(mk in lists)) {
		mk = FILENAME
		sub(/\/.*/, "/local.mk", mk)
	}
	program = FILENAME	# of one file: it is listed without its .c
	sub(/\.c$/, "", program)
	if (!((mk, FILENAME) in listed) && !((mk, program) in listed))
		complain(FILENAME, "not in " mk)
	if (!/SPDX-License-Identifier: BSD-3-Clause/)
		complain(FILENAME, "no SPDX line")
}

/^[[:blank:]]*#[[:blank:]]*include/ && match($0, /[<"][^>"]*[>"]/) {
	operand = substr($0, RSTART, RLENGTH)
	if (operand !~ pattern)
		complain(FILENAME, "must not include " operand)
}

# Declarations and calls of names of implementations, comments aside.
FILENAME ~ /^lib\// && FILENAME !~ /^lib\/registry\./ && !/^[[:blank:]]*(\/\*|\*)/ &&
/(^|[^a-zA-Z0-9_])gy_((tcp|shm|sim|verbs)_|plan_(allreduce|reduce_scatter|allgather|broadcast|barrier)_)[a-z_]+/ {
	complain(FILENAME, "names an implementation: " FNR ":" $0)
}

END {
	print nfiles " files, " bad + 0 " complaints"
	exit bad > 0
}' "${lists[@]}" "${files[@]}"
