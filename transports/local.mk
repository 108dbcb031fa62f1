# One directory per back end: libgy_la_SOURCES += %D%/tcp/lane.c

libgy_la_SOURCES += \
	%D%/shm/ep.c \
	%D%/shm/file.c \
	%D%/shm/mem.c \
	%D%/shm/nic.c \
	%D%/shm/note.c \
	%D%/shm/ring.h \
	%D%/shm/shm.h

libgy_la_SOURCES += \
	%D%/tcp/bulk.c \
	%D%/tcp/ep.c \
	%D%/tcp/shape.c %D%/tcp/shape.h \
	%D%/tcp/shape_text.c \
	%D%/tcp/small.c \
	%D%/tcp/tcp.h \
	%D%/tcp/watch.c

libgy_la_SOURCES += \
	%D%/sim/boot.c \
	%D%/sim/cost.c \
	%D%/sim/ep.c \
	%D%/sim/fault.c \
	%D%/sim/fiber.c \
	%D%/sim/fiber.h \
	%D%/sim/fiber_san.h \
	%D%/sim/heap.c \
	%D%/sim/heap.h \
	%D%/sim/mem.c \
	%D%/sim/nic.c \
	%D%/sim/nic.h \
	%D%/sim/parcel.c \
	%D%/sim/send.c \
	%D%/sim/sim.h \
	%D%/sim/sys.c \
	%D%/sim/world.c \
	%D%/sim/world.h \
	%D%/sim/write.c

# Without libibverbs its place is taken, as positions in the table of transports go over the wire.
if HAVE_VERBS
libgy_la_SOURCES += \
	%D%/verbs/bulk.c \
	%D%/verbs/cq.c \
	%D%/verbs/ep.c \
	%D%/verbs/meet.c \
	%D%/verbs/mem.c \
	%D%/verbs/nic.c \
	%D%/verbs/note.c \
	%D%/verbs/pages.c \
	%D%/verbs/port.c \
	%D%/verbs/qp.c \
	%D%/verbs/reset.c \
	%D%/verbs/route.c \
	%D%/verbs/small.c \
	%D%/verbs/verbs.h
else
libgy_la_SOURCES += %D%/verbs/none.c
endif
