# Programs that ship: bin_PROGRAMS += gyrerun, gyrerun_SOURCES = %D%/gyrerun.c
