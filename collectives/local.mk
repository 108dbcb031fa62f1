# One file per algorithm, a line here and two in lib/registry.c.
libgy_la_SOURCES += \
	%D%/allgather_bruck.c \
	%D%/allgather_direct.c \
	%D%/allgather_ring.c \
	%D%/allreduce_direct.c \
	%D%/allreduce_flat.c \
	%D%/allreduce_halving_doubling.c \
	%D%/allreduce_recursive_doubling.c \
	%D%/allreduce_ring.c \
	%D%/barrier_dissemination.c \
	%D%/broadcast_binomial.c \
	%D%/broadcast_chain.c \
	%D%/broadcast_scatter_allgather.c \
	%D%/fan.h \
	%D%/fold.h \
	%D%/reduce_scatter_direct.c \
	%D%/reduce_scatter_ring.c

include %D%/delayed/local.mk
