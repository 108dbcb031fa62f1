# Programs on the public API only: x_SOURCES, x_CPPFLAGS = $(BENCH_CPPFLAGS), x_LDADD = libgyre.la
BENCH_CPPFLAGS = -I$(top_srcdir)/include
