#!/bin/sh
# GoogleTest has no wheel: take Debian's package where we may, say what to do where we may not.
[ -f /usr/include/gtest/gtest.h ] && exit 0
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
if command -v apt-get >/dev/null; then
  $sudo apt-get update -qq && $sudo apt-get install -y -qq libgtest-dev >/dev/null && exit 0
fi
echo "error: the C++ tests need GoogleTest: install libgtest-dev (Debian, Ubuntu) or gtest-devel (Fedora)" >&2
exit 1
