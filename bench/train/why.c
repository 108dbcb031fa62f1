/* SPDX-License-Identifier: BSD-3-Clause */
/* bench/train/why.c - reasons of failures. */
#include <stdarg.h>
#include <stdio.h>

#include "bench/train/why.h"

int why_set(struct why *why, int err, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(why->text, sizeof(why->text), format, args);
	va_end(args);
	return err;
}
