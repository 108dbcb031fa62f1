/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * test_kernels.c - every set of kernels that this CPU runs gives the bits of kernels_ref.c, for
 * every type, operator, number of inputs, length and alignment.  GY_TEST_SEED repeats a run;
 * GY_TEST_LONG=1 tries more.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>
#include "lib/kernels.h"
#include "lib/util.h"
#include "tests/long.h"
#include "tests/unit/kernels_ref.h"

#define GUARD 64		/* bytes around dst that must stay as they are */
#define OFFSETS 64		/* of buffers from a cache line */
#define OUT_OF_PLACE (-1)

static uint64_t kernels_seed, kernels_random_state;
static unsigned kernels_rounds;

static const char *const kernels_names[] = { "scalar", "avx2", "avx512", "neon" };
static const struct gy_kernels *kernels_sets[GY_ARRAY_SIZE(kernels_names)];
static unsigned kernels_nsets;

/* splitmix64 */
static uint64_t kernels_random(void)
{
	uint64_t x = kernels_random_state += 0x9e3779b97f4a7c15;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
	x = (x ^ x >> 27) * 0x94d049bb133111eb;
	return x ^ x >> 31;
}

static unsigned kernels_below(unsigned n)
{
	return (unsigned)(kernels_random() % n);
}

/* In units of the type: integers' ends; zeros, infinities, NaNs, subnormals, ends, ties, ones. */
static const uint64_t kernels_ints[] = { 0,
					 1,
					 2,
					 3,
					 0x7f,
					 0x80,
					 0xff,
					 0x7fff,
					 0x8000,
					 0xffff,
					 0x7fffffff,
					 0x80000000,
					 0xffffffff,
					 0x7fffffffffffffff,
					 0x8000000000000000,
					 UINT64_MAX };
static const uint64_t kernels_f16s[] = { 0,	 0x8000, 0x7c00, 0xfc00, 0x7e00, 0xfe01, 0x7c01,
					 0xfdff, 0x7fff, 1,	 0x8001, 0x3ff,	 0x400,	 0x8400,
					 0x7bff, 0xfbff, 0x3c00, 0xbc00, 0x3c01, 0x1001,
					 0x0c00, 0x7801 };
static const uint64_t kernels_bf16s[] = { 0,	  0x8000, 0x7f80, 0xff80, 0x7fc0, 0xffc1, 0x7f81,
					  0xffbf, 0x7fff, 1,	  0x8001, 0x7f,	  0x80,	  0x8080,
					  0x7f7f, 0xff7f, 0x3f80, 0xbf80, 0x3f81, 0x3b81,
					  0x3b80, 0x7b80 };
static const uint64_t kernels_f32s[] = { 0,	     0x80000000, 0x7f800000, 0xff800000,
					 0x7fc00000,
					 0xffc00001, 0x7f800001, 0xffbfffff, 0x7fffffff,
					 1,	     0x80000001, 0x7fffff,   0x800000,
					 0x80800000, 0x7f7fffff, 0xff7fffff, 0x3f800000,
					 0xbf800000, 0x3f800001, 0x33800000, 0x33800001 };
static const uint64_t kernels_f64s[] = { 0,
					 0x8000000000000000,
					 0x7ff0000000000000,
					 0xfff0000000000000,
					 0x7ff8000000000000,
					 0xfff8000000000001,
					 0x7ff0000000000001,
					 0xfff7ffffffffffff,
					 0x7fffffffffffffff,
					 1,
					 0x8000000000000001,
					 0xfffffffffffff,
					 0x10000000000000,
					 0x8010000000000000,
					 0x7fefffffffffffff,
					 0xffefffffffffffff,
					 0x3ff0000000000000,
					 0xbff0000000000000,
					 0x3ff0000000000001,
					 0x3ca0000000000000 };

/* Sets *n to their number. */
static const uint64_t *kernels_specials(enum gyre_type type, size_t *n)
{
	switch (type) {
	case GYRE_F16:
		*n = GY_ARRAY_SIZE(kernels_f16s);
		return kernels_f16s;
	case GYRE_BF16:
		*n = GY_ARRAY_SIZE(kernels_bf16s);
		return kernels_bf16s;
	case GYRE_F32:
		*n = GY_ARRAY_SIZE(kernels_f32s);
		return kernels_f32s;
	case GYRE_F64:
		*n = GY_ARRAY_SIZE(kernels_f64s);
		return kernels_f64s;
	default:
		*n = GY_ARRAY_SIZE(kernels_ints);
		return kernels_ints;
	}
}

