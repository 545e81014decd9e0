#!/bin/sh
# Tests of the studio drive a real browser: take Debian's where we may; without one they are skipped.
for name in chromium chromium-browser google-chrome; do command -v $name >/dev/null && exit 0; done
sudo=""
[ "$(id -u)" = 0 ] || sudo="sudo -n"
if command -v apt-get >/dev/null; then
  $sudo apt-get update -qq && $sudo apt-get install -y -qq chromium >/dev/null && exit 0
fi
echo "note: no Chromium: tests of the studio's pages will be skipped (Debian: apt install chromium)" >&2
exit 0
