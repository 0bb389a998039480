#!/usr/bin/env bash
# Sets up an emulated 64-bit ARM machine with PyTorch and ONNX Runtime below .arm/, about 1 GB:
# Debian's qemu-user-static, a cross compiler and arm64 Python, and aarch64 wheels. Nothing is installed outside.
#   benchmarks/arm/prepare.sh [PYTHON with pip]
# Needs Debian or a descendant (apt-get, dpkg-deb), and network. Done once; again after rm -r .arm
set -euo pipefail
cd "$(dirname "$0")/../.."
PIP="${1:-python3} -m pip"
# The newest torch whose aarch64 wheel on PyPI needs no CUDA libraries.
WHEELS=(torch==2.10.0 onnxruntime==1.31.1 numpy==2.4.6)
HELPERS=(typing_extensions flatbuffers packaging)
PLATFORMS=(--platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64
  --platform manylinux2014_aarch64 --platform any)

missing() { echo "arm: $1" >&2; exit 1; }
for tool in apt-get dpkg-deb gcc; do
  command -v "$tool" >/dev/null || missing "$tool is missing; this works on Debian and Ubuntu"
done
mkdir -p .arm
[ -f .arm/ready ] && exit 0

# apt for an architecture, with lists and a cache of its own and no package taken as installed.
fetch() {
  local architecture=$1 folder=$PWD/.arm/apt-$1 into=$PWD/.arm/$2
  shift 2
  mkdir -p "$folder/lists/partial" "$folder/cache/archives/partial" "$into"
  local options=(-qq -o "APT::Architecture=$architecture" -o "APT::Architectures=$architecture"
    -o "Dir::State::Lists=$folder/lists" -o "Dir::Cache=$folder/cache"
    -o Dir::State::status=/dev/null -o APT::Sandbox::User=root)
  apt-get "${options[@]}" update || missing "the Debian mirror cannot be reached"
  apt-get "${options[@]}" install --download-only --no-install-recommends --yes "$@" >/dev/null \
    || missing "packages cannot be had: $*"
  for package in "$folder"/cache/archives/*.deb; do dpkg-deb --extract "$package" "$into"; done
}
fetch amd64 host qemu-user-static qemu-user gcc-12-aarch64-linux-gnu libc6-dev-arm64-cross
fetch arm64 root python3.11-minimal libpython3.11-stdlib libstdc++6 libgomp1

# A compiler for the machine; its parts are not where the package would put them.
cat > .arm/cc <<'END'
#!/bin/sh
host=$(dirname "$(readlink -f "$0")")/host
arm=$host/usr/aarch64-linux-gnu
LD_LIBRARY_PATH=$host/usr/lib/x86_64-linux-gnu exec "$host/usr/bin/aarch64-linux-gnu-gcc-12" \
  --sysroot="$host" -B"$host/usr/lib/gcc-cross/aarch64-linux-gnu/12" -B"$arm/bin" -B"$arm/lib" \
  -isystem "$arm/include" -L"$arm/lib" "$@"
END
chmod +x .arm/cc

# Libraries that look at the processor would find the host's; the emulator looks here first.
mkdir -p .arm/root/proc .arm/root/sys/devices/system/cpu
cat > .arm/root/proc/cpuinfo <<'END'
processor	: 0
BogoMIPS	: 50.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp ssbs
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x3
CPU part	: 0xd0c
CPU revision	: 1

END
for list in present possible online; do echo 0 > ".arm/root/sys/devices/system/cpu/$list"; done

$PIP install --quiet --target .arm/site --upgrade --no-compile --no-deps --only-binary=:all: \
  --python-version 3.11 --implementation cp "${PLATFORMS[@]}" "${WHEELS[@]}" "${HELPERS[@]}" \
  || missing "aarch64 wheels cannot be had: ${WHEELS[*]}"
gcc -shared -fPIC -O2 -o .arm/count_instructions.so benchmarks/arm/count_instructions.c
touch .arm/ready
