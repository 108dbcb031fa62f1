dnl SPDX-License-Identifier: BSD-3-Clause
dnl Libraries that gyre uses, found by pkg-config.

dnl GY_NEED(PREFIX, MODULES, DEBIAN-PACKAGE): without it there is no library.
AC_DEFUN([GY_NEED], [
PKG_CHECK_MODULES([$1], [$2], [],
	[AC_MSG_ERROR([gyre needs $2, which pkg-config does not find.
  On Debian: apt install $3 pkg-config])])
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
