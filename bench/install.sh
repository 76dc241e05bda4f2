#!/bin/sh
# Installs PyTorch for /usr/bin/python3 from Debian's packages (as root).
set -eu
apt-get update -q
DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends python3-torch
