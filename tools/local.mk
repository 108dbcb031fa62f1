# Programs that ship: bin_PROGRAMS += gyrerun, gyrerun_SOURCES = %D%/gyrerun.c

bin_PROGRAMS += gyrerun
gyrerun_SOURCES = \
	%D%/gyrerun.c \
	%D%/gyrerun.h \
	%D%/gyrerun_host.c \
	%D%/gyrerun_io.c \
	%D%/gyrerun_loop.c \
	%D%/gyrerun_rank.c
gyrerun_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS)
gyrerun_LDADD = libgy.la $(HWLOC_LIBS)
