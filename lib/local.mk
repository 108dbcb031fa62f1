# Base, contracts, engine, bootstrap, communicator, public entry points.
EXTRA_DIST += %D%/libgyre.map

libgy_la_SOURCES += \
	%D%/alloc.c \
	%D%/alloc.h \
	%D%/error.c \
	%D%/list.h \
	%D%/log.c \
	%D%/log.h \
	%D%/types.c \
	%D%/util.h