static void kernels_put(enum gyre_type type, void *p, uint64_t bits)
{
	const uint8_t x8 = (uint8_t)bits;
	const uint16_t x16 = (uint16_t)bits;
	const uint32_t x32 = (uint32_t)bits;
	const void *from[] = { [1] = &x8, [2] = &x16, [4] = &x32, [8] = &bits };
	const size_t size = gyre_type_size(type);

	memcpy(p, from[size], size);
}

/* Half are any bits; a quarter floats near each other in size, so that sums round; few special. */
static uint64_t kernels_random_bits(enum gyre_type type)
{
	const uint64_t bits = kernels_random();
	const uint64_t *specials;
	size_t n;

	switch (bits >> 60) {
	case 0:
		specials = kernels_specials(type, &n);
		return specials[kernels_below((unsigned)n)];
	case 1 ... 4:
		if (type == GYRE_F64)
			return (bits & 0x807fffffffffffff) | 0x3fe0000000000000;
		if (type == GYRE_F32)
			return (bits & 0x83ffffff) | 0x3f000000;
		return (bits & 0x87ff) | (type == GYRE_F16 ? 0x3800 : 0x3f00);
	default:
		return bits;
	}
}

static void kernels_fill(enum gyre_type type, void *p, size_t n)
{
	const size_t size = gyre_type_size(type);
	size_t i;

	for (i = 0; i < n; i++)
		kernels_put(type, (char *)p + i * size, kernels_random_bits(type));
}

/* A buffer at a random alignment, with room for the guards. */
static void *kernels_buffer(size_t len, void **mem)
{
	*mem = malloc(len + OFFSETS + 2 * GUARD);
	assert_non_null(*mem);
	memset(*mem, 0xa5, len + OFFSETS + 2 * GUARD);
	return (char *)*mem + GUARD + kernels_below(OFFSETS);
}

static void kernels_check_guards(const void *mem, const void *buf, size_t len)
{
	const unsigned char *p = mem, *end = p + len + OFFSETS + 2 * GUARD;

	for (; p < end; p++) {
		if (p == buf)
			p += len;
		assert_int_equal(*p, 0xa5);
	}
}

static void kernels_explain(const struct gy_kernels *ks, enum gyre_type type, const char *what,
			    unsigned nin, size_t n, const void *is, const void *should)
{
	const size_t size = gyre_type_size(type);
	uint64_t a = 0, b = 0;
	size_t i = 0;

	while (!memcmp((const char *)is + i, (const char *)should + i, size))
		i += size;
	memcpy(&a, (const char *)is + i, size);
	memcpy(&b, (const char *)should + i, size);
	fail_msg("%s %s %s, %u inputs, n %zu, seed %llu: [%zu] is %#llx, not %#llx",
		 gy_kernels_name(ks), gyre_type_name(type), what, nin, n,
		 (unsigned long long)kernels_seed, i / size,
		 (unsigned long long)a, (unsigned long long)b);
}

/* The first nin of in[] through one kernel, place: the input that is also dst. */
static void kernels_check(const struct gy_kernels *ks, enum gyre_type type, enum gyre_op op,
			  const void *const *in, unsigned nin, size_t n, int place,
			  const void *should)
{
	const size_t len = n * gyre_type_size(type);
	const void *args[GY_MAX_INPUTS];
	void *mem, *dst = kernels_buffer(len, &mem);

	memcpy(args, in, nin * sizeof(in[0]));
	if (place != OUT_OF_PLACE) {
		memcpy(dst, in[place], len);
		args[place] = dst;
	}
	gy_kernel_reduce(ks, type, op)(dst, args, nin, n);
	if (memcmp(dst, should, len))
		kernels_explain(ks, type, gyre_op_name(op), nin, n, dst, should);
	kernels_check_guards(mem, dst, len);
	free(mem);
}

/* All sets, out of place and in the place of some input, which stay as they are. */
static void kernels_check_sets(enum gyre_type type, enum gyre_op op, const void *const *in,
			       unsigned nin, size_t n)
{
	const size_t len = n * gyre_type_size(type);
	void *should = malloc(len + 1);
	unsigned s;

	assert_non_null(should);
	kernels_ref_reduce(type, op, should, in, nin, n);
	for (s = 0; s < kernels_nsets; s++) {
		kernels_check(kernels_sets[s], type, op, in, nin, n, OUT_OF_PLACE, should);
		kernels_check(kernels_sets[s], type, op, in, nin, n, (int)kernels_below(nin),
			      should);
	}
	free(should);
}

