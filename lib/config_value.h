/* SPDX-License-Identifier: BSD-3-Clause */
#ifndef GY_CONFIG_VALUE_H
#define GY_CONFIG_VALUE_H
/*
 * One setting from text and to text; config.c's other half.
 */
#include "lib/config.h"
#include "lib/util.h"

#define GY_CONFIG_NAME_MAX 32

/* 0, or -EINVAL with the field as it was. */
int gy_config_parse(const struct gy_config_entry *e, const char *text, void *field);

/* The field as text; "..." for a secret. */
void gy_config_format(const struct gy_config_entry *e, const void *field, char *buf, size_t len);

/* What may be written, for the message about a bad value. */
gy_cold void gy_config_allowed(const struct gy_config_entry *e, char *buf, size_t len);

/* Edit distance of two names, case aside; SIZE_MAX when one is longer than GY_CONFIG_NAME_MAX. */
gy_cold size_t gy_config_distance(const char *a, const char *b);

#endif
