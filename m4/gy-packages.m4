dnl SPDX-License-Identifier: BSD-3-Clause
dnl Libraries that gyre uses, found by pkg-config.

dnl GY_NEED(PREFIX, MODULES, DEBIAN-PACKAGE): without it there is no library.
AC_DEFUN([GY_NEED], [
PKG_CHECK_MODULES([$1], [$2], [],
	[AC_MSG_ERROR([gyre needs $2, which pkg-config does not find.
  On Debian: apt install $3 pkg-config])])
])

dnl GY_WITH(NAME, MODULES, DEBIAN-PACKAGES, WHAT): --with-NAME: an error without it; --without-NAME;
dnl neither: with it where it is found.  Sets HAVE_NAME and gy_NAME_says as GY_WANT does.
AC_DEFUN([GY_WITH], [
AC_ARG_WITH([$1], [AS_HELP_STRING([--with-$1], [$4 (default: when $2 are found)])], [],
	[with_$1=auto])
gy_have=no
AS_IF([test "x$with_$1" = xno],
	[gy_$1_says="no: --without-$1"],
	[PKG_CHECK_MODULES(m4_toupper([$1]), [$2],
		[gy_have=yes
		 gy_$1_says=yes],
		[gy_$1_says="no: $2 not found (Debian: apt install $3)"
		 AS_IF([test "x$with_$1" = xyes],
			[AC_MSG_ERROR([--with-$1 needs $2, which pkg-config does not find.
  On Debian: apt install $3 pkg-config])])])])
AM_CONDITIONAL([HAVE_]m4_toupper([$1]), [test "x$gy_have" = xyes])
])

dnl GY_WANT(PREFIX, MODULES, DEBIAN-PACKAGE): a bench tool or the unit tests need it.  Sets the
dnl automake conditional HAVE_PREFIX and, for the summary, gy_prefix_says.
AC_DEFUN([GY_WANT], [
PKG_CHECK_MODULES([$1], [$2],
	[gy_have=yes
	 m4_tolower([gy_$1_says])=yes],
	[gy_have=no
	 m4_tolower([gy_$1_says])="no: $2 not found (Debian: apt install $3)"])
AM_CONDITIONAL([HAVE_$1], [test "x$gy_have" = xyes])
])
