dnl SPDX-License-Identifier: BSD-3-Clause
dnl The --enable options of gyre and its compiler flags.

AC_DEFUN([GY_OPTION_WERROR], [
AC_ARG_ENABLE([werror],
	[AS_HELP_STRING([--enable-werror], [treat compiler warnings as errors])],
	[], [enable_werror=no])
])

dnl GY_DEBUG: 1 = gy_assert, 2 = gy_assert_slow too.
AC_DEFUN([GY_OPTION_DEBUG], [
AC_ARG_ENABLE([debug],
	[AS_HELP_STRING([--enable-debug@<:@=full@:>@],
		[check preconditions; full: whole-structure invariants after each step too])],
	[], [enable_debug=no])
AS_CASE([$enable_debug],
	[no], [],
	[yes], [AC_DEFINE([GY_DEBUG], [1])],
	[full], [AC_DEFINE([GY_DEBUG], [2])],
	[AC_MSG_ERROR([--enable-debug takes yes, no or full, not "$enable_debug"])])
])

dnl Tests run slower under a sanitizer: GY_TEST_SLOWDOWN multiplies their time limits.
AC_DEFUN([GY_OPTION_SANITIZER], [
AC_ARG_ENABLE([sanitizer],
	[AS_HELP_STRING([--enable-sanitizer=LIST],
		[build with sanitizers: address,undefined or thread])],
	[], [enable_sanitizer=no])
gy_san_cflags=
GY_TEST_SLOWDOWN=1
AS_CASE([$enable_sanitizer],
	[no], [],
	[yes], [AC_MSG_ERROR([--enable-sanitizer needs a list, such as address,undefined])],
	[gy_san_cflags="-fsanitize=$enable_sanitizer -fno-sanitize-recover=all -fno-omit-frame-pointer"
	 GY_TEST_SLOWDOWN=4
	 gy_save_CFLAGS=$CFLAGS
	 CFLAGS="$CFLAGS $gy_san_cflags"
	 AC_MSG_CHECKING([whether $CC links with -fsanitize=$enable_sanitizer])
	 AC_LINK_IFELSE([AC_LANG_PROGRAM()], [AC_MSG_RESULT([yes])],
		[AC_MSG_RESULT([no])
		 AC_MSG_ERROR([$CC has no runtime for -fsanitize=$enable_sanitizer
  (clang on Debian: apt install libclang-rt-14-dev, or the version of your clang)])])
	 CFLAGS=$gy_save_CFLAGS])
AC_SUBST([GY_TEST_SLOWDOWN])
])

dnl Sets GY_CFLAGS: the language, then each warning that the compiler knows.  Not that a message may
dnl be cut short, which is what snprintf is for; nor that TSan follows no fences: ours order memory
dnl that processes share, which it does not see.
AC_DEFUN([GY_WARNINGS], [
GY_CFLAGS="-std=gnu11 -ffp-contract=off -fvisibility=hidden -pthread $gy_san_cflags"
gy_save_CFLAGS=$CFLAGS
m4_foreach_w([gy_flag], [-Wall -Wextra -Wno-unused-parameter -Wmissing-prototypes
		-Wstrict-prototypes -Wold-style-definition -Wvla -Wshadow -Wpointer-arith
		-Wwrite-strings -Wundef -Wno-format-truncation -Wno-tsan], [
	AC_MSG_CHECKING([whether $CC takes gy_flag])
	CFLAGS="$gy_save_CFLAGS -Werror gy_flag"
	AC_COMPILE_IFELSE([AC_LANG_PROGRAM()],
		[AC_MSG_RESULT([yes])
		 GY_CFLAGS="$GY_CFLAGS gy_flag"],
		[AC_MSG_RESULT([no])])
])
CFLAGS=$gy_save_CFLAGS
AS_IF([test "x$enable_werror" = xyes], [GY_CFLAGS="$GY_CFLAGS -Werror"])
AC_SUBST([GY_CFLAGS])
])
