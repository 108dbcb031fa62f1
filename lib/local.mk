# Base, contracts, engine, bootstrap, communicator, public entry points.
EXTRA_DIST += %D%/libgyre.map

libgy_la_SOURCES += \
	%D%/alloc.c \
	%D%/alloc.h \
	%D%/config.c \
	%D%/config.h \
	%D%/config_value.c \
	%D%/config_value.h \
	%D%/error.c \
	%D%/list.h \
	%D%/log.c \
	%D%/log.h \
	%D%/types.c \
	%D%/util.h

# Addresses, sockets, the hello, the rendezvous.
libgy_la_SOURCES += \
	%D%/addrs.c \
	%D%/addrs.h \
	%D%/boot.c \
	%D%/boot.h \
	%D%/boot_gen.c \
	%D%/boot_priv.h \
	%D%/boot_server.c \
	%D%/boot_wire.h \
	%D%/hello.c \
	%D%/hello.h \
	%D%/net.c \
	%D%/net.h \
	%D%/wire.c \
	%D%/wire_dial.c \
	%D%/wire_offer.c \
	%D%/wire_priv.h

# Contracts, engine, communicators, public entry points.
libgy_la_SOURCES += \
	%D%/agree.c \
	%D%/agree.h \
	%D%/agree_priv.h \
	%D%/agree_role.c \
	%D%/agree_say.c \
	%D%/api_coll.c \
	%D%/api_p2p.c \
	%D%/comm.c \
	%D%/comm.h \
	%D%/comm_end.c \
	%D%/context.c \
	%D%/context.h \
	%D%/control.c \
	%D%/control.h \
	%D%/deliver.c \
	%D%/describe.c \
	%D%/engine.c \
	%D%/engine.h \
	%D%/fpenv.h \
	%D%/late.c \
	%D%/line.c \
	%D%/line.h \
	%D%/mem.c \
	%D%/p2p.c \
	%D%/park.c \
	%D%/peer.c \
	%D%/peer.h \
	%D%/poll.c \
	%D%/poll.h \
	%D%/pool.c \
	%D%/request.c \
	%D%/request.h \
	%D%/run.c \
	%D%/run_compute.c \
	%D%/select.c \
	%D%/select.h \
	%D%/shrink.c \
	%D%/split.c \
	%D%/straight.c \
	%D%/stream.c \
	%D%/stream_in.c \
	%D%/stream_out.c \
	%D%/stream_priv.h \
	%D%/sys.h \
	%D%/sys_posix.c \
	%D%/topology.c \
	%D%/topology.h \
	%D%/transport.c \
	%D%/transport.h \
	%D%/wire.h

# Plans and algorithms.
libgy_la_SOURCES += \
	%D%/coll.c \
	%D%/coll.h \
	%D%/plan.h \
	%D%/plan_build.c \
	%D%/plan_deps.c \
	%D%/plan_moves.c \
	%D%/plan_priv.h \
	%D%/plan_text.c \
	%D%/registry.c \
	%D%/registry.h

# Reduction kernels.
libgy_la_SOURCES += \
	%D%/kernels.c \
	%D%/kernels.h \
	%D%/kernels_avx2.c \
	%D%/kernels_avx512.c \
	%D%/kernels_impl.h \
	%D%/kernels_neon.c \
	%D%/kernels_none.c \
	%D%/kernels_scalar.c \
	%D%/kernels_simd.h