/* Random operands, each buffer with its own alignment. */
static void kernels_check_random(enum gyre_type type, enum gyre_op op, unsigned nin, size_t n)
{
	const size_t len = n * gyre_type_size(type);
	const void *in[GY_MAX_INPUTS];
	void *mem[GY_MAX_INPUTS], *copy[GY_MAX_INPUTS];
	unsigned k;

	for (k = 0; k < nin; k++) {
		void *buf = kernels_buffer(len, &mem[k]);

		kernels_fill(type, buf, n);
		in[k] = buf;
		copy[k] = malloc(len + 1);
		assert_non_null(copy[k]);
		memcpy(copy[k], buf, len);
	}
	kernels_check_sets(type, op, in, nin, n);
	for (k = 0; k < nin; k++) {
		assert_memory_equal(in[k], copy[k], len);
		free(copy[k]);
		free(mem[k]);
	}
}

static void test_choice(void **state)
{
	const struct gy_kernels *best = gy_kernels_best();

	(void)state;
	assert_non_null(best);
	assert_ptr_equal(gy_kernels_named(gy_kernels_name(best)), best);
	assert_non_null(gy_kernels_named("scalar"));
	assert_null(gy_kernels_named("mmx"));
	assert_null(gy_kernels_named(""));
}

static void test_lengths(void **state)
{
	static const size_t lengths[] = { 191, 192, 193, 255, 256, 257, 1023, 1024, 1025, 5003 };
	unsigned type, op, r, i;

	(void)state;
	for (type = 0; type < GYRE_NTYPES; type++)
		for (op = 0; op < GYRE_NOPS; op++)
			for (r = 0; r < kernels_rounds; r++) {
				for (i = 0; i <= 130; i++)
					kernels_check_random(type, op, 1 + kernels_below(4), i);
				for (i = 0; i < GY_ARRAY_SIZE(lengths); i++)
					kernels_check_random(type, op, 2 + kernels_below(3),
							     lengths[i]);
			}
}

static void test_inputs(void **state)
{
	unsigned type, op, nin;

	(void)state;
	for (type = 0; type < GYRE_NTYPES; type++)
		for (op = 0; op < GYRE_NOPS; op++)
			for (nin = 1; nin <= GY_MAX_INPUTS; nin++) {
				kernels_check_random(type, op, nin, 1);
				kernels_check_random(type, op, nin, 200 + kernels_below(100));
			}
}

/* Every triple of special values; so both orders of every pair. */
static void test_specials(void **state)
{
	unsigned type, op;
	size_t m, i, j, n;

	(void)state;
	for (type = 0; type < GYRE_NTYPES; type++) {
		const size_t size = gyre_type_size(type);
		const uint64_t *specials = kernels_specials(type, &m);
		char *a, *b, *c;

		n = m * m * m;
		a = malloc(n * size);
		b = malloc(n * size);
		c = malloc(n * size);
		assert_true(a && b && c);
		for (i = j = 0; j < n; i += size, j++) {
			kernels_put(type, a + i, specials[j % m]);
			kernels_put(type, b + i, specials[j / m % m]);
			kernels_put(type, c + i, specials[j / m / m]);
		}
		for (op = 0; op < GYRE_NOPS; op++) {
			kernels_check_sets(type, op, (const void *[]){ a, b, c }, 2, n);
			kernels_check_sets(type, op, (const void *[]){ a, b, c }, 3, n);
		}
		free(a);
		free(b);
		free(c);
	}
}

/* All f16 and bf16, with one, with zero and with random others. */
static void test_all_halves(void **state)
{
	enum {
		N = 65536
	};
	uint16_t *all = malloc(N * sizeof(*all)), *other = malloc(N * sizeof(*other));
	unsigned type, op, r, i;

	(void)state;
	assert_true(all && other);
	for (i = 0; i < N; i++)
		all[i] = (uint16_t)i;
	for (type = GYRE_F16; type <= GYRE_BF16; type++)
		for (r = 0; r < 2 + 4 * kernels_rounds; r++) {
			for (i = 0; i < N; i++)
				other[i] = (uint16_t)(r > 1		 ? kernels_random_bits(type)
						      : r == 0		 ? 0
						      : type == GYRE_F16 ? 0x3c00
									 : 0x3f80);
			for (op = 0; op < GYRE_NOPS; op++)
				kernels_check_sets(type, op, (const void *[]){ all, other }, 2, N);
		}
	free(all);
	free(other);
}

