# One file per algorithm: libgy_la_SOURCES += %D%/allreduce_ring.c
