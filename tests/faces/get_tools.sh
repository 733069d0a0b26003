#!/bin/sh
# As root on Debian or Ubuntu, installs what the tests of the C library's faces need: a C++ compiler,
# libjpeg, Mono, and a JDK with the foreign function API where there is a package of one. Elsewhere,
# and where that fails, those tests skip and say what is missing. Never fails.
set -u

has_jdk() {
    for compiler in ${JAVA_HOME:+"$JAVA_HOME/bin/javac"} javac /usr/lib/jvm/*/bin/javac; do
        version=$("$compiler" -version 2>&1 | sed -n 's/^javac \([0-9]*\).*/\1/p')
        [ "${version:-0}" -ge 22 ] && return 0
    done
    return 1
}

missing=
command -v g++ >/dev/null || missing="$missing g++"
[ -f /usr/include/jpeglib.h ] || missing="$missing libjpeg-dev"
command -v mono >/dev/null || missing="$missing mono-runtime"
command -v mcs >/dev/null || missing="$missing mono-mcs"
has_jdk || missing="$missing openjdk-25-jdk-headless"

[ -n "$missing" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null || exit 0
timeout 120 apt-get update -qq
for package in $missing; do # one by one: a release may lack one of them
    timeout 300 apt-get install -qq -y --no-install-recommends "$package" >/dev/null ||
        echo "$package cannot be installed here: the tests that need it will skip"
done
exit 0