static void kernels_check_divide(enum gyre_type type, const void *src, size_t n, unsigned divisor)
{
	const size_t len = n * gyre_type_size(type);
	void *should = malloc(len + 1), *mem, *dst;
	unsigned s, in_place;

	assert_non_null(should);
	kernels_ref_divide(type, should, src, n, divisor);
	for (s = 0; s < kernels_nsets; s++)
		for (in_place = 0; in_place < 2; in_place++) {
			dst = kernels_buffer(len, &mem);
			if (in_place)
				memcpy(dst, src, len);
			gy_kernel_divide(kernels_sets[s], type, dst, in_place ? dst : src, n,
					 divisor);
			if (memcmp(dst, should, len))
				kernels_explain(kernels_sets[s], type, "divided", divisor, n, dst,
						should);
			kernels_check_guards(mem, dst, len);
			free(mem);
		}
	free(should);
}

static void test_divide(void **state)
{
	static const unsigned divisors[] = { 1,	    2,	   3,	  4,	    5,	      6,
					     7,	    8,	   9,	  10,	    64,	      100,
					     127,   128,   255,	  256,	    1000,     4096,
					     65535, 65536, 65537, 16777217, 1u << 31, UINT32_MAX };
	unsigned type, i, len;
	void *src, *mem;

	(void)state;
	for (type = 0; type < GYRE_NTYPES; type++)
		for (i = 0; i < GY_ARRAY_SIZE(divisors); i++)
			for (len = 0; len < 100 * kernels_rounds; len += 1 + kernels_below(7)) {
				src = kernels_buffer(len * 8, &mem);
				kernels_fill(type, src, len);
				kernels_check_divide(type, src, len, divisors[i]);
				free(mem);
			}
}

/* Integers around the multiples of the divisor, where a quotient that is not exact would show. */
static void test_divide_multiples(void **state)
{
	unsigned type, i, divisor;
	char src[300 * 8];

	(void)state;
	for (type = GYRE_INT8; type <= GYRE_UINT64; type++)
		for (i = 0; i < 200 * kernels_rounds; i++) {
			const size_t size = gyre_type_size(type);
			unsigned k;

			divisor =
				1 + (unsigned)(kernels_random() % UINT32_MAX >> kernels_below(32));
			for (k = 0; k < 100; k++) {
				const uint64_t x = kernels_random() >> kernels_below(64);
				const uint64_t multiple = x / divisor * divisor;

				kernels_put(type, src + (3 * k) * size, multiple - 1);
				kernels_put(type, src + (3 * k + 1) * size, multiple);
				kernels_put(type, src + (3 * k + 2) * size, -multiple + 1);
			}
			kernels_check_divide(type, src, 300, divisor);
		}
}

static void test_copy(void **state)
{
	const size_t large = ((size_t)16 << 20) + 77;
	unsigned s, r;

	(void)state;
	for (r = 0; r < 400; r++) {
		const size_t len = r == 0 ? large : r < 300 ? r : kernels_below(10000);
		void *src_mem, *mem, *src = kernels_buffer(len, &src_mem), *dst;

		kernels_fill(GYRE_UINT8, src, len);
		for (s = 0; s <= kernels_nsets; s++) {
			dst = kernels_buffer(len, &mem);
			if (s < kernels_nsets)
				gy_kernel_copy_stream(kernels_sets[s], dst, src, len);
			else
				gy_kernel_copy(gy_kernels_best(), dst, src, len);
			assert_memory_equal(dst, src, len);
			if (len < large)
				kernels_check_guards(mem, dst, len);
			free(mem);
		}
		free(src_mem);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_choice),
		cmocka_unit_test(test_lengths),
		cmocka_unit_test(test_inputs),
		cmocka_unit_test(test_specials),
		cmocka_unit_test(test_all_halves),
		cmocka_unit_test(test_divide),
		cmocka_unit_test(test_divide_multiples),
		cmocka_unit_test(test_copy),
	};
	const char *seed = getenv("GY_TEST_SEED");
	size_t i;

	kernels_seed = kernels_random_state = seed ? strtoull(seed, NULL, 0) : 1;
	kernels_rounds = test_times(1, 10);
	printf("seed %llu; best here: %s; tested:", (unsigned long long)kernels_seed,
	       gy_kernels_name(gy_kernels_best()));
	for (i = 0; i < GY_ARRAY_SIZE(kernels_names); i++) {
		const struct gy_kernels *ks = gy_kernels_named(kernels_names[i]);

		if (ks) {
			kernels_sets[kernels_nsets++] = ks;
			printf(" %s", kernels_names[i]);
		}
	}
	printf("\n");
	return cmocka_run_group_tests(tests, NULL, NULL);
}
