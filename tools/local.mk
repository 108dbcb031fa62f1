# Programs that ship: bin_PROGRAMS += %D%/gyrerun

# What they have in common.
tool = %D%/tool.c %D%/tool.h

bin_PROGRAMS += %D%/gyrerun
%C%_gyrerun_SOURCES = \
	%D%/gyrerun.c \
	%D%/gyrerun.h \
	%D%/gyrerun_host.c \
	%D%/gyrerun_io.c \
	%D%/gyrerun_loop.c \
	%D%/gyrerun_rank.c \
	$(tool)
%C%_gyrerun_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS)
%C%_gyrerun_LDADD = libgy.la $(HWLOC_LIBS)

# gyre-info: JSON and MTU are what libraries tell that need not be there.
if HAVE_JANSSON
info_json = %D%/gyre-info-json.c
else
info_json = %D%/gyre-info-nojson.c
endif
if HAVE_VERBS
info_verbs = %D%/gyre-info-verbs.c
else
info_verbs = %D%/gyre-info-noverbs.c
endif
bin_PROGRAMS += %D%/gyre-info
%C%_gyre_info_SOURCES = \
	%D%/gyre-info.c \
	%D%/gyre-info.h \
	%D%/gyre-info-doc.c \
	%D%/gyre-info-doctor-rdma.c \
	%D%/gyre-info-doctor-settings.c \
	%D%/gyre-info-doctor.c \
	%D%/gyre-info-file.c \
	%D%/gyre-info-host.c \
	%D%/gyre-info-net.c \
	%D%/gyre-info-rdma.c \
	%D%/gyre-info-settings.c \
	%D%/gyre-info-topo.c \
	$(info_json) $(info_verbs) $(tool)
%C%_gyre_info_CFLAGS = $(AM_CFLAGS) $(HWLOC_CFLAGS) $(JANSSON_CFLAGS) $(VERBS_CFLAGS)
%C%_gyre_info_LDADD = libgy.la $(HWLOC_LIBS) $(JANSSON_LIBS) $(VERBS_LIBS)

# gyre-wan: needs Linux only; nothing of the library.
bin_PROGRAMS += %D%/gyre-wan
%C%_gyre_wan_SOURCES = \
	%D%/gyre-wan.c \
	%D%/gyre-wan.h \
	%D%/gyre-wan-relay.c \
	%D%/gyre-wan-site.c \
	%D%/gyre-wan-topo.c \
	$(tool)
%C%_gyre_wan_CPPFLAGS = $(AM_CPPFLAGS) -DGYRE_WAN_DIR='"$(pkgdatadir)/wan"'
wandir = $(pkgdatadir)/wan
dist_wan_DATA = %D%/wan/four-regions.topo
