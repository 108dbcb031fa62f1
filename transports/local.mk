# One directory per back end: libgy_la_SOURCES += %D%/tcp/lane.c
