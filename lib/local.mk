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
