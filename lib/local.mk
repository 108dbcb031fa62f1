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
