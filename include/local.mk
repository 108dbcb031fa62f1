# Public headers: installed as <gyre/...>, libc includes only.
gyreincludedir = $(includedir)/gyre
gyreinclude_HEADERS = \
	%D%/gyre/coll.h \
	%D%/gyre/comm.h \
	%D%/gyre/context.h \
	%D%/gyre/delayed.h \
	%D%/gyre/gyre.h \
	%D%/gyre/mem.h \
	%D%/gyre/p2p.h \
	%D%/gyre/request.h \
	%D%/gyre/types.h
