# Delayed collectives.
libgy_la_SOURCES += \
	%D%/adapt.c \
	%D%/adapt.h \
	%D%/apply.c \
	%D%/attr.c \
	%D%/collect.c \
	%D%/create.c \
	%D%/delayed.h \
	%D%/helpers.c \
	%D%/merge.c \
	%D%/merge.h \
	%D%/merge_loops.h \
	%D%/post.c \
	%D%/presets.c \
	%D%/rebind.c \
	%D%/round.c \
	%D%/round_say.c \
	%D%/save.c \
	%D%/save.h \
	%D%/save_format.c \
	%D%/tick.c \
	%D%/turn.c
