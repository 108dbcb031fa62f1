# Programs that ship: bin_PROGRAMS += %D%/gyrerun

bin_PROGRAMS += %D%/gyrerun
%C%_gyrerun_SOURCES = \
	%D%/gyrerun.c \
	%D%/gyrerun.h \
	%D%/gyrerun_host.c \
	%D%/gyrerun_io.c \
	%D%/gyrerun_loop.c \
	%D%/gyrerun_rank.c
%C%_gyrerun_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS)
%C%_gyrerun_LDADD = libgy.la $(HWLOC_LIBS)
